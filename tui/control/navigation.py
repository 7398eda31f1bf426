"""Actions that open something else: sessions, recordings, lists, help, notes, settings, the palette; and detach"""

from __future__ import annotations

import asyncio

from core import invocation
from core.record.errors import AutoresearchError
from core.session.paths import SessionPaths
from core.views import clean
from tui.host import Host
from tui.replay.recording import Recording


def detach(host: Host) -> None:
    host.leave(_farewell(host))


def _farewell(host: Host) -> str:
    if host.session is None:
        return ""
    if host.view.replaying:
        return f"The recording is over. To start a session of your own:  {invocation.call()}"
    attach = invocation.call("attach", host.session.name, project=host.session.project)
    if host.view.connection.status == "dead":
        return f"To look again:  {attach}"
    return f"Detached: the engine of session {clean(host.session.name)!r} continues.\nCome back with:  {attach}"


def sessions(host: Host) -> None:
    from tui.screens.session_picker import SessionsCard

    host.push(SessionsCard(host.view, host.project), lambda chosen: _open_chosen(host, chosen))


def _open_chosen(host: Host, chosen: tuple[str, SessionPaths] | None) -> None:
    if chosen is None:
        return
    how, paths = chosen
    if how == "replay":
        host.play(paths)
    elif how == "new":
        from tui.screens.launch import LaunchScreen

        host.push(LaunchScreen(host.look))
    elif host.view.replaying or paths != host.session:
        host.attach(paths)


def replay(host: Host) -> None:
    host.play(host.view.paths)


async def open_recording(host: Host, origin: SessionPaths, speed: float) -> None:
    """Play a session from its beginning; `speed` in seconds of the session each second."""
    try:
        recording = await asyncio.to_thread(Recording, origin, speed)
    except AutoresearchError as error:
        host.tell(error.what, "bad")
    else:
        await host.open(recording)


def settings(host: Host) -> None:
    from tui.screens.settings import SettingsCard

    host.push(SettingsCard(host.view, host))


def help_card(host: Host) -> None:
    from tui.screens.help import HelpScreen

    host.push(HelpScreen(host.view, host.registry, getattr(host.screen, "PLACE", "main")))


def notes(host: Host) -> None:
    from tui.screens.help import NotesScreen

    host.push(NotesScreen(host.view, list(host.answers)))


def palette(host: Host) -> None:
    from tui.control.command_palette import ActionPalette, ActionProvider

    words = "an action, a setting, or an experiment by number or words"
    host.push(ActionPalette(providers=[ActionProvider], placeholder=words))
