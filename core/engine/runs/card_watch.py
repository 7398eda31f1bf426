"""Cards of the slots: the look at one after a run that failed, slots set aside, and later looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from core.engine.journal import Journal
from core.engine.runs.slots import Slots
from core.lab.gpu import cards
from core.lab.gpu.card_health import CardHealth, ask_driver, speaks_of_device, speaks_of_no_device
from core.lab.sandbox import tiers
from core.record import events as e
from core.record.errors import LabError
from core.record.pulse import DeviceReading

FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 600.0  # until the next look at a card that did not work
SETTLE_SECONDS = 0.5  # until the memory of a process that has ended is free again


def suspects_card(finished: e.RunFinished, output: str, readings: Sequence[DeviceReading]) -> bool:
    """Whether the end of a run on a GPU may be due to its card, so that a look at it is worth its second; `output`: the
    end of what the run printed, `readings`: of its card on the clock. A run that ended well is suspected of having
    computed on the processor.
    """
    if finished.ended == "done":
        used = [r.utilisation for r in readings if r.utilisation is not None]
        return speaks_of_no_device(output) or (len(used) > 1 and not any(used))
    by_signal = finished.exit_code is None or finished.exit_code < 0
    if finished.ended == "crashed":
        return by_signal or speaks_of_device(output)
    return finished.ended in ("overtime", "startup_timeout")


class CardWatch:
    """Decides whether a card works, by the driver and by a start of CUDA in the sandbox, never by a run's words.

    A slot whose card does not work gets no run until a later look finds that it does. Without any other slot the
    session pauses, and it goes on by itself with the first slot that works again.
    """

    def __init__(
        self, tier: tiers.Tier, journal: Journal, slots: Slots, pause: Callable[[str], Awaitable[None]], call: str
    ) -> None:
        """`pause` the session with a reason; `call`: the command line that resumes it."""
        self._tier = tier
        self._journal = journal
        self._slots = slots
        self._pause = pause
        self._hint = f"nvidia-smi shows the card; it is looked at again by itself, and at once by: {call}"
        self._paused = ""  # the reason, when this part has paused the session
        # By card, which several slots may share:
        self._waits: dict[str, float] = {}  # seconds until the next look
        self._used: dict[str, int] = {}  # memory that other programs had in use at the beginning
        self._full: set[str] = set()  # cards set aside because other programs use their memory
        self._looks: dict[str, asyncio.Task[None]] = {}
        self.resume: Callable[[], Awaitable[None]] | None = None  # set where there is a session to go on with

    def begin(self, slot: str) -> int | None:
        """To be called before each run in a slot. Returns the uncorrected errors of its card's memory so far."""
        card = cards.card_name(slot)
        if card not in self._used and (memory := cards.memory_of(slot)) is not None:
            self._used[card] = memory[0]
        return cards.memory_errors(slot)

    async def look(self, slot: str, errors: int | None = None, *, alone: bool = False) -> CardHealth:
        """What is wrong with the card of a GPU slot; no `trouble` when it works. `errors`: its uncorrected memory
        errors before; `alone`: the memory of the card was not enough, and no run of the session is on it.
        """
        health = await asyncio.to_thread(ask_driver, slot)
        if health.trouble:
            return health
        if errors is not None and (health.errors or 0) > errors:
            more = (health.errors or 0) - errors
            return CardHealth(trouble=f"{more} uncorrected ECC error{'s' * (more != 1)} in its memory")
        if alone and self._others(slot, health):
            await asyncio.sleep(SETTLE_SECONDS)
            health = await asyncio.to_thread(ask_driver, slot)
        if alone and (words := self._others(slot, health)):
            self._full.add(cards.card_name(slot))
            return CardHealth(trouble=words, free=health.free, total=health.total)
        try:
            start = await asyncio.to_thread(tiers.start_cuda, self._tier, slot)
        except (OSError, LabError):  # a full disk: nothing is known against the card
            return health
        if start.ok:
            return health
        return CardHealth(trouble=start.sentence(), free=health.free, total=health.total)

    def _others(self, slot: str, health: CardHealth) -> str:
        """That others use the memory of a card without a run: more than half of it, or a tenth more than at first."""
        if health.free is None or health.total is None:
            return ""
        used, usual = health.total - health.free, self._used.get(cards.card_name(slot), 0)
        if used <= min(health.total / 2, usual + health.total / 10):
            return ""
        return f"other programs use {used / 2**30:.1f} of the {health.total / 2**30:.1f} GB of its memory"

    async def set_aside(self, slot: str, trouble: str) -> None:
        """Use no slot of this slot's card until it works again."""
        card = cards.card_name(slot)
        same = _on(card, self._slots.names)
        for name in same:
            self._slots.set_aside(name, trouble)
        await asyncio.to_thread(cards.refresh)
        said = f"{' '.join(same) or slot} set aside: {trouble}; hint: {self._hint}"
        await self._journal.write(e.Noted("warning", said), self._slots.changed())
        if same and card not in self._looks:
            self._looks[card] = asyncio.create_task(self._look_later(card))
        if self._slots.names and set(self._slots.aside) >= set(self._slots.names):
            self._paused = f"no slot is left, {said}"
            await self._pause(self._paused)

    def forgive(self, slot: str) -> None:
        """A run in the slot has ended well: the next look at its card comes soon again."""
        self._waits.pop(cards.card_name(slot), None)

    async def look_at_all(self) -> str:
        """Look at once at all cards set aside; a card whose memory others use is used again. Returns why no slot can
        be used, "" when one can.
        """
        self._full.clear()
        for card in list(self._looks):
            await self._take_back(card)
        aside = self._slots.aside
        left = [name for name in self._slots.names if name not in aside]
        return "" if left or not aside else "; ".join(f"{name}: {trouble}" for name, trouble in aside.items())

    def close(self) -> None:
        for task in self._looks.values():
            task.cancel()

    async def _look_later(self, card: str) -> None:
        while _on(card, self._slots.aside):
            wait = self._waits.get(card, FIRST_WAIT_SECONDS)
            self._waits[card] = min(2 * wait, MAX_WAIT_SECONDS)
            await asyncio.sleep(wait)
            await self._take_back(card)
        self._looks.pop(card, None)

    async def _take_back(self, card: str) -> None:
        """Use the slots of a card again that works again; else keep what is wrong with it now."""
        trouble = (await self.look(card, alone=card in self._full)).trouble
        same = _on(card, self._slots.aside)
        if trouble or not same:
            for name in same:
                self._slots.aside[name] = trouble
            return
        await asyncio.to_thread(cards.refresh)
        self._full.discard(card)
        for name in same:
            self._slots.take_back(name)
        await self._journal.write(e.Noted("info", f"the card of {' '.join(same)} works again"), self._slots.changed())
        state = self._journal.state
        if self.resume and self._paused and (state.state, state.reason) == ("paused", self._paused):
            self._paused = ""
            await self.resume()


def _on(card: str, slots: Iterable[str]) -> list[str]:
    """Those of the slots that are on the card."""
    return [name for name in slots if cards.card_name(name) == card]
