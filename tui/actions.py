"""Every action of the app, once: its key, its words, and why it cannot be done now.

Keys, footer, help, command palette and docs/keys.md all come from this list; a screen does an action with its method
`act_<name>`. `python -m tui.actions` prints docs/keys.md.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from textual.keys import _character_to_key

from core.record.errors import UsageError
from tui import availability as why
from tui.availability import Reason
from tui.session_view import SessionView


@dataclass(frozen=True, slots=True)
class Action:
    """`keys` as Textual names them, the first is what the footer shows. `places`: the screens where it works."""

    name: str
    keys: tuple[str, ...]
    title: str
    description: str
    group: str
    places: tuple[str, ...] = ("main",)
    footer: int = 0  # order in the footer; 0: not there
    why_not: Callable[[SessionView], Reason] | None = None
    retitle: Callable[[SessionView], str] | None = None
    played: bool | None = None  # of a recording only, of a live session only, or of both

    @property
    def shown(self) -> str:
        """The first key, as a person reads it."""
        return spell(self.keys[0]) if self.keys else ""

    def reason(self, model: SessionView) -> Reason:
        """Why it cannot be done now, or None."""
        return self.why_not(model) if self.why_not else None

    def titled(self, model: SessionView) -> str:
        return self.retitle(model) if self.retitle else self.title


def _paused_title(model: SessionView) -> str:
    return "resume" if model.state.state == "paused" else "pause"


def _fork_title(model: SessionView) -> str:
    found = model.subject
    return "back to the best" if found and model.state.base == found.number else "fork from here"


def _pin_title(model: SessionView) -> str:
    found = model.subject
    return "unpin" if found and found.number in model.state.pinned else "pin"


def _approve_mode_title(model: SessionView) -> str:
    return "approve mode off" if model.state.approve else "approve mode on"


def _play_title(model: SessionView) -> str:
    return "hold" if getattr(model.source, "playing", False) else "play"


S, E, L, P = "Session", "Experiments", "Look", "Panes"
X, T, R = "An experiment's page", "Coming and going", "A recording"
BOTH = ("main", "detail")
LISTS = ("lineage", "failures")
ONE = (*BOTH, *LISTS)  # where one experiment is meant
READ = (*LISTS, "costs", "logs", "compare")
ALL = (*BOTH, *READ)

ACTIONS: tuple[Action, ...] = (
    Action("pause", ("space",), "pause", "Start nothing new; what runs ends and is judged. Again: go on.", S, BOTH,
           footer=1, why_not=why.pausable, retitle=_paused_title, played=False),
    Action("pause_now", ("P",), "pause now", "Cut off what runs (asks first); it is run again when you resume.", S,
           BOTH, why_not=why.pausable_now, played=False),
    Action("steer", ("i", "colon"), "steer", "Write guidance for the researcher: queued, now, or standing.", S, BOTH,
           footer=2, why_not=why.running, played=False),
    Action("guidance", ("I",), "guidance", "What is queued and what stands: change its words, or withdraw it.", S, BOTH,
           played=False),
    Action("withdraw", ("W",), "withdraw", "Take back the newest guidance that is still in force.", S, BOTH,
           why_not=why.guidance, played=False),
    Action("approve", ("a",), "approve", "Open the proposal that waits for you: run it, turn it down, or edit it.", S,
           BOTH, why_not=why.approval, played=False),
    Action("approve_mode", ("M",), "approve mode", "Whether each proposal waits for you before it runs.", S, BOTH,
           why_not=why.running, retitle=_approve_mode_title, played=False),
    Action("program", ("E",), "edit program.md", "In $EDITOR; you see the diff before it takes effect.", S, BOTH,
           why_not=why.no_recording, played=False),
    Action("change", ("b",), "change", "Researcher, model, budgets and slots, while the session runs.", S, BOTH,
           why_not=why.running, played=False),
    Action("stop", ("S",), "stop", "End the session's engine: now, or after what runs (asks first).", S, BOTH,
           why_not=why.engine, played=False),
    Action("stop_after", ("T",), "stop after", "End it when so many more experiments have their verdict.", S, BOTH,
           why_not=why.running, played=False),
    Action("stop_now", ("exclamation_mark",), "stop now", "End it at once, and abandon what runs (asks first).", S,
           BOTH, why_not=why.engine, played=False),
    Action("resume_engine", ("R",), "resume session", "Start the engine of a session that has none, and go on.", S,
           BOTH, why_not=why.resumable, played=False),
    Action("idea", ("n",), "idea", "Queue an idea in words: the researcher tries it as its next experiment.", E, BOTH,
           why_not=why.running, played=False),
    Action("own", ("N",), "own experiment", "Edit the best's code in $EDITOR; it is run as it is.", E, BOTH,
           why_not=why.running, played=False),
    Action("skip", ("x",), "skip", "End the selected live experiment now, or the one that runs longest.", E, BOTH,
           footer=3, why_not=why.skippable, played=False),
    Action("fork", ("f",), "fork from here", "Build on the shown experiment, kept or not. Again: on the best.", E, ONE,
           footer=5, why_not=why.buildable, retitle=_fork_title, played=False),
    Action("pin", ("p",), "pin", "Never build on the shown experiment. Again: let it go.", E, ONE,
           why_not=why.pinnable, retitle=_pin_title, played=False),
    Action("repeat", ("r",), "re-run", "Run the shown experiment once more with a fresh seed; results are pooled.", E,
           ONE, why_not=why.repeatable, played=False),
    Action("certify", ("C",), "certify", "Test the chosen experiment (or the best) against the baseline.", E, ONE,
           why_not=why.certifiable, played=False),
    Action("reproduce", ("V",), "reproduce", "Run the shown experiment again with its recorded seed.", E, ONE,
           why_not=why.repeatable, played=False),
    Action("open", ("enter",), "open", "The page of the selected experiment: idea, diff, runs, output.", L,
           ("main", *LISTS), footer=4, why_not=why.subject),
    Action("notes", ("e",), "notes", "Warnings, errors and answers so far, newest last.", L, ALL),
    Action("filter", ("slash",), "filter", "Filter the leaderboard, or the focused stream.", L, footer=6),
    Action("sort", ("s",), "sort", "Sort the leaderboard: by metric, newest, change, verdict.", L, footer=7),
    Action("reverse", ("o",), "other way", "Turn the leaderboard's order round.", L),
    Action("verdicts", ("v",), "verdicts", "Show all, only kept, waiting, discarded, or failed experiments.", L),
    Action("columns", ("w",), "columns", "Choose the leaderboard's columns.", L),
    Action("mark", ("m",), "mark", "Mark the shown experiment, or take its mark away; two marked ones compare.", L,
           ONE, why_not=why.subject),
    Action("earlier", ("left", "h"), "earlier", "Select the experiment before: the chart's cursor.", L,
           why_not=why.subject),
    Action("later", ("right", "l"), "later", "Select the experiment after: the chart's cursor.", L,
           why_not=why.subject),
    Action("diff_base", ("d",), "compare with", "The diff against its parent, the best, or the baseline, in turn.", L,
           BOTH),
    Action("fold", ("t",), "fold", "The reasoning with each tool's line, with tools folded, or without thinking.", L,
           BOTH),
    Action("axis", ("u",), "axis", "The chart by experiments, hours, or dollars.", L),
    Action("closer", ("plus", "equals_sign"), "closer", "Fewer of the last experiments on the chart.", L),
    Action("further", ("minus",), "further", "More of the experiments on the chart.", L),
    Action("compare", ("c",), "compare", "Two marked experiments side by side: facts, runs, curves, code.", L,
           (*BOTH, *READ[:-1]), footer=9, why_not=why.comparable),
    Action("lineage", ("L",), "lineage", "Where the best came from: kept, provisional and forked, as a tree.", L, ALL),
    Action("failures", ("X",), "failures", "Crashes and rejections, each with the end of its log.", L, ALL),
    Action("costs", ("dollar_sign",), "costs", "Where time and money went: slots, tokens, dollars, per kept change.", L,
           ALL),
    Action("logs", ("J",), "logs", "Raw output, the engine's log and the scorer's, with search.", L, ALL),
    Action("search", ("slash",), "search", "Look for words in the log; esc ends it.", L, ("logs",), footer=6),
    Action("search_next", ("n",), "next", "The next line that has them.", L, ("logs",), footer=7),
    Action("search_previous", ("N",), "previous", "The line before that has them.", L, ("logs",), footer=8),
    Action("wrap", ("w",), "wrap", "Wrap long lines, or cut them.", L, ("logs",), footer=10),
    Action("swap", ("x",), "swap", "The other way round.", L, ("compare",), footer=6),
    Action("copy_commit", ("y",), "copy commit", "Copy the shown experiment's commit.", L, ONE, why_not=why.committed),
    Action("copy_diff", ("Y",), "copy diff", "Copy the shown experiment's diff.", L, ONE, why_not=why.diff),
    Action("help", ("question_mark", "f1"), "help", "This list.", L, ALL, footer=18),
    Action("palette", ("ctrl+p",), "all", "Every action, experiment, theme and setting by name.", L, ALL, footer=19),
    Action("escape", ("escape",), "back", "Close; else clear the filter, unzoom, or let go of the selection.", L, ALL),
    Action("detach", ("q",), "detach", "Leave the screen; the engine goes on. Prints how to come back.", T, ALL,
           footer=20),
    Action("away", ("A",), "while away", "What happened since you last left.", T, BOTH, why_not=why.no_recording),
    Action("sessions", ("O",), "sessions", "This project's sessions and how each stands; enter opens one.", T, BOTH),
    Action("replay", ("B",), "watch again", "Play this session from its beginning.", T, BOTH, why_not=why.no_recording),
    Action("settings", ("comma",), "settings", "Theme, signs, notifications and keys.", T, BOTH),
    Action("play", ("space",), "play", "Hold the recording, and go on.", R, BOTH, footer=1, why_not=why.recording,
           retitle=_play_title, played=True),
    Action("step", ("full_stop",), "step", "Hold, and show what happened next.", R, BOTH, footer=2,
           why_not=why.recording, played=True),
    Action("next_keep", ("n",), "next keep", "Jump to the moment the next experiment is kept.", R, BOTH, footer=3,
           why_not=why.recording, played=True),
    Action("previous_keep", ("N",), "previous keep", "Jump back to the keep before this moment.", R, BOTH,
           why_not=why.recording, played=True),
    Action("faster", ("greater_than_sign",), "faster", "Twice the speed.", R, BOTH, footer=5, why_not=why.recording,
           played=True),
    Action("slower", ("less_than_sign",), "slower", "Half the speed.", R, BOTH, why_not=why.recording, played=True),
    Action("forward", ("right_square_bracket",), "forward", "A twentieth of the recording onward.", R, BOTH, footer=6,
           why_not=why.recording, played=True),
    Action("backward", ("left_square_bracket",), "backward", "A twentieth of the recording back.", R, BOTH,
           why_not=why.recording, played=True),
    Action("seek", ("T",), "seek", "To an experiment (#12), a moment (1h20m) or a share (40%).", R, BOTH,
           why_not=why.recording, played=True),
    Action("start_over", ("0",), "start over", "To the beginning of the recording.", R, BOTH, why_not=why.recording,
           played=True),
    Action("zoom", ("z",), "zoom", "Give the focused pane the whole screen, and back.", P, footer=8),
    Action("hide", ("H",), "hide", "Hide the focused pane; its number shows it.", P),
    Action("panes", ("Z",), "all panes", "Every pane as it stood at first.", P),
    Action("wider", ("right_curly_bracket", "ctrl+right"), "wider", "Make the focused pane wider.", P),
    Action("narrower", ("left_curly_bracket", "ctrl+left"), "narrower", "Make the focused pane narrower.", P),
    Action("taller", ("right_parenthesis", "ctrl+down"), "taller", "Make the focused pane taller.", P),
    Action("lower", ("left_parenthesis", "ctrl+up"), "lower", "Make the focused pane lower.", P),
    Action("next_pane", ("tab",), "next pane", "Focus the next pane.", P, ALL),
    Action("previous_pane", ("shift+tab",), "previous pane", "Focus the previous pane.", P, ALL),
    Action("pane_1", ("1",), "reasoning", "Focus the reasoning.", P),
    Action("pane_2", ("2",), "diff", "Focus the diff.", P),
    Action("pane_3", ("3",), "progress", "Focus the progress chart.", P),
    Action("pane_4", ("4",), "leaderboard", "Focus the leaderboard.", P),
    Action("pane_5", ("5",), "slots", "Focus slots and devices.", P),
    Action("pane_6", ("6",), "run", "Focus the run: its output, and its loss over the best's and the baseline's.", P),
    Action("down", ("j", "down"), "down", "One line down; on the leaderboard, the next experiment.", P, ALL),
    Action("up", ("k", "up"), "up", "One line up.", P, ALL),
    Action("page_down", ("pagedown", "ctrl+d"), "page down", "One page down.", P, ALL),
    Action("page_up", ("pageup", "ctrl+u"), "page up", "One page up.", P, ALL),
    Action("top", ("g", "home"), "top", "To the first line.", P, ALL),
    Action("bottom", ("G", "end"), "end", "To the last line; a stream is followed again.", P, ALL),
    Action("previous", ("left", "h"), "previous", "The experiment before this one.", X, ("detail",),
           footer=5),
    Action("next", ("right", "l"), "next", "The experiment after this one.", X, ("detail",), footer=6),
    Action("tab_1", ("1",), "idea", "Hypothesis, rationale, verdict and its reason.", X, ("detail",)),
    Action("tab_2", ("2",), "diff", "The change.", X, ("detail",)),
    Action("tab_3", ("3",), "runs", "Each run: seed, slot, seconds, how it ended, metric, probes.",
           X, ("detail",)),
    Action("tab_4", ("4",), "curves", "The loss over the best's and the baseline's at equal time.", X, ("detail",)),
    Action("tab_5", ("5",), "output", "What the last run printed.", X, ("detail",)),
    Action("tab_6", ("6",), "reasoning", "What was thought before it was proposed.", X, ("detail",)),
    Action("part_1", ("1",), "first part", "The run's output; two experiments side by side.", X, ("logs", "compare")),
    Action("part_2", ("2",), "second part", "The engine's log; both curves.", X, ("logs", "compare")),
    Action("part_3", ("3",), "third part", "The scorer's log; what differs in the code.", X, ("logs", "compare")),
)  # fmt: skip


class Registry:
    """The actions with the keys that hold for this person."""

    def __init__(self, listed: tuple[Action, ...] = ACTIONS) -> None:
        self.actions = listed

    def for_place(self, place: str, played: bool = False) -> Iterator[Action]:
        """The actions of a screen, of a live session or of a recording."""
        return (a for a in self.actions if place in a.places and a.played in (None, played))

    def for_key(self, place: str, key: str, played: bool = False) -> Action | None:
        """The action that `key` means on a screen."""
        return next((action for action in self.for_place(place, played) if key in action.keys), None)

    def named(self, name: str) -> Action:
        """Raises StopIteration for a name that is none: names are written in the code."""
        return next(action for action in self.actions if action.name == name)

    def remapped(self, keys: Mapping[str, tuple[str, ...]]) -> Registry:
        """With other keys for some actions, written as a person writes them.

        Raises UsageError for a name or a key that is none, and for a key that would mean two things: with both names.
        The error's `where` is `keys.NAME`.
        """
        known = {action.name for action in self.actions}
        for name in keys:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean `{near[0]}`?" if near else "the names are those of docs/keys.md"
                raise UsageError(f"there is no action {name!r}", where=f"keys.{name}", hint=hint)
        changed = tuple(
            replace(a, keys=tuple(_key(a.name, key) for key in keys[a.name])) if a.name in keys else a
            for a in self.actions
        )
        made = Registry(changed)
        made._check(set(keys))
        return made

    def _check(self, chosen: set[str]) -> None:
        for first in (a for a in self.actions if a.name in chosen):
            for second in self.actions:
                if first.name == second.name or not set(first.places) & set(second.places):
                    continue
                if first.played is not None and second.played is not None and first.played != second.played:
                    continue
                if both := set(first.keys) & set(second.keys):
                    key = spell(sorted(both)[0])
                    raise UsageError(
                        f"the key {key} would mean both {first.name!r} ({first.title}) and {second.name!r} "
                        f"({second.title})",
                        where=f"keys.{first.name}",
                        hint="choose another key, or give the other action one of its own first",
                    )


_SPELLING = {
    "escape": "esc", "pagedown": "pgdn", "pageup": "pgup", "left": "←", "right": "→", "up": "↑", "down": "↓",
    **{_character_to_key(c): c for c in "?:/,!<>[].;-+=@#$%^&*()~'\"|\\{}_`"},
}  # fmt: skip
_WRITTEN = {spelled: key for key, spelled in _SPELLING.items()} | {"pagedown": "pagedown", "escape": "escape"}
_NAMED = re.compile(
    r"(?:(?:ctrl|shift|alt)\+)*(?:space|tab|enter|escape|backspace|delete|insert|home|end|pageup|pagedown|up|down|left"
    r"|right|f\d{1,2}|[a-z0-9])"
)
OURS = ("ctrl+c",)  # asks how to leave, whatever is set


def spell(key: str) -> str:
    """A key of Textual's as a person reads it: `question_mark` is `?`."""
    return _SPELLING.get(key, key)


def all_keys(action: Action) -> str:
    """Every key of an action as a person reads them: `i :`."""
    return " ".join(spell(key) for key in action.keys)


def _key(name: str, written: str) -> str:
    """A key as a person writes it, as Textual names it. Raises UsageError."""
    found = _WRITTEN.get(written) or (written if len(written) == 1 and written.isprintable() else "")
    if found and len(found) == 1:
        found = _character_to_key(found)
    found = found or (written.lower() if _NAMED.fullmatch(written.lower()) else "")
    if not found or found in OURS:
        raise UsageError(
            f"{written!r} is no key that can be set",
            where=f"keys.{name}",
            hint="write one sign (P, ?), or a name: space, enter, tab, f5, ctrl+x, alt+x, pgup, home",
        )
    return found


def keys_page() -> str:
    """docs/keys.md."""
    lines = [
        "# Keys",
        "",
        "Made by `python -m tui.actions > docs/keys.md` from the list that the app itself uses.",
        "`?` shows it in the app, `ctrl+p` searches it.",
        "An action that cannot be done now says why.",
    ]
    for group in dict.fromkeys(action.group for action in ACTIONS):
        lines += ["", f"## {group}", "", "| keys | action | name | what it does |", "|---|---|---|---|"]
        for action in (a for a in ACTIONS if a.group == group):
            keys = " ".join(f"`{key}`" for key in all_keys(action).split()).replace("`|`", r"`\|`")
            lines.append(f"| {keys} | {action.title} | `{action.name}` | {action.description} |")
    return "\n".join(lines) + _MORE


_MORE = """

## While you write

| keys | what it does |
|---|---|
| `enter` | send: guidance is queued for the next proposal |
| `ctrl+s` | send now: what is being thought is interrupted |
| `ctrl+t` | send as standing guidance, in force until withdrawn |
| `↑` | guidance that is queued, to change its words; then what was sent before |
| `esc` | leave without sending |

## Keys of your own

In the settings (`,`), or in `~/.config/autoresearch-tui/config.toml`, by the action's name:

```
[keys]
pause = ["P", "space"]
pause_now = "ctrl+k"
```

A key that would mean two things on one screen is refused with both names, and the app starts with the keys above and
says so.

## Mouse and clipboard

The mouse works everywhere and is needed nowhere: the wheel scrolls, a click focuses or selects, a double click opens an
experiment, a click on a key in the lowest line does what the key does. With shift held down the terminal selects text
as usual.

What is copied goes to the terminal by OSC 52 (through GNU screen too), into tmux's own buffer inside tmux, and into a
file that is named each time, for terminals that take none of these.
"""


REGISTRY = Registry()

if __name__ == "__main__":
    print(keys_page(), end="")
