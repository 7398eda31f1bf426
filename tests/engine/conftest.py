"""Fixtures of the tests with an engine, in addition to tests/conftest.py."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a failed provider after a hundredth of a second instead of a second."""
    monkeypatch.setenv("AUTORESEARCH_BACKOFF", "0.01")
