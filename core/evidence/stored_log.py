"""The log as it is stored: its chain computed again, its events folded again, and both held against what is there"""

from __future__ import annotations

import json
import shlex
import sqlite3
import struct
from dataclasses import dataclass, field
from typing import Any

from core.evidence.section import Progress, Section
from core.record import events as e
from core.record import wire
from core.record.events import Event
from core.record.fold import fold
from core.record.state import Experiment, State
from core.session import chain
from core.session.chain import ChainHead, Row
from core.session.log import MISREAD, Log
from core.text import plural

_ROWS = (
    "SELECT e.seq, e.time, e.experiment, CAST(e.body AS BLOB), {hash} FROM events e {join} ORDER BY e.seq"
)  # fmt: skip
_KNOWN = {("table", name) for name in ("events", "experiments", "head", "chain")} | {("index", "events_by_experiment")}
_KEPT = (
    e.EngineStarted, e.Preparing, e.RunStarted, e.RunFinished, e.CertificationStarted, e.Certified, e.SessionStarted,
)  # fmt: skip
_PROGRESS_ROWS = 20_000
MAX_NAMED = 20  # misfits of one kind that are named one by one


@dataclass(slots=True)
class StoredLog:
    """What was read. `events`: those that other parts of the check look at; `hashes`: by the number of the event."""

    state: State = field(default_factory=State)
    events: list[Event] = field(default_factory=list)
    hashes: dict[int, bytes] = field(default_factory=dict)
    last: int = 0
    head: ChainHead | None = None
    chained: bool = False  # some event has a hash
    folded: bool = True  # all events could be interpreted

    def misfit_of(self, head: ChainHead) -> str:
        """Why a head that was written down outside is not on this chain, or ""."""
        if head.seq > self.last:
            return f"the log ends at event {self.last}, and had {head.seq} when this was written: events were removed"
        found = self.hashes.get(head.seq)
        if found is None or not found.hex().startswith(head.hash):
            return f"event {head.seq} and those before it are not the ones that the log had when this was written"
        return ""


def read_stored(log: Log, progress: Progress) -> tuple[StoredLog, Section, Section]:
    """The log with the sections `chain` and `state`. Raises LogCorrupt."""
    found, links = StoredLog(), Section("chain")
    with log.as_stored() as (db, projected):
        _walk(db, found, links, progress)
        links.advise(
            "restore session.db from a backup; a head that others have tells which log is the right one (--head)"
        )
        state = _compare(found, projected())
        again = shlex.join(("sqlite3", str(log.path), "DELETE FROM head"))
        state.advise(f"{again}: the next engine then writes the state again from the events")
        return found, links, state


def _walk(db: sqlite3.Connection, found: StoredLog, links: Section, progress: Progress) -> None:
    progress("the database")
    for (fault,) in db.execute("PRAGMA integrity_check(3)"):
        if fault != "ok":
            links.misfit("session.db", f"the file is damaged: {fault}")
    there = set(db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"))
    for kind, name in sorted(there - _KNOWN):
        links.misfit("session.db", f"the database holds the {kind} {name!r}, which this program did not make")
    chained = ("table", "chain") in there
    query = _ROWS.format(
        hash="CAST(c.hash AS BLOB)" if chained else "NULL", join="LEFT JOIN chain c ON c.seq = e.seq" if chained else ""
    )
    tip, first, bare = chain.START, 0, list[int]()  # first: with a hash; bare: events since the last hash
    for seq, time, experiment, body, stored in db.execute(query):
        if seq != found.last + 1:
            links.misfit(_events(found.last + 1, seq - 1), "missing: removed from the log")
        tip = _step(links, tip, (seq, time, experiment, body), stored, anchor=bool(bare))
        if stored is None:
            bare.append(seq)
        else:
            if bare:
                _covered(links, bare[0], seq)
                bare = []
            first = first or seq
        found.last, found.hashes[seq] = seq, tip
        _take(found, links, (seq, time, experiment, body))
        if seq % _PROGRESS_ROWS == 0:
            progress(f"event {seq:,}")
    if first and bare:
        links.misfit(
            _events(bare[0], bare[-1]), "without a hash: put in by hand, or by an older version of this program",
            "an engine of this version covers them when it opens the session again",
        )  # fmt: skip
    if chained:
        beyond = db.execute("SELECT max(seq) FROM chain WHERE seq > ?", (found.last,)).fetchone()[0]
        if beyond is not None:
            links.misfit(_events(found.last + 1, beyond), "missing: the log was longer, and its end was cut off")
    found.chained = first > 0
    if first and not bare:
        found.head = ChainHead(found.last, tip.hex())
    _summarize(found, links, first)


def _step(links: Section, tip: bytes, row: Row, stored: bytes | None, *, anchor: bool) -> bytes:
    """The hash to go on from: the stored one where there is one, so that each fault is told once."""
    seq = row[0]
    try:
        computed = chain.link(tip, row)
    except (struct.error, TypeError):
        links.misfit(f"event {seq}", "its row holds values of other types")
        return stored or b""
    if stored is None or computed == stored:
        return computed
    if anchor:
        links.misfit(f"event {seq}", "it does not fit its hash, or one of the events before it without a hash does not")
    else:
        links.misfit(f"event {seq}", "it is not what was hashed: changed, exchanged or put in since")
    return stored


def _covered(links: Section, first: int, anchor: int) -> None:
    """Events that had no hash when they were written, up to the one at which the chain goes on."""
    links.notes.append(
        f"{_events(first, anchor)}: of a version without a chain; hashed when this version continued the session, "
        "so nothing shows what was changed before"
    )


def _summarize(found: StoredLog, links: Section, first: int) -> None:
    if not found.last:
        links.summary, links.checked = "the log holds no event", False
    elif not first:
        links.checked = False
        links.summary = f"{plural(found.last, 'event')} of a version without a chain: nothing shows a change"
    else:
        head = f", head {found.head.short}" if found.head else ""
        links.summary = f"{plural(found.last, 'event')}{head}"


def _take(found: StoredLog, links: Section, row: Row) -> None:
    """Fold an event; one that cannot be read ends that."""
    seq, time, experiment, body = row
    try:
        plain = json.loads(body)
        number = plain.get("experiment")
        if (number if isinstance(number, int) else None) != experiment:
            links.misfit(f"event {seq}", f"it is stored under experiment {experiment}, and is of {number}")
    except (ValueError, AttributeError, RecursionError):
        found.folded = False
        links.misfit(f"event {seq}", "its body is no JSON object")
        return
    if not found.folded:
        return
    try:
        event = wire.event_from_plain({"seq": seq, "time": time, **plain})
        fold(found.state, event)
    except MISREAD as error:
        found.folded = False
        links.notes.append(f"event {seq} is not known to this version ({error!r}): what follows is not interpreted")
        return
    if isinstance(event.body, _KEPT):
        found.events.append(event)


def _compare(found: StoredLog, shown: State | None) -> Section:
    """The folded State that is stored, which every command and screen shows, against the events."""
    section = Section("state")
    if not found.folded:
        return Section.unchecked("state", "not every event could be interpreted")
    if shown is None:
        section.misfit("session.db", "the stored state cannot be read, or is not that of the last event",
                       "an engine writes it again from the events when it opens the session")  # fmt: skip
    else:
        for where, what in _differences(shown, found.state)[:MAX_NAMED]:
            section.misfit(where, what)
    section.summary = f"what is shown of {plural(len(found.state.experiments), 'experiment')}, against the events"
    return section


def _differences(shown: State, told: State) -> list[tuple[str, str]]:
    differ = []
    for name, one, other in _pairs(_of_session(shown), _of_session(told)):
        differ.append(("the session", f"{name} is shown as {one}, and by the events is {other}"))
    for number in sorted(shown.experiments.keys() | told.experiments.keys()):
        pair = [_of_experiment(state.experiments.get(number)) for state in (shown, told)]
        for name, one, other in _pairs(*pair):
            differ.append((f"experiment {number}", f"{name} is shown as {one}, and by the events is {other}"))
    return differ


def _pairs(shown: dict[str, Any], told: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    names = dict.fromkeys((*told, *shown))
    return [(n, shown.get(n, "nothing"), told.get(n, "nothing")) for n in names if shown.get(n) != told.get(n)]


def _of_session(state: State) -> dict[str, Any]:
    baseline, noise = state.baseline, state.noise
    return {
        "what the session began with": state.session, "its dollars": state.usd,
        "the best": state.best, "its number": state.best_metric, "its commit": state.best_commit,
        "the baseline": baseline.metric if baseline else None, "sigma": noise.sigma if noise else None,
        "the count of verdicts": {k: n for k, n in state.verdicts.items() if n},
    }  # fmt: skip


def _of_experiment(x: Experiment | None) -> dict[str, Any]:
    if x is None:
        return {}
    runs = {
        f"run {r.run}": f"{r.kind} {r.ended}: {r.metric} in {r.seconds} s, seed {r.seed}, commit {r.commit}"
        for r in x.runs
    }
    return {
        "the hypothesis": x.hypothesis, "the verdict": x.verdict, "the number": x.metric, "the change": x.delta,
        "the commit": x.commit, "the parent": x.parent_commit, "the hidden number": x.hidden,
        "the certificate": x.certified, **runs,
    }  # fmt: skip


def _events(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"
