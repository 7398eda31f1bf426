"""The card of a trial: progress while the run goes on, then the report, from what was printed to what to write"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from core.client.trial_client import follow_trial
from core.program.toml_edit import write_key
from core.record.errors import AutoresearchError
from core.session.options import EngineOptions
from core.views import trial_lines, trial_progress, trial_verdict
from tui.paint.cells import left, wrap
from tui.screens.dialogs import Card
from tui.session_view import SessionView
from tui.widgets.page import Lines, paragraphs

NAME_WIDTH = 10


class TrialCard(Card[bool]):
    """One trial. Escape stops it, and closes the card; dismissed with whether a session can be expected to work."""

    TITLE_TEXT = "try"
    WIDTH = 120

    def __init__(self, view: SessionView, project: Path, options: EngineOptions) -> None:
        self._project, self._options = project, options
        self._progress = "starting"
        self._report: dict[str, Any] | None = None
        self._said = ""  # below the report
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        super().__init__(view)

    def on_mount(self) -> None:
        super().on_mount()
        # Not a worker: Textual would cancel it a second time while the trial removes its worktree.
        self._task = asyncio.create_task(self._follow())

    async def on_unmount(self) -> None:
        self._stop()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _stop(self) -> bool:
        """End the trial: its process removes what it made. False when it has ended."""
        if self._task is None or self._task.done() or self._report is not None:
            return False
        if not self._stopping:  # a second cancellation would cut off the removal
            self._stopping = True
            self._task.cancel()
        return True

    def _leave(self) -> None:
        self.dismiss(None if self._report is None else bool(self._report["ok"]))

    async def _follow(self) -> None:
        try:
            async with contextlib.aclosing(follow_trial(self._project, self._options)) as messages:
                async for message in messages:
                    if "report" in message:
                        self._report = message["report"]
                    else:
                        self._progress = trial_progress(message["progress"])
                    self._show()
        except AutoresearchError as error:
            self._said = str(error)
            self._show()
        except asyncio.CancelledError:
            if self.is_mounted and self.is_current:  # it was stopped by key, and everything of it is removed
                self.call_later(self._leave)
            raise

    def _show(self) -> None:
        if self.is_mounted:
            self._fit()
            self._page.flush()

    # -- what is shown ------------------------------------------------------------------------------------------

    def lines(self, width: int) -> Lines:
        look = self.view.look
        if self._report is None:
            foot = "esc closes" if self._said else "esc stops it; nothing of it stays in the repository"
            told = paragraphs(self._said, width, look["bad"]) if self._said else [[(self._progress, look["text"])]]
            return [[("one run of program.md at HEAD, without a session", look["dim"])], [], *told, [],
                    [(foot, look["dim"])]]  # fmt: skip
        out: Lines = []
        found = False
        for line in trial_lines(self._report):
            role = {"bold": "bright"}.get(line.role, line.role)
            if not line.name:
                out += [[(piece, look[role])] for piece in wrap(line.text, width)]
                continue
            if line.sign and not found:
                out += [[]] if out else []
                found = True
            out += self._finding(line.sign, line.name, line.text, role, width)
        verdict = "good_bold" if self._report["ok"] else "bad_bold"
        out += [[], *paragraphs(trial_verdict(self._report), width, look[verdict])]
        if self._said:
            out += paragraphs(self._said, width, look["text"])
        elif self._report.get("at_limit"):
            out.append([("w", look["key"]), (f"  write {self._report['at_limit']} into program.md", look["text"])])
        return [*out, [("esc", look["key"]), ("  close", look["text"])]]

    def _finding(self, sign: str, name: str, text: str, role: str, width: int) -> Lines:
        look = self.view.look
        glyph = {"finished": "ok", "crashed": "no", "provisional": "note"}.get(sign, "")
        indent = NAME_WIDTH + 2
        pieces = wrap(text, width - indent) or [""]
        head = f"{look.glyph(glyph)} " if glyph else "  "
        style = look["text"] if sign else look[role]
        first = [(head, look[role]), (left(name, NAME_WIDTH), look["bright"]), (pieces[0], style)]
        return [first, *([(" " * indent + piece, style)] for piece in pieces[1:])]

    # -- keys ---------------------------------------------------------------------------------------------------

    def pressed(self, character: str, key: str) -> None:
        leaves = key in ("escape", "ctrl+c", "q")
        if leaves and self._stop():
            self._progress = "stopping; the worktree is removed …"
            self._show()
        elif leaves or (key == "enter" and self._report is not None):
            self._leave()
        elif character == "w" and self._report is not None and self._report.get("at_limit") and not self._said:
            self._write()

    def _write(self) -> None:
        try:
            write_key(self._project / "program.md", "budget", "at_limit", '"score"')
            self._said = 'wrote at_limit = "score" into program.md: try it again'
        except (AutoresearchError, OSError) as error:
            self._said = f"it could not be written: {error}"
        self._show()
