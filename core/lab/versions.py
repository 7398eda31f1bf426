"""Versions of what a number may depend on: the run's own Python and its libraries, and the driver."""

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
    "torch",
    "numpy",
    "safetensors",
    "tokenizers",
    "triton",
    "jax",
    "tensorflow",
    "transformers",
    "scikit-learn",
)
PATIENCE = 30.0  # seconds, for the run's own Python to say what it has
_ASK = f"""
import importlib.metadata as m, json, sys
found = {{d.metadata["Name"].lower(): d.version for d in m.distributions() if d.metadata["Name"]}}
print(json.dumps({{"python": sys.version.split()[0], **{{n: found[n] for n in {LIBRARIES!r} if n in found}}}}))
"""


def versions_for(program: str, env: Mapping[str, str]) -> dict[str, str]:
    """What `program`, the resolved first word of the training command, runs with: its Python and libraries where it is
    one, and the driver. Empty of what does not answer.
    """
    found = _libraries(program, tuple(sorted(env.items()))) if Path(program).name.startswith("python") else {}
    card = driver()
    return {**found, "driver": card} if card else dict(found)


def own_versions(names: Collection[str]) -> dict[str, str]:
    """Of the Python that runs this, and of those of its libraries that are there."""
    found = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return {"python": sys.version.split()[0], **{name: found[name] for name in names if name in found}}


@cache
def _libraries(python: str, env: tuple[tuple[str, str], ...]) -> dict[str, str]:
    if Path(python) == Path(sys.executable):
        return own_versions(LIBRARIES)
    try:
        told = subprocess.run(
            [python, "-I", "-c", _ASK], env=dict(env), capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        found = json.loads(told.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}
