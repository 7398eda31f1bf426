"""Fixtures of all tests: a private state folder, no keys and no colour settings of the developer."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("plain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plain")

# The workers share the processors: torch's threads would only wait for each other, and take turns at it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where Python is told to leave no bytecode, every worker would parse and rewrite all tests again, in each run.
sys.dont_write_bytecode = False

# A shell that starts the tests in its background has them ignore ctrl+c, and so would every program they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_NOT_OURS = (
    "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "NO_COLOR", "AUTORESEARCH_LOOK",
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "PYTHONIOENCODING", "PYTHONUNBUFFERED",
    "AUTORESEARCH_KEYS", "AUTORESEARCH_BACKOFF",
    "PYTHONDONTWRITEBYTECODE",  # hundreds of processes would compile the same modules
)  # fmt: skip


@contextmanager
def own_state() -> Iterator[Path]:
    """Set a private `AUTORESEARCH_HOME` and remove all keys. A socket needs a short path: the folder is in /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="ar-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_HOME", str(folder))
        (folder / "run.key").write_bytes(bytes(32))  # so that the seeds of the tests' runs are the same each time
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        for name in _NOT_OURS:
            patch.delenv(name, raising=False)
        for name in ("no_proxy", "NO_PROXY"):  # the servers of the tests are on this machine
            patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost"))))
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def state_folder() -> Iterator[Path]:
    """The state folder of this test. A file whose tests share an engine overrides it with one shared folder."""
    with own_state() as folder:
        yield folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with most slow tests first (with --no-loadscope-reorder), so that none runs alone at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
