"""Diffs of an experiment against its parent, the best, the baseline or another experiment

The log has the diff against the parent. git makes the others in a thread: their result comes with a later call.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.git import Git
from core.record.errors import GitError
from core.record.state import BASELINE, Experiment, State, who
from core.views import in_short

Base = Literal["parent", "best", "baseline"]
BASES: tuple[Base, ...] = ("parent", "best", "baseline")
GIT_SECONDS = 20.0
MAX_DIFF_BYTES = 2_000_000
MAX_DIFFS_KEPT = 64


@dataclass(frozen=True, slots=True)
class DiffResult:
    """A unified diff, or in `words` the reason why there is none."""

    diff: str = ""
    words: str = ""


ASKING = DiffResult(words="reading from git …")
UNCHANGED = "the unchanged code"


class DiffSource:
    """Diffs by pairs of experiments. `project`: the repository; `diff_of`: the diff in the log."""

    def __init__(self, project: Path, state: Callable[[], State], diff_of: Callable[[int], str]) -> None:
        self._project = project
        self._state = state
        self._diff_of = diff_of
        self._asked: dict[tuple[str, str], Future[DiffResult]] = {}
        self._worker = ThreadPoolExecutor(1, "git-diff")  # its thread starts with the first diff

    def number_of(self, experiment: int | None, base: Base) -> int | None:
        """The experiment that a base refers to; None when it is not known yet."""
        state = self._state()
        if base == "baseline":
            return BASELINE
        if base == "best":
            return state.best if state.best_metric is not None else None
        x = state.experiments.get(experiment) if experiment is not None else None
        return x.parent if x is not None else None

    def told(self, experiment: int | None, base: Base | int) -> DiffResult:
        """The changes of `experiment` against `base`."""
        if experiment is None:
            return DiffResult()
        x = self._state().experiments.get(experiment)
        if x is None:
            return DiffResult(words=f"there is no experiment {experiment}")
        number = base if isinstance(base, int) else self.number_of(experiment, base)
        if number is None:
            return DiffResult(words=f"there is no {base} yet")
        if number == experiment:
            return DiffResult(words=UNCHANGED if number == BASELINE else f"#{experiment} is compared with itself")
        if base == "parent" or (number == x.parent and not x.rebased):
            diff = self._diff_of(experiment)
            return DiffResult(diff, "" if diff else _no_diff(x))
        one, other = self._commit(number), self._commit(experiment)
        if one is None or other is None:
            missing = number if one is None else experiment
            return DiffResult(words=f"{who(missing)} has no commit to compare")
        return self._git(one, other)

    def _commit(self, number: int) -> str | None:
        state = self._state()
        x = state.experiments.get(number)
        if number == BASELINE:
            return state.session.commit if state.session else None
        return x.commit if x else None

    def _git(self, one: str, other: str) -> DiffResult:
        if (asked := self._asked.get((one, other))) is None:
            if len(self._asked) >= MAX_DIFFS_KEPT:
                self._asked.pop(next(iter(self._asked)))
            asked = self._asked[one, other] = self._worker.submit(_diff, self._project, one, other)
        return asked.result() if asked.done() else ASKING


def _no_diff(x: Experiment) -> str:
    if x.number == BASELINE:
        return UNCHANGED
    if x.phase in ("thinking", "waiting"):
        return f"#{x.number} has no proposal yet"
    return f"#{x.number} has no change{f': {in_short(x.reason)}' if x.reason else ''}"


def _diff(project: Path, one: str, other: str) -> DiffResult:
    git = Git(project, seconds=GIT_SECONDS)
    try:
        if not all(git.resolve(f"{commit}^{{commit}}") for commit in (one, other)):
            return DiffResult(words="these commits are no longer in the repository")
        text = git.diff(one, other, "-p", "--relative")[:MAX_DIFF_BYTES].decode(errors="replace")
    except GitError as error:
        return DiffResult(words=error.what)
    return DiffResult(text, "" if text else "no difference")
