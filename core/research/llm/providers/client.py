"""What every researcher that is a model behind a server has in common: connecting, waiting, choosing, charging."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from core.record.errors import ResearcherMisconfigured
from core.record.proposal import Proposal, Usage
from core.record.state import State
from core.research.llm import keys, prices
from core.research.llm.api_errors import BadRequest, KeyRefused, Server, TooLong
from core.research.llm.conversation import Voice, converse, with_model
from core.research.llm.retry import Backoff
from core.research.protocol import Brief, Stream
from core.text import one_line

T = TypeVar("T")

REPEATED = 100  # models of a list that may be there twice


class ModelResearcher(ABC):
    """Proposes with a language model. The SDK is imported when the first experiment is asked for, off the event loop.

    `read_seconds`: how long a stream may be silent before it counts as dropped.
    """

    name: str
    mends = True

    def __init__(
        self, model: str | None = None, *, backoff: Backoff | None = None, read_seconds: float = 120.0
    ) -> None:
        self.model = model
        self.backoff = backoff or Backoff()
        self._read_seconds = read_seconds
        self._prices: Mapping[str, prices.Price] = {}
        self._said_unpriced = False
        self._key: keys.Key | None = None
        self.client: Any = None
        self.server: Server | None = None

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """Raises ProposalFailed when no proposal could be used, ResearcherMisconfigured for what a person must mend."""
        try:
            if self.client is None:
                self._prices = await asyncio.to_thread(prices.load)
                self.client, self.server, self._key = await asyncio.to_thread(self.connect, self._read_seconds)
            await self.find_model(stream)
            return with_model(await self._converse(brief, stream), self.model)
        except ResearcherMisconfigured as error:
            if isinstance(error, KeyRefused):
                keys.refuse(self._key)
            await self.close()  # the next try reads keys and settings anew
            raise

    async def _converse(self, brief: Brief, stream: Stream) -> Proposal:
        try:
            return await converse(self.voice(brief), brief, stream, self.backoff)
        except TooLong as error:  # the brief alone: only a person can make it shorter
            raise ResearcherMisconfigured(
                f"the request is refused: {error}", where=self.model or "",
                hint="fewer or smaller `read` files in program.md, or another model with --model",
            ) from error  # fmt: skip

    def ended(self, state: State, experiment: int) -> str | None:
        return None

    async def close(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            await client.close()

    @abstractmethod
    def connect(self, read_seconds: float) -> tuple[Any, Server, keys.Key | None]:
        """Import the SDK and make the client: some seconds, so never on the event loop."""

    @abstractmethod
    async def find_model(self, stream: Stream) -> None:
        """Settle which model is asked, and how it wants to be asked. Cheap when that is known."""

    @abstractmethod
    def voice(self, brief: Brief) -> Voice: ...

    @abstractmethod
    def otherwise(self, said: str, long: bool) -> str:
        """Leave out what the server complains of in `said`, from the next request on; in words, empty when there is
        nothing left to leave out. `long`: it complains of the length of the whole.
        """

    # --- for those who stand on this ---

    async def patiently(self, stream: Stream, once: Callable[[], Awaitable[T]]) -> T:
        """One whole answer, however many tries it takes, asked for in ways that the model takes.

        Raises TooLong, ResearcherMisconfigured.
        """
        while True:
            try:
                return await self.backoff.patiently(stream, once)
            except BadRequest as error:
                if how := self.otherwise(str(error), isinstance(error, TooLong)):
                    stream.note(f"{how}: {error}")
                elif isinstance(error, TooLong):
                    raise
                else:
                    hint = "choose another model with --model, or another server"
                    what = f"the request is refused: {error}"
                    raise ResearcherMisconfigured(what, where=self.model or "", hint=hint) from error

    def charge(
        self, stream: Stream, *, fresh: int, output: int, cache_read: int, cache_write: int = 0, cache_hour: int = 0,
        usd: float | None = None, told: bool = True,
    ) -> None:  # fmt: skip
        """Put on record what an answer cost. `usd`: as the server itself says it; else by the table of prices.

        `told`: whether the server said what was used. Where it did not, the cost is unknown, unless nothing costs.
        """
        if usd is None and self.model is not None:
            price = prices.find(self._prices, self.model)
            if price is not None and (told or price.input == price.output == 0):
                usd = price.usd(
                    fresh=fresh, output=output, cache_read=cache_read, cache_write=cache_write, cache_hour=cache_hour
                )
            elif not self._said_unpriced:
                self._said_unpriced = True
                why = f"the price of {self.model} is not known; write it into {prices.user_file()}"
                stream.note("the server does not tell the tokens used: what they cost is not known" if price else why)
        stream.usage(Usage.reported(fresh + cache_write + cache_hour, output, cache_read, usd))

    def base_url(self, variable: str, environ: Mapping[str, str]) -> str | None:
        """The address in an environment variable. Raises ResearcherMisconfigured when it is none."""
        base = environ.get(variable, "").strip() or None
        if base and not base.startswith(("http://", "https://")):
            raise ResearcherMisconfigured(f"{base!r} is no address", where=variable, hint="start it with https://")
        return base

    async def with_models(self, error: ResearcherMisconfigured) -> ResearcherMisconfigured:
        """A "not found" with the models that would be found, when the server tells."""
        if not error.what.startswith("not found"):
            return error
        try:
            known = [m.id for m in await listed(self.client.models.list())]
        except Exception:  # whatever is wrong here, the first error is the one to tell
            return error
        names = ", ".join(one_line(str(name), 60) for name in known[:12])
        hint = f"choose one of these with --model: {names}" if names else error.hint
        return ResearcherMisconfigured(error.what, where=error.where, hint=hint)


async def listed(models: AsyncIterable[Any]) -> list[Any]:
    """Each model with a name, once. A server that gives the same page again and again has given all it has."""
    known: dict[str, Any] = {}
    again = 0
    async for model in models:
        if isinstance(getattr(model, "id", None), str):
            again += model.id in known
            known.setdefault(model.id, model)
        if again > REPEATED:
            break
    return list(known.values())


def cannot_connect(error: Exception, sdk: str, base: str) -> ResearcherMisconfigured:
    """A broken proxy setting or certificate file, told in the library's words."""
    return ResearcherMisconfigured(
        f"the client cannot be made: {one_line(str(error), 300)}", where=sdk,
        hint=f"check {base}, the proxy and the certificate settings of this shell",
    )  # fmt: skip
