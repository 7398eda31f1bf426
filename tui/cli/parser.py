"""The words of the command line, and help that teaches them."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from core import invocation
from tui.cli.output import write
from tui.cli.texts import HELP, MORE, TEXTS

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from tui.cli.output import Output

    Handler = Callable[[argparse.Namespace, Output], int]

_STEERING = (
    "pause", "resume", "skip", "stop", "steer", "idea", "propose", "approve", "reject", "approve-mode", "fork", "pin",
    "repeat", "set", "certify", "reproduce",
)  # fmt: skip
# command -> (module, function) in tui.cli
HANDLERS = {
    "open": ("run", "open_app"),
    "run": ("run", "run"),
    "attach": ("run", "attach"),
    "replay": ("replay", "replay"),
    "sessions": ("look", "sessions"),
    "status": ("look", "status"),
    "leaderboard": ("look", "leaderboard"),
    "events": ("look", "events"),
    "show": ("look", "show"),
    "pause": ("steer", "pause"),
    "resume": ("steer", "resume"),
    "skip": ("steer", "skip"),
    "stop": ("steer", "stop"),
    "steer": ("steer", "steer"),
    "idea": ("steer", "idea"),
    "propose": ("steer", "propose"),
    "approve": ("steer", "approve"),
    "reject": ("steer", "reject"),
    "approve-mode": ("steer", "approve_mode"),
    "fork": ("steer", "fork"),
    "pin": ("steer", "pin"),
    "repeat": ("steer", "repeat"),
    "set": ("change", "change"),
    "program": ("change", "program"),
    "certify": ("certify", "certify"),
    "reproduce": ("certify", "reproduce"),
    "export": ("export.export", "export"),
    "report": ("export.export", "report"),
    "init": ("init", "init"),
    "doctor": ("init", "doctor"),
}
COMMANDS = tuple(name for name in HANDLERS if name != "open")


def handler(command: str) -> Handler:
    """The function behind a command; only its own file is imported."""
    module, name = HANDLERS[command]
    found: Handler = getattr(importlib.import_module(f"tui.cli.{module}"), name)
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        name = self.prog.replace(invocation.program(), invocation.NAME, 1)
        self.exit(2, f"{name}: {message}\n  see: {self.prog} --help\n")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Help that cannot be written is an error; argparse's own way drops it in silence."""
        write(self.format_help())


def parse(words: list[str]) -> argparse.Namespace:
    """Arguments with `command` set. Exits (SystemExit 0 or 2) after --help, --version or a usage error."""
    if words and words[0] in COMMANDS:
        arguments = _command(words[0]).parse_args(words_as_meant(words[0], words[1:]))
        arguments.command = words[0]
        return arguments
    parser = _Parser(
        invocation.program(), usage=_here("autoresearch-tui [PROJECT]\n       autoresearch-tui COMMAND …"),
        description=_here(HELP), epilog=_here(MORE),
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("directory", metavar="PROJECT", nargs="?", help="folder of a program.md (default: here)")
    parser.add_argument("--version", action="store_true", help="print the version")
    arguments, rest = parser.parse_known_args(words)
    if arguments.version:
        write(f"{invocation.NAME} {_version()}\n")
        parser.exit(0)
    if rest:
        parser.error(f"unknown option {rest[0]!r}; options belong to commands, such as: {parser.prog} run {rest[0]}")
    if arguments.directory and not _is_folder(arguments.directory):
        import difflib

        near = difflib.get_close_matches(arguments.directory, COMMANDS, 1)
        guess = f"did you mean {near[0]!r}?" if near else f"the commands are: {', '.join(COMMANDS)}"
        parser.error(f"{arguments.directory!r} is neither a command nor a folder; {guess}")
    arguments.command = "open"
    return arguments


# Options that take a text, and options with a value of the commands whose words are a text.
_TEXTS_OF = {"reject": ("--reason",), "propose": ("--hypothesis",)}
_VALUES_OF = {
    "steer": ("--session", "-C", "--project", "--edit", "--withdraw"),
    "idea": ("--session", "-C", "--project"),
}
_OPTION = re.compile(r"--[a-z][a-z-]*(=.*)?|-[Ch].*|--", re.DOTALL)


def words_as_meant(command: str, words: list[str]) -> list[str]:
    """A person's text may begin with a dash: `steer "-5%"`, `reject 3 --reason -5%`."""
    joined: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word in _TEXTS_OF.get(command, ()) else None
        joined.append(word if value is None else f"{word}={value}")
    if command not in _VALUES_OF:
        return joined
    options: list[str] = []
    text: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            text += rest
        elif not _OPTION.fullmatch(word) or " " in word:
            text.append(word)
        else:
            options.append(word)
            if word in _VALUES_OF[command]:
                options += [value for value in (next(rest, None),) if value is not None]
    return [*options, "--", *text] if text else options


def _is_folder(word: str) -> bool:
    from pathlib import Path

    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError):
        return False


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("autoresearch-tui")
    except PackageNotFoundError:
        return "(not installed)"


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of more than 0")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _number(text: str) -> int:
    digits = text.removeprefix("#")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} is no experiment's number")
    return int(digits)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0 and at most 12 digits")
    return int(text)


def _run_budget(text: str) -> str:
    from core.record.budget import parse_run_budget

    try:
        return str(parse_run_budget(text)) and text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _here(text: str) -> str:
    """`text` with the word by which the program is found from the current folder, in place of its name."""
    return re.sub(r"(?<![/\w-])autoresearch-tui(?![\w/.-])", lambda _: invocation.program(), text)


def _command(name: str) -> argparse.ArgumentParser:
    what, examples = TEXTS[name]
    parser = _Parser(
        f"{invocation.program()} {name}", description=_here(what),
        epilog=_here(f"examples:\n{examples}") if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    if name == "run":
        _run_arguments(parser)
        return parser
    if name in ("attach", "status", "leaderboard", "events", "export", "report"):
        parser.add_argument("name", metavar="NAME", nargs="?", help="a session (default: the newest)")
    if name in _STEERING:
        parser.add_argument("--session", metavar="NAME", help="a session (default: the newest)")
    if name == "program":
        parser.add_argument("name", metavar="NAME", nargs="?", help="a session (default: the newest)")
    if name in ("sessions", "status", "leaderboard", "events", "show", "doctor", "program", *_STEERING):
        parser.add_argument("--json", action="store_true", help="for scripts")
    if name == "init":
        parser.add_argument("directory", metavar="DIR", nargs="?", default=".", help="where (default: here)")
        parser.add_argument(
            "--template", choices=["nanotrain"], help="write a ready project: a small GPT and its scorer"
        )
        return parser
    if name == "doctor":
        parser.add_argument("directory", metavar="PROJECT", nargs="?", help="folder of a program.md (default: here)")
        return parser
    _own_arguments(parser, name)
    parser.add_argument("-C", "--project", metavar="DIR", help="the project (default: the current folder)")
    return parser


def _own_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "replay":
        parser.add_argument("name", metavar="NAME", nargs="?", help="a session (default: the newest), or `demo`")
        parser.add_argument("--speed", metavar="N", type=_positive, help="seconds of the session each second")
        parser.add_argument("--at", metavar="PLACE", help="begin at #12, 1h20m or 40%%, and hold there")
    elif name == "show":
        parser.add_argument("experiment", metavar="EXPERIMENT", type=_number, help="its number; 0 is the baseline")
        parser.add_argument("name", metavar="NAME", nargs="?", help="a session (default: the newest)")
    elif name == "events":
        parser.add_argument("--follow", "-f", action="store_true", help="wait for new ones while an engine lives")
        parser.add_argument("--since", metavar="SEQ", type=_whole, default=0, help="only those after number SEQ")
    elif name == "skip":
        parser.add_argument(
            "experiment", metavar="EXPERIMENT", type=_number, nargs="?", help="default: the longest running"
        )
    elif name == "status":
        parser.add_argument("--follow", "-f", action="store_true", help="go on in sentences, one for each change")
    elif name in ("approve", "reject"):
        parser.add_argument("experiment", metavar="N", type=_number, help="the experiment that waits for you")
    elif name == "certify":
        parser.add_argument("experiment", metavar="EXPERIMENT", type=_number, nargs="?", help="default: the best")
    elif name == "reproduce":
        parser.add_argument("experiment", metavar="EXPERIMENT", type=_number, help="its number; 0 is the baseline")
    elif name == "pause":
        parser.add_argument("--now", action="store_true", help="cut off what runs; it is run again when you resume")
    elif name == "stop":
        parser.add_argument("--now", action="store_true", help="kill what runs; it is run again when you go on")
        parser.add_argument("--after", metavar="N", type=_count, help="once N more experiments have their verdict")
    elif name == "steer":
        parser.add_argument("text", metavar="TEXT", nargs="*", help="what the researcher should know or do")
        parser.add_argument("--edit", metavar="ID", type=_count, help="give queued guidance ID the words of TEXT")
        parser.add_argument("--withdraw", metavar="ID", type=_count, help="take back guidance ID")
        parser.add_argument("--standing", action="store_true", help="holds for every experiment from now on")
        parser.add_argument("--now", action="store_true", help="interrupt the thinking that goes on")
    elif name == "export":
        parser.add_argument("--results", metavar="FILE.tsv", help="commit, metric, memory_gb, status, description")
        parser.add_argument("--plot", metavar="FILE.png", help="the progress chart (.png or .svg)")
        parser.add_argument("--json", metavar="FILE", help="status and every experiment with its diff")
    elif name == "report":
        parser.add_argument("-o", "--output", metavar="FILE.html", required=True, help="the page to write")
    _hands_on_arguments(parser, name)
    if name == "approve":
        parser.add_argument("--all", action="store_true", help="this one, what else waits, and all that come")
        parser.add_argument("--patch", metavar="FILE", help="with these edits instead (a diff against its parent)")
    if name == "reject":
        parser.add_argument("--reason", metavar="TEXT", default="", help="told to the researcher")


def _hands_on_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    add = parser.add_argument
    if name == "idea":
        add("text", metavar="TEXT", nargs="*", help="what the next researcher should try as its experiment")
    elif name == "propose":
        add("patch", metavar="FILE.patch", help="a unified diff, as git diff writes it; - reads standard input")
        add("--hypothesis", metavar="TEXT", required=True, help="one sentence: what changes and why it should help")
        add("--kind", metavar="KIND", default="other", help="architecture, optimizer, schedule, … (default: other)")
    elif name == "approve-mode":
        add("mode", metavar="on|off", choices=["on", "off"], help="whether each proposal waits for you")
    elif name == "fork":
        add("experiment", metavar="N|best", type=_number_or_best, help="what proposals build on from now on")
    elif name == "pin":
        add("experiment", metavar="N", type=_number, help="the experiment that is never built on")
        add("--off", action="store_true", help="take the pin off")
    elif name == "repeat":
        add("experiment", metavar="N", type=_number, help="its number; 0 is the baseline")
    elif name == "set":
        add("settings", metavar="KEY=VALUE", nargs="+",
            help="researcher, model, script, hours, experiments, usd, slots")  # fmt: skip


def _number_or_best(text: str) -> int | None:
    return None if text == "best" else _number(text)


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", metavar="PROJECT", nargs="?", help="folder of a program.md (default: here)")
    add("--headless", action="store_true", help="no screen: wait for the end, a line for each event")
    add("--json", action="store_true", help="with --headless: one JSON event a line")
    add("--session", metavar="NAME", help="name of the session; an existing one goes on (default: today's date)")
    add("--researcher", metavar="NAME", help="claude, openai, command, human, control, scripted (default: by key)")
    add("--model", metavar="ID", help="the researcher's model; for command: claude, codex … or a command line")
    add("--script", metavar="FILE.jsonl", help="proposals for --researcher scripted, one JSON object a line")
    add("--experiments", metavar="N", type=_count, help="stop after N experiments")
    add("--hours", metavar="H", type=_positive, help="stop after H hours")
    add("--usd", metavar="X", type=_positive, help="stop after X dollars")
    add("--run-budget", metavar="20s|400steps", type=_run_budget, help="what one run may train for")
    add("--slots", metavar="cpu:2|gpu:0,1", help="where runs go (default: one for each GPU, else two CPU shares)")
    add("--seed", metavar="N", type=_whole, help="the session's random seed")
    add(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides", help="override a key of program.md"
    )
    add("--from-head", action="store_true", help="run from HEAD though editable files have uncommitted changes")
