"""Files and tree hash of a commit, also with other file texts, without a checkout.

Two commits hold the same files exactly when their trees have the same hash. So the hash of a tree that was not written
yet shows whether an earlier experiment had the same files. Hashes are git's own (Merkle trees of SHA-1 or SHA-256).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from core.record.errors import EditError

_FILES = ("100644", "100755")
_FOLDER = "040000"
SUBMODULE = "160000"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file, folder, symbolic link or submodule: its mode in git, and its object's hash."""

    mode: str
    sha: str


def listed(listing: bytes) -> Iterator[tuple[str, TreeEntry]]:
    """(path, entry) of each record of `git ls-tree -z`."""
    for record in filter(None, listing.split(b"\0")):
        head, _, path = record.partition(b"\t")
        mode, _, sha = head.decode().split(" ")
        yield os.fsdecode(path), TreeEntry(mode, sha)


class CommitTree:
    """All entries of a commit. `listing`: from `git ls-tree -r -t -z --full-tree`; `prefix`: the project's folder."""

    def __init__(self, listing: bytes, prefix: str) -> None:
        self._above = "" if prefix == "." else f"{prefix}/"
        self._folders: dict[str, dict[str, TreeEntry]] = {"": {}}
        for path, entry in listed(listing):
            folder, _, base = path.rpartition("/")
            self._folders.setdefault(folder, {})[base] = entry

    def files(self) -> dict[str, TreeEntry]:
        """The project's files: path in the project → entry. Links and submodules are left out."""
        found = {}
        for folder, entries in self._folders.items():
            for base, entry in entries.items():
                path = f"{folder}/{base}" if folder else base
                if entry.mode in _FILES and path.startswith(self._above):
                    found[path.removeprefix(self._above)] = entry
        return found

    def refuse_links(self, paths: Iterable[str]) -> None:
        """Raise EditError for a path that is, or leads through, a symbolic link or a submodule, or is a folder."""
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

    def hash_with(self, texts: Mapping[str, str]) -> str:
        """Hash of the tree in which the project's files `texts` (path → text) replace those of the commit."""
        algorithm, folders, touched = self._algorithm(), dict(self._folders), {""}
        folders[""] = dict(folders[""])
        for path, text in texts.items():
            folder, _, base = (self._above + path).rpartition("/")
            above = folder
            while above not in touched:
                touched.add(above)
                folders[above] = dict(folders.get(above, {}))
                above = above.rpartition("/")[0]
            mode = folders[folder][base].mode if base in folders[folder] else _FILES[0]
            folders[folder][base] = TreeEntry(mode, _hash(algorithm, "blob", text.encode("utf-8")))
        for folder in sorted(touched - {""}, key=lambda path: -path.count("/")):
            above, _, base = folder.rpartition("/")
            folders[above][base] = TreeEntry(_FOLDER, _hash(algorithm, "tree", _tree_body(folders[folder])))
        return _hash(algorithm, "tree", _tree_body(folders[""]))

    def _algorithm(self) -> str:
        lengths = (len(entry.sha) for entries in self._folders.values() for entry in entries.values())
        return "sha256" if next(lengths, 40) == 64 else "sha1"


def _hash(algorithm: str, kind: str, body: bytes) -> str:
    return hashlib.new(algorithm, f"{kind} {len(body)}".encode() + b"\0" + body, usedforsecurity=False).hexdigest()


def _tree_body(entries: Mapping[str, TreeEntry]) -> bytes:
    """Bytes of a tree object. Git sorts by name, with a slash after a folder's name."""
    rows = [(os.fsencode(base), entry) for base, entry in entries.items()]
    rows.sort(key=lambda row: row[0] + b"/" if row[1].mode == _FOLDER else row[0])
    return b"".join(e.mode.lstrip("0").encode() + b" " + base + b"\0" + bytes.fromhex(e.sha) for base, e in rows)
