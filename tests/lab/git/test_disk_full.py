"""Git on a full disk: a patient repository continues when space is free again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from core.lab.git.repository import Repository
from core.record.errors import LabError
from core.session.disk import disk_trouble
from tests.disks import fill, small_disk
from tests.engine.support import wait_for
from tests.projects import git, make_project


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 4) as disk:
        yield disk


def test_a_git_command_waits_for_free_space(small: Path) -> None:
    repo = Repository.open(make_project(small / "p"))
    head = repo.head()
    filler = fill(small)
    assert disk_trouble(small).startswith("the disk is full: 0.0 MB are free")
    with pytest.raises(LabError):
        repo.commit_files(head, {"train.py": "print(1)\n"}, "impatient")
    repo.retry_when_full = True
    commits: list[str] = []

    def work() -> None:
        commit = repo.commit_files(head, {"train.py": "print(2)\n"}, "patient")
        repo.keep_ref("s", 1, commit)
        repo.add_worktree(small / "w", commit)
        commits.append(commit)

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.5)
    assert worker.is_alive() and not commits
    filler.unlink()
    worker.join(30)
    assert commits and repo.refs("s") == {1: commits[0]}
    assert (small / "w" / "train.py").read_text() == "print(2)\n"


@pytest.mark.parametrize(("megabytes", "files"), [(64, 600), (6, 0)])
def test_a_checkout_that_does_not_fit_waits_and_says_so(tmp_path: Path, megabytes: int, files: int) -> None:
    """Inodes used up; and bytes that are free again once git has removed the half checkout."""
    text = "x" * (2**20 * 4 // 200) if not files else "x"
    more = {f"f{number}": f"{number}{text}" for number in range(200)}
    with small_disk(tmp_path / "small", megabytes, files) as disk:
        repo = Repository.open(make_project(disk / "p", more=more))
        git(disk / "p", "gc", "-q", "--prune=now")
        fillers = [disk / f"filler{number}" for number in range(600 if files else 0)]
        for path in fillers:
            with suppress(OSError):
                path.touch()
        if files:
            assert "inodes" in disk_trouble(disk)
        repo.retry_when_full = True
        worker = threading.Thread(target=lambda: repo.add_worktree(disk / "w", repo.head()), daemon=True)
        worker.start()
        wait_for(lambda: repo.waits_for_space, "a wait for space")
        assert "too little room for git" in repo.waits_for_space
        time.sleep(3)
        assert worker.is_alive()
        for path in fillers or [disk / "p" / name for name in more]:
            path.unlink(missing_ok=True)
        worker.join(60)
        assert not worker.is_alive() and not repo.waits_for_space
        assert (disk / "w" / "train.py").exists()


def test_waiting_for_space_can_be_cancelled(small: Path) -> None:
    repo = Repository.open(make_project(small / "p"))
    head = repo.head()
    fill(small)
    repo.retry_when_full = True
    failed = _failure(lambda: repo.commit_files(head, {"train.py": "print(3)\n"}, "never"))
    repo.retry_when_full = False
    assert "No space left" in str(failed())


def _failure(work: Callable[[], object]) -> Callable[[], Exception]:
    """Start `work` in a thread. The returned function waits for it and returns its exception."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    worker = threading.Thread(target=run)
    worker.start()

    def wait() -> Exception:
        worker.join(30)
        assert raised, "it never gave up"
        return raised[0]

    return wait
