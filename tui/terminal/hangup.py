"""A terminal that vanishes takes the app with it, whatever the app's own threads are waiting for.

Textual writes through a thread of its own; when that dies of a terminal that is gone, leaving waits for it for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

GRACE_SECONDS = 2.0  # for an orderly end, before the process is ended as it is


def watch_terminal(leave: Callable[[], object], descriptor: int = 0) -> None:
    """Call `leave` (from a thread) when the terminal behind `descriptor` hangs up; end the process soon after."""
    if os.isatty(descriptor):
        threading.Thread(target=_watch, args=(leave, descriptor), name="hang-up", daemon=True).start()


def _watch(leave: Callable[[], object], descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # hang-ups and errors are always told; this costs nothing while there are none
    while not any(what & (select.POLLHUP | select.POLLERR) for _, what in poll.poll()):
        time.sleep(0.1)
    with contextlib.suppress(RuntimeError):  # the loop is closed: the end has begun
        leave()
    time.sleep(GRACE_SECONDS)
    os._exit(0)  # the engine goes on, and there is no terminal left to be put right
