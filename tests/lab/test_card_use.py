"""A process that uses a card is told by what it has in its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core.lab.gpu.card_use import uses_card
from tests.false_driver import FalseDriver

WAITS = "import sys, ctypes; [ctypes.CDLL(path) for path in sys.argv[1:]]; print('up', flush=True); sys.stdin.read()"


def test_a_process_with_the_drivers_library_uses_a_card(tmp_path: Path) -> None:
    library = FalseDriver(tmp_path / "driver").folder / "libcuda.so.1"
    pids = []
    for libraries in ([], [str(library)]):
        with subprocess.Popen(
            [sys.executable, "-c", WAITS, *libraries], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == b"up\n"
            assert uses_card([process.pid]) == bool(libraries)
            pids.append(process.pid)
            process.communicate()
    assert not uses_card(pids) and not uses_card([]), "what has ended uses none"
