"""Checks of the code under test by reading it: how much data it carries, and what it imports.

The code is neither run nor parsed here, only tokenized, so that text which is no valid Python can be read, too.
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

Source = dict[str, str]  # content of files by relative path

MAX_CHANGED_BYTES = 1 << 20  # of all new or changed files together
MAX_DATA_BYTES = 4096  # compressed comments, strings and numbers beyond those of the session's first code
MAX_CODE_BYTES = 16_384  # the same for all of the code: names and layout can carry data, too
DATA_TOKEN_TYPES = {tokenize.STRING, tokenize.NUMBER, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
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
TORCH_COMPILE_MODULE = "torch._dynamo"  # imported by torch.compile when it is called


def changed_files(tree: Path, base: Path) -> tuple[Source, Source]:
    """Files of `tree` that are missing or different in `base`, and the content of the same paths in `base`.

    Every file counts, not only Python, because the code can read it; of a link its target. Raises Rejected when
    they are oversized.
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
            if size > MAX_CHANGED_BYTES:
                raise Rejected(f"the code is oversized: more than {MAX_CHANGED_BYTES:,} bytes of it are new ({shown})")
            now[shown] = new.decode("utf-8", "surrogateescape")
            before[shown] = (old or b"").decode("utf-8", "surrogateescape")
    return now, before


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
    """Raises Rejected when `now` carries much more data than `before`, the code at the session's start.

    Tables, texts and weights in the code were not learned during the run. Their compressed size is compared, which
    hardly depends on how they are written.
    """
    for measure, limit, what in ((data, MAX_DATA_BYTES, "text, strings and numbers"), (str, MAX_CODE_BYTES, "code")):
        more = _size(now, measure) - _size(before, measure)
        if more > limit:
            raise Rejected(
                f"the code holds {more:,} bytes more of {what}, compressed, than at the session's start, {limit:,} are "
                "allowed: what is known is learned on the run's clock"
            )


def _size(source: Source, measure: Callable[[str], str]) -> int:
    """Compressed bytes of all files, their names included; other files than Python count whole."""
    parts = [f"{name}\n{measure(text) if name.endswith('.py') else text}" for name, text in source.items() if text]
    return len(zlib.compress("\n".join(parts).encode("utf-8", "surrogateescape"), 9))


def data(text: str) -> str:
    """The strings, numbers and comments of Python source, and all that follows the first line that is not Python."""
    found, line = [], 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            line = token.start[0] - 1
            if token.type in DATA_TOKEN_TYPES:
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        found += text.splitlines()[line:]
    return "\n".join(found)


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
    if text.count("compile(") > base.count("compile("):
        names.add(TORCH_COMPILE_MODULE)
    return sorted(names)
