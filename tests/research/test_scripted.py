"""The scripted researcher: order, resume, thinking, and the line number of each error."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from core.record import events as e
from core.record.errors import ProposalFailed, ResearcherMisconfigured, ScriptEnded
from core.record.proposal import Usage
from core.research.scripted import ScriptedResearcher
from tests.research.support import Heard, Session

FILES = {"train.py": "LR = 0.1\n"}


def line(name: str, **more: Any) -> dict[str, Any]:
    return {"hypothesis": name, "edits": [{"path": "train.py", "content": f"# {name}\nLR = 0.1\n"}], **more}


def script(tmp_path: Path, *lines: Any) -> ScriptedResearcher:
    path = tmp_path / "script.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    return ScriptedResearcher(path)


async def ask(researcher: ScriptedResearcher, session: Session, number: int, **brief: object) -> str:
    return (await researcher.propose(session.brief(number, **brief), Heard())).hypothesis


async def test_lines_are_proposed_in_order_and_then_the_script_ends(tmp_path: Path) -> None:
    session = Session(FILES)
    researcher = script(tmp_path, "// a remark", line("one"), "", line("two"))
    for number, name in ((1, "one"), (2, "two")):
        session.start(number, "scripted")
        proposal = await researcher.propose(session.brief(number), Heard())
        assert proposal.hypothesis == name
        session.propose(number, proposal)
        session.judge(number, "discarded", 2.0)
    session.start(3, "scripted")
    with pytest.raises(ScriptEnded, match="has ended after"):
        await ask(researcher, session, 3)


async def test_one_experiment_gets_one_line_and_concurrent_ones_differ(tmp_path: Path) -> None:
    session = Session(FILES)
    researcher = script(tmp_path, line("one"), line("two"))
    session.start(1, "scripted")
    session.start(2, "scripted")
    assert [await ask(researcher, session, n) for n in (2, 1, 2, 1)] == ["two", "one", "two", "one"]


async def test_a_resumed_session_continues_after_the_logged_lines(tmp_path: Path) -> None:
    session = Session(FILES)
    first = script(tmp_path, *(line(f"line {n}") for n in range(8)))
    session.start(1, "scripted")
    session.propose(1, await first.propose(session.brief(1), Heard()))  # a crash; run again: no new proposal
    session.start(2, "scripted")
    session.judge(2, "skipped")  # skipped during thinking: its line is used
    session.start(3, "scripted")
    session.judge(3, "abandoned")  # interrupted by a crash before the proposal: its line is unused
    session.start(4, "control")
    session.judge(4, "rejected")  # another researcher's
    again = ScriptedResearcher(first.path)
    session.start(5, "scripted")
    assert await ask(again, session, 5) == "line 2"
    session.add(
        e.Proposed(
            experiment=5,
            hypothesis="line 2",
            rationale="",
            expected=None,
            kind="other",
            diff="",
            files=(),
            added=0,
            removed=0,
            seconds=0.0,
            extra={"script": 2},
        )
    )
    session.start(6, "scripted")
    assert await ask(ScriptedResearcher(first.path), session, 6) == "line 3"


async def test_an_interrupted_experiment_keeps_its_line(tmp_path: Path) -> None:
    session = Session(FILES)
    researcher = script(tmp_path, line("one"), line("two"), line("three"))
    session.start(1, "scripted")
    session.start(2, "scripted")
    session.propose(2, await researcher.propose(session.brief(2), Heard()))
    assert await ask(ScriptedResearcher(researcher.path), session, 1) == "one"


async def test_thinking_is_streamed_over_its_duration_and_usage_is_charged(tmp_path: Path) -> None:
    session = Session(FILES)
    text = "a thought of  several words\nand lines " * 4
    researcher = script(tmp_path, line("one", thinking=text, seconds=0.4, usage={"input_tokens": 7, "usd": 0.5}))
    session.start(1, "scripted")
    heard, started = Heard(), time.monotonic()
    await researcher.propose(session.brief(1), heard)
    assert time.monotonic() - started >= 0.4
    assert len(heard.thoughts) == 4 and "".join(heard.thoughts) == text
    assert heard.usages == [Usage(input_tokens=7, output_tokens=0, cached_tokens=0, usd=0.5)]


async def test_a_refused_line_has_no_second_proposal(tmp_path: Path) -> None:
    session = Session(FILES)
    session.start(1, "scripted")
    with pytest.raises(ProposalFailed, match="no such file"):
        await ask(script(tmp_path, line("one")), session, 1, feedback="there is no such file")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{not json", "is not JSON"),
        ("[1]", "JSON object"),
        (json.dumps({"edits": []}), '"hypothesis" is missing'),
        (json.dumps(line("x", seconds=-1)), '"seconds"'),
        (json.dumps(line("x", seconds=True)), '"seconds"'),
        (json.dumps(line("x", thinking=3)), '"thinking"'),
        (json.dumps(line("x", usage={"tokens": 3})), '"usage"'),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_an_invalid_line_is_reported_with_file_and_line_number(tmp_path: Path, bad: str, words: str) -> None:
    researcher = script(tmp_path, line("one"), "", bad)
    with pytest.raises(ResearcherMisconfigured) as caught:
        researcher.check()
    assert caught.value.where.endswith("script.jsonl:3") and words in caught.value.what and caught.value.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_an_unreadable_script_is_reported(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "s.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResearcherMisconfigured, match="cannot be read"):
        ScriptedResearcher(path).check()
