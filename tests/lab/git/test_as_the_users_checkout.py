"""A fresh and a restored worktree have the files of the user's checkout: sparse patterns, submodules, no network."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from core.lab.git.repository import Repository
from core.lab.git.restore import restore_worktree
from core.program.program import check_files, parse
from core.record.errors import LabError, ProgramError
from tests.projects import PROGRAM, git, make_project

LOCAL = ("-c", "protocol.file.allow=always")


def files(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file() and path.name != ".git"}


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    """A repository with a submodule of its own."""
    inner = make_project(tmp_path / "inner", more={"deep.py": "Y = 2"})
    lib = make_project(tmp_path / "lib", more={"mathx.py": "X = 1"})
    git(lib, *LOCAL, "submodule", "--quiet", "add", str(inner), "inner")
    git(lib, "commit", "-qm", "inner")
    return lib


@pytest.fixture
def project(tmp_path: Path, lib: Path) -> Path:
    project = make_project(tmp_path / "p")
    git(project, *LOCAL, "submodule", "--quiet", "add", str(lib), "vendor/my lib")
    git(project, *LOCAL, "submodule", "--quiet", "update", "--init", "--recursive")
    git(project, "commit", "-qm", "with a library")
    return project


def look_at_config(project: Path) -> dict[str, bytes]:
    """Every file of git's own folders but objects, refs' logs and the records of worktrees."""
    found = {}
    for path in sorted((project / ".git").rglob("*")):
        if path.is_file() and not {"objects", "logs", "worktrees"} & set(path.parts):
            found[str(path)] = path.read_bytes()
    return found


def test_submodules_are_filled_from_the_users_objects(project: Path, tmp_path: Path) -> None:
    before = look_at_config(project)
    (project / "vendor/my lib/mathx.py").write_text("of the user, not committed")
    (tmp_path / "lib").rename(tmp_path / "away")  # nothing to be fetched from
    repo = Repository.open(project)
    tree = repo.add_worktree(project / "sessions" / "w", repo.head())
    own = {"vendor/my lib/mathx.py", "vendor/my lib/inner/deep.py", "train.py"}
    assert own < files(tree) and (tree / "vendor/my lib/mathx.py").read_text() == "X = 1"
    (tree / "vendor/my lib/mathx.py").write_text("of the run")
    (tree / "vendor/my lib/more.py").write_text("of the run")
    laid_out = files(tree) - {"vendor/my lib/more.py"}
    restore_worktree(tree, user=repo.root)
    assert files(tree) == laid_out and (tree / "vendor/my lib/mathx.py").read_text() == "X = 1"
    assert (project / "vendor/my lib/mathx.py").read_text() == "of the user, not committed"
    assert look_at_config(project) == before and repo.uninitialized_submodules(repo.head()) == []


def test_a_submodule_that_is_not_initialized_is_empty_and_named(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(project), "clone")
    repo = Repository.open(tmp_path / "clone")
    tree = repo.add_worktree(tmp_path / "w", repo.head())
    assert "train.py" in files(tree) and not list((tree / "vendor/my lib").iterdir())
    assert repo.uninitialized_submodules(repo.head()) == ["vendor/my lib"]


def test_a_submodule_without_its_commit_is_named_with_the_command(project: Path, lib: Path, tmp_path: Path) -> None:
    (lib / "mathx.py").write_text("X = 3")
    git(lib, "commit", "-qam", "newer")
    newer = git(lib, "rev-parse", "HEAD")
    git(project, "update-index", "--cacheinfo", f"160000,{newer},vendor/my lib")
    git(project, "commit", "-qm", "the newer library, not fetched yet")
    repo = Repository.open(project)
    with pytest.raises(LabError, match="the submodule lacks its commit") as caught:
        repo.add_worktree(tmp_path / "w", repo.head())
    assert caught.value.hint.endswith("submodule update --init 'vendor/my lib'") and not (tmp_path / "w").exists()
    allowed = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"}
    subprocess.run(["sh", "-c", caught.value.hint], env={**os.environ, **allowed}, check=True, capture_output=True)
    assert (repo.add_worktree(tmp_path / "w", repo.head()) / "vendor/my lib/mathx.py").read_text() == "X = 3"


@pytest.mark.parametrize("cone", ["--cone", "--no-cone"])
def test_a_sparse_checkout_is_sparse_in_every_worktree(tmp_path: Path, cone: str) -> None:
    project = tmp_path / "p"
    for name in ("src/a.txt", "other/b.txt", "other/deep/c.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    make_project(project)
    git(project, "sparse-checkout", "set", cone, *(("src",) if cone == "--cone" else ("/*", "!other/")))
    seen = files(project) - {name for name in files(project) if name.startswith(".git/")}
    assert "src/a.txt" in seen and "other/b.txt" not in seen
    repo = Repository.open(project)
    tree = repo.add_worktree(project / "sessions" / "w", repo.head())
    assert files(tree) == seen
    restore_worktree(tree, user=repo.root)
    assert files(tree) == seen
    assert repo.outside_sparse() == {"other/b.txt", "other/deep/c.txt"}
    assert set(repo.files(repo.head(), ["**"])) == seen
    program = parse(PROGRAM.replace('"train.py"', '"other/*.txt"'))
    with pytest.raises(ProgramError, match=r"outside your sparse checkout: other/b\.txt") as caught:
        check_files(program, project, outside=repo.outside_sparse())
    git(project, *caught.value.hint.split()[1:])
    check_files(program, project, outside=repo.outside_sparse())
    assert "other/b.txt" in files(repo.add_worktree(tmp_path / "w", repo.head()))


def test_nothing_is_fetched_for_a_worktree_of_a_partial_clone(tmp_path: Path) -> None:
    origin = make_project(tmp_path / "origin", more={"big.txt": "big"})
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", origin.as_uri(), "clone")
    clone = tmp_path / "clone"
    blob = git(clone, "rev-parse", "HEAD:big.txt")
    repo = Repository.open(clone)
    with pytest.raises(LabError, match="could not fetch") as caught:
        repo.add_worktree(tmp_path / "w", repo.head())
    assert "this partial clone lacks" in caught.value.hint and not (tmp_path / "w").exists()
    assert blob in git(clone, "rev-list", "--objects", "--missing=print", "HEAD")
    with pytest.raises(LabError) as caught:
        repo.read(repo.head(), "big.txt")
    git(clone, *caught.value.hint.partition(" -C ")[2].split()[1:])
    assert repo.read(repo.head(), "big.txt") == "big"
