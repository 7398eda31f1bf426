"""What every test with an engine gets beside tests/conftest.py."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A researcher whose provider fails asks again after a hundredth of a second instead of a second."""
    monkeypatch.setenv("AUTORESEARCH_BACKOFF", "0.01")
