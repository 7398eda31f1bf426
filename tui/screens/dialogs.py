"""Cards in front of a screen: confirmation, approval of a proposal, summary of an absence"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from core.record.budget import format_seconds
from core.record.metric import format_delta, format_metric
from core.views import Away, in_short, plural
from tui.host import host_of
from tui.paint.cells import Part, brief, left
from tui.paint.keyboard import KeyScreen
from tui.paint.theme import Look
from tui.session_view import SessionView
from tui.terminal.calm import SETTLE_SECONDS
from tui.widgets.diff.diff_pane import paint_line, parse_diff
from tui.widgets.page import Lines, Page, paragraphs
from tui.widgets.prompt import UnsentText

Answer = TypeVar("Answer")
UNASKED_DELAY_SECONDS = 0.4  # a card that opens by itself ignores earlier keys: they were meant for the screen behind


class Card(KeyScreen[Answer], ModalScreen[Answer]):
    """A framed page in the middle of the screen; `lines(width)` is its content, `pressed` handles its keys."""

    BINDINGS: ClassVar[list[BindingType]] = []
    TITLE_TEXT = ""
    WIDTH = 76
    KEY_DELAY = 0.0  # seconds after it opens in which it ignores keys
    SCROLLS = True
    HAS_LINE = False  # an input line at the foot, open while a person writes in it

    def __init__(self, view: SessionView) -> None:
        super().__init__()
        self.view = view
        self._shown_at = 0.0
        self._page = Page(view, self.TITLE_TEXT, self.lines)
        self._again = ""  # the answer that has to be pressed again

    def compose(self) -> ComposeResult:
        with Vertical(id="card"):
            yield self._page
            if self.HAS_LINE:
                line = Input(compact=True, select_on_focus=False)
                line.cursor_blink = False
                line.display = False
                yield line

    def on_mount(self) -> None:
        self._shown_at = host_of(self).clock()  # that of a recording may be held
        self._fit()
        self.set_focus(self._page)

    def on_resize(self, event: events.Resize) -> None:
        self._fit()

    def _fit(self) -> None:
        """Take the full width up to WIDTH, and the height of the text."""
        width = min(self.WIDTH, self.app.size.width - 2)
        box = self.query_one("#card", Vertical)
        box.styles.width = max(10, width)
        box.styles.height = max(4, min(self.app.size.height - 2, len(self.lines(width - 4)) + 2 + self.HAS_LINE))

    def lines(self, width: int) -> Lines:
        raise NotImplementedError

    @property
    def deaf(self) -> bool:
        return host_of(self).clock() - self._shown_at < self.KEY_DELAY

    def line(self) -> Input | None:
        return self.focused if isinstance(self.focused, Input) else None

    def open_line(self, label: str, text: str) -> None:
        line = self.query_one(Input)
        line.placeholder = label
        line.value = text
        line.cursor_position = len(text)
        line.display = True
        self.set_focus(line)

    def close_line(self) -> None:
        self.query_one(Input).display = False
        self.set_focus(self._page)

    async def write(self, line: Input, event: events.Key) -> None:
        if event.key == "escape":
            self.pressed("", event.key)
        else:
            await super().write(line, event)

    async def command(self, event: events.Key) -> None:
        if self.deaf:
            return
        moves = {"j": 1, "down": 1, "k": -1, "up": -1, "pagedown": 10, "pageup": -10}
        if event.key in moves and self.SCROLLS:
            self._page.move(moves[event.key])
            return
        character = event.character or event.key if event.key != "enter" else "enter"
        if self.grave(character):
            self._when_calm(character, event.key)
        else:
            self._again = ""
            self.pressed(character, event.key)

    def grave(self, character: str) -> bool:
        """Whether this answer must stand alone: pasted text and the rest of a terminal's reply are no answers."""
        return False

    def _when_calm(self, character: str, key: str) -> None:
        """Take an answer when no other input comes right before or after it; else ask for it again."""
        calm = host_of(self).calm
        count = calm.count

        def settled() -> None:
            if calm.count == count:
                self.pressed(character, key)
            else:
                self._ask_again(character)

        if calm.alone(again=self._again == character):
            self.set_timer(SETTLE_SECONDS, settled)
        else:
            self._ask_again(character)

    def _ask_again(self, character: str) -> None:
        self._again = character
        self._fit()
        self._page.flush()

    def again_lines(self, width: int) -> Lines:
        """Why an answer was not taken, for `lines`."""
        if not self._again:
            return []
        words = f"press {self._again} again: other input came right before or after it, so it was not taken"
        return paragraphs(words, width, self.view.look["warn"])

    def spots(self) -> list[tuple[int, int, int, str]]:
        """Places to click: (line, first cell, cell after the last, the key that the click stands for)."""
        return []

    def on_click(self, event: events.Click) -> None:
        """A click on an answer gives it; a click beside the card is an escape."""
        if self.deaf:
            return
        if not self.query_one("#card").region.contains(event.screen_x, event.screen_y):
            self.pressed("", "escape")
            return
        line = event.screen_y - self._page.region.y - 1 + self._page.top
        x = event.screen_x - self._page.region.x - 2
        for at, start, end, key in self.spots():
            if line == at and start <= x < end:
                self.pressed(key, key)
                return

    def pressed(self, character: str, key: str) -> None:
        """Handle a key, by default any: close the card."""
        self.dismiss(None)


@dataclass(frozen=True, slots=True)
class ConfirmQuestion:
    """Title, text, and answers as (key, words). `n` is always possible, and the default."""

    title: str
    words: str
    answers: tuple[tuple[str, str], ...]
    no: str = "no, continue"


PAUSE_NOW = ConfirmQuestion(
    "pause now?",
    "The runs in progress are stopped, and start again when you resume. (space pauses after the runs.)",
    (("y", "pause now"),),
)
STOP_NOW = ConfirmQuestion(
    "stop now?",
    "The engine ends at once. The runs in progress are abandoned, and start again when the session is resumed.",
    (("y", "stop now"),),
)


def stop_question(view: SessionView) -> ConfirmQuestion:
    """The question before a stop, with the effect of each way to stop."""
    live = len(view.state.live_runs())
    running = f"after {'the run' if live == 1 else f'the {live} runs'} in progress" if live else "at once"
    return ConfirmQuestion(
        "stop the session?",
        "Detaching (q) keeps the engine running. Stopping ends it; the session can be resumed.",
        (
            ("y", f"stop {running}"),
            ("a", "stop after a number of further experiments"),
            ("!", "stop now: the runs in progress are abandoned, and start again later"),
        ),
    )


class Confirm(Card[str]):
    """Confirmation of an action that cannot be undone; no is the default. Dismissed with the key of the answer."""

    WIDTH = 72

    def __init__(self, view: SessionView, asked: ConfirmQuestion) -> None:
        self.asked = asked
        self._first = 0  # the line of the first answer
        self.TITLE_TEXT = asked.title
        super().__init__(view)

    def lines(self, width: int) -> Lines:
        look = self.view.look
        out: Lines = [*paragraphs(self.asked.words, width, look["text"]), []]
        self._first = len(out)
        no = f"  {left(self.asked.no, 22)}"
        out.append([("n", look["key"]), (no, look["bright"]), ("(enter, esc)", look["dim"])])
        out += [[(key, look["key"]), (f"  {words}", look["text"])] for key, words in self.asked.answers]
        return [*out, *self.again_lines(width)]

    def grave(self, character: str) -> bool:
        return character in [key for key, _ in self.asked.answers]

    def spots(self) -> list[tuple[int, int, int, str]]:
        keys = ["n", *(key for key, _ in self.asked.answers)]
        return [(self._first + at, 0, self.WIDTH, key) for at, key in enumerate(keys)]

    def pressed(self, character: str, key: str) -> None:
        if character in [key for key, _ in self.asked.answers]:
            self.dismiss(character)
        elif character == "n" or key in ("enter", "escape"):
            self.dismiss(None)


def diff_lines(diff: str, width: int, look: Look) -> Lines:
    """A unified diff as lines of a card."""
    parsed = parse_diff(diff) if diff else ()
    numbers = max([3, *(len(str(max(d.old or 0, d.new or 0))) for d in parsed)])
    painted = (paint_line(line, width, look, numbers)._segments for line in parsed)
    return [[(s.text, s.style) for s in segments if s.style is not None] for segments in painted]


class DiffCard(Confirm):
    """A person's edit as a diff, before it takes effect; or the reason why it is invalid."""

    WIDTH = 110

    def __init__(self, view: SessionView, asked: ConfirmQuestion, diff: str, trouble: str = "") -> None:
        super().__init__(view, asked)
        self._diff, self._trouble = diff, trouble

    def grave(self, character: str) -> bool:
        return character == "y"  # to edit again changes nothing

    def lines(self, width: int) -> Lines:
        look = self.view.look
        told = [line for part in self._trouble.split("\n") if part for line in paragraphs(part, width, look["bad"])]
        told += [[]] if told else []
        asked = super().lines(width)
        self._first += len(told)
        return [*told, *asked, [], *diff_lines(self._diff, width, look)]


APPROVAL_KEYS = (("y", "run it"), ("n", "reject it"), ("e", "edit it"), ("A", "run all from here"), ("esc", "later"))


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """A person's answer to a proposal."""

    how: Literal["run", "all", "reject", "edit", "gone"]  # gone: the connection to the engine is lost
    reason: str = ""


class ApprovalCard(Card[ApprovalAnswer]):
    """A proposal that needs approval: run it, run all, reject it with a reason, edit it; esc decides later."""

    TITLE_TEXT = "run this?"
    WIDTH = 110
    HAS_LINE = True

    def __init__(self, view: SessionView, experiment: int, *, asked: bool = False) -> None:
        """`asked`: a person opened it, so the next key is meant for it."""
        self.experiment = experiment
        self.KEY_DELAY = 0.0 if asked else UNASKED_DELAY_SECONDS
        super().__init__(view)

    def on_mount(self) -> None:
        self.set_interval(0.2, self._still_there)

    def _still_there(self) -> None:
        """Close when another client has answered, or the connection is lost; a reason that was begun is kept."""
        if self.is_current and self.query_one(Input).display:
            host_of(self).drafts[self._reason] = UnsentText(self.query_one(Input).value)
        if self.is_current and not self.view.live:
            self.dismiss(ApprovalAnswer("gone"))
        elif self.is_current and self.experiment not in self.view.state.approvals:
            self.dismiss(None)

    def lines(self, width: int) -> Lines:
        look = self.view.look
        x = self.view.experiment(self.experiment)
        if x is None:
            return []
        details = self.view.details(x.number)
        offered: list[Part] = []
        for key, words in APPROVAL_KEYS:
            offered += [(key, look["key"]), (f" {words}   ", look["dim" if key == "esc" else "text"])]
        others = len(self.view.state.approvals) - 1
        waiting = f"   {plural(others, 'other')} waiting" if others > 0 else ""
        out: Lines = [
            offered,
            *self.again_lines(width),
            [],
            [(f"#{x.number}  ", look["bright"]), (brief(x.kind), look["dim"]), (waiting, look["warn"])],
            *paragraphs(x.hypothesis, width, look["bright"]),
        ]
        if details.proposal and details.proposal.rationale:
            out += [[], *paragraphs(details.proposal.rationale, width, look["text"])]
        if x.expected is not None:
            out.append([("expected ", look["dim"]), (format_delta(x.expected), look["text"])])
        return [*out, [], *diff_lines(details.diff, width, look)]

    def spots(self) -> list[tuple[int, int, int, str]]:
        found, at = [], 0
        for key, words in APPROVAL_KEYS:
            end = at + len(key) + len(words) + 4
            found.append((0, at, end, "escape" if key == "esc" else key))
            at = end
        return found

    def grave(self, character: str) -> bool:
        return character in ("y", "A")

    @property
    def _reason(self) -> str:
        return f"reason {self.experiment}"

    def close_line(self) -> None:
        host_of(self).drafts[self._reason] = UnsentText(self.query_one(Input).value)
        super().close_line()

    def pressed(self, character: str, key: str) -> None:
        if self.query_one(Input).display:
            self.close_line()
        elif character == "n":
            draft = host_of(self).drafts.get(self._reason)
            self.open_line("reason; enter sends, esc goes back", draft.text if draft else "")
        elif key == "escape":
            self.dismiss(None)
        else:
            answers: dict[str, Literal["run", "all", "edit"]] = {"y": "run", "A": "all", "e": "edit"}
            if (how := answers.get(character)) is not None:
                self.dismiss(ApprovalAnswer(how))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(ApprovalAnswer("reject", event.value.strip()))


class AwayCard(Card[None]):
    """Summary of an absence. Any key dismisses it."""

    TITLE_TEXT = "while you were away"
    WIDTH = 92
    KEY_DELAY = UNASKED_DELAY_SECONDS
    SCROLLS = False

    def __init__(self, view: SessionView, told: Away) -> None:
        self.told = told
        super().__init__(view)

    def lines(self, width: int) -> Lines:
        look, told, metric = self.view.look, self.told, self.view.state.metric
        dim, text, bright = look["dim"], look["text"], look["bright"]
        head: list[Part] = [
            (format_seconds(told.seconds), bright), (" away     ", dim),
            (plural(told.experiments, "experiment"), text), ("     ", dim),
            (f"{len(told.kept)} kept", look["good"] if told.kept else dim),
        ]  # fmt: skip
        if told.usd or told.usd_unknown:
            head.append((f"     ${told.usd:.2f}" if not told.usd_unknown else "     cost unknown", text))
        out: Lines = [head, self._best(metric.better), []]
        for number, hypothesis, delta in told.kept[:8]:
            out.append([
                (f"{look.glyph('kept')} ", look["good"]), (f"#{number:<5}", dim),
                (f"{format_delta(delta):>9}  ", look["good"]), (hypothesis, text),
            ])  # fmt: skip
        if len(told.kept) > 8:
            out.append([(f"  … {len(told.kept) - 8} more kept", dim)])
        state = self.view.state
        if state.state in ("paused", "crashed", "finished", "stopped"):
            word = self.view.word
            out.append([
                (f"{look.glyph(word)} ", look.state(word)), (f"session {word}", text),
                (f": {brief(in_short(state.reason))}" if state.reason else "", text),
            ])  # fmt: skip
        for note in told.notes[-5:]:
            out.append([(f"{look.glyph('note')} ", look["warn"]), (brief(note.text), text)])
        if told.waiting:
            numbers = ", ".join(f"#{n}" for n in told.waiting)
            words = f"{plural(len(told.waiting), 'proposal')} waiting for approval: {numbers}"
            out.append([("? ", look["warn"]), (words, text)])
        return [*out, [], [("any key continues", dim)]]

    def _best(self, better: Callable[[float, float], bool]) -> list[Part]:
        look, told = self.view.look, self.told
        if told.best_after is None:
            return [("no result yet", look["dim"])]
        if told.best_before is None or told.best_before == told.best_after:
            same = "best stays at " if told.best_before is not None else "best "
            return [(same, look["dim"]), (format_metric(told.best_after), look["bright"])]
        delta = told.best_after - told.best_before
        style = look["good" if better(told.best_after, told.best_before) else "bad"]
        return [
            ("best ", look["dim"]), (format_metric(told.best_before), look["text"]), (" → ", look["dim"]),
            (format_metric(told.best_after), look["bright"]), (f"   {format_delta(delta)}", style),
        ]  # fmt: skip

    def on_click(self, event: events.Click) -> None:
        self.dismiss(None)
