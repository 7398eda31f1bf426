"""Actions that send a command to the engine, and the approval of proposals"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.record import commands as c
from core.record.commands import Reply
from core.record.errors import AutoresearchError
from core.session.paths import SessionPaths
from tui.control.editing import edit_proposal
from tui.host import Host
from tui.screens.dialogs import PAUSE_NOW, STOP_NOW, ApprovalAnswer, ApprovalCard, Confirm, stop_question
from tui.session_view import SessionView
from tui.widgets.prompt import How, Recalled, UnsentText

MAX_STOP_AFTER = 10**9  # experiments
LABEL_STOP_AFTER = "stop after how many more experiments"


def _asks(command: Callable[[SessionView], c.Command]) -> Callable[[Host], None]:
    """An action that sends the engine a command made from the view."""
    return lambda host: host.ask(command(host.view))


def _ask_with_text(host: Host, command: c.Command, purpose: str, text: str) -> None:
    """Send a command that carries a text of the person; one that is refused keeps the text for the next time."""

    def answered(reply: Reply) -> None:
        if not reply.accepted:
            host.drafts.setdefault(purpose, UnsentText(text))

    host.ask(command, answered)


def _subject(view: SessionView) -> int:
    assert view.subject is not None  # or the action would have been refused
    return view.subject.number


# -- the session ------------------------------------------------------------------------------------------------------


pause = _asks(lambda view: c.Resume() if view.state.state == "paused" else c.Pause())
approve_mode = _asks(lambda view: c.ApproveMode(not view.state.approve))


def pause_now(host: Host) -> None:
    host.push(Confirm(host.view, PAUSE_NOW), lambda answer: host.ask(c.Pause(now=True)) if answer == "y" else None)


def skip(host: Host) -> None:
    chosen = host.view.experiment(host.view.page) or host.view.experiment(host.view.selected)
    live = chosen is not None and chosen.number in host.view.state.live
    host.ask(c.Skip(chosen.number if chosen and live else None))


def stop(host: Host) -> None:
    host.push(Confirm(host.view, stop_question(host.view)), lambda answer: _stop(host, answer))


def stop_now(host: Host) -> None:
    host.push(Confirm(host.view, STOP_NOW), lambda answer: _stop(host, "!" if answer == "y" else None))


def _stop(host: Host, answer: str | None) -> None:
    if answer in ("y", "!"):
        host.ask(c.Stop(now=answer == "!"))
    elif answer == "a":
        stop_after(host)


def stop_after(host: Host) -> None:
    def written(text: str, how: How, recalled: Recalled | None) -> None:
        if text.isascii() and text.isdigit() and 0 < int(text) < MAX_STOP_AFTER:
            host.ask(c.Stop(after=int(text)))
        elif text:
            host.tell(f"stop after: {text!r} is not a whole number above 0", "warn")

    host.write("after", LABEL_STOP_AFTER, written)


def resume_engine(host: Host) -> None:
    if host.session is not None:
        host.tell("starting the engine …", "accent")
        host.start(_start_engine(host, host.session))


async def _start_engine(host: Host, paths: SessionPaths) -> None:
    from core.client import start_engine

    try:
        await asyncio.to_thread(start_engine, paths)
    except AutoresearchError as error:
        host.tell(" ".join(str(error).split()), "bad")
    else:
        host.tell(f"{host.look.glyph('ok')} the engine is running", "good")


# -- guidance ---------------------------------------------------------------------------------------------------------


withdraw = _asks(lambda view: c.Withdraw(view.state.in_force()[-1].id))


def steer(host: Host) -> None:
    queued = [g for g in host.view.state.in_force() if g.taken_by is None and not g.idea]
    recall = [Recalled(g.text, g.id) for g in reversed(queued)]
    texts = {r.text for r in recall}
    recall += [Recalled(text) for text in reversed(host.sent_guidance) if text not in texts]

    def written(text: str, how: How, recalled: Recalled | None) -> None:
        if recalled is not None and recalled.guidance is not None:
            command = c.EditGuidance(recalled.guidance, text) if text else c.Withdraw(recalled.guidance)
            _ask_with_text(host, command, "steer", text)
        elif text:
            host.sent_guidance.append(text)
            _ask_with_text(host, c.Steer(text, now=how == "now", standing=how == "standing"), "steer", text)

    host.write("steer", "steer", written, recall=tuple(recall))


def guidance(host: Host) -> None:
    from tui.screens.steering_dialogs import GuidanceCard

    host.push(GuidanceCard(host.view, host.ask, lambda: steer(host)))


def queue(host: Host) -> None:
    from tui.screens.steering_dialogs import QueueCard

    host.push(QueueCard(host.view, host.ask))


def change(host: Host) -> None:
    from tui.screens.steering_dialogs import ChangeCard

    host.push(ChangeCard(host.view, host.ask))


def idea(host: Host) -> None:
    def written(text: str, how: How, recalled: Recalled | None) -> None:
        if text:
            _ask_with_text(host, c.Idea(text), "idea", text)

    host.write("idea", "idea", written)


# -- experiments ------------------------------------------------------------------------------------------------------


repeat = _asks(lambda view: c.Repeat(_subject(view)))
certify = _asks(lambda view: c.Certify(view.certified_next))
reproduce = _asks(lambda view: c.Reproduce(_subject(view)))
pin = _asks(lambda view: c.Pin(_subject(view), pinned=_subject(view) not in view.state.pinned))
fork = _asks(lambda view: c.Fork(None if view.state.base == _subject(view) else _subject(view)))


# -- approvals --------------------------------------------------------------------------------------------------------


def offer_approval(host: Host) -> None:
    """Show the card of a waiting proposal, once, when no other card and no prompt is open."""
    from tui.screens.main_screen import MainScreen

    waiting = [n for n in host.view.state.approvals if n not in host.offered]
    screen = host.screen
    if waiting and host.view.live and isinstance(screen, MainScreen) and not screen.prompt.display:
        _open_approval(host, waiting[0])


def approve(host: Host) -> None:
    _open_approval(host, host.view.state.approvals[0], asked=True)


def _open_approval(host: Host, experiment: int, *, asked: bool = False) -> None:
    host.offered.add(experiment)

    def answered(answer: ApprovalAnswer | None) -> None:
        if answer is None:
            return
        if answer.how == "gone":  # the approval comes back with the engine
            host.offered.discard(experiment)
            offer_approval(host)  # the engine may be back already, with no new event
        elif answer.how == "edit":
            edit_proposal(host, experiment)
        elif answer.how == "reject":
            _ask_with_text(host, c.Reject(experiment, answer.reason), f"reason {experiment}", answer.reason)
        else:
            host.ask(c.Approve(experiment, all=answer.how == "all"))

    host.push(ApprovalCard(host.view, experiment, asked=asked), answered)
