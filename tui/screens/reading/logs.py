"""Logs with search: the run's output, the engine's log, the scorer's log"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tui.paint.canvas import Pane
from tui.screens.reading.reader import ReadingScreen
from tui.widgets.prompt import How, Prompt
from tui.widgets.tail import LogPane


class LogsScreen(ReadingScreen):
    """`/` searches, n and N show the next and the previous match; G follows the end again."""

    PLACE: ClassVar[str] = "logs"
    TABS = ("run output", "engine log", "scoring")

    def make_panes(self) -> list[Pane]:
        view = self.view
        self.files = [
            LogPane(view, "run output", lambda: self._of_run("output.log"), "the run has printed nothing yet"),
            LogPane(view, "engine log", lambda: view.paths.engine_log, "the engine has written nothing yet"),
            LogPane(view, "scoring", lambda: self._of_run("score.log"), "no scorer program has run here"),
        ]
        return list(self.files)

    def _of_run(self, name: str) -> Path | None:
        """A file of the run that the main screen shows: the selected experiment's, else the newest."""
        run = self.view.shown_run
        return self.view.paths.run(run.run) / name if run else None

    @property
    def file(self) -> LogPane:
        return self.files[self.tab]

    def on_prompt_typed(self, message: Prompt.Typed) -> None:
        if message.purpose == "search":
            self.file.set_query(message.text)

    def written(self, purpose: str, text: str, how: How, pane: Pane | None) -> None:
        if how == "cancel":
            self._end_search()
        elif text != self.file.query_text:
            self.file.set_query(text)

    def _end_search(self) -> None:
        self.file.set_query("")
        self.file.end()

    def search(self) -> None:
        self.prompt.ask("search", "search", self.file.query_text, self.file)

    def next_match(self, step: int) -> None:
        """Show the next match (1) or the previous one (-1)."""
        if not self.file.query_text:
            self.say("search: / starts a search", "warn", 2.0)
        elif not self.file.next_match(step):
            self.say(f"not in this log: {self.file.query_text}", "warn", 2.0)

    def toggle_wrap(self) -> None:
        self.file.set_wraps(not self.file.wraps)
        self.say("long lines are wrapped" if self.file.wraps else "long lines are cut", "accent", 2.0)

    def leave(self) -> None:
        if self.file.query_text:
            self._end_search()
        else:
            super().leave()
