"""Event log of a session: SQLite, append-only, with projections of the State in the same transaction

One engine appends; any process reads, with or without an engine. `session.db` holds

- `events(seq, time, experiment, body)`: the facts, in order;
- `chain(seq, hash)`: a hash of each event and all before it (`core/session/chain.py`);
- `experiments(number, body)` and `head(body)`: the folded State as of the last event, so that opening a session
  costs O(experiments) and never O(events).
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from core import clock
from core.ordered import Ordered
from core.record import wire
from core.record.errors import LogCorrupt, LogTooNew, SessionError
from core.record.events import Body, Event
from core.record.fold import fold
from core.record.state import BASELINE, Experiment, State
from core.session import chain
from core.session.chain import ChainHead
from core.session.disk import keep_private

FORMAT = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events(seq INTEGER PRIMARY KEY, time REAL NOT NULL, experiment INTEGER, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_experiment ON events(experiment) WHERE experiment IS NOT NULL;
{chain.SCHEMA}
CREATE TABLE IF NOT EXISTS experiments(number INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS head(one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL);
"""
_TABLES = {  # by name, as SQLite keeps what made them
    found[1]: f"CREATE TABLE {found[0][27:-1]}"
    for found in re.finditer(r"CREATE TABLE IF NOT EXISTS (\w+)\(.*;", _SCHEMA)
}
# What values of another form cause, in a projection or an event that something else has written.
MISREAD = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_HEAD_FIELDS = tuple(f.name for f in fields(State) if f.name != "experiments")


class Log:
    """Open for appending (`Log.create`, `Log.append_to`) or for reading (`Log.read`)."""

    def __init__(self, path: Path, connection: sqlite3.Connection, writable: bool) -> None:
        self.path = path
        self._db = connection
        self._writable = writable
        self._state = State()
        self._tip = b""  # hash of the last event, once the first is appended

    @classmethod
    def create(cls, path: Path) -> Log:
        """A new log. Raises SessionError when one is there or the disk refuses."""
        if path.exists():
            raise SessionError("a session's log is already there", where=str(path))
        return cls._open_writer(path)

    @classmethod
    def append_to(cls, path: Path) -> Log:
        """The log of an existing session, for appending. Raises LogCorrupt or LogTooNew."""
        if not path.exists():
            raise SessionError("there is no log here", where=str(path))
        return cls._open_writer(path)

    @classmethod
    def _open_writer(cls, path: Path) -> Log:
        try:
            for end in ("", "-wal", "-shm"):  # SQLite gives the two the mode of the first
                keep_private(path.with_name(f"{path.name}{end}"), create=not end)
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            _check_format(db, path)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_SCHEMA)
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                db.execute(f"PRAGMA user_version={FORMAT}")
            check = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if check != "ok":
                raise _unreadable(path, sqlite3.DatabaseError(check))
            log = cls(path, db, writable=True)
            log._open_state()
            if log.state.seq < (chained := chain.last_link(db)[0]):
                gone = f"it ends at event {log.state.seq}, its chain of hashes at {chained}: events were removed"
                raise _unreadable(path, sqlite3.DatabaseError(gone))
        except sqlite3.DatabaseError as error:
            raise _unreadable(path, error) from error
        except OSError as error:
            raise _unreadable(path, sqlite3.OperationalError(f"unable to open: {error.strerror}")) from error
        return log

    def _open_state(self) -> None:
        """Read the State from the projections; where they do not decode, write them again from the events."""
        try:
            self._state = self._load()
        except MISREAD:
            self._state = self._refold()
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM experiments")
            self._project(self._state, self._state.experiments.values())
            self._db.execute("COMMIT")

    @classmethod
    def read(cls, path: Path) -> Log:
        """For reading only: creates nothing and never blocks a writer. Raises LogCorrupt or LogTooNew."""
        if not path.exists():
            raise SessionError("there is no log here", where=str(path))
        try:
            db = _reader(path, "mode=ro")
        except sqlite3.OperationalError as error:
            # On a read-only disk SQLite cannot create the files that readers and a writer share. Without a filled WAL
            # there is no writer, and session.db can be read alone.
            wal = path.with_name(f"{path.name}-wal")
            if wal.exists() and wal.stat().st_size:
                raise _unreadable(path, error) from error
            try:
                db = _reader(path, "immutable=1")
            except sqlite3.DatabaseError:
                raise _unreadable(path, error) from error
        except sqlite3.DatabaseError as error:
            raise _unreadable(path, error) from error
        return cls(path, db, writable=False)

    def append(self, bodies: Iterable[Body], now: float | None = None) -> list[Event]:
        """Write facts in one transaction, fold them, and return them as numbered events.

        Raises SessionError when the disk refuses, LogCorrupt for a damaged file; log and State are then unchanged.
        """
        if not self._writable:
            raise SessionError("this log was opened for reading", where=str(self.path))
        stamp = clock.now() if now is None else now
        seq = self._state.seq
        events = [Event(seq + i, stamp, body) for i, body in enumerate(bodies, 1)]
        if not events:
            return []
        state = self._state
        rows = [_row(event) for event in events]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            tip = self._chain(rows)
            self._db.executemany("INSERT INTO events VALUES (?,?,?,?)", rows)
            before = state.experiments.mark
            for event in events:
                fold(state, event)
            self._project(state, [state.experiments[n] for n in state.experiments.since(before)])
            self._db.execute("COMMIT")
            self._tip = tip
        except sqlite3.Error as error:
            if not isinstance(error, sqlite3.OperationalError):
                raise _unreadable(self.path, error) from error
            self._undo()
            raise SessionError(
                f"the log could not be written ({error})",
                where=str(self.path),
                hint="free some space on this disk, then resume; no acknowledged event is lost",
            ) from error
        return events

    def _chain(self, rows: list[tuple[int, float, int | None, str]]) -> bytes:
        """Write the hashes of rows to be added, and before the first ones that of the rows since the last hash."""
        tip, links = self._tip, []
        if not tip:
            at, tip = chain.last_link(self._db)
            if (last := rows[0][0] - 1) > at:
                tip = chain.follow(tip, chain.rows_after(self._db, at))
                links.append((last, tip))
        for seq, stamp, experiment, body in rows:
            tip = chain.link(tip, (seq, stamp, experiment, body.encode()))
            links.append((seq, tip))
        self._db.executemany("INSERT INTO chain VALUES (?,?)", links)
        return tip

    def _project(self, state: State, experiments: Iterable[Experiment]) -> None:
        rows = [(x.number, wire.dumps(wire.to_plain(x))) for x in experiments]
        self._db.executemany("INSERT OR REPLACE INTO experiments VALUES (?,?)", rows)
        self._db.execute("INSERT OR REPLACE INTO head VALUES (1,?)", (wire.dumps(_head(state)),))

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._state = self._load()

    @property
    def state(self) -> State:
        """The writer's State as of its last append. Read-only for the caller."""
        return self._state

    def chain_head(self) -> ChainHead | None:
        """The last event and its hash; None where no version that chains events has appended yet.

        Raises LogCorrupt.
        """
        try:
            seq, tip = chain.last_link(self._db)
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error
        return ChainHead(seq, tip.hex()) if seq else None

    def load(self) -> State:
        """The State as of the last event on disk, in O(experiments), as a new copy at each call.

        Where the projections do not decode, the events are folded again.
        """
        try:
            try:
                return self._load()
            except MISREAD:
                return self._refold()
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error

    def outline(self) -> State:
        """The State as of the last event on disk with those experiments alone that are in the works, the baseline, the
        best and what proposals build on: in the time of these, whatever the length of the session.
        """
        try:
            with self._moment():
                return self._outlined()
        except MISREAD:
            return self.load()
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error

    def _outlined(self) -> State:
        state = self._projected_head()
        found: dict[int, Experiment] = {}
        for number in sorted({BASELINE, state.parent, state.best, *_in_the_works(state)}):
            for (body,) in self._db.execute("SELECT body FROM experiments WHERE number = ?", (number,)):
                found[number] = wire.from_plain(Experiment, _table(body))
        if not _in_the_works(state) <= found.keys():
            raise ValueError("the projections lack an experiment")
        whole, highest = self._db.execute("SELECT count(*), coalesce(max(number), -1) FROM experiments").fetchone()
        state.experiments = Ordered(found, left_out=whole - len(found), highest=highest)
        return state

    def _refold(self) -> State:
        state = State()
        for event in self.events():
            try:
                fold(state, event)
            except MISREAD as error:
                what = f"event {event.seq} does not follow from those before it"
                raise _unreadable(self.path, sqlite3.DatabaseError(what)) from error
        return state

    def _load(self) -> State:
        """Raises one of MISREAD, also where an older version wrote the projections without the time of the slots."""
        with self._moment():
            return self._projected(timed=True)

    def _projected_head(self, *, timed: bool = True) -> State:
        """The State of the projections without its experiments. `timed`: not one without the time of its slots."""
        row = self._db.execute("SELECT body FROM head").fetchone()
        state: State = State() if row is None else wire.from_plain(State, _table(row[0]))
        if state.seq != self.last_seq():
            raise ValueError("the projections are not those of the last event")
        if timed and state.slots and not state.slot_times and state.time > state.started:
            raise ValueError("the projections lack the time of the slots")
        return state

    def _projected(self, *, timed: bool = False) -> State:
        state = self._projected_head(timed=timed)
        rows = self._db.execute("SELECT number, body FROM experiments ORDER BY number")
        with _uncollected():
            found = {number: wire.from_plain(Experiment, _table(body)) for number, body in rows}
        if not _in_the_works(state) <= found.keys():
            raise ValueError("the projections lack an experiment")
        state.experiments = Ordered(found)
        return state

    @contextlib.contextmanager
    def _moment(self) -> Iterator[None]:
        """What is read within is of one moment, whatever is appended meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def as_stored(self) -> Iterator[tuple[sqlite3.Connection, Callable[[], State | None]]]:
        """The database at one moment, for a check of its rows, and what reads the State from the projections there
        (None: they do not decode). Raises LogCorrupt.
        """

        def projected() -> State | None:
            try:
                return self._projected()
            except MISREAD:
                return None

        try:
            with self._moment():
                yield self._db, projected
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error

    def events(self, since: int = 0, limit: int = -1) -> Iterator[Event]:
        """Events after number `since`, in order. Raises LogTooNew for one this version does not know."""
        return self._events("seq > ? ORDER BY seq LIMIT ?", (since, limit))

    def events_of(self, experiment: int) -> Iterator[Event]:
        """The events of one experiment, in order, with its diff, rationale and ends of output."""
        return self._events("experiment = ? ORDER BY seq", (experiment,))

    def of_type(self, name: str) -> Iterator[Event]:
        """The events of one type ("judged"), in order."""
        return self._events("json_extract(body, '$.type') = ? ORDER BY seq", (name,))

    def moments(self) -> list[tuple[int, float]]:
        """(number, time) of every event, in order."""
        try:
            return list(self._db.execute("SELECT seq, time FROM events ORDER BY seq"))
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error

    def head(self) -> State:
        """The State without its experiments, in O(1), for a list of sessions."""
        try:
            row = self._db.execute("SELECT body FROM head").fetchone()
            state = State() if row is None else wire.from_plain(State, _table(row[0]))
        except MISREAD as error:
            raise _unreadable(self.path, sqlite3.DatabaseError(str(error))) from error
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error
        assert isinstance(state, State)
        return state

    def _events(self, where: str, parameters: tuple[int | str, ...]) -> Iterator[Event]:
        try:
            cursor = self._db.execute(f"SELECT seq, time, body FROM events WHERE {where}", parameters)
            for seq, stamp, body in cursor:
                yield wire.event_from_plain({"seq": seq, "time": stamp, **json.loads(body)})
        except (sqlite3.DatabaseError, json.JSONDecodeError, RecursionError) as error:
            raise _unreadable(self.path, error) from error
        except ValueError as error:
            raise LogTooNew(
                f"this log contains data that this version does not know ({error})",
                where=str(self.path),
                hint="upgrade this program to the version that wrote it",
            ) from error

    def last_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def close(self) -> None:
        """Close the file. A writer first moves all events from the WAL into session.db."""
        if self._writable:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout=1000")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()


def _in_the_works(state: State) -> set[int]:
    """Experiments that a State names beside its table of them."""
    return {*state.live, *state.queue, *state.approvals, *state.running.values()}


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage meanwhile: what is made by the thousand, and kept, would be searched again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _row(event: Event) -> tuple[int, float, int | None, str]:
    plain = wire.to_plain(event.body)
    number = plain.get("experiment")
    return event.seq, event.time, number if isinstance(number, int) else None, wire.dumps(plain)


def _head(state: State) -> dict[str, Any]:
    return {name: wire.to_plain(getattr(state, name)) for name in _HEAD_FIELDS}


def _table(text: str) -> dict[str, Any]:
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError("a projection is not a JSON object")
    return table


def _reader(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"file:{_quote(path)}?{how}", uri=True, isolation_level=None, timeout=5.0, check_same_thread=False
    )
    try:
        _check_format(db, path)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def is_blank(path: Path) -> bool:
    """Whether the file is a new log: readable by SQLite, with no row in any table."""
    if not path.is_file():
        return False
    try:
        db = _reader(path, "mode=ro")
        try:
            names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return not any(db.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in names)
        finally:
            db.close()
    except (sqlite3.Error, SessionError):
        return False


def _quote(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise LogTooNew(
            f"this session was written by a newer version (format {version}, this one reads {FORMAT})",
            where=str(path),
            hint="upgrade this program, or start another session with --session NAME",
        )
    found = "SELECT name, type, sql FROM sqlite_master WHERE lower(name) IN (?,?,?,?)"
    for name, kind, sql in db.execute(found, tuple(_TABLES)).fetchall():
        if kind != "table" or " ".join(sql.split()) != _TABLES.get(name):  # a view, say, may never come to an end
            raise _unreadable(path, sqlite3.DatabaseError(f"{name!r} is another {kind} than this program makes"))


_DISK_FAULTS = ("disk I/O error", "unable to open", "readonly", "disk is full", "locked")


def _unreadable(path: Path, error: Exception) -> SessionError:
    if any(words in str(error) for words in _DISK_FAULTS):
        return SessionError(
            f"the session's log could not be read ({error})",
            where=str(path),
            hint="check the free space (df -h .) and the owner of the session's folder; the log itself may be intact",
        )
    return LogCorrupt(
        f"the session's log is damaged ({error})",
        where=str(path),
        hint="restore session.db from a backup, or start another session with --session NAME; "
        "every experiment's commit is still at refs/autoresearch/",
    )
