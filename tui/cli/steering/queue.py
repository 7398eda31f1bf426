"""The command `queue`: the proposals that wait for a slot, and changes of their order"""

from __future__ import annotations

from argparse import Namespace

from core import invocation, views
from core.record import commands
from core.record.errors import UsageError
from core.record.state import State
from tui.cli.command import JSON, PROJECT, SESSION, argument, command, experiment_number
from tui.cli.output import Output
from tui.cli.session_names import session_of
from tui.cli.steering.steer import ask


@command(
    "queue", SESSION, JSON,
    argument("action", metavar="ACTION", nargs="?", choices=("move", "delete"), help="move or delete; none: list"),
    argument("experiment", metavar="N", nargs="?", type=experiment_number, help="number of a waiting experiment"),
    argument("place", metavar="up|down|PLACE", nargs="?", help="where it moves; the first place is 1"), PROJECT,
    help="List the proposals that wait for a slot, in the order in which slots take them; works without an engine.\n"
    "move: give one another place. delete: take one out, it ends as skipped. Answered accepted or refused, with the\n"
    "reason. --session NAME picks another session than the newest.",
    examples=("queue", "queue move 12 up", "queue move 12 1", "queue delete 12", "queue --json"),
)  # fmt: skip
def queue(arguments: Namespace, out: Output) -> int:
    from core.client import read_outline

    action, number, place = arguments.action, arguments.experiment, arguments.place
    if action is not None and number is None:
        raise UsageError(f"{action} needs the number of a waiting experiment", hint=f"see: {invocation.call('queue')}")
    if action == "delete" and place is not None:
        raise UsageError(
            "delete takes a number alone", hint=f"write: {invocation.call('queue', 'delete', str(number))}"
        )
    if action == "delete":
        return ask(arguments, out, commands.DeleteWaiting(number))
    state = read_outline(session_of(arguments))
    if action == "move":
        return ask(arguments, out, commands.MoveWaiting(number, _place(state, number, place)))
    return _list(state, arguments.json, out)


def _place(state: State, number: int, word: str | None) -> int:
    """The place that a word means; of an experiment that does not wait any, for the engine says so."""
    if word in ("up", "down"):
        at = state.queue.index(number) + 1 if number in state.queue else 1
        return max(1, at - 1) if word == "up" else at + 1
    if word is None or not word.isascii() or not word.isdigit() or not 0 < int(word) < 10**9:
        hint = f"write: {invocation.call('queue', 'move', str(number), 'up')}"
        raise UsageError(f"{word or 'nothing'!r} is no place: up, down, or a number from 1", hint=hint)
    return int(word)


def _list(state: State, json: bool, out: Output) -> int:
    found = views.waiting(state)
    if json:
        out.json(found)
        return 0
    if not found:
        out.line("no proposal waits for a slot")
        return 0
    body = [
        [str(x["place"]), f"#{x['experiment']}", x["phase"], f"#{x['parent']}", out.paint(x["hypothesis"], "text")]
        for x in found
    ]
    out.table(["place", "experiment", "phase", "on", "hypothesis"], body, "rrlrl")
    return 0
