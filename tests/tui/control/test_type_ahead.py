"""Keys typed ahead of the screen: each has the same effect as after a wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.css.query import NoMatches
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets import Input

from core.client.live import Connection
from core.record import commands
from core.record import events as e
from tests.end_to_end.screen import Screen
from tests.projects import own_home
from tests.recorded import make_session
from tests.tui.conftest import Show, text_of, until
from tests.tui.stage import proposal
from tui.screens.base import FLUSH_SECONDS
from tui.screens.dialogs import ApprovalAnswer, ApprovalCard, AwayCard, Confirm
from tui.screens.main_screen import MainScreen
from tui.screens.reading.experiment import DetailScreen
from tui.terminal.calm import SETTLE_SECONDS, Calm
from tui.terminal.late_errors import is_late_error
from tui.widgets.prompt import Prompt


def burst(pilot: Pilot[int], *keys: str) -> None:
    """Send all keys at once, as a terminal delivers input that was typed ahead."""
    for key in keys:
        name = _character_to_key(key) if len(key) == 1 else key
        event = events.Key(name, key if len(key) == 1 else None)
        event.set_sender(pilot.app)
        assert pilot.app._driver is not None
        pilot.app._driver.send_message(event)


async def test_guidance_typed_in_one_burst_is_sent(show: Show) -> None:
    async with show() as (pilot, app, source):
        burst(pilot, "i", *"fix x S q", "left", "left", "backspace", *"y a", "end", *"!", "enter", "space")
        await until(pilot, lambda: len(source.sent) == 2)
        assert source.sent == [commands.Steer("fix x y a q!", now=False, standing=False), commands.Pause()]
        assert isinstance(app.screen, MainScreen) and not app.screen.prompt.display


async def test_two_sentences_and_a_paste_in_one_burst_are_sent(show: Show) -> None:
    async with show() as (pilot, app, source):
        burst(pilot, "i", *"one ")
        paste = events.Paste("pasted x")
        paste.set_sender(app)
        assert app._driver is not None
        app._driver.send_message(paste)
        burst(pilot, *" two", "enter", "i", *"three x", "escape", "i", *"four", "enter", "i")
        await until(pilot, lambda: len(source.sent) == 2)
        sent = ["one pasted x two", "three xfour"]  # a text that an Esc has closed is there again
        assert [c.text for c in source.sent if isinstance(c, commands.Steer)] == sent
        await until(pilot, lambda: app.screen.focused is app.screen.query_one(Input))


@pytest.mark.parametrize("size", [(160, 48), (80, 24)])
async def test_a_filter_typed_in_one_burst_is_applied(show: Show, size: tuple[int, int]) -> None:
    async with show(size=size) as (pilot, app, source):
        burst(pilot, "4", "/", *"x1Sq", "enter", "1", "4", "/", "enter")
        await until(pilot, lambda: app.screen.board.filter == "x1Sq")  # type: ignore[attr-defined]
        await until(pilot, lambda: not app.screen.query_one(Prompt).display)
        assert not source.sent and not app.farewell


async def test_keys_typed_ahead_reach_the_screen_that_they_open(show: Show) -> None:
    async with show() as (pilot, app, source):
        burst(pilot, "4", "j", "j", "j", "enter", "3", "right", "i", *"x", "enter")
        await until(pilot, lambda: source.sent == [commands.Steer("x", now=False, standing=False)])
        assert isinstance(app.screen, DetailScreen) and app.screen.tab == 2
        assert app.view.selected is not None and app.screen.experiment == app.view.selected + 1


async def test_a_reason_typed_in_one_burst_approves_nothing(show: Show) -> None:
    async with show() as (pilot, app, source):
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number))
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and "run this?" in text_of(app))
        app.clock.now += 0.5  # type: ignore[attr-defined]
        burst(pilot, "n", *"try y less", "enter")
        await until(pilot, lambda: source.sent == [commands.Reject(number, "try y less")])


async def test_an_approval_card_waits_while_a_person_types(show: Show) -> None:
    async with show() as (pilot, app, source):
        await pilot.press("i", *"slowly ")
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number))
        await until(pilot, lambda: "needs approval" in text_of(app))
        await pilot.press("y", "enter")
        await until(pilot, lambda: source.sent == [commands.Steer("slowly y", now=False, standing=False)])
        source.version += 1
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard))


async def test_an_opened_card_takes_the_first_key_and_closes_on_a_lost_engine(show: Show) -> None:
    async with show() as (pilot, app, source):
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number))
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and "run this?" in text_of(app))
        await pilot.press("y")  # the clock is stopped: a new card still ignores keys
        assert source.sent == []
        source.lose(app.clock.now, app.clock.now + 5)  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        source.connection = Connection("live", app.clock.now)  # type: ignore[attr-defined]
        source.version += 1
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and "run this?" in text_of(app))
        app.clock.now += 0.5  # type: ignore[attr-defined]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        burst(pilot, "a", "y")
        await until(pilot, lambda: "press y again" in text_of(app))  # it may belong to what was typed before
        assert source.sent == []
        app.calm = Calm()
        await pilot.press("y")
        await until(pilot, lambda: source.sent == [commands.Approve(number)])


async def test_text_typed_or_pasted_at_a_question_is_no_answer(show: Show) -> None:
    async with show() as (pilot, app, source):
        for pasted in ("Sy", "Sya", "S yes, do", "Sn"):
            app.calm = Calm()
            burst(pilot, *pasted)
            await pilot.pause(2 * SETTLE_SECONDS)
            if isinstance(app.screen, Confirm):
                app.calm = Calm()
                burst(pilot, *"yes")
                await until(pilot, lambda: "press y again" in text_of(app))
                app.screen.dismiss(None)
            await until(pilot, lambda: isinstance(app.screen, MainScreen))
            await pilot.press("escape")
        assert not [c for c in source.sent if isinstance(c, commands.Stop)]


async def test_a_card_closed_with_its_engine_returns_with_a_fast_engine(show: Show) -> None:
    """The engine answers again before the app has removed the card, and sends nothing new."""
    async with show() as (pilot, app, source):
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number))
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and "run this?" in text_of(app))
        first = app.screen
        first.dismiss(ApprovalAnswer("gone"))
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and app.screen is not first)


async def test_a_card_closes_once(show: Show) -> None:
    """After a double click, or a click and a key, the second input does not reach the screen behind."""
    async with show() as (pilot, app, _source):
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, AwayCard))
        card = app.screen
        for _ in range(2):
            card.post_message(events.Click(card, 5, 5, 0, 0, 1, False, False, False, 5, 5))
        card.dismiss(None)
        await pilot.pause(0.1)
        assert isinstance(app.screen, MainScreen) and app.failure is None


async def test_input_without_a_screen_is_dropped(show: Show) -> None:
    async with show() as (_pilot, app, _source):
        pass
    assert not app.screen_stack
    await app.on_event(events.MouseMove(None, 5, 5, 0, 0, 0, False, False, False, 5, 5))
    await app.on_event(events.Key("q", "q"))
    await app.on_event(events.Paste("text"))


async def test_closing_a_screen_during_its_creation_is_safe(show: Show) -> None:
    async with show() as (pilot, app, _source):
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        for name in (
            "help",
            "palette",
            "notes",
            "settings",
            "sessions",
            "guidance",
            "change",
        ):
            app.registry.named(name).do(app.screen_stack[0])
            app.pop_screen()  # in the same moment
            await pilot.pause()
        assert app.failure is None and isinstance(app.screen, MainScreen)
        with pytest.raises(NoMatches) as missed:
            app.screen.query_one("#nothing")
        assert not is_late_error(missed.value, app.screen_stack), "of a screen that is there it is one"


async def test_a_screen_polls_with_one_timer(show: Show) -> None:
    """Textual calls the handler of every class of a screen: a handler that calls its parent's runs that twice."""
    async with show() as (pilot, app, _source):
        await until(pilot, lambda: isinstance(app.screen, MainScreen))
        assert [timer._interval for timer in app.screen._timers].count(FLUSH_SECONDS) == 1


def test_type_ahead_works_in_a_real_terminal(tmp_path: Path) -> None:
    """All input in one write: `q` in text is no command, and the last keys open their page."""
    paths = make_session(tmp_path / "project", 12)
    with Screen(paths.project, own_home(tmp_path), "attach", "nov23", columns=120, lines=36) as screen:
        screen.wait("FINISHED")
        screen.press("/qqSxGq\r")
        screen.wait("“qqSxGq”")
        screen.answer("\x1b", "“qqSxGq”")
        screen.press("4jj\r3")
        screen.wait("budget")
