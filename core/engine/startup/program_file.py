"""program.md while a session runs: an edit takes effect at the next experiment, or is refused with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from core.engine.session_settings import program_diff
from core.engine.startup.setup import EnginePart
from core.program.program import Program, check_change, check_files, check_required, load
from core.program.toml_reader import NAME
from core.record import events as e
from core.record.errors import AutoresearchError
from core.session.disk import replace_file
from core.session.options import overrides_of


@dataclass(eq=False)
class ProgramFile(EnginePart):
    """Follows the project's program.md: looked at before each experiment, and before one of a person's own."""

    _stamp: tuple[int, int] | None = field(default=None, init=False)  # of the file as last read
    _refused: str = field(default="", init=False)  # the text that was refused last
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def _path(self) -> Path:
        return self.setup.project / NAME

    async def look(self) -> None:
        """Put an edited program.md in force. A refused one is logged once."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        stamp = await asyncio.to_thread(self._look_at)
        if stamp is not None and stamp == self._stamp:
            return
        self._stamp = stamp
        old = self.program
        text = ""
        try:
            program = await asyncio.to_thread(load, self._path, overrides_of(self.settings.options))
            text = program.text
            if text in (old.text, self._refused):
                return
            self._check(old, program)
        except AutoresearchError as error:
            text = text or await asyncio.to_thread(self._text)
            if text and text != self._refused:
                self._refused = text
                await self.journal.write(e.ProgramChanged(program_diff(old.text, text), text, str(error)))
            return
        self._refused = ""
        await asyncio.to_thread(replace_file, self.paths.program, text.encode("utf-8"))
        await self.settings.adopt(program)

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
        """Raises ProgramError for a change that a begun session cannot take, or that does not fit the code."""
        check_change(old, new)
        repo, state = self.repo, self.state
        commit = state.best_commit or self.setup.commit
        tracked = repo.files(commit, ("**",))
        check_files(new, self.setup.project, tracked, repo.outside_sparse())
        check_required(new, lambda path: repo.read(commit, path))
