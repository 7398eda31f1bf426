"""How things look: colours by role, glyphs, and the Textual themes behind them.

Widgets name a role ("dim", "good", "cursor"), never a colour. `dark` is the 24-bit look from which
tui/paint/color_schemes.py derives the others; `ansi` takes the terminal's own sixteen colours and background (half the
bytes: the default over SSH), `plain` none (NO_COLOR, or TERM=dumb).
Nothing is said by colour alone: every verdict has a glyph and a word beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from core.views import role, sign, to_ascii
from tui.paint.color_schemes import PALETTES, Palette, derive

DARK: Mapping[str, str] = {
    "text": "#d3d7dd",
    "bright": "bold #f2f4f7",
    "dim": "#8b94a1",
    "faint": "#4a5462",
    "frame": "#323a45",
    "frame_focus": "#6ea8d9",
    "title": "#9aa4b1",
    "title_focus": "bold #8fc3f0",
    "accent": "#7fb4e6",
    "good": "#4fc3a1",
    "good_bold": "bold #4fc3a1",
    "warn": "#e0b354",
    "bad": "#e8825a",
    "bad_bold": "bold #e8825a",
    "violet": "#b79be0",
    "thinking": "#a9b1bc",
    "tool": "#7fb4e6",
    "band": "#343d49",
    "line": "#4fc3a1",
    "curve": "#7fb4e6",
    "bar": "#7fb4e6",
    "bar_rest": "#323a45",
    "add": "on #12302a",
    "remove": "on #3a211b",
    "add_mark": "bold #4fc3a1 on #12302a",
    "remove_mark": "bold #e8825a on #3a211b",
    "add_word": "bold #e8fff6 on #1f5b4b",
    "remove_word": "bold #fff0ea on #6b3727",
    "curve_best": "#3f9a80",
    "curve_base": "#7d68a6",
    "cursor": "on #243040",
    "cursor_idle": "on #1a212a",
    "key": "bold #8fc3f0",
    "banner_bad": "bold #11151a on #e8825a",
    "banner_warn": "bold #11151a on #e0b354",
    "code_keyword": "#c792b8",
    "code_string": "#a5c27a",
    "code_number": "#e0a66a",
    "code_comment": "#6f7a87",  # no italics: GNU screen shows them as a block
    "code_name": "#8fc3f0",
    "code_operator": "#a9b1bc",
}

ANSI: Mapping[str, str] = {
    "text": "default",
    "bright": "bold default",
    "dim": "bright_black",
    "faint": "bright_black",
    "frame": "bright_black",
    "frame_focus": "blue",
    "title": "default",
    "title_focus": "bold blue",
    "accent": "blue",
    "good": "cyan",
    "good_bold": "bold cyan",
    "warn": "yellow",
    "bad": "red",
    "bad_bold": "bold red",
    "violet": "magenta",
    "thinking": "default",
    "tool": "blue",
    "band": "bright_black",
    "line": "cyan",
    "curve": "blue",
    "bar": "blue",
    "bar_rest": "bright_black",
    "add": "cyan",
    "remove": "red",
    "add_mark": "bold cyan",
    "remove_mark": "bold red",
    "add_word": "bold underline cyan",
    "remove_word": "bold underline red",
    "curve_best": "cyan",
    "curve_base": "magenta",
    "cursor": "reverse",
    "cursor_idle": "underline",
    "key": "bold blue",
    "banner_bad": "reverse red",
    "banner_warn": "reverse yellow",
    "code_keyword": "magenta",
    "code_string": "green",
    "code_number": "yellow",
    "code_comment": "bright_black",
    "code_name": "blue",
    "code_operator": "default",
}

PLAIN: Mapping[str, str] = {
    **{role: "" for role in ANSI},
    "bright": "bold",
    "dim": "dim",
    "faint": "dim",
    "frame": "dim",
    "frame_focus": "bold",
    "title_focus": "bold",
    "good_bold": "bold",
    "bad_bold": "bold",
    "add_mark": "bold",
    "remove_mark": "bold",
    "add_word": "bold underline",
    "remove_word": "bold underline",
    "curve_best": "dim",
    "curve_base": "dim",
    "cursor": "reverse",
    "cursor_idle": "underline",
    "key": "bold",
    "banner_bad": "reverse bold",
    "banner_warn": "reverse",
    "code_comment": "dim",
}

# What the views' table of signs does not have.
_GLYPHS: Mapping[str, str] = {
    "judged": "·", "crashed": "✗", "lost": "⚠", "dead": "■", "ok": "✓", "no": "✗", "note": "⚠", "tool": "⚙",
    "training": "●", "saving": "◕", "scoring": "◕", "think": "▸", "best": "★", "up": "▲", "down": "▼", "point": "•",
    "mark": "◈", "certified": "◎", "cursor": "┆", "tee": "├",
    "bar_full": "━", "bar_half": "╸", "bar_rest": "─", "block": "▇", "block_rest": "▁", "ellipsis": "…", "cut": "┄",
    "tl": "╭", "tr": "╮", "bl": "╰", "br": "╯", "h": "─", "v": "│", "tick": "┤", "axis": "└",
}  # fmt: skip

_BOLD_STATES = {"running": "good_bold", "crashed": "bad_bold", "lost": "bad_bold"}

_ASCII = dict(
    zip(
        "━╸▇▁┄░•★▲▼⚙▸◂⚠╭╮╰╯─│┤└├…“”‘’°←→↑↓−–·σΔ±▎▌▊█▔┃◕◈◎┆",
        "=-#.-.o*^v%><!++++-|+++~\"\"'' <>^v--.sd~|||#-|@&0:",
        strict=True,
    )
)


def ascii_text(text: str) -> str:
    """`text` in ASCII, cell for cell: our own signs by stand-ins, braille by how full it is, the rest as `?`."""
    return text if text.isascii() else "".join(_ascii_sign(c) for c in text)


@lru_cache(maxsize=4096)
def _ascii_sign(c: str) -> str:
    if c.isascii():
        return c
    if "\u2800" <= c <= "\u28ff":
        bits = ord(c) - 0x2800
        return ":" if bits & 0x1B and bits & 0xE4 else "'" if bits & 0x1B else "." if bits else " "
    stand_in = _ASCII.get(c) or to_ascii(c)
    return stand_in if len(stand_in) == cell_len(c) else "?" * cell_len(c)


class AsciiFilter(LineFilter):
    """Everything that reaches a terminal without UTF-8, in ASCII."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_text(text), style, control) for text, style, control in segments]


@dataclass(slots=True)
class Look:
    """What every widget paints with: `look["dim"]` is a style, `look.glyph("kept")` a sign of one cell.

    It is one object for a whole app, so that a change of theme reaches everybody who holds it.
    """

    name: str = "dark"  # dark, light, contrast, blue-orange, tritan, ansi or plain
    ascii: bool = False
    _styles: dict[str, Style] = field(default_factory=dict)
    _overlays: dict[str, Style] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.become(self.name, self.ascii)

    def become(self, name: str, ascii_only: bool) -> None:
        """Take on another look."""
        self.name, self.ascii = name, ascii_only
        palette = PALETTES.get(name)
        roles = {"ansi": ANSI, "plain": PLAIN}.get(name) or derive(DARK, PALETTES[name])
        base = Style.parse(f"{roles['text']} on {palette.background}") if palette else Style.parse(roles["text"])
        self._overlays = {role: Style.parse(text) for role, text in roles.items()}
        self._styles = {role: base + own for role, own in self._overlays.items()}

    def __getitem__(self, role: str) -> Style:
        return self._styles[role]

    def overlay(self, role: str) -> Style:
        """Only what the role changes, to be laid over text that has its own colours."""
        return self._overlays[role]

    def glyph(self, name: str) -> str:
        """One cell for a verdict, a phase, a state or a part of the drawing."""
        return _GLYPHS.get(name) or sign(name)

    def verdict(self, word: str) -> Style:
        return self["violet" if word == "baseline" else role(word)]

    def state(self, word: str) -> Style:
        return self[_BOLD_STATES.get(word) or role(word)]

    @property
    def theme(self) -> str:
        """The name of the Textual theme that goes with this look."""
        return f"cockpit-{self.name}" if self.name in PALETTES else "ansi-dark"


def choose_look(environment: Mapping[str, str], theme: str = "auto", ascii_only: str = "auto") -> Look:
    """The look for a terminal: what is set, and by its environment (NO_COLOR, SSH, `TERM`, the locale) what is not.

    `theme` and `ascii_only` are the settings of these names. `AUTORESEARCH_LOOK` (a theme, also with `-ascii`)
    overrides them for one start.
    """
    wish = environment.get("AUTORESEARCH_LOOK", "").lower()
    bare = wish.removesuffix("ascii").removesuffix("-")
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    upper = locale.upper().replace("-", "")
    few_signs = ("UTF8" not in upper and upper in ("C", "POSIX")) or environment.get("TERM") in ("linux", "dumb")
    in_ascii = wish.endswith("ascii") or (few_signs if ascii_only == "auto" else ascii_only == "on")
    if "NO_COLOR" in environment or environment.get("TERM") == "dumb":
        return Look("plain", in_ascii)
    for name in (bare, theme):
        if name in (*PALETTES, "ansi", "plain"):
            return Look(name, in_ascii)
    remote = any(k in environment for k in ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT", "MOSH_CONNECTION"))
    many_colours = environment.get("COLORTERM", "") in ("truecolor", "24bit") or "256color" in environment.get(
        "TERM", ""
    )
    return Look("ansi" if remote or not many_colours else "dark", in_ascii)


def _theme(name: str, palette: Palette) -> Theme:
    return Theme(
        name=f"cockpit-{name}",
        primary=palette.accent,
        secondary=palette.violet,
        warning=palette.warn,
        error=palette.bad,
        success=palette.good,
        accent=palette.accent,
        foreground=palette.text,
        background=palette.background,
        surface=palette.background,
        panel=palette.panel,
        boost=palette.panel,
        dark=palette.dark,
    )


TEXTUAL_THEMES = tuple(_theme(name, palette) for name, palette in PALETTES.items())
