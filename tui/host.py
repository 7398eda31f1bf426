"""Host: the part of the app that screens and controls may use"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from textual.message_pump import MessagePump
from textual.screen import Screen

from core.record.commands import Command, Reply
from core.session.paths import SessionPaths
from tui.paint.theme import Look
from tui.registry import Registry
from tui.session_view import SessionView, Source
from tui.terminal.calm import Calm
from tui.terminal.external_editor import Editor
from tui.user_settings import Settings
from tui.widgets.prompt import Recalled, Then, UnsentText

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class AnswerNote:
    """The engine's answer to a request, for the list of notes."""

    time: float
    accepted: bool
    words: str


class Host(Protocol):
    """What the app offers. Screens and controls never import the app itself; mypy checks that it is a Host."""

    project: Path
    session: SessionPaths | None  # None before one is opened
    view: SessionView  # of the session that is open
    look: Look
    clock: Callable[[], float]
    settings: Settings
    settings_error: str  # why config.toml cannot be used; empty when it can
    registry: Registry
    editor: Editor
    answers: deque[AnswerNote]
    sent_guidance: deque[str]  # newest last
    drafts: dict[str, UnsentText]  # texts that were written and not sent, by what they are for
    calm: Calm
    offered: set[int]  # experiments whose approval card has been shown
    last_seen: Mapping[str, object]  # the content of seen.json when the session was opened

    @property
    def screen(self) -> Screen[Any]: ...

    def tell(self, text: str, role: str = "text", seconds: float = 4.0) -> None:
        """Show a message in the footer."""

    def ask(self, command: Command, then: Callable[[Reply], None] | None = None) -> None:
        """Send a command to the engine without blocking; its answer is shown, and kept among the notes."""

    def write(self, purpose: str, label: str, then: Then, text: str = "", recall: tuple[Recalled, ...] = ()) -> None:
        """Open the prompt on the screen in front; `then` takes the line that was written."""

    def push(self, screen: Screen[Result], then: Callable[[Result | None], None] | None = None) -> None: ...
    async def push_and_wait(self, screen: Screen[Result]) -> Result | None: ...
    def open_experiment(self, number: int) -> None: ...

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background."""

    def attach(self, paths: SessionPaths) -> None: ...

    def play(self, paths: SessionPaths, speed: float | None = None) -> None:
        """Play a session from its beginning; `speed` None: as in the settings."""

    async def open(self, source: Source) -> None:
        """Show another source in place of all screens."""

    async def show_again(self, change: Callable[[], object]) -> None:
        """Apply `change` to the source and show it on a new main screen."""

    def read_settings(self) -> None:
        """Read config.toml and apply it."""

    def take_events(self) -> None:
        """Report new events: messages, notifications, proposals that need approval."""

    def to_terminal(self, text: str) -> None:
        """Write escape sequences to the terminal, unless an editor is using it."""

    def to_clipboard(self, text: str) -> None: ...

    def leave(self, farewell: str) -> None:
        """End the app; `farewell` is printed once the terminal is restored."""


def host_of(node: MessagePump) -> Host:
    """The app of a screen or widget."""
    return cast(Host, node.app)
