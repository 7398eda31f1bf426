"""Actions that open $EDITOR: an experiment of one's own, a proposal's code, program.md; each shown as a diff first"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.client.committed_files import committed_files
from core.program.program import parse
from core.record import commands
from core.record.commands import Reply
from core.record.errors import AutoresearchError, UsageError
from core.record.state import who
from core.session.disk import replace_file
from core.session.homes import state_home
from core.session.options import session_overrides
from tui.host import Host
from tui.screens.dialogs import ConfirmQuestion, DiffCard
from tui.terminal.external_editor import EditedCopy

MAX_EDIT_CHARACTERS = 900_000  # that one command carries
MIN_EDIT_SECONDS = 1.5  # an editor that ends sooner has likely not waited for its window
Sent = commands.Propose | commands.Approve


# -- an experiment of one's own ---------------------------------------------------------------------------------------


def own_experiment(host: Host) -> None:
    def written(text: str, *_: object) -> None:
        if text:
            _start(host, _edit_own(host, text))
        else:
            host.tell("own experiment: write its hypothesis in one sentence", "warn")

    host.write("own", "own experiment: its hypothesis", written)


async def _edit_own(host: Host, hypothesis: str) -> None:
    state = host.view.state
    session, parent = state.session, state.experiments.get(state.parent)
    commit = (parent.commit if parent else None) or state.best_commit or (session.commit if session else None)
    if session is None or commit is None:
        raise UsageError("there is no code to edit before the baseline has a result")
    texts = await asyncio.to_thread(committed_files, host.view.paths.project, commit, session.edit)
    about = f"{hypothesis}   (edited from {who(state.parent)}; it runs unchanged)"
    question = ConfirmQuestion("run this?", about, (("y", "run it"),), "drop it")
    command = commands.Propose(hypothesis=hypothesis)
    with EditedCopy(texts) as copy:
        await _edit_and_send(host, copy, session.edit, question, command, "your experiment")


# -- a proposal that waits --------------------------------------------------------------------------------------------


def edit_proposal(host: Host, experiment: int) -> None:
    """Open the code of a proposal that waits for approval."""
    _start(host, _edit_proposal(host, experiment))


async def _edit_proposal(host: Host, experiment: int) -> None:
    state = host.view.state
    x = state.experiments.get(experiment)
    if x is None or x.commit is None or state.session is None:
        raise UsageError(f"#{experiment} has no code to edit")
    texts = await asyncio.to_thread(committed_files, host.view.paths.project, x.commit, x.files)
    title = f"run #{experiment} with your changes?"
    question = ConfirmQuestion(title, x.hypothesis, (("y", "run it like this"),), "leave it waiting")
    with EditedCopy(texts) as copy:
        what = f"your changes to #{experiment}"
        await _edit_and_send(host, copy, None, question, commands.Approve(experiment), what)


async def _edit_and_send(
    host: Host, copy: EditedCopy, allowed: Sequence[str] | None, question: ConfirmQuestion, command: Sent, what: str
) -> None:
    """Edit, show the diff, edit again or send `command` with the edits. Refused edits are saved to a file."""
    if not copy.texts:
        raise UsageError("there is no text file that may be edited")
    changed = await _edit_until_answered(host, copy, lambda: copy.changed(allowed), question, what)
    if changed is None:
        return
    diff = copy.diff(changed)
    edits = tuple({"path": name, "content": text} for name, text in sorted(changed.items()))
    if sum(map(len, changed.values())) > MAX_EDIT_CHARACTERS:
        _save_refused(diff)
        message = f"{what}: more than {MAX_EDIT_CHARACTERS:,} characters cannot be sent"
        raise UsageError(message, where=str(refused_patch()))

    def answered(reply: Reply) -> None:
        if reply.accepted:
            return
        try:
            _save_refused(diff)
        except OSError:
            return
        host.tell(f"{host.look.glyph('no')} {reply.message}   (your edit: {refused_patch()})", "warn")

    host.ask(replace(command, edits=edits), answered)


async def _edit_until_answered(
    host: Host, copy: EditedCopy, taken: Callable[[], Mapping[str, str]], question: ConfirmQuestion, what: str
) -> Mapping[str, str] | None:
    """The changed files, once the person confirms them; None when nothing was changed, or the person dropped it."""
    while True:
        opened = time.monotonic()
        await host.editor.edit(host.settings.editor, copy.arguments, copy.folder)
        at_once = time.monotonic() - opened < MIN_EDIT_SECONDS
        trouble, changed = "", {}
        try:
            changed = dict(taken())
        except AutoresearchError as error:
            trouble = str(error)
        if not changed and not trouble:
            why = " (the editor ended at once: a graphical editor needs its waiting option)" if at_once else ""
            host.tell(f"{what}: nothing was changed{why}", "warn")
            return None
        again = ("e", "edit again")
        asked = replace(question, answers=(again,) if trouble else (*question.answers, again))
        answer = await host.push_and_wait(DiffCard(host.view, asked, copy.diff(changed), trouble))
        if answer == "y":
            return changed
        if answer != "e":
            _keep_dropped(host, copy, what)
            return None


# -- program.md -------------------------------------------------------------------------------------------------------


def edit_program(host: Host) -> None:
    _start(host, _edit_program(host))


async def _edit_program(host: Host) -> None:
    path = host.project / "program.md"
    before = _read(path)
    when = f"It takes effect {'at the next experiment' if host.view.live else 'when the session is resumed'}."
    question = ConfirmQuestion("change program.md?", when, (("y", "write it"),), "leave it as it was")
    with EditedCopy({"program.md": before}) as copy:

        def taken() -> Mapping[str, str]:
            changed = copy.changed()
            for text in changed.values():
                parse(text, session_overrides(host.view.paths))
            return changed

        changed = await _edit_until_answered(host, copy, taken, question, "program.md")
        if changed is None:
            return
        if _read(path) != before:
            _save_refused(copy.diff(changed))
            raise UsageError(f"program.md was changed by another program meanwhile; your edit is in {refused_patch()}")
        _replace(path, changed["program.md"])
    host.tell(f"{host.look.glyph('ok')} program.md is written. {when}", "good")


# -- shared -----------------------------------------------------------------------------------------------------------


def _start(host: Host, work: Coroutine[Any, Any, None]) -> None:
    if host.editor.busy:
        work.close()
        host.tell("an editor is open already", "warn")
    else:
        host.start(_report_errors(host, work))


async def _report_errors(host: Host, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except AutoresearchError as error:
        hint = f"   hint: {error.hint}" if error.hint else ""
        host.tell(f"{host.look.glyph('no')} {error.what}{hint}", "bad")


def refused_patch() -> Path:
    """The file that holds the newest edit that was refused."""
    return state_home() / "refused.patch"


def _keep_dropped(host: Host, copy: EditedCopy, what: str) -> None:
    """Save an edit that is not used: the person may have meant to edit again."""
    with contextlib.suppress(AutoresearchError, OSError):
        _save_refused(copy.diff(copy.changed()))
        host.tell(f"{what}: not used; your edit is in {refused_patch()}")


def _save_refused(diff: str) -> None:
    refused_patch().parent.mkdir(parents=True, exist_ok=True)
    refused_patch().write_text(diff, encoding="utf-8", errors="replace")


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return handle.read()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"program.md cannot be read ({why})") from error


def _replace(path: Path, text: str) -> None:
    """All of it or nothing, its mode kept; a link stays a link. Raises UsageError."""
    try:
        replace_file(path.resolve(), text.encode(), mode=path.stat().st_mode & 0o777)
    except OSError as error:
        raise UsageError(f"program.md cannot be written ({error.strerror})") from error
