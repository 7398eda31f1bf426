"""The loop end to end: real git, real processes and a scripted researcher."""

from __future__ import annotations

import time
from pathlib import Path

from core.client import read_events, read_state, request
from core.record import commands as c
from core.record import events as e
from core.record.state import Run
from core.session.paths import SessionPaths
from tests.engine.support import bodies, engine, slot_seconds, wait_end, wait_for, wait_state
from tests.projects import PROGRAM, TRAIN, git, make_project, rate, write_script


def test_scripted_proposals_are_judged_and_recorded_in_git(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    before = git(project, "rev-parse", "HEAD"), git(project, "status", "--porcelain"), git(project, "branch")
    script = write_script(
        tmp_path / "s.jsonl",
        [
            rate("0.5", "0.4", rationale="closer to 0.3"),
            rate("0.5", "0.9"),
            {"hypothesis": "nothing changes", "edits": [{"path": "train.py", "search": "RATE", "replace": "RATE"}]},
            {"hypothesis": "elsewhere", "edits": [{"path": "program.md", "search": "A test", "replace": "x"}]},
            {"hypothesis": "broken", "edits": [{"path": "train.py", "search": "import os", "replace": "import ("}]},
            {"hypothesis": "crashes", "edits": [{"path": "train.py", "search": "RATE =", "replace": "1/0; RATE ="}]},
        ],
    )
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2") as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert {n: x.verdict for n, x in state.experiments.items() if n} == {
        1: "kept", 2: "discarded", 3: "rejected", 4: "rejected", 5: "rejected", 6: "crashed",
    }  # fmt: skip
    assert state.baseline is not None and state.baseline.n == 3
    assert "ZeroDivisionError" in state.experiments[6].reason
    assert state.best == 1
    kept = state.experiments[1].commit
    assert git(project, "rev-parse", "autoresearch/s") == kept
    for number in (1, 2, 6):
        assert git(project, "rev-parse", f"refs/autoresearch/s/{number}") == state.experiments[number].commit
    assert "RATE = 0.4" in git(project, "show", f"{kept}:train.py")
    after = git(project, "rev-parse", "HEAD"), git(project, "status", "--porcelain"), git(project, "branch")
    assert after[:2] == before[:2]
    assert set(after[2].split()) - set(before[2].split()) == {"autoresearch/s"}
    assert list((paths.folder / "worktrees").iterdir()) == []


def test_a_change_is_rebased_when_the_best_moves(tmp_path: Path) -> None:
    # All begin while the baseline runs, so that each is proposed on it. The offset is judged first and gains most; the
    # others gain on their parent only.
    train = TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.05\nOFFSET = 0.0\n\n\n").replace("1.0 + (", "1.0 + OFFSET + (")
    train = train.replace("sleep(SECONDS)", "sleep(SECONDS if OFFSET else {0.5: 4, 0.35: 6, 0.36: 10}[RATE])")
    project = make_project(tmp_path / "p", train=train)
    offset = {"path": "train.py", "search": "OFFSET = 0.0", "replace": "OFFSET = -0.5"}
    script = write_script(
        tmp_path / "s.jsonl",
        [{"hypothesis": "an offset", "edits": [offset]}, rate("0.5", "0.35"), rate("0.5", "0.36")],
    )
    with engine(project, researcher="scripted", script=str(script), slots="cpu:6") as paths:
        state = wait_end(paths)
    first, sooner, later = (state.experiments[n] for n in (1, 2, 3))
    if later.verdict == "kept":  # on a busy machine the sooner run may be measured again
        sooner, later = later, sooner
    assert first.verdict == "kept" and sooner.verdict == "kept", sooner.reason
    assert sooner.number in [body.experiment for body in bodies(paths, e.Rebased)]
    best = git(project, "show", "autoresearch/s:train.py")
    assert "OFFSET = -0.5" in best and ("RATE = 0.35" if sooner.number == 2 else "RATE = 0.36") in best
    assert later.verdict == "discarded" and "conflict" in later.reason


def ended_by_itself(run: Run) -> bool:
    """Whether nothing cut it off; on a busy machine it is measured again, and its end does not count."""
    return run.ended == "done" or "measured again" in run.reason


def two_at_once(folder: Path) -> tuple[Path, Path]:
    """A project whose code ignores its seed, and a script of two gains: the slower run is the better one, and the other
    is kept meanwhile.
    """
    train = TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.5\nOFFSET = 0.0\n\n\n").replace("1.0 + (", "1.0 + OFFSET + (")
    train = train.replace("% 7001 - 3500) * 1e-7", "% 7001 - 3500) * 0").replace(
        "sleep(SECONDS)", "sleep(SECONDS - 20 * OFFSET)"
    )
    project = make_project(folder / "p", train=train)
    offset = {"path": "train.py", "search": "OFFSET = 0.0", "replace": "OFFSET = -0.2"}
    script = write_script(folder / "s.jsonl", [rate("0.5", "0.35"), {"hypothesis": "an offset", "edits": [offset]}])
    return project, script


def test_what_beats_the_moved_best_leads_as_it_is_and_the_merge_is_a_further_candidate(tmp_path: Path) -> None:
    project, script = two_at_once(tmp_path)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2") as paths:
        state = wait_end(paths)
    first, second, merged = (state.experiments[n] for n in (1, 2, 3))
    assert (first.verdict, second.verdict, merged.verdict) == ("kept", "kept", "kept"), second.reason
    assert second.parent == 0 and second.rebased == 0 and second.metric == min(second.values)
    assert merged.parent == 2 and merged.hypothesis == "#2 and #1 together" and state.best == 3
    best = git(project, "show", "autoresearch/s:train.py")
    assert "OFFSET = -0.2" in best and "RATE = 0.35" in best


def test_a_merge_that_an_ended_engine_left_undone_is_made_by_the_next(tmp_path: Path) -> None:
    project, script = two_at_once(tmp_path)  # the budget leaves no room for the merge
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2", experiments=2) as paths:
        state = wait_end(paths)
        assert state.best == 2 and state.experiments[2].overtook == 1 and 3 not in state.experiments
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2", experiments=3) as paths:
        state = wait_end(paths)
    merged = state.experiments[3]
    assert (merged.parent, merged.verdict, state.best) == (2, "kept", 3), merged.reason
    assert [x.number for x in state.experiments.values() if x.researcher == "merge"] == [3]


def test_the_best_result_is_kept_when_it_is_in_conflict_with_the_moved_best(tmp_path: Path) -> None:
    train = TRAIN.replace("% 7001 - 3500) * 1e-7", "% 7001 - 3500) * 0").replace(
        "sleep(SECONDS)", "sleep(4 if RATE == 0.32 else 0.5)"
    )
    project = make_project(tmp_path / "p", train=train)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.35"), rate("0.5", "0.32")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2") as paths:
        state = wait_end(paths)
    assert state.experiments[2].parent == 0 and state.experiments[2].verdict == "kept", state.experiments[2].reason
    assert state.best == 2 and state.best_metric == min(v for x in state.experiments.values() for v in x.values)
    assert state.total == 2 and "RATE = 0.32" in git(project, "show", "autoresearch/s:train.py")
    for _ in range(2):  # another engine finds the same, and does not say it again
        said = [note.text for note in state.notes if "does not go together with #1" in note.text]
        assert len(said) == 1, state.notes
        with engine(project, researcher="scripted", script=str(script), slots="cpu:2") as paths:
            state = wait_end(paths)


def test_pause_resume_skip_steer_and_stop_work(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.3"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.9{n}") for n in range(1, 10)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.baseline, "a baseline")
        assert request(paths, c.Steer("try smaller rates", standing=True)).accepted
        assert not request(paths, c.Steer("   ")).accepted
        assert request(paths, c.Pause()).accepted
        refused = request(paths, c.Pause())
        assert not refused.accepted and "already" in refused.message
        state = wait_state(paths, lambda s: s.state == "paused" and not s.live_runs(), "a pause with nothing running")
        begun = max(r.run for x in state.experiments.values() for r in x.runs)
        time.sleep(0.2)
        assert request(paths, c.Resume()).accepted
        wait_state(paths, lambda s: s.next_run > begun + 1, "new runs after the pause")
        state = wait_state(paths, lambda s: any(x.phase == "running" and n for n, x in s.experiments.items()), "a run")
        number = next(n for n, x in state.experiments.items() if n and x.phase == "running")
        skipped = request(paths, c.Skip(number))
        state = wait_state(paths, lambda s: s.experiments[number].verdict, "a verdict for the skipped")
        if skipped.accepted:
            assert state.experiments[number].verdict == "skipped"
        assert not request(paths, c.Skip(number)).accepted
        assert not request(paths, c.Approve(1)).accepted
        wait_state(paths, lambda s: s.guidance[1].taken_by, "a proposal that has the guidance")
        assert request(paths, c.Stop(now=True)).accepted
        state = wait_end(paths)
    assert state.state == "stopped"
    assert slot_seconds(paths)["cpu0"]["person"] > 0.15
    assert any(isinstance(event.body, e.EngineStopped) for event in read_events(paths))


def test_a_stopped_session_continues_until_its_budget_ends_it(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.4"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.9{n}") for n in range(1, 10)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", experiments=3) as paths:
        wait_state(paths, lambda s: any(n and x.runs for n, x in s.experiments.items()), "a first run")
        assert request(paths, c.Stop()).accepted
        state = wait_end(paths)
    assert state.state == "stopped"
    with engine(project):
        state = wait_end(paths)
    assert state.state == "finished" and "3 experiments" in state.reason
    hypotheses = [x.hypothesis for n, x in sorted(state.experiments.items()) if n]
    assert hypotheses == [f"RATE 0.5 to 0.9{n} lowers the loss" for n in (1, 2, 3)]
    with engine(project, experiments=5):
        state = wait_end(paths)
    assert state.total == 5 and all(x.verdict for n, x in state.experiments.items() if n)


def test_a_stop_during_the_baseline_waits_for_its_runs_and_ends(tmp_path: Path) -> None:
    """Also when a candidate has run by then, which cannot be judged without the baseline."""
    project = make_project(tmp_path / "p", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 1.5"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4")])
    five = ("decide.baseline=5",)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2", overrides=five) as paths:
        wait_state(paths, lambda s: len(s.live_runs()) == 2 and 1 in s.experiments, "two runs and a proposal")
        assert request(paths, c.Stop()).accepted
        state = wait_end(paths)
    assert len(state.experiments[0].runs) == 2 and all(map(ended_by_itself, state.experiments[0].runs))
    with engine(project) as paths:
        state = wait_state(paths, lambda s: len(s.live_runs()) == 2, "two more runs")
        assert request(paths, c.Stop()).accepted
        state = wait_end(paths)
    assert state.state == "stopped" and state.baseline is None
    with engine(project) as paths:
        state = wait_end(paths)
    assert state.state == "finished" and state.experiments[1].verdict == "kept"


def test_a_stop_ends_when_a_candidate_outlives_the_baseline(tmp_path: Path) -> None:
    """The baseline fails meanwhile: the candidate, the last to end, waits for a verdict that cannot come."""
    gate = 'while not os.path.exists("go"):\n    time.sleep(0.05)\nassert RATE == 0.4, "the baseline fails"\n'
    train, program = TRAIN.replace("time.sleep(SECONDS)\n", gate), PROGRAM.replace('"10s"', '"100s"')
    project = make_project(tmp_path / "p", train=train, program=program)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4")])
    one = ("decide.baseline=1",)
    with engine(project, researcher="scripted", script=str(script), slots="cpu:2", overrides=one) as paths:
        wait_state(paths, lambda s: sum(r.phase == "training" for r in s.live_runs()) == 2, "two runs with a clock")
        assert request(paths, c.Stop()).accepted
        baseline, candidate = (paths.worktree(read_state(paths).experiments[n].runs[0].run) for n in (0, 1))
        (baseline / "go").touch()
        wait_for(lambda: not baseline.exists(), "the end of the baseline")
        (candidate / "go").touch()
        state = wait_end(paths)
    assert state.state == "stopped" and state.experiments[0].runs[0].ended == "crashed"
    assert ended_by_itself(state.experiments[1].runs[0])


def test_a_stop_ends_while_one_run_of_a_pair_waits(tmp_path: Path) -> None:
    """A certification with one slot: the stop cancels the one that waits, and the other goes on to its end."""
    project = make_project(tmp_path / "p", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 1.0"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_end(paths)
    with engine(project, experiments=5, only_task="certify:1") as paths:
        wait_state(paths, lambda s: [r.phase for r in s.live_runs()] == ["training"], "a run of the pair")
        assert request(paths, c.Stop()).accepted
        state = wait_end(paths)
    assert state.state == "stopped" and state.experiments[0].runs[-1].ended == "done"


def test_a_crashing_baseline_ends_the_session_with_its_traceback(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train="RATE = 0.5\nraise RuntimeError('no such data')\n")
    with engine(project, researcher="control") as paths:
        state = wait_end(paths)
    assert state.state == "crashed"
    assert "no such data" in state.reason and "nothing to compare with" in state.reason
    assert SessionPaths(project, "s").database.exists()


def test_a_pattern_without_match_is_reported(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train="print('accuracy = 3')\nRATE = 0.1\n")
    with engine(project, researcher="control") as paths:
        state = wait_end(paths)
    assert state.state == "crashed" and "never matched" in state.reason


def test_approval_waits_for_a_person(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.4"), rate("0.5", "0.35")])
    with engine(
        project, researcher="scripted", script=str(script), slots="cpu:1", overrides=("approve=true",)
    ) as paths:
        wait_state(paths, lambda s: 1 in s.approvals, "a card for 1")
        assert request(paths, c.Reject(1, "too timid")).accepted
        wait_state(paths, lambda s: 2 in s.approvals and s.baseline and not s.running, "a card for 2 and a free slot")
        time.sleep(0.2)
        assert request(paths, c.Approve(2)).accepted
        state = wait_end(paths)
    assert slot_seconds(paths)["cpu0"]["person"] > 0.15
    assert state.experiments[1].verdict == "rejected" and "too timid" in state.experiments[1].reason
    assert state.experiments[2].verdict == "kept"
