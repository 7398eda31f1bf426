"""One request to the Anthropic API, streamed: its blocks, its usage, and what went wrong in three kinds.

`Transient`: worth another try, however often (rate limits, overload, 5xx, dropped or garbled streams, time-outs).
`BadRequest`: the server does not take the request as it is. ResearcherMisconfigured: a person must mend it.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.record.errors import ResearcherMisconfigured
from core.research.protocol import Stream
from core.views.text import one_line

# Where an exception that the SDK lets through in mid-stream comes from. The HTTP library's name changes with versions.
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio", "ssl", "zlib")
_TRANSIENT_TYPES = ("rate_limit_error", "overloaded_error", "api_error", "timeout_error", "conflict_error")
_TRANSIENT_STATUS = (408, 409, 425, 429)


class Transient(Exception):
    """Try again, not before `at_least` seconds. The message is for the screen."""

    def __init__(self, reason: str, at_least: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at_least = at_least


class BadRequest(Exception):
    """HTTP 400 or 413: the request cannot succeed as it is."""


@dataclass(slots=True)
class Turn:
    """What came of one request. `blocks` can be sent back as the assistant's turn. Tokens are as billed."""

    blocks: list[dict[str, Any]] = field(default_factory=list)
    stop: str | None = None
    stop_detail: str = ""
    fresh: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    begun: bool = False
    ended: bool = False

    def uses(self) -> list[dict[str, Any]]:
        return [b for b in self.blocks if b["type"] == "tool_use"]


async def ask(client: Any, request: Mapping[str, Any], stream: Stream, turn: Turn) -> None:
    """Send `request` and fill `turn` as the answer streams in; thinking and text are handed on at once.

    Raises Transient, BadRequest or ResearcherMisconfigured. `turn` then holds what came before the failure.
    """
    try:
        async with await client.messages.create(**request, stream=True) as events:
            kind = events.response.headers.get("content-type", "")
            if "event-stream" not in kind:
                raise Transient(f"the answer is no stream but {one_line(kind, 60) or 'of no type'} (a proxy's page?)")
            async for event in events:
                _take(event, turn, stream)
                if turn.ended:
                    break
        if not turn.ended:
            raise Transient("the stream broke off")
    except (Transient, ResearcherMisconfigured):
        raise
    except Exception as error:
        raise classify(error, str(client.base_url)) from error


def _take(event: Any, turn: Turn, stream: Stream) -> None:
    match event.type:
        case "message_start":
            turn.begun = True
            _count(turn, event.message.usage)
        case "content_block_start":
            turn.blocks.append(_open(event.content_block))
            if turn.blocks[-1]["type"] == "tool_use":
                stream.tool(f"{turn.blocks[-1]['name']} …")
        case "content_block_delta" if turn.blocks:
            _grow(turn.blocks[-1], event.delta, stream)
        case "message_delta":
            turn.stop = event.delta.stop_reason or turn.stop
            details = getattr(event.delta, "stop_details", None)
            turn.stop_detail = one_line(str(getattr(details, "explanation", None) or ""), 300)
            _count(turn, event.usage)
        case "message_stop":
            turn.ended = True


def _open(block: Any) -> dict[str, Any]:
    match block.type:
        case "thinking":
            return {"type": "thinking", "thinking": block.thinking or "", "signature": block.signature or ""}
        case "redacted_thinking":
            return {"type": "redacted_thinking", "data": block.data}
        case "text":
            return {"type": "text", "text": block.text or ""}
        case "tool_use":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input or {}, "json": ""}
    return {"type": "unknown"}


def _grow(block: dict[str, Any], delta: Any, stream: Stream) -> None:
    match delta.type:
        case "thinking_delta" if block["type"] == "thinking":
            block["thinking"] += delta.thinking
            stream.thinking(delta.thinking)
        case "signature_delta" if block["type"] == "thinking":
            block["signature"] += delta.signature
        case "text_delta" if block["type"] == "text":
            block["text"] += delta.text
            stream.text(delta.text)
        case "input_json_delta" if block["type"] == "tool_use":
            block["json"] += delta.partial_json


def _count(turn: Turn, usage: Any) -> None:
    """Usage is cumulative: a later figure replaces an earlier one."""
    turn.fresh = _int(usage, "input_tokens", turn.fresh)
    turn.output = _int(usage, "output_tokens", turn.output)
    turn.cache_read = _int(usage, "cache_read_input_tokens", turn.cache_read)
    turn.cache_write = _int(usage, "cache_creation_input_tokens", turn.cache_write)


def _int(usage: Any, name: str, default: int) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else default


def sendable(turn: Turn) -> list[dict[str, Any]]:
    """The turn's blocks as an assistant message takes them: thinking with its signature, no empty text."""
    out = []
    for block in turn.blocks:
        empty = (block["type"] == "text" and not block["text"].strip()) or (
            block["type"] == "thinking" and not block["signature"]
        )
        if block["type"] != "unknown" and not empty:
            out.append({k: v for k, v in block.items() if k != "json"})
    return out


# --- what went wrong -------------------------------------------------------------------------------


def classify(error: Exception, endpoint: str) -> Exception:
    """The error as Transient, BadRequest or ResearcherMisconfigured; anything else comes back as it is."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return _by_status(error, endpoint)
    if isinstance(error, anthropic.APITimeoutError):
        return Transient("the request timed out")
    if isinstance(error, anthropic.APIConnectionError):
        cause = one_line(str(error.__cause__ or error), 200)
        return Transient(f"{endpoint} cannot be reached: {cause or type(error.__cause__).__name__}")
    if isinstance(error, anthropic.APIResponseValidationError):
        return Transient("the answer cannot be read")
    if "Timeout" in type(error).__name__:
        return Transient("the stream fell silent and timed out")
    if type(error).__module__.partition(".")[0] in _TRANSPORTS or isinstance(error, (OSError, EOFError)):
        return Transient(f"the stream broke off: {one_line(str(error), 200) or type(error).__name__}")
    if isinstance(error, (ValueError, AttributeError, TypeError)) and not isinstance(error, UnicodeEncodeError):
        # The SDK builds its objects without checking them: what is not the protocol shows here.
        return Transient(f"the answer is garbled: {one_line(str(error), 200)}")
    if isinstance(error, anthropic.AnthropicError):
        return ResearcherMisconfigured(one_line(str(error), 300), where=endpoint, mend="check the key and its settings")
    return error


def _by_status(error: Any, endpoint: str) -> Exception:
    status, kind = error.status_code, error.type or ""
    said = one_line(str(error.api_message or error.message), 300)
    # An error event in mid-stream comes with the stream's own status 200: its type decides.
    if status in _TRANSIENT_STATUS or status >= 500 or kind in _TRANSIENT_TYPES:
        at_least = retry_after(error.response.headers)
        what = {429: "rate limit", 529: "overloaded"}.get(status) or kind.removesuffix("_error").replace("_", " ")
        return Transient(f"{what or f'HTTP {status}'}: {said}", at_least)
    if status == 401 or kind == "authentication_error":
        mend = "set ANTHROPIC_API_KEY to a valid key and start again"
        return ResearcherMisconfigured(f"the key is not accepted: {said}", where=endpoint, mend=mend)
    if status == 402 or kind == "billing_error" or "credit balance" in said.lower():
        mend = "add credit to the account of this key, then resume"
        return ResearcherMisconfigured(f"the account cannot pay: {said}", where=endpoint, mend=mend)
    if status == 403 or kind == "permission_error":
        mend = "use a key that is allowed to use this model, or choose another with --model"
        return ResearcherMisconfigured(f"the key is not allowed to do this: {said}", where=endpoint, mend=mend)
    if status == 404 or kind == "not_found_error":
        mend = "choose a model that this key can use with --model, and check ANTHROPIC_BASE_URL"
        return ResearcherMisconfigured(f"not found: {said}", where=endpoint, mend=mend)
    if 200 <= status < 300:
        return Transient(f"the stream ended with an error: {said}")
    if 300 <= status < 400:
        return ResearcherMisconfigured(f"answers with HTTP {status}", where=endpoint, mend="check ANTHROPIC_BASE_URL")
    return BadRequest(said)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait; 0.0 when it says nothing that can be read."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if not value:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if 0 <= seconds < 7 * 86400:
            return seconds
    return 0.0
