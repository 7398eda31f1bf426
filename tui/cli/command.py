"""Declaration of a command: its arguments, its help and its handler in one place"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tui.cli.output import Output

Handler = Callable[[argparse.Namespace, "Output"], int]


class Argument(NamedTuple):
    """Parameters of `ArgumentParser.add_argument`. The metavar TEXT marks a person's text: it may begin with a dash."""

    names: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def is_option(self) -> bool:
        return self.names[0].startswith("-")

    @property
    def is_text(self) -> bool:
        return self.settings.get("metavar") == "TEXT"


class Command(NamedTuple):
    """A command as its module declares it."""

    arguments: tuple[Argument, ...]
    help: str
    examples: tuple[str, ...]  # without the program's name, unless it stands inside the line
    note: str  # after the examples
    handler: Handler


REGISTERED: dict[str, Command] = {}  # by name; filled as the modules of the commands are imported


def command(
    name: str, *arguments: Argument, help: str, examples: tuple[str, ...], note: str = ""
) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of the command `name`."""

    def register(handler: Handler) -> Handler:
        REGISTERED[name] = Command(arguments, help, examples, note, handler)
        return handler

    return register


def argument(*names: str, **settings: Any) -> Argument:
    return Argument(names, settings)


def flag(*names: str, help: str) -> Argument:
    return Argument(names, {"action": "store_true", "help": help})


def positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number greater than 0")
    return value


def count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0 and at most 12 digits")
    return int(text)


def experiment_number(text: str) -> int:
    digits = text.removeprefix("#")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of an experiment")
    return int(digits)


NAME = argument("name", metavar="NAME", nargs="?", help="a session (default: the newest)")
SESSION = argument("--session", metavar="NAME", help="a session (default: the newest)")
JSON = flag("--json", help="for scripts")
PROJECT = argument("-C", "--project", metavar="DIR", help="the project (default: the current folder)")
PROJECT_FOLDER = argument("directory", metavar="PROJECT", nargs="?", help="folder of a program.md (default: here)")
EXPERIMENT = argument(
    "experiment", metavar="EXPERIMENT", type=experiment_number, help="its number; 0 is the baseline"
)  # fmt: skip
