"""Attacks by processes that are more than their first thread: memory, files, threads and daemons that nobody counts."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from textwrap import dedent

from tests.redteam.escape import Escape

# A child whose first thread has ended: what `work` does goes on in another.
LEADERLESS = """
def leaderless(work):
    child = os.fork()
    if child == 0:
        threading.Thread(target=work).start()
        call({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
    return child
"""


def behind(name: str, does: str, work: str, because: str, **limits: int) -> Escape:
    """`work` is done in a child whose first thread has ended."""
    body = "\n".join(f"    {line.strip()}" for line in work.strip().splitlines())
    program = f"{LEADERLESS}\ndef work():\n{body}\n    time.sleep(60)\nleaderless(work)\ntime.sleep(60)\n"
    return Escape(name, does, program, ("resources",), because, limits, slow=True)


ATTACKS = [
    behind("memory-behind-an-ended-thread", "takes memory in a process whose first thread has ended", """
           held = [bytearray(b'x') * (8 << 20) for _ in range(80)]
           """, "more than 300 MB of memory", memory_limit=300 << 20),
    behind("memory-files-behind-an-ended-thread", "takes memory in anonymous files of a process whose first thread has ended", """
           for _ in range(80): os.write(os.memfd_create('x'), bytes(8 << 20))
           """, "more than 300 MB of memory", memory_limit=300 << 20),
    behind("removed-files-behind-an-ended-thread", "fills the disk with removed files of a process whose first thread has ended", """
           held = [open(os.environ['TMPDIR'] + f'/{n}', 'wb') for n in range(8)]
           for one in held: os.unlink(one.name), one.write(bytes(20 << 20)), one.flush()
           """, "more than 32 MB to disk", disk_limit=32 << 20),
    Escape("threads-without-end", "starts 3,000 threads, where 64 processes are allowed", """
        threading.stack_size(64 << 10)
        for _ in range(3000):
            try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            except RuntimeError: break
        print("threads:", len(os.listdir("/proc/self/task")), flush=True)
        time.sleep(60)
        """, ("resources",), "more than 64 processes", {"process_limit": 64}, slow=True),
    Escape("files-of-one-thread-alone", "holds memory in a table of descriptors that only one of its threads has", """
        ready = threading.Event()
        def work():
            try:
                call({"x86_64": 272, "aarch64": 97}[os.uname().machine], 0x400)
            except OSError as error:
                print("refused:", error, flush=True)
                os._exit(0)
            for _ in range(80): os.write(os.memfd_create("x"), bytes(8 << 20))
            ready.set()
            time.sleep(60)
        threading.Thread(target=work).start()
        ready.wait()
        """, ("resources", "done"), "more than 300 MB of memory", {"memory_limit": 300 << 20}, slow=True),
    Escape("daemons-of-every-kind", "leaves daemons without parent, session, environment, name, files and first thread, stopped ones too", LEADERLESS + dedent("""
        name = os.environ["RED_NAME"] + "-left"
        def daemon(last):
            if os.fork(): return
            os.setsid()
            if os.fork(): os._exit(0)
            for number in range(1024):
                try: os.close(number)
                except OSError: pass
            for number in range(1, 65):
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            libc.prctl(15, b"x) Z 1 1 (", 0, 0, 0)
            libc.prctl(4, 0, 0, 0, 0)
            libc.prctl(36, 1, 0, 0, 0)
            last()
            os._exit(0)
        def sleeps(): os.execve(sys.executable, [name, "-I", "-S", "-c", "import time; time.sleep(300)"], {})
        def without_first():
            leaderless(lambda: time.sleep(300))
            time.sleep(300)
        def from_another_thread():
            threading.Thread(target=sleeps).start()
            call({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
        def stopped():
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(300)
        def beside_its_parent():
            if os.uname().machine == "x86_64" and call(56, 0x8000 | 17, 0, 0, 0, 0) == 0: sleeps()
        for last in (sleeps, without_first, from_another_thread, stopped, beside_its_parent): daemon(last)
        if sys.platform and os.uname().machine == "x86_64" and call(56, 0x8000 | 17, 0, 0, 0, 0) == 0: sleeps()
        time.sleep(0.3)
        """), check=lambda host: host.nobody_named("-left"), slow=True),
    Escape("control-groups", "looks for its control group, leaves it and makes one of its own", """
        for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            own = top + open("/proc/self/cgroup").read().splitlines()[-1].split(":")[2]
            others = [top + "/" + name for name in (os.listdir(top) if os.path.isdir(top) else []) if os.path.isdir(top + "/" + name)]
            for path in (top, own, *others):
                for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.freeze", "cgroup.kill", "cpu.stat"):
                    attempt("read", lambda: open(f"{path}/{name}").read())
                    attempt("write", lambda: write(f"{path}/{name}", "0"))
                attempt("make", lambda: os.mkdir(path + "/own"))
        attempt("mount", lambda: call({"x86_64": 165, "aarch64": 40}[os.uname().machine], b"none", os.environ["TMPDIR"].encode(), b"cgroup2", 0, None))
        if "red" in open("/proc/self/cgroup").read(): print("STOLEN: its own name")
        """),
]  # fmt: skip
