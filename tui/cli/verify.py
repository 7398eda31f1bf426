"""The command `verify`: whether log, commits, sealed files and certificates of a session fit together"""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.record.errors import ProjectError
from core.session.chain import ChainHead
from core.session.choice import find_session
from core.session.paths import SessionPaths
from tui.cli.command import JSON, NAME, PROJECT, argument, command
from tui.cli.output import Output
from tui.cli.session_names import session_of

if TYPE_CHECKING:
    from core.evidence.section import Section
    from core.evidence.verify import Verified

WORDS = {True: "fits", False: "does not fit", None: "not checked"}
PROGRESS_SECONDS = 0.2


def log_head(text: str) -> ChainHead:
    try:
        return ChainHead.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@command(
    "verify", NAME, JSON,
    argument("--head", metavar="SEQ:HASH", type=log_head, action="append", default=[], dest="heads",
             help="the log's head as a report, a certificate or a commit names it; may be given several times"),
    argument("--allowed-signers", metavar="FILE",
             help="whose keys sign certificates, as ssh-keygen(1) describes (default: git's\n"
             "gpg.ssh.allowedSignersFile)"), PROJECT,
    help="Check that a session fits together: the chain of its events, the state that is shown, its commits and refs,\n"
    "the sealed files, its runs and certificates. Writes nothing, needs no engine, and says what it could not check.\n"
    "Exit 0: all that could be checked fits; 1: something does not.",
    examples=("verify", "verify nov23 --json", "verify nov23 --head 210:0123456789ab"),
)  # fmt: skip
def verify(arguments: Namespace, out: Output) -> int:
    from core.evidence.signature import known_signers
    from core.evidence.verify import verify as check

    paths = _session(arguments)
    signers = known_signers(paths.project, arguments.allowed_signers)
    shows = out.tty and not arguments.json
    told = 0.0

    def progress(what: str) -> None:
        nonlocal told
        if shows and (now := time.monotonic()) - told > PROGRESS_SECONDS:
            told = now
            out.write(f"\r\x1b[K{out.paint(f'checking {what} …'[: out.width - 1], 'dim')}")
            out.flush()

    try:
        found = check(paths, progress, signers=signers, heads=arguments.heads)
    finally:
        if told:
            out.write("\r\x1b[K")
    if arguments.json:
        out.json(_table(paths, found))
    else:
        _show(paths, found, out)
    return 0 if found.fits else 1


def _session(arguments: Namespace) -> SessionPaths:
    """The session as other commands name it, and also in a folder that holds a copy of `sessions` and nothing else."""
    try:
        return session_of(arguments)
    except ProjectError:
        project = Path(arguments.project or "").absolute()
        if not (project / "sessions").is_dir():
            raise
        return find_session(project, arguments.name)


def _show(paths: SessionPaths, found: Verified, out: Output) -> None:
    word = out.word(WORDS[found.fits])
    head = f"  {out.paint(f'head {found.head.short}', 'dim')}" if found.head else ""
    out.line(f"{out.paint(paths.name, 'bold')}  {word}{head}")
    for section in found.sections:
        _show_section(section, out)


def _show_section(section: Section, out: Output) -> None:
    word = WORDS[section.ok]
    out.line(f"  {out.word(word, word.ljust(12))}  {out.paint(section.name.ljust(12), 'dim')}  "
             f"{out.paint(section.summary, 'text')}".rstrip())  # fmt: skip
    for misfit in section.misfits:
        out.line(f"      {out.paint(misfit.where, 'text')}: {out.paint(misfit.what, 'bad')}")
        if misfit.hint:
            out.line(f"        {out.paint(f'hint: {misfit.hint}', 'dim')}")
    for note in section.notes:
        out.line(f"      {out.paint(note, 'dim')}")


def _table(paths: SessionPaths, found: Verified) -> dict[str, Any]:
    return {
        "session": paths.name,
        "fits": found.fits,
        "head": {"events": found.head.seq, "hash": found.head.hash} if found.head else None,
        "parts": [
            {
                "name": section.name, "ok": section.ok, "summary": section.summary,
                "misfits": [misfit._asdict() for misfit in section.misfits], "notes": section.notes,
            }
            for section in found.sections
        ],
    }  # fmt: skip
