"""The conversation for one proposal, the same with every language model: ask, answer its tool calls, ask again.

A model that fails to propose is told why and asked again; then asked in the next way (afresh and without thinking, then
in plain text without tools); then, when no way brings a proposal, waited for with a growing pause and asked from the
beginning, for ever. It never ends by itself, and every wait is in sight. Only proposals that were made and could not
be used, in every way, end it: they are a result, and are put on record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from core.edits.apply import proposal_from_plain
from core.record.errors import EditError, ProposalFailed
from core.record.proposal import Proposal
from core.research.llm import prompt, text_format
from core.research.llm.api_errors import TooLong
from core.research.llm.retry import Backoff
from core.research.llm.tools import Toolbox
from core.research.protocol import Brief, Stream
from core.research.quoting import bounded
from core.text import one_line

RETRIES = 3  # answers without a usable proposal, beyond the first, before the next way is tried
TOOL_ROUNDS = 24  # answers that only look things up, before it is told to propose now
GIVE_UPS = 3  # ideas that may be dropped for one experiment
CALLS = 16  # tool calls of one answer that are answered
REFUSAL = 8_000  # characters of what is told about a refused answer


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is asked. `words`: what is said on the screen when it is turned to."""

    words: str
    think: bool = True
    tools: bool = True


WAYS: tuple[Way, ...] = (
    Way("from the beginning"),
    Way("in a fresh conversation, without extended thinking", think=False),
    Way("in plain text, without tools", tools=False),
)


@dataclass(frozen=True, slots=True)
class Use:
    """One tool call of an answer. `fault`: why its input cannot be read; `input` is then empty."""

    id: str
    name: str
    input: Any = field(default_factory=dict)
    fault: str = ""

    @classmethod
    def of(cls, id: str, name: str, raw: str, parsed: Any = None) -> Use:
        """A call whose input came as the text `raw`, or as `parsed` where there was no text."""
        if raw:
            try:
                parsed = json.loads(raw)
            except (ValueError, RecursionError) as error:
                return cls(id, name, {}, f"the tool's input is no JSON: {error}")
        if parsed is None:
            parsed = {}
        if not isinstance(parsed, dict):
            return cls(id, name, {}, "the tool's input is no JSON object")
        return cls(id, name, parsed)


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `stop`: it ended, was cut off because it grew too long, or the model declined (`detail`)."""

    text: str = ""
    uses: tuple[Use, ...] = ()
    stop: Literal["end", "cut", "declined"] = "end"
    detail: str = ""

    @property
    def empty(self) -> bool:
        return not self.text.strip() and not self.uses


@dataclass(frozen=True, slots=True)
class Result:
    """What is answered to one tool call."""

    use: Use
    text: str
    refused: bool = False


class Voice(Protocol):
    """One model's side of a conversation: it keeps the messages in its own protocol's shape."""

    tools: bool  # whether the model can call tools, as far as is known; may be set

    @property
    def fresh(self) -> bool:
        """Whether the conversation holds nothing but its beginning."""
        ...

    def begin(self, way: Way, more: str) -> None:
        """A conversation with nothing but the brief in it, and `more` words behind it."""

    async def ask(self, stream: Stream) -> Answer:
        """The next answer, however many tries it takes. Raises TooLong, ResearcherMisconfigured."""
        ...

    def tell(self, results: Sequence[Result], words: str) -> None:
        """Answer the last answer: each of its tool calls has a result. `words` may be empty when there are results."""


async def converse(voice: Voice, brief: Brief, stream: Stream, backoff: Backoff) -> Proposal:
    """A proposal that `brief.check` accepts.

    Raises ProposalFailed when proposals were made in every way and none could be used, TooLong when the brief alone is
    more than the model can read, ResearcherMisconfigured.
    """
    return await _Dialogue(voice, brief, stream, backoff).run()


@dataclass(slots=True)
class _Dialogue:
    voice: Voice
    brief: Brief
    stream: Stream
    backoff: Backoff
    answers: int = 0
    refusals: int = 0  # of this experiment, in all ways
    called: bool = False  # whether the model has ever called a tool here
    proposed: bool = False  # whether any answer in this cycle held a proposal
    reason: str = ""  # why the last answer was of no use
    given_up: int = 0
    last: object = None  # the last refused proposal, to see that a model repeats itself

    async def run(self) -> Proposal:
        turns, slow = 0, self.backoff.slowly()
        while True:
            self.proposed = False
            for way in WAYS:
                if way.tools and not self.voice.tools:
                    continue
                if turns:
                    await slow.pause(self.stream, f"no usable proposal ({self.reason}); next: {way.words}", turns)
                found = await self._in_one_way(way)
                if found is not None:
                    if not way.tools and not self.called and self.voice.tools:
                        self.stream.note("this model calls no tools: it is asked for plain text from here on")
                        self.voice.tools = False
                    return found
                turns += 1
            if self.proposed:
                raise ProposalFailed(
                    f"{self.answers} answers held no proposal that could be used; the last: {self.reason}"
                )

    async def _in_one_way(self, way: Way) -> Proposal | None:
        """Ask until a proposal stands, or until RETRIES answers more were of no use."""
        toolbox, looked, wasted = Toolbox(self.brief), 0, 0
        self.last = None
        self.voice.begin(
            way, f"An earlier answer could not be used: {bounded(self.reason, REFUSAL)}" if self.reason else ""
        )
        while wasted <= RETRIES:
            if way.tools and not self.voice.tools:
                return None  # the server has just said so
            answer = await self._answer(way)
            self.answers += 1
            self.called = self.called or bool(answer.uses)
            try:
                found = await self._proposed(answer, way)
                if found is not None:
                    return found
                looked += 1
                results = await self._look_up(answer.uses, toolbox, looked)
            except EditError as error:
                wasted += self._refuse(error)
                await self._tell_refusal(answer, str(error), way, toolbox)
                continue
            words = "" if looked < TOOL_ROUNDS else "You have looked enough: call `propose` now."
            wasted += looked > TOOL_ROUNDS
            self.voice.tell(results, words)
        return None

    async def _answer(self, way: Way) -> Answer:
        """The next answer; a talk that has grown too long for the model begins afresh."""
        try:
            return await self.voice.ask(self.stream)
        except TooLong as error:
            if self.voice.fresh:
                raise
            self.stream.note(f"the conversation has grown too long and begins afresh: {error}")
            self.voice.begin(way, "You have looked things up before and the talk grew too long: propose soon.")
            return await self.voice.ask(self.stream)

    # --- an answer that proposes ---

    async def _proposed(self, answer: Answer, way: Way) -> Proposal | None:
        """The answer's proposal, checked; None when it asks for tools. Raises EditError with what to answer."""
        if answer.stop == "declined":
            raise EditError(f"the model declined to answer{': ' + answer.detail if answer.detail else ''}")
        if answer.stop == "cut":
            hint = "think shorter and make smaller edits, not whole files"
            raise EditError("the answer was cut off: it grew too long", hint=hint)
        use = next((u for u in answer.uses if u.name == prompt.PROPOSE["name"]), None)
        plain: Mapping[str, Any] | None
        if use is not None:
            if use.fault:
                raise EditError(use.fault, hint="call propose again")
            plain = use.input
        elif answer.uses and way.tools:
            return None
        else:
            plain = text_format.read(answer.text, self.brief.files)
            if plain is None:
                self.last = None
                what = "the answer was empty" if answer.empty else "the answer was only words"
                raise EditError(what, hint=prompt.NUDGE if way.tools else text_format.NUDGE)
        return await self._checked(plain)

    async def _checked(self, plain: Mapping[str, Any]) -> Proposal:
        self.proposed = True
        proposal = proposal_from_plain(plain)
        self.stream.tool(f"propose: {proposal.hypothesis}")
        again, self.last = self.last == proposal.edits, proposal.edits
        try:
            await asyncio.to_thread(self.brief.check, proposal)
        except EditError as error:
            if again:
                hint = "do not send it again: change the edits, or propose another experiment"
                raise EditError(
                    f"the same proposal again, and still: {error.what}", where=error.where, hint=hint
                ) from None
            raise
        return proposal

    # --- an answer that asks for something ---

    async def _look_up(self, uses: Sequence[Use], toolbox: Toolbox, looked: int) -> list[Result]:
        """The results of all calls of one answer, in their order, given back together."""
        results: list[Result] = []
        for number, use in enumerate(uses, 1):
            try:
                if number > CALLS or looked > TOOL_ROUNDS:
                    raise EditError("no more look-ups", hint="call propose now, with your best idea")
                if use.fault:
                    raise EditError(use.fault, hint=f"call {one_line(use.name, 60)} again")
                text = (
                    self._give_up(use)
                    if use.name == "give_up"
                    else await toolbox.call(use.name, use.input, self.stream)
                )
                results.append(Result(use, text))
            except EditError as error:
                results.append(Result(use, bounded(str(error), REFUSAL), refused=True))
        return results

    def _give_up(self, use: Use) -> str:
        """Drop an idea: noted where the researcher will read it again, and asked for another."""
        why = one_line(str(use.input.get("reason") or "no reason given"), 400)
        self.stream.tool(f"give_up: {why}")
        self.given_up += 1
        try:
            self.brief.notebook.add(f"- given up before experiment {self.brief.experiment}: {why}")
        except EditError as error:
            self.stream.note(error.what)
        if self.given_up >= GIVE_UPS:
            raise EditError(
                "no more ideas may be dropped here", hint="call propose, with the simplest change you believe in"
            )
        return "It is noted. Choose another idea and call `propose`."

    # --- an answer of no use ---

    def _refuse(self, error: EditError) -> int:
        """Put a refusal on record; how much it counts: one that says the same as before counts double."""
        same = error.what == self.reason
        self.reason = error.what
        self.refusals += 1
        self.stream.refused(self.refusals, f"{error.where}: {error.what}" if error.where else error.what)
        return 2 if same and self.last is not None else 1

    async def _tell_refusal(self, answer: Answer, reason: str, way: Way, toolbox: Toolbox) -> None:
        """Say what was wrong; what else a whole answer asked for is looked up all the same."""
        text, results = bounded(reason, REFUSAL), list[Result]()
        for use in answer.uses:
            if answer.stop == "end" and use.name != prompt.PROPOSE["name"]:
                results += await self._look_up([use], toolbox, 1)
            else:
                results.append(Result(use, text, refused=True))
        if answer.stop == "declined":
            self.voice.begin(way, f"An earlier answer could not be used: {text}")
        elif results:
            self.voice.tell(results, "Mend the proposal and call `propose` again.")
        else:
            self.voice.tell([], text)


def with_model(proposal: Proposal, model: str | None) -> Proposal:
    """The proposal with the model's name on it."""
    return replace(proposal, extra={**proposal.extra, "model": model})
