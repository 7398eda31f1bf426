"""The process tree where the kernel tells the children of a thread, and where it does not (gVisor)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from core.lab.shim import proctree


@pytest.mark.parametrize("read", [proctree.descendants, proctree._descendants_by_parent])
def test_a_tree_is_read_parents_first(read: Callable[[int], list[int]]) -> None:
    script = "sh -c 'sleep 60 & sleep 60 & echo $$ $!; wait' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True, text=True) as process:
        assert process.stdout is not None
        inner, last = map(int, process.stdout.readline().split())
        found = read(process.pid)
        for pid in (*found, process.pid):
            proctree.sigkill(pid)
    assert len(found) == 3 and found[0] == inner and last in found[1:]
    assert read(process.pid) == []
