"""What `git add` stores for files of a checkout: line ends, encodings, ident and clean filters are applied"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from core.git import Git, own_index
from core.temporary import own_folder


def stored_as(git_dir: Path, commit: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The bytes that git stores in a child of `commit` for each file with these bytes in a checkout of `commit`.

    Paths are of the repository. The attributes are those of `commit` and of the user's configuration: files that an
    author of a change has written beside it have no effect. Writes objects only. Raises GitError, for a filter that
    fails.
    """
    if not files:
        return {}
    # The folder holds nothing else, so that git reads the attributes from the index.
    with own_folder("add") as folder, own_index() as env:
        tree = Path(folder)
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        git = Git(tree, git_dir=git_dir)
        git.bytes_("read-tree", commit, env=env)
        names = b"".join(os.fsencode(path) + b"\0" for path in files)
        how = ("-c", "core.safecrlf=false", "update-index", "--add", "--replace", "-z", "--stdin")
        git.bytes_(*how, env=env, stdin=names)
        out = git.bytes_("--literal-pathspecs", "ls-files", "--stage", "-z", "--", *files, env=env)
        found: dict[str, bytes] = {}
        for record in filter(None, out.split(b"\0")):
            head, _, name = record.partition(b"\t")
            found[os.fsdecode(name)] = git.bytes_("cat-file", "blob", head.split()[1].decode())
    return found
