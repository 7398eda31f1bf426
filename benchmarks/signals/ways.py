"""The ways by which two processes without a common writable file can signal, each as two small programs.

`tell(value)` makes a state, `free()` takes it back, and `hear()` reads it. `before` runs once in each of the two.
tests/redteam/attacks/signals.py tries them, and `benchmarks/signals/measure.py` measures them.
"""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

from nanotrain import model_host
from nanotrain.isolation.asked_calls import SECCOMP, refusing_program

PRELUDE = """
import ctypes, fcntl, mmap, os, random, resource, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
x86 = os.uname().machine == "x86_64"
def call(x86_number, arm_number, *args):
    got = libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in (x86_number if x86 else arm_number, *args)))
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got
def free(): pass
shared = "/usr/bin/env"
LOCK = "hhxxxxqqixxxx"
def page(path=shared):
    file = os.open(path, os.O_RDONLY)
    return libc.mmap(None, 4096, 1, 1, file, 0)
"""


def as_scored(program: str) -> str:
    """A program that first sets the last filter that a model's process sets: so it is when it is loaded. Nobody is asked,
    so what the scorer makes up is read as it is.
    """
    machine = os.uname().machine
    code = refusing_program(machine, 0, asked=True).hex()
    host = Path(model_host.__file__).read_text()
    begin = f"host = {{'__name__': 'host'}}\nexec({host!r}, host)\n"
    return begin + f"host['set_filter'](bytes.fromhex({code!r}), {SECCOMP[machine]}, 1)\n" + program


@dataclass(frozen=True, slots=True)
class Way:
    """A way to signal: `bits` in one value. `why`: what the kernel keeps for both. `left`: the listeners to whom it is
    known to be open, of "A run", "A scoring", "B run" and "B scoring".
    """

    name: str
    why: str
    bits: int
    tell: str
    hear: str
    before: str = ""
    left: tuple[str, ...] = ()

    def program(self, action: str) -> str:
        parts = (PRELUDE, self.before, self.tell, self.hear, action)
        return "\n".join(textwrap.dedent(part) for part in parts)


_LOCKS = """
file = open({path!r}, {mode!r}, buffering=0)
lock = lambda command, kind, start, length: fcntl.fcntl(file, command, struct.pack(LOCK, kind, 0, start, length, 0))
"""
_SET = """
held = []
def tell(value):
    held.append(value)
    lock({set}, {kind}, 1 + value, 1)
def free(): lock({set}, fcntl.F_UNLCK, 0, 0)
"""
_ASK = """
def hear():
    kind, _, start, _, _ = struct.unpack(LOCK, lock({ask}, fcntl.F_WRLCK, 0, 0))
    return start - 1 if kind != fcntl.F_UNLCK else None
"""
_RUNS = ("A run", "B run")

WAYS = [
    Way(
        "record locks",
        "of an inode, for all who have opened it",
        16,
        _SET.format(set=6, kind="fcntl.F_RDLCK"),
        _ASK.format(ask=5),
        _LOCKS.format(path="/usr/bin/env", mode="rb"),
    ),
    Way(
        "open file locks",
        "the same, held by a descriptor",
        16,
        _SET.format(set=37, kind="fcntl.F_RDLCK"),
        _ASK.format(ask=36),
        _LOCKS.format(path="/usr/bin/env", mode="rb"),
    ),
    Way(
        "locks of /dev/null",
        "the one file that all may write",
        16,
        _SET.format(set=6, kind="fcntl.F_WRLCK"),
        _ASK.format(ask=5),
        _LOCKS.format(path="/dev/null", mode="r+b"),
    ),
    Way(
        "flock",
        "of an inode, also when it is opened to read",
        1,
        """
        def tell(value):
            if value: fcntl.flock(file, fcntl.LOCK_EX)
        def free(): fcntl.flock(file, fcntl.LOCK_UN)
        """,
        """
        def hear():
            try: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError: return 1
            fcntl.flock(file, fcntl.LOCK_UN)
            return 0
        """,
        'file = open(shared, "rb")',
    ),
    Way(
        "leases",
        "whoever opens the file waits up to 45 s",
        1,
        """
        def tell(value):
            global file
            file = os.open(this, os.O_RDONLY)
            if value: fcntl.fcntl(file, 1024, fcntl.F_WRLCK)
        def free(): os.close(file)
        """,
        """
        def hear():
            try: os.close(os.open(this, os.O_RDONLY | os.O_NONBLOCK))
            except BlockingIOError: return 1
            return 0
        """,
        'this = os.path.join(os.path.dirname(os.__file__), "antigravity.py"); signal.signal(signal.SIGIO, signal.SIG_IGN)',
    ),
    Way(
        "inotify",
        "an opening is told to all who watch the inode",
        1,
        """
        def tell(value):
            if value: os.close(os.open(shared, os.O_RDONLY))
        """,
        """
        def hear():
            try: return int(bool(os.read(watch, 4096)))
            except BlockingIOError: return 0
        """,
        """
        def start_hearing():
            global watch
            watch = call(294, 26, 0o4000)
            call(254, 27, watch, shared.encode(), 0x20)
        """,
    ),
    Way(
        "dnotify",
        "the same by a signal, for a folder",
        1,
        """
        def tell(value):
            if value: os.read(os.open(shared, os.O_RDONLY), 1)
        """,
        """
        def hear():
            got = len(heard)
            heard.clear()
            return int(got > 0)
        """,
        """
        heard = []
        def start_hearing():
            signal.signal(signal.SIGIO, lambda *_: heard.append(1))
            fcntl.fcntl(os.open("/usr/bin", os.O_RDONLY), fcntl.F_NOTIFY, 0x80000001)
        """,
    ),
    Way(
        "write hints",
        "kept with the inode, also after the run",
        2,
        """
        def tell(value): fcntl.fcntl(file, 1036, struct.pack("Q", 1 + value))
        """,
        """
        def hear(): return struct.unpack("Q", fcntl.fcntl(file, 1035, bytes(8)))[0] - 1
        """,
        'file = open(shared, "rb")',
    ),
    Way(
        "pages of a file",
        "in memory or not: the count of major faults tells",
        1,
        """
        def tell(value):
            ctypes.string_at(address, 1)
            if not value: call(28, 233, address, 4096, 21)
        """,
        """
        def hear():
            begun = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
            place = page(path)
            ctypes.string_at(place, 1)
            libc.munmap(ctypes.c_void_p(place), 4096)
            return int(resource.getrusage(resource.RUSAGE_SELF).ru_majflt == begun)
        """,
        """
        path = os.path.join(os.path.dirname(os.__file__), "antigravity.py")
        address = page(path)
        """,
    ),
    Way(
        "futex of a mapped file",
        "a page of a library is one address for all",
        1,
        """
        def tell(value):
            if value: threading.Thread(target=call, args=(202, 98, place, 0, word, struct.pack("qq", 0, int(SLOT * 1e9)), None, 0), daemon=True).start()
        """,
        """
        def hear(): return min(1, call(202, 98, place, 1, 100, None, None, 0))
        """,
        """
        place = page()
        word = ctypes.c_uint.from_address(place).value
        """,
        left=_RUNS,
    ),
    Way(
        "end of a thread",
        "the kernel wakes who waits for its number, in any file's page",
        1,
        """
        def end():
            call(218, 96, place)
        def tell(value):
            if value:
                time.sleep(SLOT * 0.5)
                threading.Thread(target=end, daemon=True).start()
        """,
        """
        def hear():
            try: return int(call(202, 98, place, 0, word, struct.pack("qq", 0, int(SLOT * 0.6 * 1e9)), None, 0) == 0)
            except TimeoutError: return 0
            except BlockingIOError: return 0
        hear.early = True
        """,
        """
        place = page()
        word = ctypes.c_uint.from_address(place).value
        """,
        left=_RUNS,
    ),
    Way(
        "pages of pipes",
        "counted by user: past the limit new pipes are small",
        1,
        """
        def tell(value):
            global pipes
            pipes = [os.pipe() for _ in range(80 if value else 0)]
            for end, _ in pipes:
                try: fcntl.fcntl(end, 1031, 1 << 20)
                except OSError:
                    if len(pipes) < 80 or end == pipes[0][0]: raise
        def free(): [os.close(end) for pipe in pipes for end in pipe]
        """,
        """
        def hear():
            ends = os.pipe()
            size = fcntl.fcntl(ends[0], 1032)
            [os.close(end) for end in ends]
            return int(size < 65536)
        """,
    ),
    Way(
        "asynchronous I/O",
        "events are counted for the machine",
        1,
        """
        def tell(value):
            global context
            context = ctypes.c_ulong(0)
            if value: call(206, 0, 60000, ctypes.byref(context))
        def free():
            if context.value: call(207, 1, context.value)
        """,
        """
        def hear():
            context = ctypes.c_ulong(0)
            try: call(206, 0, 9000, ctypes.byref(context))
            except BlockingIOError: return 1
            call(207, 1, context.value)
            return 0
        """,
    ),
    Way(
        "priorities of a user",
        "the best one of all its processes",
        1,
        """
        def tell(value): call(251, 30, 1, 0, 2 << 13 | (0 if value else 4))
        """,
        """
        def hear(): return int(call(252, 31, 3, os.getuid()) & 7 == 0)
        """,
    ),
    Way(
        "descriptors in flight",
        "counted by user: past the limit none is sent",
        1,
        """
        sent = False
        def tell(value):
            global ours, sent
            if value:
                for one, _ in ours: socket.send_fds(one, [b"x"], [0] * 250)
                sent = True
        def free():
            global sent
            if sent:
                for _, other in ours:
                    for fd in socket.recv_fds(other, 1, 250)[1]: os.close(fd)
            sent = False
        """,
        """
        def hear():
            try: socket.send_fds(mine, [b"x"], [0])
            except OSError as error:
                if error.errno != 109: raise
                return 1
            for fd in socket.recv_fds(other, 1, 1)[1]: os.close(fd)
            return 0
        """,
        """
        def start_hearing():
            global mine, other
            mine, other = socket.socketpair()
            resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
        def start_telling():
            global ours
            resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000))
            ours = [socket.socketpair() for _ in range(9)]
        """,
        left=_RUNS,
    ),
    Way(
        "room on the disk",
        "of the one file system",
        4,
        """
        def tell(value):
            with open(room, "wb") as file: file.write(bytes((1 + value) << 20))
            os.sync()
        def free(): os.unlink(room)
        """,
        """
        def hear():
            global least
            now = os.statvfs("/usr").f_bfree * os.statvfs("/usr").f_frsize
            return max(0, round((least - now) / (1 << 20)) - 1)
        """,
        """
        room = "room"
        def start_hearing():
            global least
            least = os.statvfs("/usr").f_bfree * os.statvfs("/usr").f_frsize
        """,
        left=_RUNS,
    ),
    Way(
        "sysinfo",
        "the number of threads on the machine",
        4,
        """
        def tell(value):
            global end
            end = threading.Event()
            for _ in range(4 * value): threading.Thread(target=end.wait, args=(9,), daemon=True).start()
        def free(): end.set()
        """,
        """
        def count():
            text = ctypes.create_string_buffer(112)
            call(99, 179, text)
            return struct.unpack_from("H", text, 80)[0]
        def hear(): return round((count() - least) / 4) % 16
        """,
        """
        def start_hearing():
            global least
            least = count()
        """,
        left=_RUNS,
    ),
    Way(
        "/proc/loadavg",
        "the number of threads on the machine",
        4,
        """
        def tell(value):
            global end
            end = threading.Event()
            for _ in range(4 * value): threading.Thread(target=end.wait, args=(9,), daemon=True).start()
        def free(): end.set()
        """,
        """
        def count(): return int(open("/proc/loadavg").read().split("/")[1].split()[0])
        def hear(): return round((count() - least) / 4) % 16
        """,
        """
        def start_hearing():
            global least
            least = count()
        """,
        left=("B run",),
    ),
    Way(
        "/proc/stat",
        "how many processes were ever started",
        4,
        """
        def tell(value):
            for _ in range(4 * value):
                thread = threading.Thread(target=int)
                thread.start()
                thread.join()
        """,
        """
        def count(): return int(open("/proc/stat").read().split("processes ")[1].split()[0])
        def hear():
            global least
            got, least = round((count() - least) / 4), count()
            return got % 16
        """,
        """
        def start_hearing():
            global least
            least = count()
        """,
        left=("B run",),
    ),
    Way(
        "numbers of threads",
        "given in turn, to all in a PID namespace",
        4,
        """
        def tell(value):
            for _ in range(4 * value):
                thread = threading.Thread(target=int)
                thread.start()
                thread.join()
        """,
        """
        def count():
            found = []
            thread = threading.Thread(target=lambda: found.append(threading.get_native_id()))
            thread.start()
            thread.join()
            return found[0]
        def hear():
            global least
            now = count()
            got, least = round((now - least - 1) / 4), now
            return got % 16
        """,
        """
        def start_hearing():
            global least
            least = count()
        """,
        left=("B run", "B scoring"),
    ),
    Way(
        "numbers of inodes",
        "of pipes, sockets and /proc, given in turn by each processor",
        4,
        """
        def tell(value):
            for _ in range(2 * value): [os.close(end) for end in os.pipe()]
        """,
        """
        def count():
            ends = os.pipe()
            number = os.fstat(ends[0]).st_ino
            [os.close(end) for end in ends]
            return number
        def hear():
            global least
            now = count()
            got, least = round((now - least - 1) / 2), now
            return got % 16
        """,
        """
        def start_hearing():
            global least
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            least = count()
        def start_telling(): os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        """,
        left=(*_RUNS, "A scoring", "B scoring"),  # while the model is loaded
    ),
    Way(
        "inodes of /proc",
        "the same, by a look at a new thread's folder",
        4,
        """
        def tell(value):
            for _ in range(2 * value): [os.close(end) for end in os.pipe()]
        """,
        """
        def count():
            found, end = [], threading.Event()
            thread = threading.Thread(target=lambda: (found.append(os.stat(f"/proc/self/task/{threading.get_native_id()}").st_ino)))
            thread.start()
            thread.join()
            return found[0]
        def hear():
            global least
            now = count()
            got, least = round((now - least - 2) / 2), now
            return got % 16
        """,
        """
        def start_hearing():
            global least
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            least = count()
        def start_telling(): os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        """,
        left=(*_RUNS, "B scoring"),
    ),
    Way(
        "names of processes",
        "in /proc, for all who can list it",
        16,
        """
        def tell(value): libc.prctl(15, f"red{value}".encode(), 0, 0, 0)
        """,
        """
        def hear():
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                try:
                    name = open(f"/proc/{pid}/comm").read()
                except OSError: continue
                if name.startswith("red"): return int(name[3:])
        """,
        left=("B run",),
    ),
    Way(
        "files of another run",
        "whether a path exists, though it cannot be read",
        8,
        """
        def tell(value): open(f"{TREE}/letter{value}", "w").close()
        def free(): [os.unlink(f"{TREE}/{name}") for name in os.listdir(TREE) if name.startswith("letter")]
        """,
        """
        def hear():
            for value in range(256):
                if os.path.exists(f"{TREE}/letter{value}"): return value
        """,
        left=("B run", "B scoring"),
    ),
    Way(
        "the processor",
        "is slower while another computes",
        1,
        """
        def tell(value):
            until = time.monotonic() + SLOT * 0.9
            while value and time.monotonic() < until: pass
        """,
        """
        def work():
            until, done = time.monotonic() + SLOT * 0.5, 0
            while time.monotonic() < until: done += 1
            return done
        def hear():
            done = work()
            seen.append(done)
            return int(done < sorted(seen)[len(seen) // 2] * 0.8)
        hear.early = True
        """,
        """
        seen = []
        def start_hearing(): os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        start_telling = start_hearing
        """,
        left=("A run", "A scoring", "B run", "B scoring"),
    ),
]
