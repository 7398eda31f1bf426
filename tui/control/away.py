"""What a person has seen of a session, noted in its folder, and what happened since: "while you were away"."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from core.session.disk import read_json, write_json
from core.session.paths import SessionPaths

if TYPE_CHECKING:
    from tui.app import Cockpit

MARK_SECONDS = 30.0  # how often it is noted
OFFER_SECONDS = 1.0  # after a session is opened
LEAST_SECONDS = 60.0  # of absence that are worth a card


class Seen:
    """Notes what is seen while the app is open, and tells at opening what was missed."""

    def __init__(self, app: Cockpit) -> None:
        self._app = app
        self._before: dict[str, object] = {}  # as it was noted before this opening

    def begin(self, paths: SessionPaths) -> None:
        """A session is opened."""
        self._before = read_json(paths.seen)
        if not self._app.model.replaying:
            self._app.set_timer(OFFER_SECONDS, self._offer)

    def mark(self) -> None:
        """Note what a person has seen by now."""
        app = self._app
        if app.session is None or app.model.replaying or not app.session.folder.is_dir():
            return
        state = app.model.state
        if state.seq:
            seen = {"seq": state.seq, "time": app.clock(), "best": state.best, "best_metric": state.best_metric}
            with contextlib.suppress(OSError):
                write_json(app.session.seen, seen)

    def _offer(self) -> None:
        from core.views import away

        since = self._before.get("time")
        model = self._app.model
        if not model.state.seq or not isinstance(since, (int, float)) or self._before.get("seq") == model.state.seq:
            return
        told = away(model.state, float(since), self._app.clock())
        if told.worth_saying and told.seconds >= LEAST_SECONDS and not model.replaying:
            from tui.screens.dialogs import AwayCard

            self._app.push_screen(AwayCard(model, told))

    async def act_away(self) -> None:
        from core.views import away
        from tui.screens.dialogs import AwayCard

        since = self._before.get("time")
        model = self._app.model
        start = float(since) if isinstance(since, (int, float)) else model.state.started
        self._app.push_screen(AwayCard(model, away(model.state, start, self._app.clock())))
