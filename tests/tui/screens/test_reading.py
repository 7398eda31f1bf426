"""The screens for reading: lineage, failures, costs, logs, comparison and curves; and the keys of the panes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.record import events as e
from tests.projects import git, make_project
from tests.tui.conftest import Clock, Show, text_of, until
from tests.tui.stage import Playing, build
from tui import actions
from tui.app import Cockpit
from tui.paint.layout import PaneLayout
from tui.paint.theme import Look
from tui.screens.base import ActionScreen
from tui.screens.main_screen import MainScreen
from tui.screens.reading.compare import CompareScreen
from tui.screens.reading.costs import CostsScreen
from tui.screens.reading.failures import FailuresScreen
from tui.screens.reading.lineage import LineageScreen
from tui.screens.reading.logs import LogsScreen
from tui.widgets.leaderboard.listing import Listing

READING: dict[str, type[ActionScreen]] = {
    "lineage": LineageScreen, "failures": FailuresScreen, "costs": CostsScreen, "logs": LogsScreen,
    "compare": CompareScreen,
}  # fmt: skip


async def shows(pilot: Pilot[int], *words: str) -> None:
    """Wait until all of these words are on the screen."""
    app = pilot.app
    assert isinstance(app, Cockpit)
    try:
        await until(pilot, lambda: all(w in text_of(app) for w in words))
    except AssertionError:
        raise AssertionError(f"{[w for w in words if w not in text_of(app)]} not in\n{text_of(app)}") from None


def test_every_action_of_a_reading_screen_has_one_key_and_works() -> None:
    for place in READING:
        listed = list(actions.REGISTRY.for_place(place))
        keys = [key for action in listed for key in action.keys]
        assert len(keys) == len(set(keys)), place
        assert {"escape", "help", "down", "detach"} <= {action.name for action in listed}


async def test_each_question_needs_at_most_two_keys(show: Show) -> None:
    """Also checks the screen behind each key, in one app."""
    async with show(size=(120, 48)) as (pilot, app, source):
        await pilot.press("L")
        await shows(pilot, "lineage", "the unchanged code", "├─◐ #8", "★ #13")
        listing = app.screen.query_one(Listing)
        assert listing.cursor == source.state.best
        await pilot.press("g", "m", "j", "m", "X")
        assert app.view.marks == [0, 1]
        await shows(pilot, "failed experiments", "README.md is not among the editable files")
        await pilot.press("j")
        await shows(pilot, "run 7 crashed after 6s", "ValueError: shapes")
        await pilot.press("enter")
        await shows(pilot, "1 idea", "#4  ✗ crashed")
        await pilot.press("escape", "dollar_sign")
        await shows(pilot, "Slots", "training", "By verdict", "claude · claude-opus-5-5", "Per kept change")
        await pilot.press("escape", "c")
        await shows(pilot, "#1", "the baseline", "difference", "better")
        await pilot.press("2")
        await shows(pilot, "steps/s", "── baseline")
        await pilot.press("3")
        await shows(pilot, "vs the baseline", "+ # measured")
        await pilot.press("x", "1")
        await shows(pilot, "worse")
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


@pytest.mark.usefixtures("in_project")
async def test_an_experiment_has_its_curves_and_its_commands(show: Show) -> None:
    async with show(size=(120, 48)) as (pilot, app, source):
        number = source.state.best
        source.happen(e.HiddenScored(experiment=number, metric=1.96, gap=0.8, warning="smaller than chance explains"))
        app.open_experiment(number)
        await shows(pilot, f"git switch --detach refs/autoresearch/nov23/{number}")
        await shows(
            pilot, f"autoresearch-tui reproduce {number} --session nov23", "0.8σ smaller there. smaller than chance"
        )
        await pilot.press("4")
        await shows(pilot, "── baseline", "steps/s", "score ")
        await pilot.press("2", "d", "d")
        await shows(pilot, "vs the baseline")


async def test_logs_are_searched_and_followed(tmp_path: Path) -> None:
    stage = build(tmp_path, experiments=3)
    source = Playing(stage)
    run = stage.paths.run(source.state.live_runs()[0].run) / "output.log"
    stage.paths.engine_log.write_text("started\nwarning: something slow\n")
    app = Cockpit(tmp_path, stage.paths, source=source, look=Look(), clock=Clock(stage.now))
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.pause()
        await pilot.press("J")
        await shows(pilot, "step 00240")
        await pilot.press("slash", *"loss 4.", "enter")
        await shows(pilot, "/loss 4.", " of ")
        first = app.screen.file._found  # type: ignore[attr-defined]
        await pilot.press("N")
        assert app.screen.file._found < first  # type: ignore[attr-defined]
        await pilot.press("n")
        assert app.screen.file._found == first  # type: ignore[attr-defined]
        await pilot.press("escape", "g")
        with run.open("a") as handle:
            handle.write("".join(f"line {n}\n" for n in range(37)))
        await shows(pilot, "37 new")
        await pilot.press("G")
        await shows(pilot, "line 36")
        await pilot.press("2")
        await shows(pilot, "warning: something slow")
        await pilot.press("3")
        await shows(pilot, "no scorer program has run here")
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_the_leaderboard_is_sorted_searched_and_given_columns(show: Show) -> None:
    async with show() as (pilot, app, source):
        board = app.screen.board  # type: ignore[attr-defined]
        await until(pilot, lambda: bool(board.order))
        state = source.state
        live = len(state.live)
        await pilot.press("4", "s", "s")
        assert board.sort == "change"
        await pilot.press("o")
        deltas = [state.experiments[n].delta for n in board.order[live:]]
        known = [d for d in deltas if d is not None and d != 0]
        assert known == sorted(known, reverse=True)
        await pilot.press("v")
        assert {state.experiments[n].verdict for n in board.order} == {"kept"}
        await pilot.press("escape", "slash", *"kind:arch -verdict:kept metric<2", "enter")
        found = [state.experiments[n] for n in board.order]
        assert found and all(x.kind == "architecture" and x.verdict != "kept" and (x.metric or 9) < 2 for x in found)
        await pilot.press("escape", "w")
        await shows(pilot, "columns of the leaderboard")
        app.clock.now += 1  # type: ignore[attr-defined]
        await pilot.press(*["j"] * 5, "space", "enter")
        assert "runs" in board.columns
        await until(pilot, lambda: isinstance(app.screen, MainScreen) and " runs " in text_of(app))
        head = next(i for i, (_, _, name) in enumerate(board._heads) if name == "metric")
        await pilot.click("#board", offset=(board._heads[head][0] + 4, 1))
        assert board.sort == "metric" and not board.reverse
        await pilot.click("#board", offset=(board._heads[head][0] + 4, 1))
        assert board.reverse


async def test_the_chart_has_a_cursor_an_axis_and_a_zoom(show: Show) -> None:
    async with show() as (pilot, app, source):
        chart = app.screen.chart  # type: ignore[attr-defined]
        await until(pilot, lambda: bool(chart._series.points))
        await pilot.press("3", "left", "left")
        last = [p.number for p in chart._series.points]
        assert app.view.selected == last[-2]
        await shows(pilot, f"#{last[-2]} ", "enter opens")
        await pilot.press("u")
        await shows(pilot, "by hours")
        await pilot.press("u")
        await shows(pilot, "by dollars", "$0.")
        await pilot.press("u", "escape")
        source.happen(
            e.Certified(
                experiment=source.state.best,
                outcome="certified",
                p=0.001,
                z=3.1,
                gain=0.04,
                low=0.03,
                high=0.05,
                runs=6,
            )
        )
        await until(pilot, lambda: any(p.certified for p in chart._series.points))
        await pilot.click("#chart", offset=(30, 5))
        assert app.view.selected is not None


async def test_panes_are_sized_hidden_and_remembered(show: Show) -> None:
    async with show() as (pilot, app, _source):
        screen = app.screen
        assert isinstance(screen, MainScreen)
        before = screen.diff.size.width
        await pilot.press("2", "ctrl+right", "right_curly_bracket")
        await until(pilot, lambda: screen.diff.size.width > before)
        tall = screen.reasoning.size.height
        await pilot.press("1", "right_parenthesis")
        await until(pilot, lambda: screen.reasoning.size.height > tall)
        await pilot.press("3", "H")
        await until(pilot, lambda: not screen.chart.display and screen.board.size.width > 150)
        await pilot.press("3")
        await until(pilot, lambda: screen.chart.display and not screen.board.display)
        await pilot.press("4")
        await until(pilot, lambda: screen.board.display and not screen.chart.display)
        edge = screen.diff.region.x
        await pilot.mouse_down("#diff", offset=(0, 5))
        await pilot.hover("#reasoning", offset=(40, 5))
        await pilot.mouse_up("#reasoning", offset=(40, 5))
        await until(pilot, lambda: screen.diff.region.x < edge - 10)
        kept = PaneLayout.saved()
        assert kept.hidden == {"chart"} and kept.split[0] < 0.4
    async with show() as (pilot, app, _source):
        assert not app.screen.chart.display  # type: ignore[attr-defined]
        await pilot.press("Z")
        await until(pilot, lambda: all(p.display for p in app.screen.panes))  # type: ignore[attr-defined]


async def test_the_diff_has_three_bases_and_marks_words(tmp_path: Path) -> None:
    """Against the best and the baseline, with real commits."""
    stage = build(tmp_path, experiments=2)
    project = make_project(stage.paths.project, train="RATE = 1  # rate\nWIDTH = 8\n", program="x")
    first = git(project, "rev-parse", "HEAD")
    commits = []
    for text in ("RATE = 2  # rate\nWIDTH = 8\n", "RATE = 2  # rate\nWIDTH = 9\n"):
        (project / "train.py").write_text(text)
        git(project, "commit", "-qam", "more")
        commits.append(git(project, "rev-parse", "HEAD"))
    source = Playing(stage)
    app = Cockpit(tmp_path, stage.paths, source=source, look=Look(), clock=Clock(stage.now))
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.pause()
        assert source.state.session is not None
        source.happen(
            e.Committed(1, commits[0], first), e.Judged(experiment=1, verdict="kept", metric=1.9, delta=-0.1,
            reason="better", commit=commits[0]),
            e.Committed(2, commits[1], commits[0]),
        )  # fmt: skip
        object.__setattr__(source.state.session, "commit", first)
        await pilot.press("d")
        await shows(pilot, "vs the best #1")
        await pilot.press("d")
        await shows(pilot, "vs the baseline", "+2 −2")
        changed = [x.text[a:b] for x in app.screen.diff._diff for a, b in x.changed]  # type: ignore[attr-defined]
        assert changed == ["1", "8", "2", "9"]


async def test_tool_calls_are_collapsed(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await shows(pilot, "read_experiment 31", "read_file nanotrain")
        await pilot.press("t")
        await shows(pilot, "2 tools: read_experiment, read_file")
        assert "read_file nanotrain" not in text_of(app)
        await pilot.press("t")
        await shows(pilot, "lines of thinking")
        await pilot.press("t")
        await shows(pilot, "read_file nanotrain")


WALK = (
    "4 j j m j m L j X j dollar_sign J slash x enter n 2 escape escape c 2 3 escape 4 enter 1 2 3 4 5 6 escape "
    "1 t t 2 d 3 u left 6 e escape"
)
HOSTILE = (
    "\x1b]0;pwned\x07", "\x1b[2J", "\x9b31m", "漢字かな", "😀👩‍👩‍👧🏳️‍🌈", "\u202eabc\u2066", "\x00\x08\x7f", "\r\n",
    "\t", "é\u0301\u0301", "עברית العربية",
    "\u200b\ufeff", "x" * 100_000, "\x1bP1;q\x1b\\", "\x1b[?1049l", "\ud7ff\uffff", "[bold red]no markup[/]", "“”",
)  # fmt: skip


async def test_arbitrary_text_breaks_no_screen(tmp_path: Path) -> None:
    """Every text that a researcher or a run can write, drawn at random (seeded), through every screen and size."""
    draw = random.Random(20261)

    def text(most: int = 8) -> str:
        return "".join(draw.choice(HOSTILE) + draw.choice(("", " ", "word ")) for _ in range(draw.randint(1, most)))

    stage = build(tmp_path, experiments=4)
    paths, source = stage.paths, Playing(stage)
    lines = [json.dumps({"t": 0, "k": k, "s": text()}) for k in ("thinking", "text", "tool", "tool", "note")]
    paths.reasoning(5).write_text("\n".join([*lines, "not json", "[1]", '{"k": 3}', ""]))
    run = source.state.live_runs()[0].run
    (paths.run(run) / "output.log").write_bytes(text().encode() + b"\n\xff\xfe\xc3(\n" + text().encode())
    (paths.run(run) / "curve.tsv").write_text(
        "nan\tnan\tnan\n1e400\t1\t2\n-5\tx\t1\n0.1\t1\t2.0\n0.2\t2\tinf\n0.3\t3\t1.5\n"
    )
    paths.engine_log.write_text(text())
    app = Cockpit(tmp_path, paths, source=source, look=Look(), clock=Clock(stage.now))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause(0.2)
        diff = f"--- a/{text(2)}\n+++ b/{text(2)}\n@@ -1 +1 @@ {text(2)}\n-{text()}\n+{text()}\n" * 3
        proposal = e.Proposed(
            experiment=4,
            hypothesis=text(),
            rationale=text(),
            expected=1e300,
            kind=text(2),
            diff=diff,
            files=(text(2),),
            added=1,
            removed=1,
            seconds=1.0,
            extra={text(2): text()},
        )
        source.happen(
            proposal, e.Noted("error", text()), e.GuidanceQueued(guidance=1, text=text(), standing=True),
            e.ProposalRefused(5, 1, text()), e.Checked(experiment=4, name=text(2), ok=False, seconds=1.0,
            output=text()),
            e.RunFinished(run=run, experiment=4, ended="crashed", metric=None, seconds=3.0, wall_seconds=4.0,
            exit_code=1, reason=text(), log_tail=text(),
                          probes={text(2): {"ok": False}}),
            e.Judged(experiment=4, verdict="crashed", metric=None, delta=None, reason=text()),
            e.HiddenScored(experiment=3, metric=1.9, gap=-0.5, warning=text()),
            e.Certified(experiment=3, outcome="undecided", p=None, z=None, gain=None, low=None, high=None, runs=1,
            file=text(), reason=text()),
        )  # fmt: skip
        for size in ((120, 36), (80, 24), (41, 11)):
            await pilot.resize_terminal(*size)
            for key in WALK.split():
                app.clock.now += 1  # type: ignore[attr-defined]
                await pilot.press(key)
                shown = text_of(app)
                assert "pwned" not in shown.split("“pwned")[0]
                assert all(c == "\n" or c.isprintable() for c in shown), (size, key)
            for strip in app.screen._compositor.render_strips():
                assert strip.cell_length == sum(s.cell_length for s in strip) == size[0], (size, strip.text)
        assert app.failure is None


async def test_the_slot_strip_grows_with_the_slots(show: Show) -> None:
    async with show(size=(160, 48)) as (pilot, app, source):
        source.happen(e.SlotsChanged(("cpu0", "cpu1", "cpu2", "cpu3")))
        await until(pilot, lambda: all(f"cpu{n}" in text_of(app) for n in range(4)))
