"""Ends of runs whose card may not work, and the silence on a card while a run on it is scored once more"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from core.engine.ending import RUN_MADE_ROOM
from core.engine.runs.card_watch import CardWatch, suspects_card
from core.engine.runs.live_run import Live, with_words
from core.engine.runs.slots import Slots
from core.engine.runs.telemetry import memory_words
from core.engine.startup.setup import EnginePart
from core.lab.gpu import cards
from core.lab.gpu.card_health import CardHealth, speaks_of_memory
from core.record import events as e
from core.record.pulse import DeviceReading

BEFORE_CLOCK = ("starting", "checkout", "ready")


@dataclass(eq=False)
class CardFaults(EnginePart):
    """Looks at the card of a run that ended badly. A run whose card does not work is repeated, not judged."""

    slots: Slots
    cards: CardWatch
    live: dict[int, Live]  # by run
    repeats: int  # of a run whose card did not work; its code may be what breaks it
    _quiet_turns: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)  # by card

    async def blame(self, live: Live, finished: e.RunFinished, readings: list[DeviceReading]) -> e.RunFinished:
        """`finished`, the end of a run. Where a look at its card finds that it does not work, no verdict follows but
        from the third such run.
        """
        at_limit = finished.ended == "overtime" and self.program.scored_at_limit
        if live.ending is not None or not live.slot.startswith("gpu") or at_limit:
            return finished
        output = f"{finished.reason}\n{finished.log_tail}"
        if not suspects_card(finished, output, readings):
            return finished
        done = finished.ended == "done"
        health = await self.look(live, output)
        if health.trouble:
            finished = replace(finished, reason="the run did not use its card") if done else finished
            return await self.fault(live, finished, health.trouble)
        if not done and speaks_of_memory(output):
            return with_words(finished, memory_words(live.slot, readings, health))
        return finished

    async def look(self, live: Live, output: str) -> CardHealth:
        """The health of a run's card after its end, or after that of its scoring; `output`: what it said."""
        others = self._on_card(cards.card_name(live.slot))
        alone = all(one is live or one.phase in ("starting", "checkout") for one in others)
        return await self.cards.look(live.slot, live.card_errors, alone=alone and speaks_of_memory(output))

    async def fault(self, live: Live, finished: e.RunFinished, trouble: str) -> e.RunFinished:
        """The end of a run whose card does not work: its slot is set aside, and it is run again, twice at most."""
        live.faults += 1
        await self.cards.set_aside(live.slot, trouble)
        finished = with_words(finished, f"{live.slot} does not work: {trouble}")
        if live.faults > self.repeats:
            if live.faults > 1:
                finished = with_words(finished, f"this was so in {live.faults} runs, and counts now")
            counts: e.Ended = "crashed" if finished.ended == "done" else finished.ended
            return replace(finished, ended=counts, reason=f"{finished.reason}\n  hint: nvidia-smi shows the card")
        live.again = True
        return replace(finished, ended="abandoned", metric=None)

    @asynccontextmanager
    async def quiet(self, live: Live) -> AsyncIterator[None]:
        """Keep other runs off the card of a run that is scored: those before their clock begin again later, those on it
        are waited for.
        """
        card = cards.card_name(live.slot)
        names = [name for name in self.slots.names if cards.card_name(name) == card]
        live.waits_for_quiet = True
        self.slots.keep_quiet(names, True)
        try:
            await self.journal.write(self.slots.changed())
            async with self._quiet_turns.setdefault(card, asyncio.Lock()):
                while others := [one for one in self._on_card(card) if not one.waits_for_quiet]:
                    for other in others:
                        if other.ending is None and other.phase in BEFORE_CLOCK:
                            other.end(RUN_MADE_ROOM)
                    await self.journal.changed()
                yield
        finally:
            live.waits_for_quiet = False
            if not any(one.waits_for_quiet for one in self._on_card(card)):
                self.slots.keep_quiet(names, False)
                await self.journal.write(self.slots.changed())

    def _on_card(self, card: str) -> list[Live]:
        """Runs in the slots of a card that have not ended."""
        return [live for live in self.live.values() if cards.card_name(live.slot) == card and live.finished is None]
