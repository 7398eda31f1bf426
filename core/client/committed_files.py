"""Text of an experiment's committed files, for a person's edits"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from core.edits.globs import matches
from core.git import Git

GIT_TIMEOUT = 30.0  # seconds
MAX_FILE_BYTES = 2 * 1024 * 1024


def committed_files(project: Path, commit: str, patterns: Sequence[str]) -> dict[str, str]:
    """Path (relative to `project`) -> text of the files of `commit` that match `patterns`.

    Files that are not UTF-8 or larger than MAX_FILE_BYTES are left out. Raises GitError.
    """
    git = Git(project, seconds=GIT_TIMEOUT)
    names = git.bytes_("ls-tree", "-r", "-z", "--name-only", commit).decode("utf-8", "surrogateescape").split("\0")
    found: dict[str, str] = {}
    for name in (n for n in names if n and matches(n, patterns)):
        data = git.bytes_("cat-file", "blob", f"{commit}:./{name}")
        if len(data) <= MAX_FILE_BYTES:
            with contextlib.suppress(UnicodeDecodeError):
                found[name] = data.decode("utf-8")
    return found
