"""Syntax tree of a Python file as its own interpreter would read it: a byte-order mark is no part of the code"""

from __future__ import annotations

import ast
import warnings

MARK = "\ufeff"
ENDINGS = (".py", ".pyi")


def parsed(text: str) -> ast.Module:
    """The syntax tree. Raises SyntaxError, also for code of another Python version or nested too deeply."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an invalid escape sequence
            return ast.parse(text.removeprefix(MARK))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or "nested too deeply") from None


def parses(text: str) -> bool:
    try:
        parsed(text)
    except SyntaxError:
        return False
    return True
