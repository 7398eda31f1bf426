"""A server that reads only a part of the prompt: noticed from its token counts, and said once with its own setting."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.record.errors import ResearcherMisconfigured
from core.research import registry
from core.research.llm.providers.context_window import ContextWindow, advice, declared
from tests.research import anthropic_server
from tests.research.llm.providers import claude
from tests.research.llm.providers.gpt import ask
from tests.research.llm.providers.gpt import environment as environment
from tests.research.openai_server import Manners, Server
from tests.research.support import ANSWER, Heard, variables

PROSE = "The learning rate is warmed up for some steps and then decays with a cosine down to a tenth of it. " * 200
CODE = "    self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)  # (B, T, 3C)\n" * 200
CJK = "学习率先线性升温，再按余弦衰减到最大值的十分之一。" * 200
DENSE = "".join(random.Random(1).choice("abcdefghijklmnopqrstuvwxyz0123456789+/=") for _ in range(9000))
WORDS_ONLY = {"text": "Hello! How can I help?"}


def asked(text: str, *more: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": part} for part in (text, *more)], "tools": [{"name": PROSE}]}


def check(window: ContextWindow, request: dict[str, Any], read: int, written: int = 50, cut: bool = False) -> bool:
    return window.check(request, read, written, cut=cut, endpoint="http://127.0.0.1:11434/v1/", fingerprint="")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [(PROSE, 4_400), (CODE, 5_800), (CJK, 3_000), (DENSE, 5_000), (" " * 90_000 + PROSE, 4_200), ("=" * 90_000, 1_400)],
    ids=["prose", "code", "cjk", "dense", "blanks", "rules"],
)
def test_a_prompt_that_was_read_is_no_false_alarm(text: str, tokens: int) -> None:
    """The counts are the lowest of today's tokenizers."""
    assert not check(ContextWindow(), asked(text), tokens)
    window = ContextWindow()
    for n in range(9):  # a conversation, whose counts grow with it
        assert not check(window, asked(text, *[PROSE[:400]] * n), tokens + 84 * n)


@pytest.mark.parametrize(("text", "limit"), [(PROSE, 2_048), (PROSE, 2_050), (CODE, 2_048), (CODE * 3, 4_096)])
def test_a_prompt_of_which_words_were_not_read_is_cut(text: str, limit: int) -> None:
    window = ContextWindow()
    assert check(window, asked(text), limit) and not check(window, asked(text), limit)  # said once
    assert f"read only {limit:,} tokens" in window.trouble and "OLLAMA_CONTEXT_LENGTH=" in window.trouble
    assert check(ContextWindow(), asked(text), limit) and window.short


def test_a_conversation_that_grows_without_its_count_is_cut() -> None:
    for counts in ((4_096, 4_096), (4_095, 4_095), (3_900, 3_300)):
        window = ContextWindow()
        assert not check(window, asked(CJK), counts[0])
        assert check(window, asked(CJK, PROSE[:400]), counts[1])
    window = ContextWindow()
    assert not check(window, asked(CJK), 4_096)
    window.new_conversation()
    assert not check(window, asked(CJK, PROSE[:400]), 4_096)


def test_counts_that_mean_nothing_are_no_alarm() -> None:
    """Placeholders, and counts without what came from a cache."""
    for counts in ((9, 9), (1_000, 1_000), (0, 0), (5_000, 120), (5_000, 700)):
        window = ContextWindow()
        assert not check(window, asked(PROSE[:2_000]), counts[0])
        assert not check(window, asked(PROSE[:2_000], PROSE[:2_000]), counts[1])


def test_an_answer_that_ends_where_the_context_is_full() -> None:
    window = ContextWindow()
    assert check(window, asked(PROSE[:400]), 1_096, 3_000, cut=True) and "full at 4,096 tokens" in window.trouble
    assert not check(ContextWindow(), asked(PROSE[:400]), 1_096, 8_192, cut=True)  # the server's own limit of answers
    assert not check(ContextWindow(), asked(PROSE[:400]), 1_110, 3_000, cut=True)
    assert not check(window, asked(PROSE[:400]), 5_000) and not window.trouble  # it has been raised


@pytest.mark.parametrize(
    ("endpoint", "fingerprint", "words"),
    [
        ("http://gpu:11434/v1/", "", "OLLAMA_CONTEXT_LENGTH=16384 ollama serve"),
        ("http://gpu/v1/", "fp_ollama", "OLLAMA_CONTEXT_LENGTH=16384 ollama serve"),
        ("http://gpu:8080/v1/", "b9554-d403f00ec", "llama-server -c 16384"), ("http://gpu:1234/v1/", "", "lms load"),
        ("http://gpu:8000/v1/", "vllm-0.9", "--max-model-len 16384"),
        ("https://api.x.ai/v1/", "fp_1", "LM Studio: its"),
    ],
)  # fmt: skip
def test_the_setting_is_that_of_the_server(endpoint: str, fingerprint: str, words: str) -> None:
    assert words in advice(endpoint, fingerprint, asked(PROSE))


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"data": [{"id": "other", "max_model_len": 9}, {"id": "m", "max_model_len": 4_096}]}, 4_096),  # vLLM
        ({"models": [{"name": "m", "model": "m", "context_length": 4_096}]}, 4_096),  # Ollama
        ({"default_generation_settings": {"n_ctx": 8_192}, "total_slots": 1}, 8_192),  # llama.cpp
        ({"data": [{"id": "m", "max_context_length": 131_072, "loaded_context_length": 4_096}]}, 4_096),  # LM Studio
        ({"models": []}, 0), ({"data": [{"id": "other", "context_length": 9}]}, 0), ([], 0), ("page", 0), (None, 0),
    ],
)  # fmt: skip
def test_what_a_server_says_that_it_reads(body: Any, tokens: int) -> None:
    assert declared(body, "m") == tokens


def test_a_context_that_is_too_short_is_told_before_a_session() -> None:
    with Server([], manners=Manners(window=4_096)) as server, variables(OPENAI_BASE_URL=server.url):
        with pytest.raises(ResearcherMisconfigured, match="reads at most 4,096 tokens") as caught:
            registry.reach("openai")
        assert "OLLAMA_CONTEXT_LENGTH=16384" in caught.value.hint
        server.manners.window = 32_768
        assert "answers" in registry.reach("openai", "tiny-coder")


LONG: dict[str, Any] = {"read_files": {"notes.md": PROSE}, "files": {"train.py": "LR = 0.1\n" + CODE}}


async def test_it_is_said_once_and_with_every_pause() -> None:
    heard = Heard()
    turns = [WORDS_ONLY] * 9 + [ANSWER]
    with Server(turns, manners=Manners(window=2_048)) as server:
        assert (await ask(server, heard, **LONG)).edits
    assert len(heard.warnings) == 1 and "read only 2,048 tokens of a prompt of about" in heard.warnings[0]
    assert heard.waits and all("longer context" in why for why, _, _ in heard.waits)
    first, last = (str(server.requests[n]["messages"][0]) for n in (0, -1))
    assert "warmed up" in first and "warmed up" not in last and "notes.md" in last  # named, and left to be looked up


async def test_a_gateway_of_the_other_protocol_is_watched_too() -> None:
    heard = Heard()
    server = anthropic_server.Server([{**ANSWER, "usage": {"input_tokens": 2_048}}])
    with server, variables(ANTHROPIC_API_KEY=server.key):
        await claude.ask(server, heard, **LONG)
    assert len(heard.warnings) == 1 and "longer context" in heard.warnings[0]


async def test_a_brief_that_is_too_long_goes_without_its_read_only_files() -> None:
    long = {"fault": "status", "status": 400, "message": "the prompt exceeds the context length of 8192 tokens"}
    with Server([long, ANSWER]) as server:
        assert (await ask(server, heard := Heard(), **LONG)).edits
    assert "warmed up" not in str(server.requests[-1]["messages"][0])
    assert any("without its read-only files" in note for note in heard.notes)
