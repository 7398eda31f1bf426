"""Numbers that a project's code prints, found in its source, as patterns for program.md"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from core.edits.python_syntax import ENDINGS, parsed

_WORDS = re.compile(
    r"loss|acc(?!um|ess|ept)|error|\berr\b|bp[bc]\b|perplex|\bppl|rmse|\bmse|\bmae|auc|\bf1|score|bleu|\br2\b|reward"
    r"|\breturn\b|\biou|\bmap\b|throughput|latency|tok|\bops|/s\b|per sec|speed|seconds|elapsed|\btime|\bms\b|\bns\b"
    r"|rate\b",
    re.IGNORECASE,
)
_MAX = re.compile(
    r"acc|score|auc|\bf1|bleu|\br2|reward|\breturn\b|\biou|\bmap\b|throughput|per_sec|_per_s|ops\b|tok_?s|toks|speed"
    r"|\bmfu|\bfps|_s$|precision|recall|hit",
    re.IGNORECASE,
)
_PRINTERS = re.compile(r"_?print\w*|\w+_print|info|log|warning|write|secho|echo")  # `print0` of the first rank too
_STREAMS = ("stdout", "stderr", "tqdm")  # what `write` prints to; another file is not the output
_NAMING = re.compile(r"split|name|mode|phase|set\b|stage|kind|label|tag|title|method|task|model", re.IGNORECASE)
_FIELD = "\x00"  # stands for a printed value in a template
NUMBER = r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)"
GROUPED = r"([-+]?\d[\d,]*(?:\.\d+)?)"  # with thousands separators


@dataclass(frozen=True, slots=True)
class PrintedNumber:
    """A number that a line of code prints: its name, the pattern that finds it, and that line."""

    name: str
    direction: str
    pattern: str
    path: str
    line: int
    code: str
    weight: int
    before: str = ""  # what is printed in front, such as the name of a split, when the pattern does not name one


def direction_of(name: str) -> str:
    """`max` for a number that is better when it is higher, by its name, else `min`."""
    worse = re.search(r"error|loss|latency|seconds|time|elapsed|duration|wall_s|perplex", name, re.IGNORECASE)
    return "max" if _MAX.search(name) and not worse else "min"


def printed_numbers(path: str, text: str) -> list[PrintedNumber]:
    """The numbers that look like a metric, the likeliest first."""
    lines = text.split("\n")
    if path.endswith(ENDINGS):
        try:
            templates = list(_python(parsed(text)))
        except SyntaxError:
            templates = list(_other(lines))
    else:
        templates = list(_other(lines))
    moving = "tqdm" in text  # a progress bar writes before the line
    quoted = re.search(r"""["'](test|val|valid|validation|dev|eval)["']""", text)
    split = quoted[1] if quoted else ""
    found: dict[str, PrintedNumber] = {}
    for line, template, names in templates:
        for number in _of_template(path, line, lines[line - 1].strip(), template, names, moving, split):
            known = found.get(number.pattern)
            if known is None or known.weight < number.weight:
                found[number.pattern] = number
    return sorted(found.values(), key=lambda number: -number.weight)


def _of_template(
    path: str, line: int, code: str, template: str, names: list[str], moving: bool, split: str
) -> Iterator[PrintedNumber]:
    count = 0
    for shown in re.split(r"[\n\r]", template):
        parts = shown.split(_FIELD)
        for i, label in enumerate(parts[:-1]):
            value = names[count] if count < len(names) else ""
            count += 1
            whole = label
            label = re.sub(r"^[^A-Za-z]+", "", re.split(r"[,;|(\[]", label)[-1])
            told = bool(_WORDS.search(f"{label} {value.replace('_', ' ')}"))
            if not re.search(r"[A-Za-z]", label) or not (told or re.search(r"[feg]$", value)):
                continue
            name = _name(label, value)
            first = i == 0 and label == whole and not moving
            before = names[count - 2].partition(":")[0] if _follows(parts, i) and 2 <= count <= len(names) + 1 else ""
            before = before if _NAMING.search(before) else ""
            pattern = _pattern(label, parts[i + 1], value, first)
            if before and split:
                name, pattern, before = f"{split}_{name}", rf"\b{split}\s+{pattern}", ""
            yield PrintedNumber(
                name, direction_of(name), pattern, path, line, code[:120],
                _weight(name, first) - 4 * (not told) - 4 * bool(re.search(r"saving|so far", code)), before,
            )  # fmt: skip


def _follows(parts: list[str], index: int) -> bool:
    """Whether a value begins the line, with nothing but space between it and the label of this number."""
    return index == 1 and not parts[0].strip() and bool(re.match(r"\s+[A-Za-z]", parts[1]))


def _name(label: str, value: str) -> str:
    """The printed variable when its name says what it is, else the last words of the label."""
    variable = value.partition(":")[0].strip()
    if re.fullmatch(r"[A-Za-z][\w.]*", variable) and _WORDS.search(variable.replace("_", " ")) and "_" in variable:
        return variable.rpartition(".")[2][:40]
    words = re.findall(r"[A-Za-z0-9]+", re.split(r":\s+(?=\S)", label.strip())[-1].replace("/s", " per sec"))
    return "_".join(word.lower() for word in words[-3:])[:40] or "metric"


def _pattern(label: str, after: str, value: str, first: bool) -> str:
    text = r"\s*".join(re.escape(part).replace("\\ ", " ") for part in re.split(r"\s+", label.strip()))
    text = re.sub(r"(?<=\w)\\s\*(?=\w)", r"\\s+", text)
    gap = r"\s+" if re.search(r"\w\s+$", label) else r"\s*"
    if not after or after[0].isspace():
        return ("^" if first else "") + text + gap + r"(\S+)"
    group = GROUPED if ":," in value else NUMBER
    return ("^" if first else "") + text + gap + group + "%" * after.startswith("%")


def _weight(name: str, first: bool) -> int:
    words = name.replace("_", " ")
    weight = 4 * bool(re.search(r"\b(?:val|valid|validation|eval|test|dev|holdout)", words))
    weight += 3 * bool(re.search(r"loss|bp[bc]|error|rmse|mse|mae|perplex|auc|\bf1|acc|score|reward", words))
    weight += bool(re.search(r"final|best|mean|avg|average|total", words)) + 2 * first
    return weight - 2 * bool(re.search(r"train|\biter|\bstep|\bdt\b|lr\b|learning rate", words))


def _python(tree: ast.Module) -> Iterator[tuple[int, str, list[str]]]:
    """(line, template, printed expressions) of every call that prints."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if not _PRINTERS.fullmatch(called) or (called == "write" and not _to_output(node.func)):
            continue
        names: list[str] = []
        texts = [_template(argument, names) for argument in node.args]
        if any(_FIELD in text for text in texts):
            yield node.lineno, " ".join(texts), names


def _to_output(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and ast.unparse(function.value).rpartition(".")[2] in _STREAMS


def _template(node: ast.expr, names: list[str]) -> str:
    """Text of an argument of `print`, with a mark for each value; the values' sources go to `names`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return node.value.value
        layout = ast.unparse(node.format_spec)[2:-1] if node.format_spec else ""
        names.append(f"{ast.unparse(node.value)}:{layout}")
        return _FIELD
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant):
        values = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
        names.extend(ast.unparse(value) for value in values)
        return re.sub(r"%[-+ #0-9.]*[a-zA-Z]", _FIELD, str(node.left.value)).replace("%%", "%")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left, names) + _template(node.right, names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        text = node.func.value
        if isinstance(text, ast.Constant):
            names.extend(ast.unparse(value) for value in node.args)
            return re.sub(r"\{[^{}]*\}", _FIELD, str(text.value))
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "str" and node.args:
        return _template(node.args[0], names)
    names.append(ast.unparse(node))
    return _FIELD


_CALL = re.compile(
    r"(?:console\.log|printf|println!|print!|Println|Printf|print|puts)\s*\(?.*?([\"'`])(?P<text>.*?)(?<!\\)\1"
)
_JOINED = re.compile(r"\s*([+,])\s*[A-Za-z_$(]")  # `console.log("time: " + x)`


def _other(lines: list[str]) -> Iterator[tuple[int, str, list[str]]]:
    """The same for languages that are read line by line: JavaScript, C, Rust, Go, Ruby."""
    for number, line in enumerate(lines, 1):
        if found := _CALL.search(line):
            text = re.sub(r"\\[nrt]", "\n", found["text"])
            text = re.sub(r"%[-0-9.*]*[sc]", "|", text)  # no number
            fields = r"\$\{([^}]*)\}|#\{([^}]*)\}|(%[-+ #0-9.*]*(?:l{0,2}|z|h)[dufgei])|(\{[^{}]*\})"
            names = [":".join(filter(None, found)).strip("{}") for found in re.findall(fields, text)]
            text = re.sub(fields, _FIELD, text)
            joined = _JOINED.match(line, found.end()) if found[0].startswith(("console.log", "Println")) else None
            if joined and _FIELD not in text:
                text += " " * (joined[1] == ",") + _FIELD
            if _FIELD in text:
                yield number, text.replace("%%", "%"), names
