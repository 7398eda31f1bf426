"""The map in CONTRIBUTING.md: the tree with a caption for every folder and module, from their docstrings.

    python -m tests.house_map

Each caption is the first line of the module's own docstring, so that it is written once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests import ROOT

TOPS = ("core", "tui", "nanotrain")
BEGIN, END = "<!-- map: made by python -m tests.house_map -->", "<!-- end of map -->"
NAME_COLUMN = 30  # where captions begin
MAX_WIDTH = 150


def caption(path: Path) -> str:
    """The first line of the docstring, without the full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def rows(folder: Path, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The folder, its modules, and its folders below: a name with its indent, and a caption."""
    indent = "  " * depth
    yield f"{indent}{folder.name}/", caption(folder / "__init__.py")
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{indent}  {path.stem}", caption(path)
    for below in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from rows(below, depth + 1)


def drawn() -> str:
    """The map as it stands in CONTRIBUTING.md, with its marks."""
    lines = [f"{name:<{NAME_COLUMN}}{text}".rstrip() for top in TOPS for name, text in rows(ROOT / top)]
    return "\n".join([BEGIN, "```", *lines, "```", END])


def main() -> None:
    page = ROOT / "CONTRIBUTING.md"
    marked = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    page.write_text(marked.sub(lambda _: drawn(), page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
