"""One session with several researchers in turn: a person, a model, and a model whose key is revoked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from core.client import request
from core.record import commands as c
from core.record import events as e
from tests.engine.support import bodies, engine, wait_end, wait_state
from tests.projects import make_project
from tests.research.openai_server import Server


class Provider(Server):
    """A model that proposes a better RATE for each experiment, after one look-up."""

    def next_turn(self, request: Any) -> Any:
        super().next_turn(request)
        said = request["messages"][1]["content"]
        match = re.search(r"Propose experiment (\d+)", said)
        assert match is not None
        if len(request["messages"]) == 2:
            return {"thinking": "Let me look.", "tools": [["read_file", {"path": "train.py"}]]}
        rate = f"RATE = {0.4 - int(match[1]) / 100:.2f}"
        found = re.search(r"RATE = [\d.]+", said)
        assert found is not None
        edit = {"path": "train.py", "search": found[0], "replace": rate}
        return {"tool": {"hypothesis": f"{rate} is nearer the minimum, idea {match[1]}", "edits": [edit]}}


@pytest.mark.slow  # five phases of one engine
def test_one_session_runs_under_a_person_a_model_and_a_replaced_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "p")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first")
    with Provider([], key="sk-first") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with engine(project, experiments=6, researcher="human") as paths:
            wait_state(
                paths, lambda s: 1 in s.experiments and s.experiments[1].phase == "waiting", "waiting for a person"
            )
            edit = {"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.45"}
            assert request(paths, c.Propose(hypothesis="RATE 0.45, says a person", edits=(edit,))).accepted
            state = wait_state(
                paths, lambda s: any(x.verdict == "kept" for x in s.experiments.values()), "his own kept"
            )
            own = next(n for n, x in state.experiments.items() if x.verdict == "kept")
            assert state.experiments[own].researcher == "human" and "propose FILE" in state.experiments[1].reason
            assert request(paths, c.ChangeResearcher("openai")).accepted
            wait_state(paths, lambda s: s.verdicts["kept"] >= 2, "the model's first kept")
            server.key = "sk-second"
            state = wait_state(paths, lambda s: s.state == "paused", "paused")
            assert "not accepted" in state.reason and "keys.toml" in state.reason and "sk-" not in state.reason
            keys = tmp_path / "config" / "autoresearch-tui" / "keys.toml"
            keys.parent.mkdir(parents=True)
            keys.write_text('OPENAI_API_KEY = "sk-second"\n')
            keys.chmod(0o600)
            assert request(paths, c.Resume()).accepted
            state = wait_end(paths)
    assert state.state == "finished" and state.total == 6, state.reason
    assert all(x.verdict not in (None, "abandoned", "rejected") for x in state.experiments.values() if x.number)
    assert not any(b"sk-" in path.read_bytes() for path in paths.folder.rglob("*") if path.is_file())
    names = [body.researcher for body in bodies(paths, e.ExperimentStarted)][1:]
    assert names.count("openai") >= 5 and names[0] == "human"
