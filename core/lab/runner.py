"""Runs: each a job with a shim of its own, started, watched, killed, and taken over after the engine's death.

A run's folder holds `spec.json`, `status.json`, `exit.json`, `output.log`, `curve.tsv`, `lock`, `kill`, `shim.log`:
the harness's own, out of the job's reach. The job may write `out/` (AUTORESEARCH_RUN_DIR), `home/` and `tmp/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from core import clock
from core.lab import compile_cache, stale_tmp
from core.lab.sandbox.tiers import SandboxSpec, command, tier_of
from core.lab.shim.daemonize import bare_python
from core.lab.shim.proctree import Identity, boot_id, hunt, same_process
from core.lab.shim.rmtree import remove_tree
from core.record.errors import LabError
from core.record.events import Ended

_POLL = 0.04  # seconds between looks at a run's status
_CLOSER_LOOK = 8  # of these looks, one is at the exit file and the lock
_LONGEST_NAME = 64  # bytes of TMPDIR; a local socket's path has 107
_KILL_PATIENCE = 15.0  # seconds a shim has to end its job before it is ended itself


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One run to make. Limits in bytes and counts, 0 or None for none; `seconds` or `steps` is its budget.

    `plain` says that the project has no scorer: its clock starts with the process.
    """

    run: int
    folder: Path
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    sandbox: SandboxSpec | None = None
    seconds: float | None = None
    steps: int | None = None
    limit_seconds: float = 1800.0  # of a step budget; a budget of seconds has its overtime in the shim
    startup_seconds: float = 120.0
    saving_seconds: float = 60.0
    train_files: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    hold: bool = False  # once started up, wait in the phase `ready` until `Job.hand_over`
    memory_limit: int | None = None
    process_limit: int | None = 512
    cores: float | None = None  # processors that the run may keep busy on the clock, on average
    disk_limit: int | None = 20 << 30
    cache: Path | None = None  # what its compile cache begins with; see core/lab/compile_cache.py
    keep_cache: bool = False  # the cache stays in the run's folder after its end

    @property
    def out(self) -> Path:
        """Where the run leaves its weights."""
        return self.folder / "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How a run ended. `seconds` is its clock, `wall_seconds` from process start, both as the harness measured them;
    `steps` and `tokens` are what it said, and `weights_sha256` what it had in hand when its clock stopped. Times of
    day are Unix seconds; memory and disk in bytes."""

    ended: Ended
    reason: str = ""
    exit_code: int | None = None
    seconds: float = 0.0
    wall_seconds: float = 0.0
    saving_seconds: float | None = None
    steps: int | None = None
    tokens: int | None = None
    params: int | None = None
    weights_sha256: str | None = None
    cpu_seconds: float | None = None  # processor time of all its processes on the clock
    log_tail: str = ""
    peak_memory: int | None = None
    peak_processes: int | None = None
    disk: int | None = None
    clock_started: float | None = None
    ended_at: float = 0.0


class Job:
    """A run under way, or one that has ended. Made by `start` and `adopt`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._status: dict[str, Any] = {}
        self._stamp: tuple[int, int] | None = None
        self._result: JobResult | None = None

    @property
    def status(self) -> Mapping[str, Any]:
        """The shim's newest status: phase, clock, step, loss, memory, params … Empty before the first."""
        try:
            info = (self.folder / "status.json").stat()
            stamp = (info.st_ino, info.st_mtime_ns)
            if stamp != self._stamp:
                self._status = json.loads((self.folder / "status.json").read_bytes())
                self._stamp = stamp
        except (OSError, ValueError):
            return self._status
        return self._status

    @property
    def phase(self) -> str:
        """`starting`, `ready` (held), `training`, `saving` or `ended`."""
        return "ended" if self._result else str(self.status.get("phase", "starting"))

    @property
    def seconds(self) -> float:
        """Seconds on the clock; while the run starts up, seconds since the process began."""
        if self._result:
            return self._result.seconds
        status = self.status
        begun = status.get("clock") or status.get("started")
        if begun is None:
            return 0.0
        return max(0.0, float(status.get("clock_end") or time.monotonic()) - float(begun))

    @property
    def fraction(self) -> float | None:
        """How much of the budget is used, 0..1; None while there is no clock. By its own word for a step budget."""
        status = self.status
        if self._result or status.get("clock_end"):
            return 1.0
        if status.get("clock") is None:
            return None
        if status.get("budget_seconds"):
            return min(1.0, self.seconds / float(status["budget_seconds"]))
        return min(1.0, (status.get("step") or 0) / (status.get("budget_steps") or 1))

    async def wait(self, on_phase: Callable[[str], None] | None = None) -> JobResult:
        """How the run ended, when it has. `on_phase` hears every phase but `ended`, the first one too.

        A shim that was killed leaves no last word: what remains of the job is ended and the result is `abandoned`.
        """
        told, looks = "", 0
        while True:
            phase = self.phase
            looks += 1
            if phase not in (told, "ended"):
                told = phase
                if on_phase:
                    on_phase(phase)
            # The shim says `ended` in its status; for one that cannot say so any more, look closer now and then.
            if self._result is None and (phase == "ended" or looks % _CLOSER_LOOK == 1):
                self._result = _read_exit(self.folder)
                if self._result is None and not _locked(self.folder):
                    # The lock may have been let go just after the exit file came: look again before calling it dead.
                    gone = _read_exit(self.folder) or await asyncio.to_thread(_abandon, self.folder, self.status)
                    self._result = gone
            if self._result is not None:
                return self._result
            await asyncio.sleep(_POLL)

    def hand_over(self) -> None:
        """Let a held run have its data: its clock starts within about 30 ms. Idempotent."""
        (self.folder / "go").touch()

    async def kill(self, reason: str) -> JobResult:
        """End the run, whole tree; returns when it is gone. The reason is what the result will say."""
        part = self.folder / "kill.part"
        with contextlib.suppress(OSError):  # on a full disk the signal alone does it
            part.write_text(reason or "was stopped")
            part.replace(self.folder / "kill")
        shim = _identity(self.status.get("shim"))
        if shim and same_process(shim):
            with contextlib.suppress(OSError):
                os.kill(shim[1], signal.SIGTERM)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(self.wait())), _KILL_PATIENCE)
        except TimeoutError:
            if shim and same_process(shim):
                with contextlib.suppress(OSError):
                    os.kill(shim[1], signal.SIGKILL)
            return replace(await self.wait(), ended="killed", reason=reason)


async def start(spec: JobSpec) -> Job:
    """Start a run; returns when its shim stands on its own feet. Raises LabError when it cannot."""
    folder = spec.folder.absolute()
    path = folder / "spec.json"
    try:
        for name in ("out", "home", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(compile_cache.begin, folder / compile_cache.NAME, spec.cache)
        path.touch(0o600)
        path.write_text(json.dumps(_shim_spec(replace(spec, folder=folder))))
    except OSError as error:
        raise LabError(f"the run's folder cannot be written: {error.strerror}", where=str(folder),
                       hint="free some space on that disk, or mend its permissions") from None  # fmt: skip
    # The shim never holds more of our environment than the job may see: it can be read in /proc.
    process = await asyncio.create_subprocess_exec(
        *bare_python("core.lab.shim.shim"), str(path),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, cwd="/",
    )  # fmt: skip
    _, errors = await process.communicate()
    if process.returncode:
        raise LabError(f"the run could not be started: {errors.decode(errors='replace').strip()[-500:]}",
                       where=str(folder), hint="see shim.log in that folder")  # fmt: skip
    return Job(folder)


def adopt(folder: Path) -> Job | None:
    """The run in `folder`, live or ended; None when it has neither a shim nor a last word.

    In the latter case what is left of its processes is ended first.
    """
    folder = folder.absolute()
    job = Job(folder)
    if _locked(folder) or _read_exit(folder) is not None:
        return job
    if (folder / "spec.json").exists():
        _hunt(folder, job.status)
    return None


def _shim_spec(spec: JobSpec) -> dict[str, Any]:
    folder = spec.folder
    sandbox, temporary = spec.sandbox, str(folder / "tmp")
    tier = tier_of(sandbox) if sandbox is not None else "C"
    if sandbox is not None:
        own = (spec.out, folder / "home", folder / "tmp", folder / compile_cache.NAME)
        sandbox = replace(sandbox, writable=(*sandbox.writable, *own), tmp=folder / "tmp", asked=True)
        # The same folder by a short name: a local socket's path has 107 bytes.
        temporary = "/tmp" if tier == "A" else _short_name(folder / "tmp")
    env = {
        **spec.env, **compile_cache.variables(folder / compile_cache.NAME),
        "HOME": str(folder / "home"), "TMPDIR": temporary,
        "AUTORESEARCH_RUN_DIR": str(spec.out),
    }  # fmt: skip
    cache_folder = str(folder / compile_cache.NAME)
    plain = {
        key: value for key, value in asdict(replace(spec, sandbox=None)).items() if key not in ("sandbox", "cache")
    }
    return {
        **plain,
        "folder": str(folder), "cwd": str(spec.cwd), "env": env, "train_files": dict(spec.train_files),
        "argv": list(spec.argv) if sandbox is None else command(sandbox, spec.argv),
        "private": [str(folder / "home"), str(folder / "tmp"), *([] if spec.keep_cache else [cache_folder])],
        "watched": [str(spec.out), *([cache_folder] if spec.keep_cache else [])],
        "epoch": clock.now() - time.monotonic(), "link": temporary,
        "cwd_top": str(sandbox.worktree if sandbox else spec.cwd),
        "tier": tier,
    }  # fmt: skip


def _short_name(folder: Path) -> str:
    """A link to the folder that leaves room for a socket's name after it; the shim removes it with the folder."""
    if len(os.fsencode(folder)) <= _LONGEST_NAME:
        return str(folder)
    link = Path(tempfile.gettempdir(), f"{stale_tmp.LINK}{secrets.token_hex(6)}")
    link.symlink_to(folder)
    return str(link)


def _locked(folder: Path) -> bool:
    """True while a shim lives: it keeps the lock to its end, and the kernel lets it go whatever the end."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _read_exit(folder: Path) -> JobResult | None:
    try:
        last = json.loads((folder / "exit.json").read_bytes())
    except (OSError, ValueError):
        return None
    known = {f.name for f in fields(JobResult)}
    return JobResult(**{key: value for key, value in last.items() if key in known})


def _abandon(folder: Path, status: Mapping[str, Any]) -> JobResult:
    killed = _hunt(folder, status)
    begun, started, last = status.get("started"), status.get("clock"), status.get("now")
    alive = max(0.0, float(last) - float(begun)) if begun and last else 0.0
    left = f"; {killed} of its processes were left, and were ended" if killed else ""
    return JobResult(
        ended="abandoned", reason=f"the process beside the run was killed{left}",
        seconds=max(0.0, alive - (float(started) - float(begun))) if begun and started else 0.0, wall_seconds=alive,
        peak_memory=status.get("peak_memory"), clock_started=cast("float | None", status.get("clock_started")),
        ended_at=clock.now(),
    )  # fmt: skip


def _hunt(folder: Path, status: Mapping[str, Any]) -> int:
    """End what is left of a job whose shim is gone, and remove its private folders. Returns how many it ended."""
    job = _identity(status.get("job"))
    known = [one for one in map(_identity, status.get("tree") or ()) if one]
    if job:
        known.append(job)
    session = job[1] if job and job[0] == boot_id() else None
    ended = hunt(str(folder / "home"), known, session)
    for name in ("home", "tmp", compile_cache.NAME):
        remove_tree(folder / name)
    return ended


def _identity(value: Any) -> Identity | None:
    if isinstance(value, (list, tuple)) and len(value) == 3:
        return str(value[0]), int(value[1]), int(value[2])
    return None
