"""Syntax tokens of code with a role each. The only module that imports pygments, and it is imported late."""

from __future__ import annotations

from functools import lru_cache

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.python import PythonLexer
from pygments.lexers.special import TextLexer
from pygments.token import Comment, Keyword, Literal, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

_ROLES: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "code_comment"),
    (Keyword.Constant, "code_number"),
    (Keyword, "code_keyword"),
    (String, "code_string"),
    (Number, "code_number"),
    (Literal, "code_string"),
    (Name.Function, "code_name"),
    (Name.Class, "code_name"),
    (Name.Decorator, "code_name"),
    (Operator.Word, "code_keyword"),
    (Operator, "code_operator"),
)


@lru_cache(maxsize=64)
def _role(token: _TokenType) -> str:
    return next((role for kind, role in _ROLES if kind == token[: len(kind)]), "text")


@lru_cache(maxsize=32)
def _lexer(name: str) -> Lexer:
    if name.endswith(".py"):
        return PythonLexer(stripnl=False)
    try:
        found: Lexer = get_lexer_for_filename(name, stripnl=False)
    except ClassNotFound:
        found = TextLexer(stripnl=False)
    return found


def lex_lines(code: str, name: str) -> list[list[tuple[str, str]]]:
    """`code` as lines of (text, role)."""
    lines: list[list[tuple[str, str]]] = [[]]
    for token, text in _lexer(name).get_tokens(code):
        role = _role(token)
        first, *rest = text.split("\n")
        if first:
            lines[-1].append((first, role))
        for part in rest:
            lines.append([(part, role)] if part else [])
    return lines
