"""Streams as real servers send them, each in its own words: Ollama, vLLM, llama.cpp, OpenRouter, LM Studio, LiteLLM."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.research.llm.providers.openai_shared import ThinkingTags
from tests.research import openai_server
from tests.research.llm.providers.gpt import ask
from tests.research.llm.providers.gpt import environment as environment
from tests.research.support import GOOD, Heard

INPUT = json.dumps(GOOD)
HALF = len(INPUT) // 2
LOOK = '{"path": "train.py"}'


def piece(arguments: Any = None, name: str | None = None, *, index: int | None = 0, id: str | None = "c1") -> Any:
    """The delta of one piece of a tool call."""
    function = {**({"name": name} if name is not None else {}), "arguments": arguments}
    call = {**({"index": index} if index is not None else {}), **({"id": id} if id else {}), "function": function}
    return {"tool_calls": [call]}


def text(*pieces: str) -> list[Any]:
    return [{"content": words} for words in pieces]


PARAMETERS = "".join(
    f"<parameter={key}>\n{value if isinstance(value, str) else json.dumps(value)}\n</parameter>\n"
    for key, value in GOOD.items()
)
INVOKED = PARAMETERS.replace("<parameter=hypothesis>", '<parameter name="hypothesis">')
KEYS_AND_VALUES = "".join(
    f"<arg_key>{key}</arg_key>\n<arg_value>{value if isinstance(value, str) else json.dumps(value)}</arg_value>\n"
    for key, value in GOOD.items()
)

# What a server sends for one call of `propose`, as the deltas of its chunks.
CALLS: dict[str, list[Any]] = {
    "OpenAI: the name first, then pieces without it": [
        piece("", "propose"), piece(INPUT[:HALF], id=None), piece(INPUT[HALF:], id=None)],
    "the name in every piece": [piece("", "propose"), piece("", "propose"), piece(INPUT)],
    "the name in every piece, with input": [piece(INPUT[:HALF], "propose"), piece(INPUT[HALF:], "propose")],
    "the same without an id": [piece(INPUT[:HALF], "propose", id=None), piece(INPUT[HALF:], "propose", id=None)],
    "cumulative input": [piece(INPUT[:9], "propose"), piece(INPUT[:HALF], "propose"), piece(INPUT, "propose")],
    "cumulative without names": [piece(INPUT[:9], "propose"), piece(INPUT[:HALF], id=None), piece(INPUT, id=None)],
    "pieces, and the whole at the end": [piece(INPUT[:HALF], "propose"), piece(INPUT[HALF:]), piece(INPUT)],
    "the whole, twice": [piece(INPUT, "propose"), piece(INPUT, "propose")],
    "an empty object before the pieces": [piece("{}", "propose"), piece(INPUT[:HALF]), piece(INPUT[HALF:])],
    "a name in pieces": [piece("", "pro"), piece("", "pose"), piece(INPUT)],
    "a cumulative name": [piece("", "pro"), piece("", "propose"), piece(INPUT)],
    "a name in the last piece": [piece(INPUT[:HALF]), piece(INPUT[HALF:], "propose")],
    "an id in each piece of its own": [
        piece("", "propose", id="a"), piece(INPUT[:HALF], id="b"), piece(INPUT[HALF:], id="c")],
    "the index counts the pieces": [
        piece("", "propose"), piece(INPUT[:HALF], index=1, id=None), piece(INPUT[HALF:], index=2, id=None)],
    "no index at all": [
        piece("", "propose", index=None), piece(INPUT[:HALF], index=None, id=None),
        piece(INPUT[HALF:], index=None, id=None)],
    "Ollama: whole, input as an object": [piece(GOOD, "propose")],
    "a function call of older servers": [
        {"function_call": {"name": "propose", "arguments": INPUT[:HALF]}},
        {"function_call": {"arguments": INPUT[HALF:]}}],
    "a channel behind the name": [piece(INPUT, "propose<|channel|>commentary")],
    "a role and a channel around the name": [piece(INPUT, "assistant<|channel|>commentary to=functions.propose")],
    "a namespace and a number": [piece(INPUT, "functions.propose:0")],
    "a server's prefix": [piece(INPUT, "mcp__lab__Propose")],
    "in text: Hermes": text("I try it.\n<tool_call>\n", json.dumps({"name": "propose", "arguments": GOOD}),
                            "\n</tool_call>"),
    "in text: parameters as XML": text("<tool_call>\n<function=propose>\n", PARAMETERS, "</function>\n</tool_call>"),
    "in text: invoke": text('<x:tool_call><invoke name="propose">\n', INVOKED, "</invoke></x:tool_call>"),
    "in text: keys and values": text("<tool_call>propose\n", KEYS_AND_VALUES, "</tool_call>"),
    "in text: Mistral": text("[TOOL_CALLS]propose[ARGS]", INPUT),
    "in text: a list behind a token": text("[TOOL_CALLS][", json.dumps({"name": "propose", "arguments": GOOD}), "]"),
    "in text: Llama": text("<|python_tag|>", json.dumps({"name": "propose", "parameters": GOOD})),
    "in text: a function tag": text("<function=propose>", INPUT, "</function>"),
    "in text: Kimi": text("<|tool_call_begin|>functions.propose:0<|tool_call_argument_begin|>", INPUT,
                          "<|tool_call_end|>"),
    "in text: DeepSeek": text("<｜tool▁call▁begin｜>function<｜tool▁sep｜>propose\n```json\n", INPUT, "\n```"),
    "in text: a channel": text("<|channel|>analysis<|message|>A smaller step.<|end|><|start|>assistant<|chan",
                               "nel|>commentary to=functions.propose <|constrain|>json<|message|>", INPUT, "<|call|>"),
    "in thinking only": [
        {"reasoning_content": "So.\n<tool_call>" + json.dumps({"name": "propose", "arguments": GOOD})}],
}  # fmt: skip
LOOKS: dict[str, list[Any]] = {
    "two calls, interleaved": [
        piece("", "read_file", id="a"), piece("", "notes", index=1, id="b"), piece(LOOK[:9], id=None),
        piece('{"action":', index=1, id=None), piece(LOOK[9:], id=None), piece(' "read"}', index=1, id=None)],
    "two whole calls, all with index 0": [
        piece(LOOK, "read_file", id="a"), piece('{"action": "read"}', "notes", id="b")],
    "two whole calls without ids": [
        piece(LOOK, "read_file", id=None), piece('{"action": "read"}', "notes", id=None)],
    "two calls with one id": [piece(LOOK, "read_file"), piece('{"action": "read"}', "notes", index=1)],
    "two calls in text": text(
        "<tool_call>", json.dumps({"name": "read_file", "arguments": {"path": "train.py"}}), "</tool_call>\n",
        '<tool_call>{"name": "notes", "arguments": {"action": "read"}}</tool_call>'),
}  # fmt: skip
PROPOSES = {"deltas": [piece(INPUT, "propose")]}
TEXT = "HYPOTHESIS: LR up\n\ntrain.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n"


CHANNELS = (
    "<|channel|>analysis<|message|>A smaller <step>.<|end|><|start|>assistant<|channel|>final<|message|>I try a < b "
    "and <|endoftext|>.<|return|>"
)


@pytest.mark.parametrize("step", [1, 3, 7, 40, 400])
def test_channels_are_told_apart_at_any_boundary(step: int) -> None:
    tags = ThinkingTags()
    found = [tags.feed(CHANNELS[at : at + step]) for at in range(0, len(CHANNELS), step)] + [tags.rest()]
    thinking, text = ("".join(part) for part in zip(*found, strict=True))
    assert (thinking, text) == ("A smaller <step>.", "I try a < b and <|endoftext|>.")


async def asked(turns: list[Any], heard: Heard, **more: Any) -> tuple[Any, list[Any]]:
    """(proposal, requests) of the researcher `openai` with a server that plays `turns`."""
    with openai_server.Server(turns, **more) as server:
        return await ask(server, heard), server.requests


@pytest.mark.parametrize("deltas", CALLS.values(), ids=CALLS)
async def test_a_call_is_understood_at_once(deltas: list[Any]) -> None:
    heard = Heard()
    proposal, requests = await asked([{"deltas": deltas}, PROPOSES], heard)
    assert proposal.hypothesis == GOOD["hypothesis"] and proposal.edits[0].replace == "LR = 0.2"
    assert len(requests) == 1 and not heard.refusals and not heard.waits
    assert "<|channel|>" not in "".join(heard.texts)


@pytest.mark.parametrize("deltas", LOOKS.values(), ids=LOOKS)
async def test_several_calls_are_told_apart_and_answered(deltas: list[Any]) -> None:
    heard = Heard()
    _, requests = await asked([{"deltas": deltas}, PROPOSES], heard)
    assert [line.split()[0] for line in heard.tools] == ["read_file", "notes", "propose:"] and not heard.refusals
    assert len(requests) == 2 and "WD = 0.5" in json.dumps(requests[1]["messages"][2:])


@pytest.mark.parametrize("deltas", [[piece(INPUT, "submit_it")], [piece("", "")]], ids=["a wrong name", "no name"])
async def test_a_wrong_name_is_told_as_that_and_not_asked_for_ever(deltas: list[Any]) -> None:
    heard = Heard()
    _, requests = await asked([{"deltas": deltas}] * 9 + [PROPOSES], heard)
    assert heard.refusals and all("tool 'submit_it'" in why or "'unnamed'" in why for _, why in heard.refusals)
    assert len(requests) == 10 and len(heard.waits) == 2


async def test_endless_look_ups_are_waited_for_with_their_reason() -> None:
    heard = Heard()
    looks = [{"deltas": [piece(json.dumps({"path": "train.py", "start": n}), "read_file")]} for n in range(28)]
    _, requests = await asked([*looks, PROPOSES], heard)
    assert len(requests) == 29 and "28 answers with look-ups only" in heard.waits[0][0]


async def test_the_same_look_up_again_and_again_is_no_progress() -> None:
    heard = Heard()
    _, requests = await asked([{"deltas": [piece(LOOK, "read_file")]}] * 5 + [PROPOSES], heard)
    assert len(requests) == 6 and "the same look-up again: read_file" in heard.waits[0][0]
    assert "use its result, and call `propose`" in requests[2]["messages"][-1]["content"]


@pytest.mark.parametrize("field", ["stream_options", "max_tokens", "tools"])
async def test_a_complaint_that_names_nothing_takes_out_one_thing_after_the_other(field: str) -> None:
    heard = Heard()
    turn = {"text": TEXT} if field == "tools" else PROPOSES
    manners = openai_server.Manners(refused={field: "invalid params"})
    _, requests = await asked([turn], heard, manners=manners)
    assert field not in requests[-1] and len(requests) <= 6
    assert any("invalid params" in note for note in heard.notes)


@pytest.mark.parametrize("field", ["stream_options", "max_tokens", "tools"])
async def test_only_the_cause_of_a_complaint_that_names_nothing_stays_out(field: str) -> None:
    turn = {"text": TEXT} if field == "tools" else PROPOSES
    with openai_server.Server([turn], repeat=True, manners=openai_server.Manners(refused={field: "no"})) as server:
        await ask(server, Heard(), times=3)
    last = server.requests[-1]
    usual = {"stream_options", "max_tokens", "tools"} - {field}
    assert field not in last and usual <= last.keys() and not any("refused" in r for r in server.requests[-2:])


async def test_a_complaint_of_the_moment_leaves_nothing_out() -> None:
    fault = {"fault": "status", "status": 400, "message": "invalid params"}
    with openai_server.Server([fault, PROPOSES], repeat=True) as server:
        await ask(server, Heard(), times=2)
    first, asked_less, last = server.requests
    assert first.keys() == last.keys() and asked_less.keys() < last.keys()


@pytest.mark.parametrize("path", ["", "/v1/v1", "/v1/chat/completions", "/v1/"])
async def test_an_address_is_put_right(path: str) -> None:
    with openai_server.Server([PROPOSES]) as server:
        assert (await ask(server.url.removesuffix("/v1") + path, Heard())).edits
