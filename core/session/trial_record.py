"""Record of trials in the state folder: how a program.md at a commit of HEAD was tried"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from core.record.errors import SessionError
from core.session.disk import read_json, write_json
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
    folder = next((place / ".git" for place in (project, *project.parents) if (place / ".git").exists()), None)
    if folder is None:
        return ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if folder.is_file():
            folder = folder.parent / folder.read_text().removeprefix("gitdir:").strip()
        common = folder / (folder / "commondir").read_text().strip() if (folder / "commondir").is_file() else folder
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        for place in (folder, common):
            if (place / ref).is_file():
                return (place / ref).read_text().strip()
        packed = (common / "packed-refs").read_text().splitlines()
        return next((line.split(" ")[0] for line in packed if line.endswith(f" {ref}")), head)
    return ""
