"""Locks of cards between processes and users, with a driver made for the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.false_driver import FalseDriver

CODE = """
import os, sys
from pathlib import Path
from core.lab.gpu import card_locks, cards
from core.lab.gpu.card_locks import FOLDER, CardLocks, holder_of

mine, other = CardLocks("night", Path("/p/a")), CardLocks("day", Path("/p/b"))
assert mine.take(("gpu0", "gpu1", "cpu0")) == {} and mine.take(("gpu0",)) == {}
said = f"session night in /p/a (pid {os.getpid()})"
assert other.take(("gpu0", "gpu2")) == {"gpu0": said} and holder_of("gpu1") == said, holder_of("gpu1")
mine.keep_only(("gpu1",))
assert holder_of("gpu0") == "" and other.take(("gpu0", "gpu0.1")) == {}
assert FOLDER.stat().st_mode & 0o7777 == 0o1777

own = FOLDER / f"{cards.uuid_of('gpu3')}.{os.getuid()}"
victim = Path(sys.argv[1])
own.symlink_to(victim)
assert "something else" in mine.take(("gpu3",))["gpu3"] and victim.read_text() == "precious"
own.unlink()
os.link(victim, own)
assert mine.take(("gpu3",)) == {"gpu3": "another process"} and victim.read_text() == "precious"
own.unlink()
if os.getuid() == 0:  # another user
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        os.environ["AUTORESEARCH_HOME"] = "/nowhere"
        os.setgid(65534), os.setuid(65534)
        theirs = CardLocks("else", Path("/p/c"))
        found = theirs.take(("gpu1", "gpu3"))
        os._exit(found != {"gpu1": said[:-1] + ", user root)"})
mine.release()
assert other.take(("gpu1",)) == {}
"""


def test_a_card_has_one_holder_across_sessions_and_users(tmp_path: Path) -> None:
    driver = FalseDriver(tmp_path / "driver")
    (tmp_path / "victim").write_text("precious")
    tmp_path.chmod(0o755)
    env = {**os.environ, "LD_LIBRARY_PATH": str(driver.folder)}
    command = [sys.executable, "-c", CODE, str(tmp_path / "victim")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
