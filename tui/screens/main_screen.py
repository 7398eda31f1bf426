"""The main screen: six panes of one session, in three sizes"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.paint.canvas import Pane
from tui.paint.layout import PaneLayout, row_of
from tui.screens.base import ActionScreen, Size, size_of
from tui.screens.column_picker import ColumnsCard
from tui.session_view import SessionView
from tui.widgets.diff.diff_pane import DiffPane
from tui.widgets.leaderboard.board import BoardPane
from tui.widgets.pane_edges import PaneEdges
from tui.widgets.progress.chart import ChartPane
from tui.widgets.prompt import How, Prompt
from tui.widgets.reasoning import ReasoningPane
from tui.widgets.run.loss_curves import Curves
from tui.widgets.run.run_output import OutputPane
from tui.widgets.slots import SlotsPane
from tui.widgets.status import Footer, NowLine, StatusLine, SummaryText, TabLine
from tui.widgets.tail import Tail


class MainScreen(ActionScreen):
    PLACE: ClassVar[str] = "main"

    def __init__(self, view: SessionView) -> None:
        super().__init__()
        self.view = view
        self.curves = Curves(view.paths)
        self.status = StatusLine(view, id="status")
        self.now_line = NowLine(view, id="now")
        self.reasoning = ReasoningPane(view, id="reasoning")
        self.diff = DiffPane(view, id="diff")
        self.chart = ChartPane(view, id="chart")
        self.board = BoardPane(view, id="board")
        self.slots = SlotsPane(view, id="slots")
        self.output = OutputPane(view, id="run")
        self.slots.curves = self.output.curves = self.curves
        self.panes: list[Pane] = [self.reasoning, self.diff, self.chart, self.board, self.slots, self.output]
        self.tabs = TabLine(view, [p.NAME for p in self.panes], id="tabs")
        self.words = SummaryText(view, id="words")
        self.prompt = Prompt(self.written, lambda: self.host.drafts)
        self.layout_of = PaneLayout.saved()
        self.edges = PaneEdges(self)
        self.zoomed = False
        self.peeking = False  # zoomed only because the layout hides the pane
        self.active = 0

    def compose(self) -> ComposeResult:
        yield self.words
        yield self.status
        yield self.now_line
        yield self.tabs
        with Horizontal(id="upper"):
            yield self.reasoning
            yield self.diff
        with Horizontal(id="middle"):
            yield self.chart
            yield self.board
        with Horizontal(id="lower"):
            yield self.output
        with Horizontal(id="strip"):
            yield self.slots
        yield self.prompt
        yield Footer(self.view, self.hints, id="footer")

    def on_mount(self) -> None:
        self.lay_out()
        self.set_timer(0.4, self._warm)
        self.call_after_refresh(self.flush)
        self.set_focus(next((p for p in self.panes if p.display), None))

    def _warm(self) -> None:
        """Paint what the first painting leaves out: the diff's highlights."""
        self.diff.highlights = True
        self.flush()

    # -- layout -------------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        self.lay_out()

    @property
    def single(self) -> bool:
        """Whether one pane has the whole screen."""
        return size_of(*self.app.size) == "tabs" or self.zoomed

    def lay_out(self) -> None:
        """Show the panes for this size, zoom, active tab and layout."""
        size = size_of(*self.app.size)
        self.words.display = size == "words"
        self.query_one(Footer).display = size != "words" and not self.prompt.display
        if size == "words":
            for widget in (*self.panes, self.tabs, self.status, self.now_line):
                widget.display = False
            self._rows()
            return
        shown = self.layout_of.shown(self.app.size.height)
        for index, pane in enumerate(self.panes):
            pane.display = index == self.active if self.single else pane.id in shown
            pane.framed = size == "full"
        self.status.display = True
        self.tabs.display = size == "tabs"
        self.tabs.active = self.active
        self._rows()
        self._sizes()
        self._lines(size)
        self.refresh(layout=True)

    def _rows(self) -> None:
        pairs = ((self.reasoning, self.diff), (self.chart, self.board), (self.output,), (self.slots,))
        for name, panes in zip(("#upper", "#middle", "#lower", "#strip"), pairs, strict=True):
            self.query_one(name).display = any(pane.display for pane in panes)

    def rows_shown(self) -> list[int]:
        """The visible rows, of those that share the height."""
        found = [row_of(pane.id or "") for pane in self.panes if pane.display]
        return sorted({row for row in found if row is not None})

    def _sizes(self) -> None:
        """Set widths and heights from the layout's shares; the strip of slots takes the height of its rows."""
        layout = self.layout_of
        for share, left, right in zip(layout.split, (self.reasoning, self.chart), (self.diff, self.board), strict=True):
            left.styles.width = f"{share * 100:.1f}fr"
            right.styles.width = f"{(1 - share) * 100:.1f}fr"
        for share, name in zip(layout.heights, ("#upper", "#middle", "#lower"), strict=True):
            self.query_one(name).styles.height = "1fr" if self.single else f"{share * 100:.1f}fr"
        self._fit_strip()

    def _fit_strip(self) -> None:
        """Set the strip's height, which changes with slots and devices."""
        width, height = self.app.size
        alone = self.single or not self.rows_shown()
        wanted = min(self.slots.rows_wanted(width - 4) + 2, max(4, height // 4))
        self.query_one("#strip").styles.height = "1fr" if alone else wanted

    def _lines(self, size: Size) -> None:
        self.now_line.display = size == "full" or (size == "tabs" and self.now_line.urgent())
        self.now_line.styles.height = self.now_line.rows_wanted(self.app.size.width)

    def changed_layout(self) -> None:
        """Save and apply the layout after a person changed it."""
        self.layout_of.save()
        self.lay_out()

    def widen(self, step: float) -> None:
        if self.single or not self.layout_of.widen(self.focused_pane.id or "", step):
            self.say("no pane is beside this one", "warn", 2.0)
        else:
            self.changed_layout()

    def heighten(self, step: float) -> None:
        row = row_of(self.focused_pane.id or "")
        if self.single or row is None or not self.layout_of.heighten(row, step, self.rows_shown()):
            self.say("the height of this pane is fixed", "warn", 2.0)
        else:
            self.changed_layout()

    def hide(self) -> None:
        pane = self.focused_pane
        if size_of(*self.app.size) == "tabs":
            self.say("hide: a screen of this size shows one pane already", "warn")
        elif not self.layout_of.hide(pane.id or ""):
            self.say("hide: it is the last pane", "warn")
        else:
            self._zoom(False)
            self.say(f"{pane.NAME} is hidden: {self.panes.index(pane) + 1} shows it, Z shows all panes", "accent")

    def show_all_panes(self) -> None:
        self.layout_of = PaneLayout()
        self.zoomed = False
        self.changed_layout()
        self.say("the layout is the original one", "accent", 2.0)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self.edges.press(event.screen_x, event.screen_y)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self.edges.drag(event.screen_x, event.screen_y)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self.edges.release()

    # -- data ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        self.host.take_events()
        self._poll_curves()
        for pane in self.panes:
            if pane.display:
                pane.poll()
        self._lines(size_of(*self.app.size))
        self._fit_strip()
        footer = self.query_one(Footer)
        footer.expire(self.host.clock())
        for canvas in (self.words, self.status, self.now_line, self.tabs, footer, *self.panes):
            if canvas.display:
                canvas.flush_if_changed()

    def _poll_curves(self) -> None:
        shown = self.view.shown_run
        runs = [*self.view.state.live_runs(), *([shown] if shown else [])]
        self.curves.poll({r.run for r in runs} | {r.run for _, r in self.view.references(None)})

    def flush_streams(self) -> None:
        self._poll_curves()
        waiting = [self.diff] if self.diff.pending else []
        self.poll_and_flush([p for p in (self.reasoning, self.output, *waiting) if p.display])

    # -- panes --------------------------------------------------------------------------------------------------

    @property
    def focused_pane(self) -> Pane:
        return self.focused if isinstance(self.focused, Pane) else self.panes[self.active]

    def show_pane(self, index: int) -> None:
        """Focus a pane; one that the layout hides takes the whole screen. The reasoning that has the focus already
        shows the next thought.
        """
        if self.panes[index] is self.reasoning and self.focused is self.reasoning:
            self.reasoning.next_thought()
        self.active = index
        hidden = self.panes[index].id not in self.layout_of.shown(self.app.size.height)
        if hidden and not self.zoomed:
            self.zoomed = self.peeking = True
        elif self.peeking and not hidden:
            self.zoomed = self.peeking = False
        self.lay_out()
        self.panes[index].poll()
        self.panes[index].flush()
        self.set_focus(self.panes[index])
        self.tabs.flush()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget, Pane):
            self.active = self.panes.index(event.widget)

    def on_tab_line_picked(self, message: TabLine.Picked) -> None:
        self.show_pane(message.index)

    def turn(self, step: int) -> None:
        """Focus the next visible pane; the next of all where one pane is shown alone."""
        names = self.layout_of.shown(self.app.size.height)
        turns = [i for i, pane in enumerate(self.panes) if self.single or pane.id in names]
        after = [i for i in turns if (i > self.active if step > 0 else i < self.active)]
        self.show_pane((after or turns)[0 if step > 0 else -1])

    def zoom(self) -> None:
        if size_of(*self.app.size) == "tabs":
            self.say("zoom: a screen of this size shows one pane already", "warn")
            return
        self.peeking = False
        self._zoom(not self.zoomed)

    def _zoom(self, zoomed: bool) -> None:
        """Show one pane or all, and move the focus away from one that is no longer visible."""
        self.zoomed = zoomed
        self.lay_out()
        if not self.panes[self.active].display:
            self.set_focus(next((p for p in self.panes if p.display), None))

    # -- leaderboard --------------------------------------------------------------------------------------------

    def on_board_pane_chosen(self, message: BoardPane.Chosen) -> None:
        self.flush()

    async def on_board_pane_opened(self, message: BoardPane.Opened) -> None:
        self.host.open_experiment(message.experiment)

    async def on_chart_pane_picked(self, message: ChartPane.Picked) -> None:
        self.board.choose(message.experiment)
        if message.opened:
            self.host.open_experiment(message.experiment)

    def open_shown(self) -> None:
        if self.board.cursor is None and self.focused_pane is self.board and self.board.order:
            self.host.open_experiment(self.board.order[0])
        else:
            super().open_shown()

    def next_sort(self) -> None:
        self.board.next_sort()
        self.say(f"leaderboard by {self.board.sort}", "accent", 2.0)

    def reverse_sort(self) -> None:
        self.board.set_sort(self.board.sort)
        self.say(f"leaderboard by {self.board.sort}{', reversed' * self.board.reverse}", "accent", 2.0)

    def next_verdicts(self) -> None:
        self.say(f"leaderboard: {self.board.next_verdicts()}", "accent", 2.0)

    def choose_columns(self) -> None:
        self.app.push_screen(ColumnsCard(self.view, self.board.columns, self.board.set_columns))

    def next_diff_base(self) -> None:
        self.say(f"the diff is against {self.diff.next_base()}", "accent", 2.0)

    def next_fold(self) -> None:
        self.say(f"reasoning: {self.reasoning.next_fold()}", "accent", 2.0)

    def next_axis(self) -> None:
        self.say(f"the chart goes by {self.chart.next_axis()}", "accent", 2.0)

    def zoom_chart(self, *, closer: bool) -> None:
        count = self.chart.zoom(closer)
        self.say(f"the chart shows the last {count}" if count else "the chart shows all", "accent", 2.0)

    def select_beside(self, step: int) -> None:
        """Select the next (1) or previous (-1) experiment on the chart's axis."""
        if (found := self.chart.beside(self.view.selected, step)) is not None:
            self.board.choose(found)

    def ask_filter(self) -> None:
        pane = self.focused_pane
        if not isinstance(pane, Tail):
            pane = self.board
            if size_of(*self.app.size) == "tabs":
                self.show_pane(3)
        old = pane.filter if isinstance(pane, (Tail, BoardPane)) else ""
        self.prompt.ask("filter", f"filter {pane.NAME}", old, pane)

    def leave(self) -> None:
        if filtered := [p for p in (self.board, self.reasoning, self.output) if p.filter]:
            for pane in filtered:
                pane.set_filter("")
        elif self.board.verdicts:
            while self.board.verdicts:
                self.board.next_verdicts()
        elif self.zoomed:
            self._zoom(False)
        elif self.view.selected is not None:
            self.board.choose(None)

    # -- the prompt ---------------------------------------------------------------------------------------------

    def on_prompt_typed(self, message: Prompt.Typed) -> None:
        if message.purpose == "filter" and isinstance(message.pane, (Tail, BoardPane)):
            message.pane.set_filter(message.text)

    def written(self, purpose: str, text: str, how: How, pane: Pane | None) -> None:
        if purpose == "filter" and isinstance(pane, (Tail, BoardPane)):
            pane.set_filter(text)
