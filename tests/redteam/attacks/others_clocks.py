"""Attacks of code that is off its clock on the processors of a run on its clock, and on the stillness while it is scored."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

from tests.redteam.escape import Escape

BESIDE: dict[str, Any] = {"beside": True}
# Eight processes that compute for 1.5 s from 0.3 s after "up" on; alone they use more than a second.
CROWD = """
def burn():
    while time.monotonic() < until: BODY
def crowd(work=burn, allowed=0.7):
    global until, writer
    until, (reader, writer) = time.monotonic() + 1.8, os.pipe()
    print("up", flush=True)
    time.sleep(0.3)
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            work()
            used = os.times()
            os.write(writer, b"%f " % sum(used[:4]))
            os._exit(0)
    os.close(writer)
    took = sum(map(float, os.fdopen(reader).read().split()))
    print("STOLEN: processor time" if took > allowed else "took", took, flush=True)
"""


def crowd(body: str = "pass") -> str:
    return CROWD.replace("BODY", body)


ATTACKS = [
    Escape("a-crowd-beside-a-clock", "starts eight sessions that compute, beside a run on its clock", f"""{crowd()}
crowd()
""", clock="taken", limits=BESIDE, slow=True),
    Escape("a-crowd-that-frees-itself", "the same, and each takes all processors again whenever it is bound to fewer", f"""
everywhere = os.sched_getaffinity(0)
{crowd("os.sched_setaffinity(0, everywhere)")}
crowd()
""", clock="taken", limits=BESIDE | {"machine_processors": 2}, slow=True),
    Escape("a-class-of-its-own", "asks for a real-time class, a better priority and a heavier group of processes", f"""{crowd()}
attempt("a real-time class", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) or os.sched_getscheduler(0) == os.SCHED_FIFO or {{}}[0])
attempt("a priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
attempt("its old priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, 0))
attempt("a heavier group", lambda: write("/proc/self/autogroup", "-5"))
""", limits=BESIDE),
    Escape("short-lived-crowds", "computes in children that live for 20 ms, whose parents do not wait for them", f"""{crowd()}
def chain():
    global until
    until += 4.5
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while time.monotonic() < until:
        if os.fork() == 0:
            os.setsid()
            end = time.monotonic() + 0.02
            while time.monotonic() < end: pass
            os.write(writer, b"%f " % time.process_time())
            os._exit(0)
        time.sleep(0.01)
crowd(chain, 3.0)
""", clock="taken for long", limits=BESIDE, slow=True),
    Escape("a-crowd-behind-ended-threads", "computes in threads of processes whose first thread has ended", f"""{crowd()}
def behind():
    def work():
        burn()
        used = os.times()
        os.write(writer, b"%f " % sum(used[:2]))
        os._exit(0)
    threading.Thread(target=work).start()
    libc.syscall(ctypes.c_long(60 if os.uname().machine == "x86_64" else 93), ctypes.c_long(0))
crowd(behind)
""", clock="taken", limits=BESIDE, slow=True),
    Escape("a-crowd-while-a-model-is-scored", "starts eight sessions that compute, while a model is scored", f"""{crowd()}
crowd()
""", clock="scored", limits=BESIDE, slow=True),
    Escape("timers-that-continue-it", "has two thousand timers that send it SIGCONT, while a model is scored", """
signal.signal(signal.SIGCONT, lambda *_: None)
event = (ctypes.c_byte * 64)()
ctypes.c_int.from_buffer(event, 8).value = signal.SIGCONT
for number in range(1, 2000):
    timer, once = ctypes.c_void_p(), (ctypes.c_long * 4)(0, 0, number // 100, number % 100 * 10_000_000)
    libc.timer_create(1, event, ctypes.byref(timer))
    libc.timer_settime(timer, 0, once, None)
print("up", flush=True)
end = time.monotonic() + 6
while time.monotonic() < end: pass
""", ("done", "resources"), "continued itself", clock="scored", limits=BESIDE, slow=True),  # frozen by its group: done
    Escape("two-that-wake-each-other", "two processes that send SIGCONT to each other without end, while a model is scored", f"""{crowd()}
def wake():
    group = os.getpgid(os.getppid())
    while time.monotonic() < until:
        for pid in (os.getppid(), 0):
            try: os.kill(pid, signal.SIGCONT)
            except OSError: pass
crowd(wake)
""", ("done", "resources"), "continued itself", clock="scored", limits=BESIDE, slow=True),
]  # fmt: skip
