"""Access to a session from outside: start its engine, send it a request, follow its events

Reading needs no engine: State is read from the log on disk, and the socket carries only what is newer.
`core.client.live` (with asyncio) is imported by its users only, so that `status` does not load it.
"""

from core.client.start import start_engine
from core.client.sync import follow, read_events, read_head, read_outline, read_state, request, used_budgets
from core.client.tail import FileTail

__all__ = [
    "FileTail",
    "follow",
    "read_events",
    "read_head",
    "read_outline",
    "read_state",
    "request",
    "start_engine",
    "used_budgets",
]
