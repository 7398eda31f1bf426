"""Parser of the command line, its general help and the index of its commands"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import sys
from typing import TYPE_CHECKING, NoReturn

from core import invocation
from tui.cli.command import PROJECT_FOLDER, REGISTERED, Command
from tui.cli.output import write

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# (group in `--help`, module in tui.cli, its commands as `--help` lists them). Only the module of the command that is
# called is imported.
_INDEX = (
    ("start", "run", "run [PROJECT]  attach [NAME]"),
    ("start", "replay", "replay [NAME]"),
    ("look", "look", "sessions  status [NAME]  leaderboard [NAME]  events [NAME]  show EXPERIMENT [NAME]"),
    ("steer", "steering.steer", "pause  resume  skip [EXPERIMENT]  stop  steer TEXT  idea TEXT  propose FILE.patch"),
    ("steer", "steering.steer", "approve N  reject N  approve-mode on|off  fork N|best  pin N  repeat N"),
    ("steer", "steering.queue", "queue  queue move N up|down|PLACE  queue delete N"),
    ("steer", "steering.steer", "set KEY=VALUE …  program [NAME]"),
    ("trust", "certify", "certify [EXPERIMENT]  reproduce EXPERIMENT  sign [EXPERIMENT]"),
    ("trust", "verify", "verify [NAME]"),
    ("take away", "export.export", "export [NAME]  report [NAME]"),
    ("set up", "init", "init [DIR]"),
    ("set up", "checks.try_run", "try [PROJECT]"),
    ("set up", "checks.doctor", "doctor [PROJECT]"),
)
_MODULES = {usage.split()[0]: module for _, module, usages in _INDEX for usage in usages.split("  ")}
COMMANDS = tuple(_MODULES)

_HELP = """\
Mission control for autonomous research: a researcher reads program.md and your code, states a hypothesis, edits
the code, trains for a fixed time, is scored, and the edit is kept or reverted; this repeats until you stop it or
the budget is spent. You watch, steer, leave, come back.

  autoresearch-tui                        attach to the running session, or set up and start one
  autoresearch-tui run --headless         the same without a screen: a line for each event
  autoresearch-tui status                 progress and best result   (--json for scripts)
  autoresearch-tui leaderboard            all experiments, best first
  autoresearch-tui show 12                one experiment: hypothesis, reasoning, diff, runs, verdict
  autoresearch-tui steer "try a smaller batch"
  autoresearch-tui stop                   end the session after its current runs; `run` continues it
"""
_MORE = """
              `autoresearch-tui COMMAND --help` describes each command, with examples.

keys          In the app: space pauses, i steers, x skips, enter opens an experiment, ? shows all keys, q detaches.
              Leaving never stops the work: q, a closed terminal or a lost connection leave the engine running.

where         PROJECT is a folder with a program.md inside a git repository (default: here).
              Sessions: PROJECT/sessions/NAME/. Kept changes: branch autoresearch/NAME. Your checkout is never touched.
              Sockets and crash reports: ~/.local/state/autoresearch-tui (or $AUTORESEARCH_HOME).
environment   The researcher is Claude if ANTHROPIC_API_KEY is set, else GPT if OPENAI_API_KEY is set, else the control
              (Optuna). Keys may be in ~/.config/autoresearch-tui/keys.toml (chmod 600) instead.
              ANTHROPIC_BASE_URL, OPENAI_BASE_URL (Ollama, vLLM, llama.cpp …), AUTORESEARCH_HOME, NO_COLOR.
exit codes    0 done   1 refused or failed   2 usage error   3 no such session
"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, prog: str, description: str, epilog: str, usage: str | None = None) -> None:
        super().__init__(
            prog, usage, _here(description), _here(epilog), allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        name = self.prog.replace(invocation.program(), invocation.NAME, 1)
        self.exit(2, f"{name}: {message}\n  see: {self.prog} --help\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Exit with `status` also when standard error cannot be written (argparse raises then before Python 3.11.4)."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(message or "")
            sys.stderr.flush()
        raise SystemExit(status)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Write the help; raises OSError when standard output cannot be written (argparse ignores that)."""
        write(self.format_help())


def parse(words: list[str]) -> argparse.Namespace:
    """Arguments, with the command's `handler`. Exits (SystemExit 0 or 2) after --help, --version or a usage error."""
    if words and words[0] in COMMANDS:
        importlib.import_module(f"tui.cli.{_MODULES[words[0]]}")
        found = REGISTERED[words[0]]
        return _command_parser(words[0], found).parse_args(_as_meant(found, words[1:]))
    parser = _Parser(
        invocation.program(), _HELP, _groups() + _MORE,
        usage=_here("autoresearch-tui [PROJECT]\n       autoresearch-tui COMMAND …"),
    )  # fmt: skip
    parser.add_argument(*PROJECT_FOLDER.names, **PROJECT_FOLDER.settings)
    parser.add_argument("--version", action="store_true", help="print the version")
    arguments, rest = parser.parse_known_args(words)
    if arguments.version:
        write(f"{invocation.NAME} {_version()}\n")
        parser.exit(0)
    if rest:
        parser.error(f"unknown option {rest[0]!r}; options belong to commands, such as: {parser.prog} run {rest[0]}")
    if arguments.directory and not _exists(arguments.directory):
        import difflib

        near = difflib.get_close_matches(arguments.directory, COMMANDS, 1)
        guess = f"did you mean {near[0]!r}?" if near else f"the commands are: {', '.join(COMMANDS)}"
        parser.error(f"{arguments.directory!r} is neither a command nor a folder; {guess}")
    from tui.cli.run import open_app

    arguments.handler = open_app
    return arguments


def _command_parser(name: str, found: Command) -> argparse.ArgumentParser:
    lines = [line if invocation.NAME in line else f"{invocation.NAME} {line}" for line in found.examples]
    epilog = "\n  ".join(["examples:", *lines]) + (f"\n\n{found.note}" if found.note else "")
    parser = _Parser(f"{invocation.program()} {name}", found.help, epilog)
    for argument in found.arguments:
        parser.add_argument(*argument.names, **argument.settings)
    parser.set_defaults(handler=found.handler)
    return parser


_OPTION = re.compile(r"--[a-z][a-z-]*(=.*)?|-[Ch].*|--", re.DOTALL)


def _as_meant(found: Command, words: list[str]) -> list[str]:
    """`words`, rewritten so that a person's text may begin with a dash: `steer "-5%"`, `reject 3 --reason -5%`."""
    options = [argument for argument in found.arguments if argument.is_option]
    if not any(argument.is_text and not argument.is_option for argument in found.arguments):
        takes_text = {name for option in options if option.is_text for name in option.names}
        joined: list[str] = []
        rest = iter(words)
        for word in rest:
            value = next(rest, None) if word in takes_text else None
            joined.append(word if value is None else f"{word}={value}")
        return joined
    takes_value = {name for option in options if "action" not in option.settings for name in option.names}
    given: list[str] = []
    text: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            text += rest
        elif not _OPTION.fullmatch(word) or " " in word:
            text.append(word)
        else:
            given.append(word)
            if word in takes_value:
                given += [value for value in (next(rest, None),) if value is not None]
    return [*given, "--", *text] if text else given


def _groups() -> str:
    """The commands by group, as lines of `--help`."""
    import textwrap

    groups: dict[str, str] = {}
    for group, _, usages in _INDEX:
        groups[group] = f"{groups[group]}  {usages}" if group in groups else usages
    unbroken = "\0"  # in place of the spaces inside one usage
    return "\n".join(
        textwrap.fill(
            re.sub(r"(?<! ) (?! )", unbroken, usages), 105, initial_indent=f"{group:<14}", subsequent_indent=" " * 14,
            break_on_hyphens=False,
        ).replace(unbroken, " ")
        for group, usages in groups.items()
    )  # fmt: skip


def _exists(word: str) -> bool:
    from pathlib import Path

    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError):
        return False


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(invocation.NAME)
    except PackageNotFoundError:
        return "(not installed)"


def _here(text: str) -> str:
    """`text` with the word by which the program is found from the current folder, in place of its name."""
    return re.sub(r"(?<![/\w-])autoresearch-tui(?![\w/.-])", lambda _: invocation.program(), text)
