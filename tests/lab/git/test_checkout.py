"""Which checkout holds a branch, and that the command in the hint frees the branch."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from core.git import reason
from core.lab.git.repository import Repository
from core.record.errors import LabError
from tests.projects import IDENTITY, git

BRANCH = "autoresearch/s"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Four commits on main and on the branch, with the user on main."""
    folder = tmp_path / "a user's repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for text in ("one", "two", "three", "four"):
        (folder / "a.txt").write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", text)
    git(folder, "branch", BRANCH)
    return folder


def check_release(repo: Path, where: Path) -> None:
    """The branch is found at `where`; the command frees it and leaves HEAD's commit and the branch where they are."""
    repository = Repository.open(repo)
    found = repository.checked_out_at(BRANCH)
    assert found is not None and found.path == where
    before = git(repo, "rev-parse", BRANCH)
    done = subprocess.run(["sh", "-c", found.release], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert repository.checked_out_at(BRANCH) is None and git(repo, "rev-parse", BRANCH) == before


def test_a_branch_in_no_checkout_is_free(repo: Path) -> None:
    assert Repository.open(repo).checked_out_at(BRANCH) is None
    git(repo, "checkout", "-q", "--detach", BRANCH)
    assert Repository.open(repo).checked_out_at(BRANCH) is None


def test_the_users_checkout_is_found(repo: Path) -> None:
    git(repo, "checkout", "-q", BRANCH)
    (repo / "a.txt").write_text("edited")
    check_release(repo, repo)
    assert (repo / "a.txt").read_text() == "edited"


def test_another_worktree_is_found(repo: Path, tmp_path: Path) -> None:
    tree = tmp_path / "w t" / "x"
    git(repo, "worktree", "add", "-q", str(tree), BRANCH)
    assert Repository.open(repo).checked_out_at(BRANCH, apart_from=tmp_path / "w t") is None
    assert Repository.open(tree).checked_out_at(BRANCH) == Repository.open(repo).checked_out_at(BRANCH)
    check_release(repo, tree)


def test_a_deleted_worktree_is_found(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "tree"), BRANCH)
    (tmp_path / "tree").rename(tmp_path / "moved")
    check_release(repo, repo)


@pytest.mark.parametrize("started_from", [BRANCH, "main"])
def test_a_bisect_is_found(repo: Path, started_from: str) -> None:
    git(repo, "checkout", "-q", BRANCH)
    git(repo, "bisect", "start")
    if started_from == BRANCH:
        git(repo, "bisect", "bad")
        git(repo, "bisect", "good", "HEAD~3")
        assert git(repo, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    check_release(repo, repo)


def test_a_rebase_is_found(repo: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(repo, "worktree", "add", "-q", str(tree), BRANCH)
    (tree / "a.txt").write_text("mine")
    git(tree, "commit", "-qam", "mine")
    (repo / "a.txt").write_text("theirs")
    git(repo, "commit", "-qam", "theirs")
    done = subprocess.run(["git", *IDENTITY, "rebase", "main"], cwd=tree, capture_output=True, check=False)
    assert done.returncode != 0 and git(tree, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    check_release(repo, tree)


def test_an_unfinished_merge_is_found(repo: Path) -> None:
    git(repo, "checkout", "-q", BRANCH)
    (repo / "a.txt").write_text("mine")
    git(repo, "commit", "-qam", "mine")
    git(repo, "checkout", "-q", "main")
    (repo / "a.txt").write_text("theirs")
    git(repo, "commit", "-qam", "theirs")
    git(repo, "checkout", "-q", BRANCH)
    subprocess.run(["git", *IDENTITY, "merge", "main"], cwd=repo, capture_output=True, check=False)
    check_release(repo, repo)


def test_a_submodule_is_found(repo: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repo), "inner")
    git(outer / "inner", "checkout", "-q", "-b", BRANCH)
    check_release(outer / "inner", outer / "inner")


def with_filter(repo: Path, key: str, command: str) -> Path:
    """A repository with a file that has a filter; without a `key` the filter is not configured."""
    repo.mkdir()
    git(repo, "init", "-q")
    (repo / "w.bin").write_text("a pointer")
    (repo / ".gitattributes").write_text("*.bin filter=big -text\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "first")
    if key:
        git(repo, "config", "filter.big.required", "true")
        git(repo, "config", f"filter.big.{key}", command)
    return repo


@pytest.mark.parametrize("command", ['"cat" %f', "LC_ALL=C cat", "{ cat; }", '"$HOME/cat"', "git-sh-i18n--envsubst"])
def test_a_filter_that_the_shell_would_start_is_not_missing(tmp_path: Path, command: str) -> None:
    repository = Repository.open(with_filter(tmp_path / "p", "smudge", command))
    repository.check_filters(repository.head())


@pytest.mark.parametrize(
    ("key", "command", "words"),
    [
        ("process", "git-none filter-process", ("git-none: not found", "w.bin: smudge filter big", "install git-none")),
        ("smudge", "sh -c 'exit 1'", ("w.bin: smudge filter big failed", "correct the filter big of w.bin")),
        ("process", "git-sh-i18n--envsubst", ("w.bin: smudge filter big failed", "correct the filter big of w.bin")),
        ("smudge", "'git-none' smudge", ("git-none: not found", "install git-none (filter big of w.bin)")),
        ("", "", ("object", "w.bin", "fsck")),
    ],
)  # fmt: skip
def test_a_failed_checkout_names_its_filter(tmp_path: Path, key: str, command: str, words: tuple[str, ...]) -> None:
    repo = with_filter(tmp_path / "p", key, command)
    if not key:
        blob = git(repo, "rev-parse", "HEAD:w.bin")
        (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    repository = Repository.open(repo)
    with pytest.raises(LabError) as caught:
        repository.add_worktree(tmp_path / "w", repository.head())
    assert not [word for word in words if word not in str(caught.value)], caught.value
    assert not (tmp_path / "w").exists()


def test_the_reason_of_a_full_disk_is_not_a_consequence_of_it() -> None:
    first = "error: unable to create file a: No space left on device"
    assert reason(f"{first}\nfatal: Could not reset index file to revision 'HEAD'.\n") == first


def test_worktrees_that_come_and_go_meanwhile_are_no_fault(repo: Path, tmp_path: Path) -> None:
    repository, over = Repository.open(repo), threading.Event()

    def come_and_go() -> None:
        record = repo / ".git" / "worktrees" / "one"
        while not over.is_set():
            record.mkdir(parents=True, exist_ok=True)
            (record / "gitdir").write_text(f"{tmp_path}/w/.git\n")
            (record / "gitdir").unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(300):
            assert repository.prune(tmp_path / "elsewhere") == []
    finally:
        over.set()
        thread.join()
