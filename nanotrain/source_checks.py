"""Checks of the code under test by reading it: how much data it carries, and what it imports.

The code is neither run nor parsed here, only tokenized, so that text which is no valid Python can be read, too.
"""

from __future__ import annotations

import filecmp
import io
import lzma
import os
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nanotrain.weights import Rejected

Source = dict[str, str]  # content of files by relative path

MAX_CHANGED_BYTES = 1 << 20  # of all new or changed files together
MAX_DATA_BYTES = 4096  # compressed comments, strings, numbers and names that the session's first code does not hold
MAX_CODE_BYTES = 8192  # the same for all of the code: its order and layout can carry data, too
DATA_TOKEN_TYPES = {tokenize.STRING, tokenize.NUMBER, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 23}]
IMPORT_STATEMENT = re.compile(r"^([ \t]*)(?:import|from)[ \t]+([A-Za-z_][\w.]*)", re.M)
# Slow to import, and none loads anything from the working folder but by names in OWN_WORK: the scorer imports these
# before it counts. What else the code imports, the standard library too, counts as its own processor time.
LIBRARIES = {
    *("torch", "torchvision", "torchaudio", "triton", "numpy", "scipy", "sympy", "mpmath", "networkx", "einops"),
    *("opt_einsum", "numba", "llvmlite", "sklearn", "pandas", "transformers", "tokenizers", "safetensors"),
    *("flash_attn", "xformers", "bitsandbytes", "torchao", "ml_dtypes", "jaxtyping", "regex"),
}
OWN_WORK = re.compile(
    r"test|bench|conftest|setup|distutils|f2py|cpp_ext|bottleneck|main|run|launch|hub|cli|compat|_pytest"
)
# What torch imports at these calls, which takes seconds.
COMPILER_CALLS = {
    "torch.compile": {"torch._dynamo", "torch._inductor.compile_fx"},
    "compile(": {"torch._dynamo"},
    "use_deterministic_algorithms": {"torch._dynamo"},
    "custom_op": {"torch._dynamo"},
}


def changed_files(tree: Path, base: Path) -> tuple[Source, Source]:
    """Files of `tree` that are missing or different in `base`, and what `base` has of the same paths, or in files that
    `tree` lacks.

    Every file counts, whatever its name and folder, because the code can read it; of a link its target. Raises Rejected
    when they are oversized.
    """
    now, before, size = {}, {}, 0
    for shown in _files(tree):
        if _same(tree / shown, base / shown) or (new := _content(tree / shown)) is None:
            continue
        size += len(new)
        if size > MAX_CHANGED_BYTES:
            raise Rejected(f"the code is oversized: more than {MAX_CHANGED_BYTES:,} bytes of it are new ({shown})")
        now[shown] = new.decode("utf-8", "surrogateescape")
        before[shown] = (_content(base / shown) or b"").decode("utf-8", "surrogateescape")
    gone = (shown for shown in _files(base) if not os.path.lexists(tree / shown)) if now else ()
    for shown in gone:
        old = _content(base / shown) or b""
        size += len(old)
        if size > 2 * MAX_CHANGED_BYTES:  # enough for text that moves; a checkout may hold a whole .venv
            break
        before[shown] = old.decode("utf-8", "surrogateescape")
    return now, before


def _files(tree: Path) -> Iterator[str]:
    """Paths in `tree` of everything that is no folder, without git's own."""
    for folder, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name != ".git")
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in (*links, *sorted(names)):
            if name != ".git":
                yield str(Path(folder, name).relative_to(tree))


def _same(one: Path, other: Path) -> bool:
    plain = not one.is_symlink() and not other.is_symlink() and one.is_file() and other.is_file()
    return filecmp.cmp(one, other, shallow=False) if plain else _content(one) == _content(other)


def _content(path: Path) -> bytes | None:
    """Up to MAX_CHANGED_BYTES + 1 bytes of a file, or the target of a link; None where there is neither."""
    if path.is_symlink():
        return os.fsencode(path.readlink())
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(MAX_CHANGED_BYTES + 1)


def check_size(now: Source, before: Source) -> None:
    """Raises Rejected when `now` carries much data that `before`, the code at the session's start, does not hold.

    Tables, texts and weights in the code were not learned during the run. Their size is counted compressed, which
    hardly depends on how they are written, and given the old text: what was removed pays for nothing, and what only
    moved costs nothing.
    """
    old = "\n".join(before.values())
    # Code that becomes a comment or a string was there before, too.
    known = "\n".join([old, *map(_data_of, before.items())])
    for given, measure, limit, what in (
        (known, _data_of, MAX_DATA_BYTES, "text, strings, numbers and names"),
        (old, _whole, MAX_CODE_BYTES, "code"),
    ):
        more = _size_given(given, "\n".join(map(measure, now.items())))
        if more > limit:
            raise Rejected(
                f"the code holds {more:,} bytes of {what}, compressed, that it did not hold at the session's start, "
                f"{limit:,} are allowed: what is known is learned on the run's clock"
            )


def _size_given(old: str, new: str) -> int:
    """Compressed bytes of the lines of `new` beyond those of `old`, for one who knows `old`."""
    there = Counter(old.split("\n"))
    fresh = []
    for line in new.split("\n"):
        there[line] -= 1
        if there[line] < 0:
            fresh.append(line)
    known = old.encode("utf-8", "surrogateescape")
    more = "\n".join(fresh).encode("utf-8", "surrogateescape")
    return _size(known + b"\n" + more) - _size(known + b"\n") if fresh else 0


def _size(text: bytes) -> int:
    """Compressed bytes. The window is larger than any code: zlib's of 32 kB would forget the old text."""
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=_FILTERS))


def _data_of(file: tuple[str, str]) -> str:
    """The data of a file and its name; other files than Python are data as a whole."""
    name, text = file
    return f"{name}\n{data(text) if name.endswith('.py') else text}"


def _whole(file: tuple[str, str]) -> str:
    return "\n".join(file)


def data(text: str) -> str:
    """The strings, numbers and comments of Python source, each of its names once, and all that follows the first line
    that is not Python.
    """
    found: list[str] = []
    names, line = dict[str, None](), 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            line = token.start[0] - 1
            if token.type in DATA_TOKEN_TYPES:
                found.append(token.string)
            elif token.type == tokenize.NAME:
                names[token.string] = None
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        found += text.splitlines()[line:]
    return "\n".join([*found, *names])


def is_library(name: str) -> bool:
    """Whether importing the module runs the code of a known library only, wherever and by whomever it is imported."""
    root, *parts = name.split(".")
    return root in LIBRARIES and not any(part.startswith("_") or OWN_WORK.search(part.lower()) for part in parts)


def new_imports(now: Source, before: Source) -> list[str]:
    """Modules of libraries that `now` imports and `before` does not; the scorer does not charge for them."""
    text, base = ("\n".join(t for name, t in some.items() if name.endswith(".py")) for some in (now, before))
    new = {(bool(indent), name) for indent, name in IMPORT_STATEMENT.findall(text)}
    new -= {(bool(indent), name) for indent, name in IMPORT_STATEMENT.findall(base)}
    names = {name for _, name in new if is_library(name)}
    for call, modules in COMPILER_CALLS.items():
        names |= modules if text.count(call) > base.count(call) else set()
    return sorted(names)
