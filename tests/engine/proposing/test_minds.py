"""Several thoughts at once with a language model: nothing is proposed twice, and no budget is passed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.client import read_state
from core.record import commands as c
from core.record import events as e
from tests.engine.proposing.test_queue import most_at_once
from tests.engine.support import FOREVER, accepted, bodies, engine, wait_end, wait_for, wait_state
from tests.projects import PROGRAM, git, make_project
from tests.research.anthropic_server import Server

MINDS = PROGRAM.replace("[budget]", "[ahead]\nqueue = 4\nminds = 4\n[budget]")


def turn(new: str, **more: Any) -> dict[str, Any]:
    edits = [{"path": "train.py", "search": "RATE = 0.5", "replace": f"RATE = {new}"}]
    return {"tool": {"hypothesis": f"RATE {new} is worse", "kind": "optimizer", "edits": edits}, **more}


def slow(new: str) -> dict[str, Any]:
    return turn(new, text="slowly " * 40, pieces=40, delay=0.1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    def serve(server: Server) -> Server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        return server

    return serve


@pytest.mark.slow
def test_minds_know_of_each_other_and_propose_nothing_twice(tmp_path: Path, asked: Any) -> None:
    project = make_project(tmp_path / "p", program=MINDS)
    same = [slow("0.7"), slow("0.7"), slow("0.7")]
    with Server([turn("0.6"), *same, *(slow(f"0.8{n}") for n in range(1, 9))]) as server:
        asked(server)
        with engine(project, experiments=5, slots="cpu:4") as paths:
            state = wait_end(paths)
        told = [json.dumps(request) for request in server.requests]
    assert state.state == "finished" and state.total == 5, state.reason
    commits = [x.commit for n, x in state.experiments.items() if n and x.commit]
    trees = [git(project, "rev-parse", f"{commit}^{{tree}}") for commit in commits]
    assert len(set(trees)) == len(trees) == 5
    thoughts, both = most_at_once(paths)
    assert 2 <= thoughts <= 4 and both <= 8, (thoughts, both)
    reasons = [b.reason for b in bodies(paths, e.ProposalRefused)]
    assert any("already: the files would be exactly those of experiment" in reason for reason in reasons), reasons
    assert any("being thought about by others, at the same time as yours" in text for text in told)


@pytest.mark.slow
def test_minds_together_do_not_pass_the_dollars(tmp_path: Path, asked: Any) -> None:
    project = make_project(tmp_path / "p", program=MINDS)
    dear = {"usage": {"input_tokens": 100_000}}
    with Server([{**slow(f"0.6{n}"), **dear} for n in range(1, 9)]) as server:
        asked(server)
        with engine(project, slots="cpu:4", usd=1.3) as paths:
            state = wait_end(paths)
    assert state.state == "finished" and "$1.30" in state.reason
    assert 0.6 < state.usd < 1.3
    assert all(x.verdict == "discarded" for n, x in state.experiments.items() if n), "what was paid for has run"


@pytest.mark.slow
def test_an_idea_goes_to_one_mind_and_a_pause_and_a_skip_reach_each(tmp_path: Path, asked: Any) -> None:
    project = make_project(tmp_path / "p", program=MINDS)
    endless = turn("0.7", text="slowly " * 40, pieces=40, delay=FOREVER / 40)
    with Server([turn("0.6"), *[endless] * 9]) as server:
        asked(server)
        with engine(project, slots="cpu:4") as paths:
            wait_state(paths, lambda s: len([n for n in s.live if n and not s.experiments[n].commit]) >= 3, "minds")
            accepted(paths, c.Idea("a rate of one third"))
            state = wait_state(paths, lambda s: s.experiments[1].verdict, "a verdict")
            thinking = [n for n in state.live if n and not state.experiments[n].commit]
            for number in thinking[:2]:
                accepted(paths, c.Skip(number))
            wait_state(
                paths,
                lambda s: s.total >= len(state.experiments) + 1 and all(
                    s.experiments[n].verdict == "skipped" for n in thinking[:2]
                ),
                "two skipped, two others begun",
            )  # fmt: skip
            accepted(paths, c.Pause())
            begun = [n for n, x in read_state(paths).experiments.items() if n and x.verdict is None and not x.commit]

            def told() -> list[str]:
                return [json.dumps(request) for request in server.requests]

            wait_for(lambda: all(any(f"Propose experiment {n} now" in t for t in told()) for n in begun), "all asked")
            assert sum("a rate of one third" in t for t in told()) == 1, "the idea is in one brief"
            accepted(paths, c.Stop(now=True))
            state = wait_end(paths)
    assert state.state == "stopped" and state.guidance[1].taken_by is None
