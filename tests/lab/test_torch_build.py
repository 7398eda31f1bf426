"""The build of torch for a driver and its cards, and what is said of a torch that cannot use them"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from core.engine.startup.command_needs import check_packages
from core.lab.gpu import torch_build
from core.lab.gpu.torch_build import (
    BUILDS,
    TESTED,
    FoundTorch,
    InstalledDriver,
    TorchCard,
    fitting_build,
    installed_driver,
)
from core.record.errors import ProjectError
from tests import ROOT
from tests.lab.simulated_torch import environment_with, nvidia_smi

FITTING = {  # driver, compute capabilities of the cards: build
    ("580.65.06", "8.0"): "cu130",
    ("595.10", "9.0"): "cu130",
    ("580.95.05", "12.0"): "cu130",
    ("580.95.05", "10.3"): "cu130",
    ("580.95.05", "7.5"): "cu130",
    ("580.95.05", "7.0"): "cu126",  # CUDA 13 has no code for Volta
    ("580.95.05", "6.1"): "cu126",
    ("575.57.08", "9.0"): "cu126",
    ("575.57.08", "12.0"): "cu128",  # CUDA 12.6 has none for Blackwell
    ("570.86.15", "10.0"): "cu128",
    ("570.86.15", "8.9"): "cu126",
    ("560.35.03", "8.6"): "cu126",
    ("550.54.15", "9.0"): "cu126",
    ("535.183.01", "8.0"): "cu126",
    ("525.60.13", "7.0"): "cu126",
    ("525.60.11", "8.0"): "cu118",
    ("520.61.05", "8.0"): "cu118",
    ("470.256.02", "7.5"): "cu118",
    ("450.80.02", "7.0"): "cu118",
    ("450.51.06", "7.0"): "",
    ("440.33", "7.5"): "",
    ("470.256.02", "3.7"): "",
    ("580.65.06", "3.5"): "",
    ("520.61.05", "12.0"): "",
    ("580.65.06", ""): "cu130",  # the card is not known
    ("535.183.01", ""): "cu126",
    ("580.65.06", "7.0 7.0 8.0"): "cu126",
    ("580.65.06", "6.1 12.0 12.0"): "cu130",
}


@pytest.mark.parametrize(("driver", "cards"), FITTING)
def test_the_build_for_a_driver_and_its_cards(driver: str, cards: str) -> None:
    found = fitting_build(machine(driver, cards))
    assert (found.name if found else "") == FITTING[driver, cards]
    if found:
        assert found.index == f"https://download.pytorch.org/whl/{found.name}"
        assert found.requirement.endswith(f"+{found.name}"), "another index could answer with another build"


def machine(driver: str, cards: str) -> InstalledDriver:
    capabilities = [tuple(map(int, one.split("."))) for one in cards.split()] or [()]
    return InstalledDriver(driver, tuple(TorchCard("NVIDIA X", one) for one in capabilities))


def test_the_tested_torch_is_written_in_the_constraints_too() -> None:
    """And the table in the docs has every build with its driver."""
    docs = (ROOT / "docs/nanotrain.md").read_text()
    rows = [line for line in docs.splitlines() if line.startswith("| from ")]
    assert len(rows) == len(BUILDS)
    for build, row in zip(BUILDS, rows, strict=True):
        assert row.startswith(f"| from {build.driver} on |") and f"`{build.requirement}`" in row
    lines = (ROOT / ".ci/constraints-cpu.txt").read_text().splitlines()
    assert f"torch=={TESTED}" in lines and BUILDS[0].torch == TESTED
    minimum = ".".join(map(str, torch_build.MINIMUM))
    assert f'"torch>={minimum}"' in (ROOT / "pyproject.toml").read_text()
    assert all(torch_build.is_new_enough(build.torch) for build in BUILDS)


@pytest.mark.parametrize(
    ("version", "enough"),
    [("2.6.0", True), ("2.13.0+cu126", True), ("2.7.0a0+6c54963f75.nv25.05", True), ("3.0", True), ("2.5.1", False),
     ("2.6.0a0+ecf3bae40a.nv25.01", False), ("2.6.0.dev20241112", False), ("1.13.1", False), ("", False)],
)  # fmt: skip
def test_versions_that_are_new_enough(version: str, enough: bool) -> None:
    assert torch_build.is_new_enough(version) is enough


def test_the_driver_is_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path, '550.54.15', 'NVIDIA A100-SXM4-40GB, 8.0')}:/usr/bin:/bin")
    assert installed_driver() == InstalledDriver("550.54.15", (TorchCard("NVIDIA A100-SXM4-40GB", (8, 0)),))
    nvidia_smi(tmp_path, "470.256.02", "Tesla T4", "Tesla K80")  # one that does not know compute_cap
    assert installed_driver() == InstalledDriver("470.256.02", (TorchCard("Tesla T4"), TorchCard("Tesla K80")))
    (tmp_path / "smi/nvidia-smi").write_text(
        "#!/bin/sh\n[ $# = 0 ] && echo '| Driver Version: 535.104.05  CUDA 12.2 |'"
    )
    assert installed_driver() == InstalledDriver("535.104.05", (TorchCard("NVIDIA GPU"),))
    (tmp_path / "smi/nvidia-smi").write_text(
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate'; exit 9"
    )
    assert torch_build.why_no_driver(tmp_path) == "nvidia-smi is here and tells of no GPU"
    for none in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert installed_driver() is None and not torch_build.why_no_driver(tmp_path), "the person wants no GPU"


def test_an_nvidia_smi_that_hangs_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path, '550.54.15')}:/usr/bin:/bin")
    monkeypatch.setattr(torch_build, "_SMI_SECONDS", 1.0)
    (tmp_path / "smi/nvidia-smi").write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexec sleep 60\n")
    assert installed_driver(tmp_path, tmp_path) is None
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.parametrize(
    "text",
    ["NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:\n",
     "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.183.01  Release Build  (root@x)  Sun May 12\n"],
)  # fmt: skip
def test_the_driver_is_read_from_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "version").write_text(text)
    assert installed_driver(tmp_path, tmp_path) is None, "a container without a card sees the file of its host"
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert f"{tmp_path}/nvidia0 is here, and no driver" in torch_build.why_no_driver(tmp_path)
    assert installed_driver(tmp_path, tmp_path) == InstalledDriver("535.183.01", (TorchCard("NVIDIA GPU"),) * 2)


OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 12020)."
NO_CODE = "CUDA error: no kernel image is available for execution on the device"


def said(found: FoundTorch, driver: str, cards: str) -> tuple[str, str]:
    said = torch_build.trouble(found, machine(driver, cards), "/env/bin/python", "make run")
    assert said is not None
    return said


def test_a_driver_older_than_the_build_is_told_the_build_for_it() -> None:
    what, hint = said(FoundTorch("2.13.0", "13.0", trouble=OLD_DRIVER), "535.183.01", "8.0")
    assert what == f"torch 2.13.0 of /env/bin/python cannot use NVIDIA X (sm_80), driver 535.183.01: {OLD_DRIVER}"
    index = "https://download.pytorch.org/whl/cu126"
    assert hint == f"/env/bin/python -m pip install torch=={TESTED}+cu126 --index-url {index}"


def test_a_build_older_than_the_card_is_told_the_build_for_it() -> None:
    card = TorchCard("NVIDIA GeForce RTX 5090", (12, 0), NO_CODE)
    found = FoundTorch("2.6.0+cu124", "12.4", ("sm_50", "sm_86", "sm_90", "compute_90"), (card,))
    what, hint = said(found, "580.65.06", "12.0")
    assert NO_CODE in what and f"torch=={TESTED}+cu130" in hint
    assert "torch==2.11.0+cu128" in said(found, "570.86.15", "")[1], "the card that torch names counts"
    hopper = FoundTorch("2.9.0+cu126", "12.6", ("sm_80", "sm_86"), (TorchCard("NVIDIA H100", (9, 0), NO_CODE),))
    assert f"torch=={TESTED}+cu126" in said(hopper, "550.54.15", "9.0")[1], "sm_86 is not code for sm_90"
    old = FoundTorch("2.13.0", "13.0", ("sm_75", "sm_80", "sm_120"), (TorchCard("Tesla V100", (7, 0), NO_CODE),))
    assert f"torch=={TESTED}+cu126" in said(old, "580.65.06", "7.0")[1]


def test_a_build_without_cuda_is_told_one_with_it() -> None:
    what, hint = said(FoundTorch("2.13.0+cpu", trouble="Torch not compiled with CUDA enabled"), "580.65.06", "9.0")
    assert "not compiled with CUDA" in what and f"torch=={TESTED}+cu130" in hint


def test_a_driver_in_trouble_is_not_told_to_install_the_same_torch() -> None:
    busy = FoundTorch("2.13.0", "13.0", trouble="CUDA unknown error")
    assert "this build fits the driver" in said(busy, "580.65.06", "9.0")[1]
    gone = FoundTorch(
        "2.9.0+cu126", "12.6", ("sm_80",), (TorchCard("A", (8, 6), "CUDA error: unspecified launch failure"),)
    )
    assert "this build fits the driver" in said(gone, "535.183.01", "8.6")[1]


def test_without_a_build_the_hint_is_to_train_on_the_cpu() -> None:
    _, hint = said(FoundTorch("2.13.0", "13.0", trouble=OLD_DRIVER), "440.33.01", "7.5")
    assert hint == (
        "torch from 2.6 on needs a driver from 450.80.02 on; to train on the CPU: CUDA_VISIBLE_DEVICES= make run"
    )
    assert "another card or driver" in said(FoundTorch("2.13.0", "13.0", trouble="x"), "470.256.02", "3.7")[1]


def test_a_card_whose_memory_others_took_can_be_used() -> None:
    full = TorchCard("A", (8, 0), "CUDA out of memory. Tried to allocate 2.00 MiB.")
    assert FoundTorch("2.13.0", "13.0", cards=(full,)).usable
    assert FoundTorch(
        "2.13.0", "13.0", cards=(TorchCard("A", (8, 0), "CUDA error: lost"), TorchCard("B", (8, 0)))
    ).usable
    assert FoundTorch("2.13.0", "13.0", cards=(TorchCard("A", (8, 0), "CUDA error: lost"),)).why == "CUDA error: lost"


def test_a_python_is_asked_by_a_kernel_on_every_card(tmp_path: Path) -> None:
    python = environment_with(tmp_path, version="2.6.0+cu124", cuda="12.4", arches="sm_90", cards="RTX 5090:12.0:")
    found = torch_build.torch_of(str(python), os.environ)
    assert (found.version, found.cuda, found.arches) == ("2.6.0+cu124", "12.4", ("sm_90",))
    assert found.cards == (TorchCard("RTX 5090", (12, 0)),) and found.usable and not found.why
    environment_with(tmp_path, version="2.6.0", cuda="12.4", cards=f"A:8.0:{NO_CODE};B:12.0:")
    found = torch_build.torch_of(str(python), os.environ)
    assert [card.trouble for card in found.cards] == [NO_CODE, ""] and found.usable
    environment_with(tmp_path, version="2.13.0", cuda="13.0", trouble=f"{OLD_DRIVER} Please update your driver by")
    assert torch_build.torch_of(str(python), os.environ) == FoundTorch(
        "2.13.0", "13.0", trouble=OLD_DRIVER, python=sys.version_info[:2]
    )
    (tmp_path / "lib").rename(tmp_path / "none")
    assert torch_build.torch_of(str(python), os.environ).missing
    silent = torch_build.torch_of("/bin/false", {})
    assert not silent.python and "-c 'import torch; torch.cuda.init()'" in said(silent, "550.54.15", "8.0")[1]


def test_a_torch_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command installs the build that the driver runs, where there is a GPU."""
    python = environment_with(tmp_path, version="2.4.1", cuda="12.1", metadata=("numpy", "safetensors", "tokenizers"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path, '535.183.01', 'NVIDIA A100, 8.0')}:/usr/bin:/bin")
    with pytest.raises(ProjectError) as refused:
        check_packages(f"{python} -m nanotrain.train", dict(os.environ), tmp_path)
    assert refused.value.what == f"nanotrain needs torch from 2.6 on, and {python} has 2.4.1"
    assert f"torch=={TESTED}+cu126 --index-url https://download.pytorch.org/whl/cu126" in refused.value.hint
    assert sys.executable not in refused.value.hint
