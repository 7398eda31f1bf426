"""Cheats that train on while they are scored, in processes that are not seen by their first thread or their parent."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.cheats.training_clock import BOOK, GROW, loading
from tests.redteam.patches import INIT, TOO_LATE, module

# `elsewhere(model, depart)` trains in a process that `depart` hides; the weights come back in shared memory.
ELSEWHERE = """
import ctypes, mmap, signal, threading
_exit_thread = lambda: ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)
def elsewhere(model, depart, rounds=1, steps=150):
    mine = list(model.parameters())
    total = sum(p.numel() for p in mine)
    place = torch.frombuffer(mmap.mmap(-1, 4 * total + 4), dtype=torch.float32)
    def put():
        place[:total] = torch.cat([p.data.flatten() for p in mine])
    def take():
        for p, part in zip(mine, place[:total].split([p.numel() for p in mine])): p.data.copy_(part.view_as(p))
    put()
    for number in range(rounds):
        def work():
            take(), grow(model, steps), put()
            place[total] = number + 1
            os._exit(0)
        if os.fork() == 0:
            depart(work)
        while place[total] != number + 1: time.sleep(0.05)
    take()
def without_first(work):
    threading.Thread(target=work).start()
    _exit_thread()
def as_a_daemon(work):
    os.setsid()
    if os.fork() == 0: work()
    os._exit(0)
def with_a_strange_name(work):
    ctypes.CDLL(None).prctl(15, b'x) Z 1 1 (', 0, 0, 0)
    without_first(work)
def behind_a_sleeper(work):
    threading.Thread(target=work).start()
    time.sleep(60)
def in_a_chain(work):
    os.setsid()
    if os.fork() == 0: without_first(work)
    os._exit(0)
def of_nobody(work):
    # A parent that ignores the end of its children: the kernel adds their time to nobody's.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0: behind_a_sleeper(work)
    try: os.waitpid(-1, 0)
    except OSError: os._exit(0)
"""


def trains(name: str, does: str, how: str) -> Variant:
    kept = (INIT, BOOK[0][1] + loading(f"elsewhere(self, {how})")[1].removeprefix(INIT))
    return Variant(name, does, (kept, BOOK[1], module(GROW + ELSEWHERE)), "rejected", f"{TOO_LATE}|PermissionError")


CHEATS = [
    trains("the-first-thread-ended", "trains on while it is scored, in a child whose first thread has ended", "without_first"),
    trains("the-first-thread-ended-and-renamed", "the same under a name that reads like the state of a dead process", "with_a_strange_name"),
    trains("an-orphan-trains", "trains on while it is scored, in a daemon of a session of its own", "as_a_daemon"),
    trains("orphans-in-a-chain", "trains on in thirty daemons without a first thread, one after the other", "in_a_chain, 30, 10"),
    trains("short-children-with-sleeping-heads", "trains on in thirty children, one after the other, whose first threads sleep", "behind_a_sleeper, 30, 10"),
    trains("children-of-nobody", "trains on in children whose parent ignores their end, so that their time is added to nobody's", "of_nobody, 30, 10"),
]  # fmt: skip
