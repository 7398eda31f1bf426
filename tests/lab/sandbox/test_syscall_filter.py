"""The filters on system calls, interpreted in Python, so that each architecture is tested on any machine."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from core.lab.sandbox import call_filter
from core.lab.sandbox.call_numbers import call_numbers
from nanotrain.isolation.asked_calls import asking_program, refusing_program


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("network", [True, False])
def test_the_filter_is_correct_for_every_architecture(machine: str, network: bool) -> None:
    """The answers equal those of the call table on each architecture."""
    program = call_filter.seccomp_program(machine, network=network, own=99)
    table = call_numbers(machine)

    def ask(name: str | int, *args: int) -> int:
        number = table[name] if isinstance(name, str) else name
        return interpret(program, number, call_filter._AUDIT[machine], args)

    allow, refuse = 0x7FFF0000, 0x00050001
    assert ask("ptrace") == refuse and ask("bpf") == refuse and ask("clone3") == 0x00050000 | 38
    assert ask(0xFFFF0 if machine == "aarch64" else 0) == allow
    assert ask("clone", 17) == allow and ask("clone", 0x10000000 | 17) == refuse
    assert ask("prlimit64", 0) == allow and ask("prlimit64", 1) == refuse
    assert ask("socket", 2, 1) == (allow if network else refuse)
    assert ask("socket", 1, 1) == refuse and ask("socket", 40, 1) == refuse
    pretend = 0x00050000
    assert ask("fchmodat") == ask("utimensat") == pretend and ask("setxattr") == ask("fchownat") == refuse
    assert ask("sched_setaffinity", 0) == allow and ask("sched_setaffinity", 7) == pretend
    assert ask("setpriority", 0, 0) == allow and ask("setpriority", 0, 7) == ask("setpriority", 2, 0) == refuse
    assert ask("ioprio_set", 1, 0) == allow and ask("ioprio_set", 1, 7) == ask("ioprio_set", 3, 0) == refuse
    assert ask("openat", 0, 0, os.O_RDONLY) == ask("openat", 0, 0, os.O_WRONLY | os.O_TRUNC) == allow
    assert ask("openat", 0, 0, os.O_RDONLY | os.O_TRUNC) == refuse and ask("openat2") == 0x00050000 | 38
    assert ask("ioctl", 3, 0x5401) == allow and {ask("ioctl", 3, n) for n in call_filter._IOCTLS} == {refuse}
    assert ask("fcntl", 3, 4) == allow and {
        ask("fcntl", 3, n) for n in (*call_filter._OWNERS, 1024, 1025, 1026, 1031, 1036)
    } == {refuse}
    assert (
        ask("kill", 99, 9) == ask("tgkill", 99, 99, 6) == allow and ask("kill", 98, 0) == ask("kill", -1, 9) == refuse
    )
    assert ask("tkill", 99, 9) == ask("rt_sigqueueinfo", 99, 9) == ask("pidfd_send_signal", 3, 9) == refuse
    local = call_filter.seccomp_program(machine, network=network, supervised=True, own=99)

    def ask_local(name: str, *args: int) -> int:
        return interpret(local, table[name], call_filter._AUDIT[machine], args)

    assert (
        ask_local("kill", 99, 9) == allow and ask_local("kill", 98, 9) == ask_local("tgkill", 98, 97, 9) == 0x7FC00000
    )
    if not network:  # the supervisor decides on every connection; only one kind of socket is permitted
        assert ask_local("connect", 3) == 0x7FC00000 and ask_local("bind", 3) == allow
        assert ask_local("socket", 1, 1 | 0o2004000) == allow
        assert {ask_local("socket", *kind) for kind in ((1, 2), (1, 5), (2, 1), (16, 3))} == {refuse}
    else:
        assert ask_local("connect", 3) == allow and ask_local("socket", 1, 1) == refuse
    assert ask("connect", 3) == (allow if network else refuse)
    assert ask("socketpair", 1, 1 | 0o2000000) == allow and ask("socketpair", 1, 5) == allow
    assert ask("socketpair", 1, 2) == (allow if network else refuse)
    assert ask("sendto", 3, 0, 0, 0, 0) == allow
    for address in (1, 1 << 32):
        assert ask("sendto", 3, 0, 0, 0, address) == (allow if network else refuse)
    assert interpret(program, 0, 0x40000003, ()) == 0x80000000
    with pytest.raises(OSError, match="riscv64"):
        call_filter.seccomp_program("riscv64", network=False)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("network", "supervised"), [(False, False), (False, True), (True, False)])
def test_a_driver_may_listen_on_a_local_packet_socket(machine: str, network: bool, supervised: bool) -> None:
    """CUDA does so when it starts; every other answer is that of the filter without a card."""
    table = call_numbers(machine)

    def ask(name: str, *args: int, cuda: bool) -> int:
        program = call_filter.seccomp_program(machine, network=network, supervised=supervised, cuda=cuda, own=99)
        return interpret(program, table[name], call_filter._AUDIT[machine], args)

    kinds = [(family, kind) for family in (0, 1, 2, 10, 16, 17, 40) for kind in (1, 2, 3, 5, 1 | 0o2000000)]
    for family, kind in [one for one in kinds if one != (1, 5)]:
        assert ask("socket", family, kind, cuda=True) == ask("socket", family, kind, cuda=False), (family, kind)
        if family == 1 and kind & 0xF == 1:
            assert (ask("socket", family, kind, cuda=True) == 0x7FFF0000) == supervised
    for calls in ((1, 5), (1, 5 | 0o2000000)):
        assert ask("socket", *calls, cuda=True) == 0x7FFF0000
    assert ask("bind", 3, cuda=True) == ask("listen", 3, cuda=True) == 0x7FFF0000
    # Its service is not there; a refusal would be an error to it.
    assert ask("connect", 3, cuda=True) == (0x7FFF0000 if network else 0x7FC00000 if supervised else 0x00050002)
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_RDONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC | os.O_CREAT):
        assert ask("openat", 0, 0, flags, cuda=True) == ask("openat", 0, 0, flags, cuda=False)
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):  # perhaps of a thread's name
        assert ask("openat", 0, 0, flags, cuda=True) == (0x7FC00000 if supervised else 0x7FFF0000)
        assert ask("openat", 0, 0, flags, cuda=False) == 0x7FFF0000
    for name in ("ptrace", "keyctl", "kill", "unshare", "mount"):
        assert ask(name, 7, cuda=True) == ask(name, 7, cuda=False)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_of_tier_a_is_up_to_date_and_correct(machine: str) -> None:
    program = call_filter.contained_program(machine)
    assert Path(call_filter.__file__).with_name(f"bubblewrap.{machine}.bpf").read_bytes() == program
    table = call_numbers(machine)

    def ask(name: str, *args: int) -> int:
        return interpret(program, table[name], call_filter._AUDIT[machine], args)

    assert [ask("socket", family, 1) for family in (1, 2, 10, 16)] == [0x7FFF0000] * 4
    assert [ask("socket", family, 1) for family in (0, 15, 17, 38, 40)] == [0x00050000 | errno.EAFNOSUPPORT] * 5
    assert ask("keyctl") == ask("bpf") == 0x00050001 and ask("io_uring_setup") == 0x00050000 | 38
    assert ask("connect") == ask("clone", 17) == ask("socketpair", 1, 2) == 0x7FFF0000
    assert {ask("fcntl", 3, command) for command in (1024, 1025, 1026, 1031, 1035, 1036, 1040)} == {0x00050001}
    assert {ask("fcntl", 3, command) for command in (1, 4, 6, 1030, 1033)} == {0x7FFF0000}
    assert ask("inotify_init1") == ask("io_setup") == 0x00050000 | 38 and ask("fanotify_init") == 0x00050001
    assert ask("madvise", 0, 0, 21) == 0x00050000 and ask("madvise", 0, 0, 4) == 0x7FFF0000


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_lock_of_a_run_is_decided_and_one_of_a_scored_model_has_no_effect(machine: str) -> None:
    table = call_numbers(machine)
    run = call_filter.seccomp_program(machine, network=False, supervised=True, own=99)
    card = call_filter.seccomp_program(machine, network=False, cuda=True, scoring=True, own=99)
    asked = {run: True, call_filter.locks_program(machine): True, card: False,
             call_filter.contained_program(machine, scoring=True): False,
             call_filter.one_model_program(machine, 99): False}  # fmt: skip
    for program, decided in asked.items():
        for name, *args in (("flock", 3, 2), ("fcntl", 3, 6), ("fcntl", 3, 38), ("fcntl", 3, 5), ("fcntl", 3, 36)):
            answer = interpret(program, table[name], call_filter._AUDIT[machine], tuple(args))
            question = name == "fcntl" and args[1] in (5, 36)
            assert answer == (0x7FC00000 if decided else 0x00050001 if question else 0x00050000), (name, args)
        assert interpret(program, table["fcntl"], call_filter._AUDIT[machine], (3, 3)) == 0x7FFF0000


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filters_of_scoring_are_up_to_date_and_allow_what_is_listed(machine: str) -> None:
    program = call_filter.one_model_program(machine)
    scoring = call_filter.contained_program(machine, scoring=True)
    for name, made in (("one_model", program), ("scoring", scoring)):
        assert Path(call_filter.__file__).with_name(f"{name}.{machine}.bpf").read_bytes() == made
    table = call_numbers(machine)

    def ask(name: str, *args: int, own: int = 0) -> int:
        made = call_filter.one_model_program(machine, own) if own else program
        return interpret(made, table[name], call_filter._AUDIT[machine], args)

    allow, nothing, refuse, absent = 0x7FFF0000, 0x00050000, 0x00050001, 0x00050000 | errno.ENOSYS
    for name in ("read", "openat", "mmap", "exit_group", "recvmsg", "sendmsg", "seccomp", "execve"):
        assert ask(name) == allow
    for name in ("timer_create", "mlock", "pidfd_open", "futex_waitv", "futex_wait", "ioprio_get", "sync", "signalfd4",
                 "userfaultfd", "mq_open", "shmget", "sched_getattr", "splice", "execveat", "process_madvise",
                 "inotify_add_watch", "landlock_create_ruleset", "chroot"):  # fmt: skip
        assert ask(name) == refuse, name
    assert ask("set_robust_list") == ask("clone3") == absent
    assert (
        ask("sendto") == ask("getpriority") == allow and ask("sendto", 3, 0, 0, 0, 1) == ask("getpriority", 2) == refuse
    )
    assert ask("setpriority") == nothing and ask("setpriority", 0, 9) == ask("getpriority", 0, 9) == refuse
    assert ask("getxattr") == ask("flistxattr") == 0x00050000 | errno.ENOTSUP and ask("setxattr") == refuse
    assert ask("fadvise64") == ask("fsync") == ask("sched_setattr", 0) == nothing
    assert {interpret(program, number, call_filter._AUDIT[machine], ()) for number in range(470, 600)} == {refuse}
    thread = 0x3D0F00  # as of pthread_create
    assert ask("clone", thread) == allow and ask("clone", thread | 0x10000000) == refuse
    waits, wakes = (0, 9), (1, 3, 4, 5, 6, 10, 11, 13)
    assert {ask("futex", 1, kind | 0x80) for kind in (*waits, *wakes)} == {allow}
    assert {ask("futex", 1, kind | clock) for kind in waits for clock in (0, 0x100)} == {0x00050000 | errno.EAGAIN}
    assert {ask("futex", 1, kind) for kind in wakes} == {nothing}
    assert ask("prlimit64", 0, 7, 0) == allow
    assert ask("prlimit64", 0, 7, 1 << 32) == ask("setrlimit", 7) == allow
    assert ask("prlimit64", 0, 6, 1 << 32) == ask("prlimit64", 0, 6, 1) == ask("prlimit64", 9, 7) == refuse
    assert ask("setrlimit", 6) == ask("truncate", own=99) == refuse and ask("truncate") == allow
    assert ask("openat", 0, 0, os.O_TRUNC, own=99) == refuse and ask("openat", 0, 0, os.O_TRUNC | 1, own=99) == allow
    assert ask("prctl", 15) == nothing and ask("prctl", 16) == allow
    assert ask("prctl", 67, 1) == ask("prctl", 22) == 0x00050000 | errno.EINVAL
    assert ask("madvise", 0, 0, 4) == allow and {ask("madvise", 0, 0, advice) for advice in (3, 12, 21)} == {nothing}
    assert ask("ioctl", 3, 0x5421) == allow and ask("ioctl", 3, 0x6601) == 0x00050000 | errno.ENOTTY
    assert ask("sched_setaffinity", 0) == allow and ask("sched_setaffinity", 7) == nothing
    assert ask("tgkill", 7, 7, 6) == ask("tgkill", 99, 99, 6, own=99) == allow
    assert ask("sched_getaffinity", 98, own=99) == 0x00050000 | errno.ESRCH


def interpret(program: bytes, number: int, arch: int, args: tuple[int, ...]) -> int:
    """The answer of a seccomp filter to one call. Only the instructions of the product's filters are supported."""
    data = struct.pack("IIQ6Q", number, arch, 0, *(a % 2**64 for a in args), *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("HBBI", program))
    at = value = 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            (value,) = struct.unpack_from("I", data, k)
        elif op == 0x54:
            value &= k
        elif op == 0x06:
            return int(k)
        else:
            true = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[op]
            at += yes if true else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("own", [0, 99])
def test_the_scorer_is_asked_for_what_honest_code_uses_while_it_is_loaded(machine: str, own: int) -> None:
    """And all of it is refused from the start where nobody can be asked."""
    table, thread, one = call_numbers(machine), 0x3D0F00, own or 2
    asked, allow, refuse, nobody = 0x7FC00000, 0x7FFF0000, 0x00050001, 0x00050000 | errno.ESRCH
    absent, no_family = 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EAFNOSUPPORT
    sandbox = call_filter.one_model_program(machine, own)
    filters = asking_program(machine, one), refusing_program(machine, one, asked=True)
    plain = refusing_program(machine, one, asked=False)

    def answers(name: str, *args: int) -> tuple[int, ...]:
        """Of the filters with a listener, of the one without, and of the sandbox alone."""
        made = (*filters, plain, sandbox)
        first, last, *more = (interpret(one, table[name], call_filter._AUDIT[machine], args) for one in made)
        return (first if last == allow else last, *more)

    for name in (*call_filter._LOADING, *(() if own else call_filter._LOADING_SOCKETS)):
        state = name in ("statfs", "fstatfs", "sysinfo")
        if name in table and name not in ("socketpair", "socket"):
            assert answers(name) == (asked, absent if state else refuse, allow), name
    assert answers("socketpair", 1, 0x80001) == (asked, refuse, allow)
    assert answers("socketpair", 1, 2) == (asked, refuse, refuse)
    assert answers("clone", 17) == (asked, refuse, allow) and answers("clone", thread) == (allow, allow, allow)
    assert answers("clone", 17 | 0x10000000) == (asked, refuse, refuse)
    for name in call_filter._SIGNALS:
        assert answers(name, 5) == (asked, nobody, allow)
        assert answers(name, one) == answers(name, 0) == (allow, allow, allow)
    assert answers("socket", 2) == (asked, refuse, refuse if own else allow)
    assert answers("socket", 40) == (asked, refuse, refuse if own else no_family)
    assert {answers(name) for name in ("sendmsg", "seccomp")} == {(refuse, refuse, allow)}
    for name in ("sendmmsg", "io_uring_setup", "inotify_init1", "mincore", "ptrace", "setns"):
        assert answers(name)[2] in (refuse, absent)
    for name in ("openat", "newfstatat", "statx", "execve", "readlinkat", "getdents64", "unlinkat"):
        assert answers(name) == (asked, allow, allow)
    for name in ("read", "mmap", "futex", "exit_group", "recvfrom", "close"):
        assert answers(name)[:2] == (allow, allow)
