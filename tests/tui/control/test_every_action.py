"""Every action of the registry: by its key, in the palette, in the help, and with its reason when it is unavailable.

One app for each screen. An action without a specific expectation must at least change the screen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from textual import events
from textual.command import Hit
from textual.pilot import Pilot
from textual.screen import Screen

from core.client.live import Connection
from core.record import commands as c
from core.record import events as e
from tests.tui.conftest import Show, text_of, until
from tests.tui.stage import Playing, proposal
from tui.actions import REGISTRY
from tui.app import Cockpit
from tui.control.command_palette import ActionProvider
from tui.registry import Action
from tui.screens.dialogs import ApprovalCard, AwayCard, Confirm
from tui.screens.help import HelpScreen, NotesScreen
from tui.screens.main_screen import MainScreen
from tui.screens.reading.experiment import DetailScreen
from tui.screens.session_picker import SessionsCard
from tui.screens.settings import SettingsCard
from tui.screens.steering_dialogs import ChangeCard, GuidanceCard, QueueCard

Expected = Callable[[Cockpit, Playing], bool]


def sends(*wanted: type[c.Command]) -> Expected:
    return lambda app, source: [type(sent) for sent in source.sent] == list(wanted)


def opens(screen: type[Screen[Any]]) -> Expected:
    return lambda app, source: isinstance(app.screen, screen)


def says(words: str) -> Expected:
    return lambda app, source: words in text_of(app)


def asks(purpose: str) -> Expected:
    def asked(app: Cockpit, source: Playing) -> bool:
        prompt = app.screen.prompt  # type: ignore[attr-defined]
        return bool(prompt.display and prompt.purpose == purpose)

    return asked


EXPECTED: dict[str, Expected] = {
    "pause": sends(c.Pause), "pause_now": opens(Confirm), "steer": asks("steer"), "guidance": opens(GuidanceCard),
    "queue": opens(QueueCard),
    "withdraw": sends(c.Withdraw), "approve": opens(ApprovalCard), "approve_mode": sends(c.ApproveMode),
    "change": opens(ChangeCard), "stop": opens(Confirm), "stop_after": asks("after"), "stop_now": opens(Confirm),
    "idea": asks("idea"), "own": asks("own"), "skip": sends(c.Skip), "fork": sends(c.Fork), "pin": sends(c.Pin),
    "repeat": sends(c.Repeat), "certify": sends(c.Certify), "reproduce": sends(c.Reproduce),
    "notes": opens(NotesScreen), "help": opens(HelpScreen), "away": opens(AwayCard), "sessions": opens(SessionsCard),
    "settings": opens(SettingsCard),
}  # fmt: skip
ELSEWHERE = {  # tested elsewhere
    "detach", "palette", "escape", "program", "resume_engine", "replay", "earlier", "compare", "next_pane", "lower",
    "previous_pane", "further",
}  # fmt: skip
ON_A_PAGE = ("skip", "fork", "pin", "copy_commit", "help")
PAGE_ONLY = tuple(a.name for a in REGISTRY.for_place("detail") if "main" not in a.places)
PREPARED: dict[str, tuple[str, ...]] = {  # keys pressed before, so that the action has an effect
    "up": ("j", "j"), "page_up": ("G",), "top": ("G",), "bottom": ("g",), "page_down": ("g",), "later": ("g", "j", "j"),
    "closer": ("3",), "further": ("3", "plus"), "pane_4": ("1",), "narrower": ("4",), "wider": ("4",), "taller": ("4",),
    "tab_1": ("2",),
}  # fmt: skip


def seen(app: Cockpit, source: Playing) -> tuple[object, ...]:
    """Everything that an action can change."""
    return text_of(app), [type(s) for s in app.screen_stack], list(source.sent), app.screen.focused


async def key_of(pilot: Pilot[int], key: str) -> None:
    """Process one key completely, as `pilot.press` does, without its waiting."""
    app = pilot.app
    await app.on_event(_event(app, key))


def _event(app: object, key: str) -> events.Key:
    from textual.keys import _get_key_aliases, key_to_character

    assert _get_key_aliases(key)
    return events.Key(key, key_to_character(key))


async def came(pilot: Pilot[int], app: Cockpit, source: Playing, wanted: Expected, name: str) -> None:
    """Wait for the expected effect of an action."""
    for _ in range(1000):
        if wanted(app, source):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} did not do what it should:\n{text_of(app)}")


async def begin(pilot: Pilot[int], app: Cockpit, source: Playing, place: str) -> None:
    """Show the screen `place` alone with a selected experiment that has a commit and a result. Nothing is sent yet."""
    while len(app.screen_stack) > 1:
        await app.pop_screen()
    main = app.screen
    assert isinstance(main, MainScreen)
    if main.prompt.display:
        main.prompt.special("escape")
    source.sent.clear()
    main.board.poll()
    main.show_pane(3)
    app.answers.clear()
    kept = next(n for n in main.board.order if source.state.experiments[n].verdict == "kept")
    main.board.choose(kept)
    app.offered = set(source.state.approvals)
    if place == "detail":
        app.open_experiment(kept)
        page: Expected = lambda app, source: isinstance(app.screen, DetailScreen) and app.screen.is_mounted  # noqa: E731
        await came(pilot, app, source, page, "open")


@pytest.mark.parametrize("place", ["main", "detail"])
async def test_each_action_is_reached_by_its_key(show: Show, place: str) -> None:
    async with show(size=(110, 32)) as (pilot, app, source):
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number), e.GuidanceQueued(guidance=7, text="be brief"))
        app.offered = {number}
        for action in REGISTRY.for_place(place):
            if action.name in ELSEWHERE or (place == "detail" and action.name not in (*ON_A_PAGE, *PAGE_ONLY)):
                continue
            await begin(pilot, app, source, place)
            for key in PREPARED.get(action.name, ()):
                await key_of(pilot, key)
            reason = action.reason(app.view)
            assert reason is None, f"{action.name} is not prepared: {reason}"
            before = () if action.name in EXPECTED else seen(app, source)
            await key_of(pilot, action.keys[0])
            wanted = EXPECTED.get(action.name, lambda app, source, before=before: seen(app, source) != before)
            await came(pilot, app, source, wanted, action.name)


async def test_each_action_works_from_the_palette(show: Show) -> None:
    async with show(size=(110, 32)) as (pilot, app, source):
        number = max(source.state.live)
        source.happen(proposal(number), e.ApprovalRequested(number), e.GuidanceQueued(guidance=7, text="be brief"))
        app.offered = {number}
        for action in REGISTRY.for_place("main"):
            if action.name not in EXPECTED:
                continue
            await begin(pilot, app, source, "main")
            provider = ActionProvider(app.screen)
            hits = [hit async for hit in provider.search(action.titled(app.view))]
            hit = next(h for h in hits if isinstance(h, Hit) and str(h.match_display) == action.titled(app.view))
            assert action.shown in str(hit.help) and action.description in str(hit.help)
            found = hit.command()
            assert found is not None
            await found
            await came(pilot, app, source, EXPECTED[action.name], action.name)


def reasons(app: Cockpit, place: str) -> list[tuple[Action, str]]:
    return [(a, reason) for a in REGISTRY.for_place(place) if (reason := a.reason(app.view)) is not None]


@pytest.mark.parametrize("place", ["main", "detail"])
async def test_unavailable_actions_show_a_reason_by_key_and_in_the_help(show: Show, place: str) -> None:
    """Without an engine, and before the first experiment."""
    async with show(size=(160, 150)) as (pilot, app, source):
        for nothing in (False, True):
            await begin(pilot, app, source, place)
            source.connection = Connection("dead", source.state.time, None, "no engine runs this session")
            if nothing:
                source.state.guidance.clear()
                source.connection = Connection("live", source.state.time)
                source.state.state = "stopping"
            listed = reasons(app, place)
            assert {"steer", "idea", "own", "change"} <= {a.name for a, _ in listed}
            screen = app.screen
            assert isinstance(screen, (MainScreen, DetailScreen))
            for action, reason in listed:
                await key_of(pilot, action.keys[0])
                told = f"{action.title}: {reason}"[:100]
                await came(pilot, app, source, says(told), action.name)
                assert app.screen is screen and not source.sent
            await key_of(pilot, "question_mark")
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            shown = " ".join(text_of(app).replace("│", " ").split())
            for action, reason in listed:
                assert f"Not now: {reason}." in shown, action.name


async def test_a_footer_click_equals_its_key(show: Show) -> None:
    async with show(size=(160, 48)) as (pilot, app, source):
        footer = text_of(app).splitlines()[-1]
        await pilot.click(offset=(footer.index("steer"), 47))
        await until(pilot, lambda: asks("steer")(app, source))
        await pilot.press("escape")
        await pilot.click(offset=(footer.index("pause"), 47))
        await until(pilot, lambda: source.sent == [c.Pause()])


async def test_a_click_answers_a_card(show: Show) -> None:
    async with show(size=(120, 40)) as (pilot, app, source):
        for key, words, sent in (("S", "stop now", [c.Stop(now=True)]), ("P", "pause now  ", []), ("P", "", [])):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, Confirm) and "(enter, esc)" in text_of(app))
            app.clock.now += 1.0  # type: ignore[attr-defined]
            card = app.screen
            assert isinstance(card, Confirm)
            lines = [
                i
                for i, line in enumerate(card.lines(card._page.size.width - 4))
                if words and any(words in part[0] for part in line)
            ]
            page = card._page.region
            await pilot.click(offset=(page.x + 4, page.y + 1 + lines[-1]) if lines else (0, 0))
            await until(pilot, lambda: isinstance(app.screen, MainScreen))
            await pilot.pause()
            assert source.sent == sent, words
            source.sent.clear()


async def test_the_wheel_and_clicks_work_on_every_card_with_rows(show: Show) -> None:
    async with show(size=(120, 40)) as (pilot, app, _source):
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(app.screen, SettingsCard))
        card = app.screen
        assert isinstance(card, SettingsCard)
        await until(pilot, lambda: card._page.region.y > 0)
        page = card._page.region
        await pilot.click(offset=(page.x + 6, page.y + 1 + card._places[3]))
        assert card.at == 3
        card.on_mouse_scroll_down(
            events.MouseScrollDown(None, 5, 5, 0, 1, 0, False, False, False)  # as the driver makes it
        )
        assert card.at == 6


async def test_remapped_keys_work(show: Show) -> None:
    async with show(size=(120, 40)) as (pilot, app, source):
        app.registry = REGISTRY.remapped({"pause": ("P", "f5"), "pause_now": ("ctrl+k",)})
        await pilot.press("f5")
        await until(pilot, lambda: source.sent == [c.Pause()])
        await pilot.press("space")
        await pilot.pause()
        assert source.sent == [c.Pause()]
        assert isinstance(app.screen, MainScreen) and ("P", "pause", True, "pause") in app.screen.hints()
