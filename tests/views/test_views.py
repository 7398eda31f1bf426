"""Views: the documented output for scripts, and text that cannot control a terminal."""

from __future__ import annotations

import json
import math
import typing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import views
from core.client import used_budgets
from core.record import events as e
from core.record import wire
from core.record.events import VERDICTS, Event
from core.record.fold import fold
from core.record.metric import Metric
from core.record.slot_time import SPENDING
from core.record.state import State
from core.session.paths import SessionPaths
from core.views import story
from tests.recorded import START, story_events

STATUS = {
    "session": None, "state": None, "project": None, "branch": None, "researcher": None, "model": None,
    "sandbox": None, "conditions": None, "set_aside": None, "started": None, "seconds": None,
    "experiments": {"total", *VERDICTS},
    "baseline": {"metric", "sigma", "n"},
    "best": {"experiment", "metric", "commit"},
    "running": None,
    "queue": None,
    "device": {"busy_share", "split", "hours", "usd", "experiments_per_hour", "keeps_per_device_hour", "saved"},
    "cost": {"usd", "input_tokens", "output_tokens", "cached_tokens", "usd_per_kept"},
    "engine": {"pid", "alive"},
    "trust": {"noise", "noise_unknown", "runs", "hidden_gap", "certified"},
}  # fmt: skip
LEADERBOARD = [
    "experiment", "verdict", "metric", "sigma", "delta", "hypothesis", "researcher", "commit", "parent", "runs",
    "seconds", "usd",
]  # fmt: skip


def state_of(events: list[Event]) -> State:
    state = State()
    for event in events:
        fold(state, event)
    return state


def session(**options: object) -> State:
    return state_of(story_events(**options))


def test_status_always_has_the_documented_keys() -> None:
    state = State()
    for event in [None, *story_events(experiments=6, live=True)]:
        if event is not None:
            fold(state, event)
        for alive in (True, False):
            status = views.status(state, alive, state.time + 5)
            assert status.keys() == STATUS.keys()
            for key, inner in STATUS.items():
                assert inner is None or set(status[key]) == inner
            for spent in status["device"]["split"].values():
                assert list(spent) == list(SPENDING)
            for run in status["running"]:
                assert run.keys() == {"experiment", "slot", "phase", "progress"}
            json.loads(wire.dumps(status))


def test_the_progress_of_a_run_in_processor_seconds_is_what_the_process_beside_it_wrote(tmp_path: Path) -> None:
    paths = SessionPaths(tmp_path, "s")
    live = session(experiments=6, live=True)
    run = next(run for run in live.live_runs() if run.phase == "training")
    x = live.experiments[run.experiment]
    live.experiments[run.experiment] = replace(x, runs=(*x.runs[:-1], replace(run, budget="20s cpu")))

    def shown() -> list[float | None]:
        status = views.status(live, True, live.time + 5, used_budgets(paths, live))
        return [one["progress"] for one in status["running"] if one["experiment"] == run.experiment]

    assert shown() == [None], "by the wall it is not known"
    paths.run(run.run).mkdir(parents=True)
    (paths.run(run.run) / "status.json").write_text('{"processor_seconds": 5.0, "budget_seconds": 20.0}')
    assert shown() == [0.25]


def test_the_reliability_of_a_metric_is_stated() -> None:
    state = session(experiments=12)
    best = state.best
    own = [
        Event(
            0,
            0.0,
            e.HiddenScored(
                experiment=best,
                metric=1.5,
                gap=4.2,
                warning="#5 gains 4.2σ less on the hidden slice than on the visible one",
            ),
        ),
        Event(
            0,
            0.0,
            e.Certified(
                experiment=best,
                outcome="refuted",
                p=0.2,
                z=0.8,
                gain=0.01,
                low=-0.1,
                high=math.inf,
                runs=8,
                file="c.json",
                reason="z 0.80 is under 2.33",
            ),
        ),
    ]
    shown = views.show(state, best, own)
    assert shown["hidden"]["gap"] == 4.2 and shown["certificate"]["high"] is None
    json.loads(wire.dumps(shown))
    said = dict(views.trust_lines(shown))
    assert "4.2σ smaller there; #5 gains" in said["hidden"] and "refuted (p 0.2)" in said["certified"]
    assert "from 1 run" in said["number"] or "runs" in said["number"]
    for fact in (*(event.body for event in own), e.NoiseEstimated(sigma=0.004, low=0.002, high=math.inf, df=1.0)):
        fold(state, Event(state.seq + 1, state.time, fact))
    trust = views.status(state, False, state.time)["trust"]
    assert trust["noise"] == {"sigma": 0.004, "low": 0.002, "high": None, "df": 1.0}
    assert trust["hidden_gap"] == 4.2 and trust["certified"] == "refuted" and trust["runs"] >= 1
    assert dict(views.trust_lines(views.show(state, best, own)))["sigma"] == "0.0040 a run (0.0020 to unknown)"


def test_the_best_is_first_in_the_leaderboard_after_a_correction() -> None:
    state = session(experiments=12)
    best, earlier = state.best, state.experiments[state.best].metric
    assert earlier is not None
    late = max(n for n, x in state.experiments.items() if x.verdict == "discarded")
    worse = e.Judged(
        experiment=late,
        verdict="discarded",
        metric=9.9,
        delta=7.9,
        reason="no better",
        runs=1,
        best_claim=1.999,
        best_claim_runs=3.0,
        best_claim_results=1,
    )
    fold(state, Event(state.seq + 1, state.time, worse))
    assert state.best_metric == state.experiments[best].metric == 1.999 != earlier
    assert views.leaderboard(state)[0]["experiment"] == best
    assert views.status(state, False, state.time)["best"]["metric"] == 1.999
    assert views.chart(state).best[-1] == (best, 1.999)
    tsv = {line.split("\t")[1] for line in views.results_tsv(state).splitlines()}
    assert "1.999000" in tsv


def test_status_has_the_right_numbers() -> None:
    state = session(experiments=12, live=True)
    status = views.status(state, True, state.time + 6)
    assert status["state"] == "running" and status["engine"] == {"pid": 4321, "alive": True}
    assert status["experiments"]["total"] == 13  # 12, and the one being thought about
    assert sum(status["experiments"][v] for v in VERDICTS) == 11
    assert status["baseline"] == {"metric": 2.0, "sigma": 0.004, "n": 3}
    assert status["best"]["experiment"] == 5 and status["best"]["metric"] < 2.0
    assert status["running"] == [
        {"experiment": 12, "slot": "cpu1", "phase": "training", "progress": pytest.approx(7 / 20)}
    ]
    assert status["started"] == START and 0 < status["device"]["busy_share"] < 1
    assert status["cost"]["usd"] == pytest.approx(12 * 0.004)


def test_a_running_session_without_an_engine_is_crashed() -> None:
    state = session(experiments=3, live=True)
    assert views.status(state, False, state.time)["state"] == "crashed"
    assert views.status(state, False, state.time)["running"] == []
    finished = session(experiments=3)
    assert views.status(finished, False, finished.time)["state"] == "finished"


def test_the_baseline_is_best_before_anything_is_kept() -> None:
    state = session(experiments=3, verdicts=["discarded"])
    best = views.status(state, False, state.time)["best"]
    assert best["experiment"] == 0 and best["metric"] == 2.0 and best["commit"] == state.session.commit  # type: ignore[union-attr]


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_leaderboard_starts_with_the_best(direction: str) -> None:
    state = session(experiments=36, direction=direction)
    board = views.leaderboard(state)
    assert len(board) == 36 and all(list(entry) == LEADERBOARD for entry in board)
    assert board[0]["experiment"] == state.best
    kept = [entry["metric"] for entry in board if entry["verdict"] == "kept"]
    assert kept == sorted(kept, reverse=direction == "max")
    words = [entry["verdict"] for entry in board]
    assert words.index("provisional") == len(kept)
    assert all(entry["experiment"] != 0 for entry in board)


def test_rows_show_experiments_without_verdict() -> None:
    state = session(experiments=5, live=True)
    assert [(r.number, r.word, r.verdict) for r in views.rows(state)[-2:]] == [
        (6, "thinking", None),
        (5, "running", None),
    ]
    assert all(r.verdict for r in views.rows(state, live=False))
    assert [r.number for r in views.rows(state) if r.is_best] == [state.best]


def test_results_have_the_five_columns_of_autoresearch() -> None:
    hypotheses = [("tab\there and\nnewline \x1b[31mred", "other")]
    state = session(experiments=12, hypotheses=hypotheses)
    lines = views.results_tsv(state).splitlines()
    assert lines[0] == "commit\tval_bpb\tmemory_gb\tstatus\tdescription"
    assert len(lines) == 1 + 1 + 12
    for line in lines[1:]:
        commit, metric, memory, word, what = line.split("\t")
        assert len(commit) in (1, 7) and float(metric) >= 0 and float(memory) >= 0
        assert word in ("keep", "discard", "crash") and (word == "crash") == (float(metric) == 0)
        assert what in ("baseline", "tab here and newline red")
    assert lines[1].split("\t")[1:] == ["2.000000", "0.4", "keep", "baseline"]


@pytest.mark.parametrize("formula", ["=1+1", " \t=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\r=1", '"=1', "＝1"])
def test_no_description_is_a_formula(formula: str) -> None:
    state = session(experiments=1, hypotheses=[(formula, "other")])
    described = views.results_tsv(state).splitlines()[2].split("\t")[-1]
    assert described == "'" + " ".join(formula.split())


def test_show_has_the_last_diff_and_both_kinds_of_reasoning() -> None:
    events = story_events(experiments=2)
    own = [event for event in events if getattr(event.body, "experiment", None) == 1]
    state = state_of(events)
    shown = views.show(state, 1, own, "thought \x1b]0;title\x07aloud")
    trust = ["noise", "claim", "hidden", "certificate"]
    assert list(shown) == [*LEADERBOARD, "diff", "reasoning", "reason", *trust] and isinstance(shown["runs"], list)
    assert (
        shown["diff"].startswith("diff --git") and shown["reasoning"] == "thought aloud\n\nBecause of what #0 showed."
    )
    assert [list(run) for run in shown["runs"]] == [
        [
            "kind",
            "metric",
            "self_reported",
            "seconds",
            "steps",
            "seed",
            "ended",
            "stopped_at",
            "audit",
            "run",
            "commit",
            "budget",
            "slot",
            "device",
        ]
    ]
    rebased = Event(
        999, 0.0, e.Rebased(experiment=1, parent=0, parent_commit="a", commit="b", diff="diff --git a/x b/x\n+new\n")
    )
    assert "+new" in views.show(state, 1, [*own, rebased])["diff"]
    with pytest.raises(KeyError):
        views.show(state, 77, [])


def test_events_have_the_expected_sentences() -> None:
    events = story_events(experiments=12)
    said = [views.sentence(event, Metric("val_bpb")) for event in events]
    assert all(text is None or (text == text.strip() and "\n" not in text) for text in said)
    text = "\n".join(line for line in said if line)
    for words in ("baseline val_bpb 2.0000", "#1 kept val_bpb", "#4 crashed: ValueError", "session finished"):
        assert words in text


def test_every_event_type_has_a_sentence() -> None:
    assert set(typing.get_args(e.Body)) == set(story._SENTENCES)


def test_a_failed_check_shows_the_end_of_its_output() -> None:
    event = Event(
        1,
        0.0,
        e.Checked(
            experiment=3, name="smoke", ok=False, seconds=1.0, output="Traceback\n\x1b[1mValueError: bad\x1b[0m\n"
        ),
    )
    assert views.sentence(event) == "#3 failed its check smoke: ValueError: bad"


def test_events_since_the_last_visit_are_summarized() -> None:
    state = session(experiments=12)
    fold(state, Event(state.seq + 1, state.time, e.Noted("warning", "the disk fills up")))
    middle = state.experiments[4].ended
    assert middle is not None
    away = views.away(state, middle, state.time)
    assert away.experiments == 8 and [number for number, _, _ in away.kept] == [5]
    assert away.best_before == state.experiments[1].metric and away.best_after == state.best_metric
    assert away.usd == pytest.approx(8 * 0.004) and [n.text for n in away.notes] == ["the disk fills up"]
    whole = views.away(state, 0.0, state.time)
    assert whole.best_before is None and whole.experiments == 12 and [k[0] for k in whole.kept] == [1, 5]
    assert not views.away(state, state.time, state.time).worth_saying


def test_the_chart_has_every_experiment_and_the_best_line() -> None:
    state = session(experiments=24)
    chart = views.chart(state)
    assert chart.best[0] == (0, 2.0) and chart.best[-1] == (state.best, state.best_metric)
    assert [v for _, v in chart.best] == sorted((v for _, v in chart.best), reverse=True)
    assert {d.experiment for d in chart.dots} | {n for n, _ in chart.failed} == set(range(1, 25))
    low, high = chart.range()
    assert low < min(v for _, v in chart.best) and high > 2.0
    empty = views.chart(State())
    assert empty.dots == () and empty.range()[0] < empty.range()[1]


def test_one_outlier_does_not_flatten_the_chart() -> None:
    events = story_events(experiments=3)
    events += [
        Event(1000, 0.0, e.ExperimentStarted(experiment=50, parent=0, parent_commit="a", researcher="x")),
        Event(1001, 0.0, e.Judged(experiment=50, verdict="discarded", metric=1e9, delta=1e9, reason="exploded")),
    ]
    low, high = views.chart(state_of(events)).range()
    assert high - low < 1.0


@given(st.text())
def test_cleaned_text_has_no_control_characters(text: str) -> None:
    cleaned = views.clean(text)
    for character in cleaned:
        assert character in "\n\t" or character >= " "
        assert not 0x7F <= ord(character) <= 0x9F and not 0xD800 <= ord(character) <= 0xDFFF
    assert not set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200f") & set(cleaned)
    assert views.clean(cleaned) == cleaned
    assert "\n" not in views.one_line(text) and "  " not in views.one_line(text)


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x9b2Jclear", "clear"),
        ("\x1b]52;c;never closed\nnext line", "\nnext line"),
        ("50%\r100%\r\n", "50%\n100%\n"),
        ("a\x08b\x00c", "abc"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("emoji 👩‍🔬 and é and 中文", "emoji 👩‍🔬 and é and 中文"),
    ],
)
def test_examples_are_cleaned(text: str, is_: str) -> None:
    assert views.clean(text) == is_


def test_symbols_have_an_ascii_replacement() -> None:
    for word in (*VERDICTS, "running", "paused", "stopping", "stopped", "finished", "starting"):
        assert len(views.sign(word)) == 1 and views.sign(word, ascii_only=True).isascii()
    assert views.sign("telepathy") == " "
    assert views.to_ascii("✓ −0.5 ±0.1 → 中") == "+ -0.5 +-0.1 -> ?"


def test_a_short_reason_has_no_code() -> None:
    told = "train.py: the search text was not found; the nearest lines are\n 3 | import time\nmend: copy it"
    assert views.in_short(told) == "train.py: the search text was not found; hint: copy it"
    assert views.in_short("no better") == "no better" and views.in_short("") == ""
