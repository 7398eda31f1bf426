"""The command `init`: writes a program.md, or the whole nanotrain project"""

from __future__ import annotations

import importlib.util
import shutil
from argparse import Namespace
from pathlib import Path

from core import invocation
from core.git import Git, require_git
from core.record.errors import GitError, ProjectError
from tui.cli.command import argument, command
from tui.cli.output import Output

_CANDIDATES = ("train.py", "main.py", "src/train.py", "run.py", "src/main.py")
_IGNORED = "__pycache__/\n*.pyc\nsessions/\n"


@command(
    "init",
    argument("directory", metavar="DIR", nargs="?", default=".", help="where (default: here)"),
    argument("--template", choices=["nanotrain"], help="write a ready project: a small GPT and its scorer"),
    help="Set up a project. Writes a commented program.md into DIR, with guesses for the files to edit and the\n"
    "command to run; overwrites nothing.\n"
    "--template nanotrain writes a ready project instead: a small GPT, its scorer, program.md; committed to git.",
    examples=("init", f"{invocation.NAME} init ~/nano --template nanotrain && cd ~/nano && {invocation.NAME}"),
)
def init(arguments: Namespace, out: Output) -> int:
    folder = Path(arguments.directory).expanduser().absolute()
    if folder.is_file():
        raise ProjectError("this is a file", where=str(folder), hint="name a folder; it is created if missing")
    target = folder / "program.md"
    if target.exists() or target.is_symlink():
        raise ProjectError("there is a program.md already", where=str(target), hint="edit it, or choose another folder")
    if arguments.template:
        _nanotrain(folder, out)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    code = next((name for name in _CANDIDATES if (folder / name).is_file()), None)
    target.write_text(_template("templates/program.md").replace("@CODE@", code or "train.py"), encoding="utf-8")
    out.line(f"wrote {out.paint(str(target), 'bold')}")
    if code is None:
        out.line("  found no train.py or main.py: set in it the files to edit and the command to run")
    if not _in_git(folder):
        out.line("  this is not a git repository yet: git init && git add -A && git commit -m 'First commit'")
    look = invocation.call("doctor", project=folder)
    out.line(f"  next: read it, correct the metric's pattern, commit, and check with: {look}")
    return 0


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
