"""Locks of files in runs: those of honest programs work, those on files of others say nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.lab.runner import RunSpec
from core.lab.sandbox.tiers import Tier
from tests.lab.conftest import log, run

Make = Callable[..., RunSpec]

_LOCK = """
import fcntl, os, sqlite3, struct, sys, time
LOCK = "hhxxxxqqixxxx"
def lock(file, command, kind, start=0):
    return struct.unpack(LOCK, fcntl.fcntl(file, command, struct.pack(LOCK, kind, 0, start, 1, 0)))
def refused(do):
    try: do()
    except OSError as error: return error.errno
    return 0
"""


async def test_locks_exclude_the_processes_of_a_run(job: Make, tier: Tier) -> None:
    program = """
mine, other = open("lock", "w"), open("lock", "w")
fcntl.flock(mine, fcntl.LOCK_EX)
print("flock", refused(lambda: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)))
begun = time.monotonic()
if os.fork() == 0:
    with open("lock") as third:
        fcntl.flock(third, fcntl.LOCK_EX)  # waits
    print("waited", time.monotonic() - begun > 0.1, flush=True)
    os._exit(0)
time.sleep(0.15)
fcntl.flock(mine, fcntl.LOCK_UN)
os.wait()
lock(mine, fcntl.F_SETLK, fcntl.F_WRLCK)
print("own", lock(mine, fcntl.F_GETLK, fcntl.F_WRLCK)[0] == fcntl.F_UNLCK)
if os.fork() == 0:
    print("process", refused(lambda: lock(other, fcntl.F_SETLK, fcntl.F_WRLCK)), flush=True)
    print("asked", lock(other, fcntl.F_GETLK, fcntl.F_WRLCK)[0] == fcntl.F_WRLCK, flush=True)
    os._exit(0)
os.wait()
lock(mine, 37, fcntl.F_WRLCK, 9)
print("open file", refused(lambda: lock(other, 37, fcntl.F_WRLCK, 9)), 
      lock(other, 36, fcntl.F_WRLCK, 9)[0] == fcntl.F_WRLCK)
for mode in ("delete", "wal"):
    base = sqlite3.connect(f"{mode}.db")
    base.execute(f"pragma journal_mode={mode}")
    with base: base.execute("create table t (a)")
    second = sqlite3.connect(f"{mode}.db", timeout=0)
    base.execute("begin immediate")
    try: second.execute("begin immediate")
    except sqlite3.OperationalError as error: print(mode, error)
    base.execute("insert into t values (1)")
    base.commit()
    print(second.execute("select count(*) from t").fetchone()[0])
"""
    spec = job(_LOCK + program, sandbox=tier)
    assert (await run(spec)).ended == "done", log(spec)
    assert log(spec).split("\n")[:-1] == [
        "flock 11", "waited True", "own True", "process 11", "asked True", "open file 11 True",
        "delete database is locked", "1", "wal database is locked", "1",
    ]  # fmt: skip


async def test_a_file_of_others_cannot_be_locked(job: Make, tier: Tier) -> None:
    """Shared locks, as programs take that read data, seem to be taken; a question finds no lock."""
    program = """
for path, mode in (("/usr/bin/env", "rb"), ("/dev/null", "r+b"), (os.__file__, "rb")):
    with open(path, mode, buffering=0) as file:
        print(refused(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)),
              refused(lambda: fcntl.flock(file, fcntl.LOCK_SH)), refused(lambda: fcntl.flock(file, fcntl.LOCK_UN)),
              refused(lambda: lock(file, fcntl.F_SETLK, fcntl.F_RDLCK)), refused(lambda: lock(file, 37, fcntl.F_WRLCK)),
              lock(file, fcntl.F_GETLK, fcntl.F_WRLCK)[0] == lock(file, 36, fcntl.F_WRLCK)[0] == fcntl.F_UNLCK,
              refused(lambda: fcntl.fcntl(file, 1024, fcntl.F_RDLCK)))
"""
    spec = job(_LOCK + program, sandbox=tier)
    assert (await run(spec)).ended == "done", log(spec)
    assert log(spec).split("\n")[:-1] == ["1 0 0 0 1 True 1"] * 3


@pytest.mark.parametrize("program", ["flock", "git"])
async def test_commands_that_lock_work_in_runs(job: Make, tier: Tier, program: str) -> None:
    commands = {
        "flock": "flock -x lockfile echo fine",
        "git": "git init -q g && cd g && git -c user.name=a -c user.email=b commit -q --allow-empty -m x && echo fine",
    }
    text = (
        f"import subprocess; print(subprocess.run({commands[program]!r}, shell=True, capture_output=True, text=True))"
    )
    spec = job(text, sandbox=tier)
    assert (await run(spec)).ended == "done" and "fine" in log(spec), log(spec)
