"""Why a checkout failed, and the step that corrects it: a filter, a missing object, a full disk"""

from __future__ import annotations

import os
import re
import shlex
import subprocess

from core.git import Git, reason
from core.record.errors import GitError, ProjectError

_NO_OBJECT = re.compile(
    r"unable to read|cannot read object|not allowed|promisor|bad object|missing blob|lazy fetching", re.IGNORECASE
)
_OF_FILTER = re.compile(r"filter|remote end hung up unexpectedly|did not end within")  # the remote end: such a process
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_PROGRAM = re.compile(r"""\s*(["']?)([\w.+/-]+)\1(?=\s|$)""")  # a command's first word, where it names a program
_FILTERS_WITHOUT_PROGRAM = ("unspecified", "unset", "set")


def checkout_fault(git: Git, commit: str, error: GitError) -> tuple[str, str]:
    """Why git could not check out `commit`, and what a person can do: a sentence or a command line.

    A filter is named with a file that has it: git names them or not, as it happens to notice that the filter ended.
    """
    here = f"git -C {shlex.quote(str(git.folder))}"
    message = error.message or error.what
    why = reason(message)
    if _NO_SPACE.search(message):
        return why, "free some space, or some files, on this disk"
    if _NO_OBJECT.search(message):
        if git.run("config", "--get-regexp", r"^remote\..*\.promisor$").status == 0:
            return why, f"fetch the objects that this partial clone lacks: {here} archive {commit[:10]} > /dev/null"
        return why, f"see which objects are missing: {here} fsck; then fetch them, or clone again"
    if _OF_FILTER.search(message) and (found := _filter(git, commit)):
        name, path, command = found
        if f"{path}: " not in why:
            why = f"{path}: smudge filter {name} failed: {why}"
        if program := _missing(git, command):
            return why, f"install {program} (filter {name} of {path}), until this works: {_works(git, path)}"
        return why, f"correct the filter {name} of {path}, until this works: {_works(git, path)}"
    return why, f"correct what git reports, until this works: {here} archive {commit[:10]} > /dev/null"


def check_filters(git: Git, commit: str) -> None:
    """Raises ProjectError when a file of `commit` needs a filter whose program is not installed."""
    if git.run("config", "--get-regexp", r"^filter\..*\.required$").status:
        return
    if (found := _filter(git, commit)) and (program := _missing(git, found[2])):
        name, path, _ = found
        raise ProjectError(
            f"git cannot check out {path}: its filter {name} needs {program}, which is not installed",
            where=str(git.folder), hint=f"install {program}, until this works: {_works(git, path)}",
        )  # fmt: skip


def _works(git: Git, path: str) -> str:
    return f"git -C {shlex.quote(str(git.folder))} cat-file --filters {shlex.quote('HEAD:' + path)}"


def _missing(git: Git, command: str) -> str:
    """The program of a filter's command, if the shell does not find it where git runs filters; "" else."""
    named = _PROGRAM.match(command)
    if named is None:  # shell syntax, or a variable
        return ""
    own = os.fsdecode(git.run("--exec-path").out).strip()
    env = {**os.environ, "PATH": os.pathsep.join((own, os.environ.get("PATH", os.defpath)))}
    asked = ("/bin/sh", "-c", 'command -v "$0"', named[2])
    done = subprocess.run(asked, cwd=git.folder, env=env, capture_output=True, check=False)
    return named[2] if done.returncode else ""


def _filter(git: Git, commit: str) -> tuple[str, str, str] | None:
    """(name, a file that has it, its command) of the first filter in `commit` that has a command and is required."""
    names = git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).out
    out = git.run("check-attr", "--stdin", "-z", "filter", stdin=names).out
    words = [os.fsdecode(word) for word in out.split(b"\0")]
    files: dict[str, str] = {}
    for path, name in zip(words[::3], words[2::3], strict=False):
        files.setdefault(name, path)
    for name, path in files.items():
        if name in _FILTERS_WITHOUT_PROGRAM or git.run("config", f"filter.{name}.required").status:
            continue
        for kind in ("process", "smudge"):
            command = os.fsdecode(git.run("config", f"filter.{name}.{kind}").out)
            if command.strip():
                return name, path, command
    return None
