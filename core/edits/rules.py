"""Rules of program.md ([rules]), checked on every change before it runs"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.edits.diff import added_lines, ended_lines
from core.edits.python_syntax import ENDINGS, MARK, parsed
from core.record.errors import EditError

# Files that declare packages: read-only while dependencies are frozen.
_MANIFESTS = re.compile(
    r"(^|/)(pyproject\.toml|setup\.(py|cfg)|requirements[^/]*\.(txt|in)|constraints[^/]*\.txt|Pipfile(\.lock)?"
    r"|(uv|poetry|pdm|pixi)\.lock|environment\.ya?ml|pixi\.toml)$"
)
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)|import[ \t]+([^#\n;]+))", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rules:
    """`max_diff_lines`: lines added and removed, together. `forbid`: regular expressions that no added line may match.
    `require`: "FILE:NAME" of functions, classes, `Class.method` and names that the file must keep defining.
    `freeze_dependencies`: no import beyond the standard library and what the project's code imports already.
    """

    max_diff_lines: int | None = None
    forbid: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    freeze_dependencies: bool = False


def check_rules(
    rules: Rules, before: Mapping[str, str], changed: Mapping[str, str], known: Collection[str] = ()
) -> None:
    """Raises EditError for a change that breaks a rule.

    `before`: text of the files by path; `changed`: new text of those that change, new files too. `known`: names of
    modules that the project's other code imports or contains (see `imported`, `modules`).
    """
    if rules.freeze_dependencies:
        _check_manifests(changed)
    if rules.max_diff_lines is not None or rules.forbid:
        added = {
            path: list(added_lines(ended_lines(before.get(path, "")), ended_lines(text)))
            for path, text in changed.items()
        }
        _check_size(rules, before, changed, added)
        for path, lines in added.items():
            _check_forbidden(rules, path, lines)
    for entry in rules.require:
        path, _, name = entry.partition(":")
        if path in changed and not defines(path, changed[path], name):
            raise EditError(
                f"`{name}` must stay in this file, and is missing", where=path,
                hint="keep that name: program.md requires it ([rules] require)",
            )  # fmt: skip
    if rules.freeze_dependencies:
        _check_imports(before, changed, known)


def _check_size(
    rules: Rules, before: Mapping[str, str], changed: Mapping[str, str], added: Mapping[str, list[tuple[int, str]]]
) -> None:
    if rules.max_diff_lines is None:
        return
    plus = sum(map(len, added.values()))
    removed = sum(
        len(ended_lines(before.get(path, ""))) - len(ended_lines(text)) + len(added[path])
        for path, text in changed.items()
    )
    if plus + removed > rules.max_diff_lines:
        raise EditError(
            f"the change is {plus + removed} lines (+{plus} −{removed}), and program.md allows {rules.max_diff_lines}",
            where=", ".join(changed), hint="make a smaller change: one idea, nothing else moved or reformatted",
        )  # fmt: skip


def _check_forbidden(rules: Rules, path: str, lines: list[tuple[int, str]]) -> None:
    for pattern in rules.forbid:
        found = re.compile(pattern)
        for number, line in lines:
            if found.search(line.rstrip("\r\n")):
                raise EditError(
                    f"program.md forbids this line ({pattern}):\n  {number} | {line.strip()[:160]}",
                    where=f"{path}:{number}", hint="write it without that ([rules] forbid)",
                )  # fmt: skip


def _check_manifests(changed: Mapping[str, str]) -> None:
    for path in changed:
        if _MANIFESTS.search(path):
            raise EditError(
                "this file declares packages, and dependencies are frozen", where=path,
                hint="use the installed packages (program.md: [rules] freeze_dependencies)",
            )  # fmt: skip


def _check_imports(before: Mapping[str, str], changed: Mapping[str, str], known: Collection[str]) -> None:
    there = {*sys.stdlib_module_names, *known, *modules((*before, *changed))}
    for path, text in before.items():
        there |= set(imported(path, text))
    for path, text in changed.items():
        for name, line in imported(path, text).items():
            if name not in there:
                raise EditError(
                    f"no other code of this project imports `{name}`, and dependencies are frozen",
                    where=f"{path}:{line}",
                    hint="use the standard library and what the project imports already "
                    "(program.md: [rules] freeze_dependencies)",
                )


def imported(path: str, text: str) -> dict[str, int]:
    """Top-level names of the modules that a Python file imports, each with its first line, without relative imports.

    `__import__("x")` and `import_module("x")` count. A file that does not parse is searched with a regular expression.
    """
    if not path.endswith(ENDINGS):
        return {}
    try:
        tree = parsed(text)
    except SyntaxError:
        return {name: 1 for name in _imported_roughly(text)}
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        for name in _names_of(node):
            found.setdefault(name.partition(".")[0], getattr(node, "lineno", 1))
    return found


def _names_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module and not node.level else []
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        name = node.args[0].value
        if called in ("__import__", "import_module") and isinstance(name, str) and not name.startswith("."):
            return [name]
    return []


def _imported_roughly(text: str) -> Iterator[str]:
    for match in _IMPORT.finditer(text):
        for name in (match[1] or match[2]).split(","):
            yield name.strip().partition(" ")[0].partition(".")[0]


def modules(paths: Collection[str]) -> set[str]:
    """Names under which Python files of these paths can be imported: of the files and of their folders."""
    found: set[str] = set()
    for path in paths:
        if path.endswith(ENDINGS):
            found.update(PurePosixPath(path).with_suffix("").parts)
    return found


def defines(path: str, text: str, name: str) -> bool:
    """Whether `text` defines `name`: a function, a class, `Class.method`, or a name that is assigned or imported.

    A file that is not Python defines each word in it; one that does not parse, what a line of it begins to define.
    """
    if not path.endswith(ENDINGS):
        return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
    *outer, last = name.split(".")
    try:
        body: list[ast.stmt] = parsed(text).body
    except SyntaxError:  # of another Python version
        begins = rf"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+|class[ \t]+)?{last}[ \t]*(?:\(|:|=(?!=)|\[)"
        return re.search(begins, text.removeprefix(MARK), re.MULTILINE) is not None
    for part in outer:
        inner = next((n for n in _statements(body) if isinstance(n, ast.ClassDef) and n.name == part), None)
        if inner is None:
            return False
        body = inner.body
    return any(last in _defined(node) for node in _statements(body))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of one scope, including those inside `if`, `try`, `with` and loops."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        targets = [node.target]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
