"""Versions of Python, libraries and GPU driver that a run uses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.lab.device import driver

LIBRARIES = (
    "torch", "numpy", "safetensors", "tokenizers", "triton", "jax", "tensorflow", "transformers", "scikit-learn",
)  # fmt: skip
_MAX_SECONDS = 30.0  # for the run's Python to list its libraries
_SCRIPT = f"""
import importlib.metadata as m, json, sys
found = {{"python": sys.version.split()[0]}}
for name in {LIBRARIES!r}:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps({{name: version for name, version in found.items() if version}}))
"""


def versions_for(python: str, env: Mapping[str, str]) -> dict[str, str]:
    """Versions of the training command's `python` ("": it starts with another program) and its libraries, and of the
    driver. Versions that cannot be read are left out.
    """
    found = _libraries(python, tuple(sorted(env.items()))) if python else {}
    card = driver()
    return {**found, "driver": card} if card else dict(found)


def own_versions(names: Collection[str]) -> dict[str, str]:
    """Versions of this Python and of those of the named libraries that it has."""
    found = {name: _version(name) for name in names}
    return {"python": sys.version.split()[0], **{name: version for name, version in found.items() if version}}


def _version(name: str) -> str | None:
    """The installed version of a library. The metadata of the others, most of a start's time, is not read."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _libraries(python: str, env: tuple[tuple[str, str], ...]) -> dict[str, str]:
    if Path(python) == Path(sys.executable):
        return own_versions(LIBRARIES)
    try:
        out = subprocess.check_output(
            [python, "-I", "-c", _SCRIPT], env=dict(env), stderr=subprocess.DEVNULL, timeout=_MAX_SECONDS
        )
        found = json.loads(out)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}
