"""Start of CUDA in a process of its own (`core/lab/gpu/cuda_start.py`): its command, its supervision, its answer."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.lab.gpu import cards, cuda_start
from core.lab.shim.proctree import descendants
from core.lab.shim.supervisor import SeccompSupervisor

START_SECONDS = 30.0  # a box of eight cards without persistence mode needs about ten
_PASSED = ("PATH", "LD_LIBRARY_PATH", "CUDA_", "NVIDIA_")  # beginnings of the variables that a start depends on


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaStart:
    """What the driver answered. `code` of its last `call`: 0 when CUDA starts; None when the library could not be
    loaded or gave no answer. `refused`: the calls of a start that the process was refused.
    """

    code: int | None
    call: str = ""
    name: str = ""
    words: str = ""
    errno: str = ""
    refused: tuple[str, ...] = ()
    library: str = ""
    driver: int = 0  # newest CUDA that it supports: 12040 for 12.4
    devices: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.code == 0

    def sentence(self) -> str:
        """In words: `CUDA starts`, or which call failed, how, and what was refused."""
        if self.ok:
            return "CUDA starts"
        said = f"{self.call}: error {self.code} {self.name} ({self.words})" if self.code is not None else self.words
        return f"CUDA does not start: {said}{'; refused: ' if self.refused else ''}{', '.join(self.refused)}"


def start_argv() -> list[str]:
    """The command of one start, without a sandbox."""
    return [sys.executable, "-I", "-S", "-c", Path(cuda_start.__file__).read_text(encoding="utf-8")]


def start_environment(slot: str) -> dict[str, str]:
    """The variables of a run in `slot` that its start of CUDA depends on."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    return {"PATH": os.defpath, **passed, **cards.variables(slot)}


def supervised_start(
    argv: Sequence[str], env: Mapping[str, str], folder: Path, *, cwd: Path, name: str, seconds: float = START_SECONDS
) -> CudaStart:
    """Run the command of a start, and answer the calls that its filter passes on, as a shim does.

    `folder`: its temporary folder, `name` within the sandbox. It is ended after `seconds`.
    """
    begun = time.monotonic()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        given = {**env, "AUTORESEARCH_CONTROL_FD": str(theirs.fileno())}
        try:
            process = subprocess.Popen(argv, env=given, cwd=cwd, pass_fds=(theirs.fileno(),), start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT)  # fmt: skip
        except OSError as error:
            return CudaStart(code=None, words=str(error))
        theirs.close()
        text = _served(process, ours, folder, name, begun + seconds)
    with suppress(subprocess.TimeoutExpired):  # it may also hang in the driver at its end
        if text is not None:
            return _answer(text, process.wait(max(0.1, begun + seconds - time.monotonic())))
    _end(process)
    return CudaStart(code=None, words=f"the driver gave no answer within {seconds:g} s", seconds=seconds)


def _served(process: subprocess.Popen[bytes], link: socket.socket, folder: Path, name: str, until: float) -> str | None:
    """The output of the process, its filter's calls answered meanwhile; None when it does not end in time."""
    assert process.stdout is not None
    output, text, supervisor = process.stdout.fileno(), b"", None
    watched = [output, link.fileno()]
    try:
        while (left := until - time.monotonic()) > 0:
            for fd in select.select(watched, [], [], left)[0]:
                if fd == output:
                    data = os.read(output, 65536)
                    text += data
                    if not data:
                        return text.decode(errors="replace")
                elif supervisor is not None and fd == supervisor.fd:
                    if not supervisor.serve(lambda: [process.pid, *descendants(process.pid)]):
                        watched.remove(fd)
                else:
                    watched.remove(fd)
                    listeners = socket.recv_fds(link, 100, 1)[1]
                    if listeners:
                        supervisor = SeccompSupervisor(listeners[0], name, str(folder))
                        watched.append(supervisor.fd)
        return None
    finally:
        process.stdout.close()
        if supervisor is not None:
            supervisor.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group of a process; one that hangs in the driver cannot be waited for."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)


def _answer(text: str, status: int) -> CudaStart:
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        found: dict[str, Any] = json.loads(lines[-1])
        return CudaStart(**{**found, "refused": tuple(found.get("refused", ()))})
    except (IndexError, ValueError, TypeError):
        ended = f"ended with {status}" if status >= 0 else f"was ended by signal {-status}"
        return CudaStart(code=None, words="; ".join([f"the start of CUDA {ended}", *lines[-1:]]))
