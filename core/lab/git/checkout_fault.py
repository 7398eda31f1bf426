"""The step that corrects a failed checkout: a filter, a missing object, a full disk"""

from __future__ import annotations

import os
import re
import shlex
import shutil

from core.git import Git

_NO_OBJECT = re.compile(r"unable to read|not allowed|promisor|bad object|missing blob|lazy fetching", re.IGNORECASE)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_FILTERS_WITHOUT_PROGRAM = ("unspecified", "unset", "set")


def checkout_hint(git: Git, commit: str, message: str) -> str:
    """What a person can do so that `commit` can be checked out, by git's `message`: a sentence or a command line."""
    here = f"git -C {shlex.quote(str(git.folder))}"
    if _NO_SPACE.search(message):
        return "free some space, or some files, on this disk"
    if "filter" in message and (found := _filter(git, commit)):
        name, path, program = found
        works = f"{here} cat-file --filters {shlex.quote('HEAD:' + path)}"
        if program and shutil.which(program) is None:
            return f"install {program} (filter {name} of {path}), until this works: {works}"
        return f"correct the filter {name} of {path}, until this works: {works}"
    if _NO_OBJECT.search(message):
        if git.run("config", "--get-regexp", r"^remote\..*\.promisor$").status == 0:
            return f"fetch the objects that this partial clone lacks: {here} archive {commit[:10]} > /dev/null"
        return f"see which objects are missing: {here} fsck; then fetch them, or clone again"
    return f"correct what git reports, until this works: {here} archive {commit[:10]} > /dev/null"


def _filter(git: Git, commit: str) -> tuple[str, str, str] | None:
    """(name, a file that has it, its program) of the first filter in `commit` that has a program and is required."""
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
                return name, path, command.split()[0]
    return None
