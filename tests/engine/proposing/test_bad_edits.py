"""Invalid edits in the engine: each is refused with a reason, none gets a run or changes a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.record import events as e
from tests.engine.support import engine, events_named, wait_end
from tests.projects import PROGRAM, git, make_project, rate, write_script

BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"path": "../escaped.py", "content": "X = 1\n"}, "outside the project"),
    ({"path": "/tmp/escaped.py", "content": "X = 1\n"}, "outside the project"),
    ({"path": ".git/hooks/post-checkout.py", "content": "X = 1\n"}, "belongs to git"),
    ({"path": "link.py", "content": "X = 1\n"}, "symbolic link"),
    ({"path": "nowhere.py", "content": "X = 1\n"}, "symbolic link"),
    ({"path": "away/escaped.py", "content": "X = 1\n"}, "symbolic link"),
    ({"path": "train.py/x.py", "content": "X = 1\n"}, "is a file, not a folder"),
    ({"path": "latin.py", "content": "X = 1\n"}, "not UTF-8"),
    ({"path": "gone.py", "search": "X = 1", "replace": "X = 2"}, "no such file"),
    ({"path": "program.md", "search": "A test", "replace": "No test"}, "may not be edited"),
    ({"path": "Program.md", "content": "+++"}, "may not be edited"),
    ({"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = '\x00'"}, "NUL"),
    ({"path": "train.py", "content": "#" * 2_000_001}, "more than 2,000,000"),
    ({"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.5"}, "no effect"),
)


def test_invalid_edits_get_no_run_and_windows_line_endings_stay(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "target.py").write_text("X = 0\n")
    project = make_project(tmp_path / "p", program=PROGRAM.replace('"train.py"', '"**/*.py"'))
    (project / "link.py").symlink_to(outside / "target.py")
    (project / "nowhere.py").symlink_to(outside / "nothing")
    (project / "away").symlink_to(outside)
    (project / "latin.py").write_bytes(b"# caf\xe9\n")
    (project / "crlf.py").write_bytes(b"A = 1\r\nB = 2\r\n")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "more")
    lines = [{"hypothesis": f"Bad {n}", "edits": [edit]} for n, (edit, _) in enumerate(BAD)]
    both = rate("0.5", "0.4")
    both["edits"].append({"path": "crlf.py", "search": "A = 1\nB = 2", "replace": "A = 1\nB = 3\nC = 4"})
    script = write_script(tmp_path / "script.jsonl", [*lines, both])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    for n, (edit, words) in enumerate(BAD, 1):
        x = state.experiments[n]
        assert x.verdict == "rejected" and words in x.reason and not x.runs, (edit, x.verdict, x.reason)
    good = state.experiments[len(BAD) + 1]
    assert good.verdict == "kept" and len(events_named(paths, e.Committed)) == 1, good.reason
    assert git(project, "cat-file", "-s", f"{good.commit}:crlf.py") == str(len(b"A = 1\r\nB = 3\r\nC = 4\r\n"))
    assert [file.read_text() for file in outside.iterdir()] == ["X = 0\n"] and not (tmp_path / "escaped.py").exists()
