"""Attacks by system calls that no training needs, by their numbers, and by other ways to make a call."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.escape import Escape

# Pairs of numbers, x86-64 and aarch64; -1 where there is none.
BY_NUMBER = """
def each(**calls):
    here = 0 if os.uname().machine == "x86_64" else 1
    for name, ((*numbers,), *args) in calls.items():
        number = numbers[min(here, len(numbers) - 1)]
        if number >= 0:
            attempt(name, lambda: call(number, *args))
"""

ATTACKS = [
    Escape("mounts-by-number", "makes, moves and joins mounts and namespaces, by every call that the kernel has for it", BY_NUMBER + """
        each(unshare_time=((272, 97), 0x80), unshare_user_mount=((272, 97), 0x10020000), setns=((308, 268), 0, 0),
             fsopen=((430,), b"tmpfs", 0), open_tree=((428,), -100, b"/", 1), fspick=((433,), -100, b"/proc", 0),
             pivot_root=((155, 41), b"/", b"/tmp"),
             remount=((165, 40), b"none", b"/", 0, 0x1027, 0), umount=((166, 39), b"/proc", 2),
             mount_setattr=((442,), -100, b"/", 0x8000, bytes(32), 32))
        """, slow=True),
    Escape("rings-and-programs", "io_uring, eBPF, performance counters, page faults in its own hands, and kernel modules", BY_NUMBER + """
        each(io_uring=((425,), 8, bytes(120)), bpf=((321, 280), 0, bytes(64), 64), perf=((298, 241), bytes(112), 0, -1, -1, 0),
             userfaultfd=((323, 282), 0), kexec=((246, 104), 0, 0, 0, 0), module=((175, 105), b"x", 1, b""),
             acct=((163, 89), b"/tmp/acct"), quotactl=((179, 60), 0x80000101, 0, 0, 0), swapon=((167, 224), b"/tmp/x", 0),
             syslog=((103, 116), 3, bytes(99), 99), reboot=((169, 142), 0, 0, 0, 0), fanotify=((300, 262), 4, 0))
        """),
    Escape("others-by-number", "memory, descriptors, handles and scheduling of processes that are not its own", BY_NUMBER + """
        for pid in {os.getppid(), 1} - {os.getpid(), 0}:
            kept = ctypes.create_string_buffer(64)
            pair = (ctypes.c_ulong * 2)(ctypes.addressof(kept), 8)
            each(process_vm_readv=((310, 270), pid, pair, 1, pair, 1, 0), ptrace=((101, 117), 16, pid, 0, 0),
                 kcmp=((312, 272), pid, os.getpid(), 0, 0, 0), migrate_pages=((256, 238), pid, 64, kept, kept))
            def take():
                pidfd = call(434, pid, 0)
                return call(438, pidfd, 0, 0)
            if pid != os.getppid() or os.environ["RED_TIER"] == "B":
                attempt("descriptor", take)
        each(handle=((304, 265), -100, b"\\x08\\0\\0\\0\\x01\\0\\0\\0" + bytes(16), 0))
        """, slow=True),
    Escape("keys-by-number", "leaves a key in each keyring that the kernel has, and lists those of others", BY_NUMBER + """
        for ring in (-1, -2, -3, -4, -5):
            each(add_key=((248, 217), b"user", b"red", b"note", 4, ring), join=((250, 219), 1, b"red"), read=((250, 219), 11, ring, bytes(64), 64))
        attempt("keys", lambda: [line for line in open("/proc/keys") if "red" in line][0])
        """, slow=True),
    Escape("clocks-by-number", "sets and slews every clock", BY_NUMBER + """
        each(settimeofday=((164, 170), bytes(16), 0), adjtimex=((159, 171), b"\\x01\\0\\0\\0" + bytes(204)),
             clock_settime=((227, 112), 0, bytes(16)), clock_adjtime=((305, 266), 0, b"\\x01\\0\\0\\0" + bytes(204)))
        attempt("offsets", lambda: write("/proc/self/timens_offsets", "monotonic 100 0"))
        """, slow=True),
    Escape("calls-of-another-kind", "makes the same calls as a 32-bit program and with x32 numbers, which a filter by numbers may not know", """
        import mmap
        if os.uname().machine == "x86_64":
            for number in (248, 272, 321, 323, 425):
                attempt(f"x32 {number}", lambda: call(0x40000000 | number, 0, 0, 0, 0, 0))
            for number in (286, 310, 357, 374, 425):  # add_key, unshare, bpf, userfaultfd, io_uring_setup
                if os.fork() == 0:
                    code = mmap.mmap(-1, 4096, prot=7)
                    code.write(b"\\x53\\x31\\xdb\\x31\\xc9\\x31\\xd2\\xb8" + number.to_bytes(4, "little") + b"\\xcd\\x80\\x5b\\xc3")
                    made = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
                    print("STOLEN:" if made >= 0 else "refused:", "32 bits", number, made, flush=True)
                    os._exit(0)
                os.wait()
        """),
    Escape("a-filter-of-its-own", "puts a filter and a supervisor of its own before the harness's, to change what calls answer", """
        import struct
        program = struct.pack("HBBI", 6, 0, 0, 0x7FC00000)
        kept = ctypes.create_string_buffer(program)
        head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(kept)))
        def listen():
            libc.prctl(38, 1, 0, 0, 0)
            return call({"x86_64": 317, "aarch64": 277}[os.uname().machine], 1, 8, ctypes.addressof(head))
        if os.fork() == 0:  # in a child: all its calls wait for a supervisor that never answers
            try: listen()
            finally: os._exit(0)
        time.sleep(0.5)
        """, check=lambda host: host.nobody_left(), slow=True),
    Escape("first-in-line", "real-time scheduling, input and output before all others, locked memory, its own place when memory is short", """
        attempt("fifo", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)) or 1 / 0 if os.environ["RED_TIER"] == "A" else [][0])
        attempt("nice", lambda: os.nice(-10))
        attempt("oom", lambda: write("/proc/self/oom_score_adj", "-900"))
        attempt("group", lambda: os.mkdir("/sys/fs/cgroup/red"))
        for name in ("cpu.weight", "memory.max", "cgroup.procs"):
            attempt(name, lambda: write("/sys/fs/cgroup/" + name, "100"))
        """, slow=True),
]  # fmt: skip
