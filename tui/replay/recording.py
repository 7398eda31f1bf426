"""A session's log, played: the same State, events, readings and files that an engine would have given, at a speed.

A Recording is a Source like the client. Its files are in a temporary folder, where they grow as they grew then, so
that every pane shows what it would have shown. Long pauses in which nothing happened are shortened.
"""

from __future__ import annotations

import asyncio
import math
import re
import tempfile
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.client import Connection
from core.record import commands
from core.record.errors import EngineError, UsageError
from core.record.events import Event
from core.record.fold import fold
from core.record.pulse import Pulse, SlotReading
from core.record.state import State
from core.session.log import Log
from core.session.paths import SessionPaths
from core.views import progress
from tui.replay.recorded_files import PlayedFiles

TICK = 0.1  # seconds between two looks at the clock
LONGEST_GAP = 120.0  # of the session's seconds between two events that are played; more is left out
SNAPSHOT_EVERY = 4000  # events, so that a jump back folds no more than that
_MOMENT = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class Recording:
    """Plays `origin`. Raises what reading its log raises (SessionError, LogCorrupt, LogTooNew).

    `position` counts played seconds from the first event; `now()` is the moment of the session that is shown.
    """

    def __init__(self, origin: SessionPaths, speed: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.origin = origin
        self.speed = speed
        self.playing = True
        self.state = State()
        self.pulse: Pulse | None = None
        self.version = 0
        self.generation = 0  # grows with each jump back: who shows files must begin anew
        self.position = 0.0
        self._clock = clock
        self._log = Log.read(origin.database)
        moments = self._log.moments()
        if not moments:
            raise UsageError("this session has no events yet", where=str(origin.database))
        self._seqs = [seq for seq, _ in moments]
        self._times = [stamp for _, stamp in moments]
        self._places = _played(self._times)
        self._keeps = [e.seq for e in self._log.of_type("judged") if getattr(e.body, "verdict", "") == "kept"]
        self.connection = Connection("live", self._times[0])
        self._at = 0  # events that are applied
        self._new: deque[Event] = deque(maxlen=1000)
        self._snapshots: dict[int, State] = {0: State()}
        self._holder = tempfile.TemporaryDirectory(prefix="autoresearch-replay-")
        self._begin_files()
        self._apply_to(1)

    def _begin_files(self) -> None:
        folder = Path(self._holder.name) / str(self.generation) / (self.origin.project.name or "project")
        self.paths = SessionPaths(folder, self.origin.name)
        self._files = PlayedFiles(self.origin, self.paths)

    # -- a source -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Play until cancelled; at the end, hold."""
        last = self._clock()
        try:
            while True:
                await asyncio.sleep(TICK)
                now = self._clock()
                if self.playing:
                    self.advance(self.position + (now - last) * self.speed)
                last = now
        finally:
            self._log.close()
            self._holder.cleanup()

    async def send(self, command: commands.Command) -> commands.Reply:
        raise EngineError("this is a recording: there is no engine to ask")

    def take_events(self) -> list[Event]:
        events = list(self._new)
        self._new.clear()
        return events

    def events_of(self, experiment: int) -> list[Event]:
        return [event for event in self._log.events_of(experiment) if event.seq <= self.state.seq]

    # -- time ---------------------------------------------------------------------------------------------------

    @property
    def length(self) -> float:
        """Seconds of the session that are played."""
        return self._places[-1]

    @property
    def ended(self) -> bool:
        return self.position >= self.length

    def now(self) -> float:
        """The moment that is shown, in Unix seconds."""
        at = max(1, min(bisect_right(self._places, self.position), len(self._places)))
        return self._times[at - 1] + (self.position - self._places[at - 1])

    def advance(self, position: float) -> None:
        """Go on to `position`: apply the events on the way, and let the files grow."""
        self.position = min(self.length, position)
        if self.ended:
            self.playing = False
        self._apply_to(bisect_right(self._places, self.position))
        self._read()
        self.version += 1

    def step(self) -> None:
        """Hold, and show the next event."""
        self.playing = False
        if self._at < len(self._places):
            self.advance(self._places[self._at])

    def seek(self, position: float) -> bool:
        """Jump. Returns whether it was a jump back: then what shows files must be made anew."""
        position = max(0.0, min(self.length, position))
        back = position < self.position
        if back:
            self.generation += 1
            self._begin_files()
            self._new.clear()
            wanted = bisect_right(self._places, position)
            nearest = max(at for at in self._snapshots if at <= wanted)
            self.state, self._at = _copy(self._snapshots[nearest]), nearest
        self.advance(position)
        self._new.clear()  # what a jump passes over is no news
        return back

    def keep_after(self) -> float | None:
        """Where the next keep is, or None."""
        return next((self._place(seq) for seq in self._keeps if seq > self.state.seq), None)

    def keep_before(self) -> float | None:
        """Where the keep before the last one shown is (a step back from one leads to the one before), or None."""
        passed = [place for seq in self._keeps if (place := self._place(seq)) < self.position - self.speed * 1.5]
        return passed[-1] if passed else None

    def _place(self, seq: int) -> float:
        return self._places[bisect_right(self._seqs, seq) - 1]

    def place_of(self, wish: str) -> float:
        """`#12`, `40%`, `1h20m` or `90` (seconds) as a position. Raises UsageError with the hint."""
        text = wish.strip()
        try:
            if text.startswith("#"):
                number = int(text[1:])
                first = next(self._log.events_of(number), None)
                if first is None:
                    raise UsageError(f"there is no experiment {number} in this recording")
                return self._place(first.seq)
            if text.endswith("%") and math.isfinite(share := float(text[:-1])):
                return self.length * share / 100
            found = _MOMENT.fullmatch(text)
            if text and found is not None:
                hours, minutes, seconds = (float(part or 0) for part in found.groups())
                return hours * 3600 + minutes * 60 + seconds
        except ValueError:
            pass
        raise UsageError(f"{wish!r} is no place in a recording", hint="write #12, 40% or 1h20m")

    def _apply_to(self, wanted: int) -> None:
        """Fold events until `wanted` are applied."""
        if wanted <= self._at:
            return
        for event in self._log.events(self._seqs[self._at - 1] if self._at else 0, wanted - self._at):
            fold(self.state, event)
            self._files.heard(event)
            self._new.append(event)
            self._at += 1
            if self._at % SNAPSHOT_EVERY == 0 and self._at not in self._snapshots:
                self._snapshots[self._at] = _copy(self.state)

    def _read(self) -> None:
        """Readings as the engine would have sent them, and the files of what is under way."""
        now, state = self.now(), self.state
        self._files.grow(state, now)
        slots = [
            SlotReading(
                slot=r.slot,
                experiment=r.experiment,
                run=r.run,
                phase=r.phase or "",
                fraction=progress(r, now),
                seconds=now - r.started,
            )
            for r in state.live_runs()
        ]
        busy = {s.slot for s in slots}
        idle = [SlotReading(slot=slot) for slot in state.slots if slot not in busy]
        thinking = [n for n in state.live if n and state.experiments[n].phase in ("thinking", "waiting")]
        seconds = now - state.experiments[thinking[-1]].started if thinking else 0.0
        self.pulse = Pulse(
            time=now,
            slots=tuple(sorted([*slots, *idle], key=lambda s: s.slot)),
            devices=(),
            thinking=thinking[-1] if thinking else None,
            thinking_seconds=seconds,
        )


def _played(times: list[float]) -> list[float]:
    """The played second of each event: long gaps are cut short, and a clock that was set back stands still."""
    places, at, before = [], 0.0, times[0]
    for stamp in times:
        at += min(LONGEST_GAP, max(0.0, stamp - before))
        before = stamp
        places.append(at)
    return places


def _copy(state: State) -> State:
    """A State that folding the other does not change: what it holds is frozen, its tables are not."""
    return replace(
        state,
        experiments=dict(state.experiments),
        guidance=dict(state.guidance),
        verdicts=dict(state.verdicts),
        running=dict(state.running),
    )
