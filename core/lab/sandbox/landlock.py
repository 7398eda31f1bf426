"""Tier B of the sandbox: Landlock rules, seccomp filter, no capabilities; and the seccomp filter of tier A.

The process restricts itself, then executes the command: `RULES ARGV…`, where RULES is a Python literal made by
`core.lab.sandbox.tiers`. Landlock restricts files (and, by kernel version, TCP, signals and abstract sockets), seccomp
refuses calls that Landlock does not cover (sockets, ptrace, namespaces …), and capabilities are dropped for good.
An error ends the process before the command starts.

With `supervised` in RULES, the shim decides each `connect` and `kill` of the run (`core/lab/shim/supervisor.py`): it
gets the filter's listener in the first packet on the control channel.

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
    for path in rules["devices"]:
        land.grant(path, WRITE if path == "/dev/shm" else DEVICE)
    if cuda:  # it names its threads when it starts, and a refusal is an error of the driver to it (304)
        land.grant(f"/proc/{os.getpid()}/task", READ_DIR | READ_FILE | WRITE_FILE | TRUNCATE)
    land.grant("/dev", READ_DIR)
    land.enforce()


# --- capabilities -----------------------------------------------------------------------------------------------------

_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 22, 24, 28, 38, 47


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

_X86 = {
    "socket": 41, "connect": 42, "bind": 49, "listen": 50, "socketpair": 53, "sendto": 44, "clone": 56, "ptrace": 101,
    "prlimit64": 302, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "unshare": 272, "setns": 308,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "perf_event_open": 298, "bpf": 321,
    "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250, "open_by_handle_at": 304,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320,
    "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179, "syslog": 103, "iopl": 172,
    "ioperm": 173, "settimeofday": 164, "clock_settime": 227, "sethostname": 170, "setdomainname": 171,
    "personality": 135, "modify_ldt": 154, "vhangup": 153, "nfsservctl": 180, "lookup_dcookie": 212,
    "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "seccomp": 317,
    "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
    "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280, "setxattr": 188, "lsetxattr": 189,
    "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "setpriority": 141,
    "ioprio_set": 251, "sched_setaffinity": 203, "sched_setscheduler": 144, "sched_setparam": 142, "sched_setattr": 314,
    "inotify_add_watch": 254, "fanotify_init": 300, "migrate_pages": 256, "move_pages": 279, "memfd_secret": 447,
    "name_to_handle_at": 303, "truncate": 76, "open": 2, "openat": 257, "ioctl": 16,
    "mincore": 27, "fadvise64": 221, "preadv2": 327,
    "fcntl": 72, "kill": 62, "tgkill": 234, "tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
}  # fmt: skip
_ARM = {
    "socket": 198, "connect": 203, "bind": 200, "listen": 201, "socketpair": 199, "sendto": 206, "clone": 220,
    "ptrace": 117, "prlimit64": 261, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "unshare": 97,
    "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "perf_event_open": 241, "bpf": 280,
    "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219, "open_by_handle_at": 265,
    "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294,
    "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89, "quotactl": 60, "syslog": 116, "settimeofday": 170,
    "clock_settime": 112, "sethostname": 161, "setdomainname": 162, "personality": 92, "vhangup": 58,
    "nfsservctl": 42, "lookup_dcookie": 18, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180,
    "seccomp": 277, "fchmod": 52, "fchmodat": 53, "fchown": 55, "fchownat": 54, "utimensat": 88, "setxattr": 5,
    "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "setpriority": 140,
    "ioprio_set": 30, "sched_setaffinity": 122, "sched_setscheduler": 119, "sched_setparam": 118, "sched_setattr": 274,
    "inotify_add_watch": 27, "fanotify_init": 262, "migrate_pages": 238, "move_pages": 239, "memfd_secret": 447,
    "mincore": 232, "fadvise64": 223, "preadv2": 286,
    "name_to_handle_at": 264, "truncate": 45, "openat": 56, "ioctl": 29, "fcntl": 25, "kill": 129,
    "tgkill": 131, "tkill": 130, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
}  # fmt: skip
# Numbers of calls since 2019 are the same on every architecture.
_COMMON = {
    "clone3": 435, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "pidfd_getfd": 438,
    "process_madvise": 440, "move_mount": 429, "open_tree": 428, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "mount_setattr": 442, "openat2": 437, "process_mrelease": 448, "fchmodat2": 452, "setxattrat": 463,
    "removexattrat": 466, "file_setattr": 469, "open_tree_attr": 467, "quotactl_fd": 443,
    "pidfd_send_signal": 424, "cachestat": 451,
}  # fmt: skip
# Landlock does not restrict modes, owners and times, and the run has the user's id: it could lock files outside, or
# pass data to the next run in their metadata. These calls do nothing and report success, since programs that copy
# files with modes and times fail on an error.
_NO_EFFECT = ("chmod", "fchmod", "fchmodat", "fchmodat2", "utime", "utimes", "futimesat", "utimensat", "fadvise64")
# Covert channel through the page cache, about 80,000 characters/s between runs that can read the same file: these
# calls show, and by their side effects change, which of its pages are in memory. (Without preadv2 callers use preadv.)
_PAGE_CACHE = ("mincore", "cachestat", "preadv2")
# ioctls that set a file's flags or version, or the process that a descriptor signals.
_IOCTLS = (0x40086602, 0x40046602, 0x401C5820, 0x40087602, 0x40047602, 0x40086604, 0x8901, 0x8902)
_FCNTLS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
_SIGNALS = ("kill", "tgkill")  # not restricted by Landlock before Linux 6.12
# They can slow another process down: allowed for the own process (pid 0), else without effect, for thread libraries.
_OWN_PROCESS = ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr")
# Answered with ENOSYS, so that callers use an older call.
_ABSENT = ("clone3", "openat2", *_PAGE_CACHE, "io_uring_setup", "io_uring_enter", "io_uring_register")
_NETWORK = ("connect", "bind", "listen")
_LISTEN = ("bind", "listen")
_CONDITIONAL = ("socket", "socketpair", "sendto", "clone", "prlimit64", "seccomp", "setpriority", "ioprio_set",
                "open", "openat", "ioctl", "fcntl", *_SIGNALS, *_OWN_PROCESS)  # fmt: skip
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _NOTIFY, _ERRNO, _KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
_LOAD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*
_SECCOMP_SET_FILTER, _NEW_LISTENER = 1, 8
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _STREAM, _SEQPACKET = 1, 2, 10, 16, 1, 5


def seccomp_program(
    machine: str, *, network: bool, supervised: bool = False, cuda: bool = False, own: int = 0
) -> bytes:
    """The filter of tier B as BPF. Raises OSError for a machine without a system call table here.

    `supervised`: the shim decides each `connect` of a local stream socket and each signal to a process other than
    `own`; without it both are refused. With `network` there are no local sockets, since the run could connect to the
    engine's or docker's by path. `cuda`: local packet sockets, too, on which the driver listens under a name of its
    own process when it starts, and does not start where it may not; a `connect` finds nothing there. With both, the
    shim is asked at every opening of an existing file for writing: it may be the name of a thread, which Landlock can
    allow to the first process of a run only.
    """
    table, code = _begin(machine)
    denied = _ERRNO | errno.EPERM
    local = supervised and not network
    for name, number in table.items():
        if name in _CONDITIONAL or ((network or local) and name in _NETWORK):
            continue
        if cuda and name in _LISTEN:
            continue
        if cuda and name == "connect":  # to the driver's service, which is then not there; any other answer is an error
            code += [_op(_JEQ, number, 0, 1), _op(_RET, _ERRNO | errno.ENOENT)]
            continue
        code += _refuse(name, number)
    code += _when(table["clone"], [_op(_LOAD, 16), _op(_JSET, _NEW_NAMESPACES, 0, 1), _op(_RET, denied)])
    # Limits and priorities of other processes may not be changed; pid 0 is the caller.
    for name in ("prlimit64", *_OWN_PROCESS):
        otherwise = denied if name == "prlimit64" else _ERRNO
        code += _when(table[name], [_op(_LOAD, 16), _op(_JEQ, 0, 1, 0), _op(_RET, otherwise)])
    for name, kind in (("setpriority", 0), ("ioprio_set", 1)):  # the value for a process
        one = [_op(_LOAD, 16), _op(_JEQ, kind, 0, 2), _op(_LOAD, 24), _op(_JEQ, 0, 1, 0), _op(_RET, denied)]
        code += _when(table[name], one)
    # Landlock before Linux 6.2 allows truncating a file that is granted read-only.
    for name, flags in (("open", 24), ("openat", 32)):
        if name in table:
            emptied = [_op(_JSET, os.O_TRUNC, 0, 1), _op(_RET, denied)]
            named = [_op(_JSET, os.O_CREAT, 1 + len(emptied), 0), _op(_RET, _NOTIFY)] if cuda and supervised else []
            written = _op(_JSET, os.O_ACCMODE, 0 if named else len(emptied), len(named))
            code += _when(table[name], [_op(_LOAD, flags), written, *named, *emptied])
    for name, commands in (("ioctl", _IOCTLS), ("fcntl", _FCNTLS)):
        called = [_op(_JEQ, number, len(commands) - place, 0) for place, number in enumerate(commands)]
        code += _when(table[name], [_op(_LOAD, 24), *called, _op(_RET, _ALLOW), _op(_RET, denied)])
    for name in _SIGNALS:  # to the own process; the supervisor decides the others
        code += _when(table[name], [_op(_LOAD, 16), _op(_JEQ, own, 1, 0), _op(_RET, _NOTIFY if supervised else denied)])
    if local:
        code += [_op(_JEQ, table["connect"], 0, 1), _op(_RET, _NOTIFY)]
        code += _when(table["socket"], _local((_STREAM, _SEQPACKET) if cuda else (_STREAM,), denied))
    elif network:
        families = _families((_AF_INET, _AF_INET6, _AF_NETLINK), denied)
        if cuda:
            packets = [_op(_LOAD, 24), _op(_AND, 0xF), _op(_JEQ, _SEQPACKET, len(families), 0), _op(_RET, denied)]
            families = [families[0], _op(_JEQ, _AF_UNIX, 0, len(packets)), *packets, *families[1:]]
        code += _when(table["socket"], families)
    elif cuda:
        code += _when(table["socket"], _local((_SEQPACKET,), denied))
    else:
        code += [_op(_JEQ, table["socket"], 0, 1), _op(_RET, denied)]
    if not network:
        # A socket pair of these types cannot be connected to another address.
        code += _when(table["socketpair"], _local((_STREAM, _SEQPACKET), denied))
        named = [_op(_LOAD, 48), _op(_JEQ, 0, 0, 2), _op(_LOAD, 52), _op(_JEQ, 0, 1, 0), _op(_RET, denied)]
        code += _when(table["sendto"], named)
    return b"".join([*code, _op(_RET, _ALLOW)])


def _begin(machine: str) -> tuple[dict[str, int], list[bytes]]:
    """(system call table, begin of a filter, which loads the number of the call). Raises OSError."""
    if machine not in _AUDIT:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}")
    code = [_op(_LOAD, 4), _op(_JEQ, _AUDIT[machine], 1, 0), _op(_RET, _KILL), _op(_LOAD, 0)]
    if machine == "x86_64":  # x32 calls, which bypass all numbers below
        code += [_op(_JGE, 0x40000000, 0, 1), _op(_RET, _ERRNO | errno.EPERM)]
    return {**(_X86 if machine == "x86_64" else _ARM), **_COMMON}, code


def _families(allowed: Sequence[int], otherwise: int) -> list[bytes]:
    """For `socket`: allow these families."""
    found = [_op(_JEQ, family, len(allowed) - place, 0) for place, family in enumerate(allowed)]
    return [_op(_LOAD, 16), *found, _op(_RET, otherwise)]


def _local(kinds: Sequence[int], otherwise: int) -> list[bytes]:
    """For `socket` and `socketpair`: allow local sockets of these kinds."""
    found = [_op(_JEQ, kind, len(kinds) - place, 0) for place, kind in enumerate(kinds)]
    head = [_op(_LOAD, 16), _op(_JEQ, _AF_UNIX, 0, 2 + len(kinds)), _op(_LOAD, 24), _op(_AND, 0xF)]
    return [*head, *found, _op(_RET, otherwise)]


# Namespaces confine the rest in tier A. Training does not need these calls, and attacks use them.
_UNUSED = ("add_key", "request_key", "keyctl", "bpf", "userfaultfd", "perf_event_open", "open_by_handle_at", "syslog",
           "io_uring_setup", "io_uring_enter", "io_uring_register", "kexec_load", "init_module", "finit_module",
           "delete_module", "reboot", "swapon", "swapoff", "acct", "quotactl", "lookup_dcookie", "fadvise64",
           *_PAGE_CACHE)  # fmt: skip


def contained_program(machine: str) -> bytes:
    """The filter of tier A as BPF; `bubblewrap.<machine>.bpf` in this folder is its compiled copy."""
    table, code = _begin(machine)
    for name in _UNUSED:
        code += _refuse(name, table[name])
    # Only these are confined by a network namespace (vsock reaches the hypervisor from any).
    families = (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)
    code += _when(table["socket"], _families(families, _ERRNO | errno.EAFNOSUPPORT))
    return b"".join([*code, _op(_RET, _ALLOW)])


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _refuse(name: str, number: int) -> list[bytes]:
    answer = _ERRNO | (errno.ENOSYS if name in _ABSENT else 0 if name in _NO_EFFECT else errno.EPERM)
    return [_op(_JEQ, number, 0, 1), _op(_RET, answer)]


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """`body` for one system call, then allow: `body` may have replaced the call's number in the accumulator."""
    return [_op(_JEQ, number, 0, len(body) + 1), *body, _op(_RET, _ALLOW)]


def restrict_calls(*, network: bool, cuda: bool, channel: int | None = None) -> None:
    """Enforce the filter for good. `channel`: a socket to the supervisor, which gets the listener."""
    machine, supervised = os.uname().machine, channel is not None
    code = seccomp_program(machine, network=network, supervised=supervised, cuda=cuda, own=os.getpid())
    program = _filter(code)
    if channel is None:
        _checked(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(program[0]), 0, 0), "enforce the system call filter")
        return
    number = (_X86 if machine == "x86_64" else _ARM)["seccomp"]
    listener = _call(number, _SECCOMP_SET_FILTER, _NEW_LISTENER, ctypes.addressof(program[0]))
    if listener < 0:  # the process already has a supervisor, or the kernel is too old
        _send_listener(channel, None)
        restrict_calls(network=network, cuda=cuda)
    else:
        _send_listener(channel, listener)
        os.close(listener)


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
    try:
        drop_capabilities()
        restrict_files(rules, network=rules["network"], cuda=rules["cuda"])
        channel = os.environ.get("AUTORESEARCH_CONTROL_FD", "") if rules["supervised"] else ""
        restrict_calls(network=rules["network"], cuda=rules["cuda"], channel=int(channel) if channel else None)
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"sandbox: {argv[0]}: {error.strerror or error}\n")
        os._exit(126)
