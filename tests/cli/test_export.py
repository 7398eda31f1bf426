"""The commands `export` and `report`. Other parsers read their files."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.session.paths import SessionPaths
from tests.cli.command import COMMAND, run
from tests.recorded import make_session

HOSTILE = [("<script>alert(1)</script> & \x1b[31m \u202e \U0001f600", "other")]


@pytest.fixture
def session(tmp_path: Path) -> SessionPaths:
    return make_session(tmp_path / "p", experiments=24, hypotheses=HOSTILE)


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG. Every chunk is checked for completeness."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, kinds, size = 8, [], (0, 0)
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0]
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        kinds.append(kind)
        place += 12 + length
    assert kinds[-1] == b"IEND"
    return size


def test_export(session: SessionPaths) -> None:
    words = ["--results", "r.tsv", "--plot", "p.png", "--json", "all.json"]
    done = run(session.project, "export", *words)
    assert done.returncode == 0 and done.stdout == "" and done.stderr.count("wrote") == 3
    lines = (session.project / "r.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["commit", "val_bpb", "memory_gb", "status", "description"] and len(lines) == 26
    assert png_size((session.project / "p.png").read_bytes()) == (1920, 960)
    whole = json.loads((session.project / "all.json").read_text())
    assert len(whole["experiments"]) == 25 and whole["status"]["session"] == "nov23"
    assert "+A = 3" in whole["experiments"][3]["diff"]
    first = (session.project / "p.png").read_bytes()
    assert run(session.project, "export", "nov23", *words).returncode == 0  # written again as a whole
    assert (session.project / "p.png").read_bytes() == first
    assert sorted(p.name for p in session.project.glob(".*")) == []


def test_svg(session: SessionPaths) -> None:
    assert run(session.project, "export", "--plot", "p.svg").returncode == 0
    root = ElementTree.fromstring((session.project / "p.svg").read_text())
    circles = [e for e in root.iter() if e.tag.endswith("circle")]
    board = json.loads(run(session.project, "leaderboard", "--json").stdout)
    assert len(circles) == sum(entry["metric"] is not None for entry in board)


def test_an_empty_session_is_exported(tmp_path: Path) -> None:
    make_session(tmp_path, experiments=0)
    done = run(tmp_path, "export", "--results", "-", "--plot", "p.png")
    assert done.returncode == 0 and done.stdout.count("\n") == 2
    png_size((tmp_path / "p.png").read_bytes())
    assert run(tmp_path, "report", "-o", "r.html").returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["export"], 2, "no file to export to"),
        (["export", "--plot", "p.jpg"], 2, ".png nor .svg"),
        (["export", "--results", "nowhere/r.tsv"], 1, "no such folder"),
        (["export", "--results", "."], 1, "is a directory"),
        (["report"], 2, "-o"),
        (["report", "nope", "-o", "r.html"], 3, "no session 'nope'"),
    ],
)
def test_invalid_arguments_are_refused(session: SessionPaths, words: list[str], code: int, says: str) -> None:
    done = run(session.project, *words)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_keeps_the_old_file(session: SessionPaths) -> None:
    """The limit admits the small files of SQLite and interrupts the writing of the picture."""
    (session.project / "p.png").write_text("old")
    done = subprocess.run(
        ["bash", "-c", f'ulimit -f 40; trap "" XFSZ; "{COMMAND}" export --plot p.png'], cwd=session.project,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "file too large" in done.stderr.lower() and "Traceback" not in done.stderr
    assert (session.project / "p.png").read_text() == "old"
    assert sorted(p.name for p in session.project.glob(".*")) == []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report(session: SessionPaths) -> None:
    assert run(session.project, "report", "-o", "r.html").returncode == 0
    page = _Page()
    page.feed((session.project / "r.html").read_text())
    assert "script" not in page.tags and page.outside == [] and "svg" in page.tags and "table" in page.tags
    assert "<script>alert(1)</script> &" in page.text  # shown, not run
    assert "\x1b" not in page.text and "\u202e" not in page.text
    line = re.search(r"verify (nov23 --head \d+:[0-9a-f]{64})", page.text)
    assert line and run(session.project, "verify", *line[1].split()).returncode == 0
    for words in ("nov23", "finished", "val_bpb", "scripted", "+B = 2", "24: 4 kept"):
        assert words in page.text
