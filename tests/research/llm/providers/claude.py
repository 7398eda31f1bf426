"""Claude with a local server for the tests of this folder: its environment and one proposal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.research.llm.providers.anthropic import ClaudeResearcher
from core.research.llm.retry import Backoff
from tests.research.anthropic_server import Server
from tests.research.support import Heard, Session, ready, variables

FAST = Backoff(base=0.005, cap=0.02, slice=0.1)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    config = str(tmp_path / "config")
    with variables("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", ANTHROPIC_API_KEY="sk-test", XDG_CONFIG_HOME=config):
        yield


async def ask(
    server: Server | str, heard: Heard, session: Session | None = None, *, model: str | None = None,
    backoff: Backoff = FAST, read_seconds: float = 20.0, **brief: object,
) -> Any:  # fmt: skip
    os.environ["ANTHROPIC_BASE_URL"] = server if isinstance(server, str) else server.url
    researcher = ClaudeResearcher(model, backoff=backoff, read_seconds=read_seconds)
    try:
        return await researcher.propose((session or ready("claude")).brief(1, **brief), heard)
    finally:
        await researcher.close()
