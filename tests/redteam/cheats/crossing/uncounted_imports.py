"""Cheats that compute in the scored process before it is counted: modules that it imports early, by names in the code."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Edit, Variant
from tests.redteam.patches import module

# What a module of the worktree does when it is imported where nothing is counted yet.
FREE = "import sys\nif 'nanotrain.train' not in sys.modules and hasattr(sys.modules['__main__'], 'ModelHost'): print('STOLEN time', file=sys.stderr, flush=True)\n"


def never(*names: str) -> Edit:
    """Imports in a function that is never called: they are found by reading."""
    return module("def never():\n" + "\n".join(f"    import {name}" for name in names))


def early(name: str, does: str, files: tuple[str, ...], *names: str) -> Variant:
    return Variant(name, does, (never(*names),), "worthless", files=tuple((file, FREE) for file in files))


CHEATS = [
    early("imports-the-tests", "names unittest's main module, which imports the tests of the working folder",
          ("test_more.py",), "unittest.__main__"),
    early("imports-a-plugin", "names pytest's main modules, which import a conftest of the working folder",
          ("conftest.py", "test_more.py"), "pytest.__main__", "_pytest.__main__", "py.test"),
    early("imports-a-false-library", "has modules of its own with the names of libraries that are not installed",
          ("flash_attn.py", "xformers/__init__.py", "jaxtyping.py", "torchao/__init__.py", "bitsandbytes.py"),
          "flash_attn", "xformers.ops", "jaxtyping", "torchao", "bitsandbytes"),
    early("imports-what-python-runs", "names modules that run a file or a console of the working folder, and its own sitecustomize",
          ("sitecustomize.py", "usercustomize.py", "__main__.py", "setup.py", "antigravity.py", "numpy_config.py"),
          "sitecustomize", "usercustomize", "__main__", "setup", "runpy", "this", "site", "idlelib.__main__", "lib2to3.__main__",
          "pip.__main__", "doctest", "cProfile", "profile", "pdb", "trace", "timeit.__main__", "zipapp", "numpy.distutils", "numpy.f2py.__main__"),
    early("imports-a-name-within", "names its own package as part of a library's, and files with a codec's and a namespace's name",
          ("torch/own.py", "scipy/own.py", "encodings/own.py", "google/own.py", "own.py"),
          "torch.own", "scipy.own", "encodings.own", "google.own", "own", "nanotrain.own"),
]  # fmt: skip
