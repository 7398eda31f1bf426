"""Settings on the screen, remapped keys, distinguishable themes, other sessions, and the title."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import pytest
from rich.style import Style
from textual.screen import Screen

from core.record import events as e
from core.record.errors import UsageError
from core.session.paths import SessionPaths
from tests.recorded import make_session
from tests.tui.conftest import Clock, Show, text_of, until
from tests.tui.stage import Playing, Stage
from tui.actions import REGISTRY
from tui.app import Cockpit
from tui.control.notify import notification_text, title_words
from tui.paint.color_schemes import COLOR_SCHEMES, contrast, luminance
from tui.paint.theme import DARK, Look, choose_look
from tui.screens.main_screen import MainScreen
from tui.screens.session_picker import SessionsCard, glances
from tui.screens.settings import ROWS, SettingsCard
from tui.user_settings import THEMES, config_path

TEXT = ("text", "bright", "dim", "title", "accent", "good", "warn", "bad", "violet", "thinking", "tool", "key",
        "code_keyword", "code_string", "code_number", "code_name", "add_mark", "remove_mark")  # fmt: skip


# -- remapped keys --------------------------------------------------------------------------------------------------


def test_keys_are_remapped_and_conflicts_name_both() -> None:
    changed = REGISTRY.remapped({"pause": ("f5", "P"), "pause_now": ("ctrl+k",), "filter": ("/", "ctrl+f")})
    assert changed.named("pause").keys == ("f5", "P") and changed.named("filter").keys == ("slash", "ctrl+f")
    for keys, words in (
        ({"pause": ("x",)}, ("key x", "'pause'", "'skip'")),
        ({"stop": ("?",)}, ("key ?", "'stop'", "'help'")),
        ({"puase": ("P",)}, ("no action 'puase'", "did you mean `pause`?")),
        ({"pause": ("ctrl+c",)}, ("not a key that can be set",)),
        ({"pause": ("banana",)}, ("not a key that can be set",)),
    ):
        with pytest.raises(UsageError) as caught:
            REGISTRY.remapped(keys)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert caught.value.where == f"keys.{next(iter(keys))}"
    assert REGISTRY.remapped({"pause": ("n",), "idea": ("F1", "ctrl+n"), "help": ("?",)}).named("pause").keys == ("n",)


# -- the settings on the screen -------------------------------------------------------------------------------------


def app_on(stage: Stage) -> Cockpit:
    return Cockpit(stage.paths.project, stage.paths, source=Playing(stage), clock=Clock(stage.now))


async def test_settings_are_saved_and_take_effect_at_once(stage: Stage) -> None:
    app = app_on(stage)
    async with app.run_test(size=(130, 40)) as pilot:
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(app.screen, SettingsCard))
        card = app.screen
        assert isinstance(card, SettingsCard)
        await pilot.press("right", "right")
        assert app.settings.theme == THEMES[2] == app.look.name and 'theme = "light"' in config_path().read_text()
        await pilot.press("down", "down", "down", "right")
        assert app.settings.bell is True
        card.move_to(next(i for i, r in enumerate(card.rows()) if r.name == "replay.speed"))
        await pilot.press("enter", *"\b" * 4, "backspace", "backspace", *"120", "enter")
        await until(pilot, lambda: app.settings.replay_speed == 120.0)
        card.move_to(next(i for i, r in enumerate(card.rows()) if r.name == "keys.pause"))
        await pilot.press("enter", "x")
        await until(pilot, lambda: "'skip'" in text_of(app) and "'pause'" in text_of(app))
        assert app.registry.named("pause").keys == ("space",) and "pause" not in config_path().read_text()
        await pilot.press("enter", "f5", "+", "ctrl+k")
        assert app.registry.named("pause").keys == ("f5", "ctrl+k")
        await pilot.press("delete", "escape", "space")
        assert app.registry.named("pause").keys == ("space",)
        await until(pilot, lambda: bool(app.view.source.sent))  # type: ignore[attr-defined]


async def test_a_broken_file_is_reported_and_defaults_apply(stage: Stage) -> None:
    config_path().parent.mkdir(parents=True)
    text = "[screen]\nthema = 1\n"
    config_path().write_text(text)
    app = app_on(stage)
    async with app.run_test(size=(150, 40)) as pilot:
        await until(pilot, lambda: "config.toml:2" in text_of(app))
        await pilot.press("comma")
        await until(pilot, lambda: isinstance(app.screen, SettingsCard) and "hint:" in text_of(app))
        await pilot.press("right")
        assert config_path().read_text() == text, "a file that does not read was written"
        await pilot.press("escape", "space")
        await until(pilot, lambda: bool(app.view.source.sent))  # type: ignore[attr-defined]
    config_path().write_text('[keys]\n\npause = "x"\n')
    app = Cockpit(stage.paths.project, None)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "config.toml:3" in text_of(app))


def test_every_setting_is_on_the_screen() -> None:
    from tui.user_settings import _KEYS

    named = {f"{table}.{key}" for table, keys in _KEYS.items() if table and keys for key in keys}
    assert named == {name for name, _, _ in ROWS}


# -- themes ---------------------------------------------------------------------------------------------------------


def hex_of(style: Style, which: str) -> str:
    colour = getattr(style, which)
    assert colour is not None and colour.triplet is not None
    return str(colour.triplet.hex)


@pytest.mark.parametrize("name", COLOR_SCHEMES)
def test_text_contrasts_with_its_background(name: str) -> None:
    look = Look(name)
    least = {"contrast": 7.0, "dark": 4.0}.get(name, 4.4)
    for role in TEXT:
        found = contrast(hex_of(look[role], "color"), hex_of(look[role], "bgcolor"))
        assert found >= least, f"{name}: {role} has a contrast of {found:.1f}"


def simulated(colour: str, kind: str) -> tuple[float, float, float]:
    """A colour as a dichromat sees it, in linear RGB (Viénot and others 1999; tritanopia: Machado and others 2009)."""
    matrices = {
        "protan": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
        "deutan": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
        "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    }
    linear = [(int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
    r, g, b = (max(0.0, min(1.0, sum(m * c for m, c in zip(row, linear, strict=True)))) for row in matrices[kind])
    return r, g, b


def apart(one: str, other: str, kind: str) -> float:
    """The distance of two colours for a dichromat in CIE Lab."""

    def lab(rgb: tuple[float, float, float]) -> tuple[float, float, float]:
        r, g, b = rgb
        xyz = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, 0.2126 * r + 0.7152 * g + 0.0722 * b, (
            0.0193 * r + 0.1192 * g + 0.9505 * b
        ) / 1.089  # fmt: skip
        x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
        return 116 * y - 16, 500 * (x - y), 200 * (y - z)

    pairs = zip(lab(simulated(one, kind)), lab(simulated(other, kind)), strict=True)
    return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)


@pytest.mark.parametrize("name,kind", [("blue-orange", "protan"), ("blue-orange", "deutan"), ("tritan", "tritan")])
def test_the_colour_blind_safe_themes_separate_good_warn_and_bad(name: str, kind: str) -> None:
    palette = COLOR_SCHEMES[name]
    for one, other in (("good", "bad"), ("good", "warn"), ("warn", "bad")):
        found = apart(getattr(palette, one), getattr(palette, other), kind)
        assert found >= 20, f"{name}: {one} and {other} are {found:.0f} apart"


def test_every_theme_has_every_role_and_the_light_theme_is_light() -> None:
    for name in (*COLOR_SCHEMES, "ansi", "plain"):
        look = Look(name)
        for role in DARK:
            assert isinstance(look[role], Style)
    assert luminance(COLOR_SCHEMES["light"].background) > 0.8 and colorsys is not None
    look = Look("dark")
    before = look["good"]
    look.change_to("light", True)
    assert look["good"] != before and look.ascii and look.theme == "cockpit-light"


def test_the_theme_is_chosen_by_setting_and_terminal() -> None:
    rich = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "en_US.UTF-8"}
    assert choose_look(rich).name == "dark" and choose_look(rich, "tritan").name == "tritan"
    assert choose_look({**rich, "SSH_TTY": "/dev/pts/1"}).name == "ansi"
    assert choose_look({**rich, "SSH_TTY": "/dev/pts/1"}, "light").name == "light"
    assert choose_look({**rich, "NO_COLOR": ""}, "light").name == "plain"
    assert choose_look({**rich, "AUTORESEARCH_LOOK": "blue-orange-ascii"}, "light") == Look("blue-orange", True)
    assert choose_look({"TERM": "xterm", "LANG": "C"}).ascii and not choose_look({"LANG": "C"}, "auto", "off").ascii
    assert choose_look(rich, "auto", "on").ascii


async def test_the_palette_changes_the_theme(stage: Stage) -> None:
    app = app_on(stage)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("ctrl+p")
        await pilot.press(*"theme: contrast")
        await until(pilot, lambda: "theme: contrast" in text_of(app).replace("\n", " ")[100:])
        await pilot.pause(0.3)
        await pilot.press("enter")
        await until(pilot, lambda: app.look.name == "contrast")
        assert app.theme == "cockpit-contrast"
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        grounds = {Look(name)["text"].bgcolor for name in ("dark", "contrast")}
        for pane in (p for p in app.screen.panes if p.display):
            seen = {s.style.bgcolor for line in pane._lines for s in line if s.style} & grounds
            assert seen == {Look("contrast")["text"].bgcolor}, pane.NAME


# -- other sessions -------------------------------------------------------------------------------------------------


def move_to(card: Screen[Any], name: str) -> None:
    assert isinstance(card, SessionsCard)
    card.move_to([row.name for row in card.rows()].index(name))


async def test_other_sessions_are_listed_opened_and_replayed(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name, count in (("first", 4), ("second", 7)):
        make_session(project, count, name=name)
    (project / "sessions" / "broken").mkdir()
    (project / "sessions" / "broken" / "session.db").write_bytes(b"no database at all" * 100)
    found = {g.paths.name: g for g in glances(project)}
    assert found["broken"].word == "unreadable" and "7 experiments" in found["second"].words
    app = Cockpit(project, SessionPaths(project, "first"), look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "FINISHED" in text_of(app))
        await pilot.press("O")
        await until(pilot, lambda: isinstance(app.screen, SessionsCard) and "this one" in text_of(app))
        card = app.screen
        assert isinstance(card, SessionsCard)
        move_to(card, "broken")
        await pilot.press("enter")
        assert app.screen is card, "a session that does not read was opened"
        move_to(card, "second")
        await pilot.press("enter")
        await until(pilot, lambda: app.session == SessionPaths(project, "second") and "second" in text_of(app))
        assert len(app.screen_stack) == 1
        await pilot.press("O")
        await until(pilot, lambda: isinstance(app.screen, SessionsCard))
        await pilot.press("w")
        await until(pilot, lambda: app.view.replaying and "recording" in text_of(app))
        await pilot.press("q")
    assert app.return_code == 0


# -- the title and the desktop --------------------------------------------------------------------------------------


async def test_the_title_shows_state_and_gain(show: Show) -> None:
    async with show() as (_pilot, app, source):
        words = title_words(app.view)
        assert "nov23 running" in words and "−" in words and "%" in words
        source.happen(e.StateChanged("paused", "by you"))
        assert "paused" in title_words(app.view)
        app.look.change_to("ansi", True)
        assert title_words(app.view).isascii()


def test_important_events_cause_a_desktop_notification() -> None:
    from core.record.events import Event
    from core.record.metric import Metric

    metric = Metric("loss")
    told: dict[str, e.Body] = {
        "#3 kept": e.Judged(experiment=3, verdict="kept", metric=1.0, delta=-0.1, reason="better"),
        "#4 needs approval": e.ApprovalRequested(4),
        "paused: a key was revoked": e.StateChanged("paused", "a key was revoked"),
        "the disk is full": e.Noted("error", "the disk is full"),
    }
    for words, body in told.items():
        assert words in (notification_text(Event(1, 0.0, body), metric) or ""), words
    silent: list[e.Body] = [
        e.Judged(experiment=3, verdict="discarded", metric=1.0, delta=0.1, reason="no"), e.StateChanged("running"),
        e.Noted("info", "x"),
    ]  # fmt: skip
    for body in silent:
        assert notification_text(Event(1, 0.0, body), metric) is None
