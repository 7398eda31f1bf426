"""What the screens for reading share: a status line, panes one at a time or below each other, tabs, and a footer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.widget import Widget

from tui.paint.canvas import Canvas, Pane
from tui.screens.base import ActionScreen, size_of
from tui.session_view import SessionView
from tui.widgets.prompt import Prompt
from tui.widgets.status import Footer, Hint, NowLine, StatusLine, TabLine


class ReadingScreen(ActionScreen):
    """`panes` are its parts: behind tabs (TABS names them), or all at once below each other (TABS empty)."""

    TABS: ClassVar[Sequence[str]] = ()

    def __init__(self, model: SessionView, tab: int = 0) -> None:
        super().__init__()
        self.model = model
        self.tab = tab
        self.panes: list[Pane] = []
        self.prompt = Prompt(self.written)

    def make_panes(self) -> list[Pane]:
        """Its parts, made when the screen is."""
        raise NotImplementedError

    def head(self) -> list[Widget]:
        """What stands between the status line and the tabs."""
        return []

    def compose(self) -> ComposeResult:
        yield StatusLine(self.model, id="status")
        yield NowLine(self.model, id="now")
        yield from self.head()
        if self.TABS:
            yield TabLine(self.model, self.TABS, id="tabs")
        self.panes = self.make_panes()
        for pane in self.panes:
            pane.NUMBER = 0
            yield pane
        yield self.prompt
        yield Footer(self.model, self.hints, id="footer")

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
        self.cockpit.heard()
        self.follow_files()
        for pane in self.panes:
            if pane.display:
                pane.poll()
        self.query_one(Footer).expire(self.cockpit.clock())
        for canvas in self.query(Canvas):
            if canvas.display:
                canvas.flush()

    def follow_files(self) -> None:
        """Take in what is new in the files that are shown, before the panes do."""

    def flush_streams(self) -> None:
        self.poll_and_flush([pane for pane in self.panes if pane.display])

    def hints(self) -> Sequence[Hint]:
        return [("esc", "back", True, "escape"), *super().hints()]

    # -- actions ------------------------------------------------------------------------------------------------

    def on_tab_line_picked(self, message: TabLine.Picked) -> None:
        self.show_tab(message.index)

    def _to_tab(self, index: int) -> None:
        if index < len(self.TABS):
            self.show_tab(index)

    async def act_escape(self) -> None:
        self.dismiss()

    async def act_tab_1(self) -> None:
        self._to_tab(0)

    async def act_tab_2(self) -> None:
        self._to_tab(1)

    async def act_tab_3(self) -> None:
        self._to_tab(2)

    async def act_tab_4(self) -> None:
        self._to_tab(3)

    async def act_tab_5(self) -> None:
        self._to_tab(4)

    async def act_tab_6(self) -> None:
        self._to_tab(5)

    act_part_1, act_part_2, act_part_3 = act_tab_1, act_tab_2, act_tab_3

    def _turn(self, step: int) -> None:
        if self.TABS:
            self.show_tab((self.tab + step) % len(self.panes))
        else:
            self.set_focus(self.panes[(self.panes.index(self.focused_pane) + step) % len(self.panes)])
