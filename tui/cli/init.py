"""The command `init`: writes a program.md from what the repository holds, or the whole nanotrain project"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core import invocation
from core.git import Git, require_git
from core.program.draft import Draft, draft
from core.program.program import project_files
from core.program.survey import Survey, survey
from core.record.errors import GitError, ProjectError
from tui.cli.checks.try_run import offer_trial
from tui.cli.command import argument, command, flag
from tui.cli.output import Output

_IGNORED = "__pycache__/\n*.pyc\nsessions/\n"
FENCE = "+++"


@command(
    "init",
    argument("directory", metavar="DIR", nargs="?", default=".", help="where (default: here)"),
    argument("--template", choices=["nanotrain"], help="write a ready project: a small GPT and its scorer"),
    flag("--yes", help="write without asking"),
    flag("--json", help="for scripts; does not ask"),
    help="Set up a project. Reads the repository in DIR and writes a commented program.md: the files to edit, the\n"
    "command to run, the number that it prints, data that git ignores, the option that takes a seed; each with its\n"
    "reason. A program.md without settings gets them above its text; nothing else is overwritten. A terminal asks.\n"
    "--template nanotrain writes a ready project instead: a small GPT, its scorer, program.md; committed to git.",
    examples=(
        "init",
        "init --yes --json",
        f"{invocation.NAME} init ~/nano --template nanotrain && cd ~/nano && {invocation.NAME}",
    ),
)
def init(arguments: Namespace, out: Output) -> int:
    folder = Path(arguments.directory).expanduser().absolute()
    if folder.is_file():
        raise ProjectError("this is a file", where=str(folder), hint="name a folder; it is created if missing")
    target = folder / "program.md"
    prose = "" if arguments.template else _prose(target)
    if (target.exists() or target.is_symlink()) and not prose:
        look = invocation.call("doctor", project=folder)
        raise ProjectError(
            "there is a program.md already", where=str(target), hint=f"edit it, and check it with: {look}"
        )
    if arguments.template:
        _nanotrain(folder, out)
        return 0
    template = _template("templates/program.md")
    found = _surveyed(folder)
    made = draft(found, template, prose)
    if arguments.json:
        _write(target, made)
        out.json(_plain(target, made, found))
        return 0
    _show(target, made, found, bool(prose), out)
    asks = out.tty and sys.stdin.isatty() and not arguments.yes
    if asks:
        chosen = _asked(found, out)
        if chosen is None:
            out.line("nothing was written")
            return 1
        made = draft(found, template, prose, chosen)
    _write(target, made)
    out.line(f"wrote {out.paint(str(target), 'bold')}")
    at = "" if folder == Path.cwd() else f"-C {shlex.quote(str(folder))} "
    if not _in_git(folder):
        commit = f"git {at}add -A && git {at}commit -m 'First commit'"
        out.line(f"  read it, then make this a git repository: git {at}init && {commit}")
    else:
        out.line(f"  read it, then commit it: git {at}add program.md && git {at}commit -m 'Add program.md'")
    out.line(f"  then try one run of it: {out.paint(_next(folder), 'text')}")
    if asks and _in_git(folder):
        offer_trial(folder, out)
    return 0


def _next(folder: Path) -> str:
    return invocation.call("try", project=folder)


def _prose(target: Path) -> str:
    """The text of a program.md that has no settings, such as one written for another tool; else ""."""
    try:
        text = target.read_text(encoding="utf-8-sig") if target.is_file() else ""
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if text.split("\n", 1)[0].rstrip() == FENCE else text


def _surveyed(folder: Path) -> Survey:
    """The survey of `folder`: of its files in git, or of all where it is in no repository."""
    files: list[str] = []
    ignored: list[str] = []
    if folder.is_dir() and _in_git(folder):
        require_git()
        git = Git(folder, seconds=60.0)
        others = ("ls-files", "-z", "--others", "--exclude-standard")
        files = [*_names(git.bytes_("ls-files", "-z")), *_names(git.bytes_(*others))]
        # Data that git neither holds nor ignores is no more in a worktree than ignored data.
        loose = _names(git.bytes_(*others, "--directory"))
        ignored = [*_names(git.bytes_(*others, "--ignored", "--directory")), *loose]
    elif folder.is_dir():
        files = sorted(project_files(folder))

    def read(path: str) -> str:
        place = folder / path
        try:
            if place.stat().st_size > MAX_FILE_BYTES:
                return ""
            return place.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            return ""

    return survey(list(dict.fromkeys(files)), ignored, read, gpu=shutil.which("nvidia-smi") is not None)


MAX_FILE_BYTES = 2_000_000  # a larger file is not read for the survey


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _show(target: Path, made: Draft, found: Survey, above: bool, out: Output) -> None:
    """What will be written and why, with the choices that there are."""
    where = "the settings above its text" if above else "a new file"
    out.line(f"{out.paint(str(target), 'bold')} ({where}):")
    for line in made.lines:
        out.line(f"  {out.paint(f'{line.key} = {line.value}', 'text')}")
        out.line(f"      {out.paint(line.why, 'dim')}")
    others = [launch.run for launch in found.launches[1:4]]
    if others:
        out.line(f"  other ways to run it: {out.paint('; '.join(others), 'text')}")
    if len(found.metrics) > 1:
        out.line("  numbers that the code prints:")
        for number, metric in enumerate(found.metrics[:MAX_METRICS], 1):
            said = f"{number}  {metric.name} ({metric.direction})  '{metric.pattern}'  {metric.path}:{metric.line}"
            out.line(f"    {out.paint(said, 'text')}")
            out.line(f"         {out.paint(metric.code, 'dim')}")
    for note in made.notes:
        out.line(f"  {out.paint('! ' + note, 'warn')}")


MAX_METRICS = 6


def _asked(found: Survey, out: Output) -> int | None:
    """The index of the metric that the person chooses; None when nothing is to be written."""
    count = min(len(found.metrics), MAX_METRICS)
    choice = f", or the number of another metric (1 to {count})" if count > 1 else ""
    while True:
        out.write(f"write it? [Y/n{choice}] ")
        out.flush()
        answer = sys.stdin.readline()
        word = answer.strip().lower()
        if not answer or word in ("n", "no", "q"):
            return None
        if word in ("", "y", "yes"):
            return 0
        if word.isascii() and word.isdigit() and 1 <= int(word) <= count:
            return int(word) - 1


def _write(target: Path, made: Draft) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(made.text, encoding="utf-8")


def _plain(target: Path, made: Draft, found: Survey) -> dict[str, Any]:
    return {
        "path": str(target),
        "settings": [asdict(line) for line in made.lines],
        "notes": list(made.notes),
        "launches": [launch.run for launch in found.launches],
        "metrics": [asdict(metric) for metric in found.metrics],
        "text": made.text,
        "next": _next(target.parent),
    }


def _template(*paths: str) -> str:
    """The text of the first of `paths` in the package core: those of a wheel and of a clone differ."""
    import core

    home = Path(core.__file__).parent
    for path in paths:
        if (home / path).is_file():
            return (home / path).read_text(encoding="utf-8")
    raise ProjectError("the template is missing", where=str(home / paths[0]), hint="install this program again")


def _nanotrain(folder: Path, out: Output) -> None:
    """Copy the installed nanotrain and its program.md into `folder`, and commit them. Raises ProjectError."""
    found = importlib.util.find_spec("nanotrain")
    if found is None or found.origin is None:
        raise ProjectError("the package nanotrain is not installed", hint="install this program again")
    source = Path(found.origin).parent
    program = _template("templates/nanotrain/program.md", "../program.md")
    if (folder / "nanotrain").exists():
        raise ProjectError("there is already a folder nanotrain", where=str(folder), hint="choose another folder")
    require_git()
    git = Git(folder, seconds=60.0, hooks=True)  # the commit is the user's, so the user's hooks apply
    folder.mkdir(parents=True, exist_ok=True)
    own = not _in_git(folder)
    if own:
        git.bytes_("init", "--quiet")
    shutil.copytree(source, folder / "nanotrain", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (folder / "program.md").write_text(program, encoding="utf-8")
    written = ["nanotrain", "program.md"]
    if own and not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text(_IGNORED)
        written.append(".gitignore")
    try:
        git.bytes_("add", "--", *written)
        git.bytes_(*_identity(git), "commit", "--quiet", "-m", "nanotrain, to be researched", "--", *written)
    except GitError as error:
        error.hint = "the files are written: correct what git reports, then commit them: "
        error.hint += f"git add {' '.join(written)} && git commit -m nanotrain"
        raise
    out.line(f"wrote and committed nanotrain and program.md in {out.paint(str(folder), 'bold')}")
    needed = ("torch", "numpy", "safetensors", "tokenizers")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        line = invocation.install(*invocation.requirements("nanotrain", missing))
        out.line(f"  still missing here: {', '.join(missing)}; install with: {line}")
    out.line(f"  next: {out.paint(invocation.call(project=folder), 'text')}")


def _in_git(folder: Path) -> bool:
    return any((place / ".git").exists() for place in (folder, *folder.parents))


def _identity(git: Git) -> tuple[str, ...]:
    """Options for an author's name if git has none."""
    known = git.run("config", "user.email").out.strip()
    return () if known else ("-c", "user.name=autoresearch", "-c", "user.email=autoresearch@localhost")
