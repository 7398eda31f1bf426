"""Process of a trial, a device check or a preparation: JSON lines to its client, last the report; it ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from core.engine.trial.trial import Say

Work = Callable[[Say], Coroutine[Any, Any, dict[str, Any]]]  # tells its progress, and returns its report


def serve_report(work: Work) -> int:
    """Work, and write one JSON object a line on standard output, the last with the key `report`.

    Standard input is held open by the client: at its end, SIGINT or SIGTERM the work is cancelled.
    Returns 0, or 130 when it was ended so.
    """
    return asyncio.run(_serve(work))


async def _serve(work: Work) -> int:
    running = asyncio.get_running_loop()
    task = asyncio.create_task(work(_write))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        running.add_signal_handler(number, task.cancel)

    def left() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            running.call_soon_threadsafe(task.cancel)

    threading.Thread(target=_wait_for_client, args=(left,), daemon=True).start()
    try:
        report = await task
    except asyncio.CancelledError:
        return 130
    _write({"report": report})
    return 0


def _wait_for_client(left: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    left()


def _write(value: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the client has left
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()
