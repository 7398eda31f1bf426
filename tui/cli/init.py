"""Setting up: `init` writes a project, `doctor` says what is ready."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from core import invocation
from core.git import Git, require_git
from core.record.errors import EngineError, GitError, ProjectError
from tui.cli.output import Output

ESSENTIAL_TIMEOUT = 120.0  # seconds for doctor's probes: a sandbox probe on a busy machine is slow
_CANDIDATES = ("train.py", "main.py", "src/train.py", "run.py", "src/main.py")
_IGNORED = "__pycache__/\n*.pyc\nsessions/\n"


def init(arguments: Namespace, out: Output) -> int:
    folder = Path(arguments.directory).expanduser().absolute()
    if folder.is_file():
        raise ProjectError("this is a file", where=str(folder), hint="name a folder: what is missing is made")
    target = folder / "program.md"
    if target.exists() or target.is_symlink():
        raise ProjectError("there is a program.md already", where=str(target), hint="edit it, or choose another folder")
    if arguments.template:
        _nanotrain(folder, out)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    code = next((name for name in _CANDIDATES if (folder / name).is_file()), None)
    target.write_text(_template("program.md").replace("@CODE@", code or "train.py"), encoding="utf-8")
    out.line(f"wrote {out.paint(str(target), 'bold')}")
    if code is None:
        out.line("  no train.py or main.py was found here: say in it what may be edited and what to run")
    if not _in_git(folder):
        out.line("  this is no git repository yet: git init && git add -A && git commit -m 'First commit'")
    look = invocation.call("doctor", project=folder)
    out.line(f"  next: read it, mend the metric's pattern, commit, and look with: {look}")
    return 0


def _template(name: str) -> str:
    """The text of a template of the package, in a wheel, an editable install or a clone."""
    import core

    return (Path(core.__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _nanotrain_program() -> str:
    import core

    home = Path(core.__file__).parent
    for path in (home / "templates" / "nanotrain" / "program.md", home.parent / "program.md"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise ProjectError("the nanotrain template is missing", where=str(home), hint="install this program again")


def _nanotrain(folder: Path, out: Output) -> None:
    """Copy the installed nanotrain and its program.md into `folder`, and commit them. Raises ProjectError."""
    found = importlib.util.find_spec("nanotrain")
    if found is None or found.origin is None:
        raise ProjectError("the package nanotrain is not installed", hint="install this program again")
    source = Path(found.origin).parent
    program = _nanotrain_program()
    if (folder / "nanotrain").exists():
        raise ProjectError("there is a nanotrain here already", where=str(folder), hint="choose another folder")
    require_git()
    git = Git(folder, seconds=60.0, hooks=True)  # the commit is the user's own, and his hooks hold for it
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
        error.hint = "the files are written: mend what git says, then commit them: "
        error.hint += f"git add {' '.join(written)} && git commit -m nanotrain"
        raise
    out.line(f"wrote and committed nanotrain and program.md in {out.paint(str(folder), 'bold')}")
    missing = [
        name for name in ("torch", "numpy", "safetensors", "tokenizers") if importlib.util.find_spec(name) is None
    ]
    if missing:
        line = invocation.install(*invocation.requirements("nanotrain", missing))
        out.line(f"  still missing here: {', '.join(missing)}; install with: {line}")
    out.line(f"  next: {out.paint(invocation.call(project=folder), 'text')}")


def _in_git(folder: Path) -> bool:
    return any((place / ".git").exists() for place in (folder, *folder.parents))


def _identity(git: Git) -> tuple[str, ...]:
    """A name to commit by, where the person has told git none."""
    known = git.run("config", "user.email").out.strip()
    return () if known else ("-c", "user.name=autoresearch", "-c", "user.email=autoresearch@localhost")


def doctor(arguments: Namespace, out: Output) -> int:
    """Print what is ready and the hint for what is not. Exits 0 when nothing essential fails."""
    from core.program.program import find_project

    wanted = Path(arguments.directory).expanduser() if arguments.directory else Path()
    try:
        project = find_project(wanted)
    except ProjectError:
        project = wanted.absolute()  # doctor itself says that program.md is missing
    report = _examine(project)
    failed = [f for f in report["findings"] if f["ok"] is False]
    if arguments.json:
        out.json(report)
        return 1 if failed else 0
    for finding in report["findings"]:
        word = {True: "finished", False: "crashed", None: "provisional"}[finding["ok"]]
        role = {True: "good", False: "bad", None: "warn"}[finding["ok"]]
        name, detail = str(finding["name"]).ljust(18), str(finding["detail"]).replace("\n", "\n" + " " * 23)
        out.line(f"  {out.paint(out.sign(word), role)} {out.paint(name, 'bold')}  {out.paint(detail, 'text')}")
        if finding["hint"] and finding["ok"] is not True:
            out.line(f"    {' ' * 18}  {out.paint('hint: ' + str(finding['hint']), 'warn')}")
    out.line()
    out.line("ready" if not failed else f"not ready: {', '.join(str(f['name']) for f in failed)}")
    return 1 if failed else 0


def _examine(project: Path) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "core.engine", "doctor", "--json", str(project)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ESSENTIAL_TIMEOUT, check=False)
        report = json.loads(done.stdout.rpartition("\n")[2] or done.stdout)
    except subprocess.TimeoutExpired:
        raise EngineError(f"doctor did not end within {ESSENTIAL_TIMEOUT:g} s") from None
    except (OSError, ValueError) as error:
        said = done.stderr.strip().splitlines() if "done" in locals() else []
        raise EngineError(f"doctor could not look ({said[-1] if said else error})") from error
    return dict(report)
