"""Pool of slots: runs get one in order of urgency, candidates in the order of the queue, none while it is paused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from core.record import events as e


class Urgency(IntEnum):
    """Order in which waiting runs get a free slot."""

    BASELINE = 0
    REPEAT = 1
    CANDIDATE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A slot for one run: at once, or once the run in it has left it.

    `mine` is done when the slot is this run's own; it is cancelled when the turn is taken back before.
    """

    slot: str
    mine: asyncio.Future[None]

    @property
    def waits(self) -> bool:
        return not self.mine.done() or self.mine.cancelled()


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A run that waits for a slot, and the experiment that it is of (None: of none that is in the queue)."""

    urgency: Urgency
    number: int  # in order of arrival
    experiment: int | None
    early: bool  # it may be told its slot while another run still has it
    turn: asyncio.Future[Turn]


class Slots:
    """A pool of named slots. `open` and `close` are the session's pause: a closed pool grants nothing.

    A held slot may have one turn after it, for a run that starts up meanwhile (`offer`).
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.ended: dict[str, float] = {}  # when each slot's last clock stopped (Unix seconds)
        # A run may start up while the last one of its slot is scored, but its clock waits for the end of that.
        self.clocks = {name: asyncio.Lock() for name in names}
        self._free = list(names)
        self.held: set[str] = set()
        self.aside: dict[str, str] = {}  # slots that get no run now, with the reason
        self.on_left: Callable[[], object] = lambda: None  # called when the run in a removed slot has ended
        self.quiet: set[str] = set()  # slots that get none while something else needs their card
        self.queue: Callable[[], tuple[int, ...]] = tuple  # the experiments that wait, in the order of their turn
        self._next: dict[str, Turn] = {}
        self._waiting: list[Waiting] = []
        self._order = itertools.count()
        self._open = False
        self._drained = False

    def open(self) -> None:
        self._open = True
        self._grant()

    def close(self) -> None:
        self._open = False
        self._take_back(self._next)

    @property
    def is_open(self) -> bool:
        return self._open

    def change(self, names: tuple[str, ...]) -> None:
        """Use other slots. A run in a removed slot keeps it to its end."""
        self.names = names
        for name in names:
            self.clocks.setdefault(name, asyncio.Lock())
        self.aside = {name: reason for name, reason in self.aside.items() if name in names}
        self._set_free()

    def set_aside(self, name: str, reason: str) -> None:
        """Give the slot to no further run. One in it keeps it."""
        self.aside[name] = reason
        self._set_free()

    def take_back(self, name: str) -> None:
        """Use a slot again that was set aside."""
        self.aside.pop(name, None)
        self._set_free()

    def keep_quiet(self, names: Iterable[str], quiet: bool) -> None:
        """Give these slots to no run for now, or again to one."""
        self.quiet = self.quiet | set(names) if quiet else self.quiet - set(names)
        self._set_free()

    def _set_free(self) -> None:
        out = {*self.held, *self.aside, *self.quiet}
        self._take_back(name for name in self._next if name not in self.names or name in {*self.aside, *self.quiet})
        self._free = [name for name in self.names if name not in out]
        self._grant()

    def changed(self) -> e.SlotsChanged:
        """The event to log when any of them is used otherwise than before."""
        return e.SlotsChanged(self.names, dict(self.aside), tuple(sorted(self.quiet)))

    def drain(self) -> None:
        """Close for good: waiting and later calls of `acquire` are cancelled; a run in a slot keeps it."""
        self._open, self._drained = False, True
        self._take_back(self._next)
        for waiting in self._waiting:
            waiting.turn.cancel()
        self._waiting.clear()

    @property
    def free(self) -> int:
        """Number of slots that a run would get at once."""
        return len(self._free) if self._open else 0

    def first(self) -> Waiting | None:
        """What gets the next free slot: the most urgent, of candidates the first in the queue."""
        queue = {experiment: place for place, experiment in enumerate(self.queue())}
        self._waiting = [waiting for waiting in self._waiting if not waiting.turn.done()]

        def turn(waiting: Waiting) -> tuple[Urgency, int, int]:
            return waiting.urgency, queue.get(waiting.experiment or 0, -1), waiting.number

        return min(self._waiting, key=turn, default=None)

    async def acquire(self, urgency: Urgency, experiment: int | None = None) -> str:
        """Wait for a free slot. Cancelling gives it back. Raises CancelledError once the slots are drained."""
        return (await self.turn(urgency, experiment)).slot

    async def turn(self, urgency: Urgency, experiment: int | None = None, *, early: bool = False) -> Turn:
        """The same, for a run that may be told its slot `early`, while another run still has it."""
        if self._drained:
            raise asyncio.CancelledError
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(urgency, next(self._order), experiment, early, future))
        asyncio.get_running_loop().call_soon(self._grant)  # of several that come at once, the first in turn gets it
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give_back(future.result())
            else:
                future.cancel()
            raise

    def may_offer(self, name: str) -> bool:
        """Whether a held slot has no turn after it yet, and the run that waits first may take one."""
        used = name in self.names and name in self.held and not {name} & {*self.aside, *self.quiet}
        if not (self._open and used and name not in self._next):
            return False
        first = self.first()
        return first is not None and first.early

    def offer(self, name: str) -> None:
        """Give the turn after the run in this slot to the run that waits first, where it `may_offer`."""
        if self.may_offer(name) and (first := self.first()):
            turn = self._next[name] = Turn(name, asyncio.get_running_loop().create_future())
            first.turn.set_result(turn)

    def give_back(self, turn: Turn) -> None:
        """End a turn, whether the slot is the run's own by now or not."""
        if self._next.get(turn.slot) is turn:
            del self._next[turn.slot]
        elif not turn.waits:
            self.release(turn.slot)

    def _take_back(self, names: Iterable[str]) -> None:
        for name in list(names):
            self._next.pop(name).mine.cancel()

    def take(self, name: str) -> bool:
        """Claim a slot by name for a run that already occupies it. False when this engine has no such free slot."""
        if name in self._free:
            self._free.remove(name)
            self.held.add(name)
            return True
        return False

    def release(self, name: str) -> None:
        if turn := self._next.pop(name, None):
            turn.mine.set_result(None)  # the slot stays held
            return
        self.held.discard(name)
        self._set_free()
        if name not in self.names:
            self.on_left()

    def _grant(self) -> None:
        while self._open and self._free and (waiting := self.first()):
            turn = Turn(self._free.pop(0), asyncio.get_running_loop().create_future())
            turn.mine.set_result(None)
            self.held.add(turn.slot)
            waiting.turn.set_result(turn)
