"""Output of a coding agent for the reasoning pane: plain text, or the JSON lines of the known agents."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from core.record.proposal import Usage
from core.research.llm.prices import Price
from core.research.protocol import Stream
from core.text import clean, one_line

MAX_SHOWN = 2_000_000  # characters of one run
MAX_LINE = 1_000_000  # characters
MAX_TAIL = 8_000  # characters of the end that are kept, for the last line


class Transcript:
    """Parses the output of one run and passes it to the stream. `price`: of the named model, for an agent that reports
    tokens but no cost.
    """

    def __init__(self, stream: Stream, price: Price | None = None) -> None:
        self._stream = stream
        self._price = price
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._shown = 0
        self._over_limit = False
        self._tail = ""
        self.usage_reported = False
        self.result: int | None = None  # 0: the agent has given its result; 1: it has reported its failure

    @property
    def last(self) -> str:
        """The last line that is not empty."""
        lines = (one_line(line) for line in reversed(clean(self._tail).splitlines()))
        return next(filter(None, lines), "")

    def feed(self, data: bytes) -> int | None:
        """The next bytes, split anywhere; what `result` is then."""
        self._split(data)
        if self.result is None and self._line.rstrip().endswith("}"):
            self.result = result_of(_event(self._line))  # a last line without its end
        return self.result

    def _split(self, data: bytes) -> None:
        self._line += self._decoder.decode(data)
        if self._over_limit and not self._line.lstrip().startswith("{"):
            self._tail, self._line = (self._tail + self._line)[-MAX_TAIL:], ""
            return
        *lines, self._line = self._line.split("\n")
        if len(self._line) > MAX_LINE:
            lines, self._line = [*lines, self._line], ""
        for line in lines:
            self._take(line)

    def end(self) -> None:
        self._line += self._decoder.decode(b"", final=True)
        if self._line:
            self._take(self._line)
            self._line = ""

    def _take(self, line: str) -> None:
        if (value := _event(line)) is None:
            self._show("text", line + "\n")
            return
        for kind, text in messages_of(value):
            self._show(kind, text)
        if (usage := usage_of(value)) is not None:
            self.usage_reported = True
            self._stream.usage(self._priced(usage))
        self.result = result_of(value)

    def _priced(self, usage: Usage) -> Usage:
        if self._price is None or usage.usd is not None:
            return usage
        fresh, output, read = usage.input_tokens, usage.output_tokens, usage.cached_tokens
        return replace(usage, usd=self._price.usd(fresh=fresh, output=output, cache_read=read, cache_write=0))

    def _show(self, kind: str, text: str) -> None:
        if kind in ("text", "note"):
            self._tail = (self._tail + text + "\n" * (kind == "note"))[-MAX_TAIL:]
        if self._over_limit:
            return
        self._shown += len(text)
        if self._shown > MAX_SHOWN:
            self._over_limit = True
            self._stream.note(f"more than {MAX_SHOWN:,} characters of output: the rest is not shown")
            return
        to = self._stream
        show = {"tool": to.tool, "note": to.note, "thinking": to.thinking}.get(kind, to.text)
        limit = {"tool": 300, "note": 600}.get(kind)
        show(one_line(text, limit) if limit else clean(text))


def _event(line: str) -> Mapping[str, Any] | None:
    """The JSON object that a line is; None for other text."""
    stripped = line.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")):
        return None
    try:
        value = json.loads(stripped)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None


def result_of(event: Mapping[str, Any] | None) -> int | None:
    """0 for the event with which an agent hands over its result, 1 for its failure, None for others: claude's and
    gemini's result, codex's end of its turn, opencode's last step.
    """
    match event:
        case {"type": "result", "is_error": True} | {"type": "result", "status": "error"}:
            return 1
        case {"type": "result"}:
            return 0
        case {"type": "turn.completed"} | {"type": "step_finish", "part": {"reason": "stop"}}:
            return 0
        case {"type": "turn.failed"}:
            return 1
    return None


def messages_of(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, text) of an event that claude, codex, gemini or opencode prints; none for an event without text."""
    kind, part = str(event.get("type", "")), _map(event.get("part"))
    if kind == "assistant":  # claude
        for block in _list(_map(event.get("message")).get("content")):
            yield from _block(_map(block))
    elif kind == "result" and isinstance(event.get("result"), str) and event.get("is_error"):
        yield "note", event["result"]
    elif kind == "item.completed":  # codex
        yield from _codex(_map(event.get("item")))
    elif kind == "message" and event.get("role") == "assistant":  # gemini, in pieces
        yield "text", str(event.get("content", ""))
    elif kind == "tool_use":  # gemini, opencode
        name = event.get("tool_name") or part.get("tool") or "tool"
        given = event.get("parameters") or _map(part.get("state")).get("input") or {}
        yield "tool", f"{name} {_brief(given)}"
    elif kind in ("text", "reasoning") and isinstance(part.get("text"), str):  # opencode
        yield ("thinking" if kind == "reasoning" else "text"), part["text"] + "\n"
    elif kind in ("error", "turn.failed"):
        error = event.get("error")
        words = _map(error).get("message") or _map(_map(error).get("data")).get("message") or event.get("message")
        yield "note", str(words or error)


def _block(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(block.get("thinking"), str):
        yield "thinking", block["thinking"]
    elif isinstance(block.get("text"), str):
        yield "text", block["text"] + "\n"
    elif block.get("type") == "tool_use":
        yield "tool", f"{block.get('name')} {_brief(block.get('input'))}"


def _codex(item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    match item.get("type"):
        case "agent_message":
            yield "text", f"{item.get('text', '')}\n"
        case "reasoning":
            yield "thinking", f"{item.get('text', '')}\n"
        case "command_execution":
            yield "tool", str(item.get("command", ""))
        case "file_change":
            yield "tool", "edit " + ", ".join(str(_map(c).get("path", "")) for c in _list(item.get("changes")))
        case "error":
            yield "note", str(item.get("message", ""))


def usage_of(event: Mapping[str, Any]) -> Usage | None:
    """Tokens and dollars of an event: claude's result, codex's turn, gemini's result, opencode's step."""
    kind, usage, part = event.get("type"), _map(event.get("usage")), _map(event.get("part"))
    if kind == "result" and usage:
        fresh = _int(usage, "input_tokens") + _int(usage, "cache_creation_input_tokens")
        output, cached = _int(usage, "output_tokens"), _int(usage, "cache_read_input_tokens")
        return Usage.reported(fresh, output, cached, _dollars(event.get("total_cost_usd")))
    if stats := usage if kind == "turn.completed" else _map(event.get("stats")) if kind == "result" else {}:
        cached = _int(stats, "cached_input_tokens") or _int(stats, "cached")
        return Usage.reported(max(0, _int(stats, "input_tokens") - cached), _int(stats, "output_tokens"), cached)
    if kind == "step_finish" and (tokens := _map(part.get("tokens"))):
        cache = _map(tokens.get("cache"))
        fresh, output = _int(tokens, "input") + _int(cache, "write"), _int(tokens, "output") + _int(tokens, "reasoning")
        return Usage.reported(fresh, output, _int(cache, "read"), _dollars(part.get("cost")))
    return None


def _brief(value: Any) -> str:
    inner = _map(value)
    for name in ("file_path", "path", "filePath", "command", "pattern", "query"):
        if isinstance(inner.get(name), str):
            return one_line(inner[name], 200)
    return one_line(json.dumps(value, ensure_ascii=False, default=str), 200) if value else ""


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _int(holder: Mapping[str, Any], name: str) -> int:
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _dollars(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
