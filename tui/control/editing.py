"""What a person writes in their own editor: an experiment, a proposal's code, program.md. Seen as a diff first."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.client.committed_files import committed_files
from core.program.program import parse
from core.record import commands
from core.record.commands import Reply
from core.record.errors import AutoresearchError, UsageError
from core.record.state import who
from core.session.homes import state_home
from core.session.options import session_overrides
from tui.screens.dialogs import Asked, DiffCard
from tui.terminal.external_editor import Copy, Editor

if TYPE_CHECKING:
    from tui.app import Cockpit

LARGEST = 900_000  # characters of edits that one command carries
AT_ONCE = 1.5  # seconds; an editor that is back sooner has likely not waited for its window


class Handwork:
    """The actions that open $EDITOR. Each runs in a worker of the app; nothing takes effect unseen."""

    def __init__(self, app: Cockpit) -> None:
        self._app = app
        self.editor = Editor(app, os.environ)

    # -- an experiment of one's own -----------------------------------------------------------------------------

    async def act_own(self) -> None:
        self._app.steering.write("own", "own experiment: its hypothesis", lambda text, how, _: self._begin(text))

    def _begin(self, hypothesis: str) -> None:
        if hypothesis:
            self._work(self._own(hypothesis))
        else:
            self._app.tell("own experiment: it needs a sentence that says what it is", "warn")

    async def _own(self, hypothesis: str) -> None:
        state = self._app.model.state
        session, parent = state.session, state.experiments.get(state.parent)
        commit = (parent.commit if parent else None) or state.best_commit or (session.commit if session else None)
        if session is None or commit is None:
            raise UsageError("there is no code to edit yet: the baseline comes first")
        texts = await asyncio.to_thread(committed_files, self._app.model.paths.project, commit, session.edit)
        asked = Asked(
            "run this?",
            f"{hypothesis}   (edited from {who(state.parent)}; it runs as it is)",
            (("y", "run it"),),
            "drop it",
        )
        await self._edited(
            texts,
            session.edit,
            asked,
            lambda edits: commands.Propose(hypothesis=hypothesis, edits=edits),
            "your experiment",
        )

    # -- a proposal that waits ----------------------------------------------------------------------------------

    def edit_proposal(self, experiment: int) -> None:
        """Open the code of a proposal that waits for approval."""
        self._work(self._proposal(experiment))

    async def _proposal(self, experiment: int) -> None:
        state = self._app.model.state
        x = state.experiments.get(experiment)
        if x is None or x.commit is None or state.session is None:
            raise UsageError(f"the code of #{experiment} is not there")
        texts = await asyncio.to_thread(committed_files, self._app.model.paths.project, x.commit, x.files)
        asked = Asked(
            f"run #{experiment} with your changes?", x.hypothesis, (("y", "run it like this"),), "leave it waiting"
        )
        await self._edited(
            texts,
            None,
            asked,
            lambda edits: commands.Approve(experiment, edits=edits),
            f"your changes to #{experiment}",
        )

    async def _edited(
        self,
        texts: Mapping[str, str],
        allowed: tuple[str, ...] | None,
        asked: Asked,
        command: Callable[[tuple[Mapping[str, Any], ...]], commands.Command],
        what: str,
    ) -> None:
        """Edit, look at the diff, edit again or send. A refused one is kept in a file."""
        if not texts:
            raise UsageError("there is no text file that may be edited")
        with Copy(texts) as copy:
            changed = await self._until_answered(copy, lambda: copy.changed(allowed), asked, what)
            if changed is None:
                return
            diff = copy.diff(changed)
        edits = tuple({"path": name, "content": text} for name, text in sorted(changed.items()))
        if sum(map(len, changed.values())) > LARGEST:
            self._keep(diff)
            raise UsageError(f"{what}: more than {LARGEST:,} characters cannot be sent", where=str(self._kept))
        self._app.steering.ask(command(edits), lambda reply: self._refused(reply, diff))

    async def _until_answered(
        self, copy: Copy, taken: Callable[[], Mapping[str, str]], asked: Asked, what: str
    ) -> Mapping[str, str] | None:
        """What was changed, once the person says yes to it; None when nothing was, or they dropped it."""
        while True:
            opened = time.monotonic()
            await self.editor.edit(self._app.settings.editor, copy.words, copy.folder)
            at_once = time.monotonic() - opened < AT_ONCE
            trouble, changed = "", {}
            try:
                changed = dict(taken())
            except AutoresearchError as error:
                trouble = str(error)
            if not changed and not trouble:
                why = " (it came back at once: a graphical editor needs its waiting option)" if at_once else ""
                self._app.tell(f"{what}: nothing was changed{why}", "warn")
                return None
            again = ("e", "edit again")
            answers = (again,) if trouble else (*asked.answers, again)
            card = DiffCard(
                self._app.model, Asked(asked.title, asked.words, answers, asked.no), copy.diff(changed), trouble
            )
            answer = await self._app.push_screen_wait(card)
            if answer == "y":
                return changed
            if answer != "e":
                return None

    # -- program.md ---------------------------------------------------------------------------------------------

    async def act_program(self) -> None:
        self._work(self._program())

    async def _program(self) -> None:
        path = self._app.project / "program.md"
        before = _read(path)
        live = self._app.model.live
        when = "It takes effect at the next experiment." if live else "It takes effect when the session is resumed."
        asked = Asked("change program.md?", when, (("y", "write it"),), "leave it as it was")
        with Copy({"program.md": before}) as copy:

            def taken() -> Mapping[str, str]:
                changed = copy.changed()
                for text in changed.values():
                    parse(text, session_overrides(self._app.model.paths))
                return changed

            changed = await self._until_answered(copy, taken, asked, "program.md")
            if changed is None:
                return
            if _read(path) != before:
                self._keep(copy.diff(changed))
                raise UsageError(f"program.md was changed by somebody else meanwhile; yours is in {self._kept}")
            _replace(path, changed["program.md"])
        self._app.tell(f"{self._app.look.glyph('ok')} program.md is written. {when}", "good")

    # -- shared -------------------------------------------------------------------------------------------------

    def _work(self, work: Any) -> None:
        if self.editor.busy:
            work.close()
            self._app.tell("an editor is open already", "warn")
            return
        self._app.run_worker(self._told(work))

    async def _told(self, work: Any) -> None:
        try:
            await work
        except AutoresearchError as error:
            hint = f"   hint: {error.hint}" if error.hint else ""
            self._app.tell(f"{self._app.look.glyph('no')} {error.what}{hint}", "bad")

    @property
    def _kept(self) -> Path:
        return state_home() / "refused.patch"

    def _keep(self, diff: str) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        self._kept.write_text(diff, encoding="utf-8", errors="replace")

    def _refused(self, reply: Reply, diff: str) -> None:
        if reply.accepted:
            return
        try:
            self._keep(diff)
        except OSError:
            return
        self._app.tell(f"{self._app.look.glyph('no')} {reply.message}   (your edit: {self._kept})", "warn")


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return handle.read()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"program.md cannot be read ({why})") from error


def _replace(path: Path, text: str) -> None:
    """All of it or nothing, its mode kept; a link stays a link. Raises UsageError."""
    target = path.resolve()
    new = target.with_name(f".{target.name}.new")
    try:
        with new.open("w", encoding="utf-8", newline="") as handle:
            handle.write(text)
        new.chmod(target.stat().st_mode & 0o777)
        new.replace(target)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise UsageError(f"program.md cannot be written ({error.strerror})") from error
