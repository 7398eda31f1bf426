"""How a screen or a command reaches a session: start its engine, ask it something, follow its events.

Looking needs no engine: State is read from the log on disk, and the socket only carries what is new.
"""

from typing import TYPE_CHECKING

from core.client.start import start_engine
from core.client.sync import follow, read_events, read_state, request
from core.client.tail import FileTail
from core.session.options import EngineOptions

if TYPE_CHECKING:
    from core.client.live import Client, Connection

__all__ = [
    "Client",
    "Connection",
    "EngineOptions",
    "FileTail",
    "follow",
    "read_events",
    "read_state",
    "request",
    "start_engine",
]


def __getattr__(name: str) -> object:
    """`Client` and `Connection` bring asyncio with them: loaded when asked for; `status` does not pay for it."""
    if name in ("Client", "Connection"):
        from core.client import live

        return getattr(live, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
