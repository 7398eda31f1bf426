"""What was printed, as it was: the run's output, the engine's log, the scorer's; with search."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tui.paint.canvas import Pane
from tui.screens.reading.reader import ReadingScreen
from tui.widgets.prompt import How, Prompt
from tui.widgets.tail import LogPane


class LogsScreen(ReadingScreen):
    """`/` looks for words, n and N go on to the next and back; G follows the end again."""

    PLACE: ClassVar[str] = "logs"
    TABS = ("run output", "engine log", "scoring")

    def make_panes(self) -> list[Pane]:
        model = self.model
        self.files = [
            LogPane(model, "run output", lambda: self._of_run("output.log"), "the run has printed nothing yet"),
            LogPane(model, "engine log", lambda: model.paths.engine_log, "the engine has written nothing"),
            LogPane(model, "scoring", lambda: self._of_run("score.log"), "nothing was scored by a program here"),
        ]
        return list(self.files)

    def _of_run(self, name: str) -> Path | None:
        """A file of the run that the main screen shows: the selected experiment's, else the newest."""
        run = self.model.shown_run
        return self.model.paths.run(run.run) / name if run else None

    @property
    def file(self) -> LogPane:
        return self.files[self.tab]

    def on_prompt_typed(self, message: Prompt.Typed) -> None:
        if message.purpose == "search":
            self.file.set_query(message.text)

    def written(self, purpose: str, text: str, how: How, pane: Pane | None) -> None:
        if purpose != "search":
            super().written(purpose, text, how, pane)
            return
        if how == "cancel":
            self.file.set_query("")
            self.file.end()
        elif text != self.file.query_text:
            self.file.set_query(text)

    async def act_search(self) -> None:
        self.prompt.ask("search", "search", self.file.query_text, self.file)

    async def act_search_next(self) -> None:
        self._next(1)

    async def act_search_previous(self) -> None:
        self._next(-1)

    def _next(self, step: int) -> None:
        if not self.file.query_text:
            self.say("search: / looks for words first", "warn", 2.0)
        elif not self.file.next_match(step):
            self.say(f"nowhere in this log: {self.file.query_text}", "warn", 2.0)

    async def act_wrap(self) -> None:
        self.file.set_wraps(not self.file.wraps)
        self.say("long lines are wrapped" if self.file.wraps else "long lines are cut", "accent", 2.0)

    async def act_escape(self) -> None:
        if self.file.query_text:
            self.file.set_query("")
            self.file.end()
        else:
            self.dismiss()
