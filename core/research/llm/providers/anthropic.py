"""Claude as the researcher: streams its thinking, uses tools, proposes, is answered and mends.

The SDK's own retries are off: waiting is ours, because it must be seen and cancelled.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.record.errors import ResearcherMisconfigured
from core.research.llm import keys, prompt, text_format
from core.research.llm.api_errors import BadRequest, Server, classify
from core.research.llm.conversation import Answer, Result, Way
from core.research.llm.providers.anthropic_stream import Turn, ask, sendable
from core.research.llm.providers.client import ModelResearcher, cannot_connect, listed
from core.research.llm.tools import TOOLS
from core.research.protocol import Brief, Stream
from core.text import one_line

NAME = "claude"
MAX_TOKENS = 32_000  # of one answer, thinking included
THINKING_TOKENS = 12_000  # where a model wants a fixed budget for thinking
NO_THINKING = 2  # index into _THINKING

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
    hour: bool = True  # whether the cache may be asked to keep the stable part for an hour


class ClaudeResearcher(ModelResearcher):
    """Proposes with a Claude model. `model` None: chosen from the models the key can use (see `choose`)."""

    name = NAME
    asked: _Model | None = None

    def connect(self, read_seconds: float) -> tuple[Any, Server, keys.Key | None]:
        """Raises ResearcherMisconfigured."""
        import anthropic

        key = keys.find("ANTHROPIC_API_KEY")
        token = None if key else keys.find("ANTHROPIC_AUTH_TOKEN")
        found = key or token
        if found is None:
            raise ResearcherMisconfigured(
                "no key for Claude", where="ANTHROPIC_API_KEY",
                hint=f"set it, write it into {keys.user_file()}, or choose --researcher control (needs no key)",
            )  # fmt: skip
        base = self.base_url("ANTHROPIC_BASE_URL", os.environ)
        timeout = anthropic.Timeout(read_seconds, connect=min(10.0, read_seconds))
        credentials: dict[str, Any] = {"api_key": found.value} if key else {"auth_token": found.value}
        try:
            client = anthropic.AsyncAnthropic(**credentials, base_url=base, max_retries=0, timeout=timeout)
            _ = client.messages, client.models  # imported on first use: do it here
        except Exception as error:
            raise cannot_connect(error, "anthropic", "ANTHROPIC_BASE_URL") from error
        return client, Server(str(client.base_url), anthropic, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"), found

    def voice(self, brief: Brief) -> ClaudeVoice:
        return ClaudeVoice(self, brief)

    # --- one answer ---

    async def turn(self, request: Any, stream: Stream) -> Turn:
        """One whole answer to `request(model)`, however many tries it takes.

        Raises TooLong, ResearcherMisconfigured.
        """
        try:
            return await self.patiently(stream, lambda: self._once(request(self.asked), stream))
        except ResearcherMisconfigured as error:
            raise await self.with_models(error) from error

    async def _once(self, request: dict[str, Any], stream: Stream) -> Turn:
        turn = Turn()
        assert self.server is not None
        try:
            await ask(self.client, self.server, request, stream, turn)
            return turn
        finally:
            if turn.begun:  # one that broke off has cost something too
                self.charge(
                    stream, fresh=turn.fresh, output=turn.output, cache_read=turn.cache_read,
                    cache_write=turn.cache_write, cache_hour=turn.cache_hour,
                )  # fmt: skip

    def otherwise(self, said: str, long: bool) -> str:
        asked, low = self.asked, said.lower()
        assert asked is not None
        if asked.hour and ("ttl" in low or "cache_control" in low):
            asked.hour = False
            return "the cache keeps the prompt for five minutes only"
        if any(w in low for w in ("thinking", "adaptive", "display")) and asked.thinking + 1 < len(_THINKING):
            asked.thinking += 1
            return f"{asked.id} does not take this way of thinking"
        if "max_tokens" in low and asked.max_tokens > 4096:
            asked.max_tokens //= 2
            return f"asking for answers of at most {asked.max_tokens:,} tokens"
        return ""

    # --- the model ---

    async def find_model(self, stream: Stream) -> None:
        """The model to ask: the one given, or the default of what the key can use."""
        if self.asked is not None:
            return
        try:
            known = await self.backoff.patiently(stream, self._list)
        except BadRequest as error:
            known = []
            stream.note(f"the list of models cannot be had: {error}")
        except ResearcherMisconfigured as error:
            if not self.model or not error.what.startswith("not found"):
                raise
            known = []  # a server without that list may well know the model
        if self.model:
            self.asked = _described(self.model, next((m for m in known if m.id == self.model), None))
            return
        info = choose(known)
        if info is None:
            raise ResearcherMisconfigured(
                "the key's account lists no model", where=str(self.client.base_url), hint="name one with --model"
            )
        stream.note(f"model: {one_line(info.id, 80)}, the newest of its line that this key can use")
        self.asked, self.model = _described(info.id, info), info.id

    async def _list(self) -> list[Any]:
        """The models that the key can use. Raises Transient, BadRequest or ResearcherMisconfigured."""
        assert self.server is not None
        try:
            return await listed(self.client.models.list(limit=100))
        except Exception as error:
            raise classify(error, self.server) from error


class ClaudeVoice:
    """The messages of one conversation, laid out so that the cache holds all but what is new.

    Tools, rules, program.md and read-only files come first and are kept for an hour, the editable files behind them
    too; then what is new for this experiment, and the conversation, which is marked at its end each time.
    """

    tools = True

    def __init__(self, researcher: ClaudeResearcher, brief: Brief) -> None:
        self._researcher = researcher
        self._brief = brief
        self._way = Way("")
        self._messages: list[dict[str, Any]] = []
        self._turn = Turn()
        self._stable = prompt.stable(brief)
        self._files, self._task = prompt.current_files(brief), prompt.task(brief)

    def begin(self, way: Way, more: str) -> None:
        self._way, self._turn = way, Turn()
        texts = [self._files, self._task, *([] if way.tools else [text_format.RULES]), *([more] if more else [])]
        self._messages = [{"role": "user", "content": [_text(text) for text in texts]}]

    @property
    def fresh(self) -> bool:
        return len(self._messages) == 1

    async def ask(self, stream: Stream) -> Answer:
        self._turn = await self._researcher.turn(self._request, stream)
        return self._turn.answer()

    def tell(self, results: Sequence[Result], words: str) -> None:
        blocks = sendable(self._turn)
        if not blocks:  # an empty answer cannot be sent back
            self.begin(self._way, words)
            return
        content: list[dict[str, Any]] = [
            {
                "type": "tool_result",
                "tool_use_id": r.use.id,
                "content": r.text,
                **({"is_error": True} if r.refused else {}),
            }
            for r in results
        ]
        content += [_text(words)] if words else []
        self._messages += [{"role": "assistant", "content": blocks}, {"role": "user", "content": content}]

    def _request(self, model: _Model) -> dict[str, Any]:
        kept = {"type": "ephemeral", "ttl": "1h"} if model.hour else {"type": "ephemeral"}
        first, *later = self._messages
        files, *rest = first["content"]
        messages = [{**first, "content": [{**files, "cache_control": kept}, *rest]}, *later]
        last = messages[-1]
        end = {**last["content"][-1], "cache_control": {"type": "ephemeral"}}
        messages[-1] = {**last, "content": [*last["content"][:-1], end]}
        request: dict[str, Any] = {
            "model": model.id, "max_tokens": model.max_tokens, "messages": messages,
            "system": [_text(prompt.RULES), {**_text(self._stable), "cache_control": kept}],
        }  # fmt: skip
        if self._way.tools:
            request["tools"] = [dict(tool) for tool in TOOLS]
        thinking = _THINKING[model.thinking if self._way.think else NO_THINKING]
        if thinking is not None:
            room = model.max_tokens // 2
            fixed = {**thinking, "budget_tokens": min(THINKING_TOKENS, room)}
            request["thinking"] = fixed if "budget_tokens" in thinking else thinking
        return request


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


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
