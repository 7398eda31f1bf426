"""Parts of the researchers: proposals in text, output and profiles of coding agents, waiting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.record.errors import EditError, ResearcherMisconfigured
from core.record.proposal import Usage
from core.research.agent import profiles
from core.research.agent.transcript import MAX_SHOWN, Transcript
from core.research.llm import prices, text_format
from core.research.llm.api_errors import Transient, retry_after
from core.research.llm.retry import Backoff
from tests.research.support import Heard

FILES = ["train.py", "model/net.py"]
EDIT = {"path": "train.py", "search": "LR = 0.1\n", "replace": "LR = 0.2\n"}
BLOCK = "<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n"


@pytest.mark.parametrize(
    "text",
    [
        f"HYPOTHESIS: LR up\n\ntrain.py\n{BLOCK}",
        f"## Hypothesis: LR up\n\n**`train.py`**\n```python\n{BLOCK}```\n",
        f"HYPOTHESIS: LR up\n\n```train.py\n{BLOCK}```\nThat is all.",
        f"HYPOTHESIS: LR up\n\n```python train.py\n{BLOCK.replace('<<<<<<< SEARCH', '<<<<<<<SEARCH')}```",
        "HYPOTHESIS: LR up\n```diff\n--- a/train.py\n+++ b/train.py\n@@ -3 +3 @@\n-LR = 0.1\n+LR = 0.2\n```\n",
        "Sure!\n<tool_call>\n" + json.dumps({"name": "propose", "arguments": {"hypothesis": "LR up", "edits": [EDIT]}}),
        "```json\n" + json.dumps({"hypothesis": "LR up", "edits": [EDIT]}, indent=1) + "\n```",
        json.dumps({"name": "propose", "parameters": json.dumps({"hypothesis": "LR up", "edits": [EDIT]})}),
    ],
)
def test_every_format_of_an_edit_is_parsed(text: str) -> None:
    found = text_format.read(text, FILES)
    assert found is not None and found["hypothesis"] == "LR up" and found["edits"] == [EDIT]


def test_whole_files_and_several_blocks_are_parsed() -> None:
    found = text_format.read(
        "HYPOTHESIS: h\nKIND: Data\nEXPECTED: about −1e-3\n\nmodel/net.py:\n```\nA = 1\n```", FILES
    )
    assert found is not None and found["edits"] == [{"path": "model/net.py", "content": "A = 1\n"}]
    assert (found["kind"], found["expected"]) == ("Data", "-1e-3")
    found = text_format.read(f"HYPOTHESIS: h\n\ntrain.py\n{BLOCK}\nand\n{BLOCK}\n./model/net.py\n{BLOCK}", FILES)
    assert found is not None and [e["path"] for e in found["edits"]] == ["train.py", "train.py", "model/net.py"]
    found = text_format.read(f"I raise the step size a lot.\n{BLOCK}", ["train.py"])
    assert found is not None and found["hypothesis"] == "I raise the step size a lot." and len(found["edits"]) == 1
    new = "<<<<<<< SEARCH\n=======\nX = 1\n>>>>>>> REPLACE\n"
    found = text_format.read(f"HYPOTHESIS: h\n\nnew.py\n{new}", FILES)
    assert found is not None and found["edits"] == [{"path": "new.py", "search": "", "replace": "X = 1\n"}]


@pytest.mark.parametrize(
    "text", ["", "I would raise LR.", "```python\nprint(1)\n```", "{" * 100_000, '{"hypothesis": 1']
)
def test_output_without_a_proposal_is_recognized(text: str) -> None:
    assert text_format.read(text, FILES) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HYPOTHESIS: h\n\ntrain.py\n<<<<<<< SEARCH\nLR\n=======\nX", "not closed"),
        (f"HYPOTHESIS: h\n\n{BLOCK}", "no path"),
        (f"train.py\n{BLOCK}", "no hypothesis"),
    ],
)
def test_an_incomplete_proposal_is_reported(text: str, words: str) -> None:
    with pytest.raises(EditError, match=words):
        text_format.read(text, FILES)


def heard(*events: object) -> Heard:
    stream = Heard()
    transcript = Transcript(stream)
    data = "".join(json.dumps(event) + "\n" for event in events).encode()
    for at in range(0, len(data), 7):
        transcript.feed(data[at : at + 7])
    transcript.end()
    return stream


def test_output_of_known_agents_is_parsed() -> None:
    change = {"type": "file_change", "changes": [{"path": "train.py", "kind": "update"}]}
    codex = heard(
        {"type": "thread.started", "thread_id": "x"},
        {"type": "item.completed", "item": {"type": "reasoning", "text": "Hm."}},
        {"type": "item.completed", "item": {"type": "command_execution", "command": "cat train.py"}},
        {"type": "item.completed", "item": change},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "Done — é."}},
        {"type": "turn.completed", "usage": {"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 7}},
    )
    assert codex.thoughts == ["Hm.\n"] and codex.tools == ["cat train.py", "edit train.py"]
    assert "".join(codex.texts) == "Done — é.\n" and codex.usages == [
        Usage(input_tokens=40, output_tokens=7, cached_tokens=60)
    ]
    gemini = heard(
        {"type": "message", "role": "user", "content": "prompt"},
        {"type": "message", "role": "assistant", "content": "I ", "delta": True},
        {"type": "message", "role": "assistant", "content": "will.", "delta": True},
        {"type": "tool_use", "tool_name": "replace", "parameters": {"file_path": "train.py"}},
        {"type": "result", "status": "success", "stats": {"input_tokens": 10, "output_tokens": 2, "cached": 4}},
    )
    assert "".join(gemini.texts) == "I will." and gemini.tools == ["replace train.py"]
    assert gemini.usages == [Usage(input_tokens=6, output_tokens=2, cached_tokens=4)]
    tokens = {"input": 5, "output": 3, "reasoning": 1, "cache": {"read": 9, "write": 2}}
    opencode = heard(
        {"type": "text", "part": {"text": "Moving."}},
        {"type": "tool_use", "part": {"tool": "edit", "state": {"input": {"filePath": "train.py"}}}},
        {"type": "step_finish", "part": {"cost": 0.02, "tokens": tokens}},
        {"type": "error", "error": {"name": "APIError", "data": {"message": "no key"}}},
    )
    assert opencode.tools == ["edit train.py"] and opencode.usages == [
        Usage(input_tokens=7, output_tokens=4, cached_tokens=9, usd=0.02)
    ]
    assert opencode.notes == ["no key"]


RESULTS: list[tuple[dict[str, Any], int | None]] = [
    ({"type": "result", "subtype": "success", "is_error": False}, 0),  # claude
    ({"type": "result", "subtype": "error_max_turns", "is_error": True}, 1),
    ({"type": "result", "status": "success", "stats": {}}, 0),  # gemini
    ({"type": "result", "status": "error", "error": {"message": "no quota"}}, 1),
    ({"type": "turn.completed", "usage": {}}, 0),  # codex
    ({"type": "turn.failed", "error": {"message": "no key"}}, 1),
    ({"type": "item.completed", "item": {"type": "agent_message", "text": "Done."}}, None),
    ({"type": "step_finish", "part": {"reason": "stop"}}, 0),  # opencode
    ({"type": "step_finish", "part": {"reason": "tool-calls"}}, None),
    ({"type": "assistant", "message": {"content": []}}, None),
]


@pytest.mark.parametrize(("event", "result"), RESULTS)
def test_the_result_of_each_agent_is_known(event: dict[str, Any], result: int | None) -> None:
    """Also where the line has no end, or another program's words come after it."""
    line = json.dumps(event).encode()
    assert Transcript(Heard()).feed(b"text\n" + line + b"\n") == Transcript(Heard()).feed(line) == result
    assert Transcript(Heard()).feed(line + b"\n(node:7) Warning: a timer is still running\n") == result


def test_the_cost_reported_by_an_agent_is_read() -> None:
    """By the price list when only tokens are reported. Impossible numbers are ignored."""
    stream, turn = Heard(), {"type": "turn.completed", "usage": {"input_tokens": 1_000_000, "output_tokens": 0}}
    Transcript(stream, prices.Price(2.0, 10.0, 0.2, 2.5)).feed(json.dumps(turn).encode() + b"\n")
    assert stream.usages == [Usage(input_tokens=1_000_000, output_tokens=0, cached_tokens=0, usd=2.0)]
    for usd in (float("nan"), -5, 1e308, "1"):
        said = heard({"type": "result", "usage": {"input_tokens": 10**30, "output_tokens": 5}, "total_cost_usd": usd})
        assert said.usages == [Usage(input_tokens=0, output_tokens=5, cached_tokens=0, usd=None)]


def test_long_output_is_bounded_and_its_end_is_kept() -> None:
    stream = Heard()
    transcript = Transcript(stream)
    for _ in range(3000):
        transcript.feed(b"\x1b[2J\x07" + b"y" * 1000 + b"\n")
    transcript.feed(b"the last \xe2\x80")
    transcript.feed(b"\x94 word\n\n")
    transcript.end()
    assert sum(map(len, stream.texts)) <= MAX_SHOWN and len(stream.notes) == 1 and "\x1b" not in "".join(stream.texts)
    assert transcript.last == "the last — word"


def test_profiles_of_the_user_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "autoresearch-tui" / "commands.toml"
    file.parent.mkdir()
    file.write_text('[my]\nrun = "my --go {prompt}"\nmodel = "-m {model}"\nkeys = ["K"]\nsilence = 5\n')
    profile, model = profiles.find("my:big")
    assert profile.argv == ("my", "-m", "{model}", "--go", "{prompt}") and model == "big" and profile.silence == 5.0
    assert not profile.on_stdin and profiles.find("claude")[0].on_stdin
    assert profiles.find("claude:opus")[0].argv[:4] == ("claude", "-p", "--model", "{model}")
    assert profiles.find("sh -c 'x {prompt}'")[0].argv == ("sh", "-c", "x {prompt}")
    for wrong in ("my --go 'x", "", "no-such-program"):
        with pytest.raises(ResearcherMisconfigured):
            profiles.find(wrong)
    for text, words in (
        ("[my", "not TOML"), ('my = "x"', "not a table"), ("[my]\nrunn = 1", "unknown"),
        ("[my]\nrun = 3", "wrong type"), ('[my]\nrun = ""', "missing"), ('[my]\nrun = "a"\nkeys = [1]', "not text"),
        ('[my]\nrun = "a \'b"', "cannot be read"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(ResearcherMisconfigured, match=words) as caught:
            profiles.find("my")
        assert caught.value.where.startswith(str(file)) and caught.value.hint


async def test_the_wait_is_shown_grows_and_is_longer_for_a_usage_limit() -> None:
    stream, tries = Heard(), iter([Transient("down"), Transient("capped", slow=True), None])

    async def once() -> str:
        if error := next(tries):
            raise error
        return "up"

    backoff = Backoff(base=0.001, cap=0.002)
    assert await backoff.retry_forever(stream, once) == "up"
    assert [(reason, turn) for reason, _, turn in stream.waits] == [("down", 1), ("capped", 2)]
    assert max(backoff.seconds(9) for _ in range(20)) <= 0.0025
    assert min(backoff.slow().seconds(9) for _ in range(20)) >= 0.02
    assert retry_after({"retry-after": "86400"}) == 86400.0 and retry_after({"retry-after": "soon"}) == 0.0
    assert 3500 < retry_after({"retry-after": one_hour_from_now()}) <= 3600


def one_hour_from_now() -> str:
    import email.utils
    import time

    return email.utils.formatdate(time.time() + 3600, usegmt=True)
