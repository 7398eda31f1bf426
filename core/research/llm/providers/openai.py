"""GPT, and every model behind an OpenAI-compatible server (OPENAI_BASE_URL): Ollama, vLLM, llama.cpp, OpenRouter …

OpenAI's own address is asked by the Responses protocol, any other by chat completions; a server that says that it
wants the other one gets the other one. What a server does not take is left out, one thing at a time, and said.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core import invocation
from core.record.errors import ResearcherMisconfigured
from core.research.llm import keys, prompt, text_format
from core.research.llm.api_errors import BadRequest, Server, classify
from core.research.llm.conversation import Answer, Result, Way
from core.research.llm.providers import openai_chat, openai_responses
from core.research.llm.providers.client import ModelResearcher, cannot_connect, listed
from core.research.llm.providers.openai_stream import Turn
from core.research.llm.tools import TOOLS
from core.research.protocol import Brief, Stream
from core.text import one_line

NAME = "openai"
MAX_TOKENS = 32_000  # of one answer, reasoning included
LEAST_TOKENS = 2_000  # to which that is brought down for a model with a short context
CHOSEN_FROM = 12  # more models than these are a market: the user must name one
HOSTS = ("api.openai.com",)
_GPT = re.compile(r"^gpt-(\d+(?:\.\d+)?)(?:-([a-z]+))?$")
_LINES = {"": 0, "sol": 0, "astra": 1, "terra": 1}  # everyday models first, then the costly ones, then the small
_UNKNOWN = ("unrecognized", "unknown", "unexpected", "not permitted", "extra_forbidden", "extra inputs")
_NO_CHAT = re.compile(
    r"embed|whisper|tts|audio|realtime|image|dall-e|moderation|transcri|rerank|guard|clip|instruct-\d{4}$", re.I
)


@dataclass(slots=True)
class Asking:
    """The model in use, and how it and its server want to be asked."""

    id: str
    dialect: Literal["responses", "chat"]
    max_tokens: int = MAX_TOKENS
    limit: str = "max_completion_tokens"  # the field that bounds an answer; empty: none does
    tools: bool = True
    usage: bool = True  # whether the stream may be asked to tell the tokens
    summary: bool = True  # of the reasoning
    reasoning: bool = True  # encrypted, to be sent back
    effort: bool = True  # whether `low` is understood
    echo: bool = False  # whether thinking is sent back as it came
    cache_key: bool = True


class OpenAIResearcher(ModelResearcher):
    """Proposes with a model of an OpenAI-compatible server. `model` None: chosen from its list (see `choose`)."""

    name = NAME
    asked: Asking | None = None

    def connect(self, read_seconds: float) -> tuple[Any, Server, keys.Key | None]:
        """Raises ResearcherMisconfigured. A server of one's own needs no key."""
        base = self.base_url("OPENAI_BASE_URL", os.environ)
        key = keys.find("OPENAI_API_KEY")
        if key is None and base is None:
            raise ResearcherMisconfigured(
                "no key for OpenAI", where="OPENAI_API_KEY",
                hint=f"set it, write it into {keys.user_file()}, or name a server of your own with OPENAI_BASE_URL",
            )  # fmt: skip
        try:
            import openai
        except ImportError:
            raise ResearcherMisconfigured(
                "the package openai is not installed",
                hint=f"install it with: {invocation.install(*invocation.requirements('openai'))}",
            ) from None
        timeout = openai.Timeout(read_seconds, connect=min(10.0, read_seconds))
        try:
            client = openai.AsyncOpenAI(
                api_key=key.value if key else "none", base_url=base, max_retries=0, timeout=timeout
            )
            _ = client.responses, client.chat.completions, client.models  # imported on first use: do it here
        except Exception as error:
            raise cannot_connect(error, "openai", "OPENAI_BASE_URL") from error
        where = "OPENAI_BASE_URL (most servers want /v1 at its end)"
        return client, Server(str(client.base_url), openai, "OPENAI_API_KEY", where), key

    def voice(self, brief: Brief) -> OpenAIVoice:
        return OpenAIVoice(self, brief)

    # --- one answer ---

    async def turn(self, voice: OpenAIVoice, stream: Stream) -> Turn:
        """One whole answer, however many tries it takes. Raises TooLong, ResearcherMisconfigured."""
        try:
            return await self.patiently(stream, lambda: self._once(voice, stream))
        except ResearcherMisconfigured as error:
            if error.what.startswith("not found") and self._other_dialect():
                return await self.turn(voice, stream)
            raise await self.with_models(error) from error

    async def _once(self, voice: OpenAIVoice, stream: Stream) -> Turn:
        assert self.asked is not None and self.server is not None
        turn = Turn()
        protocol = openai_responses if self.asked.dialect == "responses" else openai_chat
        try:
            await protocol.ask(self.client, self.server, voice.request(self.asked), stream, turn)
            return turn
        finally:
            if turn.counted or turn.ended:
                self.charge(
                    stream, fresh=max(0, turn.prompt - turn.cached - turn.written), output=turn.output,
                    cache_read=turn.cached, cache_write=turn.written, usd=turn.usd, told=turn.counted,
                )  # fmt: skip
                self.answered = True

    answered = False  # whether this model has ever answered by its present dialect

    def _other_dialect(self) -> bool:
        """A server that has no Responses protocol says "not found": chat completions then, once."""
        assert self.asked is not None
        if self.asked.dialect != "responses" or self.answered:
            return False
        self.asked.dialect = "chat"
        return True

    def otherwise(self, said: str, long: bool) -> str:
        assert self.asked is not None
        how = _otherwise(self.asked, said.lower(), long)
        return how and f"{self.asked.id}: {how}"

    # --- the model ---

    async def find_model(self, stream: Stream) -> None:
        """The model to ask: the one given, or the default of what the server lists."""
        if self.asked is not None:
            return
        assert self.server is not None
        own = any(host in self.server.endpoint for host in HOSTS)
        dialect: Literal["responses", "chat"] = "responses" if own else "chat"
        if not self.model:
            self.model = choose(await self._known(stream), self.server.endpoint)
            stream.note(f"model: {one_line(self.model, 80)}")
        self.asked = Asking(self.model, dialect, cache_key=own, limit="max_completion_tokens" if own else "max_tokens")

    async def _known(self, stream: Stream) -> list[Any]:
        try:
            return await self.backoff.patiently(stream, self._list)
        except BadRequest as error:
            raise ResearcherMisconfigured(
                f"the list of models cannot be had: {error}", where=str(self.client.base_url),
                hint="name a model with --model",
            ) from error  # fmt: skip

    async def _list(self) -> list[Any]:
        assert self.server is not None
        try:
            return await listed(self.client.models.list())
        except Exception as error:
            raise classify(error, self.server) from error


def choose(known: Sequence[Any], endpoint: str) -> str:
    """The default model of a list: of OpenAI's GPTs the newest of the everyday line (no suffix, or `sol`); elsewhere
    the newest that is no model for speech, pictures or embeddings, when there are at most CHOSEN_FROM of them.

    Raises ResearcherMisconfigured when there is none, or too many to choose from.
    """
    gpts = [(found, m.id) for m in known if (found := _GPT.match(m.id))]
    if gpts:
        return str(min(gpts, key=lambda g: (_LINES.get(g[0][2] or "", 2), -float(g[0][1])))[1])
    chats = [m for m in known if not _NO_CHAT.search(m.id)]
    if not chats:
        raise ResearcherMisconfigured("the server lists no model", where=endpoint, hint="name one with --model")
    if len(chats) > CHOSEN_FROM:
        some = ", ".join(one_line(m.id, 60) for m in chats[:6])
        hint = f"name one with --model, such as {some}"
        raise ResearcherMisconfigured(f"the server offers {len(chats)} models", where=endpoint, hint=hint)
    return str(max(chats, key=lambda m: getattr(m, "created", None) or 0).id)


def _otherwise(asked: Asking, said: str, long: bool) -> str:
    """Leave out what `said` (in lower case) complains of; in words. Empty when nothing is left to leave out."""
    chat = asked.dialect == "chat"
    if chat and "/v1/responses" in said:
        asked.dialect = "responses"
        return "asked by the Responses protocol"
    if chat and "max_completion_tokens" in said and asked.limit == "max_tokens":
        asked.limit = "max_completion_tokens"
        return "asked with max_completion_tokens"
    if asked.limit and asked.limit in said and any(word in said for word in _UNKNOWN):
        asked.limit = ""
        return "asked for answers of any length"
    limited = any(word in said for word in ("max_tokens", "max_completion_tokens", "max_output_tokens", "completion"))
    if asked.limit and limited and asked.max_tokens // 2 >= LEAST_TOKENS:
        asked.max_tokens //= 2
        return f"asked for answers of at most {asked.max_tokens:,} tokens"
    if long:
        return ""
    if chat and "reasoning_content" in said and not asked.echo:
        asked.echo = True
        return "its thinking is sent back"
    if asked.usage and chat and ("stream_options" in said or "include_usage" in said):
        asked.usage = False
        return "not asked for the tokens used"
    if asked.reasoning and not chat and ("encrypted" in said or "include" in said):
        asked.reasoning = False
        return "asked without encrypted reasoning"
    if asked.summary and not chat and ("summary" in said or "summaries" in said or "verified" in said):
        asked.summary = False
        return "asked without summaries of its reasoning"
    if asked.effort and ("effort" in said or "reasoning" in said):
        asked.effort = asked.summary = False
        return "asked without an effort"
    if asked.cache_key and "prompt_cache_key" in said:
        asked.cache_key = False
        return "asked without a cache key"
    if asked.tools and ("tool" in said or "function" in said):
        asked.tools = False
        return "calls no tools, and is asked for plain text"
    return ""


@dataclass(slots=True)
class _Exchange:
    """An answer and what was said to it."""

    turn: Turn
    results: tuple[Result, ...]
    words: str


class OpenAIVoice:
    """The conversation, kept apart from the protocol it is sent by. Its beginning never changes, so that it is cached:
    rules, program.md and read-only files first, then the editable files, then what is new for this experiment.
    """

    def __init__(self, researcher: OpenAIResearcher, brief: Brief) -> None:
        self._researcher = researcher
        self._way = Way("")
        self._turn = Turn()
        self._more = ""
        self._exchanges: list[_Exchange] = []
        self._system = f"{prompt.RULES}\n\n{prompt.stable(brief)}"
        self._files, self._task = prompt.current_files(brief), prompt.task(brief)

    @property
    def tools(self) -> bool:
        return self._researcher.asked is None or self._researcher.asked.tools

    @tools.setter
    def tools(self, able: bool) -> None:
        if self._researcher.asked is not None:
            self._researcher.asked.tools = able

    def begin(self, way: Way, more: str) -> None:
        self._way, self._more, self._turn = way, more, Turn()
        self._exchanges.clear()

    @property
    def fresh(self) -> bool:
        return not self._exchanges

    async def ask(self, stream: Stream) -> Answer:
        self._turn = await self._researcher.turn(self, stream)
        return self._turn.answer()

    def tell(self, results: Sequence[Result], words: str) -> None:
        if not (self._turn.text.strip() or self._turn.calls):
            self.begin(self._way, words)
        else:
            self._exchanges.append(_Exchange(self._turn, tuple(results), words))

    def request(self, asked: Asking) -> dict[str, Any]:
        """The whole request by the server's protocol."""
        with_tools = self._way.tools and asked.tools
        opening = [self._files, self._task, *([] if with_tools else [text_format.RULES]), *filter(None, [self._more])]
        first = {"role": "user", "content": "\n\n".join(opening)}
        build = self._chat if asked.dialect == "chat" else self._responses
        request = build(asked, first, with_tools)
        if asked.cache_key:
            request["prompt_cache_key"] = hashlib.sha256(self._system.encode()).hexdigest()[:32]
        return request

    def _chat(self, asked: Asking, first: dict[str, Any], with_tools: bool) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": "system", "content": self._system}, first]
        for exchange in self._exchanges:
            messages.append(openai_chat.assistant(exchange.turn, asked.echo))
            messages += [openai_chat.result(r.use.id, r.text) for r in exchange.results]
            messages += [{"role": "user", "content": exchange.words}] if exchange.words else []
        request: dict[str, Any] = {"model": asked.id, "messages": messages}
        if asked.limit:
            request[asked.limit] = asked.max_tokens
        if with_tools:
            request["tools"] = openai_chat.tools(TOOLS)
        if asked.usage:
            request["stream_options"] = {"include_usage": True}
        if asked.effort and not self._way.think:
            request["reasoning_effort"] = "low"
        return request

    def _responses(self, asked: Asking, first: dict[str, Any], with_tools: bool) -> dict[str, Any]:
        items: list[dict[str, Any]] = [first]
        for exchange in self._exchanges:
            items += openai_responses.assistant(exchange.turn, asked.reasoning)
            items += [openai_responses.result(r.use.id, r.text) for r in exchange.results]
            items += [{"role": "user", "content": exchange.words}] if exchange.words else []
        request: dict[str, Any] = {
            "model": asked.id, "instructions": self._system, "input": items, "max_output_tokens": asked.max_tokens,
            "store": False,
        }  # fmt: skip
        if with_tools:
            request["tools"] = openai_responses.tools(TOOLS)
        reasoning = {"summary": "auto"} if asked.summary else {}
        if asked.effort and not self._way.think:
            reasoning["effort"] = "low"
        if reasoning:
            request["reasoning"] = reasoning
        if asked.reasoning:
            request["include"] = ["reasoning.encrypted_content"]
        return request
