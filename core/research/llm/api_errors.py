"""What can go wrong between us and a model's server, in three kinds, whichever SDK raised it.

`Transient`: worth another try, however often (rate limits, overload, 5xx, usage caps, dropped or garbled streams).
`BadRequest`: the server does not take the request as it is. ResearcherMisconfigured: a person must mend it.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from core.record.errors import ResearcherMisconfigured
from core.text import one_line

# Where an exception that an SDK lets through in mid-stream comes from. The HTTP library's name changes with versions.
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio", "ssl", "zlib")
_TRANSIENT_KINDS = (
    "rate_limit_error", "overloaded_error", "api_error", "timeout_error", "conflict_error",  # Anthropic
    "server_error", "rate_limit_exceeded", "service_unavailable", "tokens", "requests",  # OpenAI
)  # fmt: skip
_TRANSIENT_STATUS = (408, 409, 425, 429)
_BAD_STATUS = (400, 413, 422)  # the request is wrong, whatever kind of error a server of one's own calls it
_LONGEST_WAIT = 32 * 86400.0  # seconds that are believed: a monthly cap begins anew within that
_CAPPED = re.compile(r"usage limits?|insufficient_quota|exceeded your current quota|spend(?:ing)? (?:limit|cap)", re.I)
_TOO_LONG = re.compile(
    r"too long|context[ _]length|context[ _]window|maximum context|context size|too many (?:input )?tokens", re.I
)
# What a server says of a model that cannot call tools, with statuses that mean something else elsewhere.
_NO_TOOLS = re.compile(r"\btools?\b.*(?:support|requires?|flag)|support.*\btools?\b", re.I)
_PAGE = re.compile(r"<html\b.*?<title>(.*?)</title>", re.I | re.S)
_REGAIN = re.compile(r"(20\d\d-\d\d-\d\d)(?:(?: at |T| )(\d\d:\d\d)(?::\d\d)?)?")


class Transient(Exception):
    """Try again, not before `at_least` seconds. `slow`: waiting will take hours, so ask seldom."""

    def __init__(self, reason: str, at_least: float = 0.0, *, slow: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at_least = at_least
        self.slow = slow


class BadRequest(Exception):
    """HTTP 400, 413 or 422: the request cannot succeed as it is."""


class TooLong(BadRequest):
    """The conversation, with room for an answer, is longer than the model can read."""


class KeyRefused(ResearcherMisconfigured):
    """The server does not accept the key: another one must be given."""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom we talk to, in words for the mends. `sdk` is the imported module."""

    endpoint: str
    sdk: Any
    key: str  # the variable that holds the key
    base: str  # the variable that holds the address


def classify(error: Exception, server: Server, *, begun: bool = False) -> Exception:
    """The error as Transient, BadRequest or ResearcherMisconfigured; anything else comes back as it is.

    `begun`: the answer had begun to stream.
    """
    sdk = server.sdk
    if isinstance(error, (Transient, BadRequest, ResearcherMisconfigured)):
        return error
    if isinstance(error, sdk.APIStatusError):
        return _by_status(error, server)
    if isinstance(error, sdk.APITimeoutError) or "Timeout" in type(error).__name__:
        return Transient("the stream fell silent and timed out" if begun else "the request timed out")
    if isinstance(error, sdk.APIConnectionError):
        cause = one_line(str(error.__cause__ or error), 200) or type(error.__cause__).__name__
        return Transient(f"the stream broke off: {cause}" if begun else f"{server.endpoint} cannot be reached: {cause}")
    if isinstance(error, sdk.APIResponseValidationError):
        return Transient("the answer cannot be read")
    if isinstance(error, sdk.APIError):  # an error event in mid-stream
        return by_kind(_kind(error), _said(error), server)
    if type(error).__module__.partition(".")[0] in _TRANSPORTS or isinstance(error, (OSError, EOFError)):
        return Transient(f"the stream broke off: {one_line(str(error), 200) or type(error).__name__}")
    if isinstance(error, (ValueError, AttributeError, TypeError)) and not isinstance(error, UnicodeEncodeError):
        # The SDKs build their objects without checking them: what is not the protocol shows here.
        what = "it is not what the protocol says" if isinstance(error, (AttributeError, TypeError)) else str(error)
        return Transient(f"the answer is garbled: {one_line(what, 200)}")
    if type(error).__module__.partition(".")[0] == sdk.__name__:
        hint = "check the key and its settings"
        return ResearcherMisconfigured(one_line(str(error), 300), where=server.endpoint, hint=hint)
    return error


def _kind(error: Any) -> str:
    """The server's own word for an error: Anthropic's `type`, OpenAI's `code` or `type`."""
    return str(getattr(error, "code", None) or getattr(error, "type", None) or "")


def _said(error: Any) -> str:
    """The server's own sentence, without what the SDK puts around it; of a web page its title."""
    body: Any = error.body
    for name in ("error", "message", "detail"):
        if isinstance(body, Mapping) and body.get(name):
            body = body[name]
    if not isinstance(body, str):
        told = getattr(error, "api_message", None) or error.message
        body = json.dumps(body, default=str) if isinstance(body, list) and body else str(told)
    if page := _PAGE.search(body):
        body = f"a web page ({page[1].strip()})"
    return one_line(body, 300)


def by_kind(kind: str, said: str, server: Server) -> Exception:
    """An error that came within a stream: only its kind tells what it is, which may be a status in words."""
    if kind.isdecimal() and 400 <= int(kind) < 500:
        return _judged(int(kind), "", said, server)
    if capped := _capped(said, kind):
        return capped
    if kind in ("authentication_error", "invalid_api_key"):
        return _refused_key(said, server)
    if kind in ("context_length_exceeded", "invalid_request_error", "invalid_prompt"):
        return _bad(said)
    return Transient(f"the stream ended with an error: {_worded(kind)}{said}")


def _worded(kind: str) -> str:
    words = kind.removesuffix("_error").replace("_", " ")
    return f"{words}: " if words and not words.isdecimal() else ""


def _by_status(error: Any, server: Server) -> Exception:
    return _judged(error.status_code, _kind(error), _said(error), server, retry_after(error.response.headers))


def _judged(status: int, kind: str, said: str, server: Server, at_least: float = 0.0) -> Exception:
    endpoint = server.endpoint
    if capped := _capped(said, kind):
        return Transient(capped.reason, max(at_least, capped.at_least), slow=True)
    if status in (404, 500, 501) and _NO_TOOLS.search(said):
        return BadRequest(said)
    # An error event in mid-stream comes with the stream's own status 200: its kind decides.
    if status in _TRANSIENT_STATUS or status >= 500 or (kind in _TRANSIENT_KINDS and status not in _BAD_STATUS):
        what = {429: "rate limit", 529: "overloaded"}.get(status) or _worded(kind).removesuffix(": ")
        return Transient(f"{what or f'HTTP {status}'}: {said}", at_least)
    if status == 401 or kind in ("authentication_error", "invalid_api_key"):
        return _refused_key(said, server)
    if status == 402 or kind == "billing_error" or "credit balance" in said.lower():
        hint = "add credit to the account of this key, then resume"
        return ResearcherMisconfigured(f"the account cannot pay: {said}", where=endpoint, hint=hint)
    if status == 403 or kind == "permission_error":
        hint = "use a key that is allowed to use this model, or choose another with --model"
        return ResearcherMisconfigured(f"the key is not allowed to do this: {said}", where=endpoint, hint=hint)
    if status == 404 or kind == "not_found_error":
        hint = f"choose a model that this key can use with --model, and check {server.base}"
        return ResearcherMisconfigured(f"not found: {said}", where=endpoint, hint=hint)
    if 200 <= status < 300:
        return Transient(f"the stream ended with an error: {_worded(kind)}{said}")
    if 300 <= status < 400:
        return ResearcherMisconfigured(f"answers with HTTP {status}", where=endpoint, hint=f"check {server.base}")
    return _bad(said)


def _bad(said: str) -> BadRequest:
    return TooLong(said) if _TOO_LONG.search(said) else BadRequest(said)


def _refused_key(said: str, server: Server) -> KeyRefused:
    from core.research.llm import keys

    hint = f'write a valid one into {keys.user_file()} as {server.key} = "…" (chmod 600), then resume'
    return KeyRefused(f"the key is not accepted: {said}", where=server.endpoint, hint=hint)


def _capped(said: str, kind: str) -> Transient | None:
    """A usage cap, which ends by itself: at the time that the server names, or when somebody raises it."""
    if not _CAPPED.search(said) and not _CAPPED.search(kind):
        return None
    at_least = 0.0
    if found := _REGAIN.search(said):
        until = datetime.strptime(f"{found[1]} {found[2] or '00:00'}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        at_least = min(max(0.0, until.timestamp() - time.time()), _LONGEST_WAIT)
    return Transient(f"the account's usage is used up: {said}", at_least, slow=True)


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
        if 0 <= seconds < _LONGEST_WAIT:
            return seconds
    return 0.0


def stream_only(content_type: str) -> None:
    """Raises Transient when what answers is no stream of events."""
    if "event-stream" not in content_type:
        raise Transient(f"the answer is no stream but {one_line(content_type, 60) or 'of no type'} (a proxy's page?)")


class Progress(Protocol):
    """How far one streamed answer has come."""

    begun: bool
    ended: bool


@contextmanager
def streaming(server: Server, answer: Progress) -> Iterator[None]:
    """Around the reading of one answer. Raises Transient, BadRequest or ResearcherMisconfigured when it breaks off.

    Once the answer is whole, a fault costs the count of its tokens at most, and is no reason to ask for it again.
    """
    try:
        yield
        if not answer.ended:
            raise Transient("the stream broke off")
    except Exception as error:
        if not answer.ended:
            raise classify(error, server, begun=answer.begun) from error
