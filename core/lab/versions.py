"""Versions of Python, libraries and GPU driver that a run uses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from core.lab.device import driver

LIBRARIES = (
    "torch", "numpy", "safetensors", "tokenizers", "triton", "jax", "tensorflow", "transformers", "scikit-learn",
)  # fmt: skip
_MAX_SECONDS = 30.0  # for the run's Python to list its libraries
_SCRIPT = f"""
import importlib.metadata as m, json, sys
found = {{d.metadata["Name"].lower(): d.version for d in m.distributions() if d.metadata["Name"]}}
print(json.dumps({{"python": sys.version.split()[0], **{{n: found[n] for n in {LIBRARIES!r} if n in found}}}}))
"""


def versions_for(program: str, env: Mapping[str, str]) -> dict[str, str]:
    """Versions for `program`, the resolved first word of the training command: Python and its libraries when it is a
    Python, and the driver. Versions that cannot be read are left out.
    """
    found = _libraries(program, tuple(sorted(env.items()))) if Path(program).name.startswith("python") else {}
    card = driver()
    return {**found, "driver": card} if card else dict(found)


def own_versions(names: Collection[str]) -> dict[str, str]:
    """Versions of this Python and of those of the named libraries that it has."""
    found = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return {"python": sys.version.split()[0], **{name: found[name] for name in names if name in found}}


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
