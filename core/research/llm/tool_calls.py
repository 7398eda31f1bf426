"""Tool calls as servers send them: input that is repeated or cumulative, and calls that a template leaves in the text.

Every model has a syntax of its own for calls, which its server should translate. Where it does not, the call arrives as
text: JSON behind a name or with a name in it, or XML with one element for each parameter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.research.llm import tools

_MARKUP = re.compile(r"[<\[|｜]")  # without it, JSON in a text is prose, unless it names its tool itself
_HEAD_CHARACTERS = 160  # before an object, in which the name of its tool is looked for
_CALL = re.compile(
    r"<[^<>]*?(?:function=|(?:invoke|tool|function)\s+name=|tool_call>\s*|tool_name>\s*)[\"']?(\w[\w.:-]*)[\"']?[^<>]*>?"
    r"(.*?)(?:</[^<>]*(?:function|invoke|tool_call|tool)>|\Z)",
    re.S,
)
_PARAMETER = re.compile(
    r"<[^<>/]*parameter(?:=|\s+name=)[\"']?(\w+)[\"']?[^<>]*>\n?(.*?)\n?</[^<>]*parameter>"
    r"|<arg_key>\s*(\w+)\s*</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>",
    re.S,
)


def joined(pieces: Sequence[str]) -> str:
    """The input of a call from its pieces. Where they are no JSON one after the other, an empty object before them is
    left out, or a piece that begins with everything before it replaces it, or the last piece alone is the whole.
    """
    whole = ""
    for piece in pieces:
        whole = piece if whole and piece.startswith(whole) else whole + piece
    plain, last = "".join(pieces), "".join(pieces[-1:])
    return next((text for text in (plain, plain.removeprefix("{}"), whole, last) if is_object(text)), plain)


def is_object(text: str) -> bool:
    """Whether the text is one complete JSON object."""
    if not text.rstrip().endswith("}"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def in_text(text: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, input) of each call of one of our tools that stands in a text, in order."""
    if not any(name in text for name in tools.NAMES):
        return []
    return list(_with_parameters(text)) or list(_as_json(text))


def _with_parameters(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, body in _CALL.findall(text):
        tool = next((t for t in tools.TOOLS if t["name"] == tools.name_of(name)), None)
        given = {key or other: value or second for key, value, other, second in _PARAMETER.findall(body)}
        if tool is not None and given:
            known = tool["input_schema"]["properties"]
            yield str(tool["name"]), {key: _value(value, known.get(key, {})) for key, value in given.items()}


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    """A parameter as its type has it: what is no text is JSON."""
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _as_json(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    decoder, at, before = json.JSONDecoder(), 0, 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        head = text[max(before, at - _HEAD_CHARACTERS) : at]
        if isinstance(value, dict) and (found := _named(value, head)) is not None:
            yield found
        at = before = end


def _named(value: Mapping[str, Any], head: str) -> tuple[str, Mapping[str, Any]] | None:
    """The call in an object: as {"name", "arguments"} in words of many templates, or the input behind a name."""
    inner = value["function"] if isinstance(value.get("function"), dict) else value
    names = (inner.get(key) for key in ("name", "tool_name", "tool", "function", "recipient_name"))
    name = next((tools.name_of(n) for n in names if isinstance(n, str)), "")
    if name in tools.NAMES:
        found = next((inner[k] for k in ("arguments", "parameters", "input", "args") if k in inner), None)
        if isinstance(found, str) and is_object(found):
            found = json.loads(found)
        return (name, found) if isinstance(found, dict) else None
    name = tools.name_of(head) if _MARKUP.search(head) else ""
    return (name, value) if name in tools.NAMES else None
