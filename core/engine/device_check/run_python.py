"""The Python of a training command: its version, and what it has beside torch for torch.compile"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.temporary import own_folder

ANSWER_SECONDS = 30.0
_SCRIPT = """
import importlib.metadata as m, json, os, sys, sysconfig
try:
    triton = m.version("triton")
except m.PackageNotFoundError:
    triton = ""
headers = os.path.join(sysconfig.get_paths()["include"], "Python.h")
print(json.dumps({"version": sys.version.split()[0], "executable": sys.executable, "headers": os.path.exists(headers),
                  "triton": triton}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPython:
    """What the Python of a run says. `headers`: whether Python.h is there, which Triton's launchers need."""

    version: str
    executable: str
    headers: bool
    triton: str


def python_words(argv: Sequence[str]) -> list[str] | None:
    """The words of a training command that start its Python; None where it names none."""
    for index, word in enumerate(argv):
        if re.fullmatch(r"(?:python|pypy)[\d.]*", Path(word).name):
            return list(argv[: index + 1])
    beside = Path(argv[0]).with_name("python")  # torchrun, accelerate and others lie beside theirs
    return [str(beside)] if beside.is_file() and beside.parent.name == "bin" else None


async def run_python(words: Sequence[str], env: Mapping[str, str]) -> RunPython | str:
    """Ask that Python; or why it does not answer."""
    with own_folder("python") as folder:
        try:
            process = await asyncio.create_subprocess_exec(
                *words, "-c", _SCRIPT, env=dict(env), cwd=folder, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            return f"{words[0]} could not be started ({error.strerror})"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            return f"{words[0]} gave no answer in {ANSWER_SECONDS:g} s"
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    try:
        found: dict[str, Any] = json.loads(out.decode(errors="replace").strip().rpartition("\n")[2])
        return RunPython(**found)
    except (ValueError, TypeError):
        said = err.decode(errors="replace").strip().rpartition("\n")[2]
        return f"{words[0]} gave no answer ({said or 'it printed nothing'})"
