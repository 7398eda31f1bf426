"""Sealed places (pristine code, scorer, data), held against the hashes that the log has of them"""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path

from core.evidence.file_hashes import hash_below
from core.evidence.section import Progress, Section
from core.evidence.stored_log import StoredLog
from core.record import events as e
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from core.text import plural

PRISTINE = "pristine"  # the name of the session's own checkout; data have their paths


def check_seals(paths: SessionPaths, log: StoredLog, progress: Progress) -> Section:
    """The places as they are now, each seal against the one before it, and the seal under which each run was scored."""
    seals = [(event.seq, event.body) for event in log.events
             if isinstance(event.body, e.Preparing) and event.body.sealed]  # fmt: skip
    if not seals:
        return Section.unchecked("seals", "the log names none: no engine of this version has sealed anything")
    if log.state.preparing and engine_alive(paths):
        return Section.unchecked("seals", f"the engine is at it: {log.state.preparing}")
    section, (at, last) = Section("seals"), seals[-1]
    for (_, before), (seq, now) in pairwise(seals):
        for name in sorted(before.sealed.keys() & now.sealed.keys()):
            if before.sealed[name] != now.sealed[name]:
                section.misfit(f"event {seq}", f"{name} was sealed with other content than by the engine before")
    same = sum(_check_place(section, paths, name, digest, at, progress) for name, digest in last.sealed.items())
    scored = _check_runs(section, log)
    _check_program(section, paths, log)
    places = f"{same} of {plural(len(last.sealed), 'place')} as sealed in event {at}"
    section.summary = f"{places}; {plural(scored, 'run')} under their seal"
    if not same and not section.misfits:
        section.checked = False
    return section


def _check_place(section: Section, paths: SessionPaths, name: str, digest: str, seq: int, progress: Progress) -> bool:
    """Whether it is there as it was."""
    place = paths.pristine if name == PRISTINE else Path(name)
    try:
        if not place.exists():
            section.notes.append(f"{place} is not here: not checked")
            return False
        progress(str(place))
        if hash_below(place) == digest:
            return True
    except OSError as error:
        section.notes.append(f"{place} cannot be read ({error.strerror}): not checked")
        return False
    which = f"git -C {shlex.quote(str(place))} status --short" if name == PRISTINE else ""
    section.misfit(str(place), f"what it holds is not what was sealed in event {seq}", which)
    return False


def _check_program(section: Section, paths: SessionPaths, log: StoredLog) -> None:
    """The program.md that the session keeps, which says how runs are made and scored."""
    if paths.program.is_file() and paths.program.read_text("utf-8", "replace") != log.state.program:
        later = "an engine that continues the session reads it, and logs the change or refuses it"
        section.misfit(str(paths.program), "it is not the program.md that is in force by the log", later)


def _check_runs(section: Section, log: StoredLog) -> int:
    """How many runs name the seal that was in force."""
    seal, fits = "", 0
    for event in log.events:
        body = event.body
        if isinstance(body, e.Preparing) and body.seal:
            seal = body.seal
        elif isinstance(body, e.RunFinished) and seal and (named := str(body.device.get("sealed") or "")):
            fits += seal.startswith(named)
            if not seal.startswith(named):
                section.misfit(f"event {event.seq}", f"run {body.run} ended under another seal than the last one")
    return fits
