"""Device files of cards and of their slices, the file that a driver makes late, and the folder of its library."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.lab.gpu import nodes

FILES = ["/dev/dri/renderD128", "/dev/nvidia-caps", "/dev/nvidia-caps/nvidia-cap1", "/dev/nvidia-caps/nvidia-cap30",
         "/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia10", "/dev/nvidiactl"]  # fmt: skip


def test_a_slot_gets_the_device_files_of_its_own_card() -> None:
    shared = ["/dev/dri/renderD128", "/dev/nvidia-uvm", "/dev/nvidiactl"]
    assert nodes.own_nodes(FILES, ("/dev/nvidia0",)) == sorted([*shared, "/dev/nvidia0"])
    part = ("/dev/nvidia10", "/dev/nvidia-caps/nvidia-cap30")
    assert nodes.own_nodes(FILES, part) == sorted([*shared, *part])
    assert nodes.own_nodes([*FILES, "/dev/dxg"], ()) == ["/dev/dri/renderD128"]
    assert nodes.own_nodes(["/dev/dxg"], ("/dev/nvidia0",)) == ["/dev/dxg"], "WSL2 has one file for all cards"


def test_a_slice_has_its_own_capability_files(tmp_path: Path) -> None:
    table = tmp_path / "mig-minors"
    table.write_text("config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu0/gi2/access 21\n"
                     "gpu0/gi2/ci0/access 22\ngpu1/gi1/access 147\ngpu10/gi1/access 999\n")  # fmt: skip
    caps = [f"/dev/nvidia-caps/nvidia-cap{number}" for number in (12, 13, 21, 22, 147)]
    assert nodes.slice_nodes(0, (1, 0), table) == tuple(caps[:2])
    assert nodes.slice_nodes(0, table=table) == tuple(caps[:4]) and nodes.slice_nodes(1, table=table) == (caps[4],)
    assert nodes.slice_nodes(2, table=table) == nodes.slice_nodes(0, table=tmp_path / "none") == ()


def test_the_loaders_cache_is_asked_for_the_drivers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, linked = tmp_path / "real", tmp_path / "linked"
    real.mkdir()
    linked.mkdir()
    (real / "libcuda.so.570").touch()
    (linked / "libcuda.so.1").symlink_to(real / "libcuda.so.570")
    program = tmp_path / "ldconfig"
    program.write_text(f"#!/bin/sh\necho '\tlibcuda.so.1 (libc6,x86-64) => {linked}/libcuda.so.1'\n"
                       "echo '\tlibcudart.so.12 (libc6,x86-64) => /elsewhere/libcudart.so.12'\n")  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    nodes._cached_folders.cache_clear()
    assert nodes.library_folders({}) == (linked, real)
    assert nodes.library_folders({"LD_LIBRARY_PATH": f"relative:{real}:/missing"}) == (linked, real)
    nodes._cached_folders.cache_clear()
