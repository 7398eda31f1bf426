"""Hashes of unwritten trees equal those of git; links must not be edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.lab.git.repository import Repository
from core.record.errors import EditError
from tests.projects import git


def project(folder: Path, fmt: str, sub: str) -> Path:
    root = folder / "r"
    top = root / sub
    for path, text in {
        "train.py": "a = 1\n",
        "pkg/mod é.py": "x = 1\r\n",
        "pkg/deep/er.py": "",
        "pkg.py": "z\n",
    }.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text, newline="")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "raw.bin").write_bytes(b"\xff\x00")
    (top / "link.py").symlink_to("/etc/passwd")
    (top / "away").symlink_to("/tmp")
    (root / "outside.txt").write_text("outside\n")
    git(root, "init", "-q", "-b", "main", f"--object-format={fmt}")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return top


@pytest.mark.parametrize(("fmt", "sub"), [("sha1", "."), ("sha256", "."), ("sha1", "deep/er project")])
def test_the_tree_hash_equals_that_of_git(tmp_path: Path, fmt: str, sub: str) -> None:
    repo = Repository.open(project(tmp_path, fmt, sub))
    head = repo.head()
    tree = repo.tree(head)
    assert tree.hash_with({}) == repo.trees([head])[head]
    changes = (
        {"train.py": "a = 2\n"},
        {"pkg/mod é.py": "x = 2\n", "run.sh": "echo\n", "pkg/deep/er.py": "ünï\n"},
        {"new/folder/file.py": "n = 1\n", "pkg-a": "sorted before pkg/ and after pkg\n", "pkg/deep/new.py": ""},
    )
    for files in changes:
        commit = repo.commit_files(head, dict(files), "change")
        assert tree.hash_with(files) == repo.trees([commit, head])[commit]
    assert tree.hash_with({}) == repo.trees([head])[head]  # and is unchanged
    assert repo.trees(["0" * len(head), head]).keys() == {head} and repo.trees([]) == {}


def test_files_are_read_in_one_batch(tmp_path: Path) -> None:
    repo = Repository.open(project(tmp_path, "sha1", "sub"))
    files = repo.tree(repo.head()).files()
    assert sorted(files) == ["pkg.py", "pkg/deep/er.py", "pkg/mod é.py", "raw.bin", "run.sh", "train.py"]
    blobs = repo.blobs([entry.sha for entry in files.values()], largest=6)
    texts = {path: blobs.get(entry.sha) for path, entry in files.items()}
    assert texts["train.py"] == b"a = 1\n" and texts["raw.bin"] == b"\xff\x00" and texts["pkg/deep/er.py"] == b""
    assert texts["run.sh"] is None and repo.blobs([], 10) == {}


@pytest.mark.parametrize(
    ("path", "words"),
    [("link.py", "symbolic link"), ("away/x.py", "symbolic link"), ("train.py/x.py", "a file, not a folder"),
     ("pkg", "a folder")],
)  # fmt: skip
def test_links_and_folders_are_refused(tmp_path: Path, path: str, words: str) -> None:
    repo = Repository.open(project(tmp_path, "sha1", "sub"))
    with pytest.raises(EditError, match=words):
        repo.tree(repo.head()).refuse_links([path])
    repo.tree(repo.head()).refuse_links(["train.py", "pkg/new.py", "other/new.py"])
