"""What a model's process may do until it is shown rows, and not from then on; what it holds is in memory then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanotrain import process_limits
from nanotrain.isolation.asked_calls import SECCOMP, asking_program, refusing_program
from nanotrain.isolation.call_supervisor import CallSupervisor
from nanotrain.isolation.page_cache import HeldFiles
from tests.nanotrain.worlds import REPOSITORY

BEGIN = """
import mmap, os, socket, subprocess, sys, threading
sys.path.insert(0, {repository!r})
from nanotrain.model_host import ask_about_calls
channel = socket.socket(fileno=0)
folder = os.open("/usr", os.O_RDONLY)
held = open({held!r}, "rb")
pages = mmap.mmap(held.fileno(), 0, prot=mmap.PROT_READ)
def tried(do):
    try: do()
    except (OSError, IndexError): return "-"
    return "+"
def twice():
    print(looks(), flush=True)
    channel.recv(1)
    print(looks(), flush=True)
def looks(): return "".join(map(tried, LOOKS))
LOOKS = [lambda: os.stat("/usr"), lambda: os.lstat("/usr"), lambda: open("/usr/bin/env"),
    lambda: os.listdir("/usr"), lambda: os.listdir(folder)[0], lambda: os.stat("bin", dir_fd=folder),
    lambda: os.readlink("/proc/self/exe"), lambda: os.chdir("/"), lambda: os.fchdir(folder), os.pipe, lambda: forked(),
    lambda: os.listxattr("/usr"), socket.socketpair, lambda: os.memfd_create("m")]
def forked():
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
programs = [bytes.fromhex(program) for program in {programs!r}]
assert ask_about_calls(channel, programs, {install}) == "asked"
"""


class Model:
    """A process whose calls are answered here."""

    def __init__(self, body: str, held: Path) -> None:
        machine = os.uname().machine
        ours, theirs = socket.socketpair()
        programs = [asking_program(machine, 0).hex(), refusing_program(machine, 0, asked=True).hex(), ""]
        begin = BEGIN.format(repository=str(REPOSITORY), held=str(held), programs=programs, install=SECCOMP[machine])
        code = begin + textwrap.dedent(body)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-c", code], stdin=theirs.fileno(), stdout=subprocess.PIPE
            )
        self.channel = ours
        ours.settimeout(60)
        self.calls = CallSupervisor(socket.recv_fds(ours, 1, 1)[1][0], lambda: [self.process.pid])

    def refuse(self) -> bool:
        self.calls.refuse()
        return self.calls.settle(process_limits.threads_of(self.process.pid))

    def said(self) -> str:
        assert self.process.stdout
        return str(self.process.stdout.readline(), "utf-8").strip()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.calls.close()
        self.calls.close()
        self.channel.close()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A file on a disk of which no page is in memory."""
    path = Path("/var/tmp", f"autoresearch-held-{os.getpid()}")
    path.write_bytes(os.urandom(300 * 4096))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    yield path
    path.unlink()


def test_a_model_looks_up_what_it_likes_until_it_is_shown_rows(held: Path) -> None:
    model = Model("twice()", held)
    try:
        assert model.said() == "+" * 14
        assert not model.calls.refused and model.refuse()
        model.channel.send(b"x")
        assert model.said() == "-" * 14 and model.calls.refused
    finally:
        model.close()


def test_threads_that_were_there_before_are_refused_as_well(held: Path) -> None:
    """Also one that makes the same call all the time, and one that never sleeps: each is waited for."""
    body = """
    go = threading.Event()
    found = []
    def late():
        go.wait()
        found.append(looks())
    threads = [threading.Thread(target=late) for _ in range(3)]
    def calling():
        while True: tried(LOOKS[0])
    def busy():
        while True: pass
    [thread.start() for thread in threads]
    [threading.Thread(target=one, daemon=True).start() for one in (calling, busy)]
    print("ready", flush=True)
    channel.recv(1)
    go.set()
    [thread.join() for thread in threads]
    print(*set(found), flush=True)
    os._exit(0)
    """
    model = Model(body, held)
    try:
        assert model.said() == "ready"
        assert model.refuse()
        model.channel.send(b"x")
        assert model.said() == "-" * 14
    finally:
        model.close()


def test_an_address_that_is_no_place_in_memory_does_not_end_the_answers(held: Path) -> None:
    body = f"""
    import ctypes
    nowhere, call = ctypes.c_ulong(1 << 63), ctypes.CDLL(None).syscall
    disk, stat = {(137, 262) if os.uname().machine == "x86_64" else (43, 79)}
    path = ctypes.create_string_buffer(b"/usr")
    print(call(ctypes.c_long(disk), path, nowhere), call(ctypes.c_long(stat), -100, nowhere, path, 0), flush=True)
    twice()
    print(call(ctypes.c_long(disk), path, nowhere), call(ctypes.c_long(stat), -100, nowhere, path, 0), flush=True)
    """
    model = Model(body, held)
    try:
        assert model.said() == "-1 -1"
        assert model.said() == "+" * 14
        assert model.refuse()
        model.channel.send(b"x")
        assert model.said() == "-" * 14
        assert model.said() == "-1 -1"
    finally:
        model.close()


def in_memory(path: Path, page: int) -> bool:
    """Whether a page is read without waiting for the disk; asking brings it, and some around it, into memory."""
    with path.open("rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(1)], 4096 * page, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False


def test_files_that_a_model_holds_are_read_into_memory(held: Path) -> None:
    if in_memory(held, 20):
        pytest.skip("the disk of /var/tmp is memory itself")
    model = Model("print('ready', flush=True)\nchannel.recv(1)", held)
    try:
        assert model.said() == "ready"
        files = HeldFiles([model.process.pid])
        assert files.sizes[str(held)] == 300 * 4096
        assert sum(path.endswith("libc.so.6") for path in files.sizes) == 1
        files.read(1000)
        assert not in_memory(held, 280), "more than may be read stays where it is"
        files.read(1 << 31)
        assert all(in_memory(held, page) for page in range(300))
    finally:
        model.close()
