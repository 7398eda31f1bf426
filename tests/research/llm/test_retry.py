"""Waits that grow, and what they tell a person, while a model or its server fails again and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.record.errors import ProposalFailed
from core.research.llm.providers.openai import OpenAIResearcher
from core.research.llm.retry import MANY, Backoff
from tests.research.openai_server import Server
from tests.research.support import ANSWER, WRONG, Heard, ready, variables

ADVICE = "another model may do better: "
WORDS, EMPTY = {"text": "Hello! How can I help?"}, {"text": ""}
UNKNOWN = {"tools": [["str_replace", {"path": "train.py"}]]}
BROKEN = {"raw_json": '{"hypothesis": "Halve" "edits": '}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    with variables("OPENAI_API_KEY", "OPENAI_BASE_URL", XDG_CONFIG_HOME=str(tmp_path / "config")):
        yield


@pytest.mark.parametrize("turn", [WORDS, EMPTY, UNKNOWN, BROKEN], ids=["words", "empty", "no such tool", "no JSON"])
async def test_useless_answers_are_asked_for_less_and_less_often(turn: Any) -> None:
    heard = Heard()
    with Server([*[turn] * 25, ANSWER]) as server, variables(OPENAI_BASE_URL=server.url):
        researcher = OpenAIResearcher(backoff=Backoff(base=0.001, cap=0.1))
        assert (await researcher.propose(ready("openai").brief(1), heard)).edits
        await researcher.close()
    assert len(heard.waits) >= 6 and heard.waits[-1][1] > 8 * heard.waits[0][1]
    assert all("no usable proposal (" in why for why, _, _ in heard.waits)
    assert [ADVICE in why for why, _, _ in heard.waits[:5]] == [False, False, True, True, True]
    assert "set model=NAME" in heard.waits[-1][0]


async def test_experiments_without_a_usable_proposal_are_begun_less_and_less_often() -> None:
    heard, waits = Heard(), list[tuple[str, float, int]]()
    with Server([{"tool": WRONG}], repeat=True) as server, variables(OPENAI_BASE_URL=server.url):
        researcher = OpenAIResearcher(backoff=Backoff(base=0.001, cap=0.1))
        for _ in range(5):
            heard.waits.clear()
            with pytest.raises(ProposalFailed):
                await researcher.propose(ready("openai").brief(1), heard)
            waits.append(heard.waits[0])
        server.turns = [ANSWER]
        await researcher.propose(ready("openai").brief(1), heard)
        heard.waits.clear()
        await researcher.propose(ready("openai").brief(1), heard)
        await researcher.close()
    assert "4 experiments in a row without a usable proposal" in waits[-1][0] and ADVICE in waits[-1][0]
    assert waits[-1][1] > 4 * waits[1][1] and not heard.waits


async def test_a_server_that_fails_again_and_again_is_told_with_what_to_do() -> None:
    heard = Heard()
    fault = {"fault": "status", "status": 500, "message": "the template failed"}
    with Server([*[fault] * (MANY + 2), ANSWER]) as server, variables(OPENAI_BASE_URL=server.url):
        researcher = OpenAIResearcher(backoff=Backoff(base=0.001, cap=0.1))
        await researcher.propose(ready("openai").brief(1), heard)
        await researcher.close()
    assert [ADVICE in why for why, _, _ in heard.waits] == [False] * MANY + [True] * 2
    assert heard.waits[-1][0].startswith("HTTP 500: the template failed; look at the server")
