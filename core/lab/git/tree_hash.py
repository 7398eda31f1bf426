"""A commit's files by name, without checking anything out, and what its tree would be called with other texts.

Two commits hold the same files exactly when their trees have the same name, so the name of a tree that was never
written says whether those files were ever there before. Names are git's own (Merkle trees of SHA-1 or SHA-256).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.record.errors import EditError

_FILES = ("100644", "100755")
_FOLDER = "040000"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder, symbolic link or submodule: git's mode, and the name of its object."""

    mode: str
    name: str


class Tree:
    """Everything in a commit. `listing` is the output of `git ls-tree -r -t -z --full-tree`; `prefix` the project's."""

    def __init__(self, listing: bytes, prefix: str) -> None:
        self._above = "" if prefix == "." else f"{prefix}/"
        self._folders: dict[str, dict[str, Entry]] = {"": {}}
        for record in filter(None, listing.split(b"\0")):
            head, _, path = record.partition(b"\t")
            mode, _, name = head.decode().split(" ")
            folder, _, base = os.fsdecode(path).rpartition("/")
            self._folders.setdefault(folder, {})[base] = Entry(mode, name)

    def files(self) -> dict[str, Entry]:
        """The project's plain files: path from the project → entry. Links and submodules are left out."""
        found = {}
        for folder, entries in self._folders.items():
            for base, entry in entries.items():
                path = f"{folder}/{base}" if folder else base
                if entry.mode in _FILES and path.startswith(self._above):
                    found[path.removeprefix(self._above)] = entry
        return found

    def refuse_links(self, paths: Iterable[str]) -> None:
        """Raises EditError for a path that is, or goes through, a symbolic link, a submodule or a file."""
        for path in paths:
            parts = (self._above + path).split("/")
            for depth in range(1, len(parts) + 1):
                entry = self._folders.get("/".join(parts[: depth - 1]), {}).get(parts[depth - 1])
                if entry is None or entry.mode == _FOLDER:
                    continue
                if entry.mode not in _FILES:
                    raise EditError("is a symbolic link or a submodule, or lies behind one, and cannot be edited",
                                    where=path, hint="edit the file itself, by its own path")  # fmt: skip
                if depth < len(parts):
                    raise EditError(f"{'/'.join(parts[:depth])} is a file, not a folder", where=path)
            if "/".join(parts) in self._folders:
                raise EditError("is a folder, not a file", where=path)

    def named_with(self, texts: Mapping[str, str]) -> str:
        """The name of the tree in which the project's files `texts` (path → text) stand, all others as they are."""
        sha, folders, touched = self._sha(), dict(self._folders), {""}
        folders[""] = dict(folders[""])
        for path, text in texts.items():
            folder, _, base = (self._above + path).rpartition("/")
            above = folder
            while above not in touched:
                touched.add(above)
                folders[above] = dict(folders.get(above, {}))
                above = above.rpartition("/")[0]
            old = folders[folder].get(base)
            folders[folder][base] = Entry(old.mode if old else _FILES[0], _object(sha, "blob", text.encode("utf-8")))
        for folder in sorted(touched - {""}, key=lambda path: -path.count("/")):
            above, _, base = folder.rpartition("/")
            folders[above][base] = Entry(_FOLDER, _object(sha, "tree", _tree_body(folders[folder])))
        return _object(sha, "tree", _tree_body(folders[""]))

    def _sha(self) -> str:
        names = (len(entry.name) for entries in self._folders.values() for entry in entries.values())
        return "sha256" if next(names, 40) == 64 else "sha1"


def _object(sha: str, kind: str, body: bytes) -> str:
    return hashlib.new(sha, f"{kind} {len(body)}".encode() + b"\0" + body, usedforsecurity=False).hexdigest()


def _tree_body(entries: Mapping[str, Entry]) -> bytes:
    """A tree object's bytes. Git sorts by name, a folder's as if it ended with a slash."""
    rows = [(os.fsencode(base), entry) for base, entry in entries.items()]
    rows.sort(key=lambda row: row[0] + b"/" if row[1].mode == _FOLDER else row[0])
    return b"".join(e.mode.lstrip("0").encode() + b" " + base + b"\0" + bytes.fromhex(e.name) for base, e in rows)
