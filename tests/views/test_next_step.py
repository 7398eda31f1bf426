"""The next step after a session's end: a command that works there, with the hint of the reason before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import invocation, views
from core.record.state import BASELINE, Experiment, Run, State

HINT = 'write inputs = ["data"] into program.md'
FAILED = f"the baseline gave no number: exited with code 1: x\n  hint: {HINT}\nthe output"


def state_of(word: str, reason: str, *, ran: bool = True) -> State:
    state = State()
    state.state, state.reason = word, reason  # type: ignore[assignment]
    if ran:
        run = Run(run=1, experiment=BASELINE, kind="baseline", slot="cpu0", seed=1, commit="c", budget="5m",
                  started=0.0, ended="crashed")  # fmt: skip
        state.experiments[BASELINE] = Experiment(
            number=BASELINE,
            parent=BASELINE,
            parent_commit="c",
            researcher="baseline",
            model=None,
            started=0.0,
            runs=(run,),
        )
    return state


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (state_of("crashed", FAILED), 'write inputs = ["data"] into program.md; then start a new session with: {new}'),
        (
            state_of("crashed", "x"),
            "correct program.md, or the code and commit it; then start a new session with: {new}",
        ),
        (
            state_of("crashed", "sh p.sh: `prepare` ended with code 1: no\n  hint: do that", ran=False),
            "do that; then start a new session with: {new}",
        ),
        (state_of("crashed", "no key\n  hint: give --model", ran=False), "give --model; then continue with: {again}"),
        (state_of("stopped", "stopped by a person"), "continue with: {again}"),
    ],
)
def test_the_command_works_where_the_session_stands(state: State, step: str, tmp_path: Path) -> None:
    new, again = (invocation.call("run", *more, project=tmp_path) for more in ((), ("--session", "s")))
    assert views.next_step(state, tmp_path, "s") == step.format(new=new, again=again)


def test_a_reason_and_its_hint_are_told_apart() -> None:
    assert views.without_hint(FAILED) == (FAILED.replace(f"  hint: {HINT}\n", ""), HINT)
    assert views.without_hint("only this") == ("only this", "")
