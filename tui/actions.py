"""Every action of the app, once: its key, its words, and why it cannot be done now.

Keys, footer, help, command palette and docs/keys.md all come from this list; a screen does an action with its method
`act_<name>`. `python -m tui.actions` prints docs/keys.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tui.model import Model

Reason = str | None


@dataclass(frozen=True, slots=True)
class Action:
    """`keys` as Textual names them, `shown` as a person reads the first. `places`: the screens where it works."""

    name: str
    keys: tuple[str, ...]
    shown: str
    title: str
    description: str
    group: str
    places: tuple[str, ...] = ("main",)
    footer: int = 0  # order in the footer; 0: not there
    why_not: Callable[[Model], Reason] | None = None
    retitle: Callable[[Model], str] | None = None

    def reason(self, model: Model) -> Reason:
        """Why it cannot be done now, or None."""
        return self.why_not(model) if self.why_not else None

    def titled(self, model: Model) -> str:
        return self.retitle(model) if self.retitle else self.title


def _engine(model: Model) -> Reason:
    return model.why_no_command


def _pausable(model: Model) -> Reason:
    if (reason := model.why_no_command) is not None:
        return reason
    return None if model.state.state in ("running", "paused") else f"the session is {model.state.state}"


def _skippable(model: Model) -> Reason:
    if (reason := model.why_no_command) is not None:
        return reason
    return None if any(n for n in model.state.live) else "no experiment is under way"


def _resumable(model: Model) -> Reason:
    if model.connection.status != "dead":
        return "an engine holds this session already"
    return None


def _approval(model: Model) -> Reason:
    return None if model.state.approvals else "no proposal waits for you"


def _selection(model: Model) -> Reason:
    return None if model.shown is not None else "there is no experiment yet"


def _selected(model: Model) -> Reason:
    return None if model.selected is not None else "no experiment is selected"


def _guidance(model: Model) -> Reason:
    if (reason := model.why_no_command) is not None:
        return reason
    return None if model.state.in_force() else "no guidance is queued"


def _paused_title(model: Model) -> str:
    return "resume" if model.state.state == "paused" else "pause"


def _commit(model: Model) -> Reason:
    shown = model.shown
    return None if shown and shown.commit else "this experiment has no commit"


S, L, P, X = "Session", "Look", "Panes", "An experiment's page"
BOTH = ("main", "detail")

ACTIONS: tuple[Action, ...] = (
    Action("pause", ("space",), "space", "pause", "Start nothing new; what runs ends and is judged. Again: go on.", S,
           BOTH, footer=1, why_not=_pausable, retitle=_paused_title),
    Action("steer", ("i", "colon"), "i", "steer", "Write guidance, which the researcher heeds at its next proposal.",
           S, BOTH, footer=2, why_not=_engine),
    Action("skip", ("x",), "x", "skip", "End the selected live experiment now, or the one that runs longest.", S, BOTH,
           footer=3, why_not=_skippable),
    Action("approve", ("a",), "a", "approve", "Open the proposal that waits for you: y runs it, n turns it down.", S,
           why_not=_approval),
    Action("withdraw", ("W",), "W", "withdraw", "Take back the newest guidance that is still in force.", S,
           why_not=_guidance),
    Action("stop", ("S",), "S", "stop", "End the session's engine once running experiments have ended (asks first).", S,
           BOTH, why_not=_engine),
    Action("resume_engine", ("R",), "R", "resume session", "Start the engine of a session that has none, and go on.", S,
           why_not=_resumable),
    Action("detach", ("q",), "q", "detach", "Leave the screen; the engine goes on. Prints how to come back.", S, BOTH,
           footer=20),
    Action("open", ("enter",), "enter", "open", "The page of the selected experiment: idea, diff, runs, output.", L,
           footer=4, why_not=_selection),
    Action("away", ("A",), "A", "while away", "What happened since you last left.", L),
    Action("notes", ("e",), "e", "notes", "Warnings and errors so far, newest last.", L, BOTH),
    Action("filter", ("slash",), "/", "filter", "Filter the leaderboard, or the focused stream.", L, footer=6),
    Action("sort", ("s",), "s", "sort", "Sort the leaderboard: by metric, newest, change, verdict.", L, footer=7),
    Action("copy_commit", ("y",), "y", "copy commit", "Copy the shown experiment's commit (OSC 52).", L, BOTH,
           why_not=_commit),
    Action("help", ("question_mark", "f1"), "?", "help", "This list.", L, BOTH, footer=18),
    Action("palette", ("ctrl+p",), "ctrl+p", "all", "Every action and experiment by name.", L, BOTH, footer=19),
    Action("escape", ("escape",), "esc", "back", "Close; else clear the filter, unzoom, or let go of the selection.", L,
           BOTH),
    Action("zoom", ("z",), "z", "zoom", "Give the focused pane the whole screen, and back.", P, footer=8),
    Action("next_pane", ("tab",), "tab", "next pane", "Focus the next pane.", P, BOTH),
    Action("previous_pane", ("shift+tab",), "shift+tab", "previous pane", "Focus the previous pane.", P, BOTH),
    Action("pane_1", ("1",), "1", "reasoning", "Focus the reasoning.", P),
    Action("pane_2", ("2",), "2", "diff", "Focus the diff.", P),
    Action("pane_3", ("3",), "3", "progress", "Focus the progress chart.", P),
    Action("pane_4", ("4",), "4", "leaderboard", "Focus the leaderboard.", P),
    Action("pane_5", ("5",), "5", "slots", "Focus slots and devices.", P),
    Action("pane_6", ("6",), "6", "output", "Focus the live output and loss curve.", P),
    Action("down", ("j", "down"), "j", "down", "One line down; on the leaderboard, the next experiment.", P, BOTH),
    Action("up", ("k", "up"), "k", "up", "One line up.", P, BOTH),
    Action("page_down", ("pagedown", "ctrl+d"), "pgdn", "page down", "One page down.", P, BOTH),
    Action("page_up", ("pageup", "ctrl+u"), "pgup", "page up", "One page up.", P, BOTH),
    Action("top", ("g", "home"), "g", "top", "To the first line.", P, BOTH),
    Action("bottom", ("G", "end"), "G", "end", "To the last line; a stream is followed again.", P, BOTH),
    Action("previous", ("left", "h"), "←", "previous", "The experiment before this one.", X, ("detail",),
           footer=5),
    Action("next", ("right", "l"), "→", "next", "The experiment after this one.", X, ("detail",), footer=6),
    Action("tab_1", ("1",), "1", "idea", "Hypothesis, rationale, verdict and its reason.", X, ("detail",)),
    Action("tab_2", ("2",), "2", "diff", "The change.", X, ("detail",)),
    Action("tab_3", ("3",), "3", "runs", "Each run: seed, slot, seconds, how it ended, metric, probes.",
           X, ("detail",)),
    Action("tab_4", ("4",), "4", "output", "The last run's output and loss curve.", X, ("detail",)),
    Action("tab_5", ("5",), "5", "reasoning", "What was thought before it was proposed.", X, ("detail",)),
)  # fmt: skip


def for_place(place: str) -> Iterator[Action]:
    return (action for action in ACTIONS if place in action.places)


def for_key(place: str, key: str) -> Action | None:
    """The action that `key` means on a screen."""
    return next((action for action in for_place(place) if key in action.keys), None)


def named(name: str) -> Action:
    return next(action for action in ACTIONS if action.name == name)


_SPELLING = {"question_mark": "?", "colon": ":", "slash": "/", "escape": "esc", "pagedown": "pgdn", "pageup": "pgup"}
_SPELLING |= {"left": "←", "right": "→", "up": "↑", "down": "↓"}


def all_keys(action: Action) -> str:
    """Every key of an action as a person reads them: `i :`."""
    return " ".join(_SPELLING.get(key, key) for key in action.keys)


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
        lines += ["", f"## {group}", "", "| keys | action | what it does |", "|---|---|---|"]
        for action in (a for a in ACTIONS if a.group == group):
            keys = " ".join(f"`{key}`" for key in all_keys(action).split())
            lines.append(f"| {keys} | {action.title} | {action.description} |")
    lines += [
        "",
        "## While you write",
        "",
        "| keys | what it does |",
        "|---|---|",
        "| `enter` | send: guidance is queued for the next proposal |",
        "| `ctrl+s` | send now: what is being thought is interrupted |",
        "| `ctrl+t` | send as standing guidance, in force until withdrawn |",
        "| `up` | bring back what was sent last |",
        "| `esc` | leave without sending |",
        "",
        "The mouse works too: the wheel scrolls, a click focuses or selects, a double click opens an experiment;",
        "with shift held down the terminal selects text as usual.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(keys_page(), end="")
