"""The engine with Claude as the researcher, with the real SDK and a local server of the same protocol."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.client import request, start_engine
from core.record import commands as c
from core.record import events as e
from core.record.errors import ResearcherMisconfigured
from core.session.options import EngineOptions, merge
from core.session.paths import SessionPaths
from tests.engine.support import engine, events_named, wait_end, wait_state
from tests.projects import make_project
from tests.research.anthropic_server import Server

EDIT = {"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.4"}
GOOD = {
    "thinking": "The loss is quadratic in RATE.",
    "text": "I will move RATE.",
    "tool": {"hypothesis": "RATE 0.4 is nearer the minimum", "kind": "optimizer", "edits": [EDIT], "expected": -0.03},
    "usage": {"input_tokens": 1200, "output_tokens": 300},
}
BAD = {"tool": {**GOOD["tool"], "edits": [{**EDIT, "search": "RATE = 7"}]}}  # type: ignore[dict-item]


def _serve(monkeypatch: pytest.MonkeyPatch, server: Server, key: str = "sk-test") -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)


def test_claude_proposes_corrects_its_edit_and_the_experiment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "p")
    overloaded = {"fault": "status", "status": 529, "code": "overloaded_error", "message": "Overloaded"}
    with Server([overloaded, BAD, GOOD]) as server:
        _serve(monkeypatch, server)
        with engine(project, experiments=1) as paths:
            state = wait_end(paths)
    x = state.experiments[1]
    assert state.engine is not None and state.engine.researcher == "claude"
    assert x.verdict == "kept" and x.hypothesis == "RATE 0.4 is nearer the minimum", x.reason
    assert x.model == "claude-opus-5-5" and state.input_tokens >= 1200 and x.refusals == 1
    assert events_named(paths, e.ResearcherWaiting) and events_named(paths, e.ProposalRefused)
    said = [json.loads(line) for line in paths.reasoning(1).read_text().splitlines()]
    assert any(line["k"] == "thinking" and "quadratic" in line["s"] for line in said)
    assert not any(b"sk-test" in path.read_bytes() for path in paths.folder.rglob("*") if path.is_file())


def test_a_wrong_key_ends_the_session_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "p")
    with Server([GOOD]) as server:
        _serve(monkeypatch, server, key="sk-wrong")
        with engine(project, experiments=1) as paths:
            state = wait_end(paths)
    assert state.state == "crashed" and "key" in state.reason.lower()


def test_a_revoked_key_pauses_the_session_until_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    project = make_project(tmp_path / "p")
    edits = [{**EDIT, "search": "= 0.05", "replace": "= 0.04"}]
    again = {
        "tool": {"hypothesis": "a shorter sleep changes nothing", "kind": "schedule", "edits": edits, "expected": 0}
    }
    with Server([GOOD, again]) as server:
        _serve(monkeypatch, server)
        with engine(project, slots="cpu:1", experiments=2, overrides=("approve=true",)) as paths:
            wait_state(paths, lambda s: s.approvals, "a first proposal")
            server.key = "sk-another"
            assert request(paths, c.Approve(1, all=True)).accepted
            state = wait_state(paths, lambda s: s.state == "paused", "a pause")
            assert "key" in state.reason.lower() and 2 in state.live
            assert request(paths, c.Resume()).accepted  # the fault remains
            wait_state(paths, lambda s: s.state == "paused" and s.seq > state.seq + 1, "the same pause again")
            keys = tmp_path / "config" / "autoresearch-tui" / "keys.toml"
            keys.parent.mkdir(parents=True)
            keys.write_text('ANTHROPIC_API_KEY = "sk-another"\n')
            keys.chmod(0o600)
            assert request(paths, c.Resume()).accepted
            state = wait_end(paths)
    assert state.state == "finished" and state.experiments[1].verdict == "kept" and state.experiments[2].runs


def test_an_unknown_model_ends_the_session_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "p")
    with Server([GOOD]) as server:
        _serve(monkeypatch, server)
        with engine(project, experiments=1, model="claude-none") as paths:
            state = wait_end(paths)
    assert state.state == "crashed" and "claude-none" in state.reason


def test_a_missing_key_is_refused_before_a_session_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    project = make_project(tmp_path / "p")
    paths = SessionPaths(project, "s")
    with pytest.raises(ResearcherMisconfigured, match="ANTHROPIC_API_KEY"):
        start_engine(paths, EngineOptions(researcher="claude"))
    assert not paths.folder.exists()


def test_waiting_for_an_unreachable_endpoint_is_shown_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "p")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    monkeypatch.setenv("AUTORESEARCH_BACKOFF", "30")
    with engine(project, experiments=1) as paths:
        state = wait_state(paths, lambda s: 1 in s.experiments and s.experiments[1].phase == "waiting", "waiting")
        assert state.experiments[1].reason
        assert request(paths, c.Stop()).accepted
        state = wait_end(paths)
    assert state.state == "stopped"


def test_steer_now_interrupts_the_researcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "p")
    slow = {**GOOD, "text": "slowly " * 200, "pieces": 100, "delay": 0.2}
    with Server([slow, GOOD]) as server:
        _serve(monkeypatch, server)
        with engine(project, experiments=1) as paths:
            wait_state(paths, lambda s: paths.reasoning(1).exists(), "thinking")
            assert request(paths, c.Steer("only touch RATE", now=True)).accepted
            state = wait_end(paths)
        asked = json.dumps(server.requests[-1])
    assert state.experiments[1].verdict == "kept"
    assert state.guidance[1].taken_by == 1 and "only touch RATE" in asked


def test_endless_conversations_and_broken_streams_stay_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "p")
    dear = {"text": "Let us talk.", "usage": {"input_tokens": 100_000}}
    with Server([dear, {**dear, "fault": "cut", "after": 2}], repeat=True) as server:
        _serve(monkeypatch, server)
        with engine(project, experiments=5, usd=1.0) as paths:
            state = wait_end(paths)
    assert state.state == "finished" and "one more answer costs about $0.40" in state.reason
    assert 0.8 < state.usd < 1.0
    assert state.experiments[1].verdict == "abandoned"


def test_a_changed_researcher_does_not_inherit_the_model() -> None:
    before = EngineOptions(researcher="command", model="codex", usd=3.0)
    assert merge(before, EngineOptions(researcher="claude")).model is None
    assert (
        merge(before, EngineOptions(hours=1.0)).model
        == merge(before, EngineOptions(researcher="command")).model
        == "codex"
    )
    assert merge(before, EngineOptions(researcher="openai", model="gpt")).model == "gpt"
