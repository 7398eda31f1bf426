"""Novelty of a proposal: files that have run are refused, a hypothesis tested before is questioned."""

from __future__ import annotations

from core.lab.git.repository import Repository
from core.ordered import Mark
from core.record.errors import EditError
from core.record.metric import format_metric
from core.record.state import BASELINE, State
from core.research.llm.history import Hypotheses
from core.text import one_line


class Novelty:
    """Trees (git hashes of all files) that this session has run, and its hypotheses. Derived from the State."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._mark: Mark | None = None
        self._ran: dict[str, int] = {}  # tree -> the first experiment that ran it
        self._waiting: dict[str, int] = {}  # tree -> the experiment that is about to run it
        self._commits: set[str] = set()
        self._hypotheses = Hypotheses()

    def learn(self, state: State) -> None:
        """Take in what is new in `state`. Runs git, so not on the event loop."""
        new: dict[str, int] = {}
        for number in sorted(state.experiments.since(self._mark)):
            runs = state.experiments[number].runs
            for commit in {run.commit for run in runs if run.ended != "abandoned"} - self._commits:
                new.setdefault(commit, number)
        self._mark = state.experiments.mark
        live = {state.experiments[n].commit: n for n in state.live}
        waiting = {commit: n for commit, n in live.items() if commit and commit not in self._commits | new.keys()}
        trees = self._repo.trees([*new, *waiting]) if new or waiting else {}
        for commit, number in new.items():
            self._ran.setdefault(trees.get(commit, ""), number)
        self._commits.update(new)
        self._waiting = {trees.get(commit, ""): number for commit, number in waiting.items()}
        self._hypotheses.learn(state)

    def refuse_repeat(self, tree: str, experiment: int, state: State) -> None:
        """Raises EditError when the files of `tree` have run already, or are about to."""
        number = self._ran.get(tree, self._waiting.get(tree))
        if number is None or (number == experiment and not state.experiments[number].runs):
            return
        if number == experiment:
            hint = "change what the crash came from"
            raise EditError("the files would be exactly those that have just crashed", hint=hint)
        x = state.experiments[number]
        when = "was run already" if x.verdict or number == BASELINE else "is about to run already"
        which = "the unchanged code" if number == BASELINE else f"experiment {number} ({_outcome(state, number)})"
        hint = "propose a change that has not been run; it costs nothing to propose another"
        raise EditError(f"this {when}: the files would be exactly those of {which}", hint=hint)

    def question(self, hypothesis: str, experiment: int, state: State) -> str:
        """The earlier experiment with nearly the same hypothesis, in words; "" for a new one."""
        number = self._hypotheses.nearest(hypothesis, but=experiment)
        if number is None:
            return ""
        earlier = one_line(state.experiments[number].hypothesis, 300)
        return f"experiment {number} ({_outcome(state, number)}) tested nearly the same hypothesis: {earlier!r}"


def _outcome(state: State, number: int) -> str:
    x = state.experiments[number]
    result = f" with {format_metric(x.metric)}" if x.metric is not None else ""
    return f"{x.verdict or 'not judged yet'}{result}"
