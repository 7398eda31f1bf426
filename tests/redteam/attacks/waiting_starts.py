"""Attacks of a run that starts up beside the run before it, on what it must not have before its own turn comes."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.escape import Escape

# It asks for its data, waits until it is given it, and is asked what it has computed meanwhile.
START = """
link = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
def ask():
    link.send(json.dumps({"type": "ready", "params": 1}).encode())
    print("up", flush=True)
def data():
    return socket.recv_fds(link, 65536, 8)[0]
"""
# Four sessions that compute without end, each with its processor time where all can read it.
WORK = """
import mmap
book = mmap.mmap(-1, 64)
for number in range(4):
    if os.fork() == 0:
        os.setsid()
        while True:
            BODY
            book[8 * number : 8 * number + 8] = array.array("d", [time.process_time()]).tobytes()
def used():
    return sum(array.array("d", book[:32]))
ask()
time.sleep(0.3)
before = used()
data()
took = used() - before
print("STOLEN: processor time" if took > 1.0 else "took", took, flush=True)
"""


def working(body: str = "pass") -> str:
    return START + WORK.replace("BODY", body)


TRAINER = """
print("listens", flush=True)
while True: time.sleep(0.05)
"""

ATTACKS = [
    Escape("computes-while-it-waits", "goes on computing in four sessions once it has asked for its data", working(), turn=True, slow=True),
    Escape("a-clock-of-its-own", "the same, and each says all the time that it is to go on", working("os.kill(0, signal.SIGCONT)"), ("done", "resources"), "continued itself", turn=True, slow=True),
    Escape("lifts-its-own-priority", "leaves the lowest class, and takes a better priority", f"""{START}
attempt("its old class", lambda: (os.sched_getscheduler(0) == os.SCHED_IDLE and os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)) is None) or {{}}[0])
attempt("a real-time class", lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)) or os.sched_getscheduler(0) == os.SCHED_RR or {{}}[0])
attempt("a better priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -1))
attempt("a heavier group", lambda: write("/proc/self/autogroup", "-1"))
attempt("to be killed last", lambda: write("/proc/self/oom_score_adj", "-1"))
ask()
data()
""", turn=True),
    Escape("says-that-its-turn-has-come", "makes the files by which the engine gives a run its turn and its data", f"""{START}
for run in (os.path.join(base, "run 0"), os.path.join(base, "run 1"), os.path.dirname(os.environ["AUTORESEARCH_RUN_DIR"])):
    for name in ("go", "turn", "kill", "spec.json", "status.json", "exit.json", "curve.tsv"):
        attempt(f"{{run}}/{{name}}", lambda: write(os.path.join(run, name)))
ask()
data()
""", beside=TRAINER, turn=True, check=lambda host: host.neighbour_alive()),
    Escape("reads-its-data-before-its-turn", "opens the training data by its path, and asks for it many times", f"""{START}
attempt("the data by its path", lambda: open(os.path.join(base, "session/session.db")).read())
for _ in range(50): ask()
data()
""", turn=True),
    Escape("disturbs-the-run-that-trains", "stops, binds and slows the run that trains, and reads what it prints", f"""{START}
victim = int(os.environ["RED_VICTIM"])
for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGCONT):
    attempt(f"signal {{number}}", lambda: os.kill(victim, number))
attempt("its group", lambda: os.killpg(victim, signal.SIGSTOP))
last = {{max(os.sched_getaffinity(0))}}
attempt("its processors", lambda: (os.cpu_count() > 1 and os.sched_setaffinity(victim, last) is None and os.sched_getaffinity(victim) == last) or {{}}[0])
attempt("its priority", lambda: os.setpriority(os.PRIO_PROCESS, victim, 19))
attempt("its limits", lambda: resource.prlimit(victim, resource.RLIMIT_CPU, (1, 1)))
attempt("its class", lambda: (os.sched_setscheduler(victim, os.SCHED_IDLE, os.sched_param(0)) is None and os.sched_getscheduler(victim) == os.SCHED_IDLE) or {{}}[0])
attempt("its output", lambda: open(os.path.join(base, "run 0/output.log")).read())
attempt("its folder", lambda: os.listdir(os.path.join(base, "run 0/out")))
attempt("its memory", lambda: open(f"/proc/{{victim}}/mem", "rb").read(1))
attempt("its environment", lambda: open(f"/proc/{{victim}}/environ").read())
ask()
data()
""", beside=TRAINER, turn=True, check=lambda host: host.neighbour_alive()),
    Escape("holds-memory-beside-it", "fills a file in memory without a name, beyond what is free beside the other run", f"""{START}
held = os.memfd_create("held")
for _ in range(400): os.write(held, bytes(1 << 20))
ask()
data()
print("STOLEN: memory", flush=True)
""", ("resources",), "free beside another run", {"ahead_memory": 100 << 20, "memory_limit": 4 << 30}, turn=True),
    Escape("holds-pages-beside-it", "the same in four children, each with a part of it", f"""{START}
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(100 << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(1e6)
time.sleep(3)
ask()
data()
print("STOLEN: memory", flush=True)
""", ("resources",), "free beside another run", {"ahead_memory": 200 << 20, "memory_limit": 4 << 30}, turn=True),
    Escape("says-done-before-its-turn", "says that it is done while it waits, so that it would end without a clock", f"""{START}
ask()
for _ in range(20): link.send(json.dumps({{"type": "done", "steps": 9, "tokens": 9, "sha256": "0" * 64}}).encode())
data()
link.send(json.dumps({{"type": "done", "steps": 1, "tokens": 1}}).encode())
""", turn=True),
]  # fmt: skip
