"""Coming and going: other sessions, recordings, settings, and what is copied away."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from core.record.errors import AutoresearchError, UsageError
from core.session.paths import SessionPaths
from tui.replay.recording import SPEEDS, Recording
from tui.terminal.escape_codes import Clipboard
from tui.user_settings import change, config_path

if TYPE_CHECKING:
    from tui.app import Cockpit


class Going:
    """Actions of the groups Coming and going and A recording, and of copying."""

    def __init__(self, app: Cockpit) -> None:
        self._app = app

    # -- other places -------------------------------------------------------------------------------------------

    async def act_sessions(self) -> None:
        from tui.screens.session_picker import SessionsCard

        self._app.push_screen(SessionsCard(self._app.model, self._app.project), self._chosen)

    def _chosen(self, chosen: tuple[str, SessionPaths] | None) -> None:
        if chosen is None:
            return
        how, paths = chosen
        if how == "replay":
            self.watch(paths)
        elif how == "new":
            from tui.screens.launch import LaunchScreen

            self._app.push_screen(LaunchScreen(self._app.look))
        elif self._app.model.replaying or paths != self._app.session:
            self._app.attach(paths)

    async def act_replay(self) -> None:
        self.watch(self._app.model.paths)

    def watch(self, origin: SessionPaths, speed: float | None = None) -> None:
        """Play a session from its beginning, at the speed that is set unless another is given."""
        self._app.run_worker(self._watch(origin, speed or self._app.settings.replay_speed))

    async def _watch(self, origin: SessionPaths, speed: float) -> None:
        try:
            recording = await asyncio.to_thread(Recording, origin, speed)
        except AutoresearchError as error:
            self._app.tell(error.what, "bad")
            return
        await self._app.open(recording)

    async def act_settings(self) -> None:
        from tui.screens.settings import SettingsCard

        self._app.push_screen(SettingsCard(self._app.model, self._app))

    def set(self, name: str, value: str | bool) -> None:
        """Write one setting, and take it over."""
        try:
            change(config_path(), name, value)
        except AutoresearchError as error:
            self._app.tell(" ".join(str(error).split()), "bad", 8.0)
            return
        self._app.read_settings()
        self._app.tell(f"{self._app.look.glyph('ok')} {name.rpartition('.')[2]}: {value}", "good")

    async def act_guidance(self) -> None:
        from tui.screens.steering_dialogs import GuidanceCard

        steering = self._app.steering

        def more() -> None:
            self._app.run_worker(steering.act_steer())

        self._app.push_screen(GuidanceCard(self._app.model, steering.ask, more))

    async def act_change(self) -> None:
        from tui.screens.steering_dialogs import ChangeCard

        self._app.push_screen(ChangeCard(self._app.model, self._app.steering.ask))

    # -- copying ------------------------------------------------------------------------------------------------

    async def act_copy_commit(self) -> None:
        shown = self._app.model.subject
        if shown and shown.commit:
            self.copy(shown.commit, f"{shown.commit[:12]}, the commit of #{shown.number}")

    async def act_copy_diff(self) -> None:
        shown = self._app.model.subject
        if shown:
            diff = self._app.model.details(shown.number).diff
            self.copy(diff, f"the diff of #{shown.number}, {len(diff.splitlines())} lines")

    def copy(self, text: str, what: str) -> None:
        """Into the clipboard of the terminal, of tmux, and a file."""
        self._app._clipboard = text
        self._app.run_worker(self._copy(text, what))

    async def _copy(self, text: str, what: str) -> None:
        def write(sequence: str) -> None:
            driver = self._app._driver
            if driver is not None and not self._app.is_headless:
                driver.write(sequence)

        file = await asyncio.to_thread(Clipboard(write, os.environ).copy, text)
        where = f"   (also in {file})" if file else ""
        self._app.tell(f"{self._app.look.glyph('ok')} copied {what}{where}", "good")

    # -- a recording --------------------------------------------------------------------------------------------

    @property
    def _played(self) -> Recording:
        source = self._app.model.source
        assert isinstance(source, Recording)  # or the action would have been refused
        return source

    async def act_play(self) -> None:
        recording = self._played
        if recording.ended:
            await self._jump(0.0)
            recording.playing = True
        else:
            recording.playing = not recording.playing
        recording.version += 1

    async def act_step(self) -> None:
        self._played.step()

    async def act_faster(self) -> None:
        self._speed(next((s for s in SPEEDS if s > self._played.speed), SPEEDS[-1]))

    async def act_slower(self) -> None:
        self._speed(next((s for s in reversed(SPEEDS) if s < self._played.speed), SPEEDS[0]))

    def _speed(self, speed: float) -> None:
        self._played.speed = speed
        self._played.version += 1
        self._app.tell(f"{speed:g} seconds of the session each second", "accent", 2.0)

    async def act_forward(self) -> None:
        await self._jump(self._played.position + self._played.length / 20)

    async def act_backward(self) -> None:
        await self._jump(self._played.position - self._played.length / 20)

    async def act_start_over(self) -> None:
        await self._jump(0.0)

    async def act_next_keep(self) -> None:
        await self._to_keep(self._played.next_keep(), "nothing more is kept in this recording")

    async def act_previous_keep(self) -> None:
        await self._to_keep(self._played.previous_keep(), "nothing was kept before this")

    async def _to_keep(self, place: float | None, none: str) -> None:
        if place is None:
            self._app.tell(none, "warn")
        else:
            await self._jump(place)

    async def act_seek(self) -> None:
        label = "seek to (#12, 1h20m, 40%)"
        self._app.steering.write("seek", label, lambda text, how, _: self._seek(text))

    def _seek(self, text: str) -> None:
        try:
            place = self._played.position_of(text)
        except UsageError as error:
            self._app.tell(str(error).replace("\n", " "), "warn")
            return
        self._app.run_worker(self._jump(place))

    async def _jump(self, place: float) -> None:
        played = self._played
        if place >= played.position:
            played.seek(place)
        else:
            # In a worker: waiting here for a screen to be gone would hold up the messages that let it go.
            self._app.run_worker(self._app.show_again(lambda: played.seek(place)))
