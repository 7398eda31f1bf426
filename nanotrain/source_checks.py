"""What can be told from the code under test by reading it: how much knowledge it carries, and what it imports.

It is never run here, nor parsed as a tree: a tokenizer of regular expressions meets whatever was written.
"""

from __future__ import annotations

import filecmp
import io
import os
import re
import tokenize
import zlib
from collections.abc import Callable
from pathlib import Path

from nanotrain.weights import Rejected

Source = dict[str, str]  # what files hold, by their names

MAX_BYTES = 1 << 20  # of all files together that are new or changed
KNOWLEDGE_BYTES = 4096  # compressed text, strings and numbers more than in the code the session began with
CODE_BYTES = 16_384  # the same of everything: names and layout can carry knowledge, too
DATA_TOKENS = {tokenize.STRING, tokenize.NUMBER, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
IMPORT = re.compile(r"^([ \t]*)(?:import|from)[ \t]+([A-Za-z_][\w.]*)", re.M)
COMPILES = "torch._dynamo"  # what torch.compile imports when it is called


def changed(tree: Path, base: Path) -> tuple[Source, Source]:
    """Files of `tree` that `base` has not, or not with this content, and what `base` has by their names.

    Every file counts, not Python's alone: what the code may open, it may know. Of links, what they say. Raises Rejected
    when they are oversized.
    """
    now, before, size = {}, {}, 0
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name not in (".git", "__pycache__"))
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in (*links, *sorted(names)):
            path = Path(folder, name)
            shown = str(path.relative_to(tree))
            if name == ".git" or _same(path, base / shown) or (new := _content(path)) is None:
                continue
            old = _content(base / shown)
            size += len(new)
            if size > MAX_BYTES:
                raise Rejected(f"the code is oversized: more than {MAX_BYTES:,} bytes of it are new ({shown})")
            now[shown] = new.decode("utf-8", "surrogateescape")
            before[shown] = (old or b"").decode("utf-8", "surrogateescape")
    return now, before


def _same(one: Path, other: Path) -> bool:
    plain = not one.is_symlink() and not other.is_symlink() and one.is_file() and other.is_file()
    return filecmp.cmp(one, other, shallow=False) if plain else _content(one) == _content(other)


def _content(path: Path) -> bytes | None:
    """What a file holds, a little more than the most that may be new at most; None where there is none."""
    if path.is_symlink():
        return os.fsencode(path.readlink())
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def holds_no_knowledge(now: Source, before: Source) -> None:
    """Raises Rejected when `now` carries much more data than `before`, the code that the session began with.

    Tables, texts and weights written into the code were learned off the clock. Their size is told by compressing them,
    which no way of writing them down can cheat by much.
    """
    for measure, limit, what in (
        (data, KNOWLEDGE_BYTES, "text, strings and numbers"),
        (str, CODE_BYTES, "code"),
    ):
        more = _size(now, measure) - _size(before, measure)
        if more > limit:
            raise Rejected(
                f"the code holds {more:,} bytes more of {what}, compressed, than at the session's start, {limit:,} are "
                "allowed: what is known is learned on the run's clock"
            )


def _size(source: Source, measure: Callable[[str], str]) -> int:
    """Compressed bytes of all files, their names included; what is no Python counts as it stands."""
    parts = [f"{name}\n{measure(text) if name.endswith('.py') else text}" for name, text in source.items() if text]
    return len(zlib.compress("\n".join(parts).encode("utf-8", "surrogateescape"), 9))


def data(text: str) -> str:
    """The strings, numbers and comments of a Python source; all that follows what cannot be read as one."""
    found, line = [], 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            line = token.start[0] - 1
            if token.type in DATA_TOKENS:
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        found += text.splitlines()[line:]
    return "\n".join(found)


def imports(now: Source, before: Source) -> list[str]:
    """Modules from outside the package that `now` imports where `before` does not; what those cost is no computing."""
    text, base = ("\n".join(t for name, t in some.items() if name.endswith(".py")) for some in (now, before))
    new = {(bool(indent), name) for indent, name in IMPORT.findall(text)}
    new -= {(bool(indent), name) for indent, name in IMPORT.findall(base)}
    names = {name for _, name in new if name.split(".")[0] != "nanotrain"}
    if text.count("compile(") > base.count("compile("):
        names.add(COMPILES)
    return sorted(names)
