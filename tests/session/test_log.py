"""Faults of a log: closed during a read, on a read-only disk, with unreadable projections."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from core.evidence.verify import verify
from core.record.errors import LogCorrupt
from core.session.disk import read_json
from core.session.lock import engine_alive
from core.session.log import Log
from tests.recorded import make_session, story_events


def test_a_closed_log_is_one_complete_file(tmp_path: Path) -> None:
    """A copy of session.db alone is the complete session, even if a reader had it open at the end."""
    writer = Log.create(tmp_path / "session.db")
    reader = Log.read(tmp_path / "session.db")
    events = story_events(experiments=12)
    writer.append([event.body for event in events])
    assert reader.load().seq == len(events)
    writer.close()
    reader.close()
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "session.db", tmp_path / "copy")
    copy = Log.read(tmp_path / "copy" / "session.db")
    assert [event.body for event in copy.events()] == [event.body for event in events]
    copy.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE head SET body = '{'",
        "UPDATE head SET body = '[1]'",
        "DELETE FROM head",
        "UPDATE experiments SET body = '{}' WHERE number = 1",
    ],
)
def test_unreadable_projections_are_rebuilt(tmp_path: Path, damage: str) -> None:
    paths = make_session(tmp_path, experiments=6)
    log = Log.read(paths.database)
    whole = log.load()
    log.close()
    db = sqlite3.connect(paths.database)
    db.execute(damage)
    db.commit()
    db.close()
    log = Log.read(paths.database)
    assert log.load() == whole
    log.close()
    writer = Log.append_to(paths.database)  # a writer repairs them
    assert writer.state == whole
    writer.close()
    db = sqlite3.connect(paths.database)
    assert db.execute("SELECT count(*) FROM experiments").fetchone()[0] == len(whole.experiments)
    assert db.execute("SELECT body FROM head").fetchone()[0].startswith('{"')
    db.close()


def test_an_event_that_is_not_json_is_reported_as_corruption(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=3)
    db = sqlite3.connect(paths.database)
    db.execute("UPDATE events SET body = 'garbage' WHERE seq = 4")
    db.commit()
    db.close()
    log = Log.read(paths.database)
    with pytest.raises(LogCorrupt, match="backup"):
        list(log.events())
    log.close()


@pytest.mark.parametrize("name", ["events", "EVENTS", "head"])
def test_a_view_in_place_of_a_table_is_not_read(tmp_path: Path, name: str) -> None:
    """A view can have rows without end."""
    paths = make_session(tmp_path, experiments=2)
    with closing(sqlite3.connect(paths.database)) as db:
        db.execute(f"ALTER TABLE {name} RENAME TO moved")
        endless = "WITH RECURSIVE r(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM r)"
        db.execute(f"CREATE VIEW {name} AS {endless} SELECT seq, 1.0 AS time, 1 AS experiment, '{{}}' AS body FROM r")
    for opened in (Log.read, Log.append_to):
        with pytest.raises(LogCorrupt, match="is another view than this program makes"):
            opened(paths.database)


def test_json_that_is_nested_without_end_is_corruption(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=2)
    deep = '{"type":"noted","text":' + "[" * 100_000 + "]" * 100_000 + "}"
    with closing(sqlite3.connect(paths.database)) as db:
        db.execute("UPDATE head SET body = ?", (deep,))
        db.commit()
    with closing(Log.read(paths.database)) as log:
        assert log.load().experiments
    with closing(sqlite3.connect(paths.database)) as db:
        db.execute("UPDATE events SET body = ? WHERE seq = 3", (deep,))
        db.commit()
    with closing(Log.read(paths.database)) as log, pytest.raises(LogCorrupt):
        list(log.events())
    assert verify(paths, lambda what: None).fits is False
    assert read_json(_written(tmp_path / "deep.json", deep)) == {}
    os.mkfifo(tmp_path / "pipe.json")
    assert read_json(tmp_path / "pipe.json") == {}


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_corrupt_file_is_not_appended_to(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=40)
    whole = bytearray(paths.database.read_bytes())
    whole[4096 : 4096 * 3] = b"A" * 8192
    paths.database.write_bytes(whole)
    with pytest.raises(LogCorrupt, match="backup"):
        Log.append_to(paths.database)
    assert paths.database.read_bytes() == bytes(whole)


def test_a_session_on_a_read_only_disk_is_read(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=6)
    paths.lock.touch()
    mount = ["mount", "--bind", str(tmp_path), str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path)], check=True)
        log = Log.read(paths.database)
        assert log.load().total == 6 and list(log.events())
        log.close()
        assert not engine_alive(paths)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_older_spellings_of_kinds_count_as_the_current_ones(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=12)
    log = Log.read(paths.database)
    whole = log.load()
    log.close()
    assert {x.kind for x in whole.experiments.values()} >= {"optimizer", "regularization"}
    for table in ("events", "experiments"):
        db = sqlite3.connect(paths.database)
        for new, old in (("optimizer", "optimiser"), ("regularization", "regularisation")):
            db.execute(f"UPDATE {table} SET body = replace(body, ?, ?)", (f'"kind":"{new}"', f'"kind":"{old}"'))
        db.commit()
        assert db.execute(f"SELECT count(*) FROM {table} WHERE body LIKE '%\"optimiser\"%'").fetchone()[0]
        db.close()
        log = Log.read(paths.database)
        assert log.load() == whole
        log.close()
    db = sqlite3.connect(paths.database)
    db.execute("DELETE FROM head")  # folded again from the events
    db.commit()
    db.close()
    log = Log.read(paths.database)
    assert log.load() == whole
    log.close()
