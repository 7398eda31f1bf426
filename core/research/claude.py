"""Claude as the researcher: streams its thinking, proposes through the tool `propose`, is answered and mends.

The SDK is imported when the first experiment is asked for, off the event loop, and only here. Its own retries are off:
waiting is ours, because it must be seen and cancelled.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core.record.edits import proposal_from_plain
from core.record.errors import EditError, ProposalFailed, ResearcherMisconfigured
from core.record.proposal import Proposal, Usage
from core.record.state import State
from core.research import prices, prompt
from core.research.backoff import Backoff
from core.research.claude_turn import BadRequest, Transient, Turn, ask, classify, sendable
from core.research.protocol import Brief, Stream
from core.views.text import one_line

NAME = "claude"
RETRIES = 3  # answers that are no proposal, or one that does not apply, before the experiment is given up
MAX_TOKENS = 32_000  # of one answer, thinking included
THINKING_TOKENS = 12_000  # where a model wants a fixed budget for thinking
CACHED = {"type": "ephemeral"}

# The ways to ask for thinking, best first. A model that refuses one is asked the next way.
_THINKING: tuple[dict[str, Any] | None, ...] = (
    {"type": "adaptive", "display": "summarized"},
    {"type": "enabled", "budget_tokens": THINKING_TOKENS},
    None,
)


@dataclass(slots=True)
class _Model:
    """The model in use, and how it wants to be asked."""

    id: str
    thinking: int = 0  # index into _THINKING
    max_tokens: int = MAX_TOKENS


class ClaudeResearcher:
    """Proposes with a Claude model. `model` None: chosen from the models the key can use (see `choose`).

    `read_seconds`: how long a stream may be silent (the API sends pings) before it counts as dropped.
    """

    name = NAME
    mends = True

    def __init__(
        self, model: str | None = None, *, backoff: Backoff | None = None, read_seconds: float = 120.0
    ) -> None:
        self.model = model
        self._backoff = backoff or Backoff()
        self._read_seconds = read_seconds
        self._client: Any = None
        self._asked: _Model | None = None
        self._prices: Mapping[str, prices.Price] = {}
        self._said_unpriced = False

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """Raises ProposalFailed after RETRIES answers that could not be used, ResearcherMisconfigured."""
        if self._client is None:
            self._prices = await asyncio.to_thread(prices.load)
            self._client = await asyncio.to_thread(_connect, self._read_seconds)
        if self._asked is None:
            self._asked = await self._find_model(stream)
            self.model = self._asked.id
        first = _opening(brief)
        messages: list[dict[str, Any]] = [first]
        reason = ""
        for attempt in range(1, RETRIES + 2):
            turn = await self._turn(brief, messages, stream)
            try:
                return self._proposal(turn, brief, stream)
            except EditError as error:
                reason = error.what
                stream.refused(attempt, f"{error.where}: {reason}" if error.where else reason)
                messages = _answered(messages, first, turn, str(error))
        raise ProposalFailed(f"{RETRIES + 1} answers held no proposal that could be used; the last: {reason}")

    def ended(self, state: State, experiment: int) -> str | None:
        return None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    # --- asking ---

    async def _turn(self, brief: Brief, messages: Sequence[dict[str, Any]], stream: Stream) -> Turn:
        """One whole answer, however many tries it takes."""
        assert self._asked is not None
        failures = 0
        while True:
            turn = Turn()
            try:
                await ask(self._client, _request(self._asked, brief, messages), stream, turn)
                return turn
            except Transient as error:
                failures += 1
                await self._backoff.pause(stream, error.reason, failures, error.at_least)
            except BadRequest as error:
                self._ask_otherwise(str(error), stream)
            except ResearcherMisconfigured as error:
                raise await self._with_models(error) from error
            finally:
                self._charge(turn, stream)

    def _ask_otherwise(self, said: str, stream: Stream) -> None:
        """Ask in a way that this model may take. Raises ResearcherMisconfigured when there is none left."""
        asked, low = self._asked, said.lower()
        assert asked is not None
        if any(w in low for w in ("thinking", "adaptive", "display")) and asked.thinking + 1 < len(_THINKING):
            asked.thinking += 1
            stream.note(f"{asked.id} does not take this way of thinking: {said}")
        elif "max_tokens" in low and asked.max_tokens > 4096:
            asked.max_tokens //= 2
            stream.note(f"asking for answers of at most {asked.max_tokens:,} tokens: {said}")
        else:
            mend = "fewer or smaller `read` files if the prompt is too long; else another model with --model"
            raise ResearcherMisconfigured(f"the request is refused: {said}", where=asked.id, mend=mend)

    async def _with_models(self, error: ResearcherMisconfigured) -> ResearcherMisconfigured:
        """A "not found" with the models that would be found, when the server tells."""
        if not error.what.startswith("not found"):
            return error
        try:
            known = [m.id async for m in self._client.models.list(limit=100)]
        except Exception:  # whatever is wrong here, the first error is the one to tell
            return error
        names = ", ".join(one_line(str(name), 60) for name in known[:12])
        mend = f"choose one of these with --model: {names}" if names else error.mend
        return ResearcherMisconfigured(error.what, where=error.where, mend=mend)

    def _charge(self, turn: Turn, stream: Stream) -> None:
        """What the answer cost, a broken-off one too."""
        if not turn.begun or self._asked is None:
            return
        price = prices.find(self._prices, self._asked.id)
        if price is None and not self._said_unpriced:
            self._said_unpriced = True
            stream.note(f"the price of {self._asked.id} is not known; write it into {prices.user_file()}")
        usd = None
        if price:
            usd = price.usd(
                fresh=turn.fresh, output=turn.output, cache_read=turn.cache_read, cache_write=turn.cache_write
            )
        stream.usage(Usage(turn.fresh + turn.cache_write, turn.output, turn.cache_read, usd))

    # --- the model ---

    async def _find_model(self, stream: Stream) -> _Model:
        """The model to ask: the one given, or the default of what the key can use."""
        failures = 0
        while True:
            try:
                known = await _list(self._client)
                break
            except Transient as error:
                failures += 1
                await self._backoff.pause(stream, error.reason, failures, error.at_least)
            except BadRequest as error:
                known = []
                stream.note(f"the list of models cannot be had: {error}")
                break
            except ResearcherMisconfigured as error:
                if not self.model or not error.what.startswith("not found"):
                    raise
                known = []  # a server without that list may well know the model
                break
        if self.model:
            info = next((m for m in known if m.id == self.model), None)
            return _described(self.model, info)
        info = choose(known)
        if info is None:
            raise ResearcherMisconfigured(
                "the key's account lists no model", where=str(self._client.base_url), mend="name one with --model"
            )
        stream.note(f"model: {one_line(info.id, 80)}, the newest of its line that this key can use")
        return _described(info.id, info)

    # --- understanding ---

    def _proposal(self, turn: Turn, brief: Brief, stream: Stream) -> Proposal:
        """The turn's proposal, checked. Raises EditError with what to answer."""
        if turn.stop == "refusal":
            raise EditError(f"the model declined to answer{': ' + turn.stop_detail if turn.stop_detail else ''}")
        uses = turn.uses()
        if turn.stop in ("max_tokens", "model_context_window_exceeded"):
            raise EditError(
                "the answer was cut off: it grew too long", mend="think shorter and make smaller edits, not whole files"
            )
        if not uses:
            raise EditError("the answer was only words", mend=prompt.NUDGE)
        use = uses[0]
        if use["name"] != prompt.PROPOSE["name"]:
            raise EditError(f"there is no tool {one_line(str(use['name']), 60)!r}", mend="call propose")
        if use["json"]:
            try:
                use["input"] = json.loads(use["json"])
            except (ValueError, RecursionError) as error:
                use["input"] = {}
                raise EditError(f"the tool's input is no JSON: {error}", mend="call propose again") from None
        if not isinstance(use["input"], dict):
            use["input"] = {}
            raise EditError("the tool's input is no JSON object", mend="call propose again")
        proposal = proposal_from_plain(use["input"])
        stream.tool(f"propose: {proposal.hypothesis}")
        brief.check(proposal)
        return replace(proposal, extra={**proposal.extra, "model": self.model})


def _connect(read_seconds: float) -> Any:
    """Import the SDK and make the client: some seconds, so never on the event loop."""
    import anthropic

    key = os.environ.get("ANTHROPIC_API_KEY", "").strip()
    token = os.environ.get("ANTHROPIC_AUTH_TOKEN", "").strip()
    if not (key or token):
        raise ResearcherMisconfigured(
            "no key for Claude", where="ANTHROPIC_API_KEY", mend="set it, or choose --researcher control (needs no key)"
        )
    if not (key or token).isascii() or not (key or token).isprintable():
        raise ResearcherMisconfigured(
            "the key holds characters that no key has", where="ANTHROPIC_API_KEY", mend="copy the key again"
        )
    base = os.environ.get("ANTHROPIC_BASE_URL", "").strip() or None
    if base and not base.startswith(("http://", "https://")):
        raise ResearcherMisconfigured(
            f"{base!r} is no address", where="ANTHROPIC_BASE_URL", mend="start it with https://"
        )
    timeout = anthropic.Timeout(read_seconds, connect=min(10.0, read_seconds))
    credentials: dict[str, Any] = {"api_key": key} if key else {"auth_token": token}
    try:
        client = anthropic.AsyncAnthropic(**credentials, base_url=base, max_retries=0, timeout=timeout)
        _ = client.messages, client.models  # imported on first use: do it here
    except Exception as error:  # a broken proxy setting or certificate file, told in the library's words
        raise ResearcherMisconfigured(
            f"the client cannot be made: {one_line(str(error), 300)}", where="anthropic",
            mend="check ANTHROPIC_BASE_URL, the proxy and the certificate settings of this shell",
        ) from error  # fmt: skip
    return client


async def _list(client: Any) -> list[Any]:
    """The models that the key can use. Raises Transient, BadRequest or ResearcherMisconfigured."""
    try:
        return [m async for m in client.models.list(limit=100) if isinstance(getattr(m, "id", None), str)]
    except Exception as error:
        raise classify(error, str(client.base_url)) from error


def choose(known: Sequence[Any]) -> Any | None:
    """The default model: the newest active one of the line `opus`, else of `sonnet`, else the newest of any line.

    A server that tells no line is judged by the words of the name. None when nothing is listed.
    """
    active = [m for m in known if (getattr(m, "lifecycle", None) or "active") == "active"] or list(known)

    def rank(m: Any) -> tuple[int, float]:
        line = getattr(m, "line", None) or next((w for w in ("opus", "sonnet") if w in m.id.split("-")), "")
        created = getattr(m, "created_at", None)
        newest = -created.timestamp() if isinstance(created, datetime) else 0.0
        return {"opus": 0, "sonnet": 1}.get(line, 2), newest

    return min(active, key=rank, default=None)  # the list is newest first, and min keeps the first of equals


def _described(id: str, info: Any | None) -> _Model:
    """How to ask a model, from what the server tells of it."""
    model = _Model(id)
    most = getattr(info, "max_tokens", None)
    if isinstance(most, int) and most > 0:
        model.max_tokens = min(MAX_TOKENS, most)
    thinking = getattr(getattr(info, "capabilities", None), "thinking", None)
    if thinking is not None:
        kinds = getattr(thinking, "types", None)
        if not getattr(thinking, "supported", True):
            model.thinking = 2
        elif not getattr(getattr(kinds, "adaptive", None), "supported", True):
            model.thinking = 1
    return model


def _opening(brief: Brief) -> dict[str, Any]:
    files = {"type": "text", "text": prompt.current_files(brief), "cache_control": CACHED}
    return {"role": "user", "content": [files, {"type": "text", "text": prompt.task(brief)}]}


def _request(model: _Model, brief: Brief, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The request with its cache marks: behind the stable part, the files, and the conversation so far."""
    rules = {"type": "text", "text": prompt.RULES}
    stable = {"type": "text", "text": prompt.stable(brief), "cache_control": CACHED}
    last = messages[-1]
    if len(messages) > 1 and isinstance(last["content"], list) and last["role"] == "user":
        marked = {**last["content"][-1], "cache_control": CACHED}
        messages = [*messages[:-1], {**last, "content": [*last["content"][:-1], marked]}]
    request: dict[str, Any] = {
        "model": model.id, "max_tokens": model.max_tokens, "system": [rules, stable], "messages": list(messages),
        "tools": [dict(prompt.PROPOSE)],
    }  # fmt: skip
    thinking = _THINKING[model.thinking]
    if thinking is not None:
        room = model.max_tokens // 2
        request["thinking"] = {**thinking, "budget_tokens": min(THINKING_TOKENS, room)} if model.thinking else thinking
    return request


def _answered(
    messages: Sequence[dict[str, Any]], first: dict[str, Any], turn: Turn, reason: str
) -> list[dict[str, Any]]:
    """The conversation with the answer and what is wrong with it. A declined or empty answer is not sent back."""
    blocks = sendable(turn)
    if turn.stop == "refusal" or not blocks:
        again = {"type": "text", "text": f"An earlier answer could not be used ({reason}). {prompt.NUDGE}"}
        return [{**first, "content": [*first["content"], again]}]
    results: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": use["id"], "is_error": True, "content": prompt.bounded(reason, 8000)}
        for use in turn.uses()
    ]
    words = "Mend the proposal and call `propose` again." if results else reason
    return [
        *messages,
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": [*results, {"type": "text", "text": words}]},
    ]
