"""Worker processes for tasks that may hang, exhaust memory or be attacked by their input.

A worker is one of our own files, started isolated and without the secrets of our environment; it answers with one JSON
object on standard output. It is killed at its time limit, and when the caller is cancelled.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

_PASSED = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
           "SSL_CERT_DIR", "LD_LIBRARY_PATH")  # fmt: skip


class WorkerFailed(Exception):
    """The worker ended without an answer."""


async def ask(script: str, *arguments: str, stdin: bytes = b"", seconds: float) -> dict[str, Any]:
    """The answer of `script` to `arguments` and `stdin`. Raises TimeoutError or WorkerFailed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", script, *arguments, env={k: v for k, v in os.environ.items() if k in _PASSED},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(stdin), seconds)
        answer = json.loads(out)
    except ValueError:
        raise WorkerFailed(f"ended with exit code {process.returncode}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not isinstance(answer, dict):
        raise WorkerFailed("gave an invalid answer")
    return answer
