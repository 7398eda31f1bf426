"""The text of files as an experiment committed them, for a person who wants to edit them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.edits.apply import matches
from core.git import Git

SECONDS = 30.0
LARGEST = 2 * 1024 * 1024  # bytes of one file that a person is handed to edit


def committed_files(project: Path, commit: str, patterns: Sequence[str]) -> dict[str, str]:
    """Path (relative to `project`) -> text, of the files of `commit` that match `patterns`.

    Files that are no text or larger than LARGEST are left out. Raises GitError when git cannot say.
    """
    git = Git(project, seconds=SECONDS)
    names = git.bytes_("ls-tree", "-r", "-z", "--name-only", commit).decode("utf-8", "surrogateescape").split("\0")
    found: dict[str, str] = {}
    for name in (n for n in names if n and matches(n, patterns)):
        data = git.bytes_("cat-file", "blob", f"{commit}:./{name}")
        if len(data) <= LARGEST:
            try:
                found[name] = data.decode("utf-8")
            except UnicodeDecodeError:
                continue
    return found
