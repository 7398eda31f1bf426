"""The repository layer with real git."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.lab.git.repository import Repository
from core.record.errors import EditError, GitConflict, LabError, ProjectError
from tests.projects import git

TRAIN = "import math\nLR = 0.1\nDEPTH = 2\nWIDTH = 64\n\n\ndef main():\n    pass\n"

OURS = tuple(
    f".git/{name}"
    for name in ("objects", "worktrees", "refs/autoresearch", "refs/heads/autoresearch", "logs/refs/heads/autoresearch")
)


def fingerprint(root: Path) -> dict[str, str]:
    """Hashes of every file of a checkout and of its git folder, without the worktree records."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(OURS):
            found[name] = f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
    return found


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def build(name: str = "my projekt 🚀", *, sub: str = ".", fmt: str = "sha1") -> Path:
        root = tmp_path / name
        project = root / sub
        project.mkdir(parents=True)
        git(root, "init", "-q", "-b", "main", f"--object-format={fmt}")
        (project / "train.py").write_text(TRAIN)
        (project / "run.sh").write_text("#!/bin/sh\n")
        (project / "run.sh").chmod(0o755)
        (project / "pkg").mkdir()
        (project / "pkg" / "mod é.py").write_text("x = 1\n")
        (root / "outside.txt").write_text("outside\n")
        git(root, "add", "-A")
        git(root, "commit", "-qm", "first")
        return project

    return build


@pytest.mark.parametrize("sub", [".", "sub dir/ünder"])
@pytest.mark.parametrize("fmt", ["sha1", "sha256"])
def test_commit_read_diff_and_branch(make: Callable[..., Path], sub: str, fmt: str) -> None:
    repository = Repository.open(make(sub=sub, fmt=fmt))
    assert repository.prefix == sub
    head = repository.head()
    assert len(head) == {"sha1": 40, "sha256": 64}[fmt]
    new = repository.commit_files(
        head, {"train.py": TRAIN.replace("0.1", "0.2"), "new/é 🚀.py": "y = 1\r\n", "pkg/mod é.py": None}, "try"
    )
    assert repository.read(new, "train.py") == TRAIN.replace("0.1", "0.2")
    assert repository.read(new, "new/é 🚀.py") == "y = 1\r\n"
    assert repository.read(new, "pkg/mod é.py") is None
    assert repository.read(head, "nothing.py") is None
    assert repository.files(new, ["**/*.py"]) == ["new/é 🚀.py", "train.py"]
    assert repository.files(head, ["pkg"]) == ["pkg/mod é.py"]
    assert repository.files(head, ["*.sh", "train.py"]) == ["run.sh", "train.py"]
    diff = repository.diff(head, new)
    assert "-LR = 0.1" in diff and "+LR = 0.2" in diff and "a/train.py" in diff and "outside" not in diff
    repository.set_branch("autoresearch/nacht 1".replace(" ", "-"), new)
    repository.set_branch("autoresearch/nacht-1", new)
    assert repository.branch_commit("autoresearch/nacht-1") == new
    assert repository.branch_commit("autoresearch/none") is None
    repository.keep_ref("nacht-1", 1, head)
    repository.keep_ref("nacht-1", 12, new)
    assert repository.refs("nacht-1") == {1: head, 12: new}
    assert repository.commit_exists(new) and not repository.commit_exists("0" * len(head))


def test_modes_identity_and_paths_are_kept(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no user.name anywhere
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    repository = Repository.open(make())
    new = repository.commit_files(repository.head(), {"run.sh": "#!/bin/sh\necho\n"}, "mode")
    assert git(repository.root, "ls-tree", new, "run.sh").startswith("100755")
    assert git(repository.root, "log", "-1", "--format=%an <%ae> %cn", new) == (
        "autoresearch <autoresearch@localhost> autoresearch"
    )
    for bad in ("../x", "/etc/passwd", ".git/config", "a/.GIT/hooks/x", "", "."):
        with pytest.raises(EditError):
            repository.commit_files(repository.head(), {bad: "x"}, "bad")
    (repository.root / "link").symlink_to("train.py")
    git(repository.root, "add", "link")
    git(repository.root, "commit", "-qm", "link")
    with pytest.raises(EditError):
        repository.commit_files(repository.head(), {"link": "x"}, "bad")


def test_a_commit_is_reapplied_or_reported_as_a_conflict(make: Callable[..., Path]) -> None:
    repository = Repository.open(make(sub="deep"))
    base = repository.head()
    change = repository.commit_files(base, {"train.py": TRAIN.replace("LR = 0.1", "LR = 0.2")}, "lr")
    moved = repository.commit_files(base, {"train.py": TRAIN.replace("pass", "return 1"), "run.sh": "x\n"}, "other")
    again = repository.reapply(change, base, moved, "lr again")
    assert repository.read(again, "train.py") == TRAIN.replace("0.1", "0.2").replace("pass", "return 1")
    assert repository.read(again, "run.sh") == "x\n"
    assert git(repository.root, "rev-parse", f"{again}^") == moved
    clash = repository.commit_files(base, {"train.py": TRAIN.replace("LR = 0.1", "LR = 0.3")}, "clash")
    with pytest.raises(GitConflict, match=r"train\.py"):
        repository.reapply(change, base, clash, "m")
    removed = repository.commit_files(base, {"train.py": None}, "gone")
    with pytest.raises(GitConflict, match=r"train\.py.*removed"):
        repository.reapply(change, base, removed, "m")
    with pytest.raises(GitConflict, match="already"):
        repository.reapply(change, base, change, "m")
    binary = repository.commit_files(base, {"pkg/mod é.py": "\0a\n"}, "bin")
    with pytest.raises(GitConflict, match="mod"):
        other = repository.commit_files(base, {"pkg/mod é.py": "\0b\n"}, "bin2")
        repository.reapply(binary, base, other, "m")
    added = repository.commit_files(base, {"fresh.py": "1\n"}, "add")
    assert repository.read(repository.reapply(added, base, moved, "m"), "fresh.py") == "1\n"


def test_the_users_checkout_is_untouched(make: Callable[..., Path], tmp_path: Path) -> None:
    project = make()
    for hook in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change"):
        script = project / ".git" / "hooks" / hook
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/hook-ran'\n")
        script.chmod(0o755)
    (project / "train.py").write_text(TRAIN + "# edit\n")
    git(project, "-c", "core.hooksPath=/dev/null", "stash")
    (project / "run.sh").write_text("changed\n")
    (project / "staged.py").write_text("staged\n")
    git(project, "-c", "core.hooksPath=/dev/null", "add", "staged.py")
    (project / "train.py").touch()  # a stale stat in the index, which `git status` would refresh
    before = fingerprint(project)
    repository = Repository.open(project)
    assert repository.dirty(["*.py", "run.sh", "pkg"]) == ["run.sh", "staged.py"]
    new = repository.commit_files(repository.head(), {"train.py": "x = 1\n"}, "try")
    repository.set_branch("autoresearch/s", new)
    repository.keep_ref("s", 1, new)
    tree = repository.add_worktree(tmp_path / "w t" / "1", new)
    assert (tree / "train.py").read_text() == "x = 1\n"
    repository.remove_worktree(tmp_path / "w t" / "1")
    repository.diff("HEAD", new)
    assert fingerprint(project) == before
    assert not (tmp_path / "hook-ran").exists()


def test_worktrees_are_created_and_removed(make: Callable[..., Path], tmp_path: Path) -> None:
    repository = Repository.open(make(sub="in ner"))
    head = repository.head()
    place = tmp_path / "trees" / "3 🚀"
    tree = repository.add_worktree(place, head)
    assert tree == place / "in ner" and (tree / "train.py").read_text() == TRAIN
    assert git(place, "rev-parse", "HEAD") == head
    assert git(place, "status", "--porcelain") == ""
    new = repository.commit_files(head, {"train.py": "x = 2\n"}, "m")
    (tree / "junk").mkdir()
    (tree / "junk" / "f").write_text("x")
    (tree / "junk").chmod(0)
    (place / ".git").unlink()
    (place / ".git").mkdir()  # a forged repository
    assert repository.add_worktree(place, new) == tree
    assert (tree / "train.py").read_text() == "x = 2\n" and not (tree / "junk").exists()
    assert (place / ".git").is_file()
    assert str(place) in git(repository.root, "worktree", "list")
    other = tmp_path / "users own"
    git(repository.root, "worktree", "add", "-q", "--detach", str(other), head)
    for folder in (place, other):
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert repository.prune(tmp_path / "trees") == [place]
    assert str(other) in git(repository.root, "worktree", "list"), "it may be on an unmounted disk"
    repository.remove_worktree(place)
    with pytest.raises(LabError):
        repository.remove_worktree(repository.root)


def test_a_linked_worktree_is_a_project(make: Callable[..., Path], tmp_path: Path) -> None:
    main = make()
    linked = tmp_path / "linked"
    git(main, "worktree", "add", "-q", "-b", "side", str(linked))
    repository = Repository.open(linked)
    assert repository.root == linked and repository.common_dir == main / ".git"
    tree = repository.add_worktree(tmp_path / "e1", repository.head())
    assert (tree / "train.py").exists()
    found = repository.checked_out_at("side")
    assert found is not None and found.path == linked and repository.checked_out_at("none") is None
    repository.exclude("sessions/")
    repository.exclude("sessions/")
    assert (main / ".git/info/exclude").read_text().count("sessions/") == 1
    assert repository.is_ignored("sessions/a") and not repository.is_ignored("train.py")


def test_a_repository_that_only_the_environment_names_is_refused_with_the_line(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make()
    (project / ".git").rename(tmp_path / "my git")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "my git"))
    with pytest.raises(ProjectError, match="named by GIT_DIR only") as caught:
        Repository.open(project)
    subprocess.run(["sh", "-c", caught.value.hint.partition(": ")[2]], check=True)
    assert Repository.open(project).root == project


def test_unusable_repositories_are_reported(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="git init"):
        Repository.open(tmp_path)
    with pytest.raises(ProjectError, match="no such folder"):
        Repository.open(tmp_path / "missing")
    git(tmp_path, "init", "-q", "empty")
    with pytest.raises(ProjectError, match="no commits"):
        Repository.open(tmp_path / "empty")
    git(tmp_path, "init", "-q", "--bare", "bare")
    with pytest.raises(ProjectError, match="bare"):
        Repository.open(tmp_path / "bare")
    git(tmp_path / "empty", "config", "core.bare", "true")
    with pytest.raises(ProjectError, match=r"core\.bare is true") as caught:
        Repository.open(tmp_path / "empty")
    git(tmp_path, *caught.value.hint.split()[1:])
    with pytest.raises(ProjectError, match="no commits"):
        Repository.open(tmp_path / "empty")
    project = make()
    with pytest.raises(ProjectError, match=r"belongs to git|bare"):
        Repository.open(project / ".git")
    head = (project / ".git/HEAD").read_text()
    (project / ".git/index").write_text("junk")
    with pytest.raises(LabError, match=r"index(.|\n)*git fsck"):
        Repository.open(project).dirty(["train.py"])
    (project / ".git/HEAD").write_text("junk")
    with pytest.raises(ProjectError, match=r"repair \.git/HEAD"):
        Repository.open(project)
    (project / ".git/HEAD").write_text(head)
    shutil.rmtree(project / ".git/objects")
    (project / ".git/objects").mkdir()
    with pytest.raises(ProjectError, match=r"damaged(.|\n)*git fsck"):
        Repository.open(project)
    (project / ".git/config").write_text("[[[")
    with pytest.raises(ProjectError, match=r"fatal: bad config(.|\n)*git -C"):
        Repository.open(project)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_the_repository_of_another_user_is_reported(make: Callable[..., Path]) -> None:
    project = make()
    subprocess.run(["chown", "-R", "65534", str(project)], check=True)
    with pytest.raises(ProjectError, match=r"safe\.directory"):
        Repository.open(project)


def test_inherited_git_variables_are_ignored(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make("one"), make("two")
    monkeypatch.setenv("GIT_DIR", str(two / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    assert Repository.open(one).git_dir == one / ".git"


def test_ref_errors_are_reported(make: Callable[..., Path]) -> None:
    repository = Repository.open(make())
    git(repository.root, "branch", "autoresearch")
    with pytest.raises(LabError, match="autoresearch/x"):
        repository.set_branch("autoresearch/x", repository.head())
    with pytest.raises(LabError, match="commit is missing"):
        repository.keep_ref("x", 1, "1" * 40)


def test_text_that_is_not_utf8_is_read(make: Callable[..., Path]) -> None:
    project = make()
    (project / "latin.py").write_bytes(b"# caf\xe9\n")
    git(project, "add", "latin.py")
    git(project, "commit", "-qm", "latin")
    repository = Repository.open(project)
    with pytest.raises(ProjectError, match="UTF-8"):
        repository.read("HEAD", "latin.py")
