"""The template of scored models: it has loaded their libraries once, and each model's process is a fork of it.

    template ENGINE MODULE…

It runs no code under test, and reads nothing of what it is lent for: it takes a descriptor from the engine (ENGINE, a
socket) and forks once for each order that lies in it. The fork, an attendant, reads the order, enters the sandbox,
forks the model and ends with all that the model has started. So the memory of each model's process begins the same,
whatever was scored before. The next order waits until nothing of the last one lives.

It has one thread, or forks would not be sound. Linux only.
"""
# It is loaded by the project's Python into each model's process, so it takes little:
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from types import CodeType

from core.lab.shim.proctree import kill_children
from core.lab.template.entry import Entered, enter_namespaces, restrict

MAX_ORDER_BYTES = 1 << 18
READY, FREE, REFUSED = b"ready", b"free", b"refused"  # to the engine
REFUSED_CODE = 3  # of an attendant whose model could not enter the sandbox
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_PTRACER = 1, 36, 0x59616D61
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING, _MADV_POPULATE_READ = 1, 22
_GRACE_MILLISECONDS = 1000
_LIBC = ctypes.CDLL(None)


def main() -> CodeType:
    """The code of a model, in its process. In the template itself this does not return."""
    engine, *modules = sys.argv[1:]
    link = socket.socket(fileno=int(engine))
    _forget_own_modules()
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in modules:
        importlib.import_module(name)
    taken = time.process_time()
    if len(os.listdir("/proc/self/task")) != 1:
        raise SystemExit("the libraries have started threads: no process can be forked from this one")
    gc.collect()
    gc.freeze()
    link.send(READY)
    while True:
        lent = socket.recv_fds(link, 1, 1)[1]
        if not lent:
            os._exit(0)
        orders = socket.socket(fileno=lent[0])
        said = FREE
        while orders.recv(1, socket.MSG_PEEK):
            _bring_in()
            attendant = os.fork()
            if attendant == 0:
                link.close()
                return _attend(orders, taken)
            if _ended(attendant, orders) == REFUSED_CODE:
                said = REFUSED
            if not kill_children(attendant):
                os._exit(1)
        orders.close()
        link.send(said)


def _forget_own_modules() -> None:
    """A model finds no module of the harness, which could be one of its own worktree's by name."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "core"]:
        del sys.modules[name]
    sys.path.pop()


def _bring_in() -> None:
    """Pages that were swapped out come back before a fork: else the first one that needs a page leaves a trace."""
    with open("/proc/swaps") as file:
        if len(file.readlines()) < 2:
            return
    with open("/proc/self/maps") as file:
        ranges = [line.split()[:2] for line in file]
    for where, rights in ranges:
        start, end = (int(part, 16) for part in where.split("-"))
        if rights.startswith("rw"):
            _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_READ)


def _ended(attendant: int, orders: socket.socket) -> int:
    """The exit code of an attendant; -1 when it was killed, or the scorer has gone and it does not end."""
    descriptor = os.pidfd_open(attendant)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(orders, 0)  # the end of the other side is told in any case
    poll.poll()
    poll.unregister(orders)
    poll.poll(_GRACE_MILLISECONDS)  # it ends with its scorer
    os.close(descriptor)
    result = os.waitid(os.P_PID, attendant, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    return result.si_status if result and result.si_code == os.CLD_EXITED else -1


# --- the attendant ----------------------------------------------------------------------------------------------------


def _attend(orders: socket.socket, taken: float) -> CodeType:
    """Start the model of one order and wait for it; returns in its process alone."""
    data, (life, *streams), _, _ = socket.recv_fds(orders, MAX_ORDER_BYTES, 4)
    orders.close()
    link = socket.socket(fileno=life)
    order = json.loads(data)
    entered, refused = Entered(), ""
    try:
        _take_office(str(order["group"]))
        entered = enter_namespaces(order["sandbox"], order["env"], streams[2])
    except OSError as error:
        refused = str(error)
    told, tell = os.pipe()
    model = os.fork() if not refused else 0
    if model == 0 and not refused:
        try:
            _become(order, streams, tell, entered)
        except BaseException as error:
            os.write(tell, str(error).encode(errors="replace")[:500] or b"it failed")
            os._exit(126)
        os.write(tell, b"ok")
        os.close(tell)
        return compile(order["code"], "<string>", "exec")
    for descriptor in (tell, *streams):
        os.close(descriptor)
    answer = refused.encode(errors="replace") or os.read(told, 500)
    with contextlib.suppress(OSError):
        if answer == b"ok":
            link.send(json.dumps({"started": taken, "keepers": [os.getpid(), *entered.keepers]}).encode())
            _wait(link, model)
        else:
            link.send(json.dumps({"refused": answer.decode(errors="replace")}).encode())
    for pid in (model, *entered.keepers[:1]):
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    os._exit(0 if answer == b"ok" else REFUSED_CODE)  # the template ends what is left


def _take_office(group: str) -> None:
    """In a session, a keyring and a control group of its own; it dies with the template, and adopts orphans."""
    os.setsid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        _LIBC.syscall(ctypes.c_long(number), ctypes.c_long(_JOIN_SESSION_KEYRING), None)
    if group:
        with open(f"{group}/cgroup.procs", "w") as file:
            file.write("0")


def _wait(link: socket.socket, model: int) -> None:
    """Until the model ends, which is told, or the scorer wants it to end."""
    descriptor = os.pidfd_open(model)
    if descriptor in select.select([descriptor, link.fileno()], [], [])[0]:
        status = os.waitid(os.P_PID, model, os.WEXITED | os.WNOWAIT)
        assert status is not None
        code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        link.send(json.dumps({"ended": code}).encode())


# --- the model's process ----------------------------------------------------------------------------------------------


def _become(order: dict[str, object], streams: list[int], tell: int, entered: Entered) -> None:
    """Have nothing of the template but its memory, and the rights of the sandbox. Raises OSError."""
    os.setsid()
    _LIBC.prctl(_PR_SET_PTRACER, ctypes.c_ulong(int(str(order["scorer"]))), 0, 0, 0)  # it is no child of the scorer
    env = order["env"]
    assert isinstance(env, dict)
    os.environ.clear()
    os.environ.update(env)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    keep = sorted({tell, *entered.descriptors})
    for low, high in zip([2, *keep], [*keep, 1 << 20], strict=True):
        os.closerange(low + 1, high)
    restrict(order["sandbox"], entered)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _reseed()
    sys.argv[:] = ["-c"]
    space = vars(sys.modules["__main__"])
    for name in [name for name in space if not name.startswith("__")]:
        del space[name]


def _reseed() -> None:
    """Numbers drawn by chance are other ones in each process. (Python's own `random` does so at a fork.)"""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
