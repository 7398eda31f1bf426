"""GPT and compatible servers with a local server for the tests of this folder: their environment and proposals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.research.llm.providers.openai import OpenAIResearcher
from core.research.llm.retry import Backoff
from tests.research.openai_server import Server
from tests.research.support import Heard, Session, ready, variables

FAST = Backoff(base=0.005, cap=0.02, slice=1.0)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    """No key and no server of either maker."""
    keys = [f"{maker}_{what}" for maker in ("OPENAI", "ANTHROPIC") for what in ("API_KEY", "API_KEY_FILE", "BASE_URL")]
    with variables(*keys, "ANTHROPIC_AUTH_TOKEN", XDG_CONFIG_HOME=str(tmp_path / "config")):
        yield


async def ask(
    server: Server | str, heard: Heard, session: Session | None = None, *, model: str | None = None,
    read_seconds: float = 20.0, times: int = 1, **brief: object,
) -> Any:  # fmt: skip
    """The last of `times` proposals."""
    os.environ["OPENAI_BASE_URL"] = server if isinstance(server, str) else server.url
    researcher = OpenAIResearcher(model, backoff=FAST, read_seconds=read_seconds)
    try:
        for _ in range(times):
            proposal = await researcher.propose((session or ready("openai")).brief(1, **brief), heard)
        return proposal
    finally:
        await researcher.close()
