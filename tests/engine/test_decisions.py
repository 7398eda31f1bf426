"""Decisions of the real engine: repeats, quarantine, repairs, the seal, the hidden slice, certificates."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path

import pytest

from core.client import read_state, request
from core.record import commands as c
from core.record import events as e
from core.session.paths import SessionPaths
from tests.cli.command import run
from tests.engine.support import bodies, engine, final_verdicts, wait_end, wait_state
from tests.projects import PROGRAM, SCORED_FILES, SCORED_PROGRAM, SCORED_TRAIN, TRAIN, make_project, rate, write_script
from tests.research.anthropic_server import Server

# Noise that depends on the seed of the run, as in real runs: uniform, of standard deviation 0.01.
NOISY = TRAIN.replace(
    'noise = (int(os.environ.get("AUTORESEARCH_SEED", "0")) % 7001 - 3500) * 1e-7',
    'import random\nnoise = random.Random(int(os.environ["AUTORESEARCH_SEED"])).uniform(-0.0173, 0.0173)',
)


CLOSE = [f"0.{n}" for n in range(464, 473)]  # rates; that one of them is repeated does not hang on the numbers of runs


def _verdicts(paths: SessionPaths, experiment: int) -> list[str]:
    return [b.verdict for b in bodies(paths, e.Judged) if b.experiment == experiment]


def test_a_gain_within_the_noise_is_repeated_and_its_runs_are_pooled(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=NOISY)
    # Each gains about 1.5 sigma, which one run cannot distinguish from chance. The seeds decide whether it is kept.
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", r) for r in (*CLOSE, "0.6")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    assert sorted(final_verdicts(paths)) == list(range(1, len(CLOSE) + 2))
    repeated = [x for n, x in state.experiments.items() if n and len(x.values) > 1]
    assert repeated, "nothing was ever repeated"
    for x in repeated:
        assert len({r.seed for r in x.runs}) == len(x.runs), "a repeat had the seed of another run"
        assert _verdicts(paths, x.number)[0] == "provisional"
        judged = [r.metric for r in x.runs if r.metric is not None]
        assert x.metric is not None and min(judged) <= x.metric
        assert x.verdict == "kept" or x.metric == pytest.approx(sum(judged) / len(judged))
    noise = state.noise
    assert noise is not None and noise.df >= 2 and noise.low <= noise.sigma <= noise.high
    # The next session reuses this noise estimate with the weight of two repeats. One of another budget does not, nor
    # one of another command.
    worse = write_script(tmp_path / "w.jsonl", [rate("0.5", "0.9")])
    other = ('run="python ./train.py"',)
    for name, budget, more, known in (("t", None, (), True), ("u", "11s", (), False), ("v", None, other, False)):
        options: dict[str, object] = {"researcher": "scripted", "script": str(worse), "slots": "cpu:1"}
        options |= {"run_budget": budget, "overrides": more}
        with engine(project, name, **options) as later:
            new = wait_end(later)
        assert new.session is not None and new.noise is not None and new.baseline is not None
        assert new.session.prior_from == ("s" if known else "") and new.noise.df == (4.0 if known else 2.0)
        pooled = (2 * new.baseline.sigma**2 + 2 * noise.sigma**2) / 4 if known else new.baseline.sigma**2
        assert new.noise.sigma == pytest.approx(pooled**0.5)


def test_an_implausible_gain_is_quarantined_and_not_overestimated(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=NOISY.replace("1.0 + (RATE - 0.3) ** 2", "1.0 + 10 * (RATE - 0.3)"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.3")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    x = state.experiments[1]
    assert _verdicts(paths, 1) == ["provisional", "kept"]
    assert "quarantined" in bodies(paths, e.Judged)[0].reason
    assert len(x.values) == 2 and x.chosen_on == 2 and x.claim is not None
    assert x.metric == x.claim == state.best_metric
    assert x.metric >= min(x.values), "the best has a better metric than its best run"


def test_a_deterministic_gain_is_run_once_more(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=TRAIN.replace("% 7001 - 3500) * 1e-7", "% 7001 - 3500) * 0"))
    simpler = {
        "hypothesis": "fewer lines do the same",
        "edits": [{"path": "train.py", "search": "for step in range(3):", "replace": "for step in []:"}],
    }
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.499"), rate("0.5", "0.6"), simpler])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    assert [state.experiments[n].verdict for n in (1, 2)] == ["kept", "discarded"]
    assert [len(state.experiments[n].values) for n in (1, 2)] == [2, 1]
    # It is never called better, and what could not be learnt is said wherever the number is shown.
    assert "lower, noise unknown" in state.experiments[1].reason
    line = 'run = "python train.py --seed $AUTORESEARCH_SEED"'
    notes = [note.text for note in state.notes if "3 runs with different seeds gave one number" in note.text]
    assert len(notes) == 1 and line in notes[0] and "\n" not in notes[0]
    for call in (("status",), ("leaderboard",), ("report", "-o", str(tmp_path / "page.html"))):
        done = run(project, *call)
        page = (tmp_path / "page.html").read_text() if call[0] == "report" else done.stdout
        assert "different seeds gave one number" in html.unescape(page) and line in html.unescape(page), call
    refused = run(project, "certify")
    assert refused.returncode == 1
    assert "cannot be certified" in refused.stdout + refused.stderr and line in refused.stdout + refused.stderr


def test_the_hint_on_seeds_works_as_written(tmp_path: Path) -> None:
    own = "import random, sys\nnoise = random.Random(sys.argv[2]).uniform(-0.01, 0.01)"
    project = make_project(
        tmp_path / "p",
        train=NOISY.replace(NOISY[NOISY.index("import random") : NOISY.index("\nfor step")], own),
        program=PROGRAM.replace('"python train.py"', '"python train.py --seed $AUTORESEARCH_SEED"'),
    )
    script = write_script(tmp_path / "s.jsonl", [])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    assert state.sigma and not any("different seeds" in note.text for note in state.notes)


def test_a_crash_is_sent_to_the_researcher_for_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = {"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.4"}
    crash = {**edit, "replace": "RATE = 0.4 + undefined_name"}
    tool = {"hypothesis": "RATE 0.4 is nearer", "kind": "optimizer"}
    project = make_project(tmp_path / "p")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with Server([{"tool": {**tool, "edits": [crash]}}, {"tool": {**tool, "edits": [edit]}}]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        with engine(project, experiments=1, slots="cpu:1") as paths:
            state = wait_end(paths)
        request_text = json.dumps(server.requests[-1])
    assert state.total == 1 and state.experiments[1].verdict == "kept", state.experiments[1].reason
    assert state.experiments[1].repairs == 1
    assert "undefined_name" in request_text and "NameError" in request_text


def test_an_unrepaired_crash_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = {"hypothesis": "this breaks", "kind": "other"}
    names = ("alpha", "beta_", "gamma")
    turns = [
        {"tool": {**tool, "edits": [{"path": "train.py", "search": "RATE = 0.5", "replace": f"RATE = {name}"}]}}
        for name in names
    ]
    project = make_project(tmp_path / "p")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with Server(turns) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        with engine(project, experiments=1, slots="cpu:1") as paths:
            state = wait_end(paths)
    assert state.experiments[1].verdict == "crashed" and "2 attempts" in state.experiments[1].reason
    assert [r.ended for r in state.experiments[1].runs] == ["crashed"] * 3


def _scored(folder: Path, program: str = SCORED_PROGRAM) -> Path:
    more = {name: text.replace("time.sleep(0.5)", "pass") for name, text in SCORED_FILES.items()}
    train = SCORED_TRAIN.replace("time.sleep(0.5)  # starting up", "")
    return make_project(folder, train=train, program=program, more=more)


def test_a_changed_sealed_file_stops_verdicts_until_it_is_restored(tmp_path: Path) -> None:
    project = _scored(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.6{n}") for n in range(6)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.verdicts.get("discarded"), "a first verdict")
        scorer = paths.pristine / "score.py"
        honest = scorer.read_text()
        scorer.write_text(honest.replace("1.0 +", "0.0 +"))
        state = wait_state(paths, lambda s: s.state == "paused" and not s.live_runs(), "a pause")
        assert "score.py was changed" in state.reason
        kept = state.verdicts.get("kept", 0)
        assert kept == 0, "a verdict was given with a changed scorer"
        scorer.write_text(honest)
        assert request(paths, c.Resume()).accepted
        state = wait_end(paths)
    assert state.state == "finished" and state.verdicts == {"discarded": 6}


def test_a_gain_absent_from_the_hidden_slice_gets_no_certificate(tmp_path: Path) -> None:
    program = SCORED_PROGRAM.replace("[metric]", 'score_hidden = "python score.py hidden"\n[metric]')
    project = _scored(tmp_path / "p", program)
    score = (project / "score.py").read_text()
    noise = "random.Random(os.environ['AUTORESEARCH_SEED']).random() / 1000"
    noisy = score.replace("import json, os", "import json, os, random, sys").replace(
        "1.0 + (rate - 0.3) ** 2", f"1.0 + (0.04 if sys.argv[1:] else (rate - 0.3) ** 2) + {noise}"
    )
    make_project(project, train=(project / "train.py").read_text(), program=program, more={"score.py": noisy})
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.3")])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    x = state.experiments[1]
    assert x.verdict == "kept" and x.hidden is not None and x.hidden_gap is not None and x.hidden_gap > 3
    assert any("hidden slice" in note.text for note in state.notes)
    with engine(project, only_task="certify:1"):
        state = wait_end(paths)
    assert state.experiments[1].certified == "" and "hidden slice" in state.reason


# With seed 9 the candidate's run is better by chance (5.5 sigma of three baseline runs): kept without a gain.
@pytest.mark.parametrize(("to", "seed", "outcome"), [("-0.1", 1, "certified"), ("0.4999", 9, "refuted")])
def test_a_certificate_rejects_luck_and_a_result_is_reproduced(
    tmp_path: Path, to: str, seed: int, outcome: str
) -> None:
    project = make_project(tmp_path / "p", train=NOISY.replace("1.0 + (RATE - 0.3) ** 2", "1.0 + 0.3 * RATE"))
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", to), rate("0.5", "0.9"), rate("0.5", "0.8", seconds=120)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1", seed=seed) as paths:
        wait_state(paths, lambda s: s.best == 1 and s.verdicts.get("discarded"), "a kept and a discarded one")
        assert "was discarded" in request(paths, c.Certify(2)).message
        assert "no experiment 9" in request(paths, c.Certify(9)).message
        assert request(paths, c.Certify(None)).accepted
        again = request(paths, c.Certify(1))
        assert not again.accepted and "in progress" in again.message
        wait_state(paths, lambda s: s.experiments[1].certified, "a certificate")
    certificate = json.loads((paths.folder / "certificates" / "1.json").read_text())
    assert certificate["outcome"] == outcome and certificate["self_reported"] is True
    assert 2 <= certificate["test"]["pairs"] <= certificate["planned"] and 0 <= certificate["test"]["p"] <= 1
    assert (certificate["test"]["p"] < 0.01) == (outcome == "certified")
    runs = certificate["runs"]
    assert len({run["seed"] for run in runs}) == len(runs) >= 4 and {run["experiment"] for run in runs} == {0, 1}
    assert {run["commit"] for run in runs} == {certificate["commit"], certificate["baseline_commit"]}
    assert certificate["sealed_sha256"] and certificate["versions"]["python"] and certificate["hardware"]
    assert certificate["repeat_it_with"] == "autoresearch-tui certify 1 --session s"
    event = bodies(paths, e.Certified)[-1]
    assert event.runs == len(runs) and "self-reported" in event.reason
    # Without an engine: one is started for this task only, and ends.
    before = read_state(paths)
    with engine(project, only_task="reproduce:1"):
        state = wait_end(paths)
    reproduced = bodies(paths, e.Reproduced)[-1]
    assert reproduced.within_noise
    assert reproduced.metric == reproduced.recorded, "the same seed gave another number"
    assert state.next_run == before.next_run + 1 and state.total == before.total
    finished = bodies(paths, e.RunFinished)
    assert all({"sealed", "name", "clock_mhz", "throttle", "versions"} <= set(b.device) for b in finished)
    assert finished[-1].device["versions"]["python"]


def test_a_result_without_gain_is_not_certified(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", program=PROGRAM)
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.9", seconds=20)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.baseline, "a baseline")
        refused = request(paths, c.Certify())
        assert not refused.accepted and "baseline" in refused.message
        assert not request(paths, c.Reproduce(9)).accepted
        accepted = request(paths, c.Reproduce(0))
        assert accepted.accepted
        wait_state(paths, lambda s: any("#0 reproduced" in n.text for n in s.notes), "the baseline reproduced")
        os.kill(int(paths.lock.read_text()), 15)
        wait_end(paths)


def test_two_scorer_failures_pause_the_session_and_cost_no_experiment(tmp_path: Path) -> None:
    project = _scored(tmp_path / "p")
    broken = tmp_path / "broken"
    score = (
        (project / "score.py")
        .read_text()
        .replace(
            "import json",
            f"import pathlib, sys\nif pathlib.Path({str(broken)!r}).exists(): sys.exit('no disk')\nimport json",
            1,
        )
    )
    make_project(project, train=(project / "train.py").read_text(), program=SCORED_PROGRAM, more={"score.py": score})
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", f"0.6{n}") for n in range(4)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        wait_state(paths, lambda s: s.verdicts.get("discarded"), "a first verdict")
        broken.touch()
        state = wait_state(paths, lambda s: s.state == "paused" and not s.live_runs(), "a pause")
        assert "the scorer failed" in state.reason and "no disk" in state.reason
        broken.unlink()
        assert request(paths, c.Resume()).accepted
        state = wait_end(paths)
    assert state.state == "finished" and state.verdicts == {"discarded": 4}
