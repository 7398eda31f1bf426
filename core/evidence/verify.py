"""The check of a whole session: chain, state, git, seals, certificates and run files, without an engine"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from core.evidence.certificate_check import check_certificates
from core.evidence.commit_check import check_commits, read_refs
from core.evidence.seal_check import check_seals
from core.evidence.section import Progress, Section
from core.evidence.signature import NOBODY, Signers
from core.evidence.stored_log import StoredLog, read_stored
from core.record import events as e
from core.record.errors import AutoresearchError, SessionError
from core.session.chain import ChainHead
from core.session.disk import read_json
from core.session.lock import engine_alive
from core.session.log import MISREAD, Log
from core.session.paths import SessionPaths
from core.text import plural

_AGAIN_SECONDS = 1.0  # after which a running session that does not fit is looked at once more
_ROUNDING_SECONDS = 0.001
PARTS = ("chain", "state", "git", "seals", "runs", "certificates")


class Verified(NamedTuple):
    head: ChainHead | None
    sections: tuple[Section, ...]

    @property
    def fits(self) -> bool:
        return all(section.ok is not False for section in self.sections)


def verify(
    paths: SessionPaths, progress: Progress, *, signers: Signers = NOBODY, heads: Sequence[ChainHead] = ()
) -> Verified:
    """Hold everything that there is of a session against its log. Writes nothing; a session may run meanwhile.

    `heads`: of the log, as a person has them from a report, a certificate or a commit. Raises LogTooNew.
    """
    alive = engine_alive(paths)
    found = _verify(paths, progress, signers, heads)
    if not found.fits and alive:  # git and files are not written in the same moment as the log
        time.sleep(_AGAIN_SECONDS)
        found = _verify(paths, progress, signers, heads)
    return found


def _verify(paths: SessionPaths, progress: Progress, signers: Signers, heads: Sequence[ChainHead]) -> Verified:
    alive, refs = engine_alive(paths), read_refs(paths)
    try:
        log = Log.read(paths.database)
        try:
            stored, chain, state = read_stored(log, progress)
        finally:
            log.close()
    except SessionError as error:
        chain = Section("chain")
        chain.misfit(error.where, error.what, error.hint)
        left = (Section.unchecked(name, "the log cannot be read") for name in PARTS[1:])
        return Verified(None, (chain, *left))
    for head in heads:
        if why := stored.misfit_of(head):
            chain.misfit(f"head {head.short}", why)
        else:
            chain.notes.append(f"head {head.short} is on the chain")
    rest = (
        _part("git", lambda: check_commits(refs, stored, alive=alive)),
        _part("seals", lambda: check_seals(paths, stored, progress)),
        _part("runs", lambda: _check_runs(paths, stored)),
        _part("certificates", lambda: check_certificates(paths, stored, signers)),
    )
    return Verified(stored.head, (chain, state, *rest))


def _part(name: str, check: Callable[[], Section]) -> Section:
    """What a check finds; no log, file or repository that somebody else has written ends all of them."""
    try:
        return check()
    except AutoresearchError as error:
        return Section.unchecked(name, error.what)
    except OSError as error:
        return Section.unchecked(name, f"{error.filename} cannot be read ({error.strerror})")
    except MISREAD as error:
        section = Section(name)
        section.misfit(name, f"something in it has another form than this program gives it ({error!r})")
        return section


def _check_runs(paths: SessionPaths, log: StoredLog) -> Section:
    """What the supervisor of each run wrote at its end, where its folder is still there."""
    section, kept, ended = Section("runs"), 0, 0
    for event in log.events:
        body = event.body
        if not isinstance(body, e.RunFinished):
            continue
        ended += 1
        file = paths.run(body.run) / "exit.json"
        told = read_json(file)
        kept += bool(told)
        seconds, code = told.get("seconds"), told.get("exit_code")
        if not told or body.ended == "abandoned":
            continue
        least, most = body.seconds - _ROUNDING_SECONDS, body.seconds + _ROUNDING_SECONDS
        if not isinstance(seconds, (int, float)) or not least <= seconds <= most:
            section.misfit(str(file), f"run {body.run} took {seconds} s, and by the log {body.seconds:g} s")
        if body.exit_code is not None and code != body.exit_code:
            section.misfit(str(file), f"run {body.run} exited with {code}, and by the log with {body.exit_code}")
    section.summary = f"{plural(ended, 'run')}, {plural(kept, 'exit file')} of the process that watched one"
    section.checked = bool(kept)
    return section
