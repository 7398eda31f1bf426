"""Files of a coding agent are read through no link, and its words are cleaned before git has them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from core.engine.proposing import agent_workspace
from core.engine.proposing.proposer import commit_message
from core.record.proposal import Proposal


def read(top: Path, path: str) -> bytes | None:
    return agent_workspace._read(top, path)


def test_no_link_is_followed_wherever_it_stands(tmp_path: Path) -> None:
    top, secret = tmp_path / "top", tmp_path / "secret"
    (top / "pkg").mkdir(parents=True)
    secret.mkdir()
    (secret / "a.py").write_text("secret")
    (top / "pkg" / "a.py").write_text("own")
    assert read(top, "pkg/a.py") == b"own" and agent_workspace._known(top, "pkg/a.py") is not None
    (top / "link").symlink_to(secret)
    (top / "pkg" / "b.py").symlink_to(secret / "a.py")
    os.mkfifo(top / "pipe")
    for path in ("link/a.py", "pkg/b.py", "pkg", "pipe", "missing", "pkg/a.py/x"):
        assert read(top, path) is None and agent_workspace._known(top, path) is None, path


def test_a_folder_that_is_exchanged_meanwhile_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, secret, real = tmp_path / "top", tmp_path / "secret", os.open
    for folder in (top / "pkg", secret):
        folder.mkdir(parents=True)
        (folder / "a.py").write_text(folder.name)

    def exchanged(path: Any, *args: Any, **more: Any) -> int:
        descriptor = real(path, *args, **more)
        if path == "pkg":  # the folder has been opened: another one is put in its place
            (top / "pkg").rename(top / "old")
            (top / "pkg").symlink_to(secret)
        return descriptor

    monkeypatch.setattr(os, "open", exchanged)
    assert read(top, "pkg/a.py") == b"pkg"
    monkeypatch.undo()
    assert read(top, "pkg/a.py") is None


def test_the_subject_of_a_commit_is_plain_text() -> None:
    proposal = Proposal(
        hypothesis="a\u202eb\U000e0041\x1b[2J\nSigned-off-by: x", edits=(), rationale="c\u2066\x9b1m\rd"
    )
    journal = cast("Any", SimpleNamespace(trailer=lambda: "Autoresearch-Log: 0"))
    lines = commit_message(journal, "s", 1, proposal).splitlines()
    assert lines[0] == "#1 ab Signed-off-by: x" and lines[2:4] == ["c", "d"]
