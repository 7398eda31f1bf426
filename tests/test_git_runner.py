"""The runner of git: configuration, environment and files cannot make it execute programs."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from core.git import Git, reason, require_git
from core.record.errors import GitError
from tests.projects import git


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves `sprung` beside the repository when anything runs it."""
    path = tmp_path / "trap"
    path.write_text(f"#!/bin/sh\necho x >> '{tmp_path}/sprung'\ncat\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "a repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.txt").write_text("one\n")
    (folder / ".gitattributes").write_text("*.txt diff=own\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    (folder / "a.txt").write_text("two\n")
    git(folder, "commit", "-qam", "second")
    return folder


def test_configured_programs_do_not_run(repo: Path, trap: Path, tmp_path: Path) -> None:
    for key in ("core.fsmonitor", "diff.external", "diff.own.command", "diff.own.textconv", "core.pager", "pager.log",
                "core.askPass", "gpg.program"):  # fmt: skip
        git(repo, "config", key, str(trap))
    git(repo, "config", "commit.gpgSign", "true")
    git(repo, "config", "color.ui", "always")
    git(repo, "config", "diff.noprefix", "true")
    for name in ("pre-commit", "post-commit", "post-checkout", "reference-transaction", "post-index-change"):
        hook = repo / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.symlink_to(trap)
    runner = Git(repo)
    who = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    (repo / "a.txt").write_text("three\n")
    assert runner.text("status", "--porcelain") == "M a.txt"
    runner.bytes_("commit", "-qam", "third", env=who)
    runner.bytes_("worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    assert runner.text("log", "-1", "--format=%s") == "third"
    diff = runner.diff("HEAD~1", "HEAD", "-p")
    assert b"diff --git a/a.txt b/a.txt" in diff and b"-two\n+three" in diff and b"\x1b" not in diff
    assert not (tmp_path / "sprung").exists()


def test_a_commit_of_the_user_runs_the_hooks(repo: Path, trap: Path, tmp_path: Path) -> None:
    hook = repo / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.symlink_to(trap)
    identity = ("-c", "user.name=x", "-c", "user.email=x@y")
    Git(repo, hooks=True).bytes_(*identity, "commit", "-q", "--allow-empty", "-m", "x")
    assert (tmp_path / "sprung").exists()


def test_git_variables_are_ignored_and_the_environment_is_unchanged(
    repo: Path, trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    for name in ("GIT_EXTERNAL_DIFF", "GIT_PAGER", "PAGER", "GIT_SSH", "GIT_ASKPASS"):
        monkeypatch.setenv(name, str(trap))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "their index"))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    before = dict(os.environ)
    runner = Git(repo)
    assert runner.text("rev-parse", "--show-toplevel") == str(repo)
    runner.bytes_("read-tree", "HEAD", env={"GIT_INDEX_FILE": str(tmp_path / "our index")})
    assert (tmp_path / "our index").exists() and not (tmp_path / "their index").exists()
    assert b"+two" in runner.diff("HEAD~1", "HEAD", "-p")
    with pytest.raises(GitError, match="fatal: "):
        runner.bytes_("show-ref", "--verify", "refs/heads/none")
    assert dict(os.environ) == before and not (tmp_path / "sprung").exists()


def test_settings_of_the_users_shell_pass(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
                "GIT_CONFIG_KEY_1": "core.hooksPath", "GIT_CONFIG_VALUE_1": "/tmp",
                "GIT_LFS_SKIP_SMUDGE": "1", "GIT_AUTHOR_NAME": "x", "GIT_TRACE": "1"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    git(repo, "config", "alias.show-all", "!env")
    seen = Git(repo).text("show-all").splitlines()
    passed = [name for name, value in settings.items() if f"{name}={value}" in seen]
    assert passed == [name for name in settings if name not in ("GIT_AUTHOR_NAME", "GIT_TRACE")]
    assert Git(repo).text("config", "safe.directory") == "*"
    assert Git(repo).text("config", "core.hooksPath") == "/dev/null"


def test_a_bare_repository_inside_a_work_tree_is_refused(repo: Path, trap: Path) -> None:
    """Plain files that look like a bare repository can hold any configuration."""
    git(repo, "init", "-q", "--bare", "data")
    git(repo / "data", "config", "alias.run", f"!{trap}")
    Git(repo / "data").run("run")
    assert not (repo.parent / "sprung").exists()
    with pytest.raises(GitError, match="bare"):
        Git(repo / "data").bytes_("rev-parse", "--git-dir")


def test_a_linked_worktree_of_a_bare_repository_is_accepted(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repo), "store.git")
    git(tmp_path / "store.git", "worktree", "add", "-q", str(tmp_path / "tree"), "main")
    assert Git(tmp_path / "tree").resolve("HEAD^{commit}")


def test_a_timeout_ends_a_command_and_its_child_processes(repo: Path, tmp_path: Path) -> None:
    git(repo, "config", "alias.hang", f"!sleep 60; touch '{tmp_path}/late'")
    started = time.monotonic()
    with pytest.raises(GitError, match="git hang did not end within 0"):
        Git(repo, seconds=0.3).run("hang")
    assert time.monotonic() - started < 40


def test_no_command_waits_for_input(repo: Path) -> None:
    git(repo, "config", "alias.ask", "!cat; exec 3</dev/tty && cat <&3")
    status, out, error = Git(repo, seconds=20).run("ask")
    assert status and not out and "tty" in error


def test_failures_are_reported_with_a_reason(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GitError, match="cannot change to"):
        Git(tmp_path / "gone").bytes_("status")
    assert reason("hint: do this\nfatal: not so\nhint: or that\n") == "fatal: not so"
    assert reason("no commits\non Mondays\n") == "no commits on Mondays" and reason("") == "no reason given"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="not installed"):
        require_git()
    with pytest.raises(GitError, match="not installed"):
        Git(repo).run("status")


def test_a_worktree_that_another_git_is_making_is_waited_for(repo: Path, tmp_path: Path) -> None:
    """git writes commondir in two steps, and another git that lists worktrees in between ends with an error."""
    git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    half = repo / ".git" / "worktrees" / "linked" / "commondir"
    text = half.read_text()
    half.write_text("")
    written = threading.Timer(0.1, half.write_text, [text])
    written.start()
    assert "linked" in Git(repo).text("worktree", "list")
    written.join()
    half.write_text("")
    with pytest.raises(GitError, match="commondir"):
        Git(repo).text("worktree", "list")
