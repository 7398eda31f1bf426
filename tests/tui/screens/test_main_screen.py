"""The whole screens: sizes, faults, hostile texts, ten thousand rows, a second visit."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from core.client.live import Client, Connection
from core.client.sync import read_state
from core.record import events as e
from core.session.disk import write_json
from core.session.log import Log
from tests.recorded import make_session
from tests.tui.conftest import Clock, Show, text_of, until
from tests.tui.stage import Playing, Stage, build, gpu_readings
from tui import actions
from tui.app import Cockpit
from tui.main import main
from tui.paint.layout import MIN_RUN_ROWS
from tui.paint.theme import Look
from tui.screens.base import size_of
from tui.screens.dialogs import AwayCard
from tui.screens.main_screen import MainScreen
from tui.screens.session_picker import glances
from tui.widgets.status import Footer

SIZES = [(200, 60), (160, 48), (120, 36), (100, 30), (99, 30), (80, 24), (60, 15), (40, 10), (39, 9), (20, 5), (5, 2)]


def test_three_sizes_show_their_layout() -> None:
    assert [size_of(*s) for s in SIZES] == ["full"] * 4 + ["tabs"] * 4 + ["words"] * 3


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_shows_the_session(show: Show, size: tuple[int, int]) -> None:
    async with show(size=size) as (pilot, app, _source):
        shown = text_of(app)
        assert max(len(line) for line in shown.splitlines()) <= size[0]
        if size[0] >= 20:
            assert "nov23" in shown and "running" in shown.lower()
        if size_of(*size) == "full":
            for name in (
                "reasoning",
                "diff",
                "progress",
                "leaderboard",
                "slots",
                *["run"] * (size[1] >= MIN_RUN_ROWS),
            ):
                assert name in shown
        await pilot.press("tab", "z", "4", "j", "enter", "escape", "question_mark")


async def test_resizing_during_output_leaves_no_artifacts(show: Show) -> None:
    async with show() as (pilot, app, _source):
        for size in [(80, 24), (20, 5), (160, 48), (101, 31), (39, 12), (160, 48)]:
            await pilot.resize_terminal(*size)
            await pilot.pause(0.05)
        await pilot.pause(0.7)
        after = text_of(app)
    async with show() as (pilot, app, _source):
        await until(pilot, lambda: text_of(app) == after)


async def test_numbers_are_aligned(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await until(pilot, lambda: "discarded" in text_of(app))
        lines = [line[75:] for line in text_of(app).splitlines()[19:] if "✓ kept" in line or "· discarded" in line]
        columns = {line.rindex("0.0040") for line in lines if "0.0040" in line}
        assert len(columns) == 1 and len(lines) > 5


async def test_gpu_readings_are_shown(show: Show) -> None:
    async with show() as (pilot, app, source):
        source.pulse = gpu_readings(source.pulse.time if source.pulse else 0.0, source.state)
        source.version += 1
        await until(pilot, lambda: "402 W" in text_of(app))
        assert all(words in text_of(app) for words in ("98%", "44/80 GiB", "71 °C", "H100"))


async def test_a_slot_set_aside_says_why_and_a_power_cap_is_no_warning(show: Show) -> None:
    async with show(size=(160, 48)) as (pilot, app, source):
        reading = gpu_readings(source.pulse.time if source.pulse else 0.0, source.state)
        capped = replace(reading.devices[0], throttle="power cap")
        source.pulse = replace(reading, devices=(capped,))
        lost = {"gpu1.10": "the driver says: GPU is lost"}
        source.happen(e.SlotsChanged(("gpu0", "gpu1.10"), lost))
        await until(pilot, lambda: "set aside  the driver says: GPU is lost" in text_of(app))
        assert "402 W (power cap)" in text_of(app) and "throttled" not in text_of(app)
        source.happen(e.SlotsChanged(("gpu0", "gpu1.10")))
        await until(pilot, lambda: "set aside" not in text_of(app))


async def test_a_lost_engine_shows_a_countdown_and_dims_stale_data(show: Show) -> None:
    async with show() as (pilot, app, source):
        now = app.clock()
        source.lose(now - 17, now + 4)
        await until(pilot, lambda: "trying again in 4 s" in text_of(app))
        assert "LOST" in text_of(app) and "17s old" in text_of(app)
        board = app.screen.board  # type: ignore[attr-defined]
        assert all(s.style.dim for s in board.render_line(3) if s.style)
        source.connection = Connection("live", now)
        source.version += 1
        await until(pilot, lambda: "LOST" not in text_of(app))
        assert not any(s.style.dim for s in board.render_line(3) if s.style)


async def test_a_session_without_engine_opens_read_only(tmp_path: Path) -> None:
    paths = make_session(tmp_path / "project", 12)
    app = Cockpit(tmp_path, paths, source=Client(paths), look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "R resumes it" in text_of(app))
        assert "FINISHED" in text_of(app) and "read only" in text_of(app)
        assert app.view.now == app.view.state.time


async def test_a_dead_engine_is_shown_as_crashed(tmp_path: Path) -> None:
    paths = make_session(tmp_path / "project", 7, live=True)
    app = Cockpit(tmp_path, paths, source=Client(paths), look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "the engine has ended" in text_of(app))
        assert "CRASHED" in text_of(app)
        await until(pilot, lambda: "interrupted" in text_of(app))
        rows = [line for line in text_of(app).splitlines() if " #8 " in line or "  8 " in line]
        assert rows and not any(word in line for line in rows for word in ("training", "thinking", "●"))
        live = app.view.state.live_runs()
        assert live and {app.view.word_of_run(run) for run in live} == {"interrupted"}
    assert "interrupted" in glances(tmp_path / "project")[0].words


def test_the_runs_of_a_dead_engine_are_shown_as_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_session(tmp_path / "project", 7, live=True)
    run = read_state(paths).live_runs()[0]
    assert main(["show", str(run.experiment), paths.name, "-C", str(paths.project)]) == 0
    assert any(line.split()[:2] == [run.kind, "interrupted"] for line in capsys.readouterr().out.splitlines())


async def test_a_failed_start_says_its_whole_reason(tmp_path: Path) -> None:
    paths = make_session(tmp_path / "project", 0, live=True)
    reason = f"the baseline gave no number that counts: {'a long line of words ' * 8}and its end"
    log = Log.append_to(paths.database)
    log.append([e.StateChanged("crashed", reason), e.EngineStopped("")])
    log.close()
    app = Cockpit(tmp_path, paths, source=Client(paths), look=Look())
    async with app.run_test(size=(100, 36)) as pilot:
        await until(pilot, lambda: f"{reason} R resumes it" in " ".join(text_of(app).split()))
        assert "baseline is running" not in text_of(app) and "is being measured" not in text_of(app)


async def test_an_empty_session_is_shown(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=0, live=False)
    app = Cockpit(tmp_path, stage.paths, source=Playing(stage), look=Look(), clock=Clock(stage.now))
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: "no change yet" in text_of(app))


HOSTILE = "\x1b]0;pwned\x07\x1b[2J\x9b31m漢字😀👩‍👩‍👧 \u202eabc\x00\r\n\ttail " + "x" * 100_000


async def test_control_sequences_do_not_reach_the_terminal(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=3)
    paths = stage.paths
    (paths.reasoning(4)).write_text(
        json.dumps({"t": 0, "k": "text", "s": HOSTILE}) + "\n" + json.dumps({"t": 0, "k": "tool", "s": HOSTILE}) + "\n"
        "not json\n[1]\n"
    )
    source = Playing(stage)
    run = source.state.live_runs()[0].run
    (paths.run(run) / "output.log").write_bytes(HOSTILE.encode() + b"\n\xff\xfe\n\x1b[?1049l")
    app = Cockpit(tmp_path, paths, source=source, look=Look(), clock=Clock(stage.now))
    async with app.run_test(size=(120, 36)) as pilot:
        diff = f"--- a/x\n+++ b/{HOSTILE[:40]}\n@@ -1 +1 @@ {HOSTILE[:60]}\n-{HOSTILE[:80]}\n+{HOSTILE}\n"
        source.happen(
            e.Proposed(
                experiment=4,
                hypothesis=HOSTILE,
                rationale=HOSTILE,
                expected=0.1,
                kind=HOSTILE[:30],
                diff=diff,
                files=(HOSTILE[:20],),
                added=1,
                removed=1,
                seconds=1.0,
            ),
            e.Noted("error", HOSTILE),
            e.GuidanceQueued(guidance=1, text=HOSTILE),
            e.Judged(experiment=4, verdict="crashed", metric=None, delta=None, reason=HOSTILE),
        )
        for key in ("1", "4", "j", "j", "enter", "2", "3", "4", "5", "escape", "e", "j", "escape", "question_mark"):
            await pilot.press(key)
            await pilot.pause(0.05)
            shown = text_of(app)
            assert all(c == "\n" or c.isprintable() for c in shown), key
            assert "pwned" not in shown


async def test_the_away_card_appears_once_and_any_key_closes_it(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=14)
    write_json(stage.paths.seen, {"seq": 40, "time": stage.now - 300, "best": 1, "best_metric": 1.98})
    app = Cockpit(tmp_path, stage.paths, source=Playing(stage), look=Look(), clock=Clock(stage.now))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, AwayCard) and "while you were away" in text_of(app))
        assert "5:00 away" in text_of(app) and "→" in text_of(app)
        app.clock.now += 1  # type: ignore[attr-defined]
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        await pilot.press("q")
    assert json.loads(stage.paths.seen.read_text())["seq"] == app.view.state.seq


async def test_reasoning_follows_and_counts_what_is_new(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=5)
    app = Cockpit(tmp_path, stage.paths, source=Playing(stage), look=Look(), clock=Clock(stage.now))

    def think(count: int) -> None:
        with stage.paths.reasoning(6).open("a") as handle:
            for n in range(count):
                handle.write(json.dumps({"t": 0, "k": "text", "s": f"thought {n} of {count}\n"}) + "\n")

    async with app.run_test(size=(120, 36)) as pilot:
        think(40)
        await until(pilot, lambda: "thought 39 of 40" in text_of(app))
        await pilot.press("1", "pageup")
        before = [line[:40] for line in text_of(app).splitlines()[3:11]]
        think(37)
        await until(pilot, lambda: "37 new" in text_of(app))
        assert [line[:40] for line in text_of(app).splitlines()[3:11]] == before
        await pilot.press("G")
        await until(pilot, lambda: "thought 36 of 37" in text_of(app))
        assert " new " not in text_of(app)


async def test_the_next_experiment_is_followed(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=5)
    source = Playing(stage)
    app = Cockpit(tmp_path, stage.paths, source=source, look=Look(), clock=Clock(stage.now))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "#6 thinking" in text_of(app))
        source.pulse = None
        source.happen(
            e.Judged(experiment=6, verdict="rejected", metric=None, delta=None, reason="no"),
            e.ExperimentStarted(experiment=7, parent=0, parent_commit="abc", researcher="claude"),
        )
        await until(pilot, lambda: "#7 thinking" in text_of(app))


@pytest.mark.parametrize("look,ascii_only", [("ansi", False), ("plain", False), ("dark", True), ("plain", True)])
async def test_every_theme_renders(show: Show, look: str, ascii_only: bool) -> None:
    async with show(look=look, ascii_only=ascii_only) as (pilot, app, _source):
        await pilot.press("4", "j", "question_mark")
        await pilot.pause()
        for strip in app.screen._compositor.render_strips():
            for segment in strip:
                if ascii_only:
                    assert segment.text.isascii(), segment.text
        if look == "plain":
            main = app.screen_stack[0].board  # type: ignore[attr-defined]
            styles = [s.style for y in range(main.size.height) for s in main.render_line(y) if s.style]
            assert all(style.color is None for style in styles)


@pytest.mark.slow
async def test_random_keys_and_sizes_cause_no_error(show: Show) -> None:
    draw = random.Random(7)
    keys = [key for action in actions.ACTIONS for key in action.keys if action.name != "detach"]
    keys += ["y", "n", "a", "b", "ctrl+s", "backspace", "delete", "ctrl+c"]
    async with show() as (pilot, app, _source):
        for _ in range(150):
            await pilot.press(draw.choice(keys))
            if draw.random() < 0.06:
                await pilot.resize_terminal(draw.randint(10, 170), draw.randint(4, 50))
        assert app.is_running and app.failure is None
        for _ in range(6):
            app.clock.now += 1  # type: ignore[attr-defined]
            await pilot.press("escape")
        assert app.query(Footer) is not None


async def test_clicks_and_the_wheel_work(show: Show) -> None:
    async with show() as (pilot, app, _source):
        board = app.screen.board  # type: ignore[attr-defined]
        await until(pilot, lambda: len(board.order) > 3)
        await pilot.click("#board", offset=(10, 5))
        await pilot.pause()
        assert app.view.selected == board.order[3] and app.screen.focused is board
        await pilot.click("#diff", offset=(10, 5))
        assert app.screen.focused is app.screen.diff  # type: ignore[attr-defined]


def test_the_staged_session_is_deterministic(tmp_path: Path) -> None:
    one, two = build(tmp_path / "a", 6), build(tmp_path / "b", 6)
    assert one.now == two.now and isinstance(one, Stage)
