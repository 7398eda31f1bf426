"""Keys, models and prices of Claude with the local server, and the reports of faults that a person must correct."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.record.errors import ResearcherMisconfigured
from core.record.proposal import Usage
from core.research.llm.providers.anthropic import ClaudeResearcher
from core.research.llm.providers.client import unique_models
from tests.research.anthropic_server import MODELS, Server, model
from tests.research.llm.providers.claude import FAST, ask
from tests.research.llm.providers.claude import environment as environment
from tests.research.support import ANSWER, WRONG, Heard, ready


@pytest.mark.parametrize(
    ("fault", "what", "hint"),
    [
        ({"status": 401, "code": "authentication_error"}, "key is not accepted", "ANTHROPIC_API_KEY"),
        ({"status": 403, "code": "permission_error"}, "not allowed", "--model"),
        ({"status": 404, "code": "not_found_error"}, "not found", "claude-sonnet-5-5"),
        ({"status": 402, "code": "billing_error"}, "no credit", "credit"),
        ({"status": 400, "code": "invalid_request_error", "message": "prompt is too long"}, "too long", "`read`"),
        ({"status": 400, "code": "invalid_request_error", "message": "Your credit balance is too low"},
         "no credit", "credit"),
    ],
)  # fmt: skip
async def test_faults_that_a_person_must_fix_are_reported_at_once(fault: dict[str, Any], what: str, hint: str) -> None:
    heard = Heard()
    with Server([{"fault": "status", **fault}]) as server, pytest.raises(ResearcherMisconfigured) as caught:
        await ask(server, heard)
    assert what in caught.value.what and hint in caught.value.hint and caught.value.where
    assert not heard.waits


async def test_a_wrong_key_an_unknown_model_and_a_revoked_key_are_reported() -> None:
    with Server([ANSWER], key="sk-other") as server, pytest.raises(ResearcherMisconfigured, match="not accepted"):
        await ask(server, Heard())
    with Server([ANSWER]) as server, pytest.raises(ResearcherMisconfigured, match="not found") as caught:
        await ask(server, Heard(), model="claude-opus-9")
    assert "claude-opus-5-5" in caught.value.hint and "sk-" not in str(caught.value)


async def test_a_revoked_key_is_replaced_from_a_file(tmp_path: Path) -> None:
    session, heard = ready("claude"), Heard()
    with Server([ANSWER, ANSWER]) as server:
        os.environ["ANTHROPIC_BASE_URL"] = server.url
        researcher = ClaudeResearcher(backoff=FAST)
        assert (await researcher.propose(session.brief(1), heard)).edits
        server.key = "sk-new"
        with pytest.raises(ResearcherMisconfigured, match="not accepted") as caught:
            await researcher.propose(session.brief(1), heard)
        file = tmp_path / "config" / "autoresearch-tui" / "keys.toml"
        assert str(file) in caught.value.hint and "sk-" not in str(caught.value)
        file.parent.mkdir(parents=True)
        file.write_text('ANTHROPIC_API_KEY = "sk-new"\n')
        with pytest.raises(ResearcherMisconfigured, match="other users can read") as caught:
            await researcher.propose(session.brief(1), heard)
        assert "chmod 600" in caught.value.hint
        file.chmod(0o600)
        assert (await researcher.propose(session.brief(1), heard)).edits
        await researcher.close()


@pytest.mark.parametrize("key", ["", " ", "sk-ключ", "sk-a\nb"])
async def test_a_malformed_key_is_reported(key: str) -> None:
    os.environ["ANTHROPIC_API_KEY"] = key
    with pytest.raises(ResearcherMisconfigured) as caught:
        await ask("http://127.0.0.1:9", Heard())
    assert caught.value.where == "ANTHROPIC_API_KEY" and caught.value.hint


async def test_a_malformed_address_is_reported() -> None:
    with pytest.raises(ResearcherMisconfigured, match="is not an address"):
        await ask("localhost:80", Heard())


@pytest.mark.parametrize(
    ("models", "chosen"),
    [
        (MODELS, "claude-opus-5-5"),
        (MODELS[2:3] + MODELS[:1], "claude-sonnet-5-5"),
        (MODELS[:1], "claude-haiku-5-5"),
        ([model("x-opus-7", None, "2026-01-01T00:00:00Z"), model("y-9", None, "2026-10-01T00:00:00Z")], "x-opus-7"),
        ([model("a", "opus", "2026-10-01T00:00:00Z", lifecycle="deprecated"), MODELS[3]], "claude-opus-4-5"),
    ],
)
async def test_the_default_model_is_chosen_from_what_the_key_can_use(models: Any, chosen: str) -> None:
    with Server([ANSWER], models=models) as server:
        await ask(server, Heard())
    assert server.requests[0]["model"] == chosen


async def test_an_endless_list_of_models_is_bounded() -> None:
    async def pages() -> AsyncIterator[SimpleNamespace]:
        while True:
            for name in ("a", None, "b"):
                yield SimpleNamespace(id=name)

    assert [m.id for m in await unique_models(pages())] == ["a", "b"]


async def test_a_key_without_models_is_reported() -> None:
    with Server([ANSWER], models=[]) as server, pytest.raises(ResearcherMisconfigured, match="lists no model"):
        await ask(server, Heard())


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_list_that_is_refused_does_not_matter_to_a_named_model(status: int) -> None:
    heard = Heard()
    with Server([ANSWER]) as server:
        server.list_status = status
        assert (await ask(server, heard, model="claude-opus-5-5")).edits
    assert any("the list of models is not available" in note for note in heard.notes)


async def test_thinking_is_requested_as_each_model_supports_it() -> None:
    with Server([ANSWER]) as server:
        await ask(server, Heard(), model="claude-opus-4-5")
    thinking = server.requests[0]["thinking"]
    assert thinking["type"] == "enabled" and thinking["budget_tokens"] >= 1024
    silent = model("m", None, "2026-01-01T00:00:00Z", thinking=())
    silent["capabilities"]["thinking"]["supported"] = True  # the list is wrong: the model refuses every kind
    for kind in silent["capabilities"]["thinking"]["types"].values():
        kind["supported"] = False
    heard = Heard()
    with Server([ANSWER], models=[silent]) as server:
        await ask(server, heard)
    assert "refused" in server.requests[0] and "thinking" not in server.requests[-1]
    assert any("does not support this thinking mode" in note for note in heard.notes)


async def test_cost_follows_the_price_list_and_may_be_unknown(tmp_path: Path) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 500, "cache_read_input_tokens": 9000,
             "cache_creation_input_tokens": 2000}  # fmt: skip
    heard = Heard()
    with Server([{**ANSWER, "usage": usage}]) as server:
        await ask(server, heard)
    [charged] = heard.usages
    assert (charged.input_tokens, charged.output_tokens, charged.cached_tokens) == (3000, 500, 9000)
    assert charged.usd == pytest.approx((1000 * 4 + 500 * 20 + 9000 * 0.2 + 2000 * 5) / 1e6)
    unknown = [model("new-opus", "opus", "2026-01-01T00:00:00Z")]
    heard = Heard()
    with Server([{**ANSWER, "tool": WRONG}, ANSWER], models=unknown) as server:
        await ask(server, heard)
    assert heard.usages == [Usage(input_tokens=1000, output_tokens=200, cached_tokens=0, usd=None)] * 2
    assert sum("price of new-opus is not known" in note for note in heard.notes) == 1
    prices = tmp_path / "config" / "autoresearch-tui" / "prices.toml"
    prices.parent.mkdir(parents=True)
    prices.write_text('["new-opus"]\ninput = 1.0\noutput = 10.0\n')
    heard = Heard()
    with Server([ANSWER], models=unknown) as server:
        await ask(server, heard)
    assert heard.usages[0].usd == pytest.approx(0.003)
    prices.write_text('["new-opus"]\ninput = "cheap"\n')
    with pytest.raises(ResearcherMisconfigured, match="prices of 'new-opus'"):
        await ask("http://127.0.0.1:9", Heard())


@pytest.mark.parametrize("wanted", ["1h", "cache_control", "thinking"])
async def test_a_complaint_that_names_nothing_and_a_doubled_path(wanted: str) -> None:
    heard = Heard()
    with Server([ANSWER], refuses=wanted) as server:
        assert (await ask(f"{server.url}/v1", heard)).edits
    assert wanted not in str(server.requests[-1]) and len(server.requests) <= 4


@pytest.mark.parametrize("status", [400, 500])
async def test_a_template_without_a_system_role_gets_the_instructions_in_the_first_message(status: int) -> None:
    heard = Heard()
    fault = {"fault": "status", "status": status, "message": "System role not supported"}
    with Server([fault, ANSWER]) as server:
        assert (await ask(server, heard)).edits
    before, after = server.requests
    assert not heard.waits and "system" not in after and after["messages"][0]["content"][:2] == before["system"]


async def test_a_refused_mark_of_the_cache_stays_out_for_good() -> None:
    heard = Heard()
    wrong = {"fault": "status", "status": 400, "message": "cache_control: extra inputs are not permitted"}
    with Server([wrong, wrong, {**ANSWER, "tool": WRONG}, ANSWER]) as server:
        assert (await ask(server, heard)).edits
    assert len(server.requests) == 4 and all("cache_control" not in str(r) for r in server.requests[2:])
