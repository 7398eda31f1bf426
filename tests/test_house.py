"""The layout: modules of a folder, unique names, permitted imports, and the map in CONTRIBUTING.md."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests import ROOT, house_map

PACKAGES = ("core", "tui", "nanotrain")
MAX_MODULES = 12  # of one folder
MAX_FUNCTION_LINES = 65
SOURCES = sorted(path for top in PACKAGES for path in (ROOT / top).rglob("*.py"))
NAMED = [path for path in SOURCES if path.name not in ("__init__.py", "__main__.py")]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imported(path: Path) -> Iterator[str]:
    """The modules of the repository that a file imports: at the top, inside functions, or for types only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                if (full if full in MODULES else node.module) in MODULES:
                    yield full if full in MODULES else node.module


def cycles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of modules that import one another (Tarjan's strongly connected components of two or more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in index:
            visit(module)
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, list[str]]:
    return {module: sorted({*imported(path)} - {module}) for module, path in MODULES.items()}


def test_an_import_cycle_is_found() -> None:
    assert cycles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c"]]


def test_a_folder_has_few_modules() -> None:
    count = Counter(path.parent.relative_to(ROOT) for path in NAMED)
    assert {str(folder): n for folder, n in count.items() if n > MAX_MODULES} == {}


@pytest.mark.parametrize("top", PACKAGES)
def test_file_names_are_unique(top: str) -> None:
    count = Counter(path.name for path in NAMED if path.relative_to(ROOT).parts[0] == top)
    assert {name for name, n in count.items() if n > 1} == set()


def test_public_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("top", PACKAGES)
def test_there_is_no_import_cycle(graph: dict[str, list[str]], top: str) -> None:
    assert cycles({module: others for module, others in graph.items() if module.split(".")[0] == top}) == []


def test_only_the_entry_point_imports_the_app(graph: dict[str, list[str]]) -> None:
    """app -> screens -> host: what a screen needs of the app it takes from `tui.host`."""
    users = {module for module, others in graph.items() if "tui.app" in others}
    assert not {user for user in users if not user.startswith(("tui.main", "tui.cli."))}
    below = {module for module, others in graph.items() if module.startswith(("tui.widgets", "tui.paint"))
             and any(other.startswith("tui.screens") for other in others)}  # fmt: skip
    assert below == set()


def test_functions_are_short() -> None:
    for path in SOURCES:
        if path == ROOT / "nanotrain/train.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{path.relative_to(ROOT)}: {node.name} has {length} lines"


def test_events_of_many_fields_are_built_by_keyword() -> None:
    """Two swapped floats give a wrong verdict, which the type checker does not detect."""
    for name in ("events", "commands", "state"):
        for node in ast.parse((ROOT / f"core/record/{name}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and sum(isinstance(line, ast.AnnAssign) for line in node.body) > 3:
                assert any("kw_only=True" in ast.unparse(mark) for mark in node.decorator_list), node.name


def test_the_map_in_contributing_matches_the_tree() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert house_map.drawn() in text, "the tree has changed: run python -m tests.house_map"


def test_every_caption_fits_its_line() -> None:
    assert [line for line in house_map.drawn().splitlines() if len(line) > house_map.MAX_WIDTH] == []
