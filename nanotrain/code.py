"""What can be told from the code under test by reading it: how much knowledge it carries, and what it imports.

It is never run here, nor parsed as a tree: a tokenizer of regular expressions meets whatever was written.
"""

from __future__ import annotations

import io
import re
import tokenize
import zlib
from pathlib import Path

from nanotrain.weights import Rejected

MAX_BYTES = 1 << 20  # of all Python files of the package together
KNOWLEDGE_BYTES = 4096  # compressed text, strings and numbers more than in the code the session began with
CODE_BYTES = 16_384  # the same of everything: names and layout can carry knowledge, too
DATA_TOKENS = {tokenize.STRING, tokenize.NUMBER, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
IMPORT = re.compile(r"^([ \t]*)(?:import|from)[ \t]+([A-Za-z_][\w.]*)", re.M)
COMPILES = "torch._dynamo"  # what torch.compile imports when it is called


def read(package: Path) -> str:
    """All Python files of a package, one after the other. Raises Rejected when they are oversized."""
    text, size = [], 0
    for path in sorted(package.rglob("*.py")):
        if path.is_file() and not path.is_symlink():
            size += path.stat().st_size
            if size > MAX_BYTES:
                raise Rejected(f"the code is oversized: more than {MAX_BYTES:,} bytes")
            text.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(text)


def holds_no_knowledge(text: str, base: str) -> None:
    """Raises Rejected when `text` carries much more data than `base`, the code that the session began with.

    Tables, texts and weights written into the code were learned off the clock. Their size is told by compressing them,
    which no way of writing them down can cheat by much.
    """
    for measure, limit, what in (
        (data, KNOWLEDGE_BYTES, "text, strings and numbers"),
        (str, CODE_BYTES, "code"),
    ):
        more = len(zlib.compress(measure(text).encode(), 9)) - len(zlib.compress(measure(base).encode(), 9))
        if more > limit:
            raise Rejected(
                f"the code holds {more:,} bytes more of {what}, compressed, than at the session's start, {limit:,} are "
                "allowed: what is known is learned on the run's clock"
            )


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


def imports(text: str, base: str) -> list[str]:
    """Modules from outside the package that `text` imports where `base` does not; what those cost is no computing."""
    new = {(bool(indent), name) for indent, name in IMPORT.findall(text)}
    new -= {(bool(indent), name) for indent, name in IMPORT.findall(base)}
    names = {name for _, name in new if name.split(".")[0] != "nanotrain"}
    if text.count("compile(") > base.count("compile("):
        names.add(COMPILES)
    return sorted(names)
