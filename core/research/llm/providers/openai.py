"""Researcher `openai`: GPT, and models of any OpenAI-compatible server (Ollama, vLLM, llama.cpp, OpenRouter …).

OpenAI's own address is asked by the Responses protocol, any other by chat completions; a server that requires the other
protocol is asked by that. Options that a server rejects are omitted, one at a time, with a note.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from core import invocation
from core.record.errors import ResearcherMisconfigured
from core.research.llm import keys, prompt, text_format
from core.research.llm.api_errors import NO_SYSTEM, BadRequest, ServerInfo
from core.research.llm.conversation import AskMode, ModelAnswer, ToolResult
from core.research.llm.providers import openai_chat, openai_responses
from core.research.llm.providers.client import ModelConversation, ModelResearcher, base_url, create_client
from core.research.llm.providers.context_window import DECLARED_AT, LEAST_CONTEXT, advice, declared
from core.research.llm.providers.openai_shared import Exchange, OpenAIOptions, OpenAIReply, Question
from core.research.protocol import Brief, Stream
from core.text import one_line

MIN_MAX_TOKENS = 2_000  # down to which max_tokens is halved for a model with a short context
MAX_CHOICES = 12  # models of a server, above which the user must name one
OPENAI_HOSTS = ("api.openai.com",)
_GPT = re.compile(r"^gpt-(\d+(?:\.\d+)?)(?:-([a-z]+))?$")
_LINES = {"": 0, "sol": 0, "astra": 1, "terra": 1}  # everyday models first, then the expensive ones, then the small
_UNKNOWN = ("unrecognized", "unknown", "unexpected", "not permitted", "extra_forbidden", "extra inputs")
_NO_CHAT = re.compile(
    r"embed|whisper|tts|audio|realtime|image|dall-e|moderation|transcri|rerank|guard|clip|instruct-\d{4}$", re.I
)
# Options that can be omitted: name, dialect (empty: both), words of the server's complaint, and what is noted then.
_OPTIONAL: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("usage", "chat", ("stream_options", "include_usage"), "not asked for token counts"),
    ("reasoning", "responses", ("encrypted", "include"), "asked without encrypted reasoning"),
    ("summary", "responses", ("summary", "summaries", "verified"), "asked without summaries of its reasoning"),
    ("effort", "", ("effort", "reasoning"), "asked without an effort"),
    ("cache_key", "", ("prompt_cache_key",), "asked without a cache key"),
    ("system", "chat", NO_SYSTEM, "asked with the instructions in the first message"),
    ("tools", "", ("tool", "function"), "calls no tools, and is asked for plain text"),
)  # fmt: skip


class OpenAIResearcher(ModelResearcher):
    """Proposes with a model of an OpenAI-compatible server. `model` None: chosen from its list (see `choose`)."""

    name = "openai"
    options: OpenAIOptions | None = None
    _answered = False  # whether the model has answered in its present dialect

    def connect(self) -> tuple[Any, ServerInfo, keys.Key | None]:
        key = keys.find("OPENAI_API_KEY")
        if key is None and base_url("OPENAI_BASE_URL") is None:
            hint = f"set it, write it into {keys.user_file()}, or name a server of your own with OPENAI_BASE_URL"
            raise ResearcherMisconfigured("no key for OpenAI", where="OPENAI_API_KEY", hint=hint)
        try:
            import openai
        except ImportError:
            hint = f"install it with: {invocation.install(*invocation.requirements('openai'))}"
            raise ResearcherMisconfigured("the package openai is not installed", hint=hint) from None
        value, parts = key.value if key else "none", ("responses", "chat.completions", "models")
        variables = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
        client, server = create_client(openai, "AsyncOpenAI", parts, variables, self.read_seconds, api_key=value)
        return client, replace(server, base_variable="OPENAI_BASE_URL (most servers need /v1 at its end)"), key

    def conversation(self, brief: Brief) -> OpenAIConversation:
        return OpenAIConversation(self, brief)

    async def reply_to(self, talk: OpenAIConversation, stream: Stream) -> OpenAIReply:
        """One attempt at an answer. Raises Transient, BadRequest or ResearcherMisconfigured."""
        assert self.options is not None
        reply = OpenAIReply()
        protocol = openai_responses if self.options.dialect == "responses" else openai_chat
        try:
            request = talk.request(self.options)
            await protocol.receive(self.client, self.server, request, stream, reply)
            cut = reply.stop == "cut"
            self.watch_window(
                stream, request, read=reply.read, written=reply.output, cut=cut, fingerprint=reply.fingerprint
            )
            return reply
        except ResearcherMisconfigured as error:
            if self._add_version(error, stream):
                return await self.reply_to(talk, stream)
            # "not found" is also the answer of a server without the Responses protocol: ask by the other one, once.
            if not error.what.startswith("not found") or self.options.dialect == "chat" or self._answered:
                raise
            self.options.dialect = "chat"
            return await self.reply_to(talk, stream)
        finally:
            if reply.usage_reported or reply.ended:
                self.charge(
                    stream, fresh=max(0, reply.prompt - reply.cached - reply.written), output=reply.output,
                    cache_read=reply.cached, cache_write=reply.written, usd=reply.usd,
                    usage_reported=reply.usage_reported,
                )  # fmt: skip
                self._answered = True

    async def listed(self, stream: Stream) -> list[Any]:
        try:
            return await self.known_models(stream)
        except ResearcherMisconfigured as error:
            if self._add_version(error, stream):
                return await self.listed(stream)
            raise

    async def check_context(self) -> None:
        if not self.server.endpoint.startswith("http://"):
            return
        root = self.server.endpoint.rstrip("/").removesuffix("/v1")
        for address in ("models", *(root + path for path in DECLARED_AT)):
            try:
                tokens = declared(await self.client.get(address, cast_to=object), self.model or "")
            except Exception:  # not every server has every address
                continue
            if 0 < tokens < LEAST_CONTEXT:
                what = f"{self.server.endpoint} reads at most {tokens:,} tokens of a prompt with {self.model}"
                raise ResearcherMisconfigured(what, hint=advice(self.server.endpoint, "", {}))

    def _add_version(self, error: ResearcherMisconfigured, stream: Stream) -> bool:
        """Whether the address, which has no path and where nothing is found, is tried with /v1 at its end."""
        address = str(self.client.base_url).rstrip("/")
        if self._answered or not error.what.startswith("not found") or address.count("/") > 2:
            return False
        self.client.base_url = f"{address}/v1/"
        self.server = replace(self.server, endpoint=f"{address}/v1/")
        stream.note(f"nothing is found at {address}: asked at {address}/v1 (write that into OPENAI_BASE_URL)")
        return True

    def drop_unsupported(self, error: str, too_long: bool) -> str:
        assert self.options is not None
        omitted = _drop_unsupported(self.options, error.lower(), too_long)
        return omitted and f"{self.options.model}: {omitted}"

    def drop_next(self) -> str:
        assert self.options is not None
        omitted = _drop_next(self.options)
        return omitted and f"{self.options.model}: {omitted}"

    async def resolve_model(self, stream: Stream) -> None:
        if self.options is not None:
            return
        own = any(host in self.server.endpoint for host in OPENAI_HOSTS)
        dialect: Literal["responses", "chat"] = "responses" if own else "chat"
        if not self.model:
            try:
                known = await self.listed(stream)
            except (BadRequest, ResearcherMisconfigured) as error:
                if isinstance(error, ResearcherMisconfigured) and not error.what.startswith("not found"):
                    raise
                what = f"the list of models is not available: {error if isinstance(error, BadRequest) else error.what}"
                hint = f"name a model with --model, and check {self.server.base_variable}"
                raise ResearcherMisconfigured(what, where=self.server.endpoint, hint=hint) from error
            self.model = choose(known, self.server.endpoint)
            stream.note(f"model: {one_line(self.model, 80)}")
        limit_field = "max_completion_tokens" if own else "max_tokens"
        self.options = OpenAIOptions(self.model, dialect, cache_key=own, limit_field=limit_field)


def choose(known: Sequence[Any], endpoint: str) -> str:
    """The default model of a list: of OpenAI's GPTs the newest of the everyday line (no suffix, or `sol`); elsewhere
    the newest that is not for speech, images or embeddings, when there are at most MAX_CHOICES of them.

    Raises ResearcherMisconfigured when there is none, or too many to choose from.
    """
    gpts = [(found, m.id) for m in known if (found := _GPT.match(m.id))]
    if gpts:
        return str(min(gpts, key=lambda g: (_LINES.get(g[0][2] or "", 2), -float(g[0][1])))[1])
    chats = [m for m in known if not _NO_CHAT.search(m.id)]
    if not chats:
        raise ResearcherMisconfigured("the server lists no model", where=endpoint, hint="name one with --model")
    if len(chats) > MAX_CHOICES:
        some = ", ".join(one_line(m.id, 60) for m in chats[:6])
        hint = f"name one with --model, such as {some}"
        raise ResearcherMisconfigured(f"the server offers {len(chats)} models", where=endpoint, hint=hint)
    return str(max(chats, key=lambda m: getattr(m, "created", None) or 0).id)


def _drop_unsupported(options: OpenAIOptions, error: str, too_long: bool) -> str:
    """Omit what `error` (in lower case) rejects; a description, empty when nothing can be omitted."""
    chat = options.dialect == "chat"
    if chat and "/v1/responses" in error:
        options.dialect = "responses"
        return "asked by the Responses protocol"
    if chat and "max_completion_tokens" in error and options.limit_field == "max_tokens":
        options.limit_field = "max_completion_tokens"
        return "asked with max_completion_tokens"
    if options.limit_field and options.limit_field in error and any(word in error for word in _UNKNOWN):
        options.limit_field = ""
        return "asked for answers of any length"
    limited = any(word in error for word in ("max_tokens", "max_completion_tokens", "max_output_tokens", "completion"))
    if options.limit_field and limited and options.max_tokens // 2 >= MIN_MAX_TOKENS:
        options.max_tokens //= 2
        return f"asked for answers of at most {options.max_tokens:,} tokens"
    if too_long:
        return ""
    if chat and "reasoning_content" in error and not options.echo_thinking:
        options.echo_thinking = True
        return "its thinking is sent back"
    for name, dialect, words, omitted in _OPTIONAL:
        if getattr(options, name) and dialect in ("", options.dialect) and any(word in error for word in words):
            setattr(options, name, False)
            options.summary = options.summary and options.effort  # a summary needs the field of the effort
            return omitted
    return ""


def _drop_next(options: OpenAIOptions) -> str:
    """Omit the next optional thing for a complaint that names nothing, tools last; empty when none is left."""
    for name, dialect, _, omitted in _OPTIONAL:
        if name == "tools" and options.limit_field:
            options.limit_field = ""
            return "asked for answers of any length"
        if getattr(options, name) and dialect in ("", options.dialect):
            setattr(options, name, False)
            return omitted
    return ""


class OpenAIConversation(ModelConversation):
    """The messages of one conversation, independent of the protocol. Its beginning never changes, so that it is cached:
    rules, program.md and read-only files first, then the editable files, then what is new for this experiment.
    """

    _researcher: OpenAIResearcher

    def __init__(self, researcher: OpenAIResearcher, brief: Brief) -> None:
        super().__init__(researcher, brief)
        self._reply = OpenAIReply()
        self._note = ""
        self._exchanges: list[Exchange] = []

    @property
    def tools(self) -> bool:
        return self._researcher.options is None or self._researcher.options.tools

    @tools.setter
    def tools(self, able: bool) -> None:
        if self._researcher.options is not None:
            self._researcher.options.tools = able

    def start(self, mode: AskMode, note: str) -> None:
        self._begin(mode)
        self._note, self._reply = note, OpenAIReply()
        self._exchanges.clear()

    @property
    def is_new(self) -> bool:
        return not self._exchanges

    async def ask(self, stream: Stream) -> ModelAnswer:
        researcher = self._researcher
        self._reply = await researcher.ask_until_accepted(stream, lambda: researcher.reply_to(self, stream))
        return self._reply.answer()

    def append(self, results: Sequence[ToolResult], text: str) -> None:
        if not (self._reply.text.strip() or self._reply.calls):
            self.start(self._mode, text)
        else:
            self._exchanges.append(Exchange(self._reply, tuple(results), text))

    def request(self, options: OpenAIOptions) -> dict[str, Any]:
        """The whole request in the server's protocol."""
        tools = self._mode.tools and options.tools
        opening = [self._files, self._task, *([] if tools else [text_format.RULES]), *filter(None, [self._note])]
        question = Question(
            f"{prompt.RULES}\n\n{self._stable}", "\n\n".join(opening), self._exchanges, tools=tools,
            low_effort=options.effort and not self._mode.thinking,
        )  # fmt: skip
        build = openai_chat.build_request if options.dialect == "chat" else openai_responses.build_request
        request = build(options, question)
        if options.cache_key:
            request["prompt_cache_key"] = hashlib.sha256(question.system.encode()).hexdigest()[:32]
        return request
