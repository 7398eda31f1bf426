"""Starting an engine: a process of its own that outlives whoever started it."""

from __future__ import annotations

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

from core.record.errors import (
    AutoresearchError,
    EngineError,
    NoSuchSession,
    ProgramError,
    ProjectError,
    SessionBusy,
    SessionError,
    UncommittedChanges,
    UsageError,
)
from core.session.homes import kills_user_processes
from core.session.options import EngineOptions
from core.session.paths import SessionPaths

START_TIMEOUT = 60.0  # seconds: git on a cold network disk can be slow


def start_engine(paths: SessionPaths, options: EngineOptions | None = None, timeout: float = START_TIMEOUT) -> int:
    """Start the session's engine, new or resumed, and return its pid once it answers.

    Raises the engine's own error (ProjectError, ProgramError, SessionBusy, …) in its own words when it cannot start.
    """
    options = options or EngineOptions()
    reader, writer = os.pipe()
    command = [
        *_outlive_logout(),
        *(sys.executable, "-P", "-m", "core.engine", "serve"),
        *("--project", str(paths.project), "--session", paths.name),
        *("--options", json.dumps(asdict(options)), "--ready-fd", str(writer)),
    ]
    errors = _open_log(paths)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            pass_fds=(writer,),
            close_fds=True,
            cwd="/",
        )
    except OSError as error:
        raise EngineError(f"the engine could not be started ({error})", where=command[0]) from error
    finally:
        os.close(writer)
    with errors:
        try:
            answer = _read_answer(reader, process, timeout)
        finally:
            os.close(reader)
        if answer.get("ok"):
            return int(answer["pid"])
        if not answer.get("kind"):
            answer["what"] = f"{answer.get('what')}: {_last_line(errors)}"
    raise _error_from(answer, paths)


def _last_line(errors: IO[bytes]) -> str:
    """The last thing the engine printed before it fell: the end of a traceback says most in its last line."""
    errors.flush()
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 4000))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _open_log(paths: SessionPaths) -> IO[bytes]:
    """The engine's log when the session's folder is there already, else a file that vanishes with the process."""
    if paths.folder.is_dir():
        try:
            return paths.engine_log.open("ab+")
        except OSError:
            pass
    return tempfile.TemporaryFile()


def _read_answer(reader: int, process: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            process.kill()
            raise EngineError(f"the engine did not answer within {timeout:g} s", hint="look into its engine.log")
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
    known: list[type[AutoresearchError]] = [
        NoSuchSession,
        UsageError,
        ProjectError,
        ProgramError,
        SessionError,
        UncommittedChanges,
    ]
    kinds = {kind.__name__: kind for kind in known}
    what = str(answer.get("what") or "the engine could not start")
    where, hint = str(answer.get("where") or ""), str(answer.get("hint") or "")
    if answer.get("kind") == "SessionBusy":
        return SessionBusy(what, pid=int(str(answer.get("pid") or 0)), where=where, hint=hint)
    if not answer.get("kind"):
        hint = hint or f"look into {paths.engine_log}"
    return kinds.get(str(answer.get("kind")), EngineError)(what, where=where, hint=hint)


def _outlive_logout() -> list[str]:
    """A prefix that keeps the engine alive at logout where logind would kill it (KillUserProcesses=yes)."""
    if not kills_user_processes() or not shutil.which("systemd-run") or not os.environ.get("XDG_RUNTIME_DIR"):
        return []
    probe = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "true"]
    if subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False).returncode != 0:
        return []
    return ["systemd-run", "--user", "--scope", "--quiet", "--collect"]
