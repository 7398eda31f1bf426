"""Early stops of recorded sessions, as the engine would have made them: what they save, and what they lose.

    python -m benchmarks prune SESSION…      # folders of sessions, sessions/NAME

Each session's log is folded event by event. When a candidate ended, the engine's own rule (`Pruner`) is asked at which
share of its time it would have stopped that run, by what the session knew then. The first hopeless run beside each new
best is an audit, and saves nothing; audits by the keyed hash are not replayed, so about one stop in twenty too many is
counted. Saved is the share of the clocks of all runs. Lost is a run that was kept or provisional in the recording,
which must be one without early stops (`[prune] on = false`).
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from benchmarks.screen.terminal import table
from core.client import read_events
from core.edits.curve_changes import comparable_from
from core.engine.runs.live_run import Live
from core.engine.runs.pruning.pruner import Pruner
from core.program.program import parse
from core.record import events as e
from core.record.budget import RunBudget, parse_run_budget
from core.record.fold import fold
from core.record.state import BASELINE, Experiment, State
from core.session.paths import SessionPaths
from core.stats import prune


class Recorded(Pruner):
    """The engine's rule on a recorded session: its State is the one at the moment that is asked about."""

    def __init__(self, paths: SessionPaths) -> None:
        self.at, self.diffs, self.tested = State(), dict[int, str](), set[int]()
        self._of_program = parse((paths.folder / "program.md").read_text())
        self._profiles, self._since = {}, {}
        self.journal = SimpleNamespace(state=self.at)  # type: ignore[assignment]
        self.settings = SimpleNamespace(program=self._of_program)  # type: ignore[assignment]
        self.setup = SimpleNamespace(paths=paths, kind="cpu")  # type: ignore[assignment]

    @property
    def _budget(self) -> RunBudget:
        seconds, _, clock = self.at.experiments[BASELINE].runs[0].budget.partition(" ")
        return replace(parse_run_budget(seconds), clock="cpu" if clock == "cpu" else "wall")

    def _comparable_from(self, x: Experiment) -> float:
        return comparable_from(x.kind, self.diffs.get(x.number, ""), self.program.prune.decay)

    def stops(self, live: Live) -> float | None:
        """The share of its time at which the run would have been stopped; None: at none, or it is an audit."""
        plan = asyncio.run(self._plan(live))
        if plan is None:
            return None
        gaps = self._gaps(live, plan, len(prune.LOOKS))
        found = prune.stop_at(gaps, plan.margins, bar=plan.bar, curves=plan.curves, since=plan.since)
        if found is None:
            return None
        if not plan.tested and plan.parent not in self.tested:
            self.tested.add(plan.parent)
            return None
        return prune.LOOKS[found] / prune.CELLS


@dataclass
class Found:
    """Candidates of a session, those with a verdict of worth, and the stops."""

    runs: int = 0
    worth: int = 0
    stopped: int = 0
    lost: int = 0
    seconds: float = 0.0
    saved: float = 0.0

    def row(self, name: str) -> list[str]:
        share = f"{100 * self.saved / self.seconds:.1f}" if self.seconds else ""
        return [name, str(self.runs), str(self.stopped), share, str(self.worth), str(self.lost)]

    def add(self, other: Found) -> None:
        for name in vars(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def replay(paths: SessionPaths) -> Found:
    """Go through one session."""
    rule, found, asked = Recorded(paths), Found(), dict[int, float | None]()
    worth: set[int] = set()
    for event in read_events(paths):
        body = event.body
        if isinstance(body, (e.Proposed, e.Rebased)) and body.diff:
            rule.diffs[body.experiment] = body.diff
        if isinstance(body, e.Judged) and body.verdict in ("kept", "provisional"):
            worth.add(body.experiment)
        if isinstance(body, e.RunFinished):
            found.seconds += body.seconds
        if isinstance(body, e.RunFinished) and body.metric is not None and body.experiment not in asked:
            x = rule.at.experiments[body.experiment]
            run = next(run for run in x.runs if run.run == body.run)
            if run.kind == "candidate":
                live = Live(run=run.run, experiment=x.number, slot=run.slot, worktree=Path(), cut=run.cut)
                asked[x.number] = rule.stops(live)
                if (share := asked[x.number]) is not None:
                    found.saved += (1 - share) * body.seconds
        fold(rule.at, event)
    found.runs, found.worth = len(asked), len(worth & asked.keys())
    hopeless = {number for number, share in asked.items() if share is not None}
    found.stopped, found.lost = len(hopeless), len(hopeless & worth)
    return found


def main(words: list[str]) -> None:
    if not words:
        raise SystemExit("give folders of recorded sessions: python -m benchmarks prune sessions/NAME …")
    whole, rows = Found(), []
    for word in words:
        folder = Path(word).resolve()
        paths = SessionPaths(folder.parent.parent, folder.name)
        if not paths.database.exists():
            raise SystemExit(f"{word}: no session is there; hint: give its folder, such as sessions/NAME")
        found = replay(paths)
        rows.append(found.row(folder.name))
        whole.add(found)
    head = ["session", "candidates", "stopped", "time saved, %", "kept or provisional", "of these stopped"]
    print(table(head, [*rows, whole.row("all")]))
    if whole.worth:
        print(f"\n{100 * whole.lost / whole.worth:.1f}% of what was kept or provisional would have been lost.")


if __name__ == "__main__":
    main(sys.argv[1:])
