"""The command `replay`: plays a recorded session, or the packaged demo, in the app"""

from __future__ import annotations

from argparse import Namespace

from core import invocation
from core.record.errors import AutoresearchError, NoSuchSession, SessionError
from core.session.paths import SessionPaths
from tui.cli.command import PROJECT, argument, command, positive_number
from tui.cli.output import Output, need_terminal
from tui.cli.session_names import session_of

DEMO = "demo"


@command(
    "replay",
    argument("name", metavar="NAME", nargs="?", help="a session (default: the newest), or `demo`"),
    argument("--speed", metavar="N", type=positive_number, help="seconds of the session each second"),
    argument("--at", metavar="PLACE", help="begin at #12, 1h20m or 40%%, and hold there"),
    PROJECT,
    help="Play a session through the same screens as it happened, faster: space holds, n jumps to the next keep,\n"
    "[ and ] seek, > and < change the speed. `demo` is a recorded session that comes with the program.",
    examples=("replay", "replay nov23 --speed 120", "replay nov23 --at '#12'", "replay demo"),
)
def replay(arguments: Namespace, out: Output) -> int:
    """Raises NoSuchSession (exit 3), and AutoresearchError where there is no terminal."""
    origin = _origin(arguments)
    need_terminal("a recording", f"read it without a screen with: {invocation.call('events')}")
    from tui.app import run_app
    from tui.replay.demo import SPEED as DEMO_SPEED
    from tui.replay.recording import Recording
    from tui.user_settings import Settings, config_path, read

    try:
        speed = read(config_path())[0].replay_speed
    except AutoresearchError:  # the app reports the fault of the file
        speed = Settings().replay_speed
    if origin.name == DEMO and origin.project.parent.name.startswith("demo-"):
        speed = DEMO_SPEED
    recording = Recording(origin, arguments.speed or speed)
    if arguments.at:
        recording.seek(recording.position_of(arguments.at))
        recording.playing = False
    return run_app(origin.project, None, out, recording)


def _origin(arguments: Namespace) -> SessionPaths:
    """The session to play; `demo` is the packaged one unless the project has a session of that name."""
    try:
        return session_of(arguments)
    except AutoresearchError as error:
        if arguments.name != DEMO:
            if isinstance(error, NoSuchSession):
                error.hint = f"{error.hint}; or watch the demo with: {invocation.call('replay', 'demo')}"
            raise
    from tui.replay.demo import unpack_demo

    found = unpack_demo()
    if found is None:
        hint = "replay a session of your own, or install this program again"
        raise SessionError("the demo is not part of this installation", hint=hint)
    return found
