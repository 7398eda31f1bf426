"""The first step of a device check: what a driver and a build of torch can do with each other; folders; memory."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core.engine.device_check import machine_facts
from core.engine.device_check.card_facts import CardFacts, peak_of
from core.engine.device_check.run_python import RunPython, python_words, run_python
from core.lab.gpu.torch_build import FoundTorch, TorchCard
from tests.lab.simulated_torch import nvidia_smi

H100 = CardFacts(
    name="NVIDIA H100 80GB HBM3", uuid="GPU-1", total=80 << 30, free=79 << 30, capability=(9, 0), peak_tflops=989.0
)
PYTHON = RunPython(version="3.12.4", executable=sys.executable, headers=True, triton="3.5.0")
TORCH = FoundTorch("2.11.0+cu128", "12.8", ("sm_80", "sm_90"), (TorchCard("NVIDIA H100", (9, 0)),))
AGAIN = "autoresearch-tui doctor --device"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of the time of CUDA 12.4."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path, '550.54.15', 'NVIDIA H100, 9.0')}:/usr/bin:/bin")


@pytest.mark.usefixtures("driver")
def test_what_driver_torch_and_card_cannot_do_is_told_with_the_line_that_fixes_it() -> None:
    assert machine_facts.torch_finding(TORCH, PYTHON, H100, AGAIN).ok is True
    words = "The NVIDIA driver on your system is too old (found version 12040)"
    newer = FoundTorch("2.13.0+cu130", "13.0", trouble=words)
    found = machine_facts.torch_finding(newer, PYTHON, H100, AGAIN)
    assert found.ok is False and words in found.detail and "built for CUDA 13.0" in found.detail
    assert "driver 550.54.15" in found.detail and "torch==" in found.hint and "+cu126" in found.hint
    no_code = TorchCard("NVIDIA RTX 5090", (12, 0), "no kernel image is available")
    old = FoundTorch("2.6.0+cu124", "12.4", ("sm_80", "sm_90"), (no_code,))
    found = machine_facts.torch_finding(old, PYTHON, replace(H100, capability=(12, 0)), AGAIN)
    assert found.ok is False and "no kernel image" in found.detail and "+cu128" in found.hint
    plain = FoundTorch("2.13.0+cpu", trouble="Torch not compiled with CUDA enabled")
    found = machine_facts.torch_finding(plain, PYTHON, H100, AGAIN)
    assert found.ok is False and "built for the CPU only" in found.detail and "+cu126" in found.hint
    assert machine_facts.torch_finding(plain, PYTHON, None, AGAIN).ok is True, "without a card any build will do"


@pytest.mark.usefixtures("driver")
def test_a_python_without_torch_or_without_an_answer_is_a_remark() -> None:
    none = machine_facts.torch_finding(FoundTorch(trouble="No module named 'torch'"), PYTHON, H100, AGAIN)
    assert none.ok is None and "+cu126" in none.hint
    assert (
        machine_facts.torch_finding(None, "it printed nothing", H100, AGAIN).detail == "not known: it printed nothing"
    )


def test_what_torch_compile_lacks_is_told_with_the_commands(tmp_path: Path) -> None:
    gcc = tmp_path / "gcc"
    gcc.touch(0o755)
    assert machine_facts.compiler_finding(PYTHON, {"PATH": str(tmp_path)}, cuda=True).ok is True
    lacking = replace(PYTHON, headers=False, triton="")
    bare = machine_facts.compiler_finding(lacking, {"PATH": "/nowhere"}, cuda=True)
    assert bare.ok is None and "no compiler, no Python.h, no Triton" in bare.detail
    assert "apt-get install -y gcc && apt-get install -y python3.12-dev" in bare.hint
    assert "Triton" not in machine_facts.compiler_finding(lacking, {"PATH": "/nowhere"}, cuda=False).detail


def test_a_card_that_others_hold_is_told_with_who() -> None:
    full = replace(H100, free=1 << 30, holders=("python (pid 812, 78.1 GB)",))
    card = machine_facts.memory_findings(full, "A")[1]
    assert card.ok is None and "1.0 of 80.0 GB are free; it is used by python (pid 812" in card.detail and card.hint
    hidden = machine_facts.memory_findings(replace(full, holders=()), "A")[1]
    assert "does not say who holds the rest" in hidden.detail
    assert machine_facts.memory_findings(H100, "A")[1].ok is True


def test_a_folder_that_cannot_be_written_is_told_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = machine_facts.folder_findings(tmp_path)
    assert found.ok is True
    monkeypatch.setenv("AUTORESEARCH_HOME", "/proc/nowhere")
    lost = machine_facts.folder_findings(tmp_path)
    assert [one.ok for one in lost] == [False, False] and "export AUTORESEARCH_HOME=" in lost[0].hint
    monkeypatch.setenv("AUTORESEARCH_HOME", "relative")
    assert "relative" in machine_facts.folder_findings(tmp_path)[0].detail


def test_without_a_driver_its_words_and_the_way_without_a_card_are_told(tmp_path: Path) -> None:
    found = machine_facts.no_card(tmp_path)
    assert found.ok is False and "NVML: " in found.detail and "--device --slots cpu:1" in found.hint


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA H200 NVL", 835.0),
     ("NVIDIA A100-SXM4-40GB", 312.0), ("NVIDIA L4", 121.0), ("NVIDIA L40S", 362.0),
     ("NVIDIA GeForce RTX 4090", 165.0), ("NVIDIA A10G", 70.0),
     ("NVIDIA GeForce RTX 2080 Ti", None), ("Tesla T4", None), ("NVIDIA B200", 2250.0)],
)  # fmt: skip
def test_the_peak_of_known_cards(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


def test_the_python_of_a_training_command() -> None:
    assert python_words(["/usr/bin/python3.12", "-m", "nanotrain.train"]) == ["/usr/bin/python3.12"]
    assert python_words(["/usr/bin/uv", "run", "python", "train.py"]) == ["/usr/bin/uv", "run", "python"]
    assert python_words(["/bin/sh", "-c", "make train"]) is None


async def test_a_python_is_asked_what_it_has() -> None:
    found = await run_python([sys.executable], {})
    assert isinstance(found, RunPython)
    assert (found.version, found.executable) == (sys.version.split()[0], sys.executable)
    missing = await run_python(["/nowhere/python"], {})
    assert missing == "/nowhere/python could not be started (No such file or directory)"
    assert "gave no answer (" in str(await run_python(["/bin/sh"], {"PATH": "/bin"}))
