"""The Textual app: one session, its screens, and the Host that these use"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from textual import events
from textual.app import App, ScreenStackError
from textual.binding import BindingType
from textual.driver import Driver
from textual.filter import LineFilter, NoColor
from textual.message import Message
from textual.screen import Screen
from textual.worker import Worker

from core.client.live import Client
from core.record.commands import Command, Reply
from core.record.errors import AutoresearchError, UsageError
from core.record.events import BranchHeld, Noted
from core.session.disk import read_json
from core.session.paths import SessionPaths
from core.views import one_line
from tui.actions import REGISTRY
from tui.control.away import MARK_SECONDS, OFFER_SECONDS, mark_seen, offer_away, restore_unsent
from tui.control.commands import offer_approval
from tui.control.navigation import detach, open_recording
from tui.control.notify import Notifier
from tui.host import AnswerNote
from tui.paint.canvas import Canvas
from tui.paint.keyboard import KeyScreen
from tui.paint.theme import TEXTUAL_THEMES, AsciiFilter, Look, choose_look
from tui.replay.recording import Recording
from tui.screens.base import ActionScreen
from tui.session_view import SessionView, Source
from tui.terminal.calm import Calm
from tui.terminal.external_editor import Editor
from tui.terminal.hangup import watch_terminal
from tui.terminal.late_errors import is_late_error
from tui.user_settings import Settings, config_path, read
from tui.widgets.prompt import Recalled, Then, UnsentText
from tui.widgets.status import Footer

Result = TypeVar("Result")
MAX_ANSWERS = 100  # among the notes
MAX_SENT_GUIDANCE = 50  # that `up` brings back


class Printer(Protocol):
    """The command line's output: results, and remarks on standard error."""

    def line(self, text: str = "") -> None: ...
    def say(self, text: str) -> None: ...


class Cockpit(App[int]):
    """The Host of all screens and controls. `look` None: as in the settings."""

    CSS_PATH = "cockpit.tcss"
    BINDINGS: ClassVar[list[BindingType]] = []
    ENABLE_COMMAND_PALETTE = False  # opened by our own action, with our own provider
    TITLE = "autoresearch"
    view: SessionView

    def __init__(
        self,
        project: Path,
        paths: SessionPaths | None,
        *,
        source: Source | None = None,
        look: Look | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.settings_error = Settings(), ""
        self._given_look = look
        self.look = look or choose_look(os.environ)
        self.registry = REGISTRY
        super().__init__()
        self.project = project
        self.clock = clock
        self.session: SessionPaths | None = None
        self.editor = Editor(self, os.environ)
        self.answers: deque[AnswerNote] = deque(maxlen=MAX_ANSWERS)
        self.sent_guidance: deque[str] = deque(maxlen=MAX_SENT_GUIDANCE)
        self.drafts: dict[str, UnsentText] = {}
        self.calm = Calm()
        self.offered: set[int] = set()
        self.last_seen: Mapping[str, object] = {}
        self.failure: Exception | None = None
        self.farewell = ""  # printed once the terminal is restored
        self._ascii = AsciiFilter()
        self._no_colour = NoColor()  # for the colours that Textual adds: inputs, cards, the launch screen
        self._following: Worker[None] | None = None
        self._moving = asyncio.Lock()  # one replacement of all screens at a time
        self.notifier = Notifier(self)
        self._source = source or (Client(paths) if paths else None)
        self.animation_level = "none"
        for theme in TEXTUAL_THEMES:
            self.register_theme(theme)
        self.read_settings()

    # -- settings -----------------------------------------------------------------------------------------------

    def read_settings(self) -> None:
        """Read config.toml and apply it; of a broken one nothing, and `settings_error` says why."""
        try:
            self.settings, file = read(config_path())
            self.settings_error = ""
            try:
                self.registry = REGISTRY.remapped(self.settings.keys)
            except UsageError as error:
                file.refuse(error.where, error.what, error.hint)
        except AutoresearchError as error:
            self.settings, self.registry = Settings(), REGISTRY
            self.settings_error = f"{error}\n  until then the default settings and keys apply"
        if self._given_look is None:
            chosen = choose_look(os.environ, self.settings.theme, self.settings.ascii)
            self.look.change_to(chosen.name, chosen.ascii)
        self._dress()

    def _dress(self) -> None:
        """Repaint everything in the colours and signs of the present look."""
        self.theme = self.look.theme
        if not self._running:
            return
        for screen in self.screen_stack:
            for canvas in screen.query(Canvas):
                canvas.repaint()
            screen.refresh(layout=True)

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = list(super().get_line_filters())
        if self.look.name == "plain":
            filters.append(self._no_colour)
        return [*filters, self._ascii] if self.look.ascii else filters

    # -- which session ------------------------------------------------------------------------------------------

    def get_default_screen(self) -> Screen[None]:
        if self._source is None:
            from tui.screens.launch import LaunchScreen

            return LaunchScreen(self.look)
        return self._enter(self._source)

    def _enter(self, source: Source) -> Screen[None]:
        from tui.screens.main_screen import MainScreen

        clock = source.now if isinstance(source, Recording) else self.clock
        self.view = SessionView(source, self.look, clock)
        self.session = source.paths
        return MainScreen(self.view)

    def get_driver_class(self) -> type[Driver]:
        from textual.drivers.linux_driver import LinuxDriver

        from tui.terminal.terminal_driver import TerminalDriver

        usual = super().get_driver_class()
        return TerminalDriver if usual is LinuxDriver else usual

    def on_mount(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(number, self._leave)
        if not self.is_headless:
            watch_terminal(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, self._leave))
        self.set_interval(MARK_SECONDS, lambda: mark_seen(self))
        if self._source is not None:
            self._follow(self._source)
        if self.settings_error:
            self._note_answer(self.settings_error, accepted=False)
            self.set_timer(0.3, lambda: self.tell(" ".join(self.settings_error.split()), "bad", 20.0))

    def _leave(self) -> None:
        """SIGTERM or SIGHUP: the engine keeps running, the terminal is restored."""
        self.editor.end()
        self.leave(self.farewell)

    def attach(self, paths: SessionPaths) -> None:
        """Open another session, from the launch screen or from a session."""
        self.run_worker(self.open(Client(paths)))

    async def open(self, source: Source) -> None:
        """Show another source in place of all that is shown now."""
        async with self._moving:
            mark_seen(self)
            if self._following is not None:
                self._following.cancel()
            self.offered.clear()
            self.drafts.clear()
            await self._replace_all(self._enter(source))
            self._follow(source)

    async def _replace_all(self, screen: Screen[None]) -> None:
        """One screen in place of the whole stack."""
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        if not self.screen._result_callbacks:  # without one, as of the first screen, switch_screen fails
            self.screen._push_result_callback(self.screen, None)
        await self.switch_screen(screen)

    async def show_again(self, change: Callable[[], object]) -> None:
        """Apply `change` (a recording jumps back: its files begin again) and show the source on a new main screen.

        No older screen paints in between: what it refers to may be gone.
        """
        from tui.screens.main_screen import MainScreen

        async with self._moving:
            while len(self.screen_stack) > 1:
                await self.pop_screen()
            old = self.screen
            change()
            new = MainScreen(self.view)
            self.session = self.view.paths
            if isinstance(old, MainScreen):
                new.active, new.zoomed = old.active, old.zoomed
            await self._replace_all(new)

    def _follow(self, source: Source) -> None:
        self._following = self.run_worker(self._keep_up(source))
        self.last_seen = read_json(source.paths.seen)
        restore_unsent(self)
        if not self.view.replaying:
            self.set_timer(OFFER_SECONDS, lambda: offer_away(self))

    async def _keep_up(self, source: Source) -> None:
        try:
            await source.run()
        except AutoresearchError as error:
            self.farewell = str(error)
            self.exit(1)

    def _handle_exception(self, error: Exception) -> None:
        """An error of the app itself: end; the command line reports it and saves the traceback to a file.

        While the app ends, a screen that is still being built may lack its widgets, which is no error.
        """
        if self._exit:
            self._close_messages_no_wait()
            return
        if is_late_error(error, self.screen_stack):
            return
        self.failure = error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        self._close_messages_no_wait()

    async def on_event(self, event: events.Event) -> None:
        """Handle keys and pasted text in order: each takes full effect before the next is read.

        Textual posts a key to the widget that has the focus when the key arrives, and actions run later: of `i` and a
        sentence typed fast, the first letters would still be commands.
        """
        if isinstance(event, (events.InputEvent, events.Paste)) and not self.screen_stack:
            return  # between two screens, and when the last one has closed
        if isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded:
            self.calm.heard(event.key if isinstance(event, events.Key) else "paste", event.time)
            with contextlib.suppress(ScreenStackError):
                if isinstance(screen := self.screen, KeyScreen):
                    self.app_focus = True
                    await screen.take(event)
                    return
        await super().on_event(event)

    def on_unheard(self, message: Message) -> None:
        self.calm.heard("reply", message.time)

    async def action_quit(self) -> None:
        detach(self)

    def action_help_quit(self) -> None:
        self.tell("q detaches; the engine keeps running", "accent")

    # -- Host: the engine ---------------------------------------------------------------------------------------

    def ask(self, command: Command, then: Callable[[Reply], None] | None = None) -> None:
        self.start(self._ask(command, then))

    async def _ask(self, command: Command, then: Callable[[Reply], None] | None) -> None:
        try:
            reply = await self.view.source.send(command)
        except AutoresearchError as error:
            reply = Reply(False, error.what)
        self._note_answer(reply.message, reply.accepted)
        sign = self.look.glyph("ok" if reply.accepted else "no")
        self.tell(f"{sign} {reply.message}", "good" if reply.accepted else "warn")
        if then is not None:
            then(reply)

    def _note_answer(self, words: str, accepted: bool) -> None:
        self.answers.append(AnswerNote(time.time(), accepted, one_line(words)))

    def take_events(self) -> None:
        new = self.view.source.take_events()
        self.notifier.report(new)
        for event in new:
            body = event.body
            if isinstance(body, Noted) and body.level != "info":
                self.tell(body.text, "bad" if body.level == "error" else "warn")
            elif isinstance(body, BranchHeld) and body.words:
                self.tell(body.words, "warn")
        if not self.view.replaying:
            offer_approval(self)

    # -- Host: the screens --------------------------------------------------------------------------------------

    def _in_front(self) -> ActionScreen | None:
        for screen in reversed(self.screen_stack):
            if isinstance(screen, ActionScreen) and screen.query(Footer):  # else it is still being built
                return screen
        return None

    def tell(self, text: str, role: str = "text", seconds: float = 4.0) -> None:
        if (screen := self._in_front()) is not None:
            screen.say(text, role, seconds)

    def write(self, purpose: str, label: str, then: Then, text: str = "", recall: tuple[Recalled, ...] = ()) -> None:
        if (screen := self._in_front()) is not None:
            screen.prompt.ask(purpose, label, text, None, then, recall)

    def push(self, screen: Screen[Result], then: Callable[[Result | None], None] | None = None) -> None:
        self.push_screen(screen, then)

    async def push_and_wait(self, screen: Screen[Result]) -> Result | None:
        return await self.push_screen_wait(screen)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.run_worker(work)

    def open_experiment(self, number: int) -> None:
        from tui.screens.reading.experiment import DetailScreen

        self.push_screen(DetailScreen(self.view, number))

    def play(self, paths: SessionPaths, speed: float | None = None) -> None:
        self.start(open_recording(self, paths, speed or self.settings.replay_speed))

    # -- Host: the terminal -------------------------------------------------------------------------------------

    def to_terminal(self, text: str) -> None:
        if text and self._driver is not None and not self.is_headless and not self.editor.busy:
            self._driver.write(text)

    def to_clipboard(self, text: str) -> None:
        self._clipboard = text

    def leave(self, farewell: str) -> None:
        mark_seen(self)
        self.farewell = farewell
        self.exit(0)


def run_app(project: Path, paths: SessionPaths | None, out: Printer, source: Source | None = None) -> int:
    """Run the app on a session, on another `source`, or on the launch screen. Returns the exit code.

    The farewell (how to come back, why the app ended) is printed once the terminal is restored.
    """
    for name in ("COLUMNS", "LINES"):  # exported by some shells and libraries; they would hide every resize from us
        os.environ.pop(name, None)
    app = Cockpit(project, paths, source=source)
    code = app.run()
    app.notifier.end(sys.stdout)
    if app.failure is not None:
        raise app.failure
    if app.farewell:
        (out.say if code else out.line)(app.farewell)
    return 0 if code is None else code
