"""The changes of a run to its worktree are undone before scoring."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.lab.git.repository import Repository
from core.lab.git.restore import apart_from_git, link_inputs, restore_worktree
from core.record.errors import GitError
from tests.projects import git


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A linked worktree of a repository with a few files."""
    repo = tmp_path / "repo"
    (repo / "pkg" / "deep").mkdir(parents=True)
    for name in ("pkg/model.py", "pkg/deep/more.py", "top ü.txt"):
        (repo / name).write_text(name)
    (repo / ".gitignore").write_text("*.pyc\nruns/\n")

    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "first")
    git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    return tmp_path / "tree"


def look(tree: Path) -> dict[str, str]:
    return {str(p.relative_to(tree)): p.read_text() for p in sorted(tree.rglob("*")) if p.is_file()}


def test_everything_that_a_run_changed_is_restored(tree: Path, tmp_path: Path) -> None:
    before = look(tree)
    model = tree / "pkg" / "model.py"
    stat = model.stat()
    model.write_text("PKG/MODEL.PY")  # of the same length and with its old times
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (tree / "pkg" / "deep" / "more.py").unlink()
    (tree / "pkg" / "deep" / "more.py").mkdir()
    (tree / "pkg" / "deep" / "more.py" / "x").write_text("x")
    (tree / "pkg" / "__pycache__").mkdir()
    (tree / "pkg" / "__pycache__" / "model.pyc").write_text("ignored by git")
    (tree / "runs").mkdir()
    (tree / "runs" / "better.bin").write_text("ignored by git")
    (tree / "runs").chmod(0o111)
    (tree / "nested" / ".git").mkdir(parents=True)
    (tree / "json.py").write_text("shadow")
    (tree / "a link").symlink_to("its target is text, and so may be weights")
    (tree / "pkg").chmod(0o500)
    restore_worktree(tree / "pkg" / "deep")
    assert look(tree) == before and not (tree / "a link").is_symlink()


def test_files_added_by_a_run_are_removed(tree: Path, tmp_path: Path) -> None:
    more = tree / "pkg" / "deep" / "more.py"
    os.utime(more, ns=(1, 1))
    (tree / "data").symlink_to(tmp_path / "elsewhere")  # the file of the run, in place of that of the harness
    for path in (tree, more):
        try:
            os.setxattr(path, "user.weights", b"0123")
        except OSError:
            continue  # this file system keeps no attributes
    number = more.stat().st_ino
    held = more.open()  # keeps its inode number from reuse
    restore_worktree(tree, {"data": tmp_path / "data", "more/data": tmp_path / "data"})
    assert more.stat().st_mtime_ns > 1 and more.stat().st_ino != number
    assert [os.listxattr(path) for path in (tree, more)] == [[], []]
    assert (tree / "data").readlink() == (tree / "more" / "data").readlink() == tmp_path / "data"
    held.close()


def test_a_folder_replaced_by_a_link_is_restored(tree: Path, tmp_path: Path) -> None:
    before = look(tree)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.py").write_text("evil")
    (tree / "pkg").rename(tree / "moved")
    (tree / "pkg").symlink_to(tmp_path / "elsewhere")
    restore_worktree(tree)
    assert look(tree) == before and not (tree / "pkg").is_symlink()
    assert (tmp_path / "elsewhere" / "model.py").read_text() == "evil"


def test_a_checkout_of_the_user_is_never_restored(tree: Path, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "notes").write_text("mine")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "notes").write_text("mine")
    restore_worktree(repo)
    restore_worktree(tmp_path / "plain")
    assert (repo / "notes").exists() and (tmp_path / "plain" / "notes").exists()


def users_checkout(folder: Path, *, submodule: bool) -> Path:
    """A repository with a file named `config`, or a submodule that is one."""
    repo = folder / "repo"
    repo.mkdir()
    git(repo, "init", "-q")
    (repo / "config").write_text("lr: 0.1")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "first")
    if not submodule:
        return repo
    git(folder, "init", "-q", "outer")
    git(folder / "outer", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repo), "sub")
    return folder / "outer" / "sub"


@pytest.mark.parametrize("shape", ["submodule", "absolute", "bare key", "linked"])
def test_the_working_tree_is_given_to_git_and_not_taken_from_the_configuration(tmp_path: Path, shape: str) -> None:
    """A file named `config`, written into git's folder, would break the user's repository."""
    repo = users_checkout(tmp_path, submodule=shape == "submodule")
    if shape == "linked":
        git(repo, "worktree", "add", "-q", "-b", "mine", str(tmp_path / "mine"))
        git(repo, "config", "core.worktree", str(repo))
        repo = tmp_path / "mine"
    if shape == "absolute":
        git(repo, "config", "core.worktree", str(repo))
    if shape != "linked":
        git(repo, "config", "extensions.worktreeConfig", "true")
    repository = Repository.open(repo)
    tree = repository.add_worktree(repo / "sessions" / "w", repository.head())
    (repo / "config").write_text("the user's work")
    if shape == "bare key":
        git(repo, "config", "core.bare", "true")
    (tree / "config").write_text("of the run")
    before = (repository.common_dir / "config").read_text()
    restore_worktree(tree)
    assert (tree / "config").read_text() == "lr: 0.1"
    assert (repo / "config").read_text() == "the user's work"
    assert (repository.common_dir / "config").read_text() == before
    if shape != "bare key":
        assert git(tree, "rev-parse", "--show-toplevel") == str(tree.resolve())


@pytest.mark.parametrize("shape", ["submodule", "linked"])
def test_the_users_checkout_is_not_restored_in_place_of_a_worktree_without_git(tmp_path: Path, shape: str) -> None:
    repo = users_checkout(tmp_path, submodule=shape == "submodule")
    if shape == "linked":
        git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "mine"))
        repo = tmp_path / "mine"
    repository = Repository.open(repo)
    tree = repository.add_worktree(repo / "sessions" / "w", repository.head())
    (repo / "config").write_text("the user's work")
    (tree / ".git").unlink()
    with pytest.raises(GitError):
        restore_worktree(tree)
    assert (repo / "config").read_text() == "the user's work"


def test_what_git_does_not_hold_of_a_tracked_folder_is_linked(tree: Path, tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "repo" / "pkg", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "big.bin").write_text("outside the project")
    (source / "deep" / "train.bin").write_text("data")
    (source / "raw").mkdir()
    (source / "linked").symlink_to(elsewhere)
    (source / "removed.py").write_text("in git, and removed by the experiment")
    held = ["pkg/model.py", "pkg/deep/more.py", "pkg/removed.py", "top ü.txt"]
    inputs = apart_from_git("pkg", source, held)
    assert sorted(inputs) == ["pkg/deep/train.bin", "pkg/linked", "pkg/raw"]
    assert apart_from_git("pkg/raw", source / "raw", held) == {"pkg/raw": source / "raw"}
    link_inputs(tree, inputs)
    assert (tree / "pkg/deep/train.bin").read_text() == "data" and not (tree / "pkg/removed.py").exists()
    assert (tree / "pkg/linked").readlink() == elsewhere  # the link in the project is not there in the sandbox
    (tree / "pkg/deep/train.bin").unlink()
    restore_worktree(tree, inputs)
    assert (tree / "pkg/deep/train.bin").read_text() == "data" and not (tree / "pkg/model.py").is_symlink()


def test_the_files_of_a_submodule_are_linked_into_its_empty_folder(tree: Path, tmp_path: Path) -> None:
    module = tmp_path / "repo" / "vendor" / "lib"
    (module / "src").mkdir(parents=True)
    for name in (".git", "src/mathx.py", "readme"):
        (module / name).write_text(name)
    (tree / "vendor" / "lib").mkdir(parents=True)  # as git leaves it
    for name in ("vendor", "vendor/lib"):
        link_inputs(tree, apart_from_git(name, tmp_path / "repo" / name, ["pkg/model.py"]))
        assert (tree / "vendor/lib/src/mathx.py").read_text() == "src/mathx.py"
    assert sorted(path.name for path in (tree / "vendor/lib").iterdir()) == ["readme", "src"]
