"""The parts of panes without a terminal: text in cells, diffs, charts, styles, changed spans."""

from __future__ import annotations

import ctypes
import locale
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from core import views
from core.client import FileTail
from core.record import events as e
from core.record.events import Event
from core.record.fold import fold
from core.record.state import State
from core.views import SIGNS
from tests.recorded import story_events
from tui.launch_form import Form
from tui.paint import theme
from tui.paint.braille import Dots, curve, decimals, ticks
from tui.paint.canvas import changed_span
from tui.paint.cells import bar, brief, fit, flat, left, right, strip_of, visible, width_of, wrap
from tui.paint.compositor import SpanUpdate
from tui.paint.theme import Look, ascii_text, choose_look
from tui.widgets.diff.diff_pane import paint_line, parse_diff
from tui.widgets.progress.series import AXES, series_of

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=120)


@given(TEXTS, st.integers(0, 60))
def test_fitted_text_fits(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) <= width


@given(st.text(alphabet="aé漢😀 -\u0301", max_size=80), st.integers(1, 40))
def test_padded_text_has_the_exact_width(text: str, width: int) -> None:
    assert cell_len(left(text, width)) == width and cell_len(right(text, width)) == width


@given(st.text(alphabet="ab 漢😀.", max_size=300), st.integers(2, 40))
def test_wrapped_lines_fit_and_lose_only_spaces(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_symbols_of_ambiguous_width_are_not_shown() -> None:
    """They would shift the text beside them. tmux and many others use `wcwidth` of the C library."""
    library = ctypes.CDLL(None)
    library.wcwidth.argtypes = [ctypes.c_wchar]
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        shown = {visible(chr(code)) for code in range(0x21, 0x1FFFF) if not 0xD800 <= code < 0xE000} - {""}
        apart = [sign for sign in shown if 0 <= library.wcwidth(sign) != cell_len(sign)]
    except locale.Error:
        pytest.skip("no UTF-8 locale")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert not apart
    assert brief("a\u3164b 👍🏽 ok") == "ab 👍 ok"
    assert "漢" in shown and "é" in shown and "☂" in shown


def test_a_line_of_a_hundred_kilobytes_is_cut_visibly() -> None:
    lines = wrap("x" * 100_000, 80)
    assert len(lines) < 60 and "96,000 more characters" in " ".join(lines)


@pytest.mark.parametrize(
    "raw",
    ["\x1b[31mred\x1b[0m", "a\x9b2Jb", "\x1b]0;t\x07t", "a\rb\nc", "a\x00\x08b", "\u202eabc", "t\tb", "\x1bP1;q\x1b\\"],
)
def test_control_bytes_are_removed(raw: str) -> None:
    assert all(c.isprintable() for c in flat(raw))


@given(st.text(max_size=60))
def test_program_output_cannot_control_the_terminal(raw: str) -> None:
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in flat(raw))


@given(TEXTS)
def test_ascii_keeps_the_width(text: str) -> None:
    plain = ascii_text(flat(text))
    assert plain.isascii() and len(plain) == cell_len(flat(text))


def test_every_symbol_has_an_ascii_replacement() -> None:
    signs = [*theme._GLYPHS.values(), *(unicode for unicode, _, _ in SIGNS.values()), "σ", "Δ", "±", "−", "→", "⠿"]
    for sign in signs:
        assert ascii_text(sign) != "?" or sign == "?", sign
        assert width_of(sign) == 1


def test_strips_have_the_exact_width() -> None:
    style = Style()
    for width in (0, 1, 7, 30):
        strip = strip_of([("漢字 and more", style), ("tail", style)], width, style)
        assert strip.cell_length == width == sum(s.cell_length for s in strip)


@given(st.text(alphabet="ab漢", min_size=1, max_size=20), st.text(alphabet="ab漢", min_size=1, max_size=20))
def test_the_changed_span_covers_every_difference(before: str, after: str) -> None:
    one, other = Style(bold=True), Style(dim=True)
    a = strip_of([(before[:3], one), (before[3:], other)], 40, one)
    b = strip_of([(after[:3], one), (after[3:], other)], 40, one)
    span = changed_span(a, b)
    if span is None:
        assert a._segments == b._segments
        return
    for x in (*range(span[0]), *range(span[1], 40)):
        assert a.crop(x, x + 1) == b.crop(x, x + 1)


def test_an_unchanged_line_has_no_changed_span() -> None:
    assert changed_span(Strip([Segment("same")]), Strip([Segment("same")])) is None


def test_a_bar_has_the_requested_length() -> None:
    for share in (None, 0.0, 0.013, 0.5, 0.99, 1.0, 7.0, -1.0):
        done, rest = bar(share, 12, "━", "╸", "─")
        assert len(done) + len(rest) == 12
    assert bar(1.0, 4, "#", "-", ".") == ("####", "") and bar(0.0, 4, "#", "-", ".") == ("", "....")


DIFF = """diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -10,3 +10,4 @@ def main():
 keep = '''
-old\tvalue
+new \x1b[31mvalue
+--- not a header
 '''
diff --git a/new file.txt b/new file.txt
new file mode 100644
--- /dev/null
+++ b/new file.txt
@@ -0,0 +1 @@
+漢字
\\ No newline at end of file
"""


def test_a_diff_is_parsed_into_numbered_lines() -> None:
    lines = parse_diff(DIFF)
    assert [(d.kind, d.old, d.new, d.text) for d in lines] == [
        ("file", None, None, "train.py"),
        ("hunk", None, None, "def main():"),
        (" ", 10, 10, "keep = '''"),
        ("-", 11, None, "old value"),
        ("+", None, 11, "new value"),
        ("+", None, 12, "--- not a header"),
        (" ", 12, 13, "'''"),
        ("file", None, None, "new file.txt"),
        ("hunk", None, None, ""),
        ("+", None, 1, "漢字"),
    ]
    assert ("new value", "code_string") in lines[4].tokens  # inside a string over several lines
    assert all("".join(t for t, _ in d.tokens) == d.text for d in lines if d.tokens)


@pytest.mark.parametrize("look", ["dark", "ansi", "plain"])
def test_a_diff_line_keeps_its_width(look: str) -> None:
    for line in parse_diff(DIFF):
        assert paint_line(line, 20, Look(look), 3).cell_length == 20


def test_braille_dots_match_unicode() -> None:
    dots = Dots(2, 1)
    dots.line(0, 0, 3, 3)
    assert dots.text(0, 0) + dots.text(1, 0) == "⠑⢄"
    assert Dots(1, 1).text(0, 0) == " "
    flat_line = curve([(0, 1.0), (9, 1.0)], 5, 1, 1.0, 1.0, 0, 9)
    assert all(flat_line.any(x, 0) for x in range(5))


def test_ticks_are_round_and_distinct() -> None:
    assert ticks(1.87, 2.01, 4) == [1.9, 1.95, 2.0]
    assert decimals([1.9, 1.95, 2.0]) == 2
    assert ticks(5.0, 5.0, 3) == [5.0]


def state_of(**story: object) -> State:
    state = State()
    for event in story_events(**story):
        fold(state, event)
    return state


def test_the_chart_follows_the_best_and_ignores_outliers() -> None:
    state = state_of(experiments=48)
    series = series_of(state)
    assert series.steps[0] == (0, 2.0)
    assert [m for _, m in series.steps] == sorted((m for _, m in series.steps), reverse=True)
    assert series.low < min(m for _, m in series.steps) and series.high < 2.2
    up = series_of(state_of(experiments=48, direction="max"))
    assert [m for _, m in up.steps] == sorted(m for _, m in up.steps)
    assert up.high > max(m for _, m in up.steps)
    assert not series_of(State()).points


def test_a_late_verdict_does_not_lower_the_best_line() -> None:
    state = state_of(experiments=6)
    number = max(state.experiments)
    for at, metric in ((number + 2, 1.2), (number + 1, 1.1)):  # the later one first
        fold(
            state,
            Event(
                state.seq + 1,
                state.time,
                e.ExperimentStarted(experiment=at, parent=state.best, parent_commit="c", researcher="x"),
            ),
        )
        fold(
            state,
            Event(
                state.seq + 1,
                state.time + 60,
                e.Judged(experiment=at, verdict="kept", metric=metric, delta=-0.1, reason="better"),
            ),
        )
    assert state.best == number + 1
    for axis in AXES:
        assert series_of(state, axis).steps[-1][1] == views.chart(state).best[-1][1] == 1.1


@pytest.mark.parametrize(
    "environment,name,only_ascii",
    [
        ({"COLORTERM": "truecolor", "LANG": "en_GB.UTF-8"}, "dark", False),
        ({"COLORTERM": "truecolor", "SSH_CONNECTION": "x"}, "ansi", False),
        ({"TERM": "xterm"}, "ansi", False),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, "plain", False),
        ({"COLORTERM": "truecolor", "LC_ALL": "C"}, "dark", True),
        ({"TERM": "linux"}, "ansi", True),
        ({"AUTORESEARCH_LOOK": "plain-ascii"}, "plain", True),
        ({"AUTORESEARCH_LOOK": "ansi", "COLORTERM": "truecolor"}, "ansi", False),
    ],
)
def test_the_theme_follows_the_terminal(environment: dict[str, str], name: str, only_ascii: bool) -> None:
    look = choose_look(environment)
    assert (look.name, look.ascii) == (name, only_ascii)


def test_the_plain_theme_has_no_colour() -> None:
    look = Look("plain")
    assert all(look[role].color is None and look[role].bgcolor is None for role in theme.DARK)


def test_every_theme_defines_every_role() -> None:
    assert set(theme.DARK) == set(theme.ANSI) == set(theme.PLAIN)


def test_the_form_names_the_wrong_field() -> None:
    with pytest.raises(Exception, match="dollars"):
        Form("a", usd="many").options()
    with pytest.raises(Exception, match="time budget"):
        Form("a", run_budget="soon").options()
    with pytest.raises(Exception, match="session name"):
        Form("a b").options()
    with pytest.raises(Exception, match="script"):
        Form("a", researcher="scripted", script="/nowhere").options()
    options = Form("a", "control", slots="cpu:2", usd="$3", experiments="7", run_budget="20s").options(from_head=True)
    assert (options.slots, options.usd, options.experiments, options.from_head) == ("cpu:2", 3.0, 7, True)


def test_lines_of_a_growing_file_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    tail = FileTail(path)
    assert tail.lines() == [], "a file that is not there has no lines"
    path.write_bytes(b"one\ntw" + "ö".encode()[:1])
    assert tail.lines() == ["one"]
    with path.open("ab") as handle:
        handle.write("ö".encode()[1:] + b"\nthree")
    assert tail.lines() == ["twö"]
    assert tail.lines(longest=4) == ["three"], "a line that does not end was held back for ever"
    with path.open("ab") as handle:
        handle.write(b"four")
    assert tail.lines() == []
    path.write_text("new\n")
    assert tail.lines() == ["new"], "the rest of a file that was replaced stands before the new one"


def test_only_changed_cells_of_a_line_are_sent() -> None:
    style = Style(color="red")
    line = Strip([Segment("abc", style), Segment("defg", style), Segment("字字", style)])
    update = SpanUpdate([{0: line, 11: Strip([Segment("right")])}], [(0, 3, 7), (0, 7, 13)], [[11, 16]])
    sent = update.render_segments(Console(force_terminal=True, color_system="truecolor"))
    words = re.sub(r"\x1b\[[\d;]*m", "", sent)
    assert words == "\x1b[1;4Hdefg\x1b[1;8H字字\x1b[1;12Hri"
