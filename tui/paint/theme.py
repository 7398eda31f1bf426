"""Looks of the screen: styles by role, glyphs, ASCII stand-ins, Textual themes.

A widget names a role ("dim", "good", "cursor"), never a color. `dark` is the 24-bit look from which `color_schemes`
derives the others; `ansi` uses the terminal's own sixteen colors and background (half the bytes: the default over
SSH), `plain` no color (NO_COLOR, or TERM=dumb). No meaning depends on color alone: a verdict has a glyph and a word.
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
from tui.paint.cells import Part, bar
from tui.paint.color_schemes import COLOR_SCHEMES, ColorScheme, derive

# Role: its style in the dark look, in the sixteen colors of a terminal, and without color.
_STYLES: Mapping[str, tuple[str, str, str]] = {
    "text": ("#d3d7dd", "default", ""),
    "bright": ("bold #f2f4f7", "bold default", "bold"),
    "dim": ("#8b94a1", "bright_black", "dim"),
    "faint": ("#4a5462", "bright_black", "dim"),
    "frame": ("#323a45", "bright_black", "dim"),
    "frame_focus": ("#6ea8d9", "blue", "bold"),
    "title": ("#9aa4b1", "default", ""),
    "title_focus": ("bold #8fc3f0", "bold blue", "bold"),
    "accent": ("#7fb4e6", "blue", ""),
    "good": ("#4fc3a1", "cyan", ""),
    "good_bold": ("bold #4fc3a1", "bold cyan", "bold"),
    "warn": ("#e0b354", "yellow", ""),
    "bad": ("#e8825a", "red", ""),
    "bad_bold": ("bold #e8825a", "bold red", "bold"),
    "violet": ("#b79be0", "magenta", ""),
    "thinking": ("#a9b1bc", "default", ""),
    "tool": ("#7fb4e6", "blue", ""),
    "band": ("#343d49", "bright_black", ""),
    "line": ("#4fc3a1", "cyan", ""),
    "curve": ("#7fb4e6", "blue", ""),
    "bar": ("#7fb4e6", "blue", ""),
    "bar_rest": ("#323a45", "bright_black", ""),
    "add": ("on #12302a", "cyan", ""),
    "remove": ("on #3a211b", "red", ""),
    "add_mark": ("bold #4fc3a1 on #12302a", "bold cyan", "bold"),
    "remove_mark": ("bold #e8825a on #3a211b", "bold red", "bold"),
    "add_word": ("bold #e8fff6 on #1f5b4b", "bold underline cyan", "bold underline"),
    "remove_word": ("bold #fff0ea on #6b3727", "bold underline red", "bold underline"),
    "curve_best": ("#3f9a80", "cyan", "dim"),
    "curve_base": ("#7d68a6", "magenta", "dim"),
    "cursor": ("on #243040", "reverse", "reverse"),
    "cursor_idle": ("on #1a212a", "underline", "underline"),
    "key": ("bold #8fc3f0", "bold blue", "bold"),
    "banner_bad": ("bold #11151a on #e8825a", "reverse red", "reverse bold"),
    "banner_warn": ("bold #11151a on #e0b354", "reverse yellow", "reverse"),
    "code_keyword": ("#c792b8", "magenta", ""),
    "code_string": ("#a5c27a", "green", ""),
    "code_number": ("#e0a66a", "yellow", ""),
    "code_comment": ("#6f7a87", "bright_black", "dim"),  # no italics: GNU screen shows them as a block
    "code_name": ("#8fc3f0", "blue", ""),
    "code_operator": ("#a9b1bc", "default", ""),
}
DARK, ANSI, PLAIN = ({role: styles[look] for role, styles in _STYLES.items()} for look in range(3))

# Glyphs that `core.views.SIGNS` does not have.
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
        "━╸▇▁┄░•★▲▼⚙▸◂⚠╭╮╰╯─│┤└├…“”‘’°←→↑↓−–·σΔ±▎▌▊█▔┃◕◈◎┆┅╌╍┈╺┉",
        "=-#.-.o*^v%><!++++-|+++~\"\"'' <>^v--.sd~|||#-|@&0:+:x?m!",
        strict=True,
    )
)


def ascii_text(text: str) -> str:
    """`text` in ASCII and of the same width: stand-ins for glyphs, dots for braille, `?` for any other character."""
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
    """Line filter for a terminal without UTF-8: all text in ASCII."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_text(text), style, control) for text, style, control in segments]


@dataclass(slots=True)
class Look:
    """Styles and glyphs: `look["dim"]`, `look.glyph("kept")`. Shared: a change of theme reaches app and widgets."""

    name: str = "dark"  # dark, light, contrast, blue-orange, tritan, ansi or plain
    ascii: bool = False
    _styles: dict[str, Style] = field(default_factory=dict)
    _overlays: dict[str, Style] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.change_to(self.name, self.ascii)

    def change_to(self, name: str, ascii_only: bool) -> None:
        self.name, self.ascii = name, ascii_only
        scheme = COLOR_SCHEMES.get(name)
        roles = {"ansi": ANSI, "plain": PLAIN}.get(name) or derive(DARK, COLOR_SCHEMES[name])
        base = Style.parse(f"{roles['text']} on {scheme.background}") if scheme else Style.parse(roles["text"])
        self._overlays = {role: Style.parse(text) for role, text in roles.items()}
        self._styles = {role: base + own for role, own in self._overlays.items()}

    def __getitem__(self, role: str) -> Style:
        return self._styles[role]

    def overlay(self, role: str) -> Style:
        """The role's attributes without the base style, to combine with text that has its own colors."""
        return self._overlays[role]

    def glyph(self, name: str) -> str:
        """The one-cell character for a verdict, a phase, a state or a part of a drawing."""
        return _GLYPHS.get(name) or sign(name)

    def bar(self, share: float | None, width: int) -> list[Part]:
        """A progress bar of `width` cells; of an unknown share (None) an empty one."""
        full, rest = bar(share, width, self.glyph("bar_full"), self.glyph("bar_half"), self.glyph("bar_rest"))
        return [(full, self["bar"]), (rest, self["bar_rest"])]

    def verdict(self, word: str) -> Style:
        return self["violet" if word == "baseline" else role(word)]

    def state(self, word: str) -> Style:
        return self[_BOLD_STATES.get(word) or role(word)]

    @property
    def theme(self) -> str:
        """Name of the Textual theme for this look."""
        return f"cockpit-{self.name}" if self.name in COLOR_SCHEMES else "ansi-dark"


def choose_look(environment: Mapping[str, str], theme: str = "auto", ascii_only: str = "auto") -> Look:
    """The look for a terminal. A setting of "auto" follows the environment (SSH, `TERM`, the locale).

    NO_COLOR and `AUTORESEARCH_LOOK` (a theme, also with `-ascii`) override the settings.
    """
    override = environment.get("AUTORESEARCH_LOOK", "").lower()
    bare = override.removesuffix("ascii").removesuffix("-")
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    upper = locale.upper().replace("-", "")
    term = environment.get("TERM", "")
    no_glyphs = upper in ("C", "POSIX") or term in ("linux", "dumb")
    in_ascii = override.endswith("ascii") or (no_glyphs if ascii_only == "auto" else ascii_only == "on")
    if "NO_COLOR" in environment or term == "dumb":
        return Look("plain", in_ascii)
    for name in (bare, theme):
        if name in (*COLOR_SCHEMES, "ansi", "plain"):
            return Look(name, in_ascii)
    remote = any(k in environment for k in ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT", "MOSH_CONNECTION"))
    many_colors = environment.get("COLORTERM", "") in ("truecolor", "24bit") or "256color" in term
    return Look("ansi" if remote or not many_colors else "dark", in_ascii)


def _theme(name: str, scheme: ColorScheme) -> Theme:
    return Theme(
        name=f"cockpit-{name}",
        primary=scheme.accent,
        secondary=scheme.violet,
        warning=scheme.warn,
        error=scheme.bad,
        success=scheme.good,
        foreground=scheme.text,
        background=scheme.background,
        surface=scheme.background,
        panel=scheme.panel,
        boost=scheme.panel,
        dark=scheme.dark,
    )


TEXTUAL_THEMES = tuple(_theme(name, scheme) for name, scheme in COLOR_SCHEMES.items())
