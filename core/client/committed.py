"""The text of files as an experiment committed them, for a person who wants to edit them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from core.record.edits import matches
from core.record.errors import ProjectError

SECONDS = 30.0
LARGEST = 2 * 1024 * 1024  # bytes of one file that a person is handed to edit


def committed_files(project: Path, commit: str, patterns: Sequence[str]) -> dict[str, str]:
    """Path (relative to `project`) -> text, of the files of `commit` that match `patterns`.

    Files that are no text or larger than LARGEST are left out. Raises ProjectError when git cannot say.
    """
    names = _git(project, "ls-tree", "-r", "-z", "--name-only", commit).decode("utf-8", "surrogateescape").split("\0")
    found: dict[str, str] = {}
    for name in (n for n in names if n and matches(n, patterns)):
        data = _git(project, "cat-file", "blob", f"{commit}:./{name}")
        if len(data) <= LARGEST:
            try:
                found[name] = data.decode("utf-8")
            except UnicodeDecodeError:
                continue
    return found


def _git(project: Path, *words: str) -> bytes:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "--no-pager", *words], cwd=project, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProjectError(f"git could not be asked ({error})", where=str(project)) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ProjectError(f"git does not give the code of {words[-1][:60]} ({said})", where=str(project))
    return done.stdout
