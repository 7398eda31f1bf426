"""Tier B of the sandbox: Landlock rules, seccomp filter, no capabilities.

The process restricts itself, then executes the command: `RULES ARGV…`, where RULES is a Python literal made by
`core.lab.sandbox.tiers`. Landlock restricts files (and, by kernel version, TCP, signals and abstract sockets), seccomp
refuses calls that Landlock does not cover (sockets, ptrace, namespaces …), and capabilities are dropped for good.
An error ends the process before the command starts.

With `supervised` in RULES, the shim decides each `connect`, `kill` and lock of the run (`core/lab/shim/supervisor.py`):
it gets the filter's listener in the first packet on the control channel. In tier A, whose RULES are `contained`, a run
passes here for that alone, before bubblewrap starts. Where a model is scored (`one_model`), the process has a folder of
its own, AUTORESEARCH_SCRATCH, with files that stand for those of /proc.

Started with `-I -S` before every run, so it loads very little of the standard library.
"""
# pathlib costs as much as the rest of the start:
# ruff: noqa: PTH112, PTH114, PTH118, PTH208

from __future__ import annotations

import _socket  # the module around it takes longer than all the rest here
import ctypes
import errno
import os
import struct
import sys
from _collections_abc import Sequence  # as above

from core.lab.sandbox import call_filter
from core.lab.sandbox.call_numbers import call_numbers

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def _call(number: int, *args: int | bytes | None) -> int:
    """A system call by number; each integer argument fills a whole register."""
    return int(libc.syscall(number, *(ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args)))


# --- Landlock ---------------------------------------------------------------------------------------------------------

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (
    1 << bit for bit in range(4, 13)
)
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
CHANGE = REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER
WRITE = READ | WRITE_FILE | TRUNCATE | CHANGE
DEVICE = READ_FILE | WRITE_FILE | TRUNCATE | READ_DIR | IOCTL_DEV
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 without Landlock."""
    return max(0, _call(_CREATE, None, 0, 1))


class Landlock:
    """A ruleset under construction."""

    def __init__(self, *, network: bool) -> None:
        self.abi = landlock_abi()
        if self.abi < 1:
            raise OSError(errno.ENOSYS, "this kernel has no Landlock, or it is not enabled")
        self.handled = (1 << 13 + (self.abi >= 2) + (self.abi >= 3) + (self.abi >= 5)) - 1
        net = 0 if network or self.abi < 4 else 3  # bind and connect
        scoped = 3 if self.abi >= 6 else 0  # abstract sockets and signals
        size = 8 if self.abi < 4 else 16 if self.abi < 6 else 24
        attributes = struct.pack("QQQ", self.handled, net, scoped)[:size]
        self.fd = _checked(_call(_CREATE, attributes, size, 0), "create a Landlock ruleset")

    def grant(self, path: str, rights: int) -> None:
        """Grant rights on a path and all below it; a missing path is skipped."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if not os.path.isdir(path):
                rights &= _FILE_RIGHTS
            if rights := rights & self.handled:
                rule = struct.pack("=Qi", rights, fd)
                _checked(_call(_ADD, self.fd, 1, rule, 0), f"grant {path}")
        finally:
            os.close(fd)

    def enforce(self) -> None:
        _checked(_call(_RESTRICT, self.fd, 0), "enforce the Landlock ruleset")
        os.close(self.fd)


def carve(root: str, hidden: Sequence[str]) -> tuple[list[str], list[str]]:
    """(folders to list only, paths to grant in full) that together cover `root` without the hidden paths in it.

    Landlock has no deny rules, so the siblings of a hidden path are granted instead of their folder.
    """
    if any(root == path or root.startswith(path.rstrip("/") + "/") for path in hidden):
        return [], []
    inside = [path for path in hidden if path.startswith(root.rstrip("/") + "/")]
    if not inside:
        return [], [root]
    listed, granted = [root], []
    try:
        names = os.listdir(root)
    except OSError:
        return [], []
    for name in names:
        path = os.path.join(root, name)
        if os.path.islink(path):
            continue  # its target is granted by its own path, or not at all
        more_listed, more_granted = carve(path, inside)
        listed += more_listed
        granted += more_granted
    return listed, granted


def restrict_files(rules: dict[str, list[str]], *, network: bool, cuda: bool) -> None:
    """Enforce the Landlock rules for good."""
    land = Landlock(network=network)
    hidden = rules["hidden"]
    for paths, rights in ((rules["read"], READ), (rules["write"], WRITE)):
        for path in paths:
            listed, granted = carve(os.path.realpath(path), hidden)
            for folder in listed:
                land.grant(folder, READ_DIR)
            for one in granted:
                land.grant(one, rights)
    # What is the process's own: the rest, and its network's state, changes with what other processes do.
    for path in rules["own"]:
        for one in carve(path.replace("self", str(os.getpid())), ())[1]:
            land.grant(one, READ)
    if rules["scratch"] and (scratch := os.environ.get("AUTORESEARCH_SCRATCH")):
        land.grant(scratch, WRITE)
    for path in rules["devices"]:
        land.grant(path, WRITE if path == "/dev/shm" else DEVICE)
    if cuda:  # it names its threads when it starts, and a refusal is an error of the driver to it (304)
        land.grant(f"/proc/{os.getpid()}/task", READ_DIR | READ_FILE | WRITE_FILE | TRUNCATE)
    land.grant("/dev", READ_DIR)
    land.enforce()


# --- capabilities -----------------------------------------------------------------------------------------------------

_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 28, 38, 47


def make_up(files: dict[str, str]) -> None:
    """Write files that stand for those of /proc below the process's own folder, where it has one."""
    scratch = os.environ.get("AUTORESEARCH_SCRATCH")
    for path, text in files.items() if scratch else ():
        path = f"{scratch}{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - loads less
        with open(path, "w") as file:  # noqa: PTH123
            file.write(text)


def drop_capabilities() -> None:
    """Drop all capabilities, also those that root would get back at the next exec."""
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs")
    libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    libc.prctl(_PR_SET_SECUREBITS, 0b101111, 0, 0, 0)  # noroot and others, locked; needs CAP_SETPCAP: root only
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("Ii", 0x20080522, 0)
    _checked(libc.capset(header, bytes(24)), "drop capabilities")


# --- seccomp ----------------------------------------------------------------------------------------------------------

_SECCOMP_SET_FILTER, _NEW_LISTENER = 1, 8


def restrict_calls(rules: dict[str, bool], channel: int | None = None) -> None:
    """Enforce the filter for good. `channel`: a socket to the supervisor, which gets the listener."""
    machine, supervised = os.uname().machine, channel is not None
    if rules["contained"]:
        code = call_filter.locks_program(machine)
    elif rules["one_model"]:
        code = call_filter.one_model_program(machine, own=os.getpid())
    else:
        code = call_filter.seccomp_program(
            machine, network=rules["network"], supervised=supervised, cuda=rules["cuda"], scoring=rules["scoring"],
            own=os.getpid(),
        )  # fmt: skip
    if channel is None:
        return set_filter(code)
    program = _filter(code)
    number = call_numbers(machine)["seccomp"]
    listener = _call(number, _SECCOMP_SET_FILTER, _NEW_LISTENER, ctypes.addressof(program[0]))
    if listener >= 0:
        _send_listener(channel, listener)
        os.close(listener)
        return None
    _send_listener(channel, None)  # the process already has a supervisor, or the kernel is too old
    return None if rules["contained"] else restrict_calls(rules)


def set_filter(code: bytes) -> None:
    """Enforce a filter on system calls for good."""
    program = _filter(code)
    _checked(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(program[0]), 0, 0), "enforce the system call filter")


def _filter(code: bytes) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    """A filter in the kernel's format: header, and the code that it points to."""
    program = ctypes.create_string_buffer(code)
    return ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(program))), program


def _send_listener(channel: int, listener: int | None) -> None:
    """Send the first packet on the control channel, with the listener where there is one."""
    link = _socket.socket(fileno=os.dup(channel))
    rights = [] if listener is None else [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", listener))]
    link.sendmsg([b'{"type": "confined"}'], rights)
    link.close()


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")
    return int(result)


def main() -> None:
    rules = eval(sys.argv[1], {"__builtins__": {}})  # the harness's repr; json would take 7 ms
    argv = sys.argv[2:]
    channel = os.environ.get("AUTORESEARCH_CONTROL_FD", "") if rules["supervised"] else ""
    try:
        if rules["contained"]:
            _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs")
        else:
            make_up(rules["made_up"])
            drop_capabilities()
            restrict_files(rules, network=rules["network"], cuda=rules["cuda"])
        if channel or not rules["contained"]:
            restrict_calls(rules, int(channel) if channel else None)
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"sandbox: {argv[0]}: {error.strerror or error}\n")
        os._exit(126)
