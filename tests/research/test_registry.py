"""Researchers by name, their readiness, and the time of that check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.record.errors import ResearcherMisconfigured, UsageError
from core.research import registry
from core.research.llm import keys, prices
from tests.research.openai_server import Server
from tests.research.support import variables


def test_the_default_follows_the_key() -> None:
    assert registry.default_researcher({}) == "control"
    assert registry.default_researcher({"ANTHROPIC_API_KEY": " "}) == "control"
    assert registry.default_researcher({"ANTHROPIC_API_KEY": "sk"}) == "claude"
    assert registry.default_researcher({"OPENAI_API_KEY": "sk"}) == "openai"
    assert registry.default_researcher({"OPENAI_API_KEY": "sk", "ANTHROPIC_API_KEY": "sk"}) == "claude"


def test_researchers_report_readiness() -> None:
    without = {name: (ready, note) for name, ready, note in registry.available({})}
    assert list(without) == list(registry.NAMES)
    assert not without["claude"][0] and "needs ANTHROPIC_API_KEY" in without["claude"][1] and without["control"][0]
    assert not without["openai"][0] and without["command"][0] and without["human"][0]
    assert registry.available({"ANTHROPIC_API_KEY": "sk"})[0][1]
    own = {name: note for name, _, note in registry.available({"OPENAI_BASE_URL": "http://localhost:11434/v1"})}
    assert own["openai"] == "a compatible server at http://localhost:11434/v1, without a key"


def test_a_key_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    found = keys.find("OPENAI_API_KEY", {"OPENAI_API_KEY_FILE": str(file)})
    assert found is not None and found.value == "sk-file" and str(file) in found.where and "sk-file" not in repr(found)
    with pytest.raises(ResearcherMisconfigured, match="cannot be read"):
        keys.find("OPENAI_API_KEY", {"OPENAI_API_KEY_FILE": str(tmp_path / "none")})
    _, ready, note = registry.available({"ANTHROPIC_API_KEY": "sk-\u043a"})[0]
    assert not ready and "invalid characters" in note


def test_each_researcher_is_created_by_name(tmp_path: Path) -> None:
    script = tmp_path / "s.jsonl"
    script.write_text('{"hypothesis": "h", "edits": [{"path": "a", "content": "b"}]}\n')
    assert registry.create("control", seed=3).name == "control"
    assert registry.create("scripted", script=script).name == "scripted"
    assert registry.create("human").name == "human"
    assert registry.create("command", model="codex:gpt-9").model == "codex:gpt-9"
    with pytest.raises(ResearcherMisconfigured, match="no coding agent is named") as caught:
        registry.create("command")
    assert "claude, codex, gemini, aider, opencode" in caught.value.hint
    with pytest.raises(UsageError, match="no script"):
        registry.create("scripted")
    with pytest.raises(ResearcherMisconfigured):
        registry.create("scripted", script=tmp_path / "missing.jsonl")
    with pytest.raises(UsageError, match="no researcher 'gpt'"):
        registry.create("gpt")


def run(code: str, **environ: str) -> str:
    names = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    env = {**{k: v for k, v in os.environ.items() if k not in names}, **environ}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_claude_needs_a_key_and_imports_its_sdk_late() -> None:
    refused = "from core.research import registry\ntry:\n registry.create('claude')\nexcept Exception as e:\n print(e)"
    assert "needs ANTHROPIC_API_KEY" in run(refused) and "--researcher control" in run(refused)
    light = (
        "import sys\nfrom core.research import registry\n"
        "registry.available({})\nprint(registry.create('claude').name)\n"
        "registry.create('control')\nregistry.create('openai')\nregistry.create('command', model='claude')\n"
        "heavy = ('anthropic', 'openai', 'optuna', 'httpx2', 'pydantic', 'numpy', 'textual')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert run(light, ANTHROPIC_API_KEY="sk", OPENAI_API_KEY="sk").split("\n")[:2] == ["claude", "[]"]


def test_prices_cover_dated_names_and_long_prompts(tmp_path: Path) -> None:
    table = prices.load(tmp_path / "none.toml")
    assert prices.find(table, "claude-haiku-4-5-20251001") is table["claude-haiku-4-5"]
    assert prices.find(table, "claude-opus-5-5") is not prices.find(table, "claude-opus-5")
    assert prices.find(table, "claude-opus-5-9") is None and prices.find(table, "gpt") is None
    haiku = table["claude-haiku-5-5"]
    short = haiku.usd(fresh=100_000, output=1000, cache_read=0, cache_write=0)
    assert short == pytest.approx(0.0105)
    assert haiku.usd(fresh=100_001, output=1000, cache_read=0, cache_write=0) == pytest.approx(5 * short, rel=1e-4)


@pytest.mark.parametrize(
    "text",
    ["[x", "m = 3", '["m"]\ninput = 1', '["m"]\ninput = -1\noutput = 2', '["m"]\ninput = 1\noutput = 2\nwrite = 3'],
)
def test_invalid_prices_are_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "prices.toml").write_text(text)
    with pytest.raises(ResearcherMisconfigured) as caught:
        prices.load(tmp_path / "prices.toml")
    assert "prices.toml" in caught.value.where and caught.value.hint


REACHED: list[tuple[str, list[str], str | None, str]] = [
    ("/v1", ["tiny"], None, "answers: the model is tiny"),
    ("", ["tiny"], None, "/v1/ answers: the model is tiny"),
    ("/v1", ["tiny"], "tiny", "/v1/ answers"),
    ("/v1", ["tiny"], "other", "answers, and does not list other"),
    ("/elsewhere", ["tiny"], "tiny", "answers, without a list of models"),
    ("/elsewhere", ["tiny"], None, "the list of models is not available: not found"),
    ("/v1", [], None, "the server lists no model"),
    ("/v1", [f"m{n}" for n in range(20)], None, "the server offers 20 models"),
]


@pytest.mark.parametrize(("path", "models", "model", "words"), REACHED)
def test_a_server_is_reached_by_one_request(path: str, models: list[str], model: str | None, words: str) -> None:
    with Server([], models=models) as server, variables(OPENAI_BASE_URL=server.url.removesuffix("/v1") + path):
        try:
            said = registry.reach("openai", model)
        except ResearcherMisconfigured as error:
            said = error.what
            assert "--model" in error.hint
    assert words in said


def test_a_server_that_fails_is_told_at_once() -> None:
    with Server([]) as server:
        gone = server.url
    with variables(OPENAI_BASE_URL=gone), pytest.raises(ResearcherMisconfigured, match="cannot be reached") as caught:
        registry.reach("openai")
    assert "start the server" in caught.value.hint
    with (
        Server([], key="right") as server, variables(OPENAI_BASE_URL=server.url, OPENAI_API_KEY="wrong"),
        pytest.raises(ResearcherMisconfigured, match="the key is not accepted"),
    ):  # fmt: skip
        registry.reach("openai", "tiny")
    socks = {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "", "OPENAI_BASE_URL": gone}
    with variables("no_proxy", **socks), pytest.raises(ResearcherMisconfigured) as caught:
        registry.reach("openai")
    assert caught.value.where == "ALL_PROXY"
    assert registry.reach("control") == registry.reach("human") == ""
