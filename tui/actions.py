"""Every action of the app, once: its key, its words, the code that does it, and why it cannot be done now

Keys, footer, help, command palette and docs/keys.md come from this list; `python -m tui.actions` prints docs/keys.md.
A function or method that does not exist is an error of mypy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from tui import availability as why
from tui.control import commands, copying, editing, navigation, playback
from tui.control.away import show_away
from tui.host import Host, host_of
from tui.paint.layout import KEY_STEP
from tui.registry import Action, Registry, all_keys
from tui.screens.reading.opener import open_compare, open_costs, open_failures, open_lineage, open_logs
from tui.session_view import SessionView

if TYPE_CHECKING:  # a screen is loaded when it is first shown
    from tui.screens.base import ActionScreen
    from tui.screens.main_screen import MainScreen
    from tui.screens.reading.compare import CompareScreen
    from tui.screens.reading.experiment import DetailScreen
    from tui.screens.reading.logs import LogsScreen
    from tui.screens.reading.reader import ReadingScreen


# -- what an action is done on: the app, or the screen of its place ----------------------------------------------------


def _host(function: Callable[[Host], None]) -> Callable[[Screen[None]], None]:
    return lambda screen: function(host_of(screen))


def _itself(screen: Any) -> Any:
    """The screen; each name below gives it the type that its actions need."""
    return screen


_any: Callable[[Screen[None]], ActionScreen] = _itself
_main: Callable[[Screen[None]], MainScreen] = _itself
_reading: Callable[[Screen[None]], ReadingScreen] = _itself
_detail: Callable[[Screen[None]], DetailScreen] = _itself
_logs: Callable[[Screen[None]], LogsScreen] = _itself
_compared: Callable[[Screen[None]], CompareScreen] = _itself


# -- titles that say what the key does now -----------------------------------------------------------------------------


def _paused_title(view: SessionView) -> str:
    return "resume" if view.state.state == "paused" else "pause"


def _fork_title(view: SessionView) -> str:
    found = view.subject
    return "back to the best" if found and view.state.base == found.number else "fork from here"


def _pin_title(view: SessionView) -> str:
    found = view.subject
    return "unpin" if found and found.number in view.state.pinned else "pin"


def _approve_mode_title(view: SessionView) -> str:
    return "approve mode off" if view.state.approve else "approve mode on"


def _play_title(view: SessionView) -> str:
    return "hold" if getattr(view.source, "playing", False) else "play"


S, E, L, P = "Session", "Experiments", "View", "Panes"
X, T, R = "An experiment's page", "Sessions and settings", "A recording"
BOTH = ("main", "detail")
LISTS = ("lineage", "failures")
ONE = (*BOTH, *LISTS)  # where one experiment is meant
READ = (*LISTS, "costs", "logs", "compare")
ALL = (*BOTH, *READ)

ACTIONS: tuple[Action, ...] = (
    Action("pause", ("space",), "pause", S, _host(commands.pause),
           "Start no new run; the runs in progress end and are judged. Again: resume.", BOTH, footer=1,
           why_not=why.pausable, retitle=_paused_title, played=False),
    Action("pause_now", ("P",), "pause now", S, _host(commands.pause_now),
           "Stop the runs in progress (asks first); they run again when you resume.", BOTH, why_not=why.pausable_now,
           played=False),
    Action("steer", ("i", "colon"), "steer", S, _host(commands.steer),
           "Write guidance for the researcher: queued, now, or standing.", BOTH, footer=2, why_not=why.running,
           played=False),
    Action("guidance", ("I",), "guidance", S, _host(commands.guidance),
           "Queued and standing guidance: change its text, or withdraw it.", BOTH, played=False),
    Action("withdraw", ("W",), "withdraw", S, _host(commands.withdraw), "Withdraw the newest guidance in force.", BOTH,
           why_not=why.guidance, played=False),
    Action("queue", ("Q",), "queue", S, _host(commands.queue),
           "The proposals that wait for a slot: their order, and out of the queue (asks first).", BOTH, played=False),
    Action("approve", ("a",), "approve", S, _host(commands.approve),
           "Open the proposal that needs approval: run it, reject it, or edit it.", BOTH, why_not=why.approval,
           played=False),
    Action("approve_mode", ("M",), "approve mode", S, _host(commands.approve_mode),
           "Whether each proposal needs your approval before it runs.", BOTH, why_not=why.running,
           retitle=_approve_mode_title, played=False),
    Action("program", ("E",), "edit program.md", S, _host(editing.edit_program),
           "Edit program.md in $EDITOR; the diff is shown before it takes effect.", BOTH, why_not=why.no_recording,
           played=False),
    Action("change", ("b",), "change", S, _host(commands.change),
           "Change researcher, model, budgets and slots of the running session.", BOTH, why_not=why.running,
           played=False),
    Action("stop", ("S",), "stop", S, _host(commands.stop),
           "Stop the session's engine: now, or after the runs in progress (asks first).", BOTH, why_not=why.engine,
           played=False),
    Action("stop_after", ("T",), "stop after", S, _host(commands.stop_after),
           "Stop the engine after a number of further verdicts.", BOTH, why_not=why.running, played=False),
    Action("stop_now", ("exclamation_mark",), "stop now", S, _host(commands.stop_now),
           "Stop the engine at once and abandon the runs in progress (asks first).", BOTH, why_not=why.engine,
           played=False),
    Action("resume_engine", ("R",), "resume session", S, _host(commands.resume_engine),
           "Start the engine of a session that has none.", BOTH, why_not=why.resumable, played=False),
    Action("idea", ("n",), "idea", E, _host(commands.idea),
           "Queue an idea in words: the researcher tries it as its next experiment.", BOTH, why_not=why.running,
           played=False),
    Action("own", ("N",), "own experiment", E, _host(editing.own_experiment),
           "Edit the code of the best in $EDITOR; it runs without a researcher.", BOTH, why_not=why.running,
           played=False),
    Action("skip", ("x",), "skip", E, _host(commands.skip),
           "Stop the selected live experiment, or the one that has run longest.", BOTH, footer=3, why_not=why.skippable,
           played=False),
    Action("fork", ("f",), "fork from here", E, _host(commands.fork),
           "Build on the shown experiment, kept or not. Again: on the best.", ONE, footer=5, why_not=why.buildable,
           retitle=_fork_title, played=False),
    Action("pin", ("p",), "pin", E, _host(commands.pin), "Never build on the shown experiment. Again: allow it.", ONE,
           why_not=why.pinnable, retitle=_pin_title, played=False),
    Action("repeat", ("r",), "re-run", E, _host(commands.repeat),
           "Run the shown experiment once more with a fresh seed; results are pooled.", ONE, why_not=why.repeatable,
           played=False),
    Action("certify", ("C",), "certify", E, _host(commands.certify),
           "Test the chosen experiment (or the best) against the baseline.", ONE, why_not=why.certifiable,
           played=False),
    Action("reproduce", ("V",), "reproduce", E, _host(commands.reproduce),
           "Run the shown experiment again with its recorded seed.", ONE, why_not=why.repeatable, played=False),
    Action("open", ("enter",), "open", L, lambda s: _any(s).open_shown(),
           "The page of the selected experiment: idea, diff, runs, output.", ("main", *LISTS), footer=4,
           why_not=why.subject),
    Action("notes", ("e",), "notes", L, _host(navigation.notes), "Warnings, errors and answers so far, newest last.",
           ALL),
    Action("filter", ("slash",), "filter", L, lambda s: _main(s).ask_filter(),
           "Filter the leaderboard, or the focused stream.", footer=6),
    Action("sort", ("s",), "sort", L, lambda s: _main(s).next_sort(),
           "Sort the leaderboard: by metric, newest, change, verdict.", footer=7),
    Action("reverse", ("o",), "reverse", L, lambda s: _main(s).reverse_sort(), "Reverse the order of the leaderboard."),
    Action("verdicts", ("v",), "verdicts", L, lambda s: _main(s).next_verdicts(),
           "Show all, only kept, waiting, discarded, or failed experiments."),
    Action("columns", ("w",), "columns", L, lambda s: _main(s).choose_columns(), "Choose the leaderboard's columns."),
    Action("mark", ("m",), "mark", L, lambda s: _any(s).mark(),
           "Mark the shown experiment, or remove its mark; two marked ones can be compared.", ONE, why_not=why.subject),
    Action("earlier", ("left", "h"), "earlier", L, lambda s: _main(s).select_beside(-1),
           "Select the previous experiment: the chart's cursor.", why_not=why.subject),
    Action("later", ("right", "l"), "later", L, lambda s: _main(s).select_beside(1),
           "Select the next experiment: the chart's cursor.", why_not=why.subject),
    Action("diff_base", ("d",), "compare with", L, lambda s: _any(s).next_diff_base(),
           "The diff against its parent, the best, or the baseline, in turn.", BOTH),
    Action("fold", ("t",), "fold", L, lambda s: _any(s).next_fold(),
           "The reasoning with each tool's line, with tools folded, or without thinking.", BOTH),
    Action("axis", ("u",), "axis", L, lambda s: _main(s).next_axis(), "The chart by experiments, hours, or dollars."),
    Action("closer", ("plus", "equals_sign"), "closer", L, lambda s: _main(s).zoom_chart(closer=True),
           "Show fewer of the last experiments on the chart."),
    Action("further", ("minus",), "further", L, lambda s: _main(s).zoom_chart(closer=False),
           "Show more of the experiments on the chart."),
    Action("compare", ("c",), "compare", L, lambda s: open_compare(_any(s)),
           "Two marked experiments side by side: facts, runs, curves, code.", (*BOTH, *READ[:-1]), footer=9,
           why_not=why.comparable),
    Action("lineage", ("L",), "lineage", L, lambda s: open_lineage(_any(s)),
           "Ancestry of the best: kept, provisional and forked experiments as a tree.", ALL),
    Action("failures", ("X",), "failures", L, lambda s: open_failures(_any(s)),
           "Crashes and rejections, each with the end of its log.", ALL),
    Action("costs", ("dollar_sign",), "costs", L, lambda s: open_costs(_any(s)),
           "Time and money by slot, verdict and researcher, and per kept change.", ALL),
    Action("logs", ("J",), "logs", L, lambda s: open_logs(_any(s)),
           "Raw output, the engine's log and the scorer's, with search.", ALL),
    Action("search", ("slash",), "search", L, lambda s: _logs(s).search(), "Search the log; esc ends the search.",
           ("logs",), footer=6),
    Action("search_next", ("n",), "next", L, lambda s: _logs(s).next_match(1), "The next match.", ("logs",), footer=7),
    Action("search_previous", ("N",), "previous", L, lambda s: _logs(s).next_match(-1), "The previous match.",
           ("logs",), footer=8),
    Action("wrap", ("w",), "wrap", L, lambda s: _logs(s).toggle_wrap(), "Wrap long lines, or cut them.", ("logs",),
           footer=10),
    Action("swap", ("x",), "swap", L, lambda s: _compared(s).swap(), "Swap the two experiments.", ("compare",),
           footer=6),
    Action("copy_commit", ("y",), "copy commit", L, _host(copying.copy_commit), "Copy the shown experiment's commit.",
           ONE, why_not=why.committed),
    Action("copy_diff", ("Y",), "copy diff", L, _host(copying.copy_diff), "Copy the shown experiment's diff.", ONE,
           why_not=why.diff),
    Action("help", ("question_mark", "f1"), "help", L, _host(navigation.help_card), "This list.", ALL, footer=18),
    Action("palette", ("ctrl+p",), "all", L, _host(navigation.palette),
           "Every action, experiment, theme and setting by name.", ALL, footer=19),
    Action("escape", ("escape",), "back", L, lambda s: _any(s).leave(),
           "Close; else clear the filter, unzoom, or clear the selection.", ALL),
    Action("detach", ("q",), "detach", T, _host(navigation.detach),
           "Close the app; the engine keeps running. Prints how to come back.", ALL, footer=20),
    Action("away", ("A",), "while away", T, _host(show_away), "What happened since you last closed the app.", BOTH,
           why_not=why.no_recording),
    Action("sessions", ("O",), "sessions", T, _host(navigation.sessions),
           "This project's sessions and their states; enter opens one.", BOTH),
    Action("replay", ("B",), "replay", T, _host(navigation.replay), "Play this session from its beginning.", BOTH,
           why_not=why.no_recording),
    Action("settings", ("comma",), "settings", T, _host(navigation.settings), "Theme, signs, notifications and keys.",
           BOTH),
    Action("play", ("space",), "play", R, _host(playback.play), "Hold the recording, or continue.", BOTH, footer=1,
           why_not=why.recording, retitle=_play_title, played=True),
    Action("step", ("full_stop",), "step", R, _host(playback.step), "Hold, and show the next event.", BOTH, footer=2,
           why_not=why.recording, played=True),
    Action("next_keep", ("n",), "next keep", R, _host(playback.next_keep),
           "Jump to the moment when the next experiment is kept.", BOTH, footer=3, why_not=why.recording, played=True),
    Action("previous_keep", ("N",), "previous keep", R, _host(playback.previous_keep),
           "Jump back to the moment when the last experiment was kept.", BOTH, why_not=why.recording, played=True),
    Action("faster", ("greater_than_sign",), "faster", R, _host(playback.faster), "Twice the speed.", BOTH, footer=5,
           why_not=why.recording, played=True),
    Action("slower", ("less_than_sign",), "slower", R, _host(playback.slower), "Half the speed.", BOTH,
           why_not=why.recording, played=True),
    Action("forward", ("right_square_bracket",), "forward", R, _host(playback.forward),
           "Jump forward by a twentieth of the recording.", BOTH, footer=6, why_not=why.recording, played=True),
    Action("backward", ("left_square_bracket",), "backward", R, _host(playback.backward),
           "Jump back by a twentieth of the recording.", BOTH, why_not=why.recording, played=True),
    Action("seek", ("T",), "seek", R, _host(playback.seek),
           "Jump to an experiment (#12), a time (1h20m) or a share (40%).", BOTH, why_not=why.recording, played=True),
    Action("start_over", ("0",), "start over", R, _host(playback.start_over), "Jump to the beginning of the recording.",
           BOTH, why_not=why.recording, played=True),
    Action("zoom", ("z",), "zoom", P, lambda s: _main(s).zoom(), "Show the focused pane alone, or all panes again.",
           footer=8),
    Action("hide", ("H",), "hide", P, lambda s: _main(s).hide(), "Hide the focused pane; its number shows it again."),
    Action("panes", ("Z",), "all panes", P, lambda s: _main(s).show_all_panes(),
           "Restore the original layout of the panes."),
    Action("wider", ("right_curly_bracket", "ctrl+right"), "wider", P, lambda s: _main(s).widen(KEY_STEP),
           "Make the focused pane wider."),
    Action("narrower", ("left_curly_bracket", "ctrl+left"), "narrower", P, lambda s: _main(s).widen(-KEY_STEP),
           "Make the focused pane narrower."),
    Action("taller", ("right_parenthesis", "ctrl+down"), "taller", P, lambda s: _main(s).heighten(KEY_STEP),
           "Make the focused pane taller."),
    Action("lower", ("left_parenthesis", "ctrl+up"), "lower", P, lambda s: _main(s).heighten(-KEY_STEP),
           "Make the focused pane lower."),
    Action("next_pane", ("tab",), "next pane", P, lambda s: _any(s).turn(1), "Focus the next pane.", ALL),
    Action("previous_pane", ("shift+tab",), "previous pane", P, lambda s: _any(s).turn(-1), "Focus the previous pane.",
           ALL),
    Action("pane_1", ("1",), "reasoning", P, lambda s: _main(s).show_pane(0),
           "Focus the reasoning. Again: the next of several thoughts."),
    Action("pane_2", ("2",), "diff", P, lambda s: _main(s).show_pane(1), "Focus the diff."),
    Action("pane_3", ("3",), "progress", P, lambda s: _main(s).show_pane(2), "Focus the progress chart."),
    Action("pane_4", ("4",), "leaderboard", P, lambda s: _main(s).show_pane(3), "Focus the leaderboard."),
    Action("pane_5", ("5",), "slots", P, lambda s: _main(s).show_pane(4), "Focus slots and devices."),
    Action("pane_6", ("6",), "run", P, lambda s: _main(s).show_pane(5),
           "Focus the run: its output, and its loss beside the best's and the baseline's."),
    Action("down", ("j", "down"), "down", P, lambda s: _any(s).focused_pane.move(1),
           "One line down; on the leaderboard, the next experiment.", ALL),
    Action("up", ("k", "up"), "up", P, lambda s: _any(s).focused_pane.move(-1), "One line up.", ALL),
    Action("page_down", ("pagedown", "ctrl+d"), "page down", P, lambda s: _any(s).focused_pane.page(1),
           "One page down.", ALL),
    Action("page_up", ("pageup", "ctrl+u"), "page up", P, lambda s: _any(s).focused_pane.page(-1), "One page up.", ALL),
    Action("top", ("g", "home"), "top", P, lambda s: _any(s).focused_pane.home(), "To the first line.", ALL),
    Action("bottom", ("G", "end"), "end", P, lambda s: _any(s).focused_pane.end(),
           "To the last line; a stream is followed again.", ALL),
    Action("previous", ("left", "h"), "previous", X, lambda s: _detail(s).show_beside(-1), "The previous experiment.",
           ("detail",), footer=5),
    Action("next", ("right", "l"), "next", X, lambda s: _detail(s).show_beside(1), "The next experiment.", ("detail",),
           footer=6),
    Action("tab_1", ("1",), "idea", X, lambda s: _reading(s).show_tab(0),
           "Hypothesis, rationale, verdict and its reason.", ("detail",)),
    Action("tab_2", ("2",), "diff", X, lambda s: _reading(s).show_tab(1), "The change.", ("detail",)),
    Action("tab_3", ("3",), "runs", X, lambda s: _reading(s).show_tab(2),
           "Each run: seed, slot, seconds, end, metric, probes.", ("detail",)),
    Action("tab_4", ("4",), "curves", X, lambda s: _reading(s).show_tab(3),
           "The loss at equal time, beside the best's and the baseline's.", ("detail",)),
    Action("tab_5", ("5",), "output", X, lambda s: _reading(s).show_tab(4), "What the last run printed.", ("detail",)),
    Action("tab_6", ("6",), "reasoning", X, lambda s: _reading(s).show_tab(5),
           "The researcher's reasoning before the proposal.", ("detail",)),
    Action("part_1", ("1",), "first part", X, lambda s: _reading(s).show_tab(0),
           "The run's output; two experiments side by side.", ("logs", "compare")),
    Action("part_2", ("2",), "second part", X, lambda s: _reading(s).show_tab(1), "The engine's log; both curves.",
           ("logs", "compare")),
    Action("part_3", ("3",), "third part", X, lambda s: _reading(s).show_tab(2),
           "The scorer's log; the difference in code.", ("logs", "compare")),
)  # fmt: skip


REGISTRY = Registry(ACTIONS)


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


if __name__ == "__main__":
    print(keys_page(), end="")
