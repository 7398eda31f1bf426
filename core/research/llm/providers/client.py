"""Base class of the researchers that use a model server: connection, retries, model list, costs."""

from __future__ import annotations

import asyncio
import copy
import operator
import os
import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, TypeVar

from core.record.errors import ResearcherMisconfigured
from core.record.proposal import Proposal, Usage
from core.research.llm import keys, prices, prompt
from core.research.llm.api_errors import BadRequest, KeyRefused, ServerInfo, TooLong, Transient, classify
from core.research.llm.conversation import Asking, AskMode, Conversation, with_model
from core.research.llm.providers import proxy
from core.research.llm.providers.context_window import ContextWindow, advice
from core.research.llm.providers.omissions import Omissions
from core.research.llm.retry import Backoff, Failures
from core.research.protocol import Brief, Researcher, Stream
from core.text import one_line

T = TypeVar("T")

MAX_FAILED_LISTS = 3
MAX_REPEATED_MODELS = 100  # of a list, before it counts as complete


class _OneAttempt:
    """A Stream for one request, whose failure is final."""

    def note(self, text: str) -> None:
        """Ignore what is for a reader."""

    thinking = text = tool = warn = note

    def usage(self, usage: Usage) -> None:
        """Ignore the cost: there is none."""

    def refused(self, attempt: int, reason: str) -> None:
        """Ignore what concerns proposals."""

    async def before_asking(self) -> None:
        """Ask at once."""

    async def wait(self, reason: str, seconds: float, attempt: int) -> None:
        raise Transient(reason)


@dataclass(eq=False, repr=False)
class ModelResearcher(Researcher, ABC):
    """Proposes with a language model. `read_seconds`: silence after which a stream counts as dropped."""

    can_repair = True
    minds = 8
    list_options: ClassVar[Mapping[str, int]] = {}  # of the request for the list of models

    model: str | None = None
    _: KW_ONLY
    backoff: Backoff = field(default_factory=Backoff)
    read_seconds: float = 120.0
    window: ContextWindow = field(init=False, default_factory=ContextWindow)
    client: Any = field(init=False, default=None)
    server: ServerInfo = field(init=False)
    options: Any = field(init=False, default=None)  # of the model, once it is known
    _key: keys.Key | None = field(init=False, default=None)
    _prices: Mapping[str, prices.Price] = field(init=False, default_factory=dict)
    _failures: Failures = field(init=False, default_factory=Failures)
    _proven: Any = field(init=False, default=None)  # options that are accepted, while fewer omissions are on trial
    _cost_noted: bool = field(init=False, default=False)
    _proposing: int = field(init=False, default=0)  # proposals that are being made
    _reconnect: bool = field(init=False, default=False)  # once none is
    _connecting: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        self._proposing += 1
        try:
            return await self._propose(brief, stream)
        finally:
            self._proposing -= 1
            if self._reconnect and not self._proposing:
                self._reconnect = False
                await self.close()  # the next attempt reads keys and settings again

    async def _propose(self, brief: Brief, stream: Stream) -> Proposal:
        try:
            async with self._connecting:
                await self._connected()
                await self.resolve_model(stream)
            await self._failures.pause(self.backoff, stream)
            with self._failures.counted():
                proposal = await Asking(self.conversation(brief), brief, stream, self.backoff).run()
            return with_model(proposal, self.model)
        except (TooLong, ResearcherMisconfigured) as error:
            if isinstance(error, KeyRefused):
                keys.refuse(self._key)
            self._reconnect = True
            if isinstance(error, ResearcherMisconfigured):
                raise
            # the brief alone is too long: only the user can make it shorter
            hint = "fewer or smaller `read` files in program.md, or another model with --model"
            if self.server.endpoint.startswith("http://"):  # a server of one's own
                hint = f"{hint}; or {advice(self.server.endpoint, '', {})}"
            raise self._refused(error, hint) from error

    async def _connected(self) -> None:
        if self.client is None:
            self._prices = await asyncio.to_thread(prices.load)
            self.client, self.server, self._key = await asyncio.to_thread(self.connect)

    async def examine(self) -> str:
        """What the server answers to one request that costs nothing, for its models, in a sentence. Raises
        ResearcherMisconfigured for what a session would end with, and for a server that cannot be reached.
        """
        await self._connected()
        try:
            if not self.model:
                await self.resolve_model(_OneAttempt())
                await self.check_context()
                return f"{self.server.endpoint} answers: the model is {self.model}"
            known = [model.id for model in await self.listed(_OneAttempt())]
            await self.check_context()
            missing = "" if self.model in known else f", and does not list {self.model}"
            return f"{self.server.endpoint} answers{missing}"
        except Transient as error:
            hint = f"start the server, check the network, or correct {self.server.base_variable}"
            raise ResearcherMisconfigured(error.reason, hint=hint) from error
        except (BadRequest, ResearcherMisconfigured) as error:
            if not self.model or (
                isinstance(error, ResearcherMisconfigured) and not error.what.startswith("not found")
            ):
                raise
            return f"{self.server.endpoint} answers, without a list of models"
        finally:
            await self.close()

    async def check_context(self) -> None:
        """Raises ResearcherMisconfigured when the server says that it reads too little of a prompt."""

    async def close(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            await client.close()

    @abstractmethod
    def connect(self) -> tuple[Any, ServerInfo, keys.Key | None]:
        """Import the SDK and create the client: takes seconds, so never on the event loop."""

    @abstractmethod
    async def resolve_model(self, stream: Stream) -> None:
        """Determine the model and its options. Does nothing when they are known."""

    @abstractmethod
    def conversation(self, brief: Brief) -> Conversation: ...

    @abstractmethod
    def drop_unsupported(self, error: str, too_long: bool) -> str:
        """Omit what the server says that it rejects (`too_long`: the length of the whole request) from the next request
        on. Describes it; empty when the error names nothing that can be omitted.
        """

    @abstractmethod
    def drop_next(self) -> str:
        """Omit the next optional thing, for an error that names nothing; empty when none is left."""

    # --- for subclasses ---

    async def ask_until_accepted(self, stream: Stream, ask: Callable[[], Awaitable[T]]) -> T:
        """Result of `ask`, repeated with options that the server accepts. Raises TooLong, ResearcherMisconfigured."""
        tried = Omissions(self.options)
        while True:
            try:
                answer = await self.backoff.retry_forever(stream, ask)
                accepted = self.options
                self.options, self._proven = tried.trial(accepted) if tried.blind else (accepted, None)
                return answer
            except BadRequest as error:
                too_long = isinstance(error, TooLong)
                if omitted := self.drop_unsupported(str(error), too_long):
                    tried.named(self.options)
                elif too_long:
                    raise
                elif self._proven not in (None, self.options):
                    self.options, omitted = copy.copy(self._proven), "what this server has rejected stays out"
                    tried.named(self.options)
                elif omitted := self.drop_next():
                    tried.unnamed(self.options)
                else:
                    self.options = tried.whole  # nothing that was omitted was the reason
                    raise self._refused(error, "choose another model with --model, or another server") from error
                stream.note(f"{omitted}: {error}")
            except ResearcherMisconfigured as error:
                raise await self._with_known_models(error) from error

    def watch_window(
        self, stream: Stream, request: Mapping[str, Any], *, read: int, written: int, cut: bool, fingerprint: str = ""
    ) -> None:
        """Say it, once, when the server has not read the whole request, or had no room for its answer."""
        endpoint = self.server.endpoint
        if self.window.check(request, read, written, cut=cut, endpoint=endpoint, fingerprint=fingerprint):
            stream.warn(self.window.trouble)

    def _refused(self, error: BadRequest, hint: str) -> ResearcherMisconfigured:
        return ResearcherMisconfigured(f"the request is refused: {error}", where=self.model or "", hint=hint)

    async def listed(self, stream: Stream) -> list[Any]:
        """As `known_models`, at an address that may have to be put right first."""
        return await self.known_models(stream)

    async def known_models(self, stream: Stream) -> list[Any]:
        """The models that the server lists. Raises BadRequest, also for a list that fails again and again while the
        server can be reached, or ResearcherMisconfigured.
        """
        failed = 0

        async def ask() -> list[Any]:
            nonlocal failed
            try:
                return await unique_models(self.client.models.list(**self.list_options))
            except Exception as error:
                reached = not isinstance(error, self.server.sdk.APIConnectionError)
                found, failed = classify(error, self.server), failed + reached
                if isinstance(found, Transient) and failed >= MAX_FAILED_LISTS and not found.at_least:
                    raise BadRequest(found.reason) from error
                raise found from error

        return await self.backoff.retry_forever(stream, ask)

    async def _with_known_models(self, error: ResearcherMisconfigured) -> ResearcherMisconfigured:
        """A "not found" error with the names of existing models, when the server lists them."""
        if not error.what.startswith("not found"):
            return error
        try:
            known = [m.id for m in await unique_models(self.client.models.list())]
        except Exception:  # the first error is the one to report
            return error
        names = ", ".join(one_line(str(name), 60) for name in known[:12])
        hint = f"choose one of these with --model: {names}" if names else error.hint
        return ResearcherMisconfigured(error.what, where=error.where, hint=hint)

    def charge(
        self, stream: Stream, *, fresh: int, output: int, cache_read: int, cache_write: int = 0, cache_hour: int = 0,
        usd: float | None = None, usage_reported: bool = True,
    ) -> None:  # fmt: skip
        """Record the cost of an answer: `usd` as the server reports it, else from the table of prices; unknown without
        `usage_reported`, unless the model is free.
        """
        if usd is None and self.model is not None:
            price = prices.find(self._prices, self.model)
            if price is not None and (usage_reported or price.input == price.output == 0):
                usd = price.usd(
                    fresh=fresh, output=output, cache_read=cache_read, cache_write=cache_write, cache_hour=cache_hour
                )
            elif not self._cost_noted:
                self._cost_noted = True
                unpriced = f"the price of {self.model} is not known; write it into {prices.user_file()}"
                stream.note("the server does not report tokens, so their cost is not known" if price else unpriced)
        stream.usage(Usage.reported(fresh + cache_write + cache_hour, output, cache_read, usd))


class ModelConversation:
    """What the conversations of every server share: the parts of the brief, and how the server cuts what it is sent."""

    def __init__(self, researcher: ModelResearcher, brief: Brief) -> None:
        self._researcher = researcher
        self._mode = AskMode("")
        self._brief, self._stable = brief, ""
        self._files, self._task = prompt.current_files(brief), prompt.task(brief)

    @property
    def trouble(self) -> str:
        hint = self._researcher.window.hint
        return hint and f"the server cuts what it is sent: {hint}"

    def shorten(self) -> bool:
        return self._researcher.window.shorten(any_left=bool(self._brief.read_files))

    def _begin(self, mode: AskMode) -> None:
        """Make the first part of the prompt anew, short where it has to be."""
        self._mode = mode
        window = self._researcher.window
        window.new_conversation()
        self._stable = prompt.stable(self._brief, short=window.short)


def base_url(variable: str) -> str | None:
    """The address in an environment variable. Raises ResearcherMisconfigured when it is not one."""
    base = os.environ.get(variable, "").strip() or None
    if base and not base.startswith(("http://", "https://")):
        raise ResearcherMisconfigured(f"{base!r} is not an address", where=variable, hint="begin it with https://")
    if base:  # people paste the address of a method, and each SDK adds its own
        base = re.sub(r"(?:/chat/completions|/completions|/responses|/messages|/models)?/*$", "", base)
        base = re.sub(r"(?:/v1)+$", "" if variable.startswith("ANTHROPIC") else "/v1", base)
    return base


def route(base_variable: str) -> proxy.Proxy | None:
    """The proxy for the server that a variable names, or else for its maker's. Raises ResearcherMisconfigured when the
    address or the proxy is none.
    """
    maker = base_variable.partition("_")[0].lower()
    return proxy.usable(base_url(base_variable) or f"https://api.{maker}.com")


def create_client(
    sdk: Any, kind: str, parts: tuple[str, ...], variables: tuple[str, str], read_seconds: float, **key: str
) -> tuple[Any, ServerInfo]:
    """An SDK's client of class `kind`, and its server. `variables`: those of the key and of the address. The client's
    `parts` are imported on first use: here, off the event loop.

    Raises ResearcherMisconfigured when a setting is wrong: the address, a proxy, a certificate file.
    """
    key_variable, base_variable = variables
    base, timeout = base_url(base_variable), sdk.Timeout(read_seconds, connect=min(10.0, read_seconds))
    through = route(base_variable)
    try:
        # Left to itself the SDK makes a client for every proxy that it finds, also those of other schemes.
        http = sdk.DefaultAsyncHttpxClient(
            trust_env=False, proxy=through.url if through else None, verify=_certificates(), timeout=timeout
        )
        client = getattr(sdk, kind)(base_url=base, max_retries=0, timeout=timeout, http_client=http, **key)
        operator.attrgetter(*parts)(client)
        return client, ServerInfo(str(client.base_url), sdk, key_variable, base_variable, str(through or ""))
    except Exception as error:
        what = f"could not create the API client: {one_line(str(error), 300)}"
        settings = (base_variable, through.variable if through else "", "SSL_CERT_FILE", "SSL_CERT_DIR")
        hint = f"check {', '.join(name for name in settings if name in os.environ) or 'the settings of this shell'}"
        raise ResearcherMisconfigured(what, where=sdk.__name__, hint=hint) from error


def _certificates() -> ssl.SSLContext | bool:
    """Those that this shell names; True for the usual ones."""
    file, folder = (os.environ.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    return ssl.create_default_context(cafile=file, capath=folder) if file or folder else True


async def unique_models(models: AsyncIterable[Any]) -> list[Any]:
    """Each model with a name, once. Ends early when a server repeats the same page without end."""
    known: dict[str, Any] = {}
    repeated = 0
    async for model in models:
        if isinstance(getattr(model, "id", None), str):
            repeated += model.id in known
            known.setdefault(model.id, model)
        if repeated > MAX_REPEATED_MODELS:
            break
    return list(known.values())
