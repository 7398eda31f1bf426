"""SessionView: the session's State, the person's selection, and values derived from both, for all widgets

Widgets read the SessionView and never the client. It holds no widget and paints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar, runtime_checkable

from core import views
from core.client.live import Connection
from core.ordered import Order
from core.program.program import load
from core.record import commands
from core.record import events as e
from core.record.budget import RunBudget
from core.record.errors import AutoresearchError
from core.record.events import Event
from core.record.pulse import Pulse
from core.record.slot_time import dollars
from core.record.state import BASELINE, Experiment, Run, State
from core.session.options import session_overrides
from core.session.paths import SessionPaths
from tui.diff_source import DiffSource
from tui.paint.theme import Look

T = TypeVar("T")
MAX_DETAILS_KEPT = 32  # experiments whose long texts stay in memory
JUDGED: Order[Experiment] = Order(lambda x: (x.ended or None) if x.verdict else None)


class Source(Protocol):
    """Source of a session's State: `core.client.live.Client`, or a recording that is played."""

    paths: SessionPaths
    state: State
    pulse: Pulse | None
    connection: Connection
    version: int

    async def run(self) -> None: ...
    async def send(self, command: commands.Command) -> commands.Reply: ...
    def take_events(self) -> list[Event]: ...
    def events_of(self, experiment: int) -> list[Event]: ...


def name_of(experiment: int) -> str:
    """Name of an experiment in a column or before a word."""
    return "baseline" if experiment == BASELINE else f"#{experiment}"


@runtime_checkable
class Played(Protocol):
    """A source that plays a recorded session at a speed."""

    speed: float  # of the session's seconds for each second
    playing: bool
    position: float  # played seconds since its beginning

    @property
    def length(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Details:
    """The long texts of one experiment, from its events."""

    experiment: int
    proposal: e.Proposed | None = None
    diff: str = ""
    finished: tuple[e.RunFinished, ...] = ()
    refusals: tuple[e.ProposalRefused, ...] = ()
    checks: tuple[e.Checked, ...] = ()
    hidden: e.HiddenScored | None = None
    certified: e.Certified | None = None
    repairs: tuple[e.RepairAsked, ...] = ()


class SessionView:
    """One session on one screen. Times are Unix seconds from `clock`."""

    def __init__(self, source: Source, look: Look, clock: Callable[[], float]) -> None:
        self.source = source
        self.look = look
        self.clock = clock
        self.selected: int | None = None  # on the leaderboard; None follows the newest
        self.thought: int | None = None  # which of several thoughts is shown; None, or one that is over: the oldest
        self.page: int | None = None  # the experiment whose page is open
        self.changes = DiffSource(source.paths.project, lambda: self.state, lambda number: self.details(number).diff)
        self.marks: list[int] = []  # marked experiments, the newest mark last
        self._baseline_runs: int | None = 0  # 0: not read yet
        self._memo: dict[str, Any] = {}
        self._memo_of: tuple[int, int] = (-1, -1)
        self._details: dict[int, tuple[Experiment, Details]] = {}

    @property
    def paths(self) -> SessionPaths:
        return self.source.paths

    @property
    def state(self) -> State:
        return self.source.state

    @property
    def pulse(self) -> Pulse | None:
        return self.source.pulse

    @property
    def connection(self) -> Connection:
        return self.source.connection

    @property
    def live(self) -> bool:
        return self.connection.status == "live"

    @property
    def at_rest(self) -> bool:
        """Connected, with no run and no thinking in progress."""
        quiet = self.live and self.state.state in ("paused", "stopped", "finished", "crashed")
        return quiet and not self.state.running and not (self.pulse and self.pulse.thinking is not None)

    @property
    def now(self) -> float:
        """The present; of a session at rest or without an engine, the time of its last event.

        So a screen that is left open over a slow link sends nothing.
        """
        return self.state.time if self.connection.status == "dead" or self.at_rest else self.clock()

    @property
    def word(self) -> str:
        """The state in one word; "lost" when the connection is."""
        if self.connection.status == "lost":
            return "lost"
        return views.session_word(self.state, self.connection.status != "dead")

    def phase_of(self, x: Experiment) -> str:
        return views.phase_word(x, self.connection.status != "dead")

    def word_of_run(self, run: Run) -> str:
        return views.run_word(run, self.connection.status != "dead")

    @property
    def why_no_command(self) -> str | None:
        """Why no command can be sent to the engine now, or None."""
        if self.replaying:
            return "this is a recording"
        if self.connection.status == "dead":
            return "no engine runs this session: R resumes it"
        if self.connection.status == "lost":
            return "the engine does not answer; trying again"
        return None if self.live else "still connecting"

    @property
    def replaying(self) -> bool:
        """Whether a recording is played, so that no engine can be asked."""
        return isinstance(self.source, Played)

    @property
    def subject(self) -> Experiment | None:
        """The experiment that a command is about: of the open page, else the one that is shown."""
        return self.experiment(self.page) or self.shown

    @property
    def certified_next(self) -> int | None:
        """The experiment that `certify` tests: the chosen one, else the best; None when that is the baseline."""
        chosen = self.experiment(self.page) or self.experiment(self.selected)
        number = chosen.number if chosen else self.state.best
        return None if number == BASELINE else number

    @property
    def log_version(self) -> tuple[int, int]:
        """Another value after each event, and for another log."""
        return self.state.seq, id(self.state)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """The value of `make`, computed once for each state of the log: a session may hold ten thousand experiments."""
        if self.log_version != self._memo_of:
            self._memo, self._memo_of = {}, self.log_version
        if name not in self._memo:
            self._memo[name] = make()
        found: T = self._memo[name]
        return found

    @property
    def baseline_runs(self) -> int | None:
        """Number of baseline runs that the session's program asks for; None when it cannot be read."""
        if self._baseline_runs == 0:
            try:
                self._baseline_runs = load(self.paths.program, session_overrides(self.paths)).baseline_runs
            except AutoresearchError:
                self._baseline_runs = None
        return self._baseline_runs

    @property
    def highest(self) -> int:
        """The highest experiment number."""
        return max(BASELINE, self.state.experiments.highest)

    @property
    def last_judged(self) -> Experiment | None:
        """The experiment with the newest verdict."""
        judged = self.state.experiments.places(JUDGED)
        return self.experiment(judged[-1][1]) if judged else None

    def experiment(self, number: int | None) -> Experiment | None:
        return None if number is None else self.state.experiments.get(number)

    def toggle_mark(self, number: int) -> bool:
        """Mark an experiment, or remove its mark; returns whether it is marked now."""
        if number in self.marks:
            self.marks.remove(number)
            return False
        self.marks.append(number)
        return True

    def compared(self) -> tuple[int, int] | None:
        """The two experiments to compare: the two newest marks; else the mark, or the best, and the shown one."""
        marks = [n for n in self.marks if n in self.state.experiments]
        if len(marks) >= 2:
            return marks[-1], marks[-2]
        subject = self.subject
        other = marks[0] if marks else self.state.best
        if subject is None or subject.number == other:
            return None if not marks or marks[0] == self.state.best else (marks[0], self.state.best)
        return subject.number, other

    @property
    def thinking(self) -> int | None:
        """The experiment being thought about, or None: of several the chosen one, else that of the oldest thought."""
        if self.thought in self.thoughts:
            return self.thought
        if self.pulse and self.pulse.thinking is not None:
            return self.pulse.thinking
        live = (self.state.experiments[number] for number in reversed(self.state.live) if number != BASELINE)
        return next((x.number for x in live if x.phase in ("thinking", "waiting")), None)

    @property
    def thoughts(self) -> tuple[int, ...]:
        """All experiments that are thought about, the oldest thought first; none where no engine tells."""
        return self.pulse.thoughts if self.pulse and self.connection.status != "dead" else ()

    @property
    def newest(self) -> Experiment | None:
        """The newest experiment that has a change: running first, then proposed, then judged."""
        return self.once("newest", self._newest)

    def _newest(self) -> Experiment | None:
        numbers = chain(reversed(self.state.live), range(self.highest, BASELINE, -1))
        found = (self.experiment(number) for number in numbers if number != BASELINE)
        return next((x for x in found if x and x.hypothesis), None)

    @property
    def shown(self) -> Experiment | None:
        """The experiment whose diff is shown: the selected one, or the newest."""
        return self.experiment(self.selected) or self.newest

    @property
    def shown_run(self) -> Run | None:
        """The run whose output is shown: the last of the selected experiment, else the newest that trains."""
        if chosen := self.experiment(self.selected):
            return chosen.runs[-1] if chosen.runs else None
        if live := self.state.live_runs():  # one that starts up beside another has shown nothing yet
            return max(live, key=lambda r: (r.phase not in ("checkout", "starting"), r.run))
        return self.once("last_run", self._last_run)

    def _last_run(self) -> Run | None:
        found = map(self.experiment, range(self.highest, BASELINE - 1, -1))
        return next((x.runs[-1] for x in found if x and x.runs), None)

    def finished_run(self, number: int) -> Run | None:
        """The run whose curve stands for an experiment: the first one of its own with a metric."""
        x = self.state.experiments.get(number)
        found = [r for r in x.runs if r.ended == "done" and r.metric is not None] if x else []
        return next((r for r in found if r.kind not in ("warmup", "reference")), None)

    def references(self, run: Run | None) -> list[tuple[str, Run]]:
        """Reference runs for a run's curve: ("baseline", run) and ("best", run), where these are other runs."""
        found: list[tuple[str, Run]] = []
        for name, number in (("baseline", BASELINE), ("best", self.state.best)):
            other = self.finished_run(number)
            taken = [r.run for _, r in found]
            if other is not None and other.run not in taken and (run is None or number != run.experiment):
                found.append((name, other))
        return found

    def length_of(self, run: Run, curves: Iterable[Sequence[tuple[float, float]]] = ()) -> float:
        """Expected seconds of a run: its budget, else the length of the longest of `curves`."""
        try:
            budget = RunBudget.recorded(run.budget).seconds
        except ValueError:
            budget = None
        longest = max((curve[-1][0] for curve in curves if curve), default=0.0)
        return longest if budget is None or (longest and longest < 0.9 * budget and run.phase is None) else budget

    def details(self, number: int) -> Details:
        """The long texts of experiment `number`, read from the log once per change of it."""
        experiment = self.state.experiments.get(number)
        if experiment is None:
            return Details(number)
        if (known := self._details.get(number)) and known[0] is experiment:
            return known[1]
        details = _details(number, self.source.events_of(number))
        if len(self._details) > MAX_DETAILS_KEPT:
            self._details.pop(next(iter(self._details)))
        self._details[number] = (experiment, details)
        return details

    def progress(self, run: Run) -> float | None:
        """Share of its budget that a live run has used, 0..1; None while it has no clock."""
        slots = self.pulse.slots if self.pulse else ()
        measured = next((s.fraction for s in slots if s.run == run.run), None)
        return views.progress(run, self.now) if measured is None else measured

    def seconds_of(self, run: Run) -> float:
        """Seconds by the wall that a live run has taken: in training those on its clock."""
        started = run.clock_started if run.phase == "training" else None
        return self.now - (started or run.started)

    @property
    def elapsed(self) -> float:
        return self.state.seconds(self.now)

    @property
    def use(self) -> views.DeviceUse:
        """What the slots' time was spent on."""
        return views.device_use(self.state, self.now)

    @property
    def usd(self) -> float:
        """Dollars spent: the model's and the devices'."""
        return dollars(self.state, self.now)


def _details(number: int, events: list[Event]) -> Details:
    def every(kind: type[T]) -> tuple[T, ...]:
        return tuple(event.body for event in events if isinstance(event.body, kind))

    def last(kind: type[T]) -> T | None:
        return next(reversed(every(kind)), None)

    proposal = last(e.Proposed)
    diffs = [proposal.diff if proposal else "", *(b.diff for b in every(e.Rebased) if b.diff)]
    return Details(
        experiment=number,
        proposal=proposal,
        diff=diffs[-1],
        finished=every(e.RunFinished),
        refusals=every(e.ProposalRefused),
        checks=every(e.Checked),
        hidden=last(e.HiddenScored),
        certified=last(e.Certified),
        repairs=every(e.RepairAsked),
    )
