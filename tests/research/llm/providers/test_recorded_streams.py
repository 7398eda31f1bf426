"""Whole streams as Ollama, vLLM, llama.cpp, OpenRouter, LM Studio and LiteLLM send them, made after their documents and
the reports of their users: each is understood at the first request.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from core.record.errors import ResearcherMisconfigured
from tests.research import anthropic_server, openai_server
from tests.research.llm.providers import claude
from tests.research.llm.providers.gpt import ask
from tests.research.llm.providers.gpt import environment as environment
from tests.research.support import GOOD, Heard, variables

INPUT = json.dumps(GOOD)
A, B, C = INPUT[:20], INPUT[20:70], INPUT[70:]
THOUGHT = "A smaller step."
DONE = "data: [DONE]"
USAGE = {"prompt_tokens": 2300, "completion_tokens": 90, "total_tokens": 2390}


def chunk(delta: Any, finish: str | None = None, *, index: int = 0, **more: Any) -> Any:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


def call(arguments: Any = None, name: str | None = None, *, index: Any = 0, id: str | None = None, **more: Any) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    place = {} if index is None else {"index": index}
    return {"tool_calls": [{**place, **({"id": id} if id else {}), "function": function, **more}]}


def counted(**more: Any) -> Any:
    return {**chunk({}), "choices": [], "usage": USAGE, **more}


ROLE = {"role": "assistant", "content": ""}
OLLAMA: dict[str, Any] = {"system_fingerprint": "fp_ollama"}
OLLAMA_CALL = {**ROLE, **call(INPUT, "propose", id="call_ab12", type="function")}
VLLM: dict[str, Any] = {"logprobs": None, "stop_reason": None, "token_ids": None}
ROUTER: dict[str, Any] = {"provider": "Some"}
LITELLM = {"provider_specific_fields": None, "refusal": None, "function_call": None, "audio": None, "tool_calls": None}
STREAMS: dict[str, list[Any]] = {
    "Ollama: thinking as `reasoning`, a whole call, the role in every chunk": [
        chunk({**ROLE, "reasoning": "A smaller"}, **OLLAMA), chunk({**ROLE, "reasoning": " step."}, **OLLAMA),
        chunk(OLLAMA_CALL, **OLLAMA), chunk(ROLE, "tool_calls", **OLLAMA), counted(**OLLAMA), DONE],
    "Ollama before 0.5: no index, and `stop` after a call": [
        chunk({**ROLE, "content": f"<think>{THOUGHT}</think>\n"}),
        chunk({**ROLE, **call(INPUT, "propose", index=None, id="call_1", type="function")}),
        chunk(ROLE, "stop"), counted(), DONE],
    "vLLM: a call without arguments first, then pieces without ids": [
        chunk(ROLE, **VLLM), chunk({"reasoning_content": THOUGHT}, **VLLM), chunk({"content": "\n\n"}, **VLLM),
        chunk(call(None, "propose", id="chatcmpl-tool-1", type="function")),
        chunk(call(A)), chunk(call(B)), chunk(call(C)), chunk({"content": ""}, "tool_calls", **VLLM), counted(), DONE],
    "vLLM: `reasoning` beside `reasoning_content`, counts in every chunk": [
        chunk(ROLE, usage={**USAGE, "completion_tokens": 0}),
        chunk({"reasoning": THOUGHT, "reasoning_content": THOUGHT}, usage={**USAGE, "completion_tokens": 4}),
        chunk(call("", "propose", id="call_1", type="function"), usage={**USAGE, "completion_tokens": 9}),
        chunk(call(INPUT), usage=USAGE), chunk({}, "tool_calls", usage=USAGE), counted(), DONE],
    "vLLM without a parser: Hermes in the text": [
        chunk(ROLE), chunk({"content": f"<think>\n{THOUGHT}\n</think>\n\n<tool_call>\n"}),
        chunk({"content": json.dumps({"name": "propose", "arguments": GOOD})}), chunk({"content": "\n</tool_call>"}),
        chunk({"content": ""}, "stop", **VLLM), counted(), DONE],
    "llama.cpp: null content, an opening brace, timings": [
        chunk({"role": "assistant", "content": None}, system_fingerprint="b9554-d403"),
        chunk({"reasoning_content": THOUGHT}),
        chunk(call("{", "propose", id="S1vm", type="function")), chunk(call(INPUT[1:40])), chunk(call(INPUT[40:])),
        chunk({}, "tool_calls"), counted(timings={"cache_n": 7, "prompt_n": 10, "predicted_n": 90}), DONE],
    "llama.cpp: no token counts, and nothing after the reason": [
        chunk({"role": "assistant", "content": None}), chunk({"reasoning_content": THOUGHT}),
        chunk(call(INPUT, "propose", id="x")), chunk({}, "tool_calls")],
    "OpenRouter: comments, reasoning with details, counts beside an empty choice": [
        ": OPENROUTER PROCESSING", ": OPENROUTER PROCESSING",
        chunk({**ROLE, "reasoning": THOUGHT, "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]}),
        ": OPENROUTER PROCESSING",
        chunk({**ROLE, "content": None, **call("", "propose", id="tool_0", type="function")}, **ROUTER),
        chunk({**ROLE, "content": None, **call(A)}), chunk({**ROLE, "content": None, **call(B + C)}, **ROUTER),
        chunk(ROLE, "tool_calls", native_finish_reason="tool_use", **ROUTER),
        chunk(ROLE, usage={**USAGE, "cost": 0.01}, **ROUTER), DONE],
    "LM Studio: the type in every piece, nothing but the reason at the end": [
        chunk({"role": "assistant", "reasoning_content": THOUGHT}, system_fingerprint="qwen3"),
        chunk({"role": "assistant", **call("", "propose", id="365174485", type="function")}),
        chunk(call(A, type="function")), chunk(call(B, type="function")), chunk(call(C, type="function")),
        chunk({}, "tool_calls"), counted(), DONE],
    "LM Studio: a call in its own syntax, left in the text": [
        chunk({"role": "assistant", "content": f"<think>{THOUGHT}</think>I try it. [TOOL_REQUEST]"}),
        chunk({"content": json.dumps({"name": "propose", "arguments": GOOD}) + "[END_TOOL_REQUEST]"}),
        chunk({}, "stop"), DONE],
    "LiteLLM: the block of Bedrock as the choice, a call that begins at one": [
        chunk({**LITELLM, "role": "assistant", "reasoning_content": THOUGHT, "content": "",
               "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}]}),
        chunk({**LITELLM, **call("", "propose", index=1, id="tooluse_1", type="function")}, index=1),
        chunk({**LITELLM, **call(A, index=1, type="function")}, index=1),
        chunk({**LITELLM, **call(B + C, index=1, type="function")}, index=1), chunk({**LITELLM}, "tool_calls"),
        {**chunk({}), "usage": USAGE}, DONE],
    "LiteLLM before Ollama: an object, an id in every chunk, `end_turn`": [
        {**chunk({**LITELLM, "role": "assistant", "reasoning_content": THOUGHT}), "id": "chatcmpl-2"},
        {**chunk({**LITELLM, **call(GOOD, "propose", id="5c1f", type="function")}), "id": "chatcmpl-3"},
        chunk({**LITELLM}, "end_turn"), {**chunk({}), "usage": USAGE}, DONE],
    "a gateway: null choices, a null delta, an empty reason, pings": [
        {**chunk({}), "choices": None}, ": ping", chunk(None), chunk({"thinking": THOUGHT}, ""),
        chunk({**call(INPUT, "propose"), "content": None}, ""), chunk({}, "function_call"),
        {**chunk({}), "choices": None, "usage": USAGE}, DONE],
    "a gateway without a reason, without counts": [
        chunk({"reasoning": THOUGHT}), chunk(call(A, "propose", id="c")), chunk(call(B + C)), DONE],
}  # fmt: skip


async def asked(turns: list[Any], heard: Heard, **more: Any) -> tuple[Any, list[Any]]:
    with openai_server.Server(turns, **more) as server:
        async with asyncio.timeout(30):  # what is not understood is asked for again without end
            return await ask(server, heard), server.requests


@pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
async def test_a_stream_is_understood_at_once(events: list[Any]) -> None:
    heard = Heard()
    proposal, requests = await asked([{"events": events}], heard)
    assert proposal.hypothesis == GOOD["hypothesis"] and proposal.edits[0].replace == "LR = 0.2"
    assert len(requests) == 1 and not heard.refusals and not heard.waits and not heard.warnings
    assert "".join(heard.thoughts).strip() == THOUGHT
    shown = "".join(heard.texts)
    assert THOUGHT not in shown and "think>" not in shown
    if "usage" in json.dumps(events):
        assert heard.usages[-1].input_tokens == 2300 and heard.usages[-1].output_tokens == 90


def failed(error: Any) -> list[Any]:
    return [chunk(ROLE), chunk({"content": "I "}), error]


FAULTS: dict[str, tuple[list[Any], str]] = {
    "Ollama: the runner has ended": (
        failed({"error": {"message": "model runner has unexpectedly stopped", "type": "api_error", "code": None}}),
        "model runner has unexpectedly stopped"),
    "Ollama: a bare text": (failed({"error": "unexpected EOF"}), "unexpected EOF"),
    "vLLM: an error object": (
        failed({"object": "error", "message": "EngineCore has died", "type": "InternalServerError", "code": 500}),
        "EngineCore has died"),
    "OpenRouter: the provider has gone": (
        failed({**chunk(ROLE, "error"), "error": {"code": "server_error", "message": "Provider disconnected"}}),
        "Provider disconnected"),
    "LM Studio: an event of its own": (
        failed('event: error\ndata: {"error": {"message": "The model has crashed without additional information"}}'),
        "The model has crashed"),
    "llama.cpp: the line is cut": (failed(chunk(call("{", "propose", id="x"))), "broke off"),
}  # fmt: skip


@pytest.mark.parametrize(("events", "words"), FAULTS.values(), ids=FAULTS)
async def test_an_error_in_mid_stream_is_waited_for_with_its_words(events: list[Any], words: str) -> None:
    heard = Heard()
    good = {"events": STREAMS["a gateway without a reason, without counts"]}
    proposal, requests = await asked([{"events": events}, good], heard)
    assert proposal.edits and len(requests) == 2 and not heard.refusals
    assert len(heard.waits) == 1 and words in heard.waits[0][0]


TEXT = "HYPOTHESIS: LR up\n\ntrain.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n"
NO_TOOLS = {
    "Ollama": (400, "registry.ollama.ai/library/gemma3:4b does not support tools"),
    "llama.cpp": (500, "tools param requires --jinja flag"),
    "llama.cpp of spring 2025": (500, "Cannot use tools with stream"),
    "vLLM": (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    "OpenRouter": (404, "No endpoints found that support tool use."),
}


@pytest.mark.parametrize(("status", "message"), NO_TOOLS.values(), ids=NO_TOOLS)
async def test_a_model_without_tools_is_asked_for_text(status: int, message: str) -> None:
    heard = Heard()
    fault = {"fault": "status", "status": status, "message": message, "code": None}
    proposal, requests = await asked([fault, {"text": TEXT}], heard)
    assert proposal.edits and len(requests) == 2 and "tools" not in requests[1] and not heard.waits


NO_SYSTEM = {
    "vLLM with Gemma": (400, "System role not supported"),
    "llama.cpp with Gemma": (500, "Jinja Exception: System role not supported"),
    "vLLM with an older Mistral": (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    "TGI": (422, "Template error: Only user and assistant roles are supported!"),
}


@pytest.mark.parametrize(("status", "message"), NO_SYSTEM.values(), ids=NO_SYSTEM)
async def test_a_template_without_a_system_role_gets_the_instructions_in_the_first_message(
    status: int, message: str
) -> None:
    heard = Heard()
    fault = {"fault": "status", "status": status, "message": message, "code": None}
    proposal, requests = await asked([fault, {"text": TEXT}], heard)
    assert proposal.edits and len(requests) == 2 and not heard.waits
    before, after = requests[0]["messages"], requests[1]["messages"]
    assert [m["role"] for m in after] == ["user"] and "tools" in requests[1]
    assert before[0]["role"] == "system" and before[0]["content"] in after[0]["content"]


TOO_LONG: dict[str, Any] = {
    "llama.cpp": {"code": 400, "message": "the request exceeds the available context size. try increasing it",
                  "type": "exceed_context_size_error", "n_prompt_tokens": 1407, "n_ctx": 256},
    "llama.cpp of summer 2025": {"code": 500, "message": "the request exceeds the available context size",
                                 "type": "exceed_context_size_error"},
    "vLLM": {"code": 400, "type": "BadRequestError", "param": None,
             "message": "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens"},
    "LM Studio": {"message": "Context size has been exceeded."},
}  # fmt: skip


@pytest.mark.parametrize("where", ["status", "answer", "stream"])
@pytest.mark.parametrize("error", TOO_LONG.values(), ids=TOO_LONG)
async def test_a_prompt_that_is_too_long_is_told_with_the_setting(error: Any, where: str) -> None:
    """Also from a server that sends it with status 200."""
    status = error.get("code", 500) if where == "status" else 200
    turn = (
        {"events": [{"error": error}]}
        if where == "stream"
        else {"fault": "raw", "status": status, "raw": {"error": error}}
    )
    with pytest.raises(ResearcherMisconfigured) as caught:
        await asked([turn], Heard(), repeat=True)
    assert "the request is refused: " in caught.value.what and error["message"][:30] in caught.value.what
    assert "`read` files" in caught.value.hint and "a longer context" in caught.value.hint


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
async def test_an_answer_that_was_cut_off_is_told_as_that(reason: str) -> None:
    heard = Heard()
    cut = {"events": [chunk(ROLE), chunk(call(A, "propose", id="c")), chunk({}, reason), DONE]}
    _, requests = await asked([cut, {"tool": GOOD}], heard)
    assert len(requests) == 2 and "cut off at its length limit" in heard.refusals[0][1]


# --- gateways that speak Anthropic's protocol -------------------------------------------------------

START: dict[str, Any] = {"type": "message_start", "message": {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
    "usage": {"input_tokens": 0, "output_tokens": 0}}}  # fmt: skip
USED = {"input_tokens": 2300, "output_tokens": 90}
STOP = {"type": "message_stop"}


def begun(index: int, kind: str, **more: Any) -> Any:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **more}}


def tool(index: int) -> Any:
    return begun(index, "tool_use", id="toolu_1", name="propose", input={})


def piece(index: int, kind: str, **more: Any) -> Any:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def given(index: int, text: str) -> Any:
    return piece(index, "input_json_delta", partial_json=text)


def ended(reason: str = "tool_use", **usage: Any) -> Any:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage or USED}


THINKING = piece(0, "thinking_delta", thinking=THOUGHT)
GATEWAYS: dict[str, list[Any]] = {
    "LiteLLM: message_start twice, thinking in a block of text": [
        START, START, begun(0, "text", text=""), THINKING, {"type": "content_block_stop", "index": 0},
        tool(1), given(1, A), given(1, B + C), {"type": "content_block_stop", "index": 1}, ended(), STOP],
    "LiteLLM before Ollama: the whole input, `end_turn`": [
        START, begun(0, "thinking", thinking="", signature=""), THINKING, begun(1, "text", text=""),
        tool(2), given(2, INPUT), ended("end_turn"), STOP],
    "blocks that alternate": [
        START, begun(0, "thinking", thinking="", signature=""), tool(1), given(1, A), THINKING, given(1, B),
        given(1, C), ended(), STOP],
    "a block that nobody has begun": [START, THINKING, tool(1), given(1, INPUT), ended(), STOP],
    "input with the start of its block": [
        START, begun(0, "thinking", thinking=THOUGHT), begun(1, "tool_use", id="t", name="propose", input=GOOD),
        ended(), STOP],
    "the end of the message is missing": [
        START, begun(0, "thinking", thinking="", signature=""), THINKING, tool(1), given(1, INPUT), ended()],
    "no counts in its delta": [
        {**START, "message": {**START["message"], "usage": USED}},
        begun(0, "thinking", thinking="", signature=""), THINKING, tool(1), given(1, INPUT),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, STOP],
}  # fmt: skip


@pytest.mark.parametrize("events", GATEWAYS.values(), ids=GATEWAYS)
async def test_a_gateway_is_understood_at_once(events: list[Any]) -> None:
    heard = Heard()
    server = anthropic_server.Server([{"events": events}])
    with server, variables(ANTHROPIC_API_KEY=server.key):
        async with asyncio.timeout(30):
            proposal = await claude.ask(server, heard)
    assert proposal.edits[0].replace == "LR = 0.2" and len(server.requests) == 1
    assert not heard.waits and not heard.refusals and "".join(heard.thoughts) == THOUGHT
    assert heard.usages[-1].input_tokens == 2300 and heard.usages[-1].output_tokens == 90
