"""The filters on system calls, interpreted in Python, so that each architecture is tested on any machine."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from core.lab.sandbox import landlock


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("network", [True, False])
def test_the_filter_is_correct_for_every_architecture(machine: str, network: bool) -> None:
    """The answers equal those of the call table on each architecture."""
    program = landlock.seccomp_program(machine, network=network, own=99)
    table = {**(landlock._X86 if machine == "x86_64" else landlock._ARM), **landlock._COMMON}

    def ask(name: str | int, *args: int) -> int:
        number = table[name] if isinstance(name, str) else name
        return interpret(program, number, landlock._AUDIT[machine], args)

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
    assert ask("ioctl", 3, 0x5401) == allow and {ask("ioctl", 3, n) for n in landlock._IOCTLS} == {refuse}
    assert ask("fcntl", 3, 4) == allow and {ask("fcntl", 3, n) for n in landlock._FCNTLS} == {refuse}
    assert (
        ask("kill", 99, 9) == ask("tgkill", 99, 99, 6) == allow and ask("kill", 98, 0) == ask("kill", -1, 9) == refuse
    )
    assert ask("tkill", 99, 9) == ask("rt_sigqueueinfo", 99, 9) == ask("pidfd_send_signal", 3, 9) == refuse
    local = landlock.seccomp_program(machine, network=network, supervised=True, own=99)

    def ask_local(name: str, *args: int) -> int:
        return interpret(local, table[name], landlock._AUDIT[machine], args)

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
        landlock.seccomp_program("riscv64", network=False)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("network", "supervised"), [(False, False), (False, True), (True, False)])
def test_a_driver_may_listen_on_a_local_packet_socket(machine: str, network: bool, supervised: bool) -> None:
    """CUDA does so when it starts; every other answer is that of the filter without a card."""
    table = {**(landlock._X86 if machine == "x86_64" else landlock._ARM), **landlock._COMMON}

    def ask(name: str, *args: int, cuda: bool) -> int:
        program = landlock.seccomp_program(machine, network=network, supervised=supervised, cuda=cuda, own=99)
        return interpret(program, table[name], landlock._AUDIT[machine], args)

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
    program = landlock.contained_program(machine)
    assert Path(landlock.__file__).with_name(f"bubblewrap.{machine}.bpf").read_bytes() == program
    table = {**(landlock._X86 if machine == "x86_64" else landlock._ARM), **landlock._COMMON}

    def ask(name: str, *args: int) -> int:
        return interpret(program, table[name], landlock._AUDIT[machine], args)

    assert [ask("socket", family, 1) for family in (1, 2, 10, 16)] == [0x7FFF0000] * 4
    assert [ask("socket", family, 1) for family in (0, 15, 17, 38, 40)] == [0x00050000 | errno.EAFNOSUPPORT] * 5
    assert ask("keyctl") == ask("bpf") == 0x00050001 and ask("io_uring_setup") == 0x00050000 | 38
    assert ask("connect") == ask("clone", 17) == ask("socketpair", 1, 2) == 0x7FFF0000


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
