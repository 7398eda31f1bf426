"""Cards of the slots: the look at one after a run that failed, slots set aside, and later looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from core.engine.journal import Journal
from core.engine.runs.slots import Slots
from core.lab.gpu import cards
from core.lab.gpu.card_health import CardHealth, ask_driver
from core.lab.sandbox import tiers
from core.record import events as e

FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 600.0  # until the next look at a card that did not work
HINT = "nvidia-smi shows the card; it is looked at again by itself, and at once by resume"


class CardWatch:
    """Decides whether a card works, by the driver and by a start of CUDA in the sandbox, never by a run's words.

    A slot whose card does not work gets no run until a later look finds that it does. Without any other slot the
    session pauses, and it goes on by itself with the first slot that works again.
    """

    def __init__(self, journal: Journal, slots: Slots, pause: Callable[[str], Awaitable[None]]):
        self._journal = journal
        self._slots = slots
        self._pause = pause
        self._paused = ""  # the reason, when this part has paused the session
        self._waits: dict[str, float] = {}  # seconds until the next look at a slot's card
        self._looks: dict[str, asyncio.Task[None]] = {}
        self.resume: Callable[[], Awaitable[None]] | None = None  # set where there is a session to go on with

    async def look(self, slot: str, errors: int | None = None) -> CardHealth:
        """What is wrong with the card of a GPU slot; no `trouble` when it works. `errors`: its uncorrected memory
        errors before.
        """
        health = await asyncio.to_thread(ask_driver, slot)
        if health.trouble:
            return health
        if errors is not None and (health.errors or 0) > errors:
            more = (health.errors or 0) - errors
            return CardHealth(trouble=f"{more} uncorrected ECC error{'s' * (more != 1)} in its memory")
        start = await asyncio.to_thread(tiers.start_cuda, "C", slot)
        if start.ok:
            return health
        return CardHealth(trouble=start.sentence(), free=health.free, total=health.total)

    async def set_aside(self, slot: str, trouble: str) -> None:
        """Use no slot of this slot's card until it works again."""
        same = [name for name in self._slots.names if cards.card_name(name) == cards.card_name(slot)]
        for name in same:
            self._slots.set_aside(name, trouble)
        await asyncio.to_thread(cards.refresh)
        said = f"{' '.join(same) or slot} set aside: {trouble}; hint: {HINT}"
        await self._journal.write(e.Noted("warning", said), self._changed())
        if same and slot not in self._looks:
            self._looks[slot] = asyncio.create_task(self._look_later(slot, same))
        if self._slots.names and set(self._slots.aside) >= set(self._slots.names):
            self._paused = f"no slot is left, {said}"
            await self._pause(self._paused)

    def forgive(self, slot: str) -> None:
        """A run in the slot has ended well: the next look at its card comes soon again."""
        self._waits.pop(slot, None)

    async def look_at_all(self) -> str:
        """Look at once at all cards set aside. Returns why no slot can be used, "" when one can."""
        for slot in list(self._looks):
            await self._take_back(slot)
        aside = self._slots.aside
        left = [name for name in self._slots.names if name not in aside]
        return "" if left or not aside else "; ".join(f"{name}: {trouble}" for name, trouble in aside.items())

    def close(self) -> None:
        for task in self._looks.values():
            task.cancel()

    async def _look_later(self, slot: str, same: list[str]) -> None:
        while any(name in self._slots.aside for name in same):
            wait = self._waits.get(slot, FIRST_WAIT_SECONDS)
            self._waits[slot] = min(2 * wait, MAX_WAIT_SECONDS)
            await asyncio.sleep(wait)
            await self._take_back(slot)
        self._looks.pop(slot, None)

    async def _take_back(self, slot: str) -> None:
        """Use the slots of a card again that works again; else keep what is wrong with it now."""
        trouble = (await self.look(slot)).trouble
        same = [name for name in self._slots.aside if cards.card_name(name) == cards.card_name(slot)]
        if trouble or not same:
            for name in same:
                self._slots.aside[name] = trouble
            return
        await asyncio.to_thread(cards.refresh)
        for name in same:
            self._slots.take_back(name)
        await self._journal.write(e.Noted("info", f"the card of {' '.join(same)} works again"), self._changed())
        state = self._journal.state
        if self.resume and self._paused and (state.state, state.reason) == ("paused", self._paused):
            self._paused = ""
            await self.resume()

    def _changed(self) -> e.SlotsChanged:
        return e.SlotsChanged(self._slots.names, dict(self._slots.aside))
