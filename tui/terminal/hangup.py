"""End of the app when its terminal hangs up.

Textual writes in a thread; when that thread has failed on a closed terminal, Textual's own exit waits for it for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

GRACE_SECONDS = 2.0  # for a normal exit, before the process ends at once


def watch_terminal(leave: Callable[[], object], descriptor: int = 0) -> None:
    """Call `leave` (in a thread) when the terminal of `descriptor` hangs up; end the process GRACE_SECONDS later."""
    if os.isatty(descriptor):
        threading.Thread(target=_watch, args=(leave, descriptor), name="hang-up", daemon=True).start()


def _watch(leave: Callable[[], object], descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # hang-ups and errors are always reported; no cost while there are none
    while not any(what & (select.POLLHUP | select.POLLERR) for _, what in poll.poll()):
        time.sleep(0.1)
    with contextlib.suppress(RuntimeError):  # the loop is closed: the app is exiting
        leave()
    time.sleep(GRACE_SECONDS)
    os._exit(0)  # the engine goes on; there is no terminal to restore
