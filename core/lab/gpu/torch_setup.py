"""Answers for .ci/setup: the torch for this machine

    python -m core.lab.gpu.torch_setup machine|plan|check    # prints assignments for a shell

It asks before anything is installed, so this module needs no package. `machine` is asked of a Python of the machine,
the others of the one in .venv. Answers: `python` (whose torch to take), `requirement` to install first and its `index`
(none: PyPI), `tested` (the tested version is wanted), `said` (for the person), `what` and `hint` (the set-up ends).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from core.lab.gpu.torch_build import (
    BUILDS,
    INDEX,
    TESTED,
    FoundTorch,
    InstalledDriver,
    fitting_build,
    installed_driver,
    is_new_enough,
    no_build,
    torch_of,
    trouble,
    why_no_driver,
)

_INDEX_SECONDS = 5.0  # for the index to answer
_AGAIN = "make run"
_PYTHON = ".venv/bin/python"


def machine(driver: InstalledDriver | None) -> dict[str, str]:
    """The first Python of the person's whose torch uses a GPU, and which may be one of ours."""
    if driver is None:
        return {}
    active = [Path(os.environ[name], "bin/python") for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(name)]
    names = ("python3", "python", "python3.13", "python3.12", "python3.11", "python3.14")
    for python in dict.fromkeys(map(str, (*active, *filter(None, map(shutil.which, names))))):
        found = torch_of(python, os.environ)
        if found.usable and is_new_enough(found.version) and (3, 11) <= found.python < (3, 15):
            return {"python": python, "said": f"{found.runs_on(driver)}: .venv takes it from {python}"}
    return {}


def plan(driver: InstalledDriver | None, found: FoundTorch, reach: Callable[[str], bool]) -> dict[str, str]:
    """What to install before the rest, where .venv has the torch `found`; `reach`: whether an index answers."""
    if driver is None:
        index = f"{INDEX}/cpu"
        if found.cuda:  # of a machine whose GPU is gone for now
            return {}
        if found.version.partition("+")[0] == TESTED or not reach(index):
            return {"tested": "yes"}
        return {"tested": "yes", "requirement": f"torch=={TESTED}", "index": index}
    if found.usable and is_new_enough(found.version):
        return {"said": found.runs_on(driver)}
    build = fitting_build(driver)
    if build is None:
        return {"what": f"no build of torch runs on {driver}", "hint": no_build(driver, _AGAIN)}
    said = f"{driver}: takes torch {build.torch}, built for CUDA {build.cuda}.{build.name[4:]}"
    if build is BUILDS[0] and not reach(build.index):  # a mirror of PyPI alone, which has this build
        return {"requirement": f"torch=={build.torch}", "said": said}
    return {"requirement": build.requirement, "index": build.index, "said": said}


def check(driver: InstalledDriver | None, found: FoundTorch) -> dict[str, str]:
    """Whether the torch in .venv uses the GPU, where there is one."""
    wrong = trouble(found, driver, _PYTHON, _AGAIN) if driver else None
    if wrong is None:
        return {"said": found.runs_on(driver)} if driver else {}
    return {"what": wrong[0], "hint": wrong[1]}


def answers(index: str) -> bool:
    """Whether `index` can be reached from here."""
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=_INDEX_SECONDS):
            return True
    except OSError:
        return False


def main(question: str) -> None:
    """Print the answer to `question`."""
    driver = installed_driver()
    if question == "machine":
        answer = machine(driver)
    else:
        found = torch_of(sys.executable, os.environ)
        answer = check(driver, found) if question == "check" else plan(driver, found, answers)
    if question == "plan" and driver is None and (why := why_no_driver()):
        answer["said"] = f"{why}: set up for the CPU"
    print("; ".join(f"{name}={shlex.quote(value)}" for name, value in answer.items()))


if __name__ == "__main__":
    main(sys.argv[1])
