"""The filters on system calls, as BPF: that of runs in tier B, that of runs in tier A, and that of scoring in both.

A run may do what training needs, and is refused what reaches other processes. A process that runs a model for scoring
may do only what is listed (`one_model_program`): whatever else two processes without a common writable file can signal
by is refused without being known. docs/sandbox.md has the list of those ways.
"""

from __future__ import annotations

import errno
import os
import struct
from _collections_abc import Sequence  # typing and collections take longer than all the rest here

from core.lab.sandbox.call_numbers import call_numbers


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Refused in tier B, where no namespaces confine a run.
_REFUSED = _words(
    "ptrace process_vm_readv process_vm_writev kcmp unshare setns mount umount2 pivot_root chroot perf_event_open bpf "
    "userfaultfd add_key request_key keyctl open_by_handle_at init_module finit_module delete_module kexec_load "
    "kexec_file_load reboot swapon swapoff acct quotactl syslog iopl ioperm settimeofday clock_settime sethostname "
    "setdomainname personality modify_ldt vhangup nfsservctl lookup_dcookie shmget semget msgget mq_open fchown chown "
    "lchown fchownat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr migrate_pages move_pages "
    "memfd_secret name_to_handle_at truncate tkill rt_sigqueueinfo rt_tgsigqueueinfo clone3 pidfd_getfd move_mount "
    "open_tree fsopen fsconfig fsmount fspick mount_setattr openat2 process_mrelease setxattrat removexattrat "
    "file_setattr open_tree_attr quotactl_fd pidfd_send_signal connect bind listen"
)
# Refused in tier A as well: training does not need these calls, and attacks use them.
_UNUSED = _words(
    "add_key request_key keyctl bpf userfaultfd perf_event_open open_by_handle_at syslog kexec_load init_module "
    "finit_module delete_module reboot swapon swapoff acct quotactl lookup_dcookie"
)
# Refused in both: they show or change what the kernel keeps about a file, a page or a user, for every process.
_SIGNALLING = _words(
    "mincore cachestat preadv2 fadvise64 readahead process_madvise inotify_init inotify_init1 inotify_add_watch "
    "fanotify_init fanotify_mark io_setup io_uring_setup io_uring_enter io_uring_register remap_file_pages"
)
# Landlock does not restrict modes, owners and times, and the run has the user's id: it could lock files outside, or
# pass data to the next run in their metadata. These calls do nothing and report success, since programs that copy
# files with modes and times fail on an error. A hint to the page cache may be ignored anyway.
_METADATA = _words("chmod fchmod fchmodat fchmodat2 utime utimes futimesat utimensat")
# Locks of a model that is scored have no effect either: nothing there writes what another process reads.
_NO_EFFECT = (
    *_METADATA,
    *_words("fadvise64 readahead fsync fdatasync msync munlock flock sched_setscheduler sched_setparam sched_setattr"),
)
# Answered with ENOSYS, so that callers use an older call, or do without.
_ABSENT = _words(
    "clone3 openat2 mincore cachestat preadv2 io_uring_setup io_uring_enter io_uring_register io_setup inotify_init "
    "inotify_init1 mbind set_mempolicy get_mempolicy set_robust_list membarrier statfs fstatfs copy_file_range "
    "sendfile memfd_create"
)
_UNSUPPORTED = _words("getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr")  # asked for by what copies files
# ioctls that set a file's flags, version or seal, or the process that a descriptor signals.
_IOCTLS = (0x40086602, 0x40046602, 0x401C5820, 0x40087602, 0x40047602, 0x40086604, 0x40806685, 0x8901, 0x8902)
_OWNERS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
_LINUX_FCNTL = 1024
# Of the commands from 1024 on: those that concern the descriptor alone. The others are leases, which make whoever opens
# the file wait, notifications, the size of pipes, which is counted by user, and hints that are kept with the file.
_OWN_FCNTLS = (1027, 1028, 1030, 1032, 1033, 1034)
_LOCKS = (5, 6, 7, 36, 37, 38)  # F_GETLK, F_SETLK, F_SETLKW, and F_OFD_*
_SET_LOCKS = (6, 7, 37, 38)
# Advice that moves pages of files in or out, or has equal pages of two processes merged.
_ADVICE = (3, 12, 20, 21)  # MADV_WILLNEED, _MERGEABLE, _COLD, _PAGEOUT
_PR_SET_MEMORY_MERGE = 67
_COUNTED_BY_USER = (6, 11, 12)  # RLIMIT_NPROC, _SIGPENDING, _MSGQUEUE: a low one shows what others use
_SIGNALS = ("kill", "tgkill")  # not restricted by Landlock before Linux 6.12
# They can slow another process down: allowed for the own process (pid 0), else without effect, for thread libraries.
_OWN_PROCESS = ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr")
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _NOTIFY, _ERRNO, _KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
_LOAD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _FIRST, _SECOND, _THIRD, _FIFTH = 0, 16, 24, 32, 48  # of the call, and the low halves of its arguments
_DENIED = _ERRNO | errno.EPERM
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _STREAM, _SEQPACKET = 1, 2, 10, 16, 1, 5
_OWN_FAMILIES = (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK)


def seccomp_program(
    machine: str, *, network: bool, supervised: bool = False, cuda: bool = False, scoring: bool = False, own: int = 0
) -> bytes:
    """The filter of a run in tier B, and with `scoring` that of processes that score, on a GPU or several of them.

    Raises OSError for a machine without a system call table here.

    `supervised`: the shim decides each `connect` of a local stream socket, each signal to a process other than `own`,
    and each lock of a file; without it the first two are refused. With `network` there are no local sockets, since the
    run could connect to the engine's or docker's by path. `cuda`: local packet sockets, too, on which the driver
    listens under a name of its own process when it starts, and does not start where it may not; a `connect` finds
    nothing there. With both, the shim is asked at every opening of an existing file for writing: it may be the name of
    a thread, which Landlock can allow to the first process of a run only.
    """
    table, code = _begin(machine)
    local = supervised and not network
    allowed = {"connect", "bind", "listen"} if network or local else {"bind", "listen"} if cuda else set()
    for name in (*_REFUSED, *_METADATA, *_SIGNALLING):
        if name not in table or name in allowed:
            continue
        if cuda and name == "connect":  # to the driver's service, which is then not there; any other answer is an error
            code += _answer(table[name], _ERRNO | errno.ENOENT)
            continue
        code += _refuse(name, table[name])
    code += _when(table["clone"], [_op(_LOAD, _FIRST), _op(_JSET, _NEW_NAMESPACES, 0, 1), _op(_RET, _DENIED)])
    code += _limits(table)
    for name, kind in (("setpriority", 0), ("ioprio_set", 1)):  # the value for a process
        one = [_op(_LOAD, _FIRST), _op(_JEQ, kind, 0, 2), _op(_LOAD, _SECOND), _op(_JEQ, 0, 1, 0), _op(_RET, _DENIED)]
        code += _when(table[name], one)
    for name, kind in (("getpriority", 0), ("ioprio_get", 1)):  # not the value for all processes of a user
        code += _when(table[name], [_op(_LOAD, _FIRST), *_unless((kind,), _DENIED)])
    code += _opening(table, ask=cuda and supervised)
    code += _when(table["ioctl"], [_op(_LOAD, _SECOND), *_if(_IOCTLS, _DENIED)])
    code += _hints(table, _OWNERS, supervised=supervised, scoring=scoring)
    for name in _SIGNALS:  # to the own process; the supervisor decides the others
        code += _when(table[name], [_op(_LOAD, _FIRST), *_unless((own,), _NOTIFY if supervised else _DENIED)])
    if local:
        code += _answer(table["connect"], _NOTIFY)
        code += _when(table["socket"], _local((_STREAM, _SEQPACKET) if cuda else (_STREAM,), _DENIED))
    elif network:
        families = _families((_AF_INET, _AF_INET6, _AF_NETLINK), _DENIED)
        if cuda:
            packets = [_op(_LOAD, _SECOND), _op(_AND, 0xF), _op(_JEQ, _SEQPACKET, len(families), 0)]
            packets += [_op(_RET, _DENIED)]
            families = [families[0], _op(_JEQ, _AF_UNIX, 0, len(packets)), *packets, *families[1:]]
        code += _when(table["socket"], families)
    elif cuda:
        code += _when(table["socket"], _local((_SEQPACKET,), _DENIED))
    else:
        code += _answer(table["socket"], _DENIED)
    if not network:
        # A socket pair of these types cannot be connected to another address.
        code += _when(table["socketpair"], _local((_STREAM, _SEQPACKET), _DENIED))
        code += _when(table["sendto"], _if_given(_FIFTH, _DENIED))
    return b"".join([*code, _op(_RET, _ALLOW)])


def contained_program(machine: str, *, scoring: bool = False) -> bytes:
    """The filter of tier A, whose namespaces confine the rest: that of a run, or with `scoring` that of processes that
    score. `bubblewrap.<machine>.bpf` and `scoring.<machine>.bpf` are its compiled copies.
    """
    table, code = _begin(machine)
    for name in (*_UNUSED, *_SIGNALLING):
        if name in table:
            code += _refuse(name, table[name])
    code += _hints(table, (), scoring=scoring)
    # Only these are confined by a network namespace (vsock reaches the hypervisor from any).
    code += _when(table["socket"], _families(_OWN_FAMILIES, _ERRNO | errno.EAFNOSUPPORT))
    return b"".join([*code, _op(_RET, _ALLOW)])


def locks_program(machine: str) -> bytes:
    """The filter that a run in tier A has in addition: the shim decides each lock of a file."""
    table, code = _begin(machine)
    code += [*_answer(table["flock"], _NOTIFY), *_when(table["fcntl"], [_op(_LOAD, _SECOND), *_if(_LOCKS, _NOTIFY)])]
    return b"".join([*code, _op(_RET, _ALLOW)])


# --- scoring ----------------------------------------------------------------------------------------------------------

# What Python, numpy and torch need to answer with a model on the processor, and what is known to concern the own
# process alone; no look at limits of a user or at other processes. `seccomp` and `sendmsg` are for the filters that the
# model's process sets itself (nanotrain/isolation), which refuse both to the code under test.
_SCORING = _words(
    "read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range dup dup2 dup3 open openat creat "
    "stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getcwd chdir fchdir getdents "
    "getdents64 mkdir mkdirat unlink unlinkat rmdir rename renameat renameat2 link linkat symlink symlinkat ftruncate "
    "fallocate umask mmap munmap mprotect mremap brk poll ppoll select pselect6 pause nanosleep clock_nanosleep "
    "clock_gettime clock_getres gettimeofday time times getrusage getitimer setitimer alarm sched_yield getcpu "
    "sched_get_priority_max sched_get_priority_min rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending "
    "rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall getpid gettid getppid getuid geteuid getgid getegid "
    "getgroups getresuid getresgid getpgrp uname getrlimit getrandom arch_prctl set_tid_address set_thread_area "
    "get_thread_area rseq execve exit exit_group wait4 waitid recvfrom recvmsg getsockname getpeername getsockopt "
    "shutdown epoll_wait epoll_pwait epoll_pwait2 sendmsg seccomp"
)
# What honest code uses while it is loaded. Those filters ask the scorer for each of them, which allows them until rows
# are shown; the room on a disk and the machine's state are made up, and signals reach its own processes. Where nobody
# can be asked, they refuse them from the start.
_LOADING = _words(
    "fork vfork pipe pipe2 socketpair epoll_create epoll_create1 epoll_ctl eventfd eventfd2 memfd_create "
    "setsid setpgid getpgid getsid statfs fstatfs sysinfo"
)
# And where its network is its own (tier A): a free port, a logger that listens.
_LOADING_SOCKETS = _words("socket bind listen connect accept accept4 setsockopt")
_SCORING_FCNTLS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_SCORING_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIO(NREAD|NBIO|(N)CLEX)
_SCORING_ADVICE = (0, 1, 4, 8, 14, 15, 16, 17)  # normal, random, dontneed, free, (no) huge page, (do not) dump
_FUTEX_WAITS, _FUTEX_OPERATION, _FUTEX_PRIVATE = (0, 9), 0x7F, 0x80
_PR_SET_NAME, _PR_GETS = 15, (3, 16, 51, 64)  # PR_GET_DUMPABLE, PR_GET_NAME, PR_SVE_GET_VL, PR_SME_GET_VL


def one_model_program(machine: str, own: int = 0) -> bytes:
    """The filter of one process that runs a model on the processor for scoring, and of its children;
    `one_model.<machine>.bpf` is its compiled copy for tier A. `own`: the process's number, where it shares the numbers
    with others.
    """
    table, code = _begin(machine)
    code += _opening(table, ask=False) if own else _answer(table["truncate"], _ALLOW)
    for name in _SCORING:
        if name in table:
            code += _answer(table[name], _ALLOW)
    clone = [_op(_LOAD, _FIRST), _op(_JSET, _NEW_NAMESPACES, 0, 1), _op(_RET, _DENIED)]
    code += _when(table["clone"], clone)
    code += _when(table["socketpair"], _local((_STREAM, _SEQPACKET), _DENIED))  # no other address can be given
    if not own:
        code += _when(table["socket"], _families(_OWN_FAMILIES, _ERRNO | errno.EAFNOSUPPORT))
    for name in (*_LOADING, *_SIGNALS, *(() if own else _LOADING_SOCKETS)):
        code += _answer(table[name], _ALLOW) if name in table else []
    code += _when(table["sendto"], _if_given(_FIFTH, _DENIED))  # on what it has got while it was loaded
    # A futex that is not private is that of a file's page, for all processes that have mapped it. A thread that waits
    # for another's end asks again until it comes.
    shared = [_op(_LOAD, _SECOND), _op(_JSET, _FUTEX_PRIVATE, 0, 1), _op(_RET, _ALLOW), _op(_AND, _FUTEX_OPERATION)]
    code += _when(table["futex"], [*shared, *_if(_FUTEX_WAITS, _ERRNO | errno.EAGAIN), _op(_RET, _ERRNO)])
    command = [_op(_LOAD, _SECOND), *_without_locks(), *_unless(_SCORING_FCNTLS, _DENIED)]
    code += _when(table["fcntl"], command)
    code += _when(table["ioctl"], [_op(_LOAD, _SECOND), *_unless(_SCORING_IOCTLS, _ERRNO | errno.ENOTTY)])
    code += _when(table["madvise"], [_op(_LOAD, _THIRD), *_unless(_SCORING_ADVICE, _ERRNO)])
    code += _when(table["sched_setaffinity"], [_op(_LOAD, _FIRST), *_unless((0,), _ERRNO)])
    others = [_op(_LOAD, _FIRST), *_unless((0, own), _ERRNO | errno.ESRCH)] if own else []
    code += _when(table["sched_getaffinity"], others)
    for name, answer in (("getpriority", _ALLOW), ("setpriority", _ERRNO)):  # its own
        one = [_op(_LOAD, _FIRST), *_unless((0,), _DENIED), _op(_LOAD, _SECOND), *_unless((0,), _DENIED)]
        code += _when(table[name], [*one, _op(_RET, answer)])
    names = [*_if((_PR_SET_NAME,), _ERRNO), *_unless(_PR_GETS, _ERRNO | errno.EINVAL)]
    code += _when(table["prctl"], [_op(_LOAD, _FIRST), *names])
    code += _own_limits(table)
    for name in dict.fromkeys((*_NO_EFFECT, *_ABSENT, *_UNSUPPORTED)):
        if name in table:
            code += _refuse(name, table[name])
    return b"".join([*code, _op(_RET, _DENIED)])


# --- parts ------------------------------------------------------------------------------------------------------------


def _begin(machine: str) -> tuple[dict[str, int], list[bytes]]:
    """(system call table, begin of a filter, which loads the number of the call). Raises OSError."""
    if machine not in _AUDIT:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}")
    code = [_op(_LOAD, 4), _op(_JEQ, _AUDIT[machine], 1, 0), _op(_RET, _KILL), _op(_LOAD, _NUMBER)]
    if machine == "x86_64":  # x32 calls, which bypass all numbers below
        code += [_op(_JGE, 0x40000000, 0, 1), _op(_RET, _DENIED)]
    return call_numbers(machine), code


def _own_limits(table: dict[str, int]) -> list[bytes]:
    counted = [_op(_LOAD, _SECOND), *_unless(_COUNTED_BY_USER, _ALLOW), *_if_given(_THIRD, _DENIED)]
    return [
        *_when(table["prlimit64"], [_op(_LOAD, _FIRST), *_unless((0,), _DENIED), *counted]),
        *_when(table["setrlimit"], [_op(_LOAD, _FIRST), *_if(_COUNTED_BY_USER, _DENIED)]),
    ]


def _limits(table: dict[str, int]) -> list[bytes]:
    """Limits and priorities of other processes may not be changed; pid 0 is the caller. Limits that count all processes
    of a user may not be set at all.
    """
    code = _own_limits(table)
    for name in _OWN_PROCESS:
        code += _when(table[name], [_op(_LOAD, _FIRST), *_unless((0,), _ERRNO)])
    return code


def _opening(table: dict[str, int], *, ask: bool) -> list[bytes]:
    """Landlock before Linux 6.2 allows truncating a file that is granted read-only."""
    code = []
    for name, flags in (("open", _SECOND), ("openat", _THIRD)):
        if name in table:
            emptied = [_op(_JSET, os.O_TRUNC, 0, 1), _op(_RET, _DENIED)]
            named = [_op(_JSET, os.O_CREAT, 1 + len(emptied), 0), _op(_RET, _NOTIFY)] if ask else []
            written = _op(_JSET, os.O_ACCMODE, 0 if named else len(emptied), len(named))
            code += _when(table[name], [_op(_LOAD, flags), written, *named, *emptied])
    return code


def _hints(
    table: dict[str, int], refused: Sequence[int], *, supervised: bool = False, scoring: bool = False
) -> list[bytes]:
    """Locks and hints. In a run the shim decides each lock, where there is one; in scoring they have no effect.

    `refused`: more commands of `fcntl`.
    """
    code, command = [], [_op(_LOAD, _SECOND)]
    if supervised:
        code, command = _answer(table["flock"], _NOTIFY), [*command, *_if(_LOCKS, _NOTIFY)]
    elif scoring:
        code, command = _refuse("flock", table["flock"]), [*command, *_without_locks()]
    later = [_op(_JGE, _LINUX_FCNTL, 1, 0), _op(_RET, _ALLOW), *_unless(_OWN_FCNTLS, _DENIED)]
    return [
        *code,
        *_when(table["fcntl"], [*command, *_if(refused, _DENIED), *later]),
        *_when(table["madvise"], [_op(_LOAD, _THIRD), *_if(_ADVICE, _ERRNO)]),
        *_when(table["prctl"], [_op(_LOAD, _FIRST), *_if((_PR_SET_MEMORY_MERGE,), _ERRNO | errno.EINVAL)]),
    ]


def _without_locks() -> list[bytes]:
    """Of the loaded commands of `fcntl`, those that set a lock do nothing; those that ask about one are refused."""
    return [*_if(_SET_LOCKS, _ERRNO), *_if(_LOCKS, _DENIED)]


def _families(allowed: Sequence[int], otherwise: int) -> list[bytes]:
    """For `socket`: allow these families."""
    return [_op(_LOAD, _FIRST), *_unless(allowed, otherwise)]


def _local(kinds: Sequence[int], otherwise: int) -> list[bytes]:
    """For `socket` and `socketpair`: allow local sockets of these kinds."""
    kind = [_op(_LOAD, _SECOND), _op(_AND, 0xF), *_unless(kinds, otherwise)]
    return [_op(_LOAD, _FIRST), *_unless((_AF_UNIX,), otherwise), *kind]


def _if(values: Sequence[int], answer: int) -> list[bytes]:
    """Answer a call whose loaded argument is one of these."""
    last = len(values) - 1
    found = [_op(_JEQ, value, last - place, int(place == last)) for place, value in enumerate(values)]
    return [*found, _op(_RET, answer)] if values else []


def _unless(values: Sequence[int], answer: int) -> list[bytes]:
    """Answer a call whose loaded argument is none of these."""
    return [*(_op(_JEQ, value, len(values) - place, 0) for place, value in enumerate(values)), _op(_RET, answer)]


def _if_given(argument: int, answer: int) -> list[bytes]:
    """Answer a call of which this argument, a pointer, is not null."""
    return [_op(_LOAD, argument), _op(_JEQ, 0, 0, 2), _op(_LOAD, argument + 4), _op(_JEQ, 0, 1, 0), _op(_RET, answer)]


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _refuse(name: str, number: int) -> list[bytes]:
    known = {_ABSENT: errno.ENOSYS, _NO_EFFECT: 0, _UNSUPPORTED: errno.ENOTSUP}
    return _answer(number, _ERRNO | next((code for names, code in known.items() if name in names), errno.EPERM))


def _answer(number: int, answer: int) -> list[bytes]:
    return [_op(_JEQ, number, 0, 1), _op(_RET, answer)]


def _when(number: int, body: Sequence[bytes]) -> list[bytes]:
    """`body` for one system call, then allow: `body` may have replaced the call's number in the accumulator."""
    return [_op(_JEQ, number, 0, len(body) + 1), *body, _op(_RET, _ALLOW)]
