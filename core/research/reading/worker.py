"""Work that may hang, grow without bound or be tricked, done by a child process with limits of its own.

The child is one of our own files, started isolated, without our environment's secrets; it answers with one JSON object
on its standard output. It dies with the call: when the time is over and when the caller is cancelled.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

_PASSED = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
           "SSL_CERT_DIR", "LD_LIBRARY_PATH")  # fmt: skip


class ChildFailed(Exception):
    """The child ended without an answer."""


async def ask(script: str, *words: str, stdin: bytes = b"", seconds: float) -> dict[str, Any]:
    """What `script` (a file of ours) answers to `words` and `stdin`. Raises TimeoutError or ChildFailed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(Path(script)), *words, env={k: v for k, v in os.environ.items() if k in _PASSED},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(child.communicate(stdin), seconds)
        answer = json.loads(out)
    except ValueError:
        raise ChildFailed(f"ended with exit code {child.returncode}") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if not isinstance(answer, dict):
        raise ChildFailed("answered something else")
    return answer
