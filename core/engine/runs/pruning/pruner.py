"""Early stopping of a run that is hopelessly behind the curve of its parent (docs/decisions.md)"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core.edits.curve_changes import comparable_from
from core.engine.ending import Ending
from core.engine.runs.live_run import Live
from core.engine.runs.pruning.curve_file import points
from core.engine.runs.run_key import RunKey
from core.engine.runs.workplace import Workplace
from core.engine.startup.setup import EnginePart
from core.record import events as e
from core.record.budget import RunBudget
from core.record.state import BASELINE, COUNTS, HUMAN, Experiment, Run, who
from core.stats import prune
from core.stats.decide import least_gain
from core.stats.prune import Behind, Finished, Margin, Profile

KINDS = ("baseline", "candidate", "repeat")
MAX_FINISHED = 100  # newest finished runs of which the margins are learned
MAX_LOOKED = 400  # newest experiments among which they are looked for
MAX_REFERENCES = 6  # newest runs of a parent whose curves are its reference
LEAST_POLL, MOST_POLL = 0.1, 1.0  # seconds between two looks at how far a run is
TOO_LATE = 0.95  # share of its time from which stopping a run saves nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is held against."""

    reference: Profile
    above: Behind  # added to the reference, so that its curve is no better than its score
    margins: Sequence[Margin | None]
    bar: float
    curves: int
    since: float
    parent: int
    tested: bool  # a hopeless run beside this reference was run to its end before


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run with a number, the experiment it was made from, and the share from which their curves are comparable."""

    run: Run
    parent: Experiment
    since: float


@dataclass(eq=False)
class Pruner(EnginePart):
    """Watches the candidates on their clocks. What it finds depends on curves and results alone, so that an engine that
    adopts a run finds the same.
    """

    place: Workplace
    key: RunKey
    _profiles: dict[int, Profile] = field(default_factory=dict, init=False)  # by run
    _since: dict[tuple[int, str, float], float] = field(default_factory=dict, init=False)  # by experiment, …

    async def follow(self, live: Live) -> None:
        """Stop the run, or mark it as an audit, once it is hopeless. Until cancelled."""
        if not self.may_stop(live):
            return
        plan: Plan | None = None
        look = 0
        while look < len(prune.LOOKS):
            await asyncio.sleep(self._poll())
            done = await asyncio.to_thread(self._done, live)
            reached = sum(done >= end / prune.CELLS for end in prune.LOOKS)
            if reached <= look:
                continue
            look = reached
            plan = plan or await self._plan(live)  # at the first look: the run before it in its slot is scored by then
            if plan is None:
                return
            gaps = await asyncio.to_thread(self._gaps, live, plan, look)
            found = prune.stop_at(gaps, plan.margins, bar=plan.bar, curves=plan.curves, since=plan.since)
            if found is not None:
                self._found(live, plan, gaps, found, done)
                return

    def _done(self, live: Live) -> float:
        """Share of its time that a run has used on its clock; of a step budget as it has printed."""
        if live.job is None or live.phase != "training" or live.ending is not None:
            return 0.0
        if self._budget.seconds is None:
            return max((share for share, _ in self._own_points(live)), default=0.0)
        return live.job.fraction or 0.0

    def may_stop(self, live: Live) -> bool:
        """Whether a run is one that may be stopped: the first of a researcher's change, on a schedule that is known."""
        state, rule = self.state, self.program.prune
        x = state.experiments[live.experiment]
        run = next((r for r in x.runs if r.run == live.run), None)
        plain = self._budget.seconds is not None and not self.place.overlaps
        return (
            rule.on
            and run is not None
            and run.kind == "candidate"
            and live.experiment != BASELINE
            and not state.timed
            and bool(state.sigma)
            and x.researcher != HUMAN
            and not x.forked
            and not any(r.metric is not None for r in x.runs)  # one re-applied on a new best was good before
            and live.measured_again == (0, 0, 0)
            and (not plain or self.program.scored_at_limit)
        )

    @property
    def believed(self) -> bool:
        """Whether the audits so far let runs be stopped."""
        return prune.believed(self.state.audited, self.state.audits_wrong)

    def doubt(self) -> e.Noted:
        """What the person is told when that changes."""
        found = f"{self.state.audits_wrong} of {self.state.audited} audited runs ended better than what they came from"
        if self.believed:
            return e.Noted("info", f"hopeless runs are stopped early again: {found}")
        return e.Noted("warning", f"runs that look hopeless are no longer stopped, but run to their end: {found}")

    def _poll(self) -> float:
        seconds = self._budget.seconds or 25.0
        return min(MOST_POLL, max(LEAST_POLL, seconds / 100))

    @property
    def _budget(self) -> RunBudget:
        return self.program.run_budget(self.setup.kind)

    async def _plan(self, live: Live) -> Plan | None:
        """What the run is held against; None: it is not stopped, whatever it prints."""
        state = self.state
        x, base, sigma = state.experiments[live.experiment], state.experiments[BASELINE], state.sigma
        parent, since = state.experiments[x.parent], self._comparable_from(x)
        if not math.isfinite(since) or not parent.values or not base.values or not sigma:
            return None
        cases = list(self._cases())
        parents = (parent, base, *(case.parent for case in cases))
        await asyncio.to_thread(self._read, [*(case.run for case in cases), *(r for p in parents for r in _runs(p))])
        finished = [self._finished(case, sigma) for case in cases]
        margins = prune.learn(finished)
        if not any(margins):
            return None
        children = [one for case, one in zip(cases, finished, strict=True) if case.parent.number == parent.number]
        reference: Profile = self._curve_of(parent)
        above: Behind = (0.0,) * len(prune.LOOKS)
        if parent.number != BASELINE:
            gain = state.metric.gain(base.sample.number, parent.sample.number) / sigma
            others = [one for case, one in zip(cases, finished, strict=True) if case.run not in parent.runs]
            above = prune.bounded(reference, self._curve_of(base), gain, prune.learn(others))
            above = prune.corrected(above, children, margins)
        return Plan(
            reference=reference, above=above, margins=margins, curves=len(_runs(parent)), since=since,
            bar=self._bar(x.lines), parent=parent.number,
            tested=parent.number == BASELINE or any(c.run.audit for c in cases if c.parent.number == parent.number),
        )  # fmt: skip

    def _bar(self, lines: int) -> float:
        """Sigmas by which a run may end worse and still count, of a change that adds so many lines."""
        policy = self.program.policy
        least = min(COUNTS, least_gain(policy))
        return policy.simplicity - least if lines < 0 else -least

    def _cases(self) -> Iterator[Case]:
        """The newest experiments that have a result and a curve that says something, with their parents."""
        state, found = self.state, 0
        for x in itertools.islice(reversed(state.experiments.values()), MAX_LOOKED):
            run, parent = _first_result(x), state.experiments.get(x.parent)
            if run is None or parent is None or not parent.values:
                continue
            since = self._comparable_from(x)
            if math.isfinite(since):
                yield Case(run=run, parent=parent, since=since)
                found += 1
            if found == MAX_FINISHED:
                return

    def _finished(self, case: Case, sigma: float) -> Finished:
        assert case.run.metric is not None
        gaps = prune.behind(self._profiles[case.run.run], self._curve_of(case.parent))
        worse = -self.state.metric.gain(case.parent.sample.number, case.run.metric) / sigma
        return Finished(behind=gaps, worse=worse, curves=len(_runs(case.parent)), since=case.since)

    def _comparable_from(self, x: Experiment) -> float:
        """From which share of its time the curve of `x` may be held against its parent's."""
        key = x.number, x.commit or "", self.program.prune.decay
        if key not in self._since:
            diff = ""
            for event in self.journal.log.events_of(x.number):
                if isinstance(event.body, e.Proposed) or (isinstance(event.body, e.Rebased) and event.body.diff):
                    diff = event.body.diff
            self._since[key] = comparable_from(x.kind, diff, self.program.prune.decay)
        return self._since[key]

    def _read(self, runs: list[Run]) -> None:
        """Read the curves of runs that have ended."""
        for run in runs:
            if run.run not in self._profiles:
                self._profiles[run.run] = prune.profile(self._points(run))

    def _points(self, run: Run) -> list[tuple[float, float]]:
        return points(self.paths.run(run.run) / "curve.tsv", self._budget, run.cut)

    def _own_points(self, live: Live) -> list[tuple[float, float]]:
        return points(self.paths.run(live.run) / "curve.tsv", self._budget, live.cut)

    def _curve_of(self, x: Experiment) -> Profile:
        return prune.together([self._profiles[run.run] for run in _runs(x)])

    def _gaps(self, live: Live, plan: Plan, looks: int) -> Behind:
        """How far the run is behind so far, at its first `looks` looks."""
        own = prune.profile(self._own_points(live))
        found = zip(prune.behind(own, plan.reference), plan.above, strict=True)
        return tuple(
            None if gap is None or above is None or look >= looks else gap - above
            for look, (gap, above) in enumerate(found)
        )

    def _found(self, live: Live, plan: Plan, gaps: Behind, look: int, share: float) -> None:
        """The run is hopeless, after a `share` of its time: it is stopped, or goes on as an audit."""
        gap, margin = gaps[look], plan.margins[look]
        if live.ending is not None or live.phase != "training" or share > TOO_LATE:
            return
        assert gap is not None and margin is not None
        live.stopped_at = round(share, 4)
        trusted = plan.tested and self.believed
        live.audit = not trusted or self.key.audits(live.run, self.program.prune.audit)
        if not live.audit:
            limit, than = max(0.0, margin.limit(plan.bar, plan.curves)), who(plan.parent)
            words = (
                f"stopped early at {share:.0%} of its time: its loss was {gap:.3f} above that of {than}, and that of a"
            )
            words += f" run that ends no worse is at most {limit:.3f} above it"
            live.end(Ending("pruned", words))


def _first_result(x: Experiment) -> Run | None:
    """The first run of a candidate as it is now, where it gave a number."""
    if x.number == BASELINE:
        return None
    first = next((run for run in x.runs if run.kind == "candidate" and run.commit == x.commit), None)
    return first if first is not None and first.metric is not None else None


def _runs(x: Experiment) -> list[Run]:
    """The newest runs whose curves are the reference of what is made from `x`."""
    found = [run for run in x.runs if run.metric is not None and run.kind in KINDS and run.commit == x.commit]
    return found[-MAX_REFERENCES:]
