"""The command palette: every action, experiment, theme and setting by name"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import cast

from rich.text import Text
from textual import events, work
from textual.command import CommandInput, CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.css.query import NoMatches
from textual.errors import NoWidget
from textual.markup import escape

from core.record.errors import AutoresearchError
from tui.host import Host, host_of
from tui.paint.cells import brief
from tui.registry import Action, all_keys
from tui.screens.base import ActionScreen
from tui.user_settings import CHOICES, change, config_path

MAX_EXPERIMENTS_FOUND = 20


class ActionPalette(CommandPalette):
    """Textual's own, without its failures on a terminal too small for it, and when it closes during a search."""

    def on_mount(self) -> None:
        self.query_one(CommandInput).cursor_blink = False

    def _on_click(self, event: events.Click) -> None:  # type: ignore[override]
        try:
            self.get_widget_at(event.screen_x, event.screen_y)
        except NoWidget:
            event.prevent_default()
            event.stop()

    def _action_command_list(self, action: str) -> None:
        """Paging counts the painted lines of options: without room there are none."""
        with contextlib.suppress(KeyError):
            super()._action_command_list(action)

    # Closed while a search begins or ends, it has no list any more.

    @work(exclusive=True, group=CommandPalette._GATHER_COMMANDS_GROUP)
    async def _gather_commands(self, search_value: str) -> None:
        with contextlib.suppress(NoMatches):
            await getattr(CommandPalette._gather_commands, "__wrapped__")(self, search_value)  # noqa: B009

    def _watch__list_visible(self) -> None:
        with contextlib.suppress(NoMatches):
            super()._watch__list_visible()

    async def _watch__show_busy(self) -> None:
        with contextlib.suppress(NoMatches):
            await super()._watch__show_busy()


class ActionProvider(Provider):
    """Actions of the screen below the palette; a disabled one says why when it is chosen.

    Titles are Text, since plain strings are read as markup: a hypothesis may contain brackets.
    """

    @property
    def _screen(self) -> ActionScreen:
        return cast(ActionScreen, self.screen)

    @property
    def _host(self) -> Host:
        return host_of(self.screen)

    def _actions(self) -> list[Action]:
        hidden = ("palette", "up", "down", "page_up", "page_down", "top", "bottom")
        return [a for a in self._screen.listed() if a.name not in hidden]

    def _help(self, action: Action) -> str:
        reason = action.reason(self._host.view)
        return escape(f"{all_keys(action)}   {action.description}" + (f" Not now: {reason}." if reason else ""))

    async def discover(self) -> Hits:
        for action in self._actions():
            title = action.titled(self._host.view)
            yield DiscoveryHit(Text(title), partial(self._do, action), text=title, help=self._help(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            title = action.titled(self._host.view)
            if (score := matcher.match(f"{title} {action.description}")) > 0:
                yield Hit(score + 0.1, Text(title), partial(self._do, action), text=title, help=self._help(action))
        for title, words, name, value in self._settings():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, Text(title), partial(self._set, name, value), text=title, help=words)
        for hit in islice(self._experiments(query), MAX_EXPERIMENTS_FOUND):
            yield hit

    def _settings(self) -> Iterator[tuple[str, str, str, str | bool]]:
        """(title, help, setting, value) of each value of each setting that has a few."""
        settings = self._host.settings
        for theme in CHOICES["screen.theme"]:
            now = "the present one" if theme == settings.theme else "written to your settings"
            yield f"theme: {theme}", now, "screen.theme", theme
        for word in CHOICES["screen.ascii"]:
            yield f"ASCII only: {word}", "written to your settings", "screen.ascii", word
        for word in CHOICES["screen.notify"]:
            yield f"notifications: {word}", "on your desktop, when something needs you", "screen.notify", word
        for name, on in (("bell", settings.bell), ("title", settings.title)):
            yield f"{name}: {'off' if on else 'on'}", "written to your settings", f"screen.{name}", not on

    async def _set(self, name: str, value: str | bool) -> None:
        host = self._host
        try:
            change(config_path(), name, value)
        except AutoresearchError as error:
            host.tell(" ".join(str(error).split()), "bad", 8.0)
            return
        host.read_settings()
        host.tell(f"{host.look.glyph('ok')} {name.rpartition('.')[2]}: {value}", "good")

    def _experiments(self, query: str) -> Iterator[Hit]:
        """By number, or by words of the hypothesis: a substring search, since there may be ten thousand."""
        experiments = self._host.view.state.experiments
        wanted = query.lower().lstrip("#").split()
        for number in sorted(experiments, reverse=True):
            x = experiments[number]
            text = f"#{number} {self._host.view.phase_of(x)} {brief(x.hypothesis)}"
            if wanted and all(word in text.lower() for word in wanted):
                score = 2.0 if wanted == [str(number)] else 0.3
                show = partial(self._host.open_experiment, number)
                yield Hit(score, Text(text), show, text=text, help="open this experiment")

    async def _do(self, action: Action) -> None:
        self._screen.do(action)
