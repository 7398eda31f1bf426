"""Where control groups can be made, by files laid out like the kernel's, and for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.lab.sandbox import delegation
from core.lab.sandbox.delegation import OWN, Delegation, examine
from core.lab.shim.group.cgroup import ControlGroup

NOWHERE = Path("/nowhere")


def machine(root: Path, group: str, *, mounted: bool = True) -> Path:
    """/proc and /sys of a process in `group`. Returns the group's folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    line = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" if mounted else ""
    (root / "proc/self/mountinfo").write_text(line)
    folder = root / "sys/fs/cgroup" / group.lstrip("/")
    folder.mkdir(parents=True)
    for name, text in {"cgroup.procs": "1\n7\n", "cgroup.controllers": "cpu memory pids\n",
                       "cgroup.subtree_control": "\n", "cgroup.type": "domain\n", "cgroup.kill": "",
                       "cgroup.freeze": "0\n", "cpu.stat": "usage_usec 0\n"}.items():  # fmt: skip
        (folder / name).write_text(text)
    return folder


def test_without_a_mount_there_are_none(tmp_path: Path) -> None:
    machine(tmp_path, "/", mounted=False)
    found = examine(tmp_path, NOWHERE)
    assert found.base == "" and found.sentence().startswith("not used: control groups of version 2 are not mounted")


def test_a_group_of_systemd_is_used_only_when_it_is_delegated(tmp_path: Path) -> None:
    folder = machine(tmp_path, "/user.slice/session-3.scope")
    found = examine(tmp_path, tmp_path)
    assert found.base == "" and found.why == "systemd has not delegated session-3.scope"
    assert "systemd-run" in found.hint and "--scope -p Delegate=yes" in found.hint
    try:
        os.setxattr(folder, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system has no attributes")
    assert "systemd" not in examine(tmp_path, tmp_path).why


def test_in_a_container_all_moves_into_a_group_below(tmp_path: Path) -> None:
    """Nothing is the kernel's here, so that the group cannot be used in the end."""
    folder = machine(tmp_path, "/")
    found = examine(tmp_path, NOWHERE)
    assert (folder / OWN / "cgroup.procs").read_text() in ("1", "7")
    assert (folder / "cgroup.subtree_control").read_text() == "+pids"
    assert found.base == "" and "this kernel has no cgroup.kill" in found.why


def test_processes_that_cannot_be_seen_are_left_where_they_are(tmp_path: Path) -> None:
    folder = machine(tmp_path, "/")
    (folder / "cgroup.procs").write_text("0\n7\n")
    examine(tmp_path, NOWHERE)
    assert not (folder / OWN / "cgroup.procs").exists()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Delegation("/g", ("memory", "pids")), "processor time, memory, number, freeze and end of runs"),
        (Delegation("/g", (), "no memory controller there"), "no memory controller there: the other limits are"),
    ],
)
def test_doctor_says_which_is_used(found: Delegation, words: str) -> None:
    assert words in found.sentence() and found.sentence().startswith("version 2 in /g")


def test_what_is_found_here_works() -> None:
    found = delegation.delegation()
    if not found.base:
        pytest.skip(found.why)
    group = ControlGroup.make(found.base)
    assert group is not None
    enter = f"import time\nopen({group.path + '/cgroup.procs'!r}, 'w').write('0')\nend = time.process_time() + 0.1"
    busy = "while time.process_time() < end: pass\nprint(1, flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-S", "-c", f"{enter}\n{busy}"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        seconds = group.cpu_seconds()
        assert group.pids() == [process.pid] and seconds is not None and seconds >= 0.09
        group.kill()
        assert process.wait(30) == -9
    assert group.end() and not Path(group.path).exists()
