"""The card of the data: what `prepare` says while it runs, and the choice where it asks which data it shall prepare"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from core.client.trial_client import follow_preparation
from core.record.errors import AutoresearchError
from core.session.options import EngineOptions
from core.views import clean, one_line
from tui.screens.dialogs import Card
from tui.session_view import SessionView
from tui.widgets.page import Lines, paragraphs


class DataCard(Card[bool]):
    """One preparation after the other. Escape stops it and closes the card.

    Dismissed with whether the data are there, None where it was stopped.
    """

    TITLE_TEXT = "data"
    WIDTH = 120
    SCROLLS = False

    def __init__(self, view: SessionView, project: Path, options: EngineOptions) -> None:
        self._project, self._options = project, options
        self._report: dict[str, Any] | None = None
        self._at = 0  # the choice under the cursor
        self._command, self._progress = "prepare", ""
        self._work: asyncio.Task[None] | None = None
        super().__init__(view)

    def on_mount(self) -> None:
        super().on_mount()
        self._start(None)

    async def on_unmount(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})

    def _start(self, chosen: str | None) -> None:
        """Run the project's `prepare`, or the command that was chosen."""
        self._report, self._at, self._command, self._progress = None, 0, chosen or "prepare", "starting"
        # Not a worker: Textual would cancel it a second time while the command ends.
        self._work = asyncio.create_task(self._follow(chosen))
        self._show()

    async def _follow(self, chosen: str | None) -> None:
        try:
            async with contextlib.aclosing(follow_preparation(self._project, self._options, chosen)) as messages:
                async for message in messages:
                    self._progress = str(message.get("progress", self._progress))
                    self._report = message.get("report")
                    self._show()
        except AutoresearchError as error:
            self._report = {"ok": False, "what": str(error), "hint": "", "choices": {}}
            self._show()

    def _show(self) -> None:
        if self.is_mounted:
            self._fit()
            self._page.flush()

    @property
    def _choices(self) -> dict[str, str]:
        return dict(self._report.get("choices", {})) if self._report else {}

    # -- what is shown ------------------------------------------------------------------------------------------

    def lines(self, width: int) -> Lines:
        look = self.view.look
        if self._report is None:
            told = paragraphs(self._progress, width, look["text"])
            foot = [("esc", look["key"]), ("  stop it", look["text"])]
            return [[(one_line(clean(self._command)), look["dim"])], [], *told, [], foot]
        close = [("esc", look["key"]), ("  close", look["text"])]
        if self._report["ok"]:
            plain = {k: v for k, v in self._report["info"].items() if isinstance(v, str | int | float)}
            words = ", ".join(f"{name} {value}" for name, value in plain.items())
            told = paragraphs(f"the data are prepared{f': {words}' if words else ''}", width, look["good_bold"])
            return [*told, [], close]
        told = paragraphs(self._report["what"], width, look["bad"])
        if not self._choices:
            hint = f"hint: {self._report['hint']}" if self._report["hint"] else ""
            return [*told, *(paragraphs(hint, width, look["text"]) if hint else []), [], close]
        for at, (command, does) in enumerate(self._choices.items()):
            on = at == self._at
            mark = look.glyph("think") if on else " "
            told += [[], [(f"{mark} ", look["key"]), (one_line(clean(does)), look["title_focus" if on else "text"])]]
            told += paragraphs(command, width - 2, look["dim"], 2)
        keys = (("enter", "run it"), ("↑↓", "choose"), ("esc", "close"))
        return [*told, [], [part for k, does in keys for part in ((k, look["key"]), (f"  {does}   ", look["text"]))]]

    # -- keys ---------------------------------------------------------------------------------------------------

    def pressed(self, character: str, key: str) -> None:
        step = {"up": -1, "k": -1, "down": 1, "j": 1}.get(key, 0)
        if key in ("escape", "ctrl+c", "q") or (key == "enter" and self._report is not None and not self._choices):
            self.dismiss(None if self._report is None else bool(self._report["ok"]))
        elif key == "enter" and self._choices:
            self._start(list(self._choices)[self._at])
        elif step and self._choices:
            self._at = min(max(self._at + step, 0), len(self._choices) - 1)
            self._show()
