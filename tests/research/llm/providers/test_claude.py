"""Claude with the real SDK and a local server of the real protocol: turns, faults, refusals, cost."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.record.errors import ProposalFailed
from core.research.llm.providers.anthropic import ClaudeResearcher
from core.research.llm.retry import Backoff
from tests import ROOT
from tests.research.anthropic_server import Server, events
from tests.research.llm.providers.claude import FAST, ask
from tests.research.llm.providers.claude import environment as environment
from tests.research.support import ANSWER, GOOD, WRONG, Heard, interrupted, ready, until


async def test_thinking_and_text_stream_in_and_the_tool_is_the_proposal() -> None:
    heard = Heard()
    with Server([{**ANSWER, "pings": True, "pieces": 7}]) as server:
        proposal = await ask(server, heard)
    assert proposal.hypothesis == GOOD["hypothesis"] and proposal.expected == -0.01 and proposal.kind == "optimizer"
    assert proposal.extra["model"] == "claude-opus-5-5"
    assert "".join(heard.thoughts) == ANSWER["thinking"] and len(heard.thoughts) > 3
    assert "".join(heard.texts) == ANSWER["text"]
    assert heard.tools[-1] == "propose: LR up: more per step"
    assert not heard.waits and not heard.refusals


async def test_the_request_order_allows_caching() -> None:
    session = ready("claude")
    with Server([ANSWER]) as server:
        await ask(server, Heard(), session, read_files={"README.md": "about\x1b[31m red"}, guidance=("try less",))
    request = server.requests[0]
    assert request["tools"][-1]["name"] == "propose" and "tool_choice" not in request
    assert request["system"][-1]["cache_control"]["ttl"] == "1h" and "Lower it." in request["system"][-1]["text"]
    assert "about red" in request["system"][-1]["text"] and "\x1b" not in json.dumps(request)
    files, task = request["messages"][0]["content"]
    assert "LR = 0.1" in files["text"] and files["cache_control"]["ttl"] == "1h"
    assert "try less" in task["text"] and task["cache_control"] == {"type": "ephemeral"}
    assert request["thinking"] == {"type": "adaptive", "display": "summarized"}


async def test_failed_edits_are_returned_with_the_nearest_lines_and_corrected() -> None:
    heard = Heard()
    with Server([{**ANSWER, "tool": WRONG}, {**ANSWER, "raw_json": '{"hypothesis": '}, ANSWER]) as server:
        proposal = await ask(server, heard)
    assert proposal.edits[0].search == "LR = 0.1"
    assert [attempt for attempt, _ in heard.refusals] == [1, 2]
    assert "1 | LR = 0.1" in heard.refusals[0][1] and "not JSON" in heard.refusals[1][1]
    last = server.requests[2]["messages"]
    assert [m["role"] for m in last] == ["user", "assistant", "user", "assistant", "user"]
    result = last[2]["content"][0]
    assert result["type"] == "tool_result" and result["is_error"] and "1 | LR = 0.1" in result["content"]
    assert last[1]["content"][0]["signature"]  # thinking goes back with its signature


async def test_results_of_parallel_tool_calls_are_sent_in_one_message() -> None:
    heard, session = Heard(), ready("claude")
    calls = [["read_file", {"path": "train.py"}], ["search_code", {"text": "WD"}], ["no_such", {}]]
    usage = {"input_tokens": 10, "cache_read_input_tokens": 990}
    turns = [
        {"thinking": "Let me look.", "tools": calls, "usage": usage},
        {"tools": [["notes", {"action": "add", "text": "LR is small"}]], **ANSWER, "tool": WRONG},
        ANSWER,
    ]
    with Server(turns) as server:
        proposal = await ask(server, heard, session)
    assert proposal.hypothesis == GOOD["hypothesis"] and len(server.requests) == 3
    assert not any("refused" in request for request in server.requests)
    first, second, third = (request["messages"] for request in server.requests)
    results = second[2]["content"]
    assert [r["tool_use_id"] for r in results] == ["toolu_1", "toolu_2", "toolu_3"]
    assert "WD = 0.5" in results[0]["content"] and "train.py:2" in results[1]["content"]
    assert results[2]["is_error"] and "there is no tool" in results[2]["content"]
    # Earlier messages are unchanged, so that the cache applies; only the mark moves to the end.
    assert plain(second)[: len(first)] == plain(first) and plain(third)[: len(second)] == plain(second)
    assert "cache_control" in results[-1] and "cache_control" in third[-1]["content"][-1]
    # A look-up sent with a refused proposal is answered too.
    assert "LR is small" in third[4]["content"][0]["content"] and third[4]["content"][1]["is_error"]
    assert " ".join(t.split()[0] for t in heard.tools) == "read_file search_code no_such: propose: notes propose:"
    charged = heard.usages[0]
    assert (charged.input_tokens, charged.output_tokens, charged.cached_tokens) == (10, 200, 990)
    assert charged.usd == pytest.approx((10 * 4 + 200 * 20 + 990 * 0.2) / 1e6)


def plain(messages: Any) -> Any:
    """Messages without their cache marks."""
    if isinstance(messages, dict):
        return {k: plain(v) for k, v in messages.items() if k != "cache_control"}
    return [plain(m) for m in messages] if isinstance(messages, list) else messages


async def test_an_idea_can_be_abandoned_and_endless_lookups_are_ended() -> None:
    heard, session = Heard(), ready("claude")
    looks = [{"tools": [["search_code", {"text": f"LR{n}"}]]} for n in range(24)]
    given_up = {"tools": [["give_up", {"reason": "WD has no effect here"}]]}
    with Server([given_up, *looks, ANSWER]) as server:
        brief = session.brief(1)
        os.environ["ANTHROPIC_BASE_URL"] = server.url
        researcher = ClaudeResearcher(backoff=FAST)
        assert (await researcher.propose(brief, heard)).edits
        await researcher.close()
    assert "WD has no effect here" in brief.notebook.read() and heard.tools[0] == "give_up: WD has no effect here"
    assert "last look-up" in server.requests[24]["messages"][-1]["content"][-1]["text"]
    assert "no more look-ups" in server.requests[25]["messages"][-1]["content"][0]["content"]


NO_USE: list[tuple[dict[str, Any], str]] = [
    ({"text": "I would raise the learning rate."}, "text only"),
    ({}, "empty"),
    ({"thinking": "Let me see."}, "empty"),
    ({**ANSWER, "raw_json": "[1, 2]"}, "not a JSON object"),
    ({**ANSWER, "tool": {**GOOD, "hypothesis": ""}}, "hypothesis"),
    ({**ANSWER, "tool": {"hypothesis": "h"}}, "edits"),
    ({**ANSWER, "tool": {**GOOD, "edits": [{"path": "../x.py", "content": "X"}]}}, "outside the project"),
    ({**ANSWER, "tool": {**GOOD, "edits": [{"path": "train.py", "content": "x=1\n" * 600_000}]}}, "2,000,000"),
    ({"thinking": "long", "raw_json": '{"hypo', "stop_reason": "max_tokens"}, "cut off"),
    ({"text": "No.", "stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "why"}},
     "declined to answer: why"),
]  # fmt: skip


@pytest.mark.parametrize(("turn", "words"), NO_USE)
async def test_an_unusable_answer_is_requested_again(turn: dict[str, Any], words: str) -> None:
    heard = Heard()
    with Server([turn, ANSWER]) as server:
        assert (await ask(server, heard)).hypothesis == GOOD["hypothesis"]
    assert len(heard.refusals) == 1 and words in heard.refusals[0][1]
    assert not any("refused" in request for request in server.requests)


@pytest.mark.parametrize("turn", [{"text": "Let us consider the learning rate."}, {}, NO_USE[-1][0]])
async def test_a_model_that_makes_no_proposal_is_asked_repeatedly(turn: dict[str, Any]) -> None:
    """The model proposes at the third request."""
    heard = Heard()
    with Server([turn] * 29 + [ANSWER]) as server:
        assert (await ask(server, heard)).hypothesis == GOOD["hypothesis"]
    asked = server.requests
    assert len(asked) == 30 and not any("refused" in request for request in asked)
    assert [bool(r.get("thinking")) for r in asked[:12]] == [True] * 4 + [False] * 4 + [True] * 4
    assert all("tools" in r for r in asked[:8]) and not any("tools" in r for r in asked[8:12])
    assert "SEARCH" in json.dumps(asked[8]["messages"])
    assert {turn for _, _, turn in heard.waits} == set(range(1, 8)) and "next: in plain text" in heard.waits[1][0]
    assert [attempt for attempt, _ in heard.refusals] == list(range(1, 30))


async def test_repeated_invalid_proposals_fail_the_proposal() -> None:
    heard = Heard()
    with (
        Server([{**ANSWER, "tool": WRONG}], repeat=True) as server,
        pytest.raises(ProposalFailed, match="could be used"),
    ):
        await ask(server, heard)
    # A model that repeats itself gets the other request earlier.
    assert len(server.requests) == len(heard.refusals) < 12 and "the same proposal again" in heard.refusals[1][1]


async def test_a_proposal_in_plain_text_is_accepted() -> None:
    heard = Heard()
    text = (
        "HYPOTHESIS: LR up\nEXPECTED: -0.02\nKIND: optimizer\n\ntrain.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n"
    )
    with Server([{"text": text + ">>>>>>> REPLACE\n"}]) as server:
        proposal = await ask(server, heard)
    assert (proposal.hypothesis, proposal.expected, proposal.kind) == ("LR up", -0.02, "optimizer")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"fault": "status", "status": 429, "code": "rate_limit_error", "retry_after": 0}, "rate limit"),
        ({"fault": "status", "status": 529, "code": "overloaded_error"}, "overloaded"),
        ({"fault": "status", "status": 500}, "api"),
        ({"fault": "status", "status": 503}, "api"),
        ({"fault": "status", "status": 408, "code": "timeout_error"}, "timeout"),
        ({"fault": "status", "status": 400, "code": "invalid_request_error",
          "message": "You have reached your API usage limits. You will regain access on 2026-01-01 at 00:00 UTC."},
         "usage limit"),
        ({"fault": "html"}, "text/html"),
        ({"fault": "error", "after": 4, **ANSWER}, "overloaded"),
        ({"fault": "error", "after": 0, "code": "api_error"}, "api"),
        ({"fault": "garbage", "after": 3, **ANSWER}, "malformed"),
        ({"fault": "hang", "after": 5, "seconds": 10, **ANSWER}, "timed out"),
    ],
)  # fmt: skip
async def test_a_temporary_fault_is_retried_and_shown(fault: dict[str, Any], words: str) -> None:
    heard = Heard()
    with Server([fault, fault, ANSWER]) as server:
        proposal = await ask(server, heard, read_seconds=0.5 if fault["fault"] == "hang" else 20.0)
    assert proposal.hypothesis == GOOD["hypothesis"]
    assert [attempt for _, _, attempt in heard.waits] == [1, 2]
    assert all(words in reason for reason, _, _ in heard.waits), heard.waits


@pytest.mark.parametrize("fault", ["cut", "end"])
async def test_a_stream_cut_at_any_boundary_is_requested_again(fault: str) -> None:
    """Not every gateway sends the end of the message: where the body ends properly, the reason before it is enough."""
    count = len(list(events(ANSWER))) - (fault == "end")
    session = ready("claude")
    turns = [{**ANSWER, "fault": fault, "after": n} for n in range(count)]
    heard = Heard()
    with Server([*turns, {**ANSWER, "fault": fault, "after": count} if fault == "end" else ANSWER]) as server:
        proposal = await ask(server, heard, session)
    assert proposal.hypothesis == GOOD["hypothesis"] and not heard.refusals
    assert len(heard.waits) == count and all("broke off" in reason for reason, _, _ in heard.waits), heard.waits
    assert len(heard.usages) == count  # every stream that began is charged


async def test_waiting_for_a_missing_endpoint_can_be_cancelled() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        heard = Heard()
        task = asyncio.create_task(ask(url, heard, backoff=Backoff(base=0.01, cap=30.0)))
        await until(lambda: len(heard.waits) >= 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(heard.waits) >= 3 and "cannot be reached" in heard.waits[0][0] and url in heard.waits[0][0]


async def test_a_stream_can_be_interrupted_and_requested_again() -> None:
    session = ready("claude")
    with Server([{**ANSWER, "delay": 0.2, "pieces": 50}, ANSWER]) as server:
        os.environ["ANTHROPIC_BASE_URL"] = server.url
        researcher = ClaudeResearcher(backoff=FAST)
        heard = Heard()
        await interrupted(researcher, session, heard)
        assert heard.usages[0].input_tokens == 1000  # the part that began is charged
        assert (await researcher.propose(session.brief(1, guidance=("now this",)), Heard())).edits
        await researcher.close()
    assert "now this" in server.requests[1]["messages"][0]["content"][1]["text"]


async def test_retry_after_is_respected_and_the_wait_is_shown() -> None:
    heard, started = Heard(), time.monotonic()
    fault = {"fault": "status", "status": 429, "code": "rate_limit_error", "retry_after": 0.35}
    with Server([fault, ANSWER]) as server:
        await ask(server, heard)
    assert time.monotonic() - started >= 0.35
    assert len(heard.waits) == 4 and all(seconds <= 0.1 for _, seconds, _ in heard.waits)
    assert "left" in heard.waits[0][0]


def test_the_server_runs_as_a_program(tmp_path: Path) -> None:
    """As other tests start it: one turn per line, and the port in a file."""
    script, port = tmp_path / "turns.jsonl", tmp_path / "port"
    script.write_text(json.dumps(ANSWER) + "\n")
    options = ["--script", str(script), "--port-file", str(port)]
    process = subprocess.Popen([sys.executable, "-m", "tests.research.anthropic_server", *options], cwd=ROOT)
    try:
        deadline = time.monotonic() + 200
        while not port.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        proposal = asyncio.run(ask(f"http://127.0.0.1:{port.read_text()}", Heard()))
        assert proposal.hypothesis == GOOD["hypothesis"]
    finally:
        process.terminate()
        process.wait(10)


async def test_blocks_that_a_gateway_interleaves_are_told_apart() -> None:
    heard = Heard()
    notes, file = ["notes", {"action": "read"}], ["read_file", {"path": "train.py"}]
    look = {"tools": [file, notes], "interleaved": True}
    with Server([look, {**ANSWER, "tools": [notes], "interleaved": True}]) as server:
        assert (await ask(server, heard)).hypothesis == GOOD["hypothesis"]
    assert not heard.refusals and len(server.requests) == 2
