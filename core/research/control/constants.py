"""Tunable constants of source files: which numbers they are, their search ranges, and edits that set them.

A constant is a number in one of the places that `numbers` knows: an int, a float, a bool, in Python also arithmetic of
numbers such as `2**14`, or a tuple of these (each element is a constant of its own, `ADAM_BETAS[0]`). A trailing
comment may give the range: `# ... [1e-4..1e-1 log]`, `# ... [2..8]`, or `# ... [fixed]`. Without one the range follows
from the value: a quarter to four times it, powers of two stay powers of two, shares stay in 0..1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from core import invocation
from core.edits.python_syntax import ENDINGS
from core.record.errors import ResearcherMisconfigured
from core.record.proposal import Edit
from core.research.control.numbers import Number, Value, numbers

Scale = Literal["linear", "log", "one_minus", "power", "choice"]

_RANGE = re.compile(r"\[\s*([-+.\deE]+)\s*\.\.\s*([-+.\deE]+)\s*(log)?\s*\]")
_FIXED = re.compile(r"\[\s*fixed\s*\]")
# Names that are never tuned: they change what is measured or printed, or must fit other constants.
_NOT_TUNED = re.compile(
    r"(?:^|_)(?:SEED|LOG|PRINT|EVAL|VAL|TIME|SECONDS|MINUTES|HOURS|BUDGET|VERSION|PORT|WORKERS|THREADS|VOCAB|CONTEXT|"
    r"SEQ|SEQUENCE|BLOCK|HEAD_DIM|MICRO|DEVICE|EPS|EPSILON|DEBUG|COMPILE|PROBE|SAVE|CHECKPOINT|PATH|MAX_STEPS)(?:_|$)"
)
# The same for names that are not in upper case, which say less: length of the training, what is shown, state.
_NO_SETTING = re.compile(
    r"(?:^|_)(?:ITERS?|ITERATIONS?|EPOCHS?|(?:NUM|N|TOTAL|TRAIN)_STEPS|STEPS?|STEP_NUM|INTERVAL|EVERY|WANDB|RANK|WORLD|GPUS?|CPUS?|"
    r"NODES?|ONLY|RESUME|VERBOSE|QUIET|PLOT|FIG|DPI|FONT|SHOW|PROFILE|TEST|SAMPLES?|TOP_K|DUMP|DRY|LOSS|BEST|RUNNING|"
    r"COUNT|COUNTER|TOTAL|START|END|INDEX|ID|LINE|WORKER|JOBS|RETRIES|DDP|CLASSES|CHANNELS|INPUT|OUTPUT|DOWNLOAD|"
    r"PIN_MEMORY|FLAGS?|LEVEL|MAGIC|INDENT|DIGITS|STRICT|REQUIRED)(?:_|$)"
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


def find_constants(files: Mapping[str, str], device: str = "cpu", command: str = "") -> dict[str, Constant]:
    """Every tunable constant by key (its name; `path:NAME` when two files share one), except those of the other device
    (`_CPU`, `_CUDA`, `_GPU` in the name), those marked `[fixed]`, names that are not to be tuned (seed, context …), and
    what an option of `command` sets (`--lr 0.1`).
    """
    given = {_words(word) for word in re.findall(r"(?<!\S)--?([A-Za-z][\w.-]*)", command)}
    found = [c for path in sorted(files) for c in _of_file(path, files[path], device) if c.name not in given]
    keys = [c.key for c in found]
    unique = (c if keys.count(c.key) == 1 else replace(c, key=f"{c.path}:{c.key}") for c in found)
    return {c.key: c for c in unique}


def check_tunable(files: Mapping[str, str], device: str = "cpu", command: str = "") -> dict[str, Constant]:
    """`find_constants`. Raises ResearcherMisconfigured when the control can do nothing with these editable files."""
    found = find_constants(files, device, command)
    if not found:
        names = sorted(files)
        where = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        hint = "write the numbers to try as constants at the top of an editable file, such as LEARNING_RATE = 0.01, or "
        hint += "name the file that has them in `edit` of program.md, or let another researcher propose: "
        hint += invocation.call("run", "--researcher", "human")
        raise ResearcherMisconfigured("the control finds no number to tune", where=where, hint=hint)
    return found


def _of_file(path: str, text: str, device: str) -> Iterator[Constant]:
    lines = text.split("\n")
    for number in numbers(path, text):
        constant = _constant(path, lines[number.line - 1].rstrip("\r"), number)
        if constant and not _other_device(constant.name, device):
            yield constant


def _words(name: str) -> str:
    """A name in upper case with `_` between its words, which the patterns below and in `tpe` are written for."""
    return re.sub(r"[-.]", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).upper()


def _constant(path: str, line: str, number: Number) -> Constant | None:
    key, value, _, start, end = number
    source, comment = line[start:end], re.split(r"#|//|/\*", line[end:], maxsplit=1)[1:]
    name = _words(re.sub(r"\[\d+\]|#\d+$", "", key).rpartition(".")[2])
    space = _given_space(comment[0], value) if comment and "[" not in key else None
    plain = key.isupper() or not _NO_SETTING.search(name)
    if space is None and ((comment and _FIXED.search(comment[0])) or _NOT_TUNED.search(name) or not plain):
        return None
    space = space or _default_space(name, value, source)
    return Constant(key, path, name, value, source, number.line, start, end, space) if space else None


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
    python = constant.path.endswith(ENDINGS)
    if isinstance(constant.value, bool):
        return str(bool(value)) if python or constant.source[:1].isupper() else str(bool(value)).lower()
    if isinstance(constant.value, int):
        whole = int(value)
        base2 = re.match(r"^2\s*\*\*\s*\d+$", constant.source)
        return f"2**{whole.bit_length() - 1}" if base2 and whole & (whole - 1) == 0 else str(whole)
    text = f"{float(value):.12g}"
    if not python and "." not in text:
        text = text.replace("e", ".0e")  # for YAML, 1e-05 is a text
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
