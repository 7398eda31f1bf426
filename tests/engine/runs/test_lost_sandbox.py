"""A sandbox that stops working in mid-session: what fails for it is no verdict, and it is said in one line.

bubblewrap is started through a script in a folder of the test's own, which refuses as it does without namespaces.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.client import read_state
from core.lab.sandbox import tiers
from core.record import commands as c
from core.record import events as e
from core.session.disk import read_json
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from tests.engine.runs.test_next_start import (
    STARTING,
    counted,
    gone,
    ready,
    session,
    start_up,
    verdicts,
)
from tests.engine.support import accepted, bodies, engine, final_verdicts, kill_engine, refused, wait_end, wait_state
from tests.lab.conftest import needs

REFUSAL = "bwrap: No permissions to create a new namespace"


class Bubblewrap:
    """bubblewrap as the engine finds it on PATH."""

    def __init__(self, folder: Path) -> None:
        self.script, self._refuses = folder / "bwrap", folder / "refuses"
        self.script.write_text(
            f'#!/bin/sh\n[ ! -e {self._refuses} ] || {{ echo "{REFUSAL}" >&2; exit 1; }}\nexec /usr/bin/bwrap "$@"\n'
        )
        self.script.chmod(0o755)

    def fails(self) -> None:
        self._refuses.touch()

    def works(self) -> None:
        self._refuses.unlink()


@pytest.fixture
def bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bubblewrap]:
    needs("A")
    if not Path("/usr/bin/bwrap").exists() or not tiers.probe().tiers[0][1]:
        pytest.skip("tier A does not work here")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if path.name != "bwrap" and not (bin_folder / path.name).is_symlink():
                (bin_folder / path.name).symlink_to(path)
    monkeypatch.setenv("PATH", str(bin_folder))
    yield Bubblewrap(bin_folder)


def paused(paths: SessionPaths, words: str) -> None:
    state = wait_state(paths, lambda s: s.state == "paused", "a pause")
    assert state.reason.startswith(f"the sandbox (tier A) does not work any more: {words}"), state.reason
    assert "\n" not in state.reason and "then resume" in state.reason


def test_no_run_is_judged_while_the_sandbox_does_not_work(tmp_path: Path, bubblewrap: Bubblewrap) -> None:
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3)) as (paths, gate):
        ready(paths)
        bubblewrap.fails()
        gate.touch()
        paused(paths, REFUSAL)
        state = read_state(paths)
        assert "crashed" not in verdicts(state) and state.experiments[3].verdict is None
        assert REFUSAL in refused(paths, c.Resume())
        bubblewrap.works()
        accepted(paths, c.Resume())
        state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 3 and sorted(final_verdicts(paths)) == [1, 2, 3]
    ended, reason = counted(state, 3)[0]
    assert ended == "abandoned" and REFUSAL in reason and counted(state, 3)[-1][0] == "done"


def test_a_check_that_cannot_be_confined_is_made_again(tmp_path: Path, bubblewrap: Bubblewrap) -> None:
    later = [start_up(STARTING, n) for n in (2, 3, 4, 5)]
    with session(tmp_path, *later, overrides=("checks.other='true'",)) as (paths, gate):
        ready(paths)
        bubblewrap.fails()
        edit = {"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.4"}
        accepted(paths, c.Propose(hypothesis="by hand", edits=(edit,)))
        paused(paths, REFUSAL)
        assert not [b for b in bodies(paths, e.Checked) if not b.ok]
        bubblewrap.works()
        accepted(paths, c.Resume())
        gate.touch()
        state = wait_end(paths)
    assert sum(state.verdicts.values()) == 6 and "crashed" not in state.verdicts
    assert all(b.ok for b in bodies(paths, e.Checked))


def test_a_start_of_another_tier_is_withdrawn_and_the_change_is_said(tmp_path: Path, bubblewrap: Bubblewrap) -> None:
    needs("B")
    with session(tmp_path, start_up(STARTING), start_up(STARTING, 3)) as (paths, gate):
        run, pids = ready(paths)
        kill_engine(paths)
        bubblewrap.script.unlink()
        with engine(paths.project):
            gone(pids)
            state = wait_state(paths, lambda s: counted(s, 2)[0][0] == "abandoned", "its end in the log")
            [said] = [b for b in bodies(paths, e.Noted) if "tier B from here on" in b.text]
            assert said.level == "warning" and "was tier A: bubblewrap (bwrap) is not installed" in said.text
            gate.touch()
            state = wait_end(paths)
    assert verdicts(state) == ["discarded"] * 3 and not engine_alive(paths)
    tier_of = {
        r.run: read_json(paths.run(r.run) / "spec.json")["tier"] for x in state.experiments.values() for r in x.runs
    }
    assert tier_of[run] == "A" and tier_of[max(tier_of)] == "B"
    judged_by = [r.run for n in (2, 3) for r in state.experiments[n].runs if r.metric is not None]
    assert {tier_of[one] for one in judged_by} == {"B"}
