"""A large worktree is restored, and brought to another commit, by the files that differ: with the same result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.lab.git.layout import MAX_CHANGED, Layout, tells_changes
from core.lab.git.repository import Repository
from core.lab.git.restore import restore_worktree
from tests.projects import git, make_project

MORE = {f"f{n}.txt": str(n) for n in range(MAX_CHANGED + 20)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "p"
    for folder in ("pkg/deep", "other"):
        (project / folder).mkdir(parents=True)
        for name in ("a.txt", "b.txt", "c.sh"):
            (project / folder / name).write_text(folder + name)
    (project / "pkg" / "link").symlink_to("deep/a.txt")
    (project / os.fsdecode(b"n\xff\nw")).write_text("odd")
    (project / "other" / "c.sh").chmod(0o755)
    return make_project(project, more=MORE)


@pytest.fixture
def repo(project: Path) -> Repository:
    worktrees = project / "sessions" / "w"
    worktrees.mkdir(parents=True)
    if not tells_changes(worktrees):
        pytest.skip("this file system does not tell every change")
    repo = Repository.open(project)
    repo.reuse_worktrees(worktrees, least=1)
    return repo


def look(tree: Path) -> dict[str, tuple[int, bytes]]:
    """Mode, and text or target, of everything in the tree."""
    found = {}
    for path in sorted(tree.rglob("*")):
        if path.name != ".git":
            text = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(tree))] = (path.lstat().st_mode, text)
    return found


def scribble(tree: Path) -> None:
    """What a run may do, each to another entry."""
    deep = tree / "pkg" / "deep"
    status = (deep / "a.txt").stat()
    (deep / "a.txt").write_text("PKG/DEEPA.TXT")  # of the same length, with its old times
    os.utime(deep / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    (deep / "b.txt").unlink()
    (deep / "b.txt").mkdir()
    (deep / "b.txt" / "x").write_text("x")
    (deep / "c.sh").chmod(0o700)
    (deep / "new").write_text("new")
    os.link(tree / "other" / "a.txt", tree / "other" / "hard")
    (tree / "other" / "b.txt").rename(tree / "moved")
    os.utime(tree / "other" / "c.sh", ns=(1, 1))
    (tree / "pkg" / "link").unlink()
    (tree / "pkg" / "link").symlink_to("/etc/passwd")
    (tree / "f1.txt").unlink()
    (tree / "f1.txt").symlink_to("f2.txt")
    (tree / "out" / "nested").mkdir(parents=True)
    (tree / "out" / "nested" / "x").write_text("x")


def test_a_restored_worktree_is_as_at_first_and_keeps_what_is_unchanged(repo: Repository) -> None:
    tree = repo.add_worktree(repo.root / "sessions" / "w" / "1", repo.head())
    before, kept = look(tree), (tree / "f5.txt").stat().st_ino
    scribble(tree)
    layout = repo.layout(tree)
    assert layout is not None
    (tree / "f7.txt").read_text()
    restore_worktree(tree, {"data": repo.root}, user=repo.root, layout=layout)
    assert (tree / "data").is_symlink()
    (tree / "data").unlink()
    assert look(tree) == before and (tree / "f5.txt").stat().st_ino == kept
    assert layout.clean() == set() and git(tree, "status", "--short") == ""


def test_with_many_changes_everything_is_laid_out_anew(repo: Repository) -> None:
    tree = repo.add_worktree(repo.root / "sessions" / "w" / "1", repo.head())
    before = look(tree)
    os.utime(tree / "train.py", ns=(5, 5))  # may stay in no case
    for name in MORE:
        (tree / name).write_text("of the run")
    restore_worktree(tree, layout=repo.layout(tree))
    assert look(tree) == before and (tree / "train.py").stat().st_mtime_ns != 5


def test_a_free_worktree_becomes_one_of_another_commit(repo: Repository, project: Path) -> None:
    parent = repo.head()
    folder = project / "sessions" / "w"
    tree = repo.add_worktree(folder / "1", parent)
    kept = (tree / "f5.txt").stat().st_ino
    child = repo.commit_files(parent, {"train.py": "new", "pkg/fresh/x.py": "added"}, "child")
    scribble(tree)
    repo.remove_worktree(tree)
    repo.remove_worktree(tree)
    assert tree.exists() and not (tree / "out").exists()
    (tree / "out").mkdir()  # a process that outlived the run
    again = repo.add_worktree(folder / "2", child)
    assert not tree.exists() and (again / "f5.txt").stat().st_ino == kept
    plain = Repository.open(project).add_worktree(project.parent / "plain", child)
    assert look(again) == look(plain) and git(again, "rev-parse", "HEAD") == child
    assert [path.name for path in folder.iterdir()] == ["2"] and "sessions/w/1" not in git(project, "worktree", "list")
    layout = repo.layout(again)
    assert layout is not None and layout.clean() == set()
    repo.remove_worktree(again)
    back = repo.add_worktree(folder / "3", parent)  # a file is removed there: laid out anew
    assert "pkg/fresh" not in look(back) and (back / "train.py").read_text() != "new"
    repo.remove_worktree(back)
    assert back.exists()
    (back / ".git").write_text("gitdir: /elsewhere")
    repo.remove_worktree(repo.add_worktree(folder / "4", parent))  # the third is lost, and nothing else
    assert [path.name for path in folder.iterdir()] == ["4"] and (project / ".git" / "HEAD").exists()
    repo.reuse_worktrees(None)
    assert not list(folder.iterdir()) and "sessions/w" not in git(project, "worktree", "list")


def test_a_worktree_with_a_changed_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("x")
    (tmp_path / "a" / "y").write_text("y")
    layout = Layout(tmp_path, "c")
    assert layout.clean() == set()
    try:
        os.setxattr(tmp_path / "a", "user.weights", b"better")
    except OSError:
        pytest.skip("this file system keeps no attributes")
    inode = (tmp_path / "a").stat().st_ino
    assert layout.clean() == set() and (tmp_path / "a").stat().st_ino != inode
    assert os.listxattr(tmp_path / "a") == [] and layout.clean() == set()
    (tmp_path / "a" / "b" / "new").write_text("n")
    assert layout.clean() == set() and layout.clean() == set()
