"""Fixtures: one cache for all tests with the default corpus prepared, and an empty one for a single test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanotrain import corpus, prepare, process_limits
from nanotrain.model_process import ModelProcess
from tests.nanotrain import warm_python


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> prepare.PreparedData:
    """The default corpus, prepared once for all workers of pytest-xdist: the first one holds the cache's lock."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return prepare.prepare(corpus.kjv(), shared / "prepared" / "nanotrain")


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A prefix of processes with torch already loaded, in place of a sandbox for example. Some start without it."""
    with warm_python.serving(tmp_path_factory.mktemp("w")) as prefix:
        yield prefix


@pytest.fixture
def home(prepared: prepare.PreparedData) -> Iterator[Path]:
    """AUTORESEARCH_HOME pointing at the prepared cache."""
    with environment(AUTORESEARCH_HOME=str(prepared.folder.parent.parent)) as _:
        yield prepared.folder.parent.parent


@pytest.fixture
def empty_home(tmp_path: Path) -> Iterator[Path]:
    """AUTORESEARCH_HOME pointing at an empty folder."""
    with environment(AUTORESEARCH_HOME=str(tmp_path / "home")):
        yield tmp_path / "home"


class environment:
    """Set environment variables for the block; None removes one. NANOTRAIN_DATA is always removed first."""

    def __init__(self, **values: str | None) -> None:
        self.values: dict[str, str | None] = {"NANOTRAIN_DATA": None, **values}

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.values}
        self._set(self.values)

    def __exit__(self, *_: object) -> None:
        self._set(self.before)

    @staticmethod
    def _set(values: dict[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def sparing_other_children() -> Iterator[None]:
    """Closing a model ends all children of the process: in the block not those that the tests have at its begin."""
    mine = {pid for pid, parent in process_limits.parent_pids().items() if parent == os.getpid()}
    ModelProcess.running |= mine
    yield
    ModelProcess.running -= mine
