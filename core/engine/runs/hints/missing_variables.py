"""Hints for variables of the user's shell that a command needs and does not get. A secret's value is never shown"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from core.engine.runs.hints.known import Crash, Known
from core.engine.runs.hints.missing_files import link

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|CRED|COOKIE|SESSION|AUTH|PRIVATE|SIGNATURE|BEARER|DSN|WEBHOOK", re.I)
_LONGEST = 200  # characters of a value
_RANDOM = re.compile(r"(?=[\w+=-]*\d)(?=[\w+=-]*[A-Za-z])[\w+=-]{20,}|://[^/\s]*@")
_OF_EVERY_SHELL = {
    "_", "HOME", "PWD", "OLDPWD", "SHLVL", "PATH", "TMPDIR", "TMP", "TEMP", "USER", "LOGNAME", "SHELL", "TERM", "LANG",
    "EDITOR", "VISUAL", "PAGER", "MAIL", "HOSTNAME", "DISPLAY", "COLUMNS", "LINES", "PS1", "DEBUG",
    "PYTHONPATH", "VIRTUAL_ENV", "RUST_BACKTRACE", "RUST_LOG", "MAKEFLAGS", "NODE_OPTIONS",
}  # fmt: skip
_HUB = re.compile(
    r"hugging ?face|\bhf_hub|\bhub\b|LocalEntryNotFound|OfflineModeIsEnabled|cached snapshot|datasets? server", re.I
)
_OF_THE_HUB = (
    "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE",
    "TRANSFORMERS_CACHE", "HUGGINGFACE_HUB_CACHE",
)  # fmt: skip
_FOLDERS_OF_THE_HUB = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TRANSFORMERS_CACHE", "HUGGINGFACE_HUB_CACHE")
_READS = re.compile(
    r"""environ|getenv|process\.env|env::var|\bENV\[|System\.getenv|Sys\.getenv|os\.Getenv|LookupEnv|\$\{?[A-Z_]{3,}"""
)


def named_variable(crash: Crash, known: Known) -> str:
    """For a variable that the reason, or the line of code beside it, names."""
    near = "\n".join((crash.reason, *crash.output.splitlines()[-8:]))
    return _give(_held_back(near, known), known)


def hub_variable(crash: Crash, known: Known) -> str:
    """For the Hugging Face hub, which cannot be reached: what the user's shell says about it, or his own cache."""
    if not _HUB.search(crash.last):
        return ""
    given = [name for name in _OF_THE_HUB if known.shell.get(name) and _is_missing(name, known)]
    if given:
        if not any("OFFLINE" in name for name in given) and "OFFLINE" not in known.command:
            return _give(given, known, {"HF_HUB_OFFLINE": "1"})
        return _give(given, known)
    cache = known.home / ".cache" / "huggingface"
    if cache.is_dir() and "HF_HOME" not in known.command:
        name = "huggingface"
        return f"{link(cache, known)}, and {known.write_variables({'HF_HOME': name, 'HF_HUB_OFFLINE': '1'})}"
    return ""


def read_variable(crash: Crash, known: Known) -> str:
    """For a variable that only the code names."""
    if not _READS.search(known.sources):
        return ""
    return _give(_held_back(known.sources, known), known)


def _held_back(text: str, known: Known) -> list[str]:
    """Variables of the user's shell that a text names and that the command does not get."""
    words = set(re.findall(r"\b[A-Za-z_]\w{2,}\b", text))
    return [name for name in known.shell if name in words and _is_missing(name, known)]


def _is_missing(name: str, known: Known) -> bool:
    return (
        name not in known.passed
        and name not in _OF_EVERY_SHELL
        and not name.startswith(("AUTORESEARCH_", "BASH_FUNC"))
        and not re.search(rf"\b{re.escape(name)}=", known.command)
    )


def _give(names: Iterable[str], known: Known, more: dict[str, str] | None = None) -> str:
    """The step that passes variables on, and links the folders that they name."""
    names = list(names)
    if not names:
        return ""
    told = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} set in your shell"
    if secret := [name for name in names if is_secret(name, known.shell[name])]:
        told = f"{', '.join(secret)} {'is' if len(secret) == 1 else 'are'} set in your shell"
        return (
            f"{told}, and runs get no keys: fetch what needs one before, and name its folder in `inputs` of program.md"
        )
    links, values = [], {**(more or {})}
    for name in names:
        value = known.shell[name]
        values[name] = shlex.quote(value)
        folder = Path(value) if value.startswith("/") else None
        if folder and folder.exists() and len(folder.parts) > 2 and not known.shown(folder):
            if folder.is_relative_to(known.project):
                inside = os.path.relpath(folder, known.project)
                values[name] = shlex.quote(inside)
                links.append("" if inside in known.tracked or _tracked(inside, known) else known.write_inputs(inside))
            else:
                links.append(link(folder, known))
    steps = [*(step for step in links if step), known.write_variables(values)]
    return f"{told}, and the command does not get it: {', and '.join(steps)}"


def _tracked(folder: str, known: Known) -> bool:
    return any(file.startswith(f"{folder}/") for file in known.tracked)


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is not to be shown: by its name, or by a value that looks like a key or is very long."""
    if _SECRET.search(name) or len(value) > _LONGEST or not value.isprintable():
        return True
    return not value.startswith("/") and _RANDOM.search(value) is not None
