"""When the next clock of a slot may start while the run before it is scored: where that takes nothing from its card

In a GPU slot a scorer that has never used a card in this session does not disturb the clock, which starts at once. One
that uses the card may say when it needs it no more: it prints its number first, and its probes go on beside the clock.
Else the clock waits for the end of the scoring, as it does in a CPU slot and where memory or processors are short. The
verdict waits for all of it in each case.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from core.engine.runs.ahead.room import Room
from core.engine.runs.live_run import Live
from core.engine.runs.slots import Slots
from core.engine.runs.workplace import Workplace
from core.engine.startup.setup import EnginePart
from core.lab.gpu.card_use import uses_card
from core.record import events as e


@dataclass(eq=False)
class ScoringBeside(EnginePart):
    """Gives a slot's clock to its next run while the one before it is scored, one at a time in each slot."""

    slots: Slots
    place: Workplace
    live: dict[int, Live]  # by run
    on_card: bool | None = field(default=None, init=False)  # whether scoring uses the card; None: not known yet

    async def give_clock(self, live: Live) -> None:
        """Give the clock of a run that is scored to the next in its slot as soon as that may have it. Cancellable."""
        if not live.slot.startswith("gpu") or self.state.timed:
            return
        if self.on_card is not False:
            await live.number_known.wait()
        while self._another(live) or Room().short() or not self.place.room_beside(live.slot):
            await self.journal.changed()
        live.leave_clock(self.slots)

    def _another(self, live: Live) -> bool:
        """Whether a run before this one is still scored in the slot: no more than one is scored beside a clock."""
        before = (one for one in self.live.values() if one.slot == live.slot and one.run < live.run)
        return any(one.phase == "scoring" and one.finished is None for one in before)

    def look(self, live: Live, pids: list[int]) -> None:
        """Look at the processes of a scoring."""
        live.scorer_looks += bool(pids)
        live.scorer_on_card = live.scorer_on_card or (self.on_card is not True and uses_card(pids))

    async def ended(self, live: Live) -> None:
        """Learn from a scoring that has ended by itself."""
        if not live.slot.startswith("gpu") or not live.scorer_looks or self.on_card:
            return
        if live.scorer_on_card and self.on_card is False:
            text = "scoring uses the card now: from here on the next clock waits until it needs it no more"
            await self.journal.write(e.Noted("info", text, live.experiment))
        self.on_card = live.scorer_on_card
