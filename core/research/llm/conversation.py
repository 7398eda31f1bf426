"""Conversation for one proposal, the same with every model: ask, answer tool calls, ask again.

An answer without a usable proposal is refused with the reason; then the next of the MODES is tried; then, after a
growing, visible pause, all of them again, without end. Only proposals that were made and could not be used, in every
mode, end it: they are a result, and go on record.
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
from core.research.llm import text_format, tool_calls, tools
from core.research.llm.api_errors import TooLong
from core.research.llm.retry import Backoff, another_model
from core.research.protocol import Brief, Stream
from core.research.quoting import bounded
from core.text import one_line

MAX_RETRIES = 3  # answers without a usable proposal, after the first, before the next mode
MAX_TOOL_ROUNDS = 24  # answers with tool calls only, before the model is asked to propose
MAX_IDEAS_DROPPED = 3  # for one experiment
MAX_TOOL_CALLS = 16  # of one answer that are answered
MAX_REFUSAL_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True)
class AskMode:
    """One mode of asking a model. `label`: its name on the screen."""

    label: str
    thinking: bool = True
    tools: bool = True


MODES: tuple[AskMode, ...] = (
    AskMode("from the beginning"),
    AskMode("in a new conversation, without extended thinking", thinking=False),
    AskMode("in plain text, without tools", tools=False),
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call of an answer. `error`: why its input cannot be parsed; `input` is then empty."""

    id: str
    name: str
    input: Any = field(default_factory=dict)
    error: str = ""

    @classmethod
    def parse(cls, id: str, name: str, raw: str, parsed: Any = None) -> ToolCall:
        """A call whose input came as the text `raw`, or already `parsed`. Its name is read by `tools.name_of`."""
        name = tools.name_of(name)
        if raw:
            try:
                parsed = json.loads(raw)
            except (ValueError, RecursionError) as error:
                return cls(id, name, {}, f"the tool's input is not JSON: {error}")
        if parsed is not None and not isinstance(parsed, dict):
            return cls(id, name, {}, "the tool's input is not a JSON object")
        return cls(id, name, parsed or {})


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One complete answer. `stop`: it ended, was cut off at its length limit, or the model declined (`detail`).
    `as_text`: its calls stand in its text or thinking, and are answered in text.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    stop: Literal["end", "cut", "declined"] = "end"
    detail: str = ""
    thinking: str = ""
    as_text: bool = False

    def with_calls_in_text(self) -> ModelAnswer:
        """The answer with the calls that its server did not translate, where there is no other."""
        found = (
            ()
            if self.calls or self.stop != "end"
            else tool_calls.in_text(self.text if self.text.strip() else self.thinking)
        )
        calls = tuple(ToolCall(f"text_{n}", name, dict(input)) for n, (name, input) in enumerate(found))
        return replace(self, calls=calls, as_text=True) if calls else self


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one tool call."""

    call: ToolCall
    text: str
    refused: bool = False


class Conversation(Protocol):
    """A conversation with one model: the messages, in the form of its provider's protocol."""

    tools: bool  # whether the model can call tools, as far as is known; may be set

    @property
    def trouble(self) -> str:
        """What its server does to every request, and the hint; empty when nothing is known."""

    @property
    def is_new(self) -> bool:
        """Whether it has no messages but the first."""

    def start(self, mode: AskMode, note: str) -> None:
        """Begin anew, with the brief as the first message and `note` at its end."""

    async def ask(self, stream: Stream) -> ModelAnswer:
        """The next answer, after as many attempts as it takes. Raises TooLong, ResearcherMisconfigured."""

    def shorten(self) -> bool:
        """Leave out of the first message what can be looked up, from `start` on; False when that is done already."""

    def append(self, results: Sequence[ToolResult], text: str) -> None:
        """Reply to the last answer: a result for each of its tool calls, and `text`, which may be empty then."""


@dataclass(slots=True)
class Asking:
    """Asks a model for one proposal."""

    talk: Conversation
    brief: Brief
    stream: Stream
    backoff: Backoff
    answers: int = 0
    refusals: int = 0  # for this experiment, in all modes
    called: bool = False  # whether the model has called a tool
    proposed: bool = False  # whether any answer in this round of modes had a proposal
    reason: str = ""  # why the last answer could not be used
    dropped: int = 0
    last_calls: object = None  # of the last answer with look-ups only, to detect a repetition
    last_edits: object = None  # of the last refused proposal, to detect a repetition

    async def run(self) -> Proposal:
        """A proposal that `brief.check` accepts. Raises ProposalFailed when proposals were made in every mode and none
        could be used, TooLong when the brief alone exceeds the model's context, ResearcherMisconfigured.
        """
        pauses, slow = 0, self.backoff.slow()
        while True:
            self.proposed = False
            for mode in MODES:
                if mode.tools and not self.talk.tools:
                    continue
                if pauses:
                    await slow.pause(self.stream, self._why_pausing(pauses, mode), pauses)
                found = await self._in_mode(mode)
                if found is not None:
                    if not mode.tools and not self.called and self.talk.tools:
                        self.stream.note("this model calls no tools: it is asked for plain text from here on")
                        self.talk.tools = False
                    return found
                pauses += 1
            if self.proposed:
                what = f"{self.answers} answers had no proposal that could be used"
                raise ProposalFailed(f"{what}; the last: {self.reason}")

    def _why_pausing(self, pauses: int, mode: AskMode) -> str:
        """What the model did, and what comes next; after every mode, what the person can do."""
        why = f"no usable proposal ({self.reason.partition(chr(10))[0]}); next: {mode.label}"
        if self.talk.trouble:
            return f"{why}; {self.talk.trouble}"
        return f"{why}; {another_model()}" if pauses >= len(MODES) else why

    async def _in_mode(self, mode: AskMode) -> Proposal | None:
        """Ask until a proposal is accepted; None after MAX_RETRIES more unusable answers."""
        toolbox, rounds, wasted = tools.Toolbox(self.brief), 0, 0
        self.last_edits = self.last_calls = None
        self.talk.start(mode, self._refusal(self.reason) if self.reason else "")
        while wasted <= MAX_RETRIES:
            if mode.tools and not self.talk.tools:
                return None  # the server has just rejected tools
            answer = (await self._answer(mode)).with_calls_in_text()
            self.answers += 1
            self.called = self.called or bool(answer.calls)
            try:
                found = await self._proposal(answer, mode)
                if found is not None:
                    return found
                rounds += 1
                results = await self._call_tools(answer.calls, toolbox, rounds)
            except EditError as error:
                wasted += self._count_refusal(error)
                await self._refuse(answer, str(error), mode, toolbox)
                continue
            calls = [(call.name, call.input) for call in answer.calls]
            repeated, self.last_calls = self.last_calls == calls, calls
            if rounds > MAX_TOOL_ROUNDS:
                wasted += self._count_refusal(EditError(f"{rounds} answers with look-ups only"))
            elif repeated:
                wasted += self._count_refusal(EditError(f"the same look-up again: {calls[0][0]}"))
            said = "You have just made this look-up: use its result, and call `propose`." if repeated else ""
            last = "That is the last look-up: call `propose` now." if rounds >= MAX_TOOL_ROUNDS else ""
            self._reply(answer, results, last or said)
        return None

    def _reply(self, answer: ModelAnswer, results: Sequence[ToolResult], text: str) -> None:
        if answer.as_text:
            told = [f"Result of {result.call.name}:\n{result.text}" for result in results]
            self.talk.append([], "\n\n".join(filter(None, [*told, text])))
        else:
            self.talk.append(results, text)

    async def _answer(self, mode: AskMode) -> ModelAnswer:
        """The next answer; a conversation that exceeds the model's context begins anew."""
        try:
            return await self.talk.ask(self.stream)
        except TooLong as error:
            if not self.talk.is_new:
                self.stream.note(f"the conversation has become too long and begins anew: {error}")
            elif self.talk.shorten():
                self.stream.note(f"the brief is too long, and is sent without its read-only files: {error}")
            else:
                raise
            self.talk.start(mode, "An earlier conversation about this became too long: propose after few look-ups.")
            return await self.talk.ask(self.stream)

    # --- an answer with a proposal ---

    async def _proposal(self, answer: ModelAnswer, mode: AskMode) -> Proposal | None:
        """The answer's proposal, checked; None when it calls other tools. Raises EditError, worded for the model."""
        if answer.stop == "declined":
            raise EditError(f"the model declined to answer{': ' + answer.detail if answer.detail else ''}")
        if answer.stop == "cut":
            hint = "think shorter and make smaller edits, not whole files"
            raise EditError("the answer was cut off at its length limit", hint=hint)
        call = next((c for c in answer.calls if c.name == tools.PROPOSE["name"]), None)
        plain: Mapping[str, Any] | None
        if call is not None:
            if call.error:
                raise EditError(call.error, hint="call propose again")
            plain = call.input
        elif answer.calls and mode.tools:
            if not any(call.name in tools.NAMES for call in answer.calls):
                raise tools.no_such_tool(answer.calls[0].name)
            return None
        elif answer.calls and not answer.text.strip():
            what = f"the answer called the tool {answer.calls[0].name!r}, where plain text was asked for"
            raise EditError(what, hint=text_format.NO_PROPOSAL)
        else:
            plain = text_format.read(answer.text, self.brief.files)
            if plain is None:
                self.last_edits = None
                what = "the answer had text only" if answer.text.strip() else "the answer was empty"
                raise EditError(what, hint=tools.NO_PROPOSAL if mode.tools else text_format.NO_PROPOSAL)
        return await self._checked(plain)

    async def _checked(self, plain: Mapping[str, Any]) -> Proposal:
        self.proposed = True
        proposal = proposal_from_plain(plain)
        self.stream.tool(f"propose: {proposal.hypothesis}")
        repeated, self.last_edits = self.last_edits == proposal.edits, proposal.edits
        try:
            await asyncio.to_thread(self.brief.check, proposal)
        except EditError as error:
            if repeated:
                what = f"the same proposal again, with the same error: {error.what}"
                hint = "do not send it again: change the edits, or propose another experiment"
                raise EditError(what, where=error.where, hint=hint) from None
            raise
        return proposal

    # --- an answer with other tool calls ---

    async def _call_tools(self, calls: Sequence[ToolCall], toolbox: tools.Toolbox, rounds: int) -> list[ToolResult]:
        """The results of all calls of one answer, in order."""
        results: list[ToolResult] = []
        for number, call in enumerate(calls, 1):
            try:
                if number > MAX_TOOL_CALLS or rounds > MAX_TOOL_ROUNDS:
                    raise EditError("no more look-ups", hint="call propose now, with your best idea")
                if call.error:
                    raise EditError(call.error, hint=f"call {one_line(call.name, 60)} again")
                dropped = call.name == tools.GIVE_UP["name"]
                text = self._give_up(call) if dropped else await toolbox.call(call.name, call.input, self.stream)
                results.append(ToolResult(call, text))
            except EditError as error:
                results.append(ToolResult(call, bounded(str(error), MAX_REFUSAL_CHARACTERS), refused=True))
        return results

    def _give_up(self, call: ToolCall) -> str:
        """Drop an idea: noted in the notebook, and another one is asked for."""
        why = one_line(str(call.input.get("reason") or "no reason given"), 400)
        self.stream.tool(f"give_up: {why}")
        self.dropped += 1
        try:
            self.brief.notebook.add(f"- given up before experiment {self.brief.experiment}: {why}")
        except EditError as error:
            self.stream.note(error.what)
        if self.dropped >= MAX_IDEAS_DROPPED:
            hint = "call propose, with the simplest change you believe in"
            raise EditError("no more ideas may be dropped for this experiment", hint=hint)
        return "It is noted. Choose another idea and call `propose`."

    # --- an unusable answer ---

    def _count_refusal(self, error: EditError) -> int:
        """Record a refusal; how many retries it costs: two when a proposal fails for the same reason as before."""
        same = error.what == self.reason
        self.reason = error.what
        self.refusals += 1
        self.stream.refused(self.refusals, f"{error.where}: {error.what}" if error.where else error.what)
        return 2 if same and self.last_edits is not None else 1

    async def _refuse(self, answer: ModelAnswer, reason: str, mode: AskMode, toolbox: tools.Toolbox) -> None:
        """Reply with the reason; other tool calls of a complete answer are answered too."""
        text, results = bounded(reason, MAX_REFUSAL_CHARACTERS), list[ToolResult]()
        for call in answer.calls:
            if answer.stop == "end" and call.name != tools.PROPOSE["name"]:
                results += await self._call_tools([call], toolbox, 1)
            else:
                results.append(ToolResult(call, text, refused=True))
        if answer.stop == "declined":
            self.talk.start(mode, self._refusal(reason))
        elif results:
            self._reply(answer, results, "Correct the proposal and call `propose` again.")
        else:
            self.talk.append([], text)

    @staticmethod
    def _refusal(reason: str) -> str:
        return f"An earlier answer could not be used: {bounded(reason, MAX_REFUSAL_CHARACTERS)}"


def with_model(proposal: Proposal, model: str | None) -> Proposal:
    """The proposal with the model's name in `extra`."""
    return replace(proposal, extra={**proposal.extra, "model": model})
