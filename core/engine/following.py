"""program.md while a session runs: an edit takes effect at the next experiment, or is refused in words."""

from __future__ import annotations

import asyncio
import difflib

from core.engine.journal import Journal
from core.engine.setup import Setup, overrides_of
from core.frontmatter import NAME
from core.program import Program, check_change, check_files, check_required, load
from core.record import events as e
from core.record.errors import AutoresearchError
from core.session import replace_file


class ProgramFile:
    """Looks at the project's program.md before each experiment."""

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self._setup = setup
        self._journal = journal
        self._path = setup.project / NAME
        self._stamp: tuple[int, int] | None = None  # of the file as last read
        self._refused = ""  # the text that was refused last

    async def look(self) -> bool:
        """Take over an edited program.md; True when it is in force now. What is refused is said once."""
        stamp = await asyncio.to_thread(self._look_at)
        if stamp is not None and stamp == self._stamp:
            return False
        self._stamp = stamp
        setup, old = self._setup, self._setup.program
        text = ""
        try:
            program = await asyncio.to_thread(load, self._path, overrides_of(setup.options))
            text = program.text
            if text in (old.text, self._refused):
                return False
            self._check(old, program)
        except AutoresearchError as error:
            text = text or await asyncio.to_thread(self._text)
            if text and text != self._refused:
                self._refused = text
                await self._journal.write(e.ProgramChanged(_diff(old.text, text), text, str(error)))
            return False
        setup.program, self._refused = program, ""
        await asyncio.to_thread(replace_file, setup.paths.program, text.encode("utf-8"), mode=0o644)
        await self._journal.write(e.ProgramChanged(_diff(old.text, text), text))
        return True

    def _look_at(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _check(self, old: Program, new: Program) -> None:
        """Raises ProgramError for what cannot change under a session's feet, or does not fit the code."""
        check_change(old, new)
        repo, state = self._setup.repo, self._journal.state
        commit = state.best_commit or self._setup.commit
        tracked = repo.files(commit, ("**",))
        check_files(new, self._setup.project, tracked)
        check_required(new, lambda path: repo.read(commit, path))


def _diff(old: str, new: str) -> str:
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{NAME}", f"b/{NAME}", n=2
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
