"""Processes of a session by their part in it, found from outside: what is killed, and what must not be left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from core.session.disk import read_json
from core.session.lock import engine_alive, lock_holder
from core.session.paths import SessionPaths

KINDS = ("engine", "starting engine", "app", "run", "waiting start", "shim", "scorer", "scorer's keeper", "template",
         "scored model")  # fmt: skip
_KEEPER, _TEMPLATE, _SCORER, _SHIM = "group.keeper", "core.lab.template.template", "nanotrain.score", "shim.shim"


def processes_of(folder: Path) -> list[psutil.Process]:
    """All processes that name `folder` in their words, their environment or as their working folder, but this one."""
    found, words = [], str(folder).encode()
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(OSError, psutil.Error):
            at = Path("/proc", str(process.pid))
            said = (at / "cmdline").read_bytes() + (at / "environ").read_bytes() + os.fsencode((at / "cwd").readlink())
            if words in said and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def control_groups_of(processes: list[psutil.Process]) -> set[str]:
    """Names of the harness's control groups that these processes are in."""
    names = set[str]()
    for process in processes:
        with suppress(OSError):
            for part in Path("/proc", str(process.pid), "cgroup").read_text().replace("\n", "/").split("/"):
                names |= {part} if part.startswith("autoresearch-") else set()
    return names


def find(kind: str, paths: SessionPaths, processes: list[psutil.Process]) -> list[int]:
    """Those of `processes` (all of the session) that are of this kind. The app is not found here."""
    if kind == "engine":
        return [lock_holder(paths)] if engine_alive(paths) else []
    if kind == "starting engine":
        return [process.pid for process in processes if "core.engine" in _words(process)]
    if kind == "run":
        return _jobs(paths, "starting", "training", "saving")
    if kind == "waiting start":
        return _jobs(paths, "ready")
    if kind == "shim":
        return [process.pid for process in processes if _SHIM in _words(process)]
    if kind == "scorer's keeper":
        return [p.pid for p in processes if _KEEPER in _words(p) and _SCORER in _words(p)]
    if kind == "scorer":
        return [p.pid for p in processes if _KEEPER not in _words(p) and _SCORER in _words(p)]
    template = [p for p in processes if _KEEPER not in _words(p) and _TEMPLATE in _words(p)]
    first = {process.pid for process in template} - _below(template)
    return sorted(first if kind == "template" else {process.pid for process in template} - first)


def _below(processes: list[psutil.Process]) -> set[int]:
    """Those whose parent is one of `processes` too: forks."""
    pids, found = {process.pid for process in processes}, set[int]()
    for process in processes:
        with suppress(psutil.Error):
            found |= {process.pid} if process.ppid() in pids else set()
    return found


def _words(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _jobs(paths: SessionPaths, *phases: str) -> list[int]:
    """Processes of the runs that are in one of these phases, as the process beside each tells."""
    found = []
    for tree in paths.worktrees.glob("r*"):
        folder = paths.folder / "runs" / tree.name
        if (folder / "exit.json").exists() or not (folder / "status.json").exists():
            continue
        with suppress(Exception):  # it is written at this moment, or was never complete
            status: dict[str, Any] = read_json(folder / "status.json")
            if status["phase"] in phases and psutil.pid_exists(pid := status["job"][1]):
                found.append(pid)
    return found
