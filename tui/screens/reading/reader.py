"""Base of the screens for reading: status line, panes behind tabs or below each other, footer"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.widget import Widget

from tui.paint.canvas import Canvas, Pane
from tui.screens.base import ActionScreen, size_of
from tui.session_view import SessionView
from tui.widgets.leaderboard.listing import Listing
from tui.widgets.prompt import Prompt
from tui.widgets.status import Footer, KeyHint, NowLine, StatusLine, TabLine


class ReadingScreen(ActionScreen):
    """`panes` are behind tabs (TABS names them), or all visible below each other (TABS empty)."""

    TABS: ClassVar[Sequence[str]] = ()

    def __init__(self, view: SessionView, tab: int = 0) -> None:
        super().__init__()
        self.view = view
        self.tab = tab
        self.panes: list[Pane] = []
        self.prompt = Prompt(self.written, lambda: self.host.drafts)

    def make_panes(self) -> list[Pane]:
        """The panes, made when the screen is composed."""
        raise NotImplementedError

    def head(self) -> list[Widget]:
        """Widgets between the status line and the tabs."""
        return []

    def compose(self) -> ComposeResult:
        yield StatusLine(self.view, id="status")
        yield NowLine(self.view, id="now")
        yield from self.head()
        if self.TABS:
            yield TabLine(self.view, self.TABS, id="tabs")
        self.panes = self.make_panes()
        for pane in self.panes:
            pane.NUMBER = 0
            yield pane
        yield self.prompt
        yield Footer(self.view, self.hints, id="footer")

    def on_mount(self) -> None:
        self.show_tab(self.tab)

    def on_resize(self, event: events.Resize) -> None:
        if self.panes:
            self.show_tab(self.tab)

    @property
    def focused_pane(self) -> Pane:
        focused = self.focused
        return focused if isinstance(focused, Pane) and focused.display else self.panes[self.tab if self.TABS else 0]

    def show_tab(self, index: int) -> None:
        self.tab = index
        framed = size_of(*self.app.size) == "full"
        for at, pane in enumerate(self.panes):
            pane.display = at == index if self.TABS else True
            pane.framed = framed
        if self.TABS:
            self.query_one(TabLine).active = index
            self.set_focus(self.panes[index])
        elif not isinstance(self.focused, Pane):
            self.set_focus(self.panes[0])
        now = self.query_one(NowLine)
        now.display = now.urgent() and framed
        self.flush()

    def flush(self) -> None:
        self.host.take_events()
        self.follow_files()
        for pane in self.panes:
            if pane.display:
                pane.poll()
        self.query_one(Footer).expire(self.host.clock())
        for canvas in self.query(Canvas):
            if canvas.display:
                canvas.flush()

    def follow_files(self) -> None:
        """Read what is new in the shown files, before the panes do."""

    def flush_streams(self) -> None:
        self.poll_and_flush([pane for pane in self.panes if pane.display])

    def hints(self) -> Sequence[KeyHint]:
        return [("esc", "back", True, "escape"), *super().hints()]

    # -- actions ------------------------------------------------------------------------------------------------

    def on_tab_line_picked(self, message: TabLine.Picked) -> None:
        self.show_tab(message.index)

    def turn(self, step: int) -> None:
        if self.TABS:
            self.show_tab((self.tab + step) % len(self.panes))
        else:
            self.set_focus(self.panes[(self.panes.index(self.focused_pane) + step) % len(self.panes)])


class ListScreen(ReadingScreen):
    """A list of experiments: commands act on the one under the cursor, enter opens it."""

    listing: Listing

    @property
    def page(self) -> int | None:
        return self.listing.cursor if self.panes else None

    def on_listing_moved(self, message: Listing.Moved) -> None:
        if message.opened and message.experiment is not None:
            self.host.open_experiment(message.experiment)
        else:
            self.flush()
