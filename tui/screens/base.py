"""Base of the app's screens: keys from the action registry, and the flush five times a second"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from textual import events
from textual.widgets import Input

from tui.host import Host, host_of
from tui.paint.canvas import Pane
from tui.paint.keyboard import KeyScreen
from tui.registry import Action
from tui.widgets.prompt import How, Prompt
from tui.widgets.status import Footer, KeyHint

MAX_UNWRITTEN = 3  # paintings on their way to the terminal; Textual blocks at thirty
REST_SECONDS = 60.0  # between two paintings of the readings of a session at rest
TICKS_AT_REST = 5  # of a session at rest every fifth tick is used: only its files can have grown
FLUSH_SECONDS = 0.2  # between two ticks; keys paint at once


Size = Literal["full", "tabs", "words"]


def size_of(width: int, height: int) -> Size:
    """Which of the three sizes a terminal gets."""
    if width < 40 or height < 10:
        return "words"
    return "tabs" if width < 100 or height < 30 else "full"


class ActionScreen(KeyScreen[None]):
    """A screen whose keys do the registry's actions of its `PLACE`."""

    PLACE: ClassVar[str] = ""
    AUTO_FOCUS = None
    prompt: Prompt
    _seen: tuple[object, ...] = ()
    _ticks = 0
    _seq = -1

    @property
    def host(self) -> Host:
        return host_of(self)

    def on_mount(self) -> None:
        self.set_interval(FLUSH_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticks += 1
        view = self.host.view
        seq, still = view.state.seq, view.at_rest or view.connection.status == "dead"
        if seq == self._seq and still and self._ticks % TICKS_AT_REST:
            return
        self._seq = seq
        if self._clogged():
            return  # a slow link: let earlier paintings arrive first
        if self.is_current or (self.app.screen.is_modal and self.app.screen_stack[-2:-1] == [self]):
            self.follow()

    def _clogged(self) -> bool:
        """Whether the terminal has yet to read the last paintings."""
        writer = getattr(self.app._driver, "_writer_thread", None)
        return writer is not None and writer._queue.qsize() > MAX_UNWRITTEN

    def follow(self) -> None:
        """Read what is new, and paint where something changed."""
        view = self.host.view
        seen: tuple[object, ...] = (view.source.version, int(self.host.clock()))
        if view.connection.status == "dead":
            seen = (view.source.version, 0)
        elif view.at_rest:  # its readings alone do not repaint a screen left open over a link
            trouble = view.pulse.trouble if view.pulse else ""
            seen = (view.state.seq, trouble, int(self.host.clock() / REST_SECONDS))
        if seen != self._seen:
            self.flush()
        else:
            self.flush_streams()
        self._seen = seen

    def flush(self) -> None:
        """Read what is new and paint all that changed."""

    def flush_streams(self) -> None:
        """Read and paint what grows in files beside the log: reasoning and output."""

    def poll_and_flush(self, panes: Sequence[Pane]) -> None:
        """Let panes read what is new, and paint those that changed."""
        for pane in panes:
            before = pane.revision()
            pane.poll()
            if pane.revision() != before:
                pane.flush()
        if (footer := self.query_one(Footer)).expire(self.host.clock()):
            footer.flush()

    def line(self) -> Input | None:
        return self.prompt.line if self.prompt.display else None

    async def write(self, line: Input, event: events.Key) -> None:
        if not self.prompt.special(event.key):
            await super().write(line, event)

    def written(self, purpose: str, text: str, how: How, pane: Pane | None) -> None:
        """A line of the prompt without a receiver of its own was sent or cancelled."""

    @property
    def page(self) -> int | None:
        """The experiment that this screen is about, or None."""
        return None

    def listed(self) -> list[Action]:
        """The actions of this screen, for a live session or for a recording."""
        return list(self.host.registry.for_place(self.PLACE, self.host.view.replaying))

    async def command(self, event: events.Key) -> None:
        keys = {event.key, event.character}
        action = next((a for a in self.listed() if keys & set(a.keys)), None)
        if action is not None:
            self.do(action)
        else:
            await self.app._check_bindings(event.key)

    def do(self, action: Action) -> None:
        """Do an action, or say why it cannot be done. A screen that is no longer on the stack does nothing."""
        if self not in self.app.screen_stack:
            return
        self.host.view.page = self.page
        if (reason := action.reason(self.host.view)) is not None:
            self.say(f"{action.title}: {reason}", "warn")
        else:
            action.do(self)

    # -- panes --------------------------------------------------------------------------------------------------

    @property
    def focused_pane(self) -> Pane:
        """The pane that the moving keys act on."""
        raise NotImplementedError

    def turn(self, step: int) -> None:
        """Focus the next pane (1) or the previous one (-1), cyclically."""
        raise NotImplementedError

    # -- actions of several screens -----------------------------------------------------------------------------

    def open_shown(self) -> None:
        """Open the page of the experiment that is shown."""
        if (subject := self.host.view.subject) is not None:
            self.host.open_experiment(subject.number)

    def mark(self) -> None:
        """Mark the experiment that is shown, or remove its mark."""
        view = self.host.view
        if view.subject is None:
            return
        number = view.subject.number
        word = "marked" if view.toggle_mark(number) else "no longer marked"
        self.flush()
        self.say(f"#{number} {word}; {len(view.marks)} marked, c compares two", "accent", 3.0)

    def leave(self) -> None:
        """Go back by one step: close this screen, or what is special about it."""
        self.dismiss()

    def next_diff_base(self) -> None:
        """Show the diff against the next of parent, best and baseline."""
        raise NotImplementedError

    def next_fold(self) -> None:
        """Show more or less of the reasoning."""
        raise NotImplementedError

    # -- the footer ---------------------------------------------------------------------------------------------

    def say(self, text: str, role: str = "text", seconds: float = 4.0) -> None:
        """Show a message in the footer for some seconds."""
        self.query_one(Footer).say(text, role, seconds, self.host.clock())

    def hints(self) -> Sequence[KeyHint]:
        """The footer's actions, in its order; none while a card is in front."""
        if self.app.screen.is_modal:
            return []
        view = self.host.view
        view.page = self.page
        listed = sorted((a for a in self.listed() if a.footer), key=lambda a: a.footer)
        return [(a.shown, a.titled(view), a.reason(view) is None, a.name) for a in listed]

    def on_screen_suspend(self) -> None:
        self.query_one(Footer).flush()

    def on_screen_resume(self) -> None:
        self.query_one(Footer).flush()

    async def on_footer_picked(self, message: Footer.Picked) -> None:
        if action := next((a for a in self.listed() if a.name == message.action), None):
            self.do(action)
