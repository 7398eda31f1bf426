"""Start, observation, end and adoption of a run; each run has a shim process of its own.

A run's folder holds the harness's files, which the run cannot write: `spec.json`, `status.json`, `exit.json`,
`output.log`, `curve.tsv`, `lock`, `kill`, `turn`, `go`, `shim.log`. The run may write `out/` (AUTORESEARCH_RUN_DIR),
`home/` and `tmp/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from core import clock
from core.lab import compile_cache, stale_tmp
from core.lab.sandbox.delegation import delegation
from core.lab.sandbox.tiers import SandboxSpec, command, own_folders, tier_of
from core.lab.shim import kept_cache
from core.lab.shim.clocks.clock_register import is_locked
from core.lab.shim.daemonize import DIED, bare_python
from core.lab.shim.group.cgroup import remove_abandoned
from core.lab.shim.output import logged
from core.lab.shim.proctree import Identity, boot_id, kill_leftovers, same_process
from core.lab.shim.rmtree import remove_tree
from core.program.printed_fault import with_fault
from core.record.budget import RunClock
from core.record.errors import LabError
from core.record.events import Ended
from core.session.disk import read_json, replace_file
from core.text import printable

_POLL_SECONDS = 0.04
_POLLS_PER_LOCK_CHECK = 8  # every so many polls, the exit file and the lock are checked
_MAX_OUTPUT_BYTES = 1 << 18  # of the end of an output in which the reason of a crash is looked for
_EXITED = "exited with code"
_MAX_TMPDIR_BYTES = 64  # the path of a local socket has at most 107
_KILL_SECONDS = 15.0  # a shim that has not ended its run in this time is killed


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Settings of one run. Limits in bytes and counts, 0 or None: no limit; `seconds` or `steps` is its budget.

    `plain`: the project has no scorer, and the clock starts with the process.
    """

    run: int
    folder: Path
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    sandbox: SandboxSpec | None = None
    seconds: float | None = None
    steps: int | None = None
    limit_seconds: float = 1800.0  # for a step budget; the shim knows the overtime of a time budget
    clock: RunClock = "wall"  # what `seconds` are
    at_limit: bool = False  # end the run when its time is over, without overtime: what it printed until then counts
    startup_seconds: float = 120.0
    saving_seconds: float = 60.0
    train_files: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    hold: bool = False  # after start-up, wait in the phase `ready` until `RunProcess.release`
    # It starts up while another run has its slot, until `RunProcess.take_turn`: at the lowest priority, with all time
    # that nobody wants ("idle") or only on processors that are nobody's ("free").
    ahead: Literal["", "idle", "free"] = ""
    ahead_memory: int | None = None  # the memory limit until then
    memory_limit: int | None = None
    process_limit: int | None = 512
    cores: float | None = None  # processors that the run may keep busy on the clock, on average
    processors: float = 1.0  # that others are kept from while it is on its clock
    # The same until its use is measured, `processors` at most; None: it is not measured.
    expected_processors: float | None = None
    beside: bool = False  # it is on no clock, and is kept from the processors of those that are: a check
    clocks: Path | None = None  # folder in which the runs of a session tell of their clocks; None: they do not
    machine_processors: int = 1  # that the session may use
    disk_limit: int | None = 20 << 30
    cache: Path | None = None  # initial content of its compile cache; see core/lab/compile_cache.py
    keep_cache: bool = False  # keep its compile cache as `core/lab/shim/kept_cache.py` says
    keep_private: bool = False  # the same for home/ and tmp/
    groups: str | None = None  # folder in which its control group is made, "" for none; None: where the engine may

    @property
    def out(self) -> Path:
        """Folder for the run's weights."""
        return self.folder / "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """End of a run. `seconds` of its clock, `on_clock` by the wall and `wall_seconds` since process start are
    measured by the harness; `steps`, `tokens` and `weights_sha256` (of the weights when the clock stopped) are reported
    by the run. Times of day are Unix seconds; memory and disk in bytes.
    """

    ended: Ended
    reason: str = ""
    exit_code: int | None = None
    seconds: float = 0.0
    on_clock: float | None = None
    wall_seconds: float = 0.0
    saving_seconds: float | None = None
    steps: int | None = None
    tokens: int | None = None
    params: int | None = None
    weights_sha256: str | None = None
    cpu_seconds: float | None = None  # processor time of all its processes on the clock
    before_clock: float | None = None  # the same before it
    share: float | None = None  # 0..1, of its processors that the rest of the machine left it on its clock
    wanted: float = 0.0  # processors that its own threads wanted on its clock, on average
    kept_processors: float | None = None  # the most that others were kept from, where its use was measured
    new_names: int | None = None  # that the kernel learned meanwhile, for it and for all others
    ahead: bool = False  # it ended before its turn
    log_tail: str = ""
    peak_memory: int | None = None
    peak_processes: int | None = None
    disk: int | None = None
    clock_started: float | None = None
    ended_at: float = 0.0


class RunProcess:
    """A started run, alive or ended. Made by `start` and `adopt`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._status: dict[str, Any] = {}
        self._stamp: tuple[int, int] | None = None
        self._result: RunResult | None = None

    @property
    def status(self) -> Mapping[str, Any]:
        """The shim's latest status: phase, clock, step, loss, memory, params …; empty before the first."""
        path = self.folder / "status.json"
        with contextlib.suppress(OSError, ValueError):
            stamp = ((info := path.stat()).st_ino, info.st_mtime_ns)
            if stamp != self._stamp:
                self._status, self._stamp = json.loads(path.read_bytes()), stamp
        return self._status

    @property
    def phase(self) -> str:
        """`starting`, `ready` (held), `training`, `saving` or `ended`."""
        return "ended" if self._result else str(self.status.get("phase", "starting"))

    @property
    def seconds(self) -> float:
        """Seconds of the clock; during start-up, seconds since the process began. Processor seconds since the latest
        status are an estimate.
        """
        if self._result:
            return self._result.seconds
        status = self.status
        begun = status.get("clock") or status.get("started")
        if begun is None:
            return 0.0
        since = max(0.0, float(status.get("clock_end") or time.monotonic()) - float(begun))
        used = status.get("processor_seconds")
        if used is None or status.get("clock") is None:
            return since
        then = max(1e-3, float(status.get("clock_end") or status["now"]) - float(begun))
        return float(used) * max(1.0, since / then)

    @property
    def fraction(self) -> float | None:
        """Used part of the budget, 0..1; None before the clock starts. For a step budget, as the run reports it."""
        status = self.status
        if self._result or status.get("clock_end"):
            return 1.0
        if status.get("clock") is None:
            return None
        if status.get("budget_seconds"):
            return min(1.0, self.seconds / float(status["budget_seconds"]))
        return min(1.0, (status.get("step") or 0) / (status.get("budget_steps") or 1))

    async def wait(self, on_phase: Callable[[str], None] | None = None) -> RunResult:
        """The result, once the run has ended. `on_phase` receives every phase but `ended`, the first one too.

        A killed shim writes no exit file: the remaining processes of the run are killed, and the result is `abandoned`.
        """
        reported, polls = "", 0
        while True:
            phase = self.phase
            polls += 1
            if phase not in (reported, "ended"):
                reported = phase
                if on_phase:
                    on_phase(phase)
            # A shim that ends writes `ended` into its status; a killed one is found by its lock.
            if self._result is None and (phase == "ended" or polls % _POLLS_PER_LOCK_CHECK == 1):
                self._result = _read_exit(self.folder)
                if self._result is None and not is_locked(str(self.folder / "lock")):
                    # The exit file may have come just before the lock was released: read it again.
                    last = _read_exit(self.folder)
                    self._result = last or await asyncio.to_thread(_abandon, self.folder, self.status)
            if self._result is not None:
                return self._result
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def memory(self) -> int:
        """Bytes that it uses, at the latest status."""
        return int(self.status.get("memory") or 0)

    def take_turn(self) -> None:
        """Give a run that was started ahead its usual priority and limits: its slot is its own now. Idempotent."""
        (self.folder / "turn").touch(0o600)

    def release(self) -> None:
        """Give a held run its data: its clock starts within about 30 ms. Idempotent."""
        (self.folder / "go").touch(0o600)

    async def kill(self, reason: str) -> RunResult:
        """Kill the run's whole process tree; returns when it has ended. `reason` goes into the result."""
        with contextlib.suppress(OSError):  # on a full disk the signal is enough
            replace_file(self.folder / "kill", (reason or "was stopped").encode())
        shim = _identity(self.status.get("shim"))
        _signal(shim, signal.SIGTERM)
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(self.wait())), _KILL_SECONDS)
        except TimeoutError:
            _signal(shim, signal.SIGKILL)
            return replace(await self.wait(), ended="killed", reason=reason)


async def start(spec: RunSpec) -> RunProcess:
    """Start a run; returns when its shim is a daemon. Raises LabError when it cannot be started.

    One whose start was killed is returned as well: its shim may live, and if not, the run is `abandoned`.
    """
    folder = spec.folder.absolute()
    path = folder / "spec.json"
    try:
        for name in ("", "out", "home", "tmp"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(compile_cache.create, folder / compile_cache.NAME, spec.cache)
        path.touch(0o600)
        path.write_text(json.dumps(_shim_spec(replace(spec, folder=folder))))
    except OSError as error:
        raise LabError(f"could not write the run's folder: {error.strerror}", where=str(folder),
                       hint="free some space on that disk, or correct its permissions") from None  # fmt: skip
    # The run can read the shim's environment in /proc, so it holds nothing of the engine's.
    process = await asyncio.create_subprocess_exec(
        *bare_python("core.lab.shim.shim"), str(path),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, cwd="/",
    )  # fmt: skip
    _, errors = await process.communicate()  # its end means that the shim has its lock, or has ended
    if process.returncode and process.returncode > 0 and errors != DIED.encode():
        raise LabError(f"could not start the run: {errors.decode(errors='replace').strip()[-500:]}",
                       where=str(folder), hint="see shim.log in that folder")  # fmt: skip
    return RunProcess(folder)


def adopt(folder: Path) -> RunProcess | None:
    """The run in `folder`, live or ended; None when it has neither a shim nor an exit file.

    In the latter case its remaining processes are killed first.
    """
    folder = folder.resolve()
    process = RunProcess(folder)
    if is_locked(str(folder / "lock")) or _read_exit(folder) is not None:
        return process
    if (folder / "spec.json").exists():
        _kill_leftovers(folder, process.status)
    return None


def _shim_spec(spec: RunSpec) -> dict[str, Any]:
    home, tmp, cache = (spec.folder / name for name in ("home", "tmp", compile_cache.NAME))
    sandbox, tier, temporary = spec.sandbox, "C", str(tmp)
    if sandbox is not None:
        tier = tier_of(sandbox)
        own = (spec.out, home, tmp, cache)
        sandbox = replace(sandbox, writable=(*sandbox.writable, *own), tmp=tmp, supervised=True)
        # The same folder by a shorter path, for local sockets in it.
        temporary = "/tmp" if tier == "A" else _short_link(tmp)
    env = {
        **spec.env, **compile_cache.variables(cache),
        "HOME": str(home), "TMPDIR": temporary, "AUTORESEARCH_RUN_DIR": str(spec.out),
    }  # fmt: skip
    plain = asdict(replace(spec, sandbox=None, cache=None, clocks=None))
    del plain["sandbox"], plain["cache"]
    plain["groups"] = delegation().base if spec.groups is None else spec.groups
    return {
        **plain,
        "folder": str(spec.folder), "cwd": str(spec.cwd), "env": env, "train_files": dict(spec.train_files),
        "clocks": str(spec.clocks.absolute()) if spec.clocks else "",
        "argv": list(spec.argv) if sandbox is None else command(sandbox, spec.argv),
        "private": [str(home), str(tmp), str(cache)], "watched": [str(spec.out)],
        "hands_on": str(cache) if spec.keep_cache else "",
        "epoch": clock.now() - time.monotonic(), "link": temporary, "tier": tier,
        "own": [] if sandbox is None else own_folders(sandbox),
        "cwd_top": str(sandbox.worktree if sandbox else spec.cwd),
    }  # fmt: skip


def _short_link(folder: Path) -> str:
    """The folder, or a short link to it when its path is too long for sockets; the shim removes the link."""
    if len(os.fsencode(folder)) <= _MAX_TMPDIR_BYTES:
        return str(folder)
    link = Path(tempfile.gettempdir(), f"{stale_tmp.LINK_PREFIX}{secrets.token_hex(6)}")
    link.symlink_to(folder)
    return str(link)


def _read_exit(folder: Path) -> RunResult | None:
    last: dict[str, Any] = read_json(folder / "exit.json")
    if not last:
        return None
    result = RunResult(**{f.name: last[f.name] for f in fields(RunResult) if f.name in last})
    if result.ended != "crashed" or not result.exit_code:
        return result
    output = output_end(folder / "output.log", result.log_tail)
    return replace(result, reason=with_fault(result.reason, output, by_signal=_EXITED not in result.reason))


def output_end(log: Path, tail: str) -> str:
    """The last part of a run's output, from its log and from `tail`, the shim's own."""
    return logged(log, tail, _MAX_OUTPUT_BYTES)


def _abandon(folder: Path, status: Mapping[str, Any]) -> RunResult:
    killed = _kill_leftovers(folder, status)
    begun, started, last = status.get("started"), status.get("clock"), status.get("now")
    alive = max(0.0, float(last) - float(begun)) if begun and last else 0.0
    left = f"; {killed} remaining processes were killed" if killed else ""
    return RunResult(
        ended="abandoned", reason=f"the shim that supervises the run {_fault(folder)}{left}",
        seconds=max(0.0, alive - (float(started) - float(begun))) if begun and started else 0.0, wall_seconds=alive,
        peak_memory=status.get("peak_memory"), clock_started=cast("float | None", status.get("clock_started")),
        ended_at=clock.now(),
    )  # fmt: skip


def _fault(folder: Path) -> str:
    """What became of a shim that wrote no exit file: the end of its log, where it had a fault."""
    with contextlib.suppress(OSError):
        if lines := (folder / "shim.log").read_text(errors="replace").strip().splitlines():
            return f"failed: {printable(lines[-1])[:300]}"
    return "was killed"


def _kill_leftovers(folder: Path, status: Mapping[str, Any]) -> int:
    """Kill the processes of a run without a shim, and remove its private folders. Returns the number killed."""
    process = _identity(status.get("job"))
    known = [one for one in (*map(_identity, status.get("tree") or ()), process) if one]
    session = process[1] if process and process[0] == boot_id() else None
    killed = remove_abandoned(delegation().base)
    killed += kill_leftovers(str(folder / "home"), known, session)
    for name in ("home", "tmp", compile_cache.NAME, kept_cache.NAME):
        remove_tree(folder / name)
    return killed


def _identity(value: Any) -> Identity | None:
    if isinstance(value, (list, tuple)) and len(value) == 3:
        return str(value[0]), int(value[1]), int(value[2])
    return None


def _signal(process: Identity | None, number: signal.Signals) -> None:
    if process and same_process(process):
        with contextlib.suppress(OSError):
            os.kill(process[1], number)
