"""Changes of the queue by hand: another place for a waiting experiment, or none."""

from __future__ import annotations

from dataclasses import dataclass

from core.engine.commands.dispatch import Handlers, LoopControl
from core.engine.lifecycle import Lifecycle
from core.engine.startup.setup import EnginePart
from core.record import commands as c
from core.record import events as e
from core.record.errors import CommandRefused


@dataclass(eq=False)
class QueueCommands(EnginePart):
    """Carries out these commands; each answers with a sentence or raises CommandRefused."""

    lifecycle: Lifecycle
    loop: LoopControl

    @property
    def handlers(self) -> Handlers:
        return {c.MoveWaiting: self._move, c.DeleteWaiting: self._delete}

    def _refuse_other(self, number: int) -> None:
        """Refuse an experiment that is not in the queue."""
        self.lifecycle.refuse_when_stopping()
        queue, x = self.state.queue, self.state.experiments.get(number)
        if number in queue:
            return
        waiting = f"waiting: {', '.join(f'#{n}' for n in queue)}" if queue else "the queue is empty"
        if x is None:
            raise CommandRefused(f"there is no experiment {number}", hint=waiting)
        raise CommandRefused(f"experiment {number} does not wait for a slot ({x.verdict or x.phase})", hint=waiting)

    async def _move(self, command: c.MoveWaiting) -> str:
        number = command.experiment
        self._refuse_other(number)
        if command.place < 1:
            raise CommandRefused(f"{command.place} is no place in the queue", hint="the first place is 1")
        queue = self.state.queue
        place = min(command.place, len(queue))
        if queue[place - 1] == number:
            raise CommandRefused(f"experiment {number} is at place {place} of {len(queue)} already")
        await self.journal.write(e.QueueMoved(number, place))
        return f"experiment {number} is at place {place} of {len(queue)}"

    async def _delete(self, command: c.DeleteWaiting) -> str:
        number = command.experiment
        self._refuse_other(number)
        await self.loop.skip(number)
        left = len(self.state.queue)
        return f"experiment {number} is out of the queue; {left} {'waits' if left == 1 else 'wait'}"
