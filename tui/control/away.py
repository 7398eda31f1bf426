"""What a person has seen and not sent, noted in the session's folder, and the summary of what happened since"""

from __future__ import annotations

import contextlib

from core.session.disk import write_json
from core.views import Away, away
from tui.host import Host
from tui.screens.base import ActionScreen
from tui.screens.dialogs import AwayCard
from tui.widgets.prompt import UnsentText

MARK_SECONDS = 30.0  # how often it is noted
OFFER_SECONDS = 1.0  # after a session is opened
MIN_AWAY_SECONDS = 60.0  # of absence that are worth a card


def mark_seen(host: Host) -> None:
    """Note what a person has seen by now, and the texts that are not sent: the link may be lost at any moment."""
    if host.session is None or host.view.replaying or not host.session.folder.is_dir():
        return
    state = host.view.state
    if state.seq:
        seen = {
            "seq": state.seq, "time": host.clock(), "best": state.best, "best_metric": state.best_metric,
            "drafts": _unsent(host),
        }  # fmt: skip
        with contextlib.suppress(OSError):
            write_json(host.session.seen, seen)


def _unsent(host: Host) -> dict[str, str]:
    texts = {name: kept.text for name, kept in host.drafts.items() if kept.text.strip()}
    screen = host.screen
    if isinstance(screen, ActionScreen) and screen.prompt.display and (text := screen.prompt.unsent):
        texts[screen.prompt.purpose] = text
    return texts


def restore_unsent(host: Host) -> None:
    """Bring back the texts that were not sent when the app last left this session."""
    kept = host.last_seen.get("drafts")
    for name, text in kept.items() if isinstance(kept, dict) else ():
        if isinstance(text, str):
            host.drafts.setdefault(str(name), UnsentText(text))


def show_away(host: Host) -> None:
    host.push(AwayCard(host.view, _since_last_seen(host)))


def offer_away(host: Host) -> None:
    """Show the summary after a session is opened, when there is something to say."""
    state = host.view.state
    if host.view.replaying or not state.seq or host.last_seen.get("seq") in (None, state.seq):
        return
    summary = _since_last_seen(host)
    if summary.worth_saying and summary.seconds >= MIN_AWAY_SECONDS:
        host.push(AwayCard(host.view, summary))


def _since_last_seen(host: Host) -> Away:
    since = host.last_seen.get("time")
    start = float(since) if isinstance(since, (int, float)) else host.view.state.started
    return away(host.view.state, start, host.clock())
