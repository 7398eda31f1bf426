"""One process beside each job: it starts it, owns its clock, and ends the whole of it.

It is nobody's child (double fork, setsid), so the engine may die and be born again: the deadline holds, and a new
engine finds the job by the lock that this process keeps on `<run folder>/lock` for life. It talks to the job over
the control channel of docs/run-protocol.md and to the engine by files: `status.json` and `exit.json` out, `kill` in.

Started with `-I -S`, so it must load nothing but the standard library and its neighbours, and little of it.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH104, PTH110, PTH118, PTH123

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress

from core.lab.sandbox.readonly_fd import open_read_only
from core.lab.shim.child import become_job, free_group
from core.lab.shim.cpu_limit import LOOK_SECONDS, Processors
from core.lab.shim.daemonize import detach, last_word, reserve, tell
from core.lab.shim.limits import GitFile, Watch
from core.lab.shim.output import Cleaner, Curve, OutputLog, clean, count, last_line, sha256
from core.lab.shim.proctree import boot_id, descendants, kill_children, process_identity

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import Any

HELD_TICK = 0.03  # seconds between looks for the word to go, while a job is held
OVERTIME_FACTOR, OVERTIME_SECONDS = 1.02, 2.0  # what a run may be late: training on would pay otherwise
HELD_SECONDS = 3600.0  # a held job whose engine never comes back is not held for ever


class Shim:
    """The life of one job. `spec` is what `core.lab.runner` wrote."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.folder: str = spec["folder"]
        self.log = OutputLog(self.path("output.log"))
        self.curve = Curve(self.path("curve.tsv"))
        self.cleaner = Cleaner()
        self.watch = Watch(spec)
        self.git_file = GitFile(spec["cwd_top"])
        self.phase = "starting"
        self.started = self.clock = time.monotonic()
        self.clock_end: float | None = None
        self.clock_wall: float | None = None
        self.said: dict[str, Any] = {}  # what the job said over the channel
        self.exit_code: int | None = None
        self.exit_fd = reserve(self.path("exit.json.part"))
        self.job = 0
        self.job_identity: Any = None
        self.processors = Processors(spec.get("cores"))
        self.group = free_group() if spec["tier"] == "B" else None
        self.terminated = False
        self.doorkeeper: Any = None  # who answers for the job's local sockets and signals, in tier B
        self.confined: bool = spec["tier"] != "B"  # the sandbox's first packet comes before the job's code
        signal.signal(signal.SIGTERM, self._on_signal)  # from before anybody knows of this process
        # A job that gets its data by descriptor cannot train before it asks; one that needs none may never ask.
        self.plain: bool = spec["plain"] or not spec["train_files"]

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def time_of_day(self, moment: float) -> float:
        """Unix seconds of a monotonic time, by the engine's clock: the machine's may be set while a run trains."""
        return float(self.spec["epoch"]) + moment

    # --- start --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fork and execute the job, its output in a pipe and the control channel inherited."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control: socket.socket | None = ours
        self.pipe, writer = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.started = self.clock = time.monotonic()
        self.job = os.fork()
        if self.job == 0:
            become_job(self.spec, theirs.fileno(), writer, self.group)
        theirs.close()
        os.close(writer)
        os.set_blocking(self.pipe, False)
        ours.setblocking(False)
        self.job_identity = process_identity(self.job)
        if self.plain:
            self.phase, self.clock_wall = "training", self.time_of_day(self.clock)
        self.write_status()

    # --- life ---------------------------------------------------------------------------------------------------

    def live(self) -> tuple[str, str]:
        """Serve the job until it ends or must end. Returns how it ended and, unless it is plain to see, why."""
        waker, wakee = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakee, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self.poll = poll = select.poll()
        for fd in (waker, self.pipe, self.control.fileno() if self.control else -1):
            poll.register(fd, select.POLLIN)
        next_tick = next_status = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_tick:
                # Nobody can tell when: what is done between two looks only would not be seen.
                next_tick = now + LOOK_SECONDS * (0.5 + os.urandom(1)[0] / 255)
                pids = self.pids()
                if verdict := self.asked_to_stop() or self.watch.look(pids) or self.look_at_processors(pids, now):
                    return verdict
            if now >= next_status:
                next_status = now + 1.0
                self.write_status()
            due, ended, reason = self.deadline()
            if now >= due:
                return ended, reason
            if self.phase == "ready":
                if self.may_go():
                    self.go()
                    continue
                due = min(due, now + HELD_TICK)
            for fd, _ in poll.poll(max(0.0, min(next_tick, due) - now) * 1000 + 1):
                if fd == self.pipe:
                    if not self.read_output(16):
                        poll.unregister(self.pipe)
                elif self.doorkeeper is not None and fd == self.doorkeeper.fd:
                    if not self.doorkeeper.serve(self.pids()):
                        poll.unregister(fd)
                        self.doorkeeper.close()
                        self.doorkeeper = None
                elif self.control is not None and fd == self.control.fileno():
                    if not self.read_control():
                        poll.unregister(self.control.fileno())
                        self.control.close()
                        self.control = None
                else:
                    os.read(waker, 4096)
            if self.said.get("no_data"):
                return "crashed", self.said["no_data"]
            if self.reap():
                self.hear_the_rest()
                return self.natural_end()
            if self.terminated and (verdict := self.asked_to_stop()):
                return verdict

    def _on_signal(self, number: int, frame: object) -> None:
        if number == signal.SIGTERM:
            self.terminated = True

    def pids(self) -> list[int]:
        return descendants(os.getpid())

    def reap(self) -> bool:
        """Collect the dead. True when the job itself is among them."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return False
                if pid == self.job:
                    self.exit_code = os.waitstatus_to_exitcode(status)
                    return True
        except ChildProcessError:
            return self.exit_code is not None

    def deadline(self) -> tuple[float, str, str]:
        """When the job must be gone, and what to say if it is not."""
        spec = self.spec
        if self.phase == "saving":
            allowance = spec["saving_seconds"]
            return (self.clock_end or 0.0) + allowance, "overtime", (
                f"was killed: still there {allowance:g} s after it said that training was done"
            )  # fmt: skip
        if self.phase == "ready":
            return self.started + spec["startup_seconds"] + HELD_SECONDS, "killed", "nobody let it have its data"
        if self.phase == "starting":
            allowance = spec["startup_seconds"]
            return self.started + allowance, "startup_timeout", (
                f"was killed: it did not ask for its data within the start-up allowance of {allowance:g} s"
            )  # fmt: skip
        if spec["seconds"] is not None:
            allowed = spec["seconds"] * OVERTIME_FACTOR + OVERTIME_SECONDS
            budget = f"its budget of {spec['seconds']:g} s"
        else:
            allowed = spec["limit_seconds"]
            budget = f"the limit of {allowed:g} s on a run of {spec['steps']} steps"
        word = "running" if self.clock == self.started else "training"
        return self.clock + allowed, "overtime", f"was killed after {allowed:.1f} s: still {word} past {budget}"

    def look_at_processors(self, pids: list[int], now: float) -> tuple[str, str] | None:
        """The end of a run that has used more than it may use by the end of its budget already."""
        if self.phase != "saving":
            self.processors.look(pids, now)
        if self.phase != "training":
            return None
        words = self.processors.too_many(now - self.clock, self.spec["seconds"] or 0.0)
        return ("resources", f"was killed: it {words}") if words else None

    def asked_to_stop(self) -> tuple[str, str] | None:
        try:
            with open(self.path("kill"), errors="replace") as file:
                return "killed", file.read(1000).strip() or "was stopped"
        except OSError:
            return ("killed", "was ended by the system (SIGTERM)") if self.terminated else None

    def natural_end(self) -> tuple[str, str]:
        code = self.exit_code
        if code == 0:
            if self.phase == "training":  # it never said that it was done
                self.processors.look(self.pids(), time.monotonic())
            words = self.processors.too_many(self.seconds())
            return ("resources", words) if words else ("done", "")
        if code == -signal.SIGXFSZ:
            return "resources", f"wrote a file of more than {self.spec['disk_limit'] >> 20} MB"
        if code == -signal.SIGKILL:
            return "crashed", "was killed by the system (SIGKILL), most often for want of memory"
        # A shell or a sandbox adds 128 to the number of the signal that ended its command.
        number = -code if code is not None and code < 0 else (code or 0) - 128
        if number > 0:
            with suppress(ValueError):
                return "crashed", f"was ended by {signal.Signals(number).name}"
        return "crashed", f"exited with code {code}"

    # --- what the job says ----------------------------------------------------------------------------------------

    def seconds(self, now: float | None = None) -> float:
        """The clock: seconds since it started, stopped by `done`."""
        return (self.clock_end or now or time.monotonic()) - self.clock

    def read_output(self, chunks: int) -> bool:
        """Take up to `chunks` pieces from the pipe. False when every writer has closed it."""
        for _ in range(chunks):
            try:
                data = os.read(self.pipe, 65536)
            except BlockingIOError:
                return True
            text = self.cleaner.feed(data, final=not data)
            self.log.write(text)
            self.curve.feed(text, self.seconds())
            if not data:
                return False
        return True

    def read_control(self) -> bool:
        """One packet from the job. False when the channel is closed. What is not understood is ignored."""
        assert self.control is not None
        try:
            if not self.confined:
                return self.meet_the_cage()
            packet = self.control.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not packet:
            return False
        try:
            message = json.loads(packet)
        except (ValueError, RecursionError):
            return True
        if isinstance(message, dict):
            if message.get("type") == "ready" and "params" not in self.said:
                self.said["params"] = message.get("params")
                if self.spec["hold"] and self.phase == "starting" and not self.may_go():
                    self.phase = "ready"  # the slot's last run is still being scored
                    self.write_status()
                else:
                    self.go()
            elif message.get("type") == "done" and self.phase == "training":
                self.clock_end = time.monotonic()
                self.processors.look(self.pids(), self.clock_end)
                self.phase = "saving"
                self.said.update({key: count(message.get(key)) for key in ("steps", "tokens")})
                self.said["sha256"] = sha256(message.get("sha256"))
                self.write_status()
        return True

    def hear_the_rest(self) -> None:
        """What a job said just before it ended."""
        for _ in range(64):  # whoever it left behind may go on talking
            if self.control is None or not select.select([self.control], [], [], 0)[0] or not self.read_control():
                return

    def meet_the_cage(self) -> bool:
        """The sandbox's packet, from before any of the job's code runs: its filter's listener, where there is one."""
        from core.lab.sandbox.supervisor import Doorkeeper

        assert self.control is not None
        packet, listeners, _, _ = socket.recv_fds(self.control, 100, 1)
        self.confined = True
        if listeners:
            self.doorkeeper = Doorkeeper(listeners[0], self.spec["link"], self.spec["private"][1])
            self.poll.register(self.doorkeeper.fd, select.POLLIN)
        return bool(packet)

    def may_go(self) -> bool:
        return os.path.exists(self.path("go"))

    def go(self) -> None:
        """Hand over the data; the clock starts here. A plain command that asks late keeps the clock it has."""
        assert self.control is not None
        try:
            fds = open_read_only(list(self.spec["train_files"].values()), self.spec["tier"])
        except OSError as error:
            self.said["no_data"] = f"the training data cannot be opened: {error.strerror}: {error.filename}"
            return
        message: dict[str, Any] = {"type": "go", "names": list(self.spec["train_files"])}
        for key in ("seconds", "steps"):
            if self.spec[key] is not None:
                message[key] = self.spec[key]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        try:
            self.control.sendmsg([json.dumps(message).encode()], ancillary)
        except OSError:
            return
        finally:
            for fd in fds:
                os.close(fd)
        now = time.monotonic()
        if self.phase in ("starting", "ready") or now - self.started <= self.spec["startup_seconds"]:
            self.clock, self.clock_wall = now, self.time_of_day(now)
            self.processors.start(self.pids(), now)
            self.phase = "training"
            self.curve.restart()
        self.write_status()

    # --- what is told to the engine -------------------------------------------------------------------------------

    def write_status(self) -> None:
        status = {
            "phase": self.phase, "plain": self.plain, "shim": process_identity(os.getpid()), "job": self.job_identity,
            "now": time.monotonic(), "started": self.started,
            "clock": None if self.phase in ("starting", "ready") else self.clock,
            "clock_started": self.clock_wall, "clock_end": self.clock_end, "budget_seconds": self.spec["seconds"],
            "budget_steps": self.spec["steps"], "params": count(self.said.get("params")), "step": self.curve.step,
            "loss": self.curve.loss, "tree": self.watch.tree, **self.watch.peaks(),
        }  # fmt: skip
        part = self.path("status.json.part")
        try:
            with open(part, "w") as file:
                json.dump(status, file)
            os.rename(part, self.path("status.json"))
        except OSError:
            return

    def finish(self, ended: str, reason: str) -> None:
        """End the tree, take what is left of the output, and write the last word durably."""
        ended_mono = time.monotonic()
        seconds = 0.0 if self.phase in ("starting", "ready") else self.seconds(ended_mono)
        gone = kill_children(self.job)
        self.git_file.restore()
        self.read_output(64)  # the writers are gone: what is left is at most the pipe's own megabyte
        self.log.write(self.cleaner.feed(b"", final=True))
        self.curve.close()
        tail = clean(self.log.recent)[-4096:]
        if ended == "crashed" and (line := last_line(tail)):
            reason = f"{reason}: {line}"
        if not gone:
            reason = f"{reason} (some of its processes could not be ended)".strip()
        steps = self.said.get("steps")
        last = {
            "ended": ended, "reason": reason, "exit_code": self.exit_code, "seconds": round(seconds, 4),
            "wall_seconds": round(ended_mono - self.started, 4), "steps": self.curve.step if steps is None else steps,
            "tokens": self.said.get("tokens"), "params": count(self.said.get("params")), "log_tail": tail,
            "saving_seconds": round(ended_mono - self.clock_end, 4) if self.clock_end else None,
            "ended_at": self.time_of_day(ended_mono), "clock_started": self.clock_wall,
            "cpu_seconds": round(self.processors.used, 3) if self.spec.get("cores") else None, "boot_id": boot_id(),
            "weights_sha256": self.said.get("sha256"), **self.watch.peaks(),
        }  # fmt: skip
        self.phase = "ended"
        last_word(self.exit_fd, self.path("exit.json.part"), self.path("exit.json"), last)
        self.write_status()


def main() -> None:
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    starter = detach(spec["folder"])
    try:
        shim = Shim(spec)
        shim.start()
    except Exception as error:
        tell(starter, f"{type(error).__name__}: {error}")
        raise
    tell(starter, "ok")
    try:
        ended, reason = shim.live()
    except Exception as error:  # our own fault, and still the job must end and its end be told
        ended, reason = "crashed", f"the harness could not go on with this run: {type(error).__name__}: {error}"
    shim.finish(ended, reason)
    shim.watch.clean_up(shim.group)
