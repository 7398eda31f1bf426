"""Model processes that are forked from the harness's template, a process with torch loaded, in place of started ones.

AUTORESEARCH_TEMPLATE (docs/run-protocol.md) names a socket for orders. Each order goes to a fork of the template that
has never seen another; it enters the sandbox, forks the model, and ends with all that the model has started. No order
is looked at while anything of the one before lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO

_START_SECONDS = 30.0  # a fork takes milliseconds
_END_SECONDS = 5.0
_MAX_ANSWER_BYTES = 4096


class TemplateLost(Exception):
    """No process can be forked, or the template has ended with the model. Processes are started in its place."""


class ForkedProcess:
    """One model's process, by its attendant: `pid` is that of the attendant, which lives as long as the model."""

    def __init__(self, life: socket.socket, stdout: int, stderr: int, answer: dict[str, object]) -> None:
        self._life = life
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb", 0)
        self.stderr: IO[bytes] = os.fdopen(stderr, "rb")
        keepers = answer["keepers"]
        assert isinstance(keepers, list)
        self.keepers = set(map(int, keepers))  # trusted processes: the attendant, and those of the sandbox itself
        self.pid = int(keepers[0])
        self.imports = float(str(answer["started"]))  # processor seconds that Python and its libraries had taken
        self._attendant = os.pidfd_open(self.pid)
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code of the model, minus the signal's number; -9 when its attendant was killed; None: it lives."""
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired."""
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("model", timeout or 0.0)
        return code

    def _read(self, timeout: float | None) -> int | None:
        if self._code is None and select.select([self._life], [], [], timeout)[0]:
            data = b""
            with contextlib.suppress(OSError):
                data = self._life.recv(_MAX_ANSWER_BYTES)
            self._code = int(json.loads(data)["ended"]) if data else -signal.SIGKILL
        return self._code

    def close(self) -> None:
        """End the model and its attendant. Idempotent."""
        if self._attendant < 0:
            return
        self._read(0.0)
        self._life.shutdown(socket.SHUT_RDWR)
        self._life.close()
        self._code = -signal.SIGKILL if self._code is None else self._code
        if not select.select([self._attendant], [], [], _END_SECONDS)[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._attendant, signal.SIGKILL)
            select.select([self._attendant], [], [], _END_SECONDS)
        os.close(self._attendant)
        self._attendant = -1


class Template:
    """The harness's template, as it is lent to one scoring."""

    def __init__(self, descriptor: int, sandbox: object) -> None:
        os.set_inheritable(descriptor, False)
        self._orders, self._sandbox = socket.socket(fileno=descriptor), sandbox
        self.lost, self.seconds = False, _START_SECONDS

    @classmethod
    def lent(cls) -> Template | None:
        """That of this process's environment; None without one, or where it cannot be read."""
        text = os.environ.pop("AUTORESEARCH_TEMPLATE", "")
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            told = json.loads(text)
            return cls(int(told["socket"]), told["sandbox"])
        return None

    def start(self, code: str, env: dict[str, str], group: Path | None, requests: int) -> ForkedProcess:
        """A process in the sandbox that runs `code`, with `requests` as stdin. Raises TemplateLost."""
        life, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (out, their_out), (errors, their_errors) = os.pipe(), os.pipe()
        order = {"code": code, "env": env, "group": str(group or ""), "scorer": os.getpid(), "sandbox": self._sandbox}
        answer: dict[str, object] = {}
        try:
            socket.send_fds(self._orders, [json.dumps(order).encode()],
                            [theirs.fileno(), requests, their_out, their_errors])  # fmt: skip
            theirs.close()
            life.settimeout(self.seconds)
            answer = json.loads(life.recv(_MAX_ANSWER_BYTES) or b'{"refused": "it has ended"}')
            life.settimeout(None)
        except TimeoutError:
            answer = {"refused": f"no answer in {self.seconds:g} s"}
        except (OSError, ValueError) as error:
            answer = {"refused": str(error)}
        finally:
            theirs.close()
            os.close(their_out)
            os.close(their_errors)
        if "refused" in answer:
            self.lost = True
            life.close()
            os.close(out)
            os.close(errors)
            raise TemplateLost(str(answer["refused"]))
        return ForkedProcess(life, out, errors, answer)

    def close(self) -> None:
        """No order follows."""
        self._orders.close()

    def has_ended(self) -> bool:
        """Whether the template itself is gone."""
        poll = select.poll()
        poll.register(self._orders, 0)
        self.lost = self.lost or bool(poll.poll(0))
        return self.lost
