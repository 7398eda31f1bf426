"""A real session with kept and discarded experiments and a certificate, made once and copied for each test."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.client import read_state
from core.evidence.verify import Verified, verify
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from tests.conftest import own_state
from tests.engine.support import engine, wait_end
from tests.projects import TRAIN, make_project, rate, write_script

# Its metric falls with RATE, and has the noise of each run's seed.
NOISY = re.sub(
    "noise = .*",
    'import random; noise = random.Random(int(os.environ["AUTORESEARCH_SEED"])).uniform(-0.0173, 0.0173)',
    TRAIN.replace("(RATE - 0.3) ** 2", "0.3 * RATE"),
)


class Made:
    """The session, and what `verify` said while its engines ran."""

    def __init__(self, paths: SessionPaths) -> None:
        self.paths = paths
        self.meanwhile: list[Verified] = []


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("evidence")
    project = make_project(folder / "p", train=NOISY, more={"judge.py": "# judges\n"})
    slower = {"path": "train.py", "search": "SECONDS = 0.05", "replace": "SECONDS = 0.06"}  # on any parent
    proposals = [rate("0.5", "-0.1"), {"hypothesis": "no change", "kind": "other", "edits": [slower]}]
    script = write_script(folder / "s.jsonl", proposals)
    first: dict[str, object] = {"researcher": "scripted", "script": str(script), "slots": "cpu:1"}
    with own_state():
        found = Made(SessionPaths(project, "s"))
        for options in (first, {"only_task": "certify:1"}):
            with engine(project, **options) as paths:
                while engine_alive(paths):
                    found.meanwhile.append(verify(paths, print))
                wait_end(paths)
    state = read_state(found.paths)
    assert state.best == 1 and state.experiments[1].certified == "certified", state.reason
    yield found


@pytest.fixture
def session(made: Made, tmp_path: Path) -> SessionPaths:
    """A copy of the session with its repository."""
    shutil.copytree(made.paths.project, tmp_path / "p", symlinks=True)
    return SessionPaths(tmp_path / "p", "s")
