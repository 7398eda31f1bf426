"""Lines and panes in uncommon states: faults, scoring, repeats, before the baseline, without colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.client.live import Client
from core.record import commands
from core.record import events as e
from core.record.events import Body
from tests.recorded import make_session
from tests.tui.conftest import Clock, Show, text_of, until
from tests.tui.stage import Playing, Stage, build
from tui.app import Cockpit
from tui.cli.output import Output, _cells
from tui.paint.theme import Look, choose_look


def cockpit(stage: Stage, source: Playing) -> Cockpit:
    return Cockpit(stage.paths.project, stage.paths, source=source, look=Look(), clock=Clock(stage.now))


@pytest.mark.parametrize("size", [(160, 48), (80, 24), (39, 9)])
async def test_engine_problems_are_first_and_in_the_warning_colour(show: Show, size: tuple[int, int]) -> None:
    async with show(size=size) as (pilot, app, source):
        source.happen(e.GuidanceQueued(guidance=7, text="try a wider MLP"))
        assert source.pulse is not None
        source.pulse = replace(source.pulse, trouble="the disk is full: 0 bytes \x1b[31mfree")
        source.version += 1
        await until(pilot, lambda: "the disk is full: 0 bytes free" in " ".join(text_of(app).split()))
        if size[0] >= 80:
            line = app.screen.now_line  # type: ignore[attr-defined]
            assert line.display and line.render_line(0)._segments[0].style == app.look["banner_warn"]
        source.pulse = replace(source.pulse, trouble="")
        source.version += 1
        await until(pilot, lambda: "the disk is full" not in " ".join(text_of(app).split()))


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "dumb", "AUTORESEARCH_LOOK": "dark"}])
async def test_a_dumb_terminal_has_no_colours(stage: Stage, environment: dict[str, str]) -> None:
    look = choose_look({"LANG": "C.UTF-8", "COLORTERM": "truecolor", **environment})
    assert look.name == "plain" and look.ascii
    app = Cockpit(stage.paths.project, stage.paths, source=Playing(stage), look=look, clock=Clock(stage.now))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("i", "x")
        styles = [s.style for strip in app.screen._compositor.render_strips() for s in strip if s.style]
        colours = [colour for style in styles for colour in (style.color, style.bgcolor) if colour is not None]
        assert styles and all(colour.is_default for colour in colours)


def start(experiment: int, run: int, slot: str, kind: str = "candidate") -> Body:
    return e.RunStarted(run=run, experiment=experiment, kind=kind, slot=slot, seed=1, commit="abc", budget="20s")  # type: ignore[arg-type]


async def test_the_status_line_describes_the_training_run(show: Show) -> None:
    async with show() as (pilot, app, source):
        source.pulse = None
        first = source.state.live_runs()[0]
        other = max(source.state.live)
        source.happen(
            e.RunPhaseChanged(first.run, first.experiment, "scoring"),
            start(other, source.state.next_run, "cpu1"),
        )

        def line() -> str:
            return text_of(app).splitlines()[0]

        await until(pilot, lambda: f"#{other} starting" in line())
        source.happen(e.RunPhaseChanged(source.state.next_run - 1, other, "training"))
        await until(pilot, lambda: f"#{other} training" in line())
        source.happen(
            e.RunFinished(
                run=source.state.next_run - 1,
                experiment=other,
                ended="done",
                metric=1.99,
                seconds=20.0,
                wall_seconds=22.0,
            ),
        )
        await until(pilot, lambda: f"#{first.experiment} scoring" in line())
        assert "100%" not in line() and "━" not in line()


async def test_the_status_line_describes_baseline_runs(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=0, live=False)
    front = 'edit = ["a.py"]\nrun = "python a.py"\n[metric]\nname = "x"\npattern = "^x: (.*)"\n[decide]\nbaseline = 4\n'
    stage.paths.program.write_text(f"+++\n{front}+++\nA project.\n")
    source = Playing(stage)
    state = source.state
    state.baseline, state.live = None, (0,)
    base = replace(state.experiments[0], metric=None, runs=()) if 0 in state.experiments else None
    assert base is not None
    state.experiments[0] = base
    app = cockpit(stage, source)
    async with app.run_test(size=(160, 48)) as pilot:
        source.happen(start(0, 1, "cpu0", "baseline"))
        await until(pilot, lambda: "the baseline is running (1 of 4)" in text_of(app))
        source.happen(
            e.RunFinished(run=1, experiment=0, ended="done", metric=1.9876, seconds=20.0, wall_seconds=22.0),
            start(0, 2, "cpu0", "baseline"),
            e.ExperimentStarted(experiment=1, parent=0, parent_commit="abc", researcher="claude"),
            start(1, 3, "cpu1"),
        )
        await until(pilot, lambda: "the baseline is running (2 of 4)" in text_of(app))
        assert "so far 1.9876" in text_of(app)


async def test_a_repeated_provisional_experiment_is_live(show: Show) -> None:
    async with show() as (pilot, app, source):
        source.pulse = None
        state = source.state
        number = state.live_runs()[0].experiment
        run = state.live_runs()[0].run
        source.happen(
            e.RunFinished(run=run, experiment=number, ended="done", metric=1.9, seconds=20.0, wall_seconds=22.0),
            e.Judged(experiment=number, verdict="provisional", metric=1.9, delta=-0.002, reason="better by 1.2 sigma"),
        )
        if number not in state.live:  # unchanged by an engine that repeats
            state.live = (number, *state.live)
        source.version += 1
        await until(pilot, lambda: f"#{number} provisional, to be repeated" in text_of(app))
        board = app.screen.board  # type: ignore[attr-defined]

        def row() -> str:
            lines = text_of(app).splitlines()
            return next(x for x in lines if f" {number} ◐ " in x)

        await until(pilot, lambda: number in board.order[: len(state.live)])
        assert "provisional" in row() and "1.9000" in row()
        source.happen(start(number, state.next_run, "cpu0", "repeat"))
        source.happen(e.RunPhaseChanged(state.next_run - 1, number, "training"))
        await until(pilot, lambda: "◐ training" in row())
        await pilot.press("4")
        board.choose(number)
        await pilot.press("x")
        await until(pilot, lambda: source.sent == [commands.Skip(number)])
        await pilot.press("enter")
        await until(pilot, lambda: "◐ provisional · repeat training" in text_of(app))
        assert "it is being repeated" in text_of(app)


async def test_a_session_without_engine_opens_on_the_last_reasoning(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=5, live=False)
    log_source = Playing(stage)
    highest = max(log_source.state.experiments)
    for number in (highest, highest - 1):
        stage.paths.reasoning(number).write_text("")
    app = Cockpit(tmp_path, stage.paths, source=Client(stage.paths), look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "Two levers are left" in text_of(app))
        assert f"reasoning · #{highest - 2}" in text_of(app)


async def test_a_session_without_reasoning_shows_the_hypothesis(tmp_path: Path) -> None:
    paths = make_session(tmp_path / "project", 12)
    for stream in paths.reasoning(1).parent.glob("*.jsonl"):
        stream.unlink()
    app = Cockpit(tmp_path, paths, source=Client(paths), look=Look())
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: "FINISHED" in text_of(app))
        x = app.view.newest
        assert x is not None and x.verdict is not None
        reasoning = app.screen.reasoning  # type: ignore[attr-defined]
        await until(pilot, lambda: any(x.hypothesis in text for _, text, _ in reasoning._entries))
        assert any(text.startswith(f"{x.verdict}: ") for _, text, _ in reasoning._entries)


def test_table_cells_are_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    assert [_cells(t) for t in ("abc", "✓ kept", "−0.1", "漢字", "e\u0301", "\x1b[36m漢 ok\x1b[0m")] == [
        3,
        6,
        4,
        4,
        1,
        5,
    ]
    Output().table(["a", "b"], [["漢", "x"], ["abc", "y"]])
    assert capsys.readouterr().out.splitlines() == ["a    b", "漢   x", "abc  y"]


async def test_time_updates_repaint_only_what_they_change(show: Show) -> None:
    async with show() as (pilot, app, source):
        screen = app.screen
        panes = [screen.board, screen.chart, screen.diff]  # type: ignore[attr-defined]
        await until(pilot, lambda: screen.diff.highlights)  # type: ignore[attr-defined]
        await pilot.pause(0.5)
        painted = [pane._lines for pane in panes]
        line = text_of(app).splitlines()[0]
        app.clock.now += 7  # type: ignore[attr-defined]
        await until(pilot, lambda: text_of(app).splitlines()[0] != line)
        assert all(pane._lines is lines for pane, lines in zip(panes, painted, strict=True))
        source.happen(e.Noted("info", "something"))
        await until(pilot, lambda: all(p._lines is not ls for p, ls in zip(panes, painted, strict=True)))


async def test_a_start_beside_a_run_is_next_in_its_slot(show: Show) -> None:
    async with show(size=(160, 48)) as (pilot, app, source):
        first = next(run for run in source.state.live_runs() if run.phase == "training")
        other = max(source.state.live)
        assert other != first.experiment
        source.happen(start(other, source.state.next_run, first.slot))

        def row(label: str) -> str:
            return next((line for line in text_of(app).splitlines() if line.startswith(f"│ {label} ")), "")

        await until(pilot, lambda: f"#{other} starting" in row("next"))
        assert f"#{first.experiment} " in row(first.slot) and "training" in row(first.slot)
        source.connection = replace(source.connection, status="dead")
        source.version += 1
        await until(pilot, lambda: f"#{other} interrupted" in row("next"))
