"""Start of an engine: a process that outlives the one that starts it"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import IO, Any

from core.record import errors
from core.record.errors import AutoresearchError, EngineError, SessionBusy
from core.session.logind import kills_user_processes
from core.session.options import EngineOptions
from core.session.paths import SessionPaths

START_TIMEOUT = 60.0  # seconds: git on a cold network disk can be slow


def start_engine(paths: SessionPaths, options: EngineOptions | None = None, timeout: float = START_TIMEOUT) -> int:
    """Start the session's engine, new or resumed, and return its pid once it answers.

    Raises the error that the engine reports (ProjectError, ProgramError, SessionBusy, …) when it cannot start.
    """
    options = options or EngineOptions()
    reader, writer = os.pipe()
    command = [
        *_outlive_logout(),
        *(sys.executable, "-P", "-m", "core.engine", "serve"),
        *("--project", str(paths.project), "--session", paths.name),
        *("--options", json.dumps(asdict(options)), "--ready-fd", str(writer)),
    ]
    log = _open_log(paths)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=(writer,),
            cwd="/",
        )  # fmt: skip
    except OSError as error:
        raise EngineError(f"could not start the engine ({error})", where=command[0]) from error
    finally:
        os.close(writer)
    with log:
        try:
            answer = _read_answer(reader, process, timeout)
        finally:
            os.close(reader)
        if answer.get("ok"):
            return int(answer["pid"])
        if not answer.get("kind"):
            answer["what"] = f"{answer.get('what')}: {_last_line(log)}"
    raise _error_from(answer, paths)


def _last_line(log: IO[bytes]) -> str:
    """The last line that the engine printed, which of a traceback is the error."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - 4000))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _open_log(paths: SessionPaths) -> IO[bytes]:
    """The engine's log if the session's folder exists already, else a temporary file."""
    if paths.folder.is_dir():
        with contextlib.suppress(OSError):
            return paths.engine_log.open("ab+")
    return tempfile.TemporaryFile()


def _read_answer(reader: int, process: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            process.kill()
            raise EngineError(f"the engine did not answer within {timeout:g} s", hint="read its engine.log")
        if select.select([reader], [], [], min(left, 1.0))[0]:
            piece = os.read(reader, 65536)
            if not piece:
                break
            data += piece
    try:
        answer = json.loads(data)
    except ValueError:
        return {"what": f"the engine ended while starting (exit code {process.wait()})"}
    return answer if isinstance(answer, dict) else {}


def _error_from(answer: dict[str, Any], paths: SessionPaths) -> AutoresearchError:
    what = str(answer.get("what") or "the engine could not start")
    where, hint = str(answer.get("where") or ""), str(answer.get("hint") or "")
    kind = getattr(errors, str(answer.get("kind")), None)
    if kind is SessionBusy:
        return SessionBusy(what, pid=int(str(answer.get("pid") or 0)), where=where, hint=hint)
    if not isinstance(kind, type) or not issubclass(kind, AutoresearchError):
        return EngineError(what, where=where, hint=hint or f"look into {paths.engine_log}")
    return kind(what, where=where, hint=hint)


def _outlive_logout() -> list[str]:
    """A prefix that keeps the engine alive at logout where logind would kill it (KillUserProcesses=yes)."""
    if not kills_user_processes() or not shutil.which("systemd-run") or not os.environ.get("XDG_RUNTIME_DIR"):
        return []
    prefix = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes"]
    probe = subprocess.run(
        [*prefix, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )  # fmt: skip
    return prefix if probe.returncode == 0 else []
