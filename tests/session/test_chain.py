"""The hash chain of a log: an anchor for older events, faults on the way, and who may read the files."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.record import events as e
from core.record.errors import LogCorrupt, SessionError
from core.session import chain
from core.session.chain import ChainHead
from core.session.lock import hold
from core.session.log import Log
from core.session.paths import SessionPaths
from tests.recorded import make_session


@pytest.fixture(params=[0o022, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def links(path: Path) -> dict[int, bytes]:
    db = sqlite3.connect(path)
    try:
        return dict(db.execute("SELECT seq, hash FROM chain"))
    finally:
        db.close()


def computed(path: Path) -> dict[int, bytes]:
    """The hashes as they follow from the rows."""
    db, tip, found = sqlite3.connect(path), chain.START, {}
    for row in chain.rows_after(db, 0):
        tip = found[row[0]] = chain.link(tip, row)
    db.close()
    return found


def test_each_event_is_hashed_with_all_before_it(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=6)
    found = computed(paths.database)
    assert links(paths.database) == found and len(found) > 30
    log = Log.read(paths.database)
    assert log.chain_head() == ChainHead(max(found), found[max(found)].hex())
    log.close()


def test_the_chain_of_an_older_log_begins_at_an_anchor(tmp_path: Path) -> None:
    """The anchor covers the bytes of every row before it; a version without a chain may append in between."""
    paths = make_session(tmp_path, experiments=3)
    db = sqlite3.connect(paths.database)
    db.execute("DROP TABLE chain")
    (old,) = db.execute("SELECT max(seq) FROM events").fetchone()
    db.commit()
    db.close()
    log = Log.read(paths.database)
    assert log.chain_head() is None and log.load().seq == old
    log.close()
    log = Log.append_to(paths.database)
    log.append([e.Noted("info", "é")])
    assert log.chain_head() == ChainHead(old + 1, computed(paths.database)[old + 1].hex())
    log.close()
    db = sqlite3.connect(paths.database)
    db.execute("DELETE FROM chain WHERE seq > ?", (old,))  # as if another version had written it
    db.commit()
    db.close()
    log = Log.append_to(paths.database)
    log.append([e.Noted("info", "b"), e.Noted("info", "c")])
    log.close()
    found = computed(paths.database)
    assert links(paths.database) == {n: found[n] for n in (old, old + 1, old + 2, old + 3)}


def test_an_event_that_is_not_written_leaves_the_chain_as_it_was(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=2)
    log = Log.append_to(paths.database)
    log.append([e.Noted("info", "first")])
    before = log.chain_head()
    log._db.execute("PRAGMA max_page_count=1")  # the disk is full
    with pytest.raises(SessionError, match="free some space"):
        log.append([e.Noted("info", "x" * 100_000)])
    assert log.chain_head() == before
    log._db.execute("PRAGMA max_page_count=1000000")
    log.append([e.Noted("info", "second")])
    log.close()
    found = computed(paths.database)
    assert links(paths.database).items() <= found.items() and max(links(paths.database)) == max(found)


def test_a_killed_writer_leaves_a_whole_chain(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=2)
    code = (
        "import sys; from pathlib import Path; from core.session.log import Log; from core.record import events as e\n"
        "log = Log.append_to(Path(sys.argv[1]))\n"
        "while True: log.append([e.Noted('info', 'x' * 3000)] * 3); print(log.state.seq, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(paths.database)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = 0
    for line in process.stdout:
        told = int(line)
        if told > 150:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    log = Log.append_to(paths.database)
    log.append([e.Noted("info", "after")])
    log.close()
    found = computed(paths.database)
    assert links(paths.database) == found and len(found) > told


def test_a_log_that_lost_its_last_events_is_not_appended_to(tmp_path: Path) -> None:
    paths = make_session(tmp_path, experiments=3)
    db = sqlite3.connect(paths.database)
    db.execute("DELETE FROM events WHERE seq > 20")
    db.commit()
    db.close()
    with pytest.raises(LogCorrupt, match=r"it ends at event 20, .* events were removed"):
        Log.append_to(paths.database)


def test_a_head_is_read_back_from_its_words() -> None:
    head = ChainHead(120, "0123456789abcdef" * 4)
    assert ChainHead.parse(str(head)) == head and ChainHead.parse(head.short).hash == "0123456789ab"
    for wrong in ("", "120", "120:abc", "x:" + "0" * 64, "120:" + "g" * 64, "-1:" + "0" * 64):
        with pytest.raises(ValueError, match="no head"):
            ChainHead.parse(wrong)


def open_to_others(folder: Path) -> list[str]:
    """Files and folders that another user could open, if the session's folder let them in."""
    entries = [folder, *folder.iterdir()]
    return [str(p.relative_to(folder)) for p in entries if stat.S_IMODE(p.stat().st_mode) & 0o077]


@pytest.mark.parametrize("umask", [0o022, 0o000], indirect=True)
def test_no_other_user_reads_a_log(tmp_path: Path, umask: int) -> None:
    """Also beside a writer, when its -wal and -shm are there; a session of an older version is closed when it opens."""
    paths = SessionPaths(tmp_path, "s")
    for _ in range(2):
        with hold(paths):
            log = Log.append_to(paths.database) if paths.database.exists() else Log.create(paths.database)
            log.append([e.Noted("info", "x")])
            assert {p.name for p in paths.folder.iterdir()} >= {"session.db", "session.db-wal", "session.db-shm"}
            assert open_to_others(paths.folder) == []
            log.close()
        (paths.folder / "notebook.md").write_text("a secret")
        for place in (paths.folder, *paths.folder.iterdir()):
            place.chmod(0o755 if place.is_dir() else 0o644)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("umask", [0o022, 0o000], indirect=True)
def test_another_user_is_refused(umask: int) -> None:
    def reads(path: Path) -> bool:
        return subprocess.run(["cat", path], user=65534, group=65534, capture_output=True, check=False).returncode == 0

    with tempfile.TemporaryDirectory() as name:
        paths = SessionPaths(Path(name), "s")
        Path(name).chmod(0o755)
        (seen := Path(name, "seen")).write_text("by all")
        with hold(paths):
            log = Log.create(paths.database)
            paths.folder.chmod(0o755)  # the files are closed by themselves
            assert reads(seen) and not any(map(reads, paths.folder.iterdir()))
            log.close()
        with hold(paths):
            paths.database.chmod(0o644)  # and behind the closed folder
            assert not reads(paths.database)


CLOSED = """
import os, sys
from pathlib import Path
from core import invocation
from core.record.errors import SessionError
from core.session.choice import find_session
from core.session.paths import list_sessions

project, closed = map(Path, sys.argv[1:])
os.environ["PATH"] = f"{closed}:{os.environ['PATH']}"
assert [paths.name for paths in list_sessions(project)] == ["mine", "theirs"]
os.setgid(65534), os.setuid(65534)
assert [paths.name for paths in list_sessions(project)] == ["mine"]
assert find_session(project, None).name == "mine"
try:
    find_session(project, "theirs")
except SessionError as error:
    assert "another user's" in error.what and error.hint, error
else:
    raise AssertionError
assert invocation.program()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_a_session_and_a_folder_on_path_that_are_closed_stop_nothing_else() -> None:
    """Root's session in a project leaves the user's own to the user, and so does root's PATH after `su`."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        for at, session in enumerate(("theirs", "mine")):
            paths = SessionPaths(Path(name), session)
            with hold(paths):
                Log.create(paths.database).close()
            os.utime(paths.database, (at, at))
        paths.folder.chmod(0o755)
        (closed := Path(name, "closed")).mkdir(0o700)
        done = subprocess.run(
            [sys.executable, "-c", CLOSED, name, str(closed)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
