"""program.md: the one file the human programs. TOML front matter between `+++` lines, then prose. (DESIGN §4)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.record.budget import RunBudget, SessionBudget
from core.record.metric import Metric


@dataclass(frozen=True, slots=True)
class Program:
    """A program.md, checked. Paths are relative to the folder that holds it; patterns are git-style globs."""

    edit: tuple[str, ...]
    run: str
    metric: Metric
    text: str  # the whole file
    prose: str  # what follows the front matter
    read: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()  # untracked files or folders (data) linked read-only into every worktree
    prepare: str | None = None
    score: str | None = None
    pattern: str | None = None  # regular expression with one group, when there is no `score`
    run_budgets: Mapping[str, RunBudget] = field(default_factory=dict)  # by device: "cuda", "cpu"
    budget: SessionBudget = field(default_factory=SessionBudget)
    startup_seconds: Mapping[str, float] = field(default_factory=lambda: {"cpu": 120.0, "cuda": 300.0})
    saving_seconds: float = 60.0
    limit_seconds: float = 1800.0  # of a run with a step budget
    checks: Mapping[str, str] = field(default_factory=dict)
    check_seconds: float = 120.0
    network: bool = False
    memory_gb: float | None = None  # per run; None: a share of the machine
    keep_sigmas: float = 2.0
    baseline_runs: int = 3
    approve: bool = False  # wait for a person before each run
    seed: int = 1

    def run_budget(self, device: str) -> RunBudget:
        """The budget of one run on `device` ("cpu" or "cuda")."""
        return self.run_budgets.get(device) or next(iter(self.run_budgets.values()))
