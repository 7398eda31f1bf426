"""Limits of control groups, read from files as containers of several kinds have them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from core.lab.container import cores, memory_total, memory_used

GB = 2**30
V2 = "30 24 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "35 31 0:32 {top} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" \
     "36 31 0:33 {top} /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct"  # fmt: skip
V1_GROUPS = "4:memory:{path}\n3:cpu,cpuacct:{path}\n0::/"


def machine(root: Path, mounts: str, groups: str, files: Mapping[str, str]) -> Path:
    for name, text in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("mounts", "groups", "files"),
    [
        (V2.format(top="/"), "0::/", {"memory.max": str(GB), "cpu.max": "100000 100000"}),  # docker, own namespace
        (V2.format(top="/"), "0::/a.slice/job", {"memory.max": "max", "a.slice/memory.high": str(GB),
            "a.slice/job/memory.max": "max", "a.slice/cpu.max": "150000 100000", "a.slice/job/cpu.max": "max 100000"}),
        (V2.format(top="/docker/x"), "0::/docker/x/inner", {"memory.max": str(2 * GB), "inner/memory.max": str(GB),
            "cpu.max": "100000 100000"}),
        (V2.format(top="/"), "0::/../../other", {"memory.max": str(GB), "cpu.max": "100000 100000"}),
        (V1.format(top="/"), V1_GROUPS.format(path="/job"), {"memory/job/memory.limit_in_bytes": str(GB),
            "memory/memory.limit_in_bytes": "9223372036854771712", "cpu,cpuacct/job/cpu.cfs_quota_us": "100000",
            "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}),
        (V1.format(top="/docker/x"), V1_GROUPS.format(path="/docker/x"), {"memory/memory.limit_in_bytes": str(GB),
            "cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}),
        (V1.format(top="/"), V1_GROUPS.format(path="/docker/x"), {"memory/memory.limit_in_bytes": str(GB),
            "cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}),
    ],
)  # fmt: skip
def test_the_smallest_limit_of_the_groups_holds(
    tmp_path: Path, mounts: str, groups: str, files: dict[str, str]
) -> None:
    root = machine(tmp_path, mounts, groups, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert memory_total(root) == GB and cores(root) == 1


def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    names = {"memory/memory.limit_in_bytes": "9223372036854771712", "cpu,cpuacct/cpu.cfs_quota_us": "-1",
             "cpu,cpuacct/cpu.cfs_period_us": "100000"}  # fmt: skip
    none = {f"sys/fs/cgroup/{name}": text for name, text in names.items()}
    for root in (tmp_path / "empty", machine(tmp_path / "v1", V1.format(top="/"), V1_GROUPS.format(path="/a"), none)):
        assert memory_total(root) == psutil.virtual_memory().total and cores(root) == len(os.sched_getaffinity(0))
        assert 0 < memory_used(root) < memory_total(root)


def test_the_used_memory_is_that_of_the_group_with_the_limit(tmp_path: Path) -> None:
    files = {"memory.max": str(GB), "memory.current": str(GB // 2), "memory.stat": f"anon 1\ninactive_file {GB // 4}"}
    root = machine(tmp_path, V2.format(top="/"), "0::/", {f"sys/fs/cgroup/{n}": text for n, text in files.items()})
    assert memory_used(root) == GB // 4
