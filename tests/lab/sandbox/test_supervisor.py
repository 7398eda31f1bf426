"""Local sockets and signals in a sandbox: those of the run work, all others are unreachable."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from core.lab import stale_tmp
from core.lab.sandbox.tiers import Tier
from core.lab.shim.proctree import process_stat
from core.lab.shim.supervisor import may_signal
from tests import ROOT
from tests.lab.conftest import Make, run, until

WORKERS = """
import multiprocessing, multiprocessing.connection, multiprocessing.managers, multiprocessing.reduction, socket
import tempfile, threading

def double(items, results):
    while (item := items.get()) is not None:
        results.put(item * 2)

def through(where, numbers):  # a descriptor passed between processes by name, as data loaders do
    handle = numbers.recv()
    os.write(handle.detach(), b"handed over")

items, results = multiprocessing.Queue(), multiprocessing.Queue()
workers = [multiprocessing.Process(target=double, args=(items, results)) for _ in range(2)]
[w.start() for w in workers]
[items.put(n) for n in (1, 2, 3, None, None)]
print("queue", sorted(results.get(timeout=100) for _ in range(3)))
[w.join() for w in workers]

ours, theirs = multiprocessing.Pipe()
reader, writer = os.pipe()
worker = multiprocessing.Process(target=through, args=(None, theirs))
worker.start()
ours.send(multiprocessing.reduction.DupFd(writer))
print("descriptor", os.read(reader, 100).decode())
worker.join()

with multiprocessing.managers.SyncManager() as manager:
    shared = manager.list([1])
    shared.append(2)
    print("manager", list(shared))

path = os.environ["TMPDIR"] + "/plain"
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
client = socket.socket(socket.AF_UNIX)
client.setblocking(False)
client.connect(path)
assert not client.getblocking() and not os.get_inheritable(client.fileno())
client.send(b"hello")
print("plain", server.accept()[0].recv(10))
try: socket.socket(socket.AF_UNIX).connect(os.environ["TMPDIR"] + "/nobody")
except FileNotFoundError: print("nobody there")
"""


async def test_workers_of_one_run_communicate(job: Make, tier: Tier, tmp_path: Path) -> None:
    spec = job(WORKERS, sandbox=tier, seconds=60.0)
    result = await run(spec)
    output = (spec.folder / "output.log").read_text()
    assert result.ended == "done", output
    assert output.splitlines() == [
        "queue [2, 4, 6]", "descriptor handed over", "manager [1, 2]", "plain b'hello'", "nobody there",
    ]  # fmt: skip
    await until(lambda: not short_names(spec.folder / "tmp"))  # it is removed with the folder after the end of the run


def short_names(folder: Path) -> list[Path]:
    names = Path(tempfile.gettempdir()).glob(f"{stale_tmp.LINK_PREFIX}*")
    return [name for name in names if name.is_symlink() and name.readlink() == folder]


@pytest.fixture
def others(tmp_path: Path) -> Iterator[list[str]]:
    """Sockets as on a real machine: engine, ssh agent, docker, X and dbus. Abstract ones begin with an @."""
    names = (tmp_path / "engine.sock", tmp_path / "ssh-agent", tmp_path / "docker.sock")
    # In a sandbox of tier A /tmp is private; a socket there is invisible.
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="autoresearch-test-") as folder:
        addresses = [*map(str, names), f"{folder}/X0", f"@autoresearch-dbus-{os.getpid()}"]
        for address in addresses:
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(address.replace("@", "\0"))
            server.listen()
        yield addresses


async def test_sockets_of_other_processes_are_unreachable(job: Make, tier: Tier, others: list[str]) -> None:
    program = f"""
    import ctypes, errno, socket, threading
    libc = ctypes.CDLL(None, use_errno=True)
    tmp = os.environ["TMPDIR"]
    def attempt(what, do):
        try: do()
        except OSError as error: print("refused", what, error.errno)
        else: print("STOLEN", what)
    def connect(address, kind=socket.SOCK_STREAM):
        with socket.socket(socket.AF_UNIX, kind) as s: s.connect(address)
    def linked(path, how):
        name = tmp + "/link"
        try: how(path, name); connect(name)
        finally: os.path.lexists(name) and os.unlink(name)
    for number, address in enumerate({others!r}):
        name = address.replace("@", "\\0")
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            attempt(f"{{number}} {{kind}}", lambda: connect(name, kind))
        if "@" in address: continue
        attempt(f"{{number}} dots", lambda: connect(tmp + "/" + os.path.relpath(address, os.path.realpath(tmp))))
        attempt(f"{{number}} symlink", lambda: linked(address, os.symlink))
        attempt(f"{{number}} folder symlink", lambda: (os.symlink(os.path.dirname(address), tmp + f"/d{{number}}"),
                                                     connect(tmp + f"/d{{number}}/" + os.path.basename(address))))
        attempt(f"{{number}} hard link", lambda: linked(address, os.link))
        attempt(f"{{number}} rename", lambda: linked(address, os.rename))
        attempt(f"{{number}} by descriptor", lambda: connect(f"/proc/self/fd/{{os.open(address, os.O_PATH)}}"))
        def beside():
            os.chdir(os.path.dirname(address))
            connect(os.path.basename(address))
        attempt(f"{{number}} relative", beside)
        def by_datagram():
            a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            a.sendto(b"x", address)
        attempt(f"{{number}} datagram", by_datagram)
        def by_message():
            with socket.socket(socket.AF_UNIX) as s: s.sendmsg([b"x"], [], 0, address)
        attempt(f"{{number}} message", by_message)

    # An address that changes during the check.
    os.chdir(tmp)
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(tmp + "/own")
        own.listen(100)
        target = {others[0]!r}
        good, bad = (b"\\1\\0" + path.encode().ljust(108, b"\\0") for path in (tmp + "/own", target))
        address, going = ctypes.create_string_buffer(good, 110), True
        def change():
            while going:
                ctypes.memmove(address, bad, 110)
                ctypes.memmove(address, good, 110)
        thread = threading.Thread(target=change)
        thread.start()
        for _ in range(300):
            with socket.socket(socket.AF_UNIX) as s:
                if libc.connect(s.fileno(), address, 110) == 0:
                    if s.getpeername() != tmp + "/own": print("STOLEN by a race", s.getpeername())
                    own.accept()[0].close()
        going = False
        thread.join()
    """
    spec = job(program, sandbox=tier, seconds=60.0)
    result = await run(spec)
    output = (spec.folder / "output.log").read_text()
    assert result.ended == "done", output
    assert "STOLEN" not in output and output.count("refused") == 5 * 3 + 4 * 9, output


async def test_local_sockets_are_refused_when_the_network_is_allowed(job: Make, tier: Tier, others: list[str]) -> None:
    program = f"""
    import socket
    for address in {[a for a in others if "@" not in a]!r}:
        try: socket.socket(socket.AF_UNIX).connect(address)
        except OSError: continue
        print("STOLEN", address)
    server = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(server.getsockname()).close()
    print("network")
    """
    spec = job(program, sandbox=tier, network=True)
    await run(spec)
    assert (spec.folder / "output.log").read_text() == "network\n"


async def test_signals_reach_only_processes_of_the_run(job: Make, tier: Tier) -> None:
    """Landlock restricts signals too from Linux 6.12 on; on older kernels this check is the only one."""
    program = """
    import ctypes, errno, fcntl, multiprocessing, signal, socket
    libc = ctypes.CDLL(None, use_errno=True)
    def attempt(what, do):
        try: do()
        except OSError as error: print("refused", what, error.errno)
        else: print("STOLEN", what)
    victim = int(sys.argv[1])
    def same():  # in a private PID namespace the number may belong to another process
        if not os.path.exists(f"/proc/{victim}/comm") or open(f"/proc/{victim}/comm").read() != "sleep\\n":
            raise OSError(errno.ESRCH, "not there")
    attempt("kill", lambda: same() or os.kill(victim, signal.SIGSTOP))
    attempt("group", lambda: same() or os.killpg(victim, signal.SIGSTOP))
    attempt("all processes", lambda: os.kill(-1, 0) if TIER == "B" else same())
    attempt("parent", lambda: os.kill(os.getppid(), 0) if TIER == "B" else same())
    attempt("queue", lambda: same() or signal.pidfd_send_signal(os.pidfd_open(victim), signal.SIGSTOP))
    def by_descriptor():
        same()
        a, b = socket.socketpair()
        fcntl.fcntl(a, fcntl.F_SETOWN, victim)
        fcntl.fcntl(a, fcntl.F_SETSIG, signal.SIGSTOP)
    attempt("descriptor", by_descriptor)
    worker = multiprocessing.Process(target=time.sleep, args=(60,))
    worker.start()
    worker.terminate()
    worker.join()
    print("worker", worker.exitcode)
    if os.fork() == 0:
        os.setpgid(0, 0)
        os.killpg(0, signal.SIGTERM)
    print("group", os.waitstatus_to_exitcode(os.wait()[1]))
    child = os.fork()
    if child == 0:
        os.abort()
    print("abort", os.waitstatus_to_exitcode(os.wait()[1]))
    os.kill(os.getpid(), signal.SIGUSR1)
    """
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as victim:  # noqa: ASYNC220
        spec = job(program.replace("TIER", repr(tier)), sandbox=tier)
        result = await run(replace(spec, argv=(*spec.argv, str(victim.pid))))
        state = process_stat(victim.pid)
        victim.kill()
    lines = (spec.folder / "output.log").read_text().splitlines()
    assert state and state.state == "S" and result.reason.startswith("was ended by SIGUSR1"), (result, lines)
    assert [line.split()[0] for line in lines[:6]] == ["refused"] * 6, lines
    assert lines[6:] == ["worker -15", "group -15", "abort -6"]


def test_only_pids_of_the_run_are_valid_signal_targets() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as own, subprocess.Popen(["sleep", "60"]) as other:
        tree = [own.pid]
        for fine in (0, own.pid, -own.pid, own.pid | 1 << 40):  # the kernel compares 32 bits
            assert may_signal(fine % 2**64, tree), fine
        for bad in (-1, 1, other.pid, -other.pid, -os.getpgid(other.pid), os.getpid(), 2**32 - 1, own.pid + 2**31):
            assert not may_signal(bad % 2**64, tree), bad
        own.kill()
        other.kill()


def test_every_temporary_folder_of_the_engine_has_a_name_that_is_removed() -> None:
    """Of its commands as well: the random part of a name is no part of the prefix."""
    made: set[str] = set()
    for path in (*(ROOT / "core").rglob("*.py"), *(ROOT / "nanotrain").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        made |= {*re.findall(r'(?:TemporaryDirectory|mkdtemp)\(prefix=f?"([^"{]+)', text)}
        made |= {f"autoresearch-{kind}-" for kind in re.findall(r'own_folder\("(\w+)"\)', text)}
    made.remove("autoresearch-")  # in own_folder itself
    assert made == {*stale_tmp.FOLDER_PREFIXES}


def test_stale_temporary_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / f"{stale_tmp.LINK_PREFIX}1").symlink_to(tmp_path / "gone")
    (tmp_path / f"{stale_tmp.LINK_PREFIX}2").symlink_to(tmp_path / "there")
    sockets = f"{stale_tmp.SOCKET_PREFIX}{os.getuid()}-"
    for prefix in (*stale_tmp.FOLDER_PREFIXES, f"{sockets}full-", f"{sockets}empty-"):
        for age in ("new", "old"):
            folder = tmp_path / f"{prefix}{age}"
            folder.mkdir()
            if "empty" not in prefix:
                (folder / "index").write_text("x")
            when = folder.stat().st_mtime - 2 * stale_tmp.STALE_SECONDS * (age == "old")
            os.utime(folder, (when, when))
    expected = {
        f"{stale_tmp.LINK_PREFIX}1",
        f"{sockets}empty-old",
        *(f"{prefix}old" for prefix in stale_tmp.FOLDER_PREFIXES),
    }
    before = {path.name for path in tmp_path.iterdir()}
    assert set(stale_tmp.remove_stale(tmp_path)) == expected
    assert {path.name for path in tmp_path.iterdir()} == before - expected
