"""A run whose torch cannot use the GPU is told the build that the driver runs"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from core.engine.runs.hints.crash_hint import crash_hint
from core.engine.runs.hints.known import Crash, Known
from core.engine.runs.hints.wrong_torch import torch_is_named
from tests.lab.simulated_torch import environment_with, nvidia_smi

REASONS = (
    "exited with code 1: error: this run was given a GPU, and torch 2.13.0 cannot use it: The NVIDIA driver on your",
    "exited with code 1: error: this run was given a GPU, and no kernel starts on it: CUDA error: no kernel image",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "AssertionError: Torch not compiled with CUDA enabled",
)


@pytest.mark.parametrize("reason", REASONS)
def test_the_hint_is_the_command(reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path, '550.54.15', 'NVIDIA L4, 8.9')}:/usr/bin:/bin")
    python = environment_with(tmp_path, version="2.13.0", cuda="13.0", trouble="too old")
    known = Known(
        project=tmp_path, worktree=tmp_path, private=tmp_path, key="run", command="python train.py",
        passed={"PATH": f"{python.parent}:/usr/bin:/bin"}, shell=dict(os.environ), slots=("gpu0",),
    )  # fmt: skip
    assert torch_is_named(reason)
    hint = crash_hint(Crash(reason=reason), known)
    assert hint.startswith(str(python)) and hint.endswith("+cu126 --index-url https://download.pytorch.org/whl/cu126")
    assert crash_hint(Crash(reason=reason), replace(known, command="bin/python train.py")) == hint, "of the project"
    environment_with(tmp_path, version="2.13.0", cuda="12.6", cards="NVIDIA L4:8.9:")
    assert "pip install" not in crash_hint(Crash(reason=reason), known), "that torch works now"
