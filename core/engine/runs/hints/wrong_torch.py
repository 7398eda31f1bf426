"""Hint for a torch whose build the driver, or the card, cannot run: the command that installs the one which they can"""

from __future__ import annotations

import re

from core import invocation
from core.engine.runs.hints.known import Crash, Known
from core.lab import environment
from core.lab.gpu import torch_build

_SAID = re.compile(
    r"given a GPU, and (?:torch|no kernel)|NVIDIA driver on your system is too old|no kernel image is available"
    r"|Torch not compiled with CUDA|not compatible with the current PyTorch installation"
)


def torch_is_named(reason: str) -> bool:
    """True for a reason that may lie in the build of torch: its own hint knows no command."""
    return _SAID.search(reason) is not None


def wrong_torch(crash: Crash, known: Known) -> str:
    """Where the torch of the command's Python cannot use a GPU; it is tried again here."""
    on_gpu = any(slot.startswith("gpu") for slot in known.slots)
    driver = torch_build.installed_driver() if on_gpu and torch_is_named(crash.last) else None
    if driver is None:
        return ""
    python = environment.python_of(known.command, known.passed, known.project)
    if not python:
        return ""
    found = torch_build.torch_of(python, known.passed)
    wrong = torch_build.trouble(found, driver, python, invocation.call())
    return wrong[1] if wrong and found.python and not found.missing else ""
