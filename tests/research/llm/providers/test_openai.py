"""GPT and compatible servers with the real SDK and a local server of both protocols."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.record.errors import ResearcherMisconfigured
from core.record.proposal import Usage
from core.research.llm.providers import openai as module
from core.research.llm.providers.openai import OpenAIResearcher, choose
from core.research.llm.providers.openai_shared import ThinkingTags, without_thinking
from tests.research.llm.providers.gpt import FAST, ask
from tests.research.llm.providers.gpt import environment as environment
from tests.research.openai_server import Manners, Server, chat_events, responses_events
from tests.research.support import ANSWER, GOOD, WRONG, Heard, interrupted, ready, until

LOOK: dict[str, Any] = {
    "thinking": "Let me look.",
    "tools": [["read_file", {"path": "train.py"}], ["search_code", {"text": "WD"}]],
}
TEXT = "HYPOTHESIS: LR up\nKIND: optimizer\n\ntrain.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n"
DIALECTS = pytest.mark.parametrize("dialect", ["chat", "responses"], indirect=True)


@pytest.fixture
def dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """For `responses` the address of the local server counts as that of OpenAI."""
    if request.param == "responses":
        monkeypatch.setattr(module, "OPENAI_HOSTS", ("127.0.0.1",))
    return str(request.param)


@DIALECTS
async def test_thinking_tools_and_the_proposal(dialect: str) -> None:
    heard = Heard()
    usage = {"prompt_tokens": 3000, "prompt_tokens_details": {"cached_tokens": 2000}, "input_tokens": 3000,
             "input_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 500}}  # fmt: skip
    wrong = {**ANSWER, "tools": [["notes", {"action": "read"}]], "tool": WRONG}
    with Server([{**LOOK, "usage": usage}, wrong, ANSWER], models=["gpt-5.5"]) as server:
        proposal = await ask(server, heard)
    assert proposal.hypothesis == GOOD["hypothesis"] and proposal.extra["model"] == "gpt-5.5"
    assert "".join(heard.thoughts) == LOOK["thinking"] + 2 * str(ANSWER["thinking"])
    assert "".join(heard.texts) == 2 * str(ANSWER["text"])
    assert [t.split()[0] for t in heard.tools] == ["read_file", "search_code", "propose:", "notes", "propose:"]
    assert "1 | LR = 0.1" in heard.refusals[0][1] and not heard.waits
    first, second, third = server.requests
    assert len(server.requests) == 3 and first["path"].endswith(dialect if dialect == "responses" else "completions")
    key = "input" if dialect == "responses" else "messages"
    assert third[key][: len(second[key])] == second[key] and second[key][: len(first[key])] == first[key]  # is cached
    sent = json.dumps(second[key])
    assert "WD = 0.5" in sent and ("c2VjcmV0" in sent) == (dialect == "responses")
    written = 500 if dialect == "responses" else 0
    usd = ((1000 - written) * 5 + written * 6.25 + 2000 * 0.5 + 200 * 30) / 1e6
    assert (
        replace(heard.usages[0], usd=None) == Usage(input_tokens=1000, output_tokens=200, cached_tokens=2000)
        and len(heard.usages) == 3
    )
    assert heard.usages[0].usd == pytest.approx(usd)


@DIALECTS
@pytest.mark.parametrize("fault", ["cut", "end"])
async def test_a_stream_cut_at_any_boundary_is_requested_again(dialect: str, fault: str) -> None:
    """After the end of the answer only the token count is missing, which costs no second request; nor does the reason
    of its end where the body ends properly, since not every server sends one.
    """
    made = list(responses_events(ANSWER) if dialect == "responses" else chat_events(ANSWER, Manners()))
    last = len(made) if dialect == "responses" else len(made) - (2 if fault == "end" else 1)
    turns = [{**ANSWER, "fault": fault, "after": n} for n in range(last)]
    heard = Heard()
    with Server([*turns, ANSWER]) as server:
        proposal = await ask(server, heard)
    assert proposal.hypothesis == GOOD["hypothesis"] and not heard.refusals
    assert len(heard.waits) == last and all("broke off" in reason for reason, _, _ in heard.waits), heard.waits
    heard = Heard()
    if dialect == "chat":
        with Server([{**ANSWER, "fault": fault, "after": last}]) as server:
            assert (await ask(server, heard)).hypothesis == GOOD["hypothesis"]
        assert not heard.waits and heard.usages == [Usage(input_tokens=0, output_tokens=0, cached_tokens=0, usd=None)]


@DIALECTS
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"fault": "status", "status": 429, "code": "rate_limit_exceeded", "retry_after": 0.01}, "rate limit"),
        ({"fault": "status", "status": 429, "code": "insufficient_quota", "message": "You exceeded your current quota"},
         "usage limit"),
        ({"fault": "status", "status": 529}, "overloaded"),
        ({"fault": "status", "status": 503}, "HTTP 503: as scripted"),
        ({"fault": "html"}, "text/html"),
        ({"fault": "error", "after": 4, **ANSWER}, "ended with an error"),
        ({"fault": "garbage", "after": 3, **ANSWER}, "malformed"),
        ({"fault": "hang", "after": 3, "seconds": 10, **ANSWER}, "silent"),
    ],
)  # fmt: skip
async def test_a_temporary_fault_is_retried_and_shown(dialect: str, fault: dict[str, Any], words: str) -> None:
    heard = Heard()
    with Server([fault, fault, ANSWER]) as server:
        proposal = await ask(server, heard, read_seconds=0.4 if fault["fault"] == "hang" else 20.0)
    assert proposal.hypothesis == GOOD["hypothesis"]
    assert [attempt for _, _, attempt in heard.waits] == [1, 2]
    assert all(words in reason for reason, _, _ in heard.waits), heard.waits


async def test_a_retry_after_of_hours_is_respected() -> None:
    heard = Heard()
    with Server([{"fault": "status", "status": 429, "code": "rate_limit_exceeded", "retry_after": 7200}]) as server:
        task = asyncio.create_task(ask(server, heard))
        await until(lambda: heard.waits)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "left" in heard.waits[0][0] and "2h00m" in heard.waits[0][0] and heard.waits[0][1] == 1.0


@DIALECTS
@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"text": "I would raise the learning rate."}, "text only"),
        ({}, "empty"),
        ({**ANSWER, "tool_name": "run_bash"}, "no tool 'run_bash'"),
        ({**ANSWER, "raw_json": '{"hypothesis": '}, "not JSON"),
        ({**ANSWER, "tool": {"hypothesis": "h"}}, "edits"),
        ({**ANSWER, "tool": {**GOOD, "edits": [{"path": "train.py", "content": "x=1\n" * 600_000}]}}, "2,000,000"),
        ({"thinking": "long", "raw_json": '{"hypo', "finish": "length"}, "cut off"),
        ({"text": "No.", "finish": "content_filter"}, "declined"),
    ],
)
async def test_an_unusable_answer_is_requested_again(dialect: str, turn: dict[str, Any], words: str) -> None:
    heard = Heard()
    with Server([turn, ANSWER]) as server:
        assert (await ask(server, heard)).hypothesis == GOOD["hypothesis"]
    assert not any("refused" in request for request in server.requests)
    assert len(heard.refusals) == bool(words) and (not words or words in heard.refusals[0][1])


@pytest.mark.parametrize(
    "manners",
    [
        Manners(thinking="reasoning"),
        Manners(thinking="tags"),
        Manners(thinking="parts"),
        Manners(whole_calls=True),
        Manners(whole_calls=True, objects=True),
        Manners(whole_calls=True, streams=False),
        Manners(finishes=False),
        Manners(usage=False),
        Manners(refused={"stream_options": "unknown field stream_options"}),
        Manners(refused={"max_tokens": "Unsupported parameter: use max_completion_tokens instead"}),
        Manners(refused={"max_tokens": '[{"type": "extra_forbidden", "loc": ["body", "max_tokens"]}]'}),
        Manners(chat_tools=False),
    ],
)
async def test_differences_between_servers_are_handled(manners: Manners) -> None:
    heard = Heard()
    with Server([LOOK, ANSWER], manners=manners) as server:
        proposal = await ask(server, heard)
    assert proposal.hypothesis == GOOD["hypothesis"] and len(heard.tools) == 3
    assert "".join(heard.thoughts).replace("\n", "") == LOOK["thinking"] + str(ANSWER["thinking"])
    assert "think>" not in "".join(heard.texts) and not heard.waits and not heard.refusals
    assert len([r for r in server.requests if "refused" in r]) == (
        1 if manners.refused or not manners.chat_tools else 0
    )


@pytest.mark.parametrize(
    "complaint",
    ["registry.ollama.ai/library/tiny does not support tools",
     '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'],
)  # fmt: skip
async def test_a_model_without_tools_is_asked_for_plain_text(complaint: str) -> None:
    heard = Heard()
    with Server([{"text": TEXT}], repeat=True, manners=Manners(tools=complaint)) as server:
        proposal = await ask(server, heard, times=2)
    assert proposal.hypothesis == "LR up" and proposal.edits[0].replace == "LR = 0.2\n"
    asked = [r for r in server.requests if "refused" not in r]
    assert len(asked) == 2 and len(server.requests) == 3 and not any("tools" in r for r in asked)
    assert "SEARCH" in asked[0]["messages"][1]["content"] and complaint in " ".join(heard.notes)


async def test_a_model_that_ignores_its_tools_is_detected() -> None:
    heard = Heard()
    with Server([{"text": "Well."}] * 8 + [{"text": TEXT}], repeat=True) as server:
        assert (await ask(server, heard, times=2)).hypothesis == "LR up"
    assert len(server.requests) == 10 and "tools" not in server.requests[9]
    assert any("calls no tools" in note for note in heard.notes)


@pytest.mark.parametrize(
    ("refused", "left"),
    [("reasoning", "Unsupported parameter: 'reasoning.summary' is not supported with this model."),
     ("include", "Encrypted content is not supported with this model."),
     ("prompt_cache_key", "Unrecognized request argument supplied: prompt_cache_key")],
)  # fmt: skip
async def test_fields_that_openai_refuses_are_omitted(refused: str, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPENAI_HOSTS", ("127.0.0.1",))
    with Server([ANSWER], manners=Manners(refused={refused: left})) as server:
        assert (await ask(server, Heard())).edits
    assert refused not in server.requests[-1] and len(server.requests) == 2


async def test_a_long_conversation_restarts_and_a_too_long_brief_is_reported() -> None:
    heard = Heard()
    long = {"fault": "status", "status": 400, "code": "context_length_exceeded",
            "message": "This model's maximum context length is 8192 tokens."}  # fmt: skip
    with Server([LOOK, long, ANSWER]) as server:
        assert (await ask(server, heard)).edits
    assert len(server.requests[2]["messages"]) == 2 and any("begins anew" in note for note in heard.notes)
    with Server([long]) as server, pytest.raises(ResearcherMisconfigured, match="maximum context") as caught:
        await ask(server, Heard())
    assert "`read`" in caught.value.hint


async def test_a_stream_can_be_interrupted_at_once() -> None:
    session, heard = ready("openai"), Heard()
    with Server([{**ANSWER, "delay": 0.2, "pieces": 50}, ANSWER]) as server:
        os.environ["OPENAI_BASE_URL"] = server.url
        researcher = OpenAIResearcher(backoff=FAST)
        await interrupted(researcher, session, heard)
        assert (await researcher.propose(session.brief(1), Heard())).edits
        await researcher.close()


async def test_keys_are_taken_from_the_environment() -> None:
    with pytest.raises(ResearcherMisconfigured, match="no key") as caught:
        await ask("", Heard())
    assert "OPENAI_BASE_URL" in caught.value.hint
    with Server([ANSWER], key="sk-good") as server:
        with pytest.raises(ResearcherMisconfigured, match="not accepted"):
            await ask(server, Heard())  # a server of one's own may still want a key
        os.environ["OPENAI_API_KEY"] = "sk-good"
        assert (await ask(server, Heard())).edits
    with (
        Server([ANSWER], models=["a", "b"]) as server,
        pytest.raises(ResearcherMisconfigured, match="not found") as caught,
    ):
        await ask(server, Heard(), model="c")
    assert "--model: a, b" in caught.value.hint


@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        (
            ["gpt-5.5", "gpt-6.2-sol", "gpt-6.2-astra", "gpt-6-luna", "text-embedding-3", "gpt-5.5-2026-04-01"],
            "gpt-6.2-sol",
        ),
        (["gpt-4.1-mini", "gpt-4.1", "whisper-1"], "gpt-4.1"),
        (["nomic-embed-text", "qwen3-coder:30b", "llama4"], "qwen3-coder:30b"),
    ],
)
def test_the_default_model_is_chosen(models: list[str], chosen: str) -> None:
    assert choose([SimpleNamespace(id=id, created=100 - n) for n, id in enumerate(models)], "here") == chosen


def test_no_default_model_is_chosen_from_a_large_list() -> None:
    for models, words in (([f"maker/m{n}" for n in range(300)], "300 models"), (["tts-1"], "no model")):
        with pytest.raises(ResearcherMisconfigured, match=words):
            choose([SimpleNamespace(id=id, created=1) for id in models], "here")


def test_thinking_opened_by_the_prompt_is_not_part_of_the_answer() -> None:
    assert without_thinking("A draft.</think>\n\nDone.") == "Done."
    assert without_thinking("Nothing behind it</think>") == "Nothing behind it</think>"


async def test_errors_of_every_format_show_the_message_of_the_server() -> None:
    """As a server of one's own writes them: in a field of another name, as a page, and with status 200."""
    fields = {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "not permitted"}]}
    page = {"raw": "<html><head><title>502 Bad Gateway</title></head></html>", "status": 502}
    late = {"raw": {"error": {"message": "Provider is down", "code": 502}}, "status": 200}
    heard = Heard()
    with Server([{"fault": "raw", "status": 422, "raw": fields}, {"fault": "raw", **page}, {"fault": "raw", **late},
                 ANSWER]) as server:  # fmt: skip
        assert (await ask(server, heard)).edits
    assert "stream_options" not in server.requests[-1]
    assert [reason for reason, _, _ in heard.waits] == [
        "HTTP 502: a web page (502 Bad Gateway)", "the stream ended with an error: Provider is down",
    ]  # fmt: skip
    unpaid = {"raw": {"error": {"message": "Insufficient credits", "code": 402}}, "status": 200}
    with Server([{"fault": "raw", **unpaid}]) as server, pytest.raises(ResearcherMisconfigured, match="no credit"):
        await ask(server, Heard())


async def test_unreported_tokens_have_unknown_cost(tmp_path: Path) -> None:
    prices = tmp_path / "config" / "autoresearch-tui" / "prices.toml"
    prices.parent.mkdir(parents=True)
    for rate, cost in ((1.0, None), (0.0, 0.0)):
        prices.write_text(f'["tiny-coder"]\ninput = {rate}\noutput = {rate}\n')
        heard = Heard()
        with Server([ANSWER], manners=Manners(usage=False)) as server:
            await ask(server, heard)
        assert [usage.usd for usage in heard.usages] == [cost]
        assert any("does not report tokens" in note for note in heard.notes) == (cost is None)


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 40])
def test_thinking_in_the_text_is_separated_at_any_chunk_boundary(pieces: int) -> None:
    for whole, wanted in (
        ("<think>a < b</th></think>\n\nDone.", ("a < b</th>", "Done.")),
        ("Plain <think> text", ("", "Plain <think> text")),
        ("<think>never closed", ("never closed", "")),
        ("<thin", ("", "<thin")),
    ):
        split, step = ThinkingTags(), max(1, -(-len(whole) // pieces))
        found = [split.feed(whole[i : i + step]) for i in range(0, len(whole), step)] + [split.rest()]
        assert tuple("".join(part) for part in zip(*found, strict=True)) == wanted


@DIALECTS
async def test_a_limit_of_answers_that_is_refused_without_a_name_is_left_out(dialect: str) -> None:
    field = {"chat": "max_tokens", "responses": "max_output_tokens"}[dialect]
    with Server([ANSWER], manners=Manners(refused={field: "invalid params"})) as server:
        assert (await ask(server, Heard())).edits
    assert field not in server.requests[-1] and "tools" in server.requests[-1]
