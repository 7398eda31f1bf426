"""Numbers in source files that a person would turn: where each stands, and what it is called

In Python: assignments at the top level (also below `if __name__ == "__main__":` and in `main`), values of dict
literals, fields of classes, attributes of a config object, defaults of options (argparse, click, absl), and keywords of
calls such as `SGD(lr=0.1)`. In YAML, JSON, TOML and INI files: values of keys. In C, JavaScript, Rust and Go: named
constants. A Python file that this interpreter cannot parse is searched line by line.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from core.edits.python_syntax import ENDINGS, MARK, parsed

Value = bool | int | float


class Number(NamedTuple):
    """A number in a file. `line` counts from 1; `start` to `end` are the characters of the value in that line."""

    key: str
    value: Value
    line: int
    start: int
    end: int


def numbers(path: str, text: str) -> list[Number]:
    """The numbers of a file in its order; none in a file of an unknown kind. A key that occurs again gets `#2`."""
    found = list(_all(path, text))
    seen: Counter[str] = Counter()
    named = []
    for number in found:
        seen[number.key] += 1
        again = seen[number.key]
        named.append(number if again == 1 else number._replace(key=f"{number.key}#{again}"))
    return named


def _all(path: str, text: str) -> Iterator[Number]:
    if len(text) > MAX_CHARACTERS:
        return
    if not path.endswith(ENDINGS):
        yield from _in_lines(text, _PATTERNS.get(PurePosixPath(path).suffix.lower(), ()))
        return
    try:
        tree = parsed(text)
    except SyntaxError:
        yield from _in_lines(text, _PYTHON_LINES)
        return
    if "\r" not in text.replace("\r\n", ""):  # a lone one ends a line for Python, and for nothing else here
        yield from _in_python(tree, text)


MAX_CHARACTERS = 500_000  # a longer file is data

# --- Python ----------------------------------------------------------------------------------------

_Found = tuple[str, ast.expr]  # key, and the expression that may be a number
_UPPER = re.compile(r"^[A-Z][A-Z0-9_]*$")
_LOWER = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")
_KEYWORD = re.compile(
    r"^(?:lr|\w*learning_rate|\w*decay|momentum|\w*dropout\w*|betas?|gamma|alpha|temperature|label_smoothing|clip\w*"
    r"|max_norm|batch_size|hidden\w*|(?:n|num)_(?:layers?|hidden|heads?|estimators|leaves|units|embd)|max_depth|C)$"
)


def _in_python(tree: ast.Module, text: str) -> Iterator[Number]:
    lines = text.split("\n")
    plain = list(_plain(tree))
    for key, node in plain:
        yield from _numbers_at(key, node, lines)
    nested = sorted(_nested(tree, ""), key=lambda found: (found[1].lineno, found[1].col_offset))
    # A field `depth` of a class, beside a constant DEPTH or DEPTH_CPU or an option --depth, is set from that.
    classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    given = {re.sub(r"_(?:CPU|CUDA|GPU)$", "", key).replace("-", "_").upper() for key, _ in (*plain, *nested)}
    for key, node in nested:
        owner, _, name = key.rpartition(".")
        if owner in classes and name.upper() in given:
            continue
        yield from _numbers_at(key, node, lines)


def _plain(tree: ast.Module) -> Iterator[_Found]:
    """Names assigned once: at the top level, below `if __name__ == …`, in `main`. Upper case counts as a constant even
    when a nested statement assigns it too."""
    scopes: list[tuple[ast.AST, list[ast.stmt]]] = [(tree, tree.body)]
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            scopes.append((tree, node.body))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "main":
            scopes.append((node, node.body))
    for scope, body in scopes:
        assigned = [found for node in body for found in _assignment(node)]
        names, stored = [name for name, _ in assigned], _stored(scope)
        for name, value in assigned:
            if names.count(name) == 1 and _LOWER.match(name) and (_UPPER.match(name) or stored[name] == 1):
                yield name, value


def _assignment(node: ast.stmt) -> Iterator[_Found]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value


def _stored(scope: ast.AST) -> Counter[str]:
    """How often each name is assigned in a scope: those of the functions inside it do not count, but for `global`."""
    count: Counter[str] = Counter()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                count[child.id] += 1
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
                visit(child)

    visit(scope)
    for node in ast.walk(scope):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            count.update(node.names)
    return count


def _nested(node: ast.AST, owner: str) -> Iterator[_Found]:
    """Numbers of classes, dicts, config objects, options and calls; `owner`: what a dict is assigned to."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            if "Enum" not in (bases := ast.unparse(ast.Tuple(child.bases))) and "Flag" not in bases:
                for name, value in (found for line in child.body for found in _assignment(line)):
                    yield f"{child.name}.{name}", _field_default(value)
            yield from _nested(child, "")
        elif isinstance(child, (ast.Assign, ast.AnnAssign)) and child.value is not None:
            [target, *_] = child.targets if isinstance(child, ast.Assign) else [child.target]
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id != "self":
                yield f"{target.value.id}.{target.attr}", child.value
            name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
            yield from _nested(child, name)
        elif isinstance(child, ast.Dict):
            for entry, value in () if _is_table(child) else zip(child.keys, child.values, strict=True):
                if isinstance(entry, ast.Constant) and isinstance(entry.value, str):
                    yield _joined(owner, entry.value), value
                    yield from _nested(ast.Expr(value), entry.value)
        elif isinstance(child, ast.Call):
            yield from _of_call(child, owner)
            yield from _nested(child, owner)
        else:
            yield from _nested(child, owner)


def _is_table(node: ast.Dict) -> bool:
    """Whether a dict holds three or more dicts with the same keys: a choice of configurations, most of them unused."""
    names = [
        tuple(ast.unparse(key) for key in value.keys if key)
        if isinstance(value, ast.Dict)
        else tuple(str(keyword.arg) for keyword in value.keywords)
        for value in node.values
        if isinstance(value, (ast.Dict, ast.Call))
    ]
    return len(names) >= 3 and len(set(names)) == 1 and names[0] != ()


def _of_call(call: ast.Call, owner: str) -> Iterator[_Found]:
    called = getattr(call.func, "attr", getattr(call.func, "id", ""))
    words = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    options = sorted((word for word in words if word.startswith("-")), key=len)
    if options and "default" in keywords:
        yield options[-1].lstrip("-"), keywords["default"]
    elif called.startswith("DEFINE_") and words and len(call.args) > 1:  # absl
        yield words[0], call.args[1]
    elif called == "dict":
        yield from ((_joined(owner, name), value) for name, value in keywords.items())
    elif not re.search("eval|test|generat|sample$|plot", called.lower()):
        yield from ((f"{called}.{name}", value) for name, value in keywords.items() if _KEYWORD.match(name))


def _field_default(value: ast.expr) -> ast.expr:
    """The default in `field(default=0.1)` of a dataclass or of pydantic, else the value itself."""
    if isinstance(value, ast.Call):
        given = [keyword.value for keyword in value.keywords if keyword.arg == "default"]
        return (given or [*value.args, value])[0]
    return value


def _joined(owner: str, name: str) -> str:
    return f"{owner}.{name}" if owner else name


def _numbers_at(key: str, node: ast.expr, lines: list[str]) -> Iterator[Number]:
    """The number of an expression, or each of a tuple."""
    elements = node.elts if isinstance(node, ast.Tuple) else [node]
    for i, element in enumerate(elements):
        value = _value(element)
        if value is None or element.end_lineno != element.lineno or element.end_col_offset is None:
            continue
        line = lines[element.lineno - 1]
        mark = line[: line.startswith(MARK)]
        line = line.removeprefix(MARK)
        start = len(mark + line.encode()[: element.col_offset].decode())  # ast counts bytes
        end = len(mark + line.encode()[: element.end_col_offset].decode())
        yield Number(f"{key}[{i}]" if isinstance(node, ast.Tuple) else key, value, element.lineno, start, end)


_OPERATIONS: Mapping[type[ast.operator], Callable[[Value, Value], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip


def _value(node: ast.expr) -> Value | None:
    """The value of a number or of plain arithmetic with numbers; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, (bool, int, float)) and math.isfinite(node.value) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = _value(node.operand)
        return None if inner is None or isinstance(inner, bool) else -inner if isinstance(node.op, ast.USub) else inner
    if not isinstance(node, ast.BinOp):
        return None
    a, b, operation = _value(node.left), _value(node.right), _OPERATIONS.get(type(node.op))
    if a is None or b is None or operation is None or (operation is operator.pow and (abs(a) > 1e6 or abs(b) > 64)):
        return None
    try:
        value = operation(a, b)
        return value if isinstance(value, (int, float)) and math.isfinite(value) else None
    except (ZeroDivisionError, OverflowError):
        return None


# --- other files, line by line ----------------------------------------------------------------------

_NUMBER = r"(?P<value>[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d+)(?:[eE][-+]?\d+)?|\b[tT]rue|\b[fF]alse)"
_NAME = r"(?P<key>[A-Za-z][\w.-]*)"
_PAIR = re.compile(rf"""(?<![\w.$"'-])(?P<quote>["']?){_NAME}(?P=quote)\s*[:=]\s*{_NUMBER}(?=\s*(?:[,}}\]#;]|//|$))""")
_CONSTANT = re.compile(
    rf"^\s*(?:export\s+|pub\s+|public\s+|private\s+)?(?:const(?:expr)?|static|final)\b[\w\s:<>*]*?\b(?P<key>[A-Za-z]\w*)"
    rf"\s*(?::\s*\w+\s*)?=\s*{_NUMBER}[fFuUlL]*(?=\s*(?:;|//|/\*|$))"
)
_DEFINE = re.compile(rf"^\s*#\s*define\s+(?P<key>[A-Za-z]\w*)\s+\(?{_NUMBER}[fFuUlL]*\)?(?=\s*(?://|/\*|$))")
_CODE = (_CONSTANT, _DEFINE)
_PYTHON_LINES = (
    re.compile(rf"^\ufeff?(?P<key>[A-Za-z]\w*)\s*(?::[^=#]+)?=\s*{_NUMBER}(?=\s*(?:#|$))"),  # at the top level
    re.compile(rf"^\s+(?P<key>[A-Za-z]\w*)\s*:[^=#]+=\s*{_NUMBER}(?=\s*(?:#|$))"),  # a field of a class
    re.compile(rf"""["'](?P<key>[A-Za-z]\w*)["']\s*:\s*{_NUMBER}(?=\s*[,}}])"""),
    re.compile(rf"""["']--(?P<key>[A-Za-z][\w-]*)["'].*?\bdefault\s*=\s*{_NUMBER}(?=\s*[,)])"""),
)
_PATTERNS: Mapping[str, tuple[re.Pattern[str], ...]] = {
    **dict.fromkeys((".yaml", ".yml", ".json", ".jsonc", ".json5", ".toml", ".ini", ".cfg", ".conf"), (_PAIR,)),
    **dict.fromkeys((".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".cu", ".cuh", ".rs", ".go", ".java"), _CODE),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx"), _CODE),
}  # fmt: skip
_SECTION = re.compile(
    r"""^(?P<indent>[\s-]*)(?:\[+\s*(?P<table>[^\[\]]+?)\s*\]+|["']?(?P<key>[\w.-]+)["']?\s*[:=]\s*[{\[]?)\s*(?:#.*)?$"""
)
_COMMENT = re.compile(r"(?:^|\s)(?:#(?!\s*define\b)|//|;)")


def _in_lines(text: str, patterns: tuple[re.Pattern[str], ...]) -> Iterator[Number]:
    """Matches of the patterns, outside comments; a key has the name of the section or of the key that it is below."""
    sections: list[tuple[int, str]] = []  # (indentation, name) of those that enclose a line
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        comment = _COMMENT.search(line)
        code = line[: comment.start()] if comment else line
        indent = len(code) - len(code.lstrip(" \t-"))
        if code.strip(" \t-{}[],"):
            while sections and sections[-1][0] >= indent:
                sections.pop()
        found: dict[int, Number] = {}
        for pattern in patterns:
            for match in pattern.finditer(code):
                owner = sections[-1][1] if sections and patterns == (_PAIR,) else ""
                value = _read(match["value"])
                start, end = match.span("value")
                found.setdefault(start, Number(_joined(owner, match["key"]), value, number, start, end))
        yield from (found[start] for start in sorted(found))
        if section := _SECTION.match(code):
            # A [table] of TOML encloses what has any indentation.
            sections = [(-1, section["table"])] if section["table"] else [*sections, (indent, section["key"])]


def _read(text: str) -> Value:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    plain = text.replace("_", "")
    return int(plain) if re.fullmatch(r"[-+]?\d+", plain) else float(plain)
