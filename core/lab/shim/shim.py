"""The shim: a process that starts one run, holds its clock, and ends its whole process tree.

It is a daemon (double fork, setsid), so it outlives the engine: the deadline holds, and a new engine finds the run by
the lock that the shim holds on `<run folder>/lock` for life. It communicates with the run over the control channel of
docs/run-protocol.md, and with the engine by files: it writes `status.json` and `exit.json`, and reads `kill`, `turn`
and `go`.

Started with `-I -S`: it loads only the modules of this folder and a small part of the standard library.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH104, PTH110, PTH118, PTH123

from __future__ import annotations

import fcntl
import json
import math
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress

from core.lab.shim.child import execute, unused_gid
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.low_priority import LowPriority
from core.lab.shim.clocks.new_names import NewNames
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.shim.clocks.processor_use import ProcessorUse
from core.lab.shim.clocks.share import ShareMeter, running_threads
from core.lab.shim.cpu_limit import SAMPLE_SECONDS, CpuMeter
from core.lab.shim.daemonize import detach, report_start, reserve, write_exit_file
from core.lab.shim.group.cgroup import ControlGroup
from core.lab.shim.limits import GitFile, LimitWatch, most_threads
from core.lab.shim.output import Cleaner, Curve, OutputLog, clean, count, sha256
from core.lab.shim.proctree import WAIT_ALL, boot_id, descendants, kill_children, process_identity
from core.lab.shim.readonly_fd import open_read_only

TYPE_CHECKING = False
if TYPE_CHECKING:  # to load typing takes 3 ms
    from typing import Any

_LOCK_POLL_SECONDS = 0.005  # while a process of the run waits for a lock
_RELEASE_POLL_SECONDS = 0.03  # while a run is held
_LOOK_SECONDS = 0.05  # between two looks at the clocks of other runs, on average
_LOOK_COST = 10  # times the processor time of a look is left until the next one, for a tree of many processes
_OVERTIME_FACTOR, _OVERTIME_SECONDS = 1.02, 2.0  # allowed over the budget; with more, training on would pay
_WALL_FACTOR, _MOST_WALL_FACTOR = 4.0, 40.0  # times a budget of processor seconds: others' time apart, and with it
_LEAST_TICK = 0.005  # seconds between two readings of a clock of processor seconds that is nearly over
_FRESH_SECONDS = 0.05  # a reading of it is used so long
_SIGNALS = {
    "SIGSEGV": "an invalid memory access", "SIGABRT": "as it aborted", "SIGFPE": "an impossible calculation",
    "SIGBUS": "an access to memory that a file or /dev/shm does not have", "SIGPIPE": "as its output was closed",
    "SIGILL": "an instruction that this processor does not have", "SIGSYS": "a system call that the sandbox refuses",
}  # fmt: skip
_READ_SHARE, _READ_SECONDS = 0.05, 0.5  # of a processor, to read what is printed by a run whose turn has not come
_DEAF_SECONDS = 1.0  # for a run that takes no data to end by itself, which says more
_MAX_HELD_SECONDS = 3600.0  # in case no engine returns to release a held run


class Shim:
    """One run, from start to exit file. `spec` is the `spec.json` of `core.lab.runner`; `lock`: held for life."""

    def __init__(self, spec: dict[str, Any], lock: int) -> None:
        self.spec, self.lock = spec, lock
        self.folder: str = spec["folder"]
        self.log = OutputLog(self.path("output.log"))
        self.curve = Curve(self.path("curve.tsv"))
        self.cleaner = Cleaner()
        self.group = ControlGroup.make(
            spec["groups"], memory=spec["memory_limit"] or 0, threads=most_threads(spec["process_limit"] or 0)
        )
        self.watch = LimitWatch(spec, self.group)
        self.git_file = GitFile(spec["cwd_top"])
        self.phase = "starting"
        self.started = self.clock = time.monotonic()
        self.clock_end: float | None = None
        self.clock_wall: float | None = None
        self.reported: dict[str, Any] = {}  # reported by the run over the channel
        self.exit_code: int | None = None
        self.exit_fd = reserve(self.path("exit.json.part"))
        self.child = 0
        self.run_identity: Any = None
        self.on_processors = spec["clock"] == "cpu" and spec["seconds"] is not None  # what its seconds are
        self.cpu = CpuMeter(spec.get("cores"), self.group, clock=self.on_processors)
        self.share = ShareMeter(spec["processors"])
        self.use: ProcessorUse | None = None  # where what it keeps is measured
        if spec["expected_processors"] is not None:
            self.use = ProcessorUse(spec["expected_processors"], spec["processors"])
        self.names = NewNames()
        self.gid = unused_gid() if spec["tier"] == "B" else None
        self.terminated = False
        self.deaf_at = 0.0  # when its data could not be sent
        self.supervisor: Any = None  # of the filter
        self.confined: bool = spec["tier"] == "C"  # once the sandbox has sent its packet
        signal.signal(signal.SIGTERM, self._on_signal)  # before any process knows this pid
        # A run that gets its data by descriptor cannot train before it sends `ready`; one without may never send it.
        self.plain: bool = spec["plain"] or not spec["train_files"]
        self.register = ClockRegister(spec["clocks"], str(os.getpid())) if spec["clocks"] else None
        self.off_clock: OffClock | None = None
        if self.register:
            processors = spec["machine_processors"]
            self.off_clock = OffClock(self.register, processors, supervisor=True, group=self.group)
        self.lost_before = 0.0  # by the end of the clock
        # A run that starts up while another has its slot has the lowest priority until its turn comes.
        self.ahead = bool(spec["ahead"])
        self.low = LowPriority(self.group) if self.ahead else None
        self.starved = self.starved_at = self.starved_used = 0.0
        self.listens, self.closed = True, False  # to its output, and whether it has ended
        if self.low is not None and spec["ahead_memory"]:
            self.watch.lower_limit(spec["ahead_memory"])

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def time_of_day(self, moment: float) -> float:
        """Unix seconds of a monotonic time, by the engine's clock: the machine's clock may be changed during a run."""
        return float(self.spec["epoch"]) + moment

    # --- start --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fork and execute the command, with its output in a pipe and the control channel inherited."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control: socket.socket | None = ours
        self.pipe, writer = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.started = self.clock = time.monotonic()
        shim, locks = os.getpid(), (self.lock, *((self.group.lock,) if self.group else ()))
        self.child = os.fork()
        if self.child == 0:
            execute(self.spec, theirs.fileno(), writer, self.gid, self.group, self.low, shim=shim, locks=locks)
        theirs.close()
        os.close(writer)
        os.set_blocking(self.pipe, False)
        ours.setblocking(False)
        self.run_identity = process_identity(self.child)
        if self.plain:
            self.phase, self.clock_wall = "training", self.time_of_day(self.clock)
            self.cpu.start([], self.clock)
            self.start_measuring()
        self.write_status()

    # --- main loop ----------------------------------------------------------------------------------------------

    def supervise(self) -> tuple[str, str]:
        """Serve the run until it ends or must be ended. Returns (how it ended, reason or "")."""
        waker, wakee = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakee, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self.poll = poll = select.poll()
        for fd in (waker, self.pipe, self.control.fileno() if self.control else -1):
            poll.register(fd, select.POLLIN)
        next_tick = next_status = next_look = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_look:
                next_look = now + self.look_at_others()
            if now >= next_tick:
                # At random times: a run could hide work between samples that it can predict.
                next_tick = now + min(SAMPLE_SECONDS * (0.5 + os.urandom(1)[0] / 255), self.until_over())
                pids = self.pids()
                self.names.sample()
                self.count_starved(pids, now)
                if verdict := self.stop_request() or self.watch.check(pids) or self.check_cpu(pids, now):
                    return verdict
            if now >= next_status:
                next_status = now + 1.0
                self.measure_use(now)
                self.write_status()
            due, ended, reason = self.deadline()
            if now >= due:
                return ended, reason
            if self.phase == "ready":
                if self.released() and not self.deaf_at and self.send_data():
                    continue
                due = min(due, now + _RELEASE_POLL_SECONDS)
            if self.supervisor is not None and self.supervisor.waits:
                self.supervisor.retry()
                due = min(due, now + _LOCK_POLL_SECONDS)
            self.listen(now)
            for fd, _ in poll.poll(max(0.0, min(next_tick, next_look, due) - now) * 1000 + 1):
                if fd == self.pipe:
                    if not self.read_output(16):
                        poll.unregister(self.pipe)
                        self.closed = True
                elif self.supervisor is not None and fd == self.supervisor.fd:
                    if not self.supervisor.serve(self.pids):
                        poll.unregister(fd)
                        self.supervisor.close()
                        self.supervisor = None
                elif self.control is not None and fd == self.control.fileno():
                    if not self.read_control():
                        poll.unregister(self.control.fileno())
                        self.control.close()
                        self.control = None
                else:
                    os.read(waker, 4096)
            if self.reported.get("no_data"):
                return "crashed", self.reported["no_data"]
            if self.reap():
                self.read_remaining_control()
                return self.natural_end()
            if self.terminated and (verdict := self.stop_request()):
                return verdict

    def look_at_others(self) -> float:
        """Keep the run from the processors of others while it is off its clock. Returns seconds until the next look."""
        begun = time.process_time()
        if self.low is not None:
            if not self.ahead or os.path.exists(self.path("turn")):
                self.take_turn()
            else:
                self.low.lower(self.pids())
        if self.off_clock and (self.phase != "training" or self.spec["beside"]):
            last = self.ahead and self.low is not None and self.low.works and self.spec["ahead"] == "idle"
            self.off_clock.tick(self.pids, held=self.phase == "ready", last=last)
        return _LOOK_SECONDS * (0.5 + os.urandom(1)[0] / 255) + _LOOK_COST * (time.process_time() - begun)

    def take_turn(self) -> None:
        """The run has its slot: its priority and its limits are the usual ones from here on."""
        if self.ahead:
            self.ahead = False
            self.watch.usual_limit()
        if self.low is not None and self.low.restore(self.pids()):
            self.low = None

    def count_starved(self, pids: list[int], now: float) -> None:
        """Count the time in which a run of the lowest priority wanted a processor and had none."""
        if not self.ahead:
            return
        since, used = now - self.starved_at if self.starved_at else 0.0, self.cpu.counted(pids)
        if running_threads(pids):
            self.starved += max(0.0, since - max(0.0, used - self.starved_used))
        self.starved_at, self.starved_used = now, used

    def listen(self, now: float) -> None:
        """Read the output of a run whose turn has not come for a small part of the time: reading it costs others."""
        may = not self.ahead or time.process_time() <= _READ_SECONDS + _READ_SHARE * (now - self.started)
        if may != self.listens and not self.closed:
            self.listens = may
            if may:
                self.poll.register(self.pipe, select.POLLIN)
            else:
                self.poll.unregister(self.pipe)

    def start_measuring(self) -> None:
        """The run is on its clock from here on: others are kept from its processors, and its share is counted."""
        if self.register and not self.spec["beside"]:
            self.register.clock(self.use.kept if self.use else self.spec["processors"])
        self.share.start()

    def measure_use(self, now: float) -> None:
        """Keep others from the processors that the run really uses."""
        if self.use is None or self.phase != "training" or self.spec["beside"]:
            return
        if self.use.look(self.cpu.counted(self.pids()), now) and self.register:
            self.register.clock(self.use.kept)

    @property
    def lost(self) -> float:
        """Seconds in which the run was kept from the processors, which count against no allowance."""
        return self.starved + (self.off_clock.lost if self.off_clock else 0.0)

    def _on_signal(self, number: int, frame: object) -> None:
        if number == signal.SIGTERM:
            self.terminated = True

    def pids(self) -> list[int]:
        """The run's processes: those below this one, and, where it has a control group, all that are in it. Of more
        than it may have only some.
        """
        most = self.spec["process_limit"] or 0
        own = descendants(os.getpid(), most)
        inside = self.group.pids() if self.group is not None and not 0 < most < len(own) else None
        return [*own, *set(inside).difference(own)] if inside else own

    def reap(self) -> bool:
        """Reap ended processes. True when the run's own command is among them."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | WAIT_ALL)
                if pid == 0:
                    return False
                if pid == self.child:
                    self.exit_code = os.waitstatus_to_exitcode(status)
                    return True
        except ChildProcessError:
            return self.exit_code is not None

    def deadline(self) -> tuple[float, str, str]:
        """(monotonic time of the deadline, how the run ends then, reason)."""
        spec = self.spec
        if self.phase == "saving":
            allowance = spec["saving_seconds"]
            reason = f"was killed: still running {allowance:g} s after it reported the end of training"
            return (self.clock_end or 0.0) + allowance + self.lost - self.lost_before, "overtime", reason
        if self.phase == "ready" and self.deaf_at:
            return self.deaf_at + _DEAF_SECONDS, "crashed", "closed its control channel before it got its data"
        if self.phase == "ready":
            return self.started + spec["startup_seconds"] + _MAX_HELD_SECONDS, "killed", "no engine released it"
        if self.phase == "starting":
            allowance = spec["startup_seconds"]
            reason = f"was killed: it did not ask for its data within the start-up allowance of {allowance:g} s"
            return self.started + allowance + self.lost, "startup_timeout", reason
        if self.on_processors:
            allowed = spec["seconds"] * _WALL_FACTOR
            used = f"it used {self.cpu.used:.1f} of its {spec['seconds']:g} processor seconds"
            reason = f"was killed after {allowed:g} s by the wall, {_WALL_FACTOR:g} times its budget: {used}"
            if (taken := self.on_clock() * (1 - (self.share.share() or 1.0))) > 1.0:
                reason = f"{reason} (others had its processors for {taken:.0f} s more)"
            taken = min(taken, spec["seconds"] * (_MOST_WALL_FACTOR - _WALL_FACTOR))
            return self.clock + allowed + taken + self.lost - self.lost_before, "overtime", reason
        if spec["at_limit"]:
            return self.clock + spec["seconds"], "overtime", f"was ended at its budget of {spec['seconds']:g} s"
        if spec["seconds"] is not None:
            allowed = spec["seconds"] * _OVERTIME_FACTOR + _OVERTIME_SECONDS
            budget = f"its budget of {spec['seconds']:g} s"
        else:
            allowed = spec["limit_seconds"]
            budget = f"the limit of {allowed:g} s on a run of {spec['steps']} steps"
        word = "running" if self.clock == self.started else "training"
        reason = f"was killed after {allowed:.1f} s: still {word} past {budget}"
        return self.clock + allowed + self.lost - self.lost_before, "overtime", reason

    def check_cpu(self, pids: list[int], now: float) -> tuple[str, str] | None:
        """The end of a run that has already used more processor time than its whole budget allows."""
        if self.off_clock and self.off_clock.trouble:
            return "resources", self.off_clock.trouble
        if self.phase != "saving":
            self.cpu.sample(pids, now)
        if self.phase != "training":
            return None
        self.share.sample(pids)
        if words := self.cpu.excess(now - self.clock, self.spec["seconds"] or 0.0):
            return "resources", f"was killed: it {words}"
        if self.on_processors and self.cpu.used >= (allowed := self.allowed_processor_seconds()):
            if self.spec["at_limit"]:
                return "overtime", f"was ended at its budget of {allowed:g} processor seconds"
            word = "running" if self.plain else "training"
            budget = f"its budget of {self.spec['seconds']:g} processor seconds"
            return "overtime", f"was killed after {allowed:.1f} processor seconds: still {word} past {budget}"
        return None

    def allowed_processor_seconds(self) -> float:
        budget = float(self.spec["seconds"])
        return budget if self.spec["at_limit"] else budget * _OVERTIME_FACTOR + _OVERTIME_SECONDS

    def until_over(self) -> float:
        """Seconds until a clock of processor seconds can be over, at the earliest."""
        if not self.on_processors or self.phase != "training":
            return math.inf
        left = self.allowed_processor_seconds() - self.cpu.used
        return max(_LEAST_TICK, left / len(os.sched_getaffinity(0)))

    def stop_request(self) -> tuple[str, str] | None:
        try:
            with open(self.path("kill"), errors="replace") as file:
                return "killed", file.read(1000).strip() or "was stopped"
        except OSError:
            return ("killed", "was ended by the system (SIGTERM)") if self.terminated else None

    def natural_end(self) -> tuple[str, str]:
        if (code := self.exit_code) == 0:
            if self.phase == "training":  # it never sent `done`
                self.cpu.sample(self.pids(), time.monotonic())
            words = self.cpu.excess(self.on_clock())
            return ("resources", words) if words else ("done", "")
        if code == -signal.SIGXFSZ:
            return "resources", f"wrote a file of more than {self.spec['disk_limit'] >> 20} MB"
        # A shell or a sandbox adds 128 to the number of the signal that ended its command.
        number = -code if code is not None and code < 0 else (code or 0) - 128
        if number == signal.SIGKILL:
            if verdict := self.watch.out_of_memory():
                return verdict
            return "crashed", "was killed by the system (SIGKILL), most often for lack of memory"
        if number > 0:
            with suppress(ValueError):
                name = signal.Signals(number).name
                words = f", {_SIGNALS[name]}" if name in _SIGNALS else ""
                return "crashed", f"was ended by {name}{words}"
        return "crashed", f"exited with code {code}"

    # --- messages of the run --------------------------------------------------------------------------------------

    def seconds(self, now: float | None = None) -> float:
        """The clock: seconds since it started, stopped by `done`."""
        if not self.on_processors:
            return self.on_clock(now)
        if self.phase == "training" and (now or time.monotonic()) - self.cpu.read_at > _FRESH_SECONDS:
            self.cpu.read(self.pids(), time.monotonic())
        return self.cpu.used

    def on_clock(self, now: float | None = None) -> float:
        """Seconds by the wall since the clock started, stopped by `done`."""
        return (self.clock_end or now or time.monotonic()) - self.clock

    def read_output(self, chunks: int) -> bool:
        """Read up to `chunks` pieces from the pipe. False when all writers have closed it."""
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
        """Read one packet from the run; an invalid one is ignored. False when the channel is closed."""
        assert self.control is not None
        try:
            if not self.confined:
                return self.receive_listener()
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
            if message.get("type") == "ready" and "params" not in self.reported:
                self.reported["params"] = message.get("params")
                if not self.plain:
                    self.keep_cache()
                if self.spec["hold"] and self.phase == "starting" and not self.released():
                    self.phase = "ready"  # the slot's previous run is still being scored
                    self.write_status()
                else:
                    self.send_data()
            elif message.get("type") == "done" and self.phase == "training":
                self.clock_end = time.monotonic()
                self.cpu.sample(self.pids(), self.clock_end)
                self.phase, self.lost_before = "saving", self.lost
                if self.register:
                    self.register.leave()
                self.reported.update({key: count(message.get(key)) for key in ("steps", "tokens")})
                self.reported["sha256"] = sha256(message.get("sha256"))
                self.write_status()
        return True

    def read_remaining_control(self) -> None:
        """Read the packets that the run sent just before it ended."""
        for _ in range(64):  # its remaining processes may go on sending
            if self.control is None or not select.select([self.control], [], [], 0)[0] or not self.read_control():
                return

    def receive_listener(self) -> bool:
        """The sandbox's packet, sent before any code of the run: the listener of its filter, where there is one."""
        from core.lab.shim.supervisor import SeccompSupervisor

        assert self.control is not None
        packet, listeners, _, _ = socket.recv_fds(self.control, 100, 1)
        self.confined = True
        if listeners:
            places = self.spec["link"], self.spec["private"][1], self.spec["own"]
            self.supervisor = SeccompSupervisor(listeners[0], *places)
            self.poll.register(self.supervisor.fd, select.POLLIN)
        return bool(packet)

    def keep_cache(self) -> None:
        if self.spec["hands_on"]:
            from core.lab.shim.kept_cache import keep

            keep(self.spec["hands_on"], self.folder)

    def released(self) -> bool:
        return os.path.exists(self.path("go"))

    def send_data(self) -> bool:
        """Send the data; the clock starts here. A plain command that asks late keeps its running clock. False when the
        run takes none: it has ended, or closed the channel.
        """
        if self.control is None:
            self.deaf_at = time.monotonic()
            return False
        try:
            fds = open_read_only(list(self.spec["train_files"].values()), self.spec["tier"])
        except OSError as error:
            self.reported["no_data"] = f"could not open the training data: {error.strerror}: {error.filename}"
            return False
        self.take_turn()
        if self.off_clock and not self.spec["beside"]:
            self.off_clock.release(self.pids)
        budget = {key: self.spec[key] for key in ("seconds", "steps") if self.spec[key] is not None}
        message = {"type": "go", "names": list(self.spec["train_files"]), **budget}
        if self.on_processors:
            message["clock"] = "cpu"
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        try:
            self.control.sendmsg([json.dumps(message).encode()], ancillary)
        except OSError:
            self.deaf_at = time.monotonic()
            return False
        finally:
            for fd in fds:
                os.close(fd)
        now = time.monotonic()
        if self.phase in ("starting", "ready") or now - self.started <= self.spec["startup_seconds"]:
            self.clock, self.clock_wall = now, self.time_of_day(now)
            self.cpu.start(self.pids(), now)
            self.start_measuring()
            self.phase, self.lost_before = "training", self.lost
            self.curve.restart()
        self.write_status()
        return True

    # --- files for the engine -------------------------------------------------------------------------------------

    def write_status(self) -> None:
        status = {
            "phase": self.phase, "plain": self.plain, "shim": process_identity(os.getpid()), "job": self.run_identity,
            "now": time.monotonic(), "started": self.started,
            "clock": None if self.phase in ("starting", "ready") else self.clock,
            "clock_started": self.clock_wall, "clock_end": self.clock_end, "budget_seconds": self.spec["seconds"],
            "processor_seconds": self.cpu.used if self.on_processors else None,
            "budget_steps": self.spec["steps"], "params": count(self.reported.get("params")), "step": self.curve.step,
            "loss": self.curve.loss, "tree": self.watch.tree, **self.watch.peaks(),
        }  # fmt: skip
        part = self.path("status.json.part")
        with suppress(OSError):
            with open(part, "w") as file:
                json.dump(status, file)
            os.rename(part, self.path("status.json"))

    def finish(self, ended: str, reason: str) -> None:
        """Kill the tree, read the remaining output, and write the exit file durably."""
        ended_mono = time.monotonic()
        self.names.sample()
        if self.register:
            self.register.leave()
        seconds, on_clock = 0.0, 0.0
        if self.phase not in ("starting", "ready"):
            seconds, on_clock = self.seconds(ended_mono), self.on_clock(ended_mono)
        if self.group is not None:
            self.group.kill()
        all_ended = kill_children(self.child)
        if self.group is not None:
            all_ended &= self.group.end()
        self.git_file.restore()
        if self.spec["plain"]:  # its number is its own word, so nothing is gained by what it could leave there
            self.keep_cache()
        self.read_output(64)  # without writers at most the pipe's own megabyte remains
        self.log.write(self.cleaner.feed(b"", final=True))
        self.curve.close()
        tail = clean(self.log.recent)[-4096:]
        if not all_ended:
            reason = f"{reason} (some of its processes could not be killed)".strip()
        steps = self.reported.get("steps")
        result = {
            "ended": ended, "reason": reason, "exit_code": self.exit_code, "seconds": round(seconds, 4),
            "on_clock": round(on_clock, 4),
            "wall_seconds": round(ended_mono - self.started, 4), "steps": self.curve.step if steps is None else steps,
            "tokens": self.reported.get("tokens"), "params": count(self.reported.get("params")), "log_tail": tail,
            "saving_seconds": round(ended_mono - self.clock_end, 4) if self.clock_end else None,
            "ended_at": self.time_of_day(ended_mono), "clock_started": self.clock_wall,
            "cpu_seconds": round(self.cpu.used, 3) if self.spec.get("cores") else None, "boot_id": boot_id(),
            "weights_sha256": self.reported.get("sha256"), **self.watch.peaks(),
            "share": self.share.share(), "wanted": self.share.wanted(), "before_clock": round(self.cpu.before, 3),
            "new_names": self.names.total, "ahead": self.ahead,
            "kept_processors": self.use.peak if self.use else None,
        }  # fmt: skip
        self.phase = "ended"
        write_exit_file(self.exit_fd, self.path("exit.json.part"), self.path("exit.json"), result)
        self.write_status()


def main() -> None:
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    starter, lock = detach(spec["folder"])
    try:
        shim = Shim(spec, lock)
        shim.start()
    except Exception as error:
        report_start(starter, f"{type(error).__name__}: {error}")
        raise
    report_start(starter, "ok")
    try:
        ended, reason = shim.supervise()
    except Exception as error:  # a fault of the shim: the run must still end, with a result
        ended, reason = "crashed", f"the shim failed: {type(error).__name__}: {error}"
    shim.finish(ended, reason)
    shim.watch.clean_up(shim.gid)
