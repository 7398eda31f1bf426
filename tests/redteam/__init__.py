"""Real attacks on the metric and on the sandbox (`make redteam`). docs/integrity.md has the results."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def gathered(package: ModuleType, name: str) -> list[Any]:
    """The lists called `name` of all modules of a package, joined in the order of the modules' names."""
    found = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [one for module in found for one in getattr(importlib.import_module(f"{package.__name__}.{module}"), name)]
