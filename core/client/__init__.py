"""How a screen or a command reaches a session: start its engine, ask it something, follow its events.

Looking needs no engine: State is read from the log on disk, and the socket only carries what is new.
"""

from core.client.files import FileTail
from core.client.live import Client, Connection
from core.client.start import start_engine
from core.client.sync import follow, read_events, read_state, request
from core.session import EngineOptions

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
