"""Comments and docstrings of changed Python files, blanked in a worktree, so that they hold nothing that code can read

A model could learn from text in comments, which its code reads from its own file. Where they are not there for it,
neither while it trains nor while it is scored, they need not be counted, and may be as long as their author likes. A
complete rewrite has a docstring for each function. Those of a file that may ask for them stay, and are counted.
"""

from __future__ import annotations

import ast
import filecmp
import io
import os
import re
import tokenize
from pathlib import Path

from core.edits.python_syntax import MARK, parsed

# Some comments mean something: types to TorchScript, and in the first two lines the interpreter and the encoding.
_TYPE = re.compile(r"#\s*type:")
_HEAD_LINES = 2
_ASKS_FOR_DOCSTRINGS = re.compile(r"__doc__|getdoc|pydoc|doctest|\bhelp\s*\(")
_Documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def without_comments(text: str) -> str:
    """Python source with blanks in place of its comments and docstrings: the same code on the same lines.

    Unchanged where that cannot be told: text that does not parse, or code of another Python version.
    """
    lines = text.removeprefix(MARK).split("\n")
    try:
        tree = parsed(text)
        found = [] if _ASKS_FOR_DOCSTRINGS.search(text) else _docstrings(tree)
        tokens = list(tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline))
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return text
    for token in tokens:
        row, column = token.start
        if token.type == tokenize.COMMENT and row > _HEAD_LINES and not _TYPE.match(token.string):
            end = "\r" if lines[row - 1].endswith("\r") else ""
            lines[row - 1] = lines[row - 1][:column].rstrip() + end
    for said in found:
        said.value = _blank(lines, said)
    blanked, before = "\n".join(lines), ast.dump(tree)
    try:
        same = ast.dump(parsed(blanked)) == before
    except (SyntaxError, RecursionError):
        return text
    return (MARK if text.startswith(MARK) else "") + blanked if same else text


def _docstrings(tree: ast.AST) -> list[ast.Constant]:
    """Of functions and classes."""
    firsts = (node.body[0] for node in ast.walk(tree) if isinstance(node, _Documented))
    values = (first.value for first in firsts if isinstance(first, ast.Expr))
    return [value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def _blank(lines: list[str], said: ast.Constant) -> str:
    """Leave of a docstring the ends of its lines; returns these. Its columns count bytes."""
    first, last = said.lineno - 1, (said.end_lineno or said.lineno) - 1
    head = lines[first].encode()[: said.col_offset].decode()
    tail = lines[last].encode()[said.end_col_offset :].decode()
    empty = "\n".join("\r" if line.endswith("\r") else "" for line in lines[first:last])
    ends = "\n" * (last - first)
    quoted = f'{head}"""{empty}\n"""{tail}' if ends else f'{head}""{tail}'
    lines[first : last + 1] = quoted.split("\n")
    return ends


def blank_comments(worktree: Path, pristine: Path) -> None:
    """Blank the comments of the Python files in `worktree` that are new, or not as in `pristine`. Raises OSError."""
    for folder, folders, names in os.walk(worktree):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = Path(folder, name)
            first = pristine / path.relative_to(worktree)
            if not name.endswith(".py") or path.is_symlink():
                continue
            if first.is_file() and filecmp.cmp(path, first, shallow=False):
                continue
            try:
                text = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue
            if (blanked := without_comments(text)) != text:
                path.write_bytes(blanked.encode("utf-8"))
