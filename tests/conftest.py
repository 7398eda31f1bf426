"""Every test gets a state folder of its own, no keys and no colour settings of the person who runs it."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("plain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plain")

# A shell that starts the tests in its background has them ignore ctrl+c, and so would every program they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NOT_OURS = (
    "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "NO_COLOR", "AUTORESEARCH_LOOK",
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "PYTHONIOENCODING", "PYTHONUNBUFFERED",
)  # fmt: skip


@pytest.fixture(autouse=True)
def state_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`AUTORESEARCH_HOME` for this test alone; in /tmp itself, since a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="ar-", dir="/tmp"))
    monkeypatch.setenv("AUTORESEARCH_HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    for name in _NOT_OURS:
        monkeypatch.delenv(name, raising=False)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
