"""Errors of a model server, classified the same way for every SDK.

`Transient`: another attempt may succeed, however often it takes (rate limits, overload, 5xx, usage caps, dropped or
malformed streams). `BadRequest`: the server rejects this request. ResearcherMisconfigured: the user must act.
"""

from __future__ import annotations

import email.utils
import functools
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from core.record.errors import ResearcherMisconfigured
from core.research.llm import keys
from core.text import one_line

# Modules of exceptions that an SDK lets through in mid-stream. The HTTP library's name changes with versions.
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio", "ssl", "zlib")
_TRANSIENT_KINDS = (
    "rate_limit_error", "overloaded_error", "api_error", "timeout_error", "conflict_error",  # Anthropic
    "server_error", "rate_limit_exceeded", "service_unavailable", "tokens", "requests",  # OpenAI
)  # fmt: skip
_TRANSIENT_STATUS = (408, 409, 425, 429)
_PROXY_STATUS = (403, 404, 407, 502, 503, 504)  # which a proxy answers for a server that it does not reach
_BAD_STATUS = (400, 413, 422)  # the request is wrong, whatever kind of error a local server calls it
_MAX_WAIT_SECONDS = 32 * 86400.0  # longest wait that is believed: a monthly cap is reset within it
_CAPPED = re.compile(r"usage limits?|insufficient_quota|exceeded your current quota|spend(?:ing)? (?:limit|cap)", re.I)
_TOO_LONG = re.compile(
    r"too long|context[ _]length|context[ _]window|maximum context|context size|too many (?:input )?tokens", re.I
)
# In lower case, words of a server for a model whose template takes no system role, or only turns that alternate.
NO_SYSTEM = ("system role", "system message", "roles must alternate", "only user and assistant")
# A server's message for a model that cannot call tools, with a status that means something else elsewhere.
_NO_TOOLS = re.compile(r"\btools?\b.*(?:support|requires?|flag)|(?:support|cannot use).*\btools?\b", re.I)
# The same for a prompt that is too long: some servers send it as a fault of their own.
_EXCEEDED = re.compile(r"exceed\w* the available context|context (?:size|length|window) has been exceeded", re.I)
_HTML_TITLE = re.compile(r"<html\b.*?<title>(.*?)</title>", re.I | re.S)
_RESET_TIME = re.compile(r"(20\d\d-\d\d-\d\d)(?:(?: at |T| )(\d\d:\d\d)(?::\d\d)?)?")


class Transient(Exception):
    """Try again, not before `at_least` seconds. `slow`: the cause lasts for hours, so try seldom."""

    def __init__(self, reason: str, at_least: float = 0.0, *, slow: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at_least = at_least
        self.slow = slow


class BadRequest(Exception):
    """HTTP 400, 413 or 422: this request cannot succeed."""


class TooLong(BadRequest):
    """The conversation, with room for an answer, exceeds the model's context."""


class KeyRefused(ResearcherMisconfigured):
    """The server does not accept the API key."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A model server, for error messages. `sdk` is the imported module."""

    endpoint: str
    sdk: Any
    key_variable: str
    base_variable: str
    through: str = ""  # words for the proxy that it is asked through


def classify(error: Exception, server: ServerInfo, *, begun: bool = False) -> Exception:
    """The error as Transient, BadRequest or ResearcherMisconfigured, or unchanged. `begun`: the answer had begun."""
    sdk = server.sdk
    if isinstance(error, (Transient, BadRequest, ResearcherMisconfigured)):
        return error
    if isinstance(error, sdk.APIStatusError):
        at_least = retry_after(error.response.headers)
        message, status = _message_of(error), error.status_code
        if server.through and status in _PROXY_STATUS and server.endpoint.startswith("http://"):
            message = f"{message}, asked{server.through}"
        return _from_status(status, _kind_of(error), message, server, at_least)
    if isinstance(error, sdk.APITimeoutError) or "Timeout" in type(error).__name__:
        unanswered = f"the request timed out{server.through and f', asked{server.through}'}"
        return Transient("the stream was silent and timed out" if begun else unanswered)
    if isinstance(error, sdk.APIConnectionError):
        cause = one_line(str(error.__cause__ or error), 200) or type(error.__cause__).__name__
        unreached = f"{server.endpoint} cannot be reached{server.through}: {cause}"
        return Transient(f"the stream broke off: {cause}" if begun else unreached)
    if isinstance(error, sdk.APIResponseValidationError):
        return Transient("the answer cannot be parsed")
    if isinstance(error, sdk.APIError):  # an error event in mid-stream
        return from_stream_error(_kind_of(error), _message_of(error), server)
    if type(error).__module__.partition(".")[0] in _TRANSPORTS or isinstance(error, (OSError, EOFError)):
        return Transient(f"the stream broke off: {one_line(str(error), 200) or type(error).__name__}")
    if isinstance(error, (ValueError, AttributeError, TypeError)) and not isinstance(error, UnicodeEncodeError):
        # The SDKs build their objects without validation: what violates the protocol fails here.
        what = "it violates the protocol" if isinstance(error, (AttributeError, TypeError)) else str(error)
        return Transient(f"the answer is malformed: {one_line(what, 200)}")
    if type(error).__module__.partition(".")[0] == sdk.__name__:
        hint = "check the key and its settings"
        return ResearcherMisconfigured(one_line(str(error), 300), where=server.endpoint, hint=hint)
    return error


def _kind_of(error: Any) -> str:
    """The server's name for an error: Anthropic's `type`, OpenAI's `code` or `type`."""
    return str(getattr(error, "code", None) or getattr(error, "type", None) or "")


def _message_of(error: Any) -> str:
    """The server's own message, without the SDK's wrapping; for a web page its title."""
    body: Any = error.body
    for name in ("error", "message", "detail"):
        if isinstance(body, Mapping) and body.get(name):
            body = body[name]
    if not isinstance(body, str):
        message = getattr(error, "api_message", None) or error.message
        body = json.dumps(body, default=str) if isinstance(body, list) and body else str(message)
    if page := _HTML_TITLE.search(body):
        body = f"a web page ({page[1].strip()})"
    return one_line(body, 300)


def from_stream_error(kind: str, message: str, server: ServerInfo) -> Exception:
    """An error event within a stream: only its kind, which may be a status as text, says what it is."""
    if kind.isdecimal() and 400 <= int(kind) < 500:
        return _from_status(int(kind), "", message, server)
    if _EXCEEDED.search(message):
        return _bad_request(message)
    if capped := _usage_cap(message, kind):
        return capped
    if kind in ("authentication_error", "invalid_api_key"):
        return _key_refused(message, server)
    if kind in ("context_length_exceeded", "invalid_request_error", "invalid_prompt"):
        return _bad_request(message)
    return Transient(f"the stream ended with an error: {_prefix(kind)}{message}")


def _prefix(kind: str) -> str:
    words = kind.removesuffix("_error").replace("_", " ")
    return f"{words}: " if words and words != "server" and not words.isdecimal() else ""


def _from_status(status: int, kind: str, message: str, server: ServerInfo, at_least: float = 0.0) -> Exception:
    refusal = functools.partial(ResearcherMisconfigured, where=server.endpoint)
    if capped := _usage_cap(message, kind):
        return Transient(capped.reason, max(at_least, capped.at_least), slow=True)
    no_system = any(words in message.lower() for words in NO_SYSTEM)
    if status in (404, 500, 501) and (no_system or _NO_TOOLS.search(message)):
        return BadRequest(message)
    if _EXCEEDED.search(message):
        return _bad_request(message)
    # An error event in mid-stream comes with the stream's own status 200: its kind decides.
    if status in _TRANSIENT_STATUS or status >= 500 or (kind in _TRANSIENT_KINDS and status not in _BAD_STATUS):
        what = {429: "rate limit", 529: "overloaded"}.get(status) or _prefix(kind).removesuffix(": ")
        return Transient(f"{what or f'HTTP {status}'}: {message}", at_least)
    if status == 401 or kind in ("authentication_error", "invalid_api_key"):
        return _key_refused(message, server)
    if status == 402 or kind == "billing_error" or "credit balance" in message.lower():
        return refusal(
            f"the account has no credit: {message}", hint="add credit to the account of this key, then resume"
        )
    if status == 403 or kind == "permission_error":
        hint = "use a key that is allowed to use this model, or choose another with --model"
        return refusal(f"the key is not allowed to do this: {message}", hint=hint)
    if status == 404 or kind == "not_found_error":
        hint = f"choose a model that this key can use with --model, and check {server.base_variable}"
        return refusal(f"not found: {message}", hint=hint)
    if 200 <= status < 300:
        return Transient(f"the stream ended with an error: {_prefix(kind)}{message}")
    if 300 <= status < 400:
        return refusal(f"answers with HTTP {status}", hint=f"check {server.base_variable}")
    return _bad_request(message)


def _bad_request(message: str) -> BadRequest:
    return TooLong(message) if _TOO_LONG.search(message) else BadRequest(message)


def _key_refused(message: str, server: ServerInfo) -> KeyRefused:
    hint = f'write a valid one into {keys.user_file()} as {server.key_variable} = "…" (chmod 600), then resume'
    return KeyRefused(f"the key is not accepted: {message}", where=server.endpoint, hint=hint)


def _usage_cap(message: str, kind: str) -> Transient | None:
    """A usage cap, which is reset at the time that the message names, or raised by the user."""
    if not _CAPPED.search(message) and not _CAPPED.search(kind):
        return None
    at_least = 0.0
    if found := _RESET_TIME.search(message):
        until = datetime.strptime(f"{found[1]} {found[2] or '00:00'}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        at_least = min(max(0.0, until.timestamp() - time.time()), _MAX_WAIT_SECONDS)
    return Transient(f"the account's usage limit is reached: {message}", at_least, slow=True)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait; 0.0 without a valid header."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if 0 <= seconds < _MAX_WAIT_SECONDS:
            return seconds
    return 0.0


def require_event_stream(content_type: str) -> None:
    """Raises Transient when the response is not a stream of events."""
    if "event-stream" not in content_type:
        kind = one_line(content_type, 60) or "without a type"
        raise Transient(f"the answer is not a stream of events but {kind} (the page of a proxy?)")


class StreamProgress(Protocol):
    """Progress of one streamed answer."""

    begun: bool
    ended: bool


@contextmanager
def streaming(server: ServerInfo, answer: StreamProgress) -> Iterator[None]:
    """Context in which one answer is received. Raises Transient, BadRequest or ResearcherMisconfigured when it fails;
    an error after the answer's end, which costs at most its token counts, is ignored.
    """
    try:
        yield
        if not answer.ended:
            raise Transient("the stream broke off")
    except Exception as error:
        if not answer.ended:
            raise classify(error, server, begun=answer.begun) from error
