"""Temporary folders: removed at their end, and after a kill by whoever looks for what is left over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core.lab.shim.clocks.clock_register import is_locked
from core.lab.stale_tmp import remove_stale
from core.temporary import own_folder

HOLDER = """
import time
from core.temporary import own_folder
with own_folder("index") as folder:
    open(folder + "/file", "w").close()
    print(folder, flush=True)
    time.sleep(300)
"""


def test_a_folder_is_gone_with_its_block() -> None:
    with own_folder("index") as folder:
        Path(folder, "file").touch()
        assert is_locked(folder)
    assert not Path(folder).exists()


def test_the_folder_of_a_killed_process_is_removed_at_once_and_that_of_a_live_one_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], env={"TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        folder = Path(holder.stdout.readline().strip())
        try:
            assert remove_stale(tmp_path) == [] and (folder / "file").exists()
        finally:
            holder.kill()
    assert remove_stale(tmp_path) == [folder.name] and list(tmp_path.iterdir()) == []
