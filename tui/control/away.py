"""What a person has seen of a session, noted in its folder, and the summary of what happened since"""

from __future__ import annotations

import contextlib

from core.session.disk import write_json
from core.views import Away, away
from tui.host import Host
from tui.screens.dialogs import AwayCard

MARK_SECONDS = 30.0  # how often it is noted
OFFER_SECONDS = 1.0  # after a session is opened
MIN_AWAY_SECONDS = 60.0  # of absence that are worth a card


def mark_seen(host: Host) -> None:
    """Note what a person has seen by now."""
    if host.session is None or host.view.replaying or not host.session.folder.is_dir():
        return
    state = host.view.state
    if state.seq:
        seen = {"seq": state.seq, "time": host.clock(), "best": state.best, "best_metric": state.best_metric}
        with contextlib.suppress(OSError):
            write_json(host.session.seen, seen)


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
