"""Replay of a session's log at a speed: State, events, readings and files as from an engine.

A Recording is a Source like the client. Its files grow in a temporary folder as they grew when recorded, so that each
pane shows what it showed then. Long pauses between events are shortened.
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
from itertools import accumulate, pairwise
from pathlib import Path

from core.client.live import Connection
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

TICK_SECONDS = 0.1
MAX_GAP_SECONDS = 120.0  # of the session between two events; the rest of a longer gap is left out
SNAPSHOT_EVENTS = 4000  # between two snapshots of the State: a jump back folds no more than these
_MOMENT = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class Recording:
    """Replays `origin`. Raises SessionError, LogCorrupt, LogTooNew, and UsageError when it has no events.

    `position` counts played seconds from the first event; `now()` is the session's time at that position.
    """

    def __init__(self, origin: SessionPaths, speed: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.origin = origin
        self.speed = speed
        self.playing = True
        self.state = State()
        self.pulse: Pulse | None = None
        self.version = 0
        self.position = 0.0
        self._clock = clock
        self._log = Log.read(origin.database)
        moments = self._log.moments()
        if not moments:
            raise UsageError("this session has no events yet", where=str(origin.database))
        self._seqs = [seq for seq, _ in moments]
        self._times = [stamp for _, stamp in moments]
        self._positions = _positions(self._times)
        self._keeps = [e.seq for e in self._log.of_type("judged") if getattr(e.body, "verdict", "") == "kept"]
        self.connection = Connection("live", self._times[0])
        self._applied = 0  # events folded into `state`
        self._new: deque[Event] = deque(maxlen=1000)
        self._snapshots: dict[int, State] = {0: State()}
        self._folder = tempfile.TemporaryDirectory(prefix="autoresearch-replay-")
        self._jumps_back = 0  # the files begin anew after each, in a folder of that number
        self._begin_files()
        self._apply_to(1)

    def _begin_files(self) -> None:
        folder = Path(self._folder.name) / str(self._jumps_back) / (self.origin.project.name or "project")
        self.paths = SessionPaths(folder, self.origin.name)
        self._files = PlayedFiles(self.origin, self.paths)

    async def run(self) -> None:
        """Play until cancelled; pause at the end."""
        last = self._clock()
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                now = self._clock()
                if self.playing:
                    self.advance(self.position + (now - last) * self.speed)
                last = now
        finally:
            self._log.close()
            self._folder.cleanup()

    async def send(self, command: commands.Command) -> commands.Reply:
        raise EngineError("this is a recording: it has no engine")

    def take_events(self) -> list[Event]:
        events = list(self._new)
        self._new.clear()
        return events

    def events_of(self, experiment: int) -> list[Event]:
        return [event for event in self._log.events_of(experiment) if event.seq <= self.state.seq]

    @property
    def length(self) -> float:
        """Played seconds of the whole recording."""
        return self._positions[-1]

    @property
    def ended(self) -> bool:
        return self.position >= self.length

    def now(self) -> float:
        """The session's time at the position, in Unix seconds."""
        at = bisect_right(self._positions, self.position) - 1
        return self._times[at] + (self.position - self._positions[at])

    def advance(self, position: float) -> None:
        """Go on to `position`: apply the events until then, and let the files grow."""
        self.position = min(self.length, position)
        if self.ended:
            self.playing = False
        self._apply_to(bisect_right(self._positions, self.position))
        self._read()
        self.version += 1

    def step(self) -> None:
        """Pause, and show the next event."""
        self.playing = False
        if self._applied < len(self._positions):
            self.advance(self._positions[self._applied])

    def seek(self, position: float) -> None:
        """Jump. After a jump back `paths` has changed: panes that show files must be made anew."""
        position = max(0.0, min(self.length, position))
        if position < self.position:
            self._jumps_back += 1
            self._begin_files()
            wanted = bisect_right(self._positions, position)
            nearest = max(count for count in self._snapshots if count <= wanted)
            self.state, self._applied = self._snapshots[nearest].copy(), nearest
        self.advance(position)
        self._new.clear()  # events that a jump passes are not news

    def next_keep(self) -> float | None:
        """Position of the next keep, or None."""
        return next((self._position(seq) for seq in self._keeps if seq > self.state.seq), None)

    def previous_keep(self) -> float | None:
        """Position of the keep before the last one shown, or None. A keep that was just passed is not counted."""
        before = self.position - self.speed * 1.5
        passed = [position for seq in self._keeps if (position := self._position(seq)) < before]
        return passed[-1] if passed else None

    def _position(self, seq: int) -> float:
        return self._positions[bisect_right(self._seqs, seq) - 1]

    def position_of(self, words: str) -> float:
        """The position that `#12`, `40%`, `1h20m` or `90` (seconds) names. Raises UsageError."""
        text = words.strip()
        try:
            if text.startswith("#"):
                number = int(text[1:])
                first = next(self._log.events_of(number), None)
                if first is None:
                    raise UsageError(f"there is no experiment {number} in this recording")
                return self._position(first.seq)
            if text.endswith("%") and math.isfinite(share := float(text[:-1])):
                return self.length * share / 100
            found = _MOMENT.fullmatch(text)
            if text and found is not None:
                hours, minutes, seconds = (float(part or 0) for part in found.groups())
                return hours * 3600 + minutes * 60 + seconds
        except ValueError:
            pass
        raise UsageError(f"{words!r} is not a position in a recording", hint="write #12, 40% or 1h20m")

    def _apply_to(self, count: int) -> None:
        """Fold events until `count` are applied."""
        if count <= self._applied:
            return
        for event in self._log.events(self._seqs[self._applied - 1] if self._applied else 0, count - self._applied):
            fold(self.state, event)
            self._files.apply(event)
            self._new.append(event)
            self._applied += 1
            if self._applied % SNAPSHOT_EVENTS == 0 and self._applied not in self._snapshots:
                self._snapshots[self._applied] = self.state.copy()

    def _read(self) -> None:
        """Update the files of live experiments and runs, and the readings as the engine would send them."""
        now, state = self.now(), self.state
        self._files.grow(state, now)
        slots = {slot: SlotReading(slot=slot) for slot in state.slots}
        for r in state.live_runs():
            share, seconds = progress(r, now), now - r.started
            slots[r.slot] = SlotReading(
                slot=r.slot, experiment=r.experiment, run=r.run, phase=r.phase or "", fraction=share, seconds=seconds
            )
        at_work = [n for n in state.live if n and state.experiments[n].phase in ("thinking", "waiting")]
        thinking = at_work[-1] if at_work else None
        seconds = now - state.experiments[thinking].started if thinking else 0.0
        readings = tuple(slots[name] for name in sorted(slots))
        self.pulse = Pulse(time=now, slots=readings, thinking=thinking, thinking_seconds=seconds)


def _positions(times: list[float]) -> list[float]:
    """The position of each event: long gaps are shortened, and a clock that was set back counts as no time."""
    gaps = (min(MAX_GAP_SECONDS, max(0.0, time - before)) for before, time in pairwise(times))
    return list(accumulate(gaps, initial=0.0))
