"""Every action of the registry, by its key, in the running app."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import cast

import pytest
from textual.command import CommandList, CommandPalette
from textual.widgets import Input

from core.client.live import Connection
from core.record import commands
from core.record import events as e
from tests import ROOT
from tests.tui.conftest import Show, text_of, until
from tests.tui.stage import build, proposal
from tui import actions
from tui.app import Cockpit
from tui.control.away import mark_seen
from tui.registry import all_keys
from tui.screens.base import ActionScreen
from tui.screens.dialogs import ApprovalCard, AwayCard, Confirm
from tui.screens.help import HelpScreen, NotesScreen
from tui.screens.main_screen import MainScreen
from tui.screens.reading.compare import CompareScreen
from tui.screens.reading.costs import CostsScreen
from tui.screens.reading.experiment import DetailScreen
from tui.screens.reading.failures import FailuresScreen
from tui.screens.reading.lineage import LineageScreen
from tui.screens.reading.logs import LogsScreen
from tui.terminal.calm import Calm
from tui.widgets.prompt import Prompt
from tui.widgets.status import Footer

SCREENS: dict[str, type[ActionScreen]] = {
    "main": MainScreen, "detail": DetailScreen, "lineage": LineageScreen, "failures": FailuresScreen,
    "costs": CostsScreen, "logs": LogsScreen, "compare": CompareScreen,
}  # fmt: skip


def test_the_docs_of_keys_are_up_to_date() -> None:
    page = ROOT / "docs" / "keys.md"
    assert page.read_text() == actions.keys_page(), "run: python -m tui.actions > docs/keys.md"


@pytest.mark.parametrize("place", SCREENS)
def test_a_key_has_one_action_on_each_screen(place: str) -> None:
    for played in (False, True):
        keys = [key for action in actions.REGISTRY.for_place(place, played) for key in action.keys]
        assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("place", SCREENS)
def test_every_action_exists_on_its_screens(place: str) -> None:
    """mypy checks that the method exists; this test checks that it belongs to the screen of the action."""
    assert place == SCREENS[place].PLACE
    for played in (False, True):
        for action in actions.REGISTRY.for_place(place, played):
            first, *methods = cast(FunctionType, action.do).__code__.co_names  # ("_main", "zoom") of _main(s).zoom()
            if first.startswith("_"):
                assert hasattr(SCREENS[place], methods[0]), action.name


def test_footer_keys_belong_to_their_actions() -> None:
    for action in actions.ACTIONS:
        assert action.shown in all_keys(action).split()


def said(app: Cockpit) -> str:
    footer = app.screen.query_one(Footer)
    return footer._message[0] if footer._message else ""


async def test_space_pauses_and_resumes(show: Show) -> None:
    async with show() as (pilot, app, source):
        await pilot.press("space")
        await until(pilot, lambda: source.sent == [commands.Pause()])
        source.happen(e.StateChanged("paused", "by you"))
        await until(pilot, lambda: "PAUSED" in text_of(app))
        assert "resume" in text_of(app).splitlines()[-1] or said(app)
        await pilot.press("space")
        await until(pilot, lambda: source.sent[-1] == commands.Resume())


async def test_the_reply_of_the_engine_is_shown(show: Show) -> None:
    async with show() as (pilot, app, source):
        source.answer = commands.Reply(False, "nothing is running")
        await pilot.press("x")
        await until(pilot, lambda: "nothing is running" in text_of(app).splitlines()[-1])
        assert source.sent == [commands.Skip(None)]


async def test_skip_applies_to_the_selected_live_experiment(show: Show) -> None:
    async with show() as (pilot, app, source):
        await pilot.press("4", "j", "j")
        await pilot.pause()
        number = app.view.selected
        assert number is not None and source.state.experiments[number].verdict is None
        await pilot.press("x")
        await until(pilot, lambda: source.sent == [commands.Skip(number)])


@pytest.mark.parametrize(
    "key,now,standing", [("enter", False, False), ("ctrl+s", True, False), ("ctrl+t", False, True)]
)
async def test_guidance_is_sent(show: Show, key: str, now: bool, standing: bool) -> None:
    async with show() as (pilot, app, source):
        source.answer = commands.Reply(True, "guidance 1 is queued")
        await pilot.press("i", *"q x4", "left", "home", "end", "backspace", "4")
        assert app.query_one(Input).value == "q x4"
        await pilot.press(key)
        await until(pilot, lambda: source.sent == [commands.Steer("q x4", now=now, standing=standing)])
        await until(pilot, lambda: "guidance 1 is queued" in text_of(app))
        assert not app.screen.query_one(Prompt).display and isinstance(app.screen, MainScreen)


async def test_queued_guidance_is_shown_and_can_be_withdrawn(show: Show) -> None:
    async with show() as (pilot, app, source):
        await pilot.press("W")
        assert "no guidance is in force" in said(app) and not source.sent
        source.happen(e.GuidanceQueued(guidance=7, text="try a wider \x1b[31mMLP"))
        await until(pilot, lambda: "try a wider MLP" in text_of(app).splitlines()[1])
        await pilot.press("W")
        await until(pilot, lambda: source.sent == [commands.Withdraw(7)])


async def test_sent_guidance_is_recalled_and_can_be_cancelled(show: Show) -> None:
    async with show() as (pilot, app, source):
        await pilot.press("colon", *"first", "enter")
        await until(pilot, lambda: len(source.sent) == 1)
        await pilot.press("i", "up")
        assert app.query_one(Input).value == "first"
        await pilot.press("escape")
        await pilot.pause()
        assert len(source.sent) == 1 and not app.query_one(Prompt).display


async def test_a_text_that_is_not_sent_survives_the_app(tmp_path: Path, show: Show) -> None:
    own = build(tmp_path, experiments=3)
    async with show(at=own) as (pilot, app, source):
        await pilot.press("n", *"deeper", "escape", "i", *"half a sen")
        mark_seen(app)  # as at a hang-up, and twice a minute
    async with show(at=own) as (pilot, app, source):
        await pilot.press("i", *"tence", "enter", "n", "enter")
        await until(pilot, lambda: len(source.sent) == 2)
        assert source.sent == [commands.Steer("half a sentence", now=False, standing=False), commands.Idea("deeper")]


async def test_stop_asks_with_no_as_the_default(show: Show) -> None:
    async with show() as (pilot, app, source):
        for answer, sent in (("enter", None), ("n", None), ("escape", None), ("y", False), ("exclamation_mark", True)):
            await pilot.press("S")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            app.calm = Calm()  # nothing else was pressed shortly before
            await pilot.press(answer)
            await until(pilot, lambda: isinstance(app.screen, MainScreen))
            assert source.sent == ([] if sent is None else [commands.Stop(now=sent)])
            source.sent.clear()


async def test_detach_shows_how_to_attach_again(show: Show) -> None:
    async with show() as (pilot, app, source):
        await pilot.press("q")
        await pilot.pause()
        assert re.search("autoresearch-tui attach -C .* nov23", app.farewell) and "continues" in app.farewell
        assert not source.sent


async def test_an_experiment_opens_and_its_tabs_work(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await pilot.press("4", "j", "j", "j", "enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen))
        first = app.view.selected
        shown = text_of(app)
        assert f"#{first}" in shown and "Hypothesis" in shown and "Verdict" in shown
        for key, words in (
            ("2", "train.py"),
            ("3", "seed"),
            ("4", "steps/s"),
            ("5", "step 0"),
            ("6", "Two levers"),
            ("1", "Rationale"),
        ):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in text_of(app))  # type: ignore[misc]
        await pilot.press("right")
        assert first is not None
        await until(pilot, lambda: f" #{first + 1} " in text_of(app))
        await pilot.press("left", "left")
        await until(pilot, lambda: f" #{first - 1} " in text_of(app))
        await pilot.press("tab", "shift+tab", "escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))


async def test_rows_are_filtered_and_sorted(show: Show) -> None:
    async with show() as (pilot, app, source):
        board = app.screen.board  # type: ignore[attr-defined]
        await until(pilot, lambda: bool(board.order))
        everything = list(board.order)
        await pilot.press("4", "slash", *"kept", "enter")
        kept = {n for n, x in source.state.experiments.items() if x.verdict == "kept"}
        await until(pilot, lambda: set(board.order) == kept)
        await pilot.press("escape")
        await until(pilot, lambda: list(board.order) == everything)
        await pilot.press("s")
        live = set(source.state.live)  # what is in progress is first
        newest = sorted(everything, key=lambda n: (n in live, n), reverse=True)
        assert board.sort == "number" and list(board.order) == newest


async def test_a_stream_is_filtered(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await pilot.press("6", "slash", *"00104", "enter")
        await until(pilot, lambda: "/00104" in text_of(app))
        assert "step 00104" in text_of(app) and "step 00240" not in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: "step 00240" in text_of(app))


async def test_panes_zoom_and_take_the_focus(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await pilot.press("3", "z")
        await pilot.pause()
        assert [p.NAME for p in app.screen.panes if p.display] == ["progress"]  # type: ignore[attr-defined]
        await pilot.press("tab")
        assert [p.NAME for p in app.screen.panes if p.display] == ["leaderboard"]  # type: ignore[attr-defined]
        await pilot.press("shift+tab", "escape")
        await pilot.pause()
        assert all(p.display for p in app.screen.panes)  # type: ignore[attr-defined]
        for index in range(6):
            await pilot.press(str(index + 1))
            assert app.screen.focused is app.screen.panes[index]  # type: ignore[attr-defined]


async def test_movement_keys_work_in_every_pane(show: Show) -> None:
    async with show(size=(120, 36)) as (pilot, app, _source):
        for pane in "123456":
            await pilot.press(pane, "j", "k", "pagedown", "pageup", "g", "G", "down", "up", "home", "end")
        await pilot.press("4", "G")
        assert app.view.selected == app.screen.board.order[-1]  # type: ignore[attr-defined]
        await pilot.press("g")
        assert app.view.selected == app.screen.board.order[0]  # type: ignore[attr-defined]
        await pilot.press("escape")
        assert app.view.selected is None


async def test_help_lists_every_action_and_why_it_is_unavailable(show: Show) -> None:
    async with show(size=(120, 120)) as (pilot, app, _source):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        shown = " ".join(text_of(app).split())
        for action in actions.REGISTRY.for_place("main"):
            assert action.titled(app.view) in shown
        assert "no proposal needs approval" in shown
        app.screen._shown_at -= 1  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))


async def test_notes_are_shown(show: Show) -> None:
    async with show() as (pilot, app, source):
        source.happen(e.Noted("error", "the disk is \x1b]0;full\x07nearly full"))
        await until(pilot, lambda: "the disk is nearly full" in said(app))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, NotesScreen))
        assert "the disk is nearly full" in text_of(app)
        app.screen._shown_at -= 1  # type: ignore[attr-defined]
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))


async def test_the_away_card_opens_on_request(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, AwayCard))
        assert "experiments" in text_of(app) and "kept" in text_of(app)


async def test_the_commit_is_copied(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await pilot.press("4", "j", "j", "j", "y")
        assert app.view.shown is not None and app.clipboard == app.view.shown.commit


async def test_leaving_the_palette_during_a_search_is_safe(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        palette = app.screen
        assert isinstance(palette, CommandPalette)
        await palette.query_one(CommandList).remove()
        palette._gather_commands("steer")
        palette._list_visible, palette._show_busy = True, True
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        assert app.failure is None


async def test_palette_finds_actions_and_experiments(show: Show) -> None:
    async with show() as (pilot, app, source):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press(*"pause")
        await until(pilot, lambda: "pause" in text_of(app))
        await pilot.pause(0.3)
        await pilot.press("enter")
        await until(pilot, lambda: source.sent == [commands.Pause()])
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press(*"#5")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DetailScreen) and app.screen.experiment == 5)


async def test_the_palette_shows_brackets_literally(tmp_path: Path, show: Show) -> None:
    """`[/]` in a hypothesis is no markup."""
    words = "[/] [red]gates[/] [@click=app.quit]x"
    extra = (
        e.ExperimentStarted(experiment=90, parent=0, parent_commit="c" * 40, researcher="claude"),
        e.Proposed(
            experiment=90,
            hypothesis=words,
            rationale="",
            expected=-0.1,
            kind="x",
            diff="",
            files=(),
            added=0,
            removed=0,
            seconds=1.0,
        ),
    )
    async with show(at=build(tmp_path, experiments=2, extra=extra)) as (pilot, app, _source):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press(*"gates")
        await until(pilot, lambda: words in text_of(app))
        assert not app.screen.query_one(Input).cursor_blink


async def test_each_pane_shows_its_focus_at_once(show: Show) -> None:
    async with show() as (pilot, app, _source):
        screen = app.screen
        assert isinstance(screen, MainScreen)
        for key in ("4", "slash", "escape", "2", "tab", "ctrl+p", "escape", "1"):
            await pilot.press(key)
            await pilot.pause()
            for pane in (p for p in screen.panes if p.display):
                assert pane._lines[0] == pane._painted(*pane.size)[0], (key, pane.NAME)


async def test_disabled_actions_show_a_reason(show: Show) -> None:
    async with show() as (pilot, app, source):
        source.connection = Connection("dead", source.state.time, None, "no engine runs this session")
        source.version += 1
        for key, action in (("space", "pause"), ("i", "steer"), ("x", "skip"), ("S", "stop")):
            await pilot.press(key)
            assert said(app) == f"{action}: no engine runs this session: R resumes it"
        assert not source.sent


async def test_resume_is_refused_while_an_engine_runs(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await pilot.press("R")
        assert "the engine of this session is running" in said(app)


@pytest.mark.parametrize("keys,command", [(("y",), "approve"), (("n", *"too big", "enter"), "reject")])
async def test_a_proposal_is_approved_or_rejected(show: Show, keys: tuple[str, ...], command: str) -> None:
    async with show() as (pilot, app, source):
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number))
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and "run this?" in text_of(app))
        assert "A should be 2" in text_of(app) and "A = 2" in text_of(app)
        await pilot.press("y")  # meant for the screen behind: the card is new
        assert isinstance(app.screen, ApprovalCard) and not source.sent
        app.clock.now += 0.5  # type: ignore[attr-defined]
        app.calm = Calm()
        await pilot.press(*keys)
        wanted: commands.Command = (
            commands.Approve(number) if command == "approve" else commands.Reject(number, "too big")
        )
        await until(pilot, lambda: source.sent == [wanted])


async def test_an_approval_can_be_postponed_and_closes_when_answered_elsewhere(show: Show) -> None:
    async with show() as (pilot, app, source):
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number))
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and "run this?" in text_of(app))
        app.clock.now += 0.5  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen) and "needs approval" in text_of(app))
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard))
        source.happen(e.ApprovalGiven(number, True))
        await until(pilot, lambda: isinstance(app.screen, MainScreen))


async def test_waiting_proposals_are_moved_and_deleted_after_a_question(show: Show) -> None:
    async with show(size=(130, 34)) as (pilot, app, source):
        first = source.state.next_experiment
        for number, hypothesis in ((first, "one idea"), (first + 1, "another \x1b[31midea")):
            source.happen(
                e.ExperimentStarted(experiment=number, parent=0, parent_commit="a" * 40, researcher="claude"),
                replace(proposal(number), hypothesis=hypothesis),
                e.Committed(number, f"{number:040x}", "a" * 40),
            )
        waiting = source.state.queue
        assert waiting[-2:] == (first, first + 1)
        last = len(waiting)
        await pilot.press("Q")
        await until(pilot, lambda: f"{last}. #{first + 1}" in text_of(app) and "another idea" in text_of(app))
        await pilot.press("G", "J", "K")  # there is no place after the last
        await until(pilot, lambda: source.sent == [commands.MoveWaiting(first + 1, last - 1)])
        source.happen(e.QueueMoved(first + 1, last - 1))
        await until(pilot, lambda: f"{last - 1}. #{first + 1}" in text_of(app))
        await pilot.press("shift+down")  # the cursor has moved with it
        await until(pilot, lambda: source.sent[1:] == [commands.MoveWaiting(first + 1, last)])
        await pilot.press("d")
        await until(pilot, lambda: "out of the queue?" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "out of the queue?" not in text_of(app))
        await pilot.press("d")
        await until(pilot, lambda: "out of the queue?" in text_of(app))
        app.calm = Calm()
        await pilot.press("y")
        await until(pilot, lambda: source.sent[2:] == [commands.DeleteWaiting(first + 1)])
