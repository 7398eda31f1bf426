"""Control groups (version 2) that the engine may make: where, with which limits, or why none and what would help.

A group for each run, scoring process and coding agent (`core/lab/shim/group/cgroup.py`) lies beside the engine's own: a
group whose processes have limits holds no processes of its own, so that the engine, and all that is with it in a group
that systemd has delegated or that is a container's, moves into a group below. Nothing is done to anybody else's group.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import invocation
from core.lab import container
from core.lab.shim.group.cgroup import ControlGroup, remove_abandoned

OWN = "harness"  # the group into which the engine moves
CONTROLLERS = ("memory", "pids")
SYSTEMD = Path("/run/systemd/system")
_NEEDED = ("cgroup.kill", "cgroup.freeze", "cpu.stat")  # since Linux 5.14


@dataclass(frozen=True, slots=True)
class Delegation:
    """`base`: the folder in which groups are made, "" without any; `limits`: the controllers that they have.

    `why`: why there is none, or not all of it; `hint`: the command that would help, where there is one.
    """

    base: str
    limits: tuple[str, ...] = ()
    why: str = ""
    hint: str = ""

    def sentence(self) -> str:
        """For `doctor`: what is used, and why not the other."""
        if not self.base:
            return f"not used: {self.why}; processes are found by their parents, and read a few times a second"
        held = [word for name, word in (("memory", "memory"), ("pids", "number")) if name in self.limits]
        kernel = ", ".join(["processor time", *held, "freeze and end"])
        rest = f"; {self.why}: the other limits are looked at a few times a second" if self.why else ""
        return f"version 2 in {self.base}: {kernel} of runs, scoring and coding agents are the kernel's{rest}"


@functools.cache
def delegation() -> Delegation:
    """What holds here, tried once for each process; groups that killed engines left are ended. Takes milliseconds."""
    found = examine()
    if found.base:
        remove_abandoned(found.base)
    return found


def examine(root: Path = Path("/"), systemd: Path = SYSTEMD) -> Delegation:
    """The same without memory of it. `root`: of /proc and /sys."""
    group = container.own_group(root)
    if group is None:
        return Delegation("", why="control groups of version 2 are not mounted")
    if group.name == OWN and os.access(group.parent, os.W_OK):
        return _tried(group.parent, _enabled(group.parent))
    if not os.access(group, os.W_OK) or not os.access(group / "cgroup.procs", os.W_OK):
        return Delegation("", why=f"{group} cannot be written", hint=_hint(systemd))
    outermost = not (group / "cgroup.type").exists()
    if systemd.is_dir() and not outermost and not _is_delegated(group):
        return Delegation("", why=f"systemd has not delegated {group.name}", hint=_hint(systemd))
    if not outermost and (unfit := _unfit(group)):
        return Delegation("", why=unfit)
    return _tried(group, _enabled(group) if _take(group, outermost) else ())


def _unfit(group: Path) -> str:
    """Why a group cannot be used as it is; or ""."""
    if missing := [name for name in _NEEDED if not (group / name).exists()]:
        return f"this kernel has no {', '.join(missing)} (Linux 5.14)"
    kind = " ".join(_words(group / "cgroup.type"))
    return "" if kind == "domain" else f"{group} is a group of threads ({kind})"


def _hint(systemd: Path) -> str:
    """The command that starts the program in a group that is delegated to it."""
    if not systemd.is_dir() or not shutil.which("systemd-run"):
        return ""
    user = "" if os.geteuid() == 0 else "--user "
    return f"systemd-run {user}--scope -p Delegate=yes {invocation.call()}"


def _is_delegated(group: Path) -> bool:
    """Whether systemd has given the group, or one around it, to the processes in it."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            return os.getxattr(group, name) == b"1"
    scope = ["--user"] if "/user@" in str(group) else []
    command = ["systemctl", *scope, "show", "--property=Delegate", "--value", group.name]
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
        return done.stdout.strip() == "yes"
    return False


def _take(group: Path, outermost: bool) -> bool:
    """Enable the controllers for groups in `group`; its processes move to a group below, but in the outermost one."""
    there = _words(group / "cgroup.controllers")
    wanted = [name for name in CONTROLLERS if name in there and name not in _words(group / "cgroup.subtree_control")]
    if not wanted:
        return True
    try:
        if not outermost:
            own = group / OWN
            own.mkdir(exist_ok=True)
            for _ in range(20):  # they may start others meanwhile
                pids = _words(group / "cgroup.procs")
                if "0" in pids or not pids:  # 0 is one that cannot be seen from here
                    break
                for pid in pids:
                    _move(own, pid)
        for name in wanted:
            (group / "cgroup.subtree_control").write_text(f"+{name}")
    except OSError:
        return False
    return True


def _move(group: Path, pid: str) -> None:
    try:
        (group / "cgroup.procs").write_text(pid)
    except OSError as error:
        if error.errno != errno.ESRCH:  # it has ended
            raise


def _enabled(group: Path) -> tuple[str, ...]:
    return tuple(name for name in CONTROLLERS if name in _words(group / "cgroup.subtree_control"))


def _tried(base: Path, limits: tuple[str, ...]) -> Delegation:
    """The delegation if a group can be made there, entered and ended."""
    group = ControlGroup.make(str(base))
    if group is None:
        return Delegation("", why=f"no group can be made in {base}")
    try:
        if unfit := _unfit(Path(group.path)):
            return Delegation("", why=unfit)
        command = ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"', group.path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        if done.returncode or group.cpu_seconds() is None:
            lines = done.stderr.strip().splitlines()
            return Delegation("", why=f"no process can enter a group in {base}: {lines[-1] if lines else 'no word'}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Delegation("", why=f"a group in {base} cannot be used: {error}")
    finally:
        group.end(1.0)
    missing = [name for name in CONTROLLERS if name not in limits]
    why = f"no {' and no '.join(missing)} controller there" if missing else ""
    return Delegation(str(base), limits, why)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
