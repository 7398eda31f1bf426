"""Record of trials in the state folder: how a program.md at a commit of HEAD was tried"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from core.record.errors import SessionError
from core.session.disk import read_json, write_json
from core.session.git_files import git_folders, packed_refs
from core.session.homes import state_home

MAX_RECORDS = 500


def note_trial(project: Path, ok: bool) -> None:
    """Note the result of trying `project` as it is now. Without effect where the state folder cannot be written."""
    with contextlib.suppress(OSError, SessionError):
        known = read_json(_file())
        key = _key(project)
        known.pop(key, None)
        kept = dict(list(known.items())[1 - MAX_RECORDS :])
        write_json(_file(), {**kept, key: ok})


def trial_result(project: Path) -> bool | None:
    """Whether a session was expected to work when `project` was tried as it is now; None when it was not tried."""
    try:
        found = read_json(_file()).get(_key(project))
    except (OSError, SessionError):
        return None
    return found if isinstance(found, bool) else None


def _file() -> Path:
    return state_home() / "trials.json"


def _key(project: Path) -> str:
    """Stands for the project, its program.md and HEAD. Raises OSError."""
    parts = (os.fsencode(project.resolve()), (project / "program.md").read_bytes(), _head(project.resolve()).encode())
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]


def _head(project: Path) -> str:
    """The commit of HEAD, read from git's files: the app starts no git. "" where it is not found so."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        folders = git_folders(project)
        if folders is None:
            return ""
        head = (folders[0] / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        for place in folders:
            if (place / ref).is_file():
                return (place / ref).read_text().strip()
        return packed_refs(folders[1]).get(ref, head)
    return ""
