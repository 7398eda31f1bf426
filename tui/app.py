"""The Textual app: one client, one model, and the screens around them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import App, ScreenStackError
from textual.binding import BindingType
from textual.filter import LineFilter, NoColor

from core import invocation
from core.client import Client
from core.record import commands
from core.record.errors import AutoresearchError, UsageError
from core.record.events import BranchHeld, Noted
from core.session.paths import SessionPaths
from core.views import clean
from tui.actions import REGISTRY
from tui.control.away import MARK_SECONDS, Seen
from tui.control.commands import EngineCommands
from tui.control.editing import Handwork
from tui.control.navigation import Going
from tui.control.notify import Herald
from tui.paint.keyboard import KeyScreen
from tui.paint.theme import TEXTUAL_THEMES, AsciiFilter, Look, choose_look
from tui.replay.recording import Recording
from tui.session_view import SessionView, Source
from tui.terminal.hangup import watch_terminal
from tui.terminal.late_errors import is_late_error
from tui.user_settings import Settings, config_path, read

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.worker import Worker

    from tui.cli.output import Output


class Cockpit(App[int]):
    """`source` and `clock` are what the screens see of the world; `look` how they show it (None: as it is set)."""

    CSS_PATH = "cockpit.tcss"
    BINDINGS: ClassVar[list[BindingType]] = []
    ENABLE_COMMAND_PALETTE = False  # opened by our own action, with our own provider
    TITLE = "autoresearch"
    model: SessionView

    def __init__(
        self,
        project: Path,
        paths: SessionPaths | None,
        *,
        source: Source | None = None,
        look: Look | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.settings_trouble = Settings(), ""
        self._given_look = look
        self.look = look or choose_look(os.environ)
        self.registry = REGISTRY
        super().__init__()
        self.project = project
        self.clock = clock
        self.session: SessionPaths | None = None
        self.failure: Exception | None = None
        self.farewell = ""  # said after the terminal is restored
        self._ascii = AsciiFilter()
        self._no_colour = NoColor()  # what Textual colours itself: inputs, cards, the launch screen
        self._carded: set[int] = set()
        self._following: Worker[None] | None = None
        self._moving = asyncio.Lock()  # all that is shown is replaced by one hand at a time
        self.steering = EngineCommands(self)
        self.handwork = Handwork(self)
        self.going = Going(self)
        self.herald = Herald(self)
        self.seen = Seen(self)
        self._source = source or (Client(paths) if paths else None)
        self.animation_level = "none"
        for theme in TEXTUAL_THEMES:
            self.register_theme(theme)
        self.read_settings()

    # -- settings -----------------------------------------------------------------------------------------------

    def read_settings(self) -> None:
        """Take over what config.toml says; of a broken one nothing, and `settings_trouble` says why."""
        try:
            self.settings, file = read(config_path())
            self.settings_trouble = ""
            try:
                self.registry = REGISTRY.remapped(self.settings.keys)
            except UsageError as error:
                file.refuse(error.where, error.what, error.hint)
        except AutoresearchError as error:
            self.settings, self.registry = Settings(), REGISTRY
            self.settings_trouble = f"{error}\n  until then the usual settings and keys hold"
        if self._given_look is None:
            chosen = choose_look(os.environ, self.settings.theme, self.settings.ascii)
            self.look.change_to(chosen.name, chosen.ascii)
        self._dress()

    def _dress(self) -> None:
        """Everything in the colours and signs of the look as it is now."""
        self.theme = self.look.theme
        if not self._running:
            return
        from tui.paint.canvas import Canvas

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
        self.model = SessionView(source, self.look, clock)
        self.session = source.paths
        return MainScreen(self.model)

    def on_mount(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                self._loop_signal(number)
        if not self.is_headless:
            watch_terminal(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, self._leave))
        self.set_interval(MARK_SECONDS, self.seen.mark)
        if self._source is not None:
            self._follow(self._source)
        if self.settings_trouble:
            self.steering.remember(self.settings_trouble, accepted=False)
            self.set_timer(0.3, lambda: self.tell(" ".join(self.settings_trouble.split()), "bad", 20.0))

    def _loop_signal(self, number: signal.Signals) -> None:
        asyncio.get_running_loop().add_signal_handler(number, self._leave)

    def _leave(self) -> None:
        """SIGTERM or SIGHUP: the engine goes on, the terminal is left clean."""
        self.handwork.editor.end()
        self.seen.mark()
        self.exit(0)

    def attach(self, paths: SessionPaths) -> None:
        """Into another session, from the launch screen or from one."""
        self.run_worker(self.open(Client(paths)))

    async def open(self, source: Source) -> None:
        """Show another source in place of all that is shown now."""
        async with self._moving:
            self.seen.mark()
            if self._following is not None:
                self._following.cancel()
            self._carded.clear()
            await self._replace_all(self._enter(source))
            self._follow(source)

    async def _replace_all(self, screen: Screen[None]) -> None:
        """One screen in place of the whole stack."""
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        if not self.screen._result_callbacks:  # the app's first screen has none, and switching would trip over that
            self.screen._push_result_callback(self.screen, None)
        await self.switch_screen(screen)

    async def show_again(self, change: Callable[[], object]) -> None:
        """Do `change` (a recording jumps back: its files begin again) and show the same source on a screen made anew.

        Nothing that was made before paints between the two: what it knows of may be gone.
        """
        from tui.screens.main_screen import MainScreen

        async with self._moving:
            while len(self.screen_stack) > 1:
                await self.pop_screen()
            old = self.screen
            change()
            new = MainScreen(self.model)
            self.session = self.model.paths
            if isinstance(old, MainScreen):
                new.active, new.zoomed = old.active, old.zoomed
            await self._replace_all(new)

    def _follow(self, source: Source) -> None:
        self._following = self.run_worker(self._keep_up(source))
        self.seen.begin(source.paths)

    async def _keep_up(self, source: Source) -> None:
        try:
            await source.run()
        except AutoresearchError as error:
            self.farewell = str(error)
            self.exit(1)

    def _handle_exception(self, error: Exception) -> None:
        """A fault of ours: end, and let the command line say so in words and keep the traceback in a file.

        Once the app is leaving, a screen that was being made may find itself without its widgets: no fault.
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
        """Keys and pasted text, one after the other: the next is looked at when the one before has done its work.

        Textual posts a key to the widget that has the focus when it arrives, and actions run later, from queue to
        queue: of `i` and a sentence typed fast, the first letters would still be taken as commands.
        """
        if isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded:
            with contextlib.suppress(ScreenStackError):
                if isinstance(screen := self.screen, KeyScreen):
                    self.app_focus = True
                    await screen.take(event)
                    return
        await super().on_event(event)

    # -- coming and going ---------------------------------------------------------------------------------------

    async def act_detach(self) -> None:
        self.seen.mark()
        if self.session is None:
            pass
        elif self.model.replaying:
            self.farewell = f"The recording is over. A session of your own:  {invocation.call()}"
        elif self.model.connection.status != "dead":
            self.farewell = (
                f"Detached: the engine of session {clean(self.session.name)!r} goes on.\n"
                f"Come back with:  {_attach(self.session)}"
            )
        else:
            self.farewell = f"Look again with:  {_attach(self.session)}"
        self.exit(0)

    async def action_quit(self) -> None:
        await self.act_detach()

    def action_help_quit(self) -> None:
        self.tell("q detaches; the engine goes on", "accent")

    # -- answering ----------------------------------------------------------------------------------------------

    def doing(self, name: str) -> Callable[[], Awaitable[None]]:
        """What does the action `name` when its screen does not. Raises LookupError."""
        for place in (self, self.steering, self.handwork, self.going, self.seen):
            if (method := getattr(place, f"act_{name}", None)) is not None:
                found: Callable[[], Awaitable[None]] = method
                return found
        raise LookupError(name)

    def tell(self, text: str, role: str = "text", seconds: float = 4.0) -> None:
        """Say something in the footer of the screen in front."""
        from tui.screens.base import ActionScreen
        from tui.widgets.status import Footer

        for screen in reversed(self.screen_stack):
            if isinstance(screen, ActionScreen) and screen.query(Footer):  # else it is only being made
                screen.say(text, role, seconds)
                return

    def heard(self) -> None:
        """Say what a person should notice, wherever they look: warnings, errors, a proposal that waits."""
        new = self.model.source.take_events()
        self.herald.hear(new)
        for event in new:
            body = event.body
            if isinstance(body, Noted) and body.level != "info":
                self.tell(body.text, "bad" if body.level == "error" else "warn")
            elif isinstance(body, BranchHeld) and body.words:
                self.tell(body.words, "warn")
        if not self.model.replaying:
            self.offer_approval()

    # -- approvals ----------------------------------------------------------------------------------------------

    def offer_approval(self) -> None:
        """Show the card of a proposal that waits, once, when nothing else is in front and nobody writes."""
        from tui.screens.main_screen import MainScreen

        waiting = [n for n in self.model.state.approvals if n not in self._carded]
        screen = self.screen
        if waiting and self.model.live and isinstance(screen, MainScreen) and not screen.prompt.display:
            self._open_approval(waiting[0])

    async def act_approve(self) -> None:
        self._open_approval(self.model.state.approvals[0], asked=True)

    def _open_approval(self, experiment: int, *, asked: bool = False) -> None:
        from tui.screens.dialogs import ApprovalAnswer, ApprovalCard

        self._carded.add(experiment)

        def answered(answer: ApprovalAnswer | None) -> None:
            if answer is None:
                return
            if answer.how == "gone":  # it comes back with the engine
                self._carded.discard(experiment)
                self.offer_approval()  # the engine may be back already, with nothing new to tell
            elif answer.how == "edit":
                self.handwork.edit_proposal(experiment)
            elif answer.how == "reject":
                self.steering.ask(commands.Reject(experiment, answer.reason))
            else:
                self.steering.ask(commands.Approve(experiment, all=answer.how == "all"))

        self.push_screen(ApprovalCard(self.model, experiment, asked=asked), answered)

    # -- other screens ------------------------------------------------------------------------------------------

    def open_experiment(self, number: int) -> None:
        from tui.screens.reading.experiment import DetailScreen

        self.push_screen(DetailScreen(self.model, number))

    async def act_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.model, self.registry, getattr(self.screen, "PLACE", "main")))

    async def act_notes(self) -> None:
        from tui.screens.help import NotesScreen

        self.push_screen(NotesScreen(self.model, list(self.steering.answers)))

    async def act_palette(self) -> None:
        from tui.control.command_palette import ActionPalette, RegistryProvider

        self.push_screen(
            ActionPalette(
                providers=[RegistryProvider], placeholder="an action, a theme, or an experiment by number or words"
            )
        )

    async def act_resume_engine(self) -> None:
        if self.session is not None:
            self.tell("starting the engine …", "accent")
            self.run_worker(self._start_again, thread=True)

    def _start_again(self) -> None:
        from core.client import start_engine

        assert self.session is not None
        try:
            start_engine(self.session)
        except AutoresearchError as error:
            self.call_from_thread(self.tell, " ".join(str(error).split()), "bad")
        else:
            self.call_from_thread(self.tell, f"{self.look.glyph('ok')} the engine goes on", "good")


def run_app(project: Path, paths: SessionPaths | None, out: Output, source: Source | None = None) -> int:
    """Run the app on a session, on another `source`, or on the launch screen. Returns the exit code.

    What there is to say afterwards (how to come back, why it ended) is printed once the terminal is restored.
    """
    # Ten thousand experiments are many objects that stay: the collector's default pace costs 0.3 s at opening.
    gc.set_threshold(50_000, 20, 50)
    for name in ("COLUMNS", "LINES"):  # exported by some shells and libraries; they would hide every resize from us
        os.environ.pop(name, None)
    app = Cockpit(project, paths, source=source)
    code = app.run()
    app.herald.end(sys.stdout)
    if app.failure is not None:
        raise app.failure
    if app.farewell:
        (out.say if code else out.line)(app.farewell)
    return 0 if code is None else code


def _attach(paths: SessionPaths) -> str:
    return invocation.call("attach", paths.name, project=paths.project)
