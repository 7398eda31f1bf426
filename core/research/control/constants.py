"""Tunable constants of source files: detection, search ranges, and edits that set them.

A constant is a top-level assignment, once, of a number to an UPPERCASE name: an int, a float, a bool, arithmetic of
numbers such as `2**14`, or a tuple of these (each element is a constant of its own, `ADAM_BETAS[0]`). A trailing
comment may give the range: `# ... [1e-4..1e-1 log]`, `# ... [2..8]`, or `# ... [fixed]`. Without one the range follows
from the value: a quarter to four times it, powers of two stay powers of two, shares stay in 0..1.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from core.record.proposal import Edit

Value = bool | int | float
Scale = Literal["linear", "log", "one_minus", "power", "choice"]

_NAME = re.compile(r"^[A-Z][A-Z0-9_]*$")
_RANGE = re.compile(r"\[\s*([-+.\deE]+)\s*\.\.\s*([-+.\deE]+)\s*(log)?\s*\]")
_FIXED = re.compile(r"\[\s*fixed\s*\]")
# Names that are never tuned: they change what is measured or printed, or must fit other constants.
_NOT_TUNED = re.compile(
    r"(?:^|_)(?:SEED|LOG|PRINT|EVAL|VAL|TIME|SECONDS|MINUTES|HOURS|BUDGET|VERSION|PORT|WORKERS|THREADS|VOCAB|CONTEXT|"
    r"SEQ|SEQUENCE|BLOCK|HEAD_DIM|MICRO|DEVICE|EPS|EPSILON|DEBUG|COMPILE|PROBE|SAVE|CHECKPOINT|PATH|MAX_STEPS)(?:_|$)"
)
_ANY_MAGNITUDE = re.compile(r"(?:^|_)(?:LR|RATE|STD|SCALE|CLIP|BASE|TEMP|TEMPERATURE|GAIN|SOFTCAP)(?:_|$)")
# Search range of a constant that is 0, by its name.
_ZERO_RANGES: tuple[tuple[re.Pattern[str], float, float, Scale], ...] = (
    (re.compile(r"(?:^|_)(?:WARMUP|COOLDOWN|FINAL|MIN)(?:_|$)"), 0.0, 0.2, "linear"),
    (re.compile(r"(?:^|_)DROPOUT(?:_|$)"), 0.0, 0.3, "linear"),
    (re.compile(r"(?:^|_)(?:DECAY|WD)(?:_|$)"), 0.0, 0.1, "linear"),
    (re.compile(r"(?:^|_)CLIP(?:_|$)"), 0.25, 4.0, "log"),
    (re.compile(r"(?:^|_)SOFTCAP(?:_|$)"), 8.0, 40.0, "log"),
)


@dataclass(frozen=True, slots=True)
class Space:
    """Search range of a constant. `one_minus`: log in 1 − value; `power`: exponents of two from low to high."""

    scale: Scale
    low: float = 0.0
    high: float = 1.0
    step: int | None = None  # ints only

    def clip(self, value: float) -> float:
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Constant:
    """One number in a file. `line` counts from 1; `start` to `end` are the characters of the value in that line."""

    key: str
    path: str
    name: str
    value: Value
    source: str
    line: int
    start: int
    end: int
    space: Space


def find_constants(files: Mapping[str, str], device: str = "cpu") -> dict[str, Constant]:
    """Every tunable constant by key (its name; `path:NAME` when two files share one), except those of the other device
    (`_CPU`, `_CUDA`, `_GPU` in the name), those marked `[fixed]`, and names that are not to be tuned (seed, context …).
    """
    found = [c for path in sorted(files) if path.endswith(".py") for c in _of_file(path, files[path], device)]
    keys = [c.key for c in found]
    unique = (c if keys.count(c.key) == 1 else replace(c, key=f"{c.path}:{c.key}") for c in found)
    return {c.key: c for c in unique}


def _of_file(path: str, text: str, device: str) -> Iterator[Constant]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = text.split("\n")
    assigned = [(name, value) for node in tree.body for name, value in _assignment(node)]
    names = [name for name, _ in assigned]
    for name, node in assigned:
        if not _NAME.match(name) or names.count(name) > 1 or _other_device(name, device):
            continue
        elements = node.elts if isinstance(node, ast.Tuple) else [node]
        for i, element in enumerate(elements):
            key = f"{name}[{i}]" if isinstance(node, ast.Tuple) else name
            if constant := _constant(path, lines, key, name, element):
                yield constant


def _assignment(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value


def _constant(path: str, lines: list[str], key: str, name: str, node: ast.expr) -> Constant | None:
    value = _number(node)
    if value is None or node.end_lineno != node.lineno or node.end_col_offset is None:
        return None
    line = lines[node.lineno - 1]
    start = len(line.encode()[: node.col_offset].decode())  # ast counts bytes
    end = len(line.encode()[: node.end_col_offset].decode())
    source, comment = line[start:end], line[end:].partition("#")[2]
    space = _given_space(comment, value) if "[" not in key else None
    if space is None and (_FIXED.search(comment) or _NOT_TUNED.search(name)):
        return None
    space = space or _default_space(name, value, source)
    return Constant(key, path, name, value, source, node.lineno, start, end, space) if space else None


_OPERATIONS: Mapping[type[ast.operator], Callable[[Value, Value], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip


def _number(node: ast.expr) -> Value | None:
    """The value of a number or of plain arithmetic with numbers; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, (bool, int, float)) and math.isfinite(node.value) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = _number(node.operand)
        return None if inner is None or isinstance(inner, bool) else -inner if isinstance(node.op, ast.USub) else inner
    if not isinstance(node, ast.BinOp):
        return None
    a, b, operation = _number(node.left), _number(node.right), _OPERATIONS.get(type(node.op))
    if a is None or b is None or operation is None or (operation is operator.pow and (abs(a) > 1e6 or abs(b) > 64)):
        return None
    try:
        value = operation(a, b)
        return value if isinstance(value, (int, float)) and math.isfinite(value) else None
    except (ZeroDivisionError, OverflowError):
        return None


def _other_device(name: str, device: str) -> bool:
    return not ({"CUDA", "GPU"} if device == "cpu" else {"CPU"}).isdisjoint(name.split("_"))


def _given_space(comment: str, value: Value) -> Space | None:
    found = _RANGE.search(comment)
    if not found or isinstance(value, bool):
        return None
    try:
        low, high = float(found[1]), float(found[2])
    except ValueError:
        return None
    if not low < high or (found[3] and low <= 0):
        return None
    return Space("log" if found[3] else "linear", low, high, 1 if isinstance(value, int) else None)


def _default_space(name: str, value: Value, source: str) -> Space | None:
    """Default range around a value; None when neither name nor value suggests one."""
    if isinstance(value, bool):
        return Space("choice")
    if isinstance(value, int):
        return _int_space(value, source)
    if value == 0:
        fits = (Space(scale, low, high) for pattern, low, high, scale in _ZERO_RANGES if pattern.search(name))
        return next(fits, None)
    if value < 0:
        return Space("linear", 2 * value, value / 2)
    if value < 1 and not _ANY_MAGNITUDE.search(name):
        if value >= 0.8:
            return Space("one_minus", max(0.0, 1 - (1 - value) * 4), 1 - (1 - value) / 4)
        if value >= 0.05:
            return Space("linear", value / 4, min(1.0, value * 4))
        return Space("log", value / 4, min(1.0, value * 4))
    return Space("log", value / 4, value * 4)


def _int_space(value: int, source: str) -> Space | None:
    if value <= 0:
        return None
    exponent = value.bit_length() - 1
    if value == 1 << exponent and (value >= 16 or "**" in source):
        return Space("power", float(max(0, exponent - 2)), float(exponent + 2))
    if value < 32:
        return Space("linear", max(1, value // 2), value * 2, 1)
    step = min(value & -value, value)
    return Space("linear", max(step, value // 2 // step * step), value * 2, step)


# --- writing ---------------------------------------------------------------------------------------


def written(constant: Constant, value: Value) -> str:
    """`value` as source text, in the notation of the constant: `2**11`, `0.031`, `True`, `3e-05`."""
    if isinstance(constant.value, bool):
        return str(bool(value))
    if isinstance(constant.value, int):
        whole = int(value)
        base2 = re.match(r"^2\s*\*\*\s*\d+$", constant.source)
        return f"2**{whole.bit_length() - 1}" if base2 and whole & (whole - 1) == 0 else str(whole)
    text = f"{float(value):.12g}"
    return text if any(c in text for c in ".en") else f"{text}.0"


def rounded(constant: Constant, value: float) -> Value:
    """`value` as written in the file: floats have three digits, so that a diff stays readable."""
    if isinstance(constant.value, bool):
        return bool(value)
    if isinstance(constant.value, int):
        return round(value)
    if constant.space.scale == "one_minus":
        return float(f"{1 - float(f'{1 - value:.2g}'):.6g}")
    return float(f"{value:.3g}")


def edits_for(files: Mapping[str, str], constants: Mapping[str, Constant], new: Mapping[str, Value]) -> list[Edit]:
    """Search/replace edits that set the constants of `new` (by key), one per line; comments keep their columns."""
    by_line: dict[tuple[str, int], list[tuple[Constant, Value]]] = {}
    for key, value in new.items():
        c = constants[key]
        by_line.setdefault((c.path, c.line), []).append((c, value))
    edits = []
    for (path, number), changes in sorted(by_line.items()):
        lines = files[path].split("\n")
        old = line = lines[number - 1]
        for c, value in sorted(changes, key=lambda change: -change[0].start):
            line = line[: c.start] + written(c, value) + line[c.end :]
        line = _aligned(old, line, max(c.end for c, _ in changes))
        before, after = _unique(lines, number, line)
        edits.append(Edit(path=path, search=before, replace=after))
    return edits


def _aligned(old: str, new: str, after: int) -> str:
    """`new` with its trailing comment in the column it had in `old`, when there is room."""
    tail = old[after:]
    gap = len(tail.partition("#")[0]) if "#" in tail else 0
    shift = len(old) - len(new)
    if not gap or not shift or not tail[:gap].endswith(" "):
        return new
    comment = len(new) - (len(tail) - gap)
    code = new[:comment].rstrip()
    return code + " " * max(2, comment + shift - len(code)) + new[comment:]


def _unique(lines: list[str], number: int, line: str) -> tuple[str, str]:
    """(search, replace): the line and as many before it as make the search unique, and the same with `line`."""
    text = "\n".join(lines)
    for first in range(number - 1, -1, -1):
        search = "\n".join(lines[first:number])
        if text.count(search) == 1:
            break
    return search, "\n".join([*lines[first : number - 1], line])
