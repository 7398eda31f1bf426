"""Researcher `claude`: Claude models by the Anthropic API, streamed, with thinking, tools and prompt caching.

The SDK's own retries are off: waits must be visible and cancellable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.record.errors import ResearcherMisconfigured
from core.research.llm import keys, prompt, text_format
from core.research.llm.api_errors import NO_SYSTEM, BadRequest, ServerInfo, require_event_stream, streaming
from core.research.llm.conversation import AskMode, ModelAnswer, ToolCall, ToolResult
from core.research.llm.providers.client import ModelConversation, ModelResearcher, create_client
from core.research.llm.tool_calls import joined
from core.research.llm.tools import TOOLS
from core.research.protocol import Brief, Stream
from core.text import one_line

MAX_TOKENS = 32_000  # of one answer, thinking included
MIN_MAX_TOKENS = 4_096  # down to which that is halved when a server rejects it
THINKING_TOKENS = 12_000  # for a model that needs a fixed thinking budget
MAX_ANSWER_CHARACTERS = 8_000_000  # independent of the server's own limits

# Thinking modes, best first. A model that rejects one is asked with the next.
_THINKING: tuple[dict[str, Any] | None, ...] = (
    {"type": "adaptive", "display": "summarized"},
    {"type": "enabled", "budget_tokens": THINKING_TOKENS},
    None,
)
_CUT = ("max_tokens", "model_context_window_exceeded")  # reasons to stop
_NO_THINKING = 2  # index into _THINKING
_WITHOUT_SYSTEM = "asked with the instructions in the first message"


@dataclass(slots=True)
class ClaudeOptions:
    """The model in use, and the request options that it accepts."""

    model: str
    thinking: int = 0  # index into _THINKING
    max_tokens: int = MAX_TOKENS
    hour_cache: bool = True  # whether the stable part may be cached for an hour
    marks: bool = True  # whether marks of the cache are accepted at all
    system: bool = True  # whether the instructions may have a field of their own


class ClaudeResearcher(ModelResearcher):
    """Proposes with a Claude model. `model` None: chosen from the models of the key (see `choose`)."""

    name = "claude"
    list_options = {"limit": 100}  # noqa: RUF012 - a constant
    options: ClaudeOptions | None = None

    def connect(self) -> tuple[Any, ServerInfo, keys.Key | None]:
        import anthropic

        key = keys.find("ANTHROPIC_API_KEY")
        found = key or keys.find("ANTHROPIC_AUTH_TOKEN")
        if found is None:
            hint = f"set it, write it into {keys.user_file()}, or choose --researcher control (needs no key)"
            raise ResearcherMisconfigured("no key for Claude", where="ANTHROPIC_API_KEY", hint=hint)
        given = {"api_key" if key else "auth_token": found.value}
        variables, parts = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"), ("messages", "models")
        return *create_client(anthropic, "AsyncAnthropic", parts, variables, self.read_seconds, **given), found

    def conversation(self, brief: Brief) -> ClaudeConversation:
        return ClaudeConversation(self, brief)

    async def reply_to(self, request: dict[str, Any], stream: Stream) -> ClaudeReply:
        """One attempt at an answer. Raises Transient, BadRequest or ResearcherMisconfigured."""
        reply = ClaudeReply()
        try:
            await reply.receive(self.client, self.server, request, stream)
            read = reply.fresh + reply.cache_read + reply.cache_write + reply.cache_hour
            cut = reply.stop in _CUT
            self.watch_window(stream, request, read=read, written=reply.output, cut=cut)
            return reply
        finally:
            if reply.begun:  # an interrupted answer is billed too
                self.charge(
                    stream, fresh=reply.fresh, output=reply.output, cache_read=reply.cache_read,
                    cache_write=reply.cache_write, cache_hour=reply.cache_hour,
                )  # fmt: skip

    def drop_unsupported(self, error: str, too_long: bool) -> str:
        options, error = self.options, error.lower()
        assert options is not None
        marks = "cache_control" in error or (options.hour_cache and "ttl" in error)
        if marks and (omitted := _drop_cache(options)):
            return omitted
        if options.system and any(words in error for words in NO_SYSTEM):
            options.system = False
            return _WITHOUT_SYSTEM
        if any(w in error for w in ("thinking", "adaptive", "display")) and options.thinking + 1 < len(_THINKING):
            options.thinking += 1
            return f"{options.model} does not support this thinking mode"
        if "max_tokens" in error and options.max_tokens > MIN_MAX_TOKENS:
            options.max_tokens //= 2
            return f"asking for answers of at most {options.max_tokens:,} tokens"
        return ""

    def drop_next(self) -> str:
        assert self.options is not None
        return _drop_next(self.options)

    async def resolve_model(self, stream: Stream) -> None:
        if self.options is not None:
            return
        try:
            known = await self.known_models(stream)
        except BadRequest as error:
            known = []
            stream.note(f"the list of models is not available: {error}")
        except ResearcherMisconfigured as error:
            if not self.model:
                raise
            known = []  # a server without that list, or that keeps it for others, may still know the model
            stream.note(f"the list of models is not available: {error.what}")
        if self.model:
            self.options = _options(self.model, next((m for m in known if m.id == self.model), None))
            return
        info = choose(known)
        if info is None:
            what, where = "the key's account lists no model", self.server.endpoint
            raise ResearcherMisconfigured(what, where=where, hint="name one with --model")
        stream.note(f"model: {one_line(info.id, 80)}, the newest of its line for this key")
        self.options, self.model = _options(info.id, info), info.id


def choose(known: Sequence[Any]) -> Any | None:
    """The default model: the newest active one of the line `opus` (as the server says, else by its name), else of
    `sonnet`, else of any line. None when no model is listed.
    """
    active = [m for m in known if (getattr(m, "lifecycle", None) or "active") == "active"] or list(known)

    def rank(m: Any) -> tuple[int, float]:
        line = getattr(m, "line", None) or next((w for w in ("opus", "sonnet") if w in m.id.split("-")), "")
        created = getattr(m, "created_at", None)
        newest = -created.timestamp() if isinstance(created, datetime) else 0.0
        return {"opus": 0, "sonnet": 1}.get(line, 2), newest

    return min(active, key=rank, default=None)  # the list is newest first, and min keeps the first of equals


def _drop_next(options: ClaudeOptions) -> str:
    """Omit the next optional thing for a complaint that names nothing; empty when none is left."""
    if omitted := _drop_cache(options):
        return omitted
    if options.thinking < _NO_THINKING:
        options.thinking = _NO_THINKING
        return "asked without thinking"
    if options.system:
        options.system = False
        return _WITHOUT_SYSTEM
    if options.max_tokens > MIN_MAX_TOKENS:
        options.max_tokens = MIN_MAX_TOKENS
        return f"asking for answers of at most {MIN_MAX_TOKENS:,} tokens"
    return ""


def _drop_cache(options: ClaudeOptions) -> str:
    if options.hour_cache:
        options.hour_cache = False
        return "the cache keeps the prompt for five minutes only"
    if options.marks:
        options.marks = False
        return "asked without marks of the cache"
    return ""


def _options(model: str, info: Any | None) -> ClaudeOptions:
    """Options of a model, from the server's description of it."""
    most = _int(info, "max_tokens", 0)
    options = ClaudeOptions(model, max_tokens=min(MAX_TOKENS, most) if most > 0 else MAX_TOKENS)
    thinking = getattr(getattr(info, "capabilities", None), "thinking", None)
    adaptive = getattr(getattr(thinking, "types", None), "adaptive", None)
    if not getattr(thinking, "supported", True):
        options.thinking = _NO_THINKING
    elif not getattr(adaptive, "supported", True):
        options.thinking = 1
    return options


class ClaudeConversation(ModelConversation):
    """The messages of one conversation, ordered so that the cache covers everything but what is new: tools, rules,
    program.md and read-only files, then the editable files (both cached for an hour), then what is new for this
    experiment, and the conversation, with a cache mark at its end.
    """

    tools = True
    _researcher: ClaudeResearcher

    def __init__(self, researcher: ClaudeResearcher, brief: Brief) -> None:
        super().__init__(researcher, brief)
        self._messages: list[dict[str, Any]] = []
        self._reply = ClaudeReply()

    def start(self, mode: AskMode, note: str) -> None:
        self._begin(mode)
        self._reply = ClaudeReply()
        texts = [self._files, self._task, *([] if mode.tools else [text_format.RULES]), *([note] if note else [])]
        self._messages = [{"role": "user", "content": [_text(text) for text in texts]}]

    @property
    def is_new(self) -> bool:
        return len(self._messages) == 1

    async def ask(self, stream: Stream) -> ModelAnswer:
        researcher = self._researcher
        self._reply = await researcher.ask_until_accepted(stream, lambda: researcher.reply_to(self._request(), stream))
        return self._reply.answer()

    def append(self, results: Sequence[ToolResult], text: str) -> None:
        blocks = self._reply.sendable()
        if not blocks:  # an empty answer cannot be sent back
            self.start(self._mode, text)
            return
        content: list[dict[str, Any]] = [
            {"type": "tool_result", "tool_use_id": r.call.id, "content": r.text}
            | ({"is_error": True} if r.refused else {})
            for r in results
        ]
        content += [_text(text)] if text else []
        self._messages += [{"role": "assistant", "content": blocks}, {"role": "user", "content": content}]

    def _request(self) -> dict[str, Any]:
        options = self._researcher.options
        assert options is not None
        usual: dict[str, Any] = {"cache_control": {"type": "ephemeral"}} if options.marks else {}
        stable: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}} if options.hour_cache else usual
        rules = [_text(prompt.RULES), {**_text(self._stable), **stable}]
        first, *later = self._messages
        files, *rest = first["content"]
        opening = [*([] if options.system else rules), {**files, **stable}, *rest]
        messages = [{**first, "content": opening}, *later]
        last = messages[-1]
        end = {**last["content"][-1], **usual}
        messages[-1] = {**last, "content": [*last["content"][:-1], end]}
        request: dict[str, Any] = {"model": options.model, "max_tokens": options.max_tokens, "messages": messages}
        if options.system:
            request["system"] = rules
        if self._mode.tools:
            request["tools"] = [dict(tool) for tool in TOOLS]
        thinking = _THINKING[options.thinking if self._mode.thinking else _NO_THINKING]
        if thinking is not None:
            budget = {"budget_tokens": min(THINKING_TOKENS, options.max_tokens // 2)}
            request["thinking"] = {**thinking, **(budget if "budget_tokens" in thinking else {})}
        return request


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


@dataclass(slots=True)
class ClaudeReply:
    """A streamed answer. `blocks` can be sent back as the assistant's message. Tokens are as billed."""

    blocks: list[dict[str, Any]] = field(default_factory=list)
    stop: str | None = None
    stop_detail: str = ""
    fresh: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0  # for five minutes
    cache_hour: int = 0  # for an hour
    size: int = 0
    begun: bool = False
    ended: bool = False
    _places: dict[Any, dict[str, Any]] = field(default_factory=dict)  # the server's index of a block, the latest

    async def receive(self, client: Any, server: ServerInfo, request: Mapping[str, Any], stream: Stream) -> None:
        """Send `request` and collect the answer; thinking and text go to `stream` at once. Raises Transient, BadRequest
        or ResearcherMisconfigured; what came before the failure is kept.
        """
        with streaming(server, self):
            async with await client.messages.create(**request, stream=True) as events:
                require_event_stream(events.response.headers.get("content-type", ""))
                async for event in events:
                    self._take(event, stream)
                    if self.size > MAX_ANSWER_CHARACTERS:
                        self.stop, self.ended = "max_tokens", True
                    if self.ended:
                        break
                self.ended = self.ended or bool(self.stop)  # not every gateway sends the end of the message

    def _take(self, event: Any, stream: Stream) -> None:
        match event.type:
            case "message_start":
                self.begun = True
                self._count(event.message.usage)
            case "content_block_start":
                block = _new_block(event.content_block)
                if block["type"] == "thinking":
                    stream.thinking(block["thinking"])
                known = self._places.get(event.index)
                if known is None or block["type"] != "tool_use" or known.get("id") != block["id"]:  # else said twice
                    self.blocks.append(block)
                    self._places[event.index] = block
            case "content_block_delta":  # gateways interleave the blocks, and put thinking into those of text
                block = self._places.get(event.index) or (self.blocks[-1] if self.blocks else {"type": "unknown"})
                self.size += _extend_block(block, event.delta, stream)
            case "message_delta":
                self.stop = event.delta.stop_reason or self.stop
                details = getattr(event.delta, "stop_details", None)
                self.stop_detail = one_line(str(getattr(details, "explanation", None) or ""), 300)
                self._count(event.usage)
            case "message_stop":
                self.ended = True

    def _count(self, usage: Any) -> None:
        """Usage is cumulative: a later figure replaces an earlier one."""
        self.fresh = _int(usage, "input_tokens", self.fresh)
        self.output = _int(usage, "output_tokens", self.output)
        self.cache_read = _int(usage, "cache_read_input_tokens", self.cache_read)
        written = _int(usage, "cache_creation_input_tokens", self.cache_write + self.cache_hour)
        self.cache_hour = _int(getattr(usage, "cache_creation", None), "ephemeral_1h_input_tokens", self.cache_hour)
        self.cache_write = max(0, written - self.cache_hour)

    def answer(self) -> ModelAnswer:
        """The answer for the conversation. Tool input that cannot be parsed is emptied, so that it can be sent back."""
        calls = []
        for block in self.blocks:
            if block["type"] == "tool_use":
                call = ToolCall.parse(block["id"], str(block["name"]), joined(block["json"]), block["input"])
                block |= {"name": call.name, "input": call.input}
                calls.append(call)
        text = "".join(block["text"] for block in self.blocks if block["type"] == "text")
        stop = "declined" if self.stop == "refusal" else "cut" if self.stop in _CUT else "end"
        thinking = "".join(block["thinking"] for block in self.blocks if block["type"] == "thinking")
        return ModelAnswer(text, tuple(calls), stop, self.stop_detail, thinking)  # type: ignore[arg-type]

    def sendable(self) -> list[dict[str, Any]]:
        """The blocks that an assistant message accepts: no empty text, signed thinking only, and not at the end."""
        accepted = []
        for block in self.blocks:
            needed = {"text": "text", "thinking": "signature"}.get(block["type"], "type")
            if block["type"] != "unknown" and block[needed].strip():
                accepted.append({k: v for k, v in block.items() if k != "json"})
        while accepted and accepted[-1]["type"].endswith("thinking"):
            accepted.pop()
        return accepted


def _new_block(block: Any) -> dict[str, Any]:
    match block.type:
        case "thinking":
            return {"type": "thinking", "thinking": block.thinking or "", "signature": block.signature or ""}
        case "redacted_thinking":
            return {"type": "redacted_thinking", "data": block.data}
        case "text":
            return _text(block.text or "")
        case "tool_use":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": block.input or {}, "json": []}
    return {"type": "unknown"}


def _extend_block(block: dict[str, Any], delta: Any, stream: Stream) -> int:
    """Append a delta to its block; the number of its characters."""
    match delta.type:
        case "thinking_delta":
            if block["type"] == "thinking":
                block["thinking"] += delta.thinking
            stream.thinking(delta.thinking)
            return len(delta.thinking)
        case "signature_delta" if block["type"] == "thinking":
            block["signature"] += delta.signature
        case "text_delta" if block["type"] == "text":
            block["text"] += delta.text
            stream.text(delta.text)
            return len(delta.text)
        case "input_json_delta" if block["type"] == "tool_use":
            block["json"].append(delta.partial_json)
            return len(delta.partial_json)
    return 0


def _int(usage: Any, name: str, default: int) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else default
