"""Fixtures of the tests with an engine, in addition to tests/conftest.py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.warm.warm_engine import warm_engines


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a failed provider after a hundredth of a second instead of a second."""
    monkeypatch.setenv("AUTORESEARCH_BACKOFF", "0.01")


@pytest.fixture(scope="session")
def engine_server() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="ar-", dir="/tmp") as folder, warm_engines(Path(folder)) as variables:
        yield variables


@pytest.fixture(autouse=True)
def warm(engine_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of these tests start with their modules imported."""
    for name, value in engine_server.items():
        monkeypatch.setenv(name, value)
