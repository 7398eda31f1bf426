"""What a person asks of the engine: each action sends one command, and its answer is shown where they look."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.record import commands
from core.record.commands import Command, Reply
from core.record.errors import AutoresearchError
from core.record.state import Experiment, Guidance
from core.views import one_line
from tui.screens.base import ActionScreen
from tui.session_view import SessionView
from tui.widgets.prompt import How, Recalled

if TYPE_CHECKING:
    from tui.app import Cockpit

REMEMBERED = 50  # of what was sent, for `up`
ANSWERS_KEPT = 100
HINTS = {"steer": "steer", "idea": "idea", "after": "stop after how many more experiments"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What the engine said to a request, for the list of notes."""

    time: float
    accepted: bool
    words: str


class EngineCommands:
    """The actions of the groups Session and Experiments that need no screen of their own."""

    def __init__(self, app: Cockpit) -> None:
        self._app = app
        self.answers: deque[Answered] = deque(maxlen=ANSWERS_KEPT)
        self._sent: deque[str] = deque(maxlen=REMEMBERED)

    @property
    def model(self) -> SessionView:
        return self._app.model

    # -- asking -------------------------------------------------------------------------------------------------

    def ask(self, command: Command, then: Callable[[Reply], None] | None = None) -> None:
        """Send a command without holding up the screen; its answer is shown, and kept among the notes."""
        self._app.run_worker(self._ask(command, then))

    async def _ask(self, command: Command, then: Callable[[Reply], None] | None) -> None:
        try:
            reply = await self.model.source.send(command)
        except AutoresearchError as error:
            reply = Reply(False, error.what)
        self.remember(reply.message, reply.accepted)
        sign = self._app.look.glyph("ok" if reply.accepted else "no")
        self._app.tell(f"{sign} {reply.message}", "good" if reply.accepted else "warn")
        if then is not None:
            then(reply)

    def remember(self, words: str, accepted: bool) -> None:
        """Keep something that was said for the list of notes."""
        self.answers.append(Answered(time.time(), accepted, one_line(words)))

    def write(
        self, purpose: str, label: str, then: Callable[[str, How, Recalled | None], None], text: str = "",
        recall: tuple[Recalled, ...] = (),
    ) -> None:  # fmt: skip
        """Ask for a line on the screen in front."""
        for screen in reversed(self._app.screen_stack):
            if isinstance(screen, ActionScreen) and screen.is_mounted:
                screen.prompt.ask(purpose, label, text, None, then, recall)
                return

    # -- the session --------------------------------------------------------------------------------------------

    async def act_pause(self) -> None:
        paused = self.model.state.state == "paused"
        self.ask(commands.Resume() if paused else commands.Pause())

    async def act_pause_now(self) -> None:
        from tui.screens.dialogs import PAUSE_NOW, Confirm

        def answered(answer: str | None) -> None:
            if answer == "y":
                self.ask(commands.Pause(now=True))

        self._app.push_screen(Confirm(self.model, PAUSE_NOW), answered)

    async def act_skip(self) -> None:
        chosen = self.model.experiment(self.model.page) or self.model.experiment(self.model.selected)
        live = chosen is not None and chosen.number in self.model.state.live
        self.ask(commands.Skip(chosen.number if chosen and live else None))

    async def act_stop(self) -> None:
        from tui.screens.dialogs import Confirm, stop_question

        self._app.push_screen(Confirm(self.model, stop_question(self.model)), self._stop)

    async def act_stop_now(self) -> None:
        from tui.screens.dialogs import STOP_NOW, Confirm

        self._app.push_screen(Confirm(self.model, STOP_NOW), lambda answer: self._stop("!" if answer == "y" else None))

    def _stop(self, answer: str | None) -> None:
        if answer in ("y", "!"):
            self.ask(commands.Stop(now=answer == "!"))
        elif answer == "a":
            self.write("after", HINTS["after"], self._after)

    async def act_stop_after(self) -> None:
        self.write("after", HINTS["after"], self._after)

    def _after(self, text: str, how: How, recalled: Recalled | None) -> None:
        if text.isascii() and text.isdigit() and 0 < int(text) < 10**9:
            self.ask(commands.Stop(after=int(text)))
        elif text:
            self._app.tell(f"stop after: {text!r} is no whole number of at least 1", "warn")

    async def act_approve_mode(self) -> None:
        self.ask(commands.ApproveMode(not self.model.state.approve))

    # -- words --------------------------------------------------------------------------------------------------

    async def act_steer(self) -> None:
        queued = [g for g in self.model.state.in_force() if g.taken_by is None and not g.idea]
        recall = [Recalled(g.text, g.id) for g in reversed(queued)]
        texts = {r.text for r in recall}
        recall += [Recalled(text) for text in reversed(self._sent) if text not in texts]
        self.write("steer", HINTS["steer"], self._steer, recall=tuple(recall))

    def _steer(self, text: str, how: How, recalled: Recalled | None) -> None:
        if recalled is not None and recalled.guidance is not None:
            self.reword(recalled.guidance, text)
        elif text:
            self._sent.append(text)
            self.ask(commands.Steer(text, now=how == "now", standing=how == "standing"))

    def reword(self, guidance: int, text: str) -> None:
        """Other words for guidance that is queued; none withdraw it."""
        self.ask(commands.EditGuidance(guidance, text) if text else commands.Withdraw(guidance))

    def change_words(self, guidance: Guidance) -> None:
        """Ask for other words."""
        self.write(
            "words",
            f"change guidance {guidance.id}",
            lambda text, how, _: self.reword(guidance.id, text),
            guidance.text,
        )

    async def act_withdraw(self) -> None:
        self.ask(commands.Withdraw(self.model.state.in_force()[-1].id))

    async def act_idea(self) -> None:
        self.write("idea", HINTS["idea"], lambda text, how, _: self.ask(commands.Idea(text)) if text else None)

    # -- experiments --------------------------------------------------------------------------------------------

    def _subject(self) -> Experiment:
        found = self.model.subject
        assert found is not None  # or the action would have been refused
        return found

    async def act_fork(self) -> None:
        number = self._subject().number
        self.ask(commands.Fork(None if self.model.state.base == number else number))

    async def act_pin(self) -> None:
        number = self._subject().number
        self.ask(commands.Pin(number, pinned=number not in self.model.state.pinned))

    async def act_repeat(self) -> None:
        self.ask(commands.Repeat(self._subject().number))

    async def act_certify(self) -> None:
        self.ask(commands.Certify(self.model.certified_next))

    async def act_reproduce(self) -> None:
        self.ask(commands.Reproduce(self._subject().number))
