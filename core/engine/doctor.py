"""Examination of a machine and a project: what is ready, and a hint for what is not."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from core import invocation
from core.engine.device_check.device_check import device_check_finding
from core.engine.device_check.machine_facts import shared_memory
from core.engine.finding import Finding, failed
from core.engine.startup.command_needs import check_packages, check_script, commands_of
from core.engine.startup.setup import editable_texts, imports_of, timed_words
from core.engine.trial.glance import glance
from core.lab import device, environment
from core.lab.git.repository import Repository
from core.lab.gpu import cards, nodes, torch_build
from core.lab.gpu.card_locks import holder_of
from core.lab.sandbox import tiers
from core.lab.sandbox.delegation import delegation
from core.program.program import Program, check_files, load
from core.record.errors import AutoresearchError, ResearcherMisconfigured
from core.research import registry
from core.research.agent import profiles
from core.research.control.constants import check_tunable
from core.session.choice import read_head
from core.session.homes import socket_folder, state_home
from core.session.lock import engine_alive
from core.session.logind import kills_user_processes
from core.session.paths import list_sessions

LOW_DISK_BYTES = 5 * 2**30
SECONDS, QUICK_SECONDS = 120.0, 25.0  # for a Python to load torch; the launch screen waits a minute for all of it


def examine(project: Path, *, quick: bool = False) -> dict[str, Any]:
    """Everything `doctor` and the launch screen show, as plain JSON. `quick`: without a worktree and a run."""
    git = shutil.which("git")
    findings = [
        Finding("python", sys.version_info >= (3, 11), f"{sys.version.split()[0]} at {sys.executable}"),
        Finding("git", bool(git), git or "git is not installed", "" if git else "apt install git"),
        _disk(project),
    ]
    slots: tuple[str, ...] = ()
    program = _program(project)
    try:
        timed = program is not None and program.timed
        memory = program.gpu_memory if program is not None and not timed else None
        slots = device.shared(device.default_slots(alone=timed), memory)
        words = "; ".join([f"{device.Devices().describe(slots)}: slots {', '.join(slots)}", *cards.allowed().left_out])
        findings.append(Finding("device", True, words))
        taken = [f"{slot} is used by {holder}" for slot in slots if (holder := holder_of(slot))]
        findings += [Finding("cards", None, "; ".join(taken), "a new session takes the others")] if taken else []
        findings += device_check_finding(project, slots)
        findings += _set_aside(project)
        findings += _conditions(slots, program)
        findings += _torch(project, program, quick) if program and device.kind_of(slots) == "cuda" else []
    except AutoresearchError as error:
        findings.append(failed("device", error))
    kind = device.kind_of(slots)
    report = tiers.probe(cuda=kind == "cuda")
    confined = True if report.tier in "AB" else None
    findings.append(Finding("sandbox", confined, f"tier {report.tier}. {report.note}".strip()))
    findings.append(_control_groups())
    findings += cuda_findings(report, slots)
    findings += shared_memory(report.tier)
    own = _project(project, kind)
    findings += own if quick or any(f.ok is False for f in own) else [*own, *asyncio.run(glance(project))]
    untunable = _untunable(project, kind)
    researchers = _researchers(untunable)
    default = registry.default_researcher(os.environ)
    for r in researchers:
        idle = untunable if r["name"] == "control" else None
        stops = default == "control" and not profiles.installed(os.environ.get("PATH"))  # nobody else can propose
        ok = True if r["ready"] else False if idle and stops else None
        found = Finding(f"researcher {r['name']}", ok, str(r["note"]), idle.hint if idle else "")
        findings.append(_reached(r["name"], found, is_default=r["name"] == default) if r["ready"] else found)
    findings += _survival()
    return {
        "findings": [asdict(f) for f in findings],
        "slots": list(slots),
        "sandbox": {"tier": report.tier, "note": report.note},
        "researchers": researchers,
        "default_researcher": "human" if untunable and default == "control" else default,
        "device": device.Devices().describe(slots or None),
    }


def _control_groups() -> Finding:
    """Whether the kernel counts and ends the processes of runs, and why not where it does not."""
    found = delegation()
    return Finding("control groups", True if found.base else None, found.sentence(), found.hint)


def _set_aside(project: Path) -> list[Finding]:
    """The slots that running sessions of the project do not use, and why."""
    found = []
    for paths in list_sessions(project):
        state = read_head(paths) if engine_alive(paths) else None
        if state is not None and state.aside:
            aside = "; ".join(f"{slot}: {trouble}" for slot, trouble in state.aside.items())
            words = f"set aside in session {paths.name}: {aside}"
            found.append(Finding("slots", None, words, "nvidia-smi shows the card"))
    return found


def _program(project: Path) -> Program | None:
    try:
        return load(project / "program.md")
    except AutoresearchError:
        return None


def _conditions(slots: tuple[str, ...], program: Program | None) -> list[Finding]:
    """Remarks on the threads of a run, and on a metric that is a time or a speed."""
    said, hint = device.threads_words(slots, device.threads_for(slots, program.threads if program else None))
    found = [Finding("threads", None if hint else True, said, hint)] if said else []
    if program is not None and program.timed:
        words = f"{program.metric.name} is a time or a speed: {timed_words(slots)}"
        found.append(Finding("measuring", None, words))
    return found


def _torch(project: Path, program: Program, quick: bool) -> list[Finding]:
    """Where a GPU is there: whether the torch of the run's Python can use it. Nothing for other frameworks."""
    env = environment.run_environment(project)
    try:
        python = environment.python_of(program.run, env, project)
    except AutoresearchError:
        return []  # said by the examination of the commands
    driver = torch_build.installed_driver()
    if driver is None or not python:
        return []
    found = torch_build.torch_of(python, env, QUICK_SECONDS if quick else SECONDS)
    if found.missing:
        return []
    if wrong := torch_build.trouble(found, driver, python, invocation.call()):
        return [Finding("torch", False if found.python else None, *wrong)]
    return [Finding("torch", True, found.runs_on(driver))]


def _researchers(untunable: AutoresearchError | None) -> list[dict[str, Any]]:
    found = [{"name": name, "ready": ready, "note": note} for name, ready, note in registry.available(os.environ)]
    if untunable:
        note = f"{untunable.where}: {untunable.what}"
        found = [{"name": "control", "ready": False, "note": note} if r["name"] == "control" else r for r in found]
    return found


def _reached(name: str, found: Finding, *, is_default: bool) -> Finding:
    """The finding with what the researcher's model server answers to one request."""
    try:
        answer = registry.reach(name)
    except ResearcherMisconfigured as error:
        why = failed(found.name, error)
        return replace(why, ok=False if is_default else None, detail=f"{found.detail}; {why.detail}")
    return replace(found, detail=f"{found.detail}; {answer}") if answer else found


def _untunable(project: Path, kind: str) -> AutoresearchError | None:
    """Why the control can do nothing in this project; None when it can, or when that is not known yet."""
    try:
        program, repo = load(project / "program.md"), Repository.open(project)
        files = editable_texts(repo, repo.head(), program)
    except AutoresearchError:
        return None
    try:
        check_tunable(files, kind, program.run)
    except ResearcherMisconfigured as error:
        return error if files else None
    return None


def cuda_findings(report: tiers.SandboxReport, slots: tuple[str, ...]) -> list[Finding]:
    """In which tiers of the sandbox CUDA starts on the card of the first slot, or why it starts nowhere here."""
    if device.kind_of(slots) == "cpu":
        return []
    if report.no_cuda:
        missing = nodes.make_uvm()
        words = f"{report.no_cuda}, outside the sandbox either{missing and f'; /dev/nvidia-uvm is missing: {missing}'}"
        return [Finding("CUDA", False, words, nodes.UVM_HINT if missing else "nvidia-smi")]
    told = [f"tier {tier}: {why}" for tier, _, why in report.tiers if tier != "C"]
    if report.tier != "C":
        return [Finding("CUDA", True, "; ".join(told))]
    words = "; ".join(["CUDA starts outside the sandbox", *told])
    return [Finding("CUDA", False if report.without_cuda else None, words, tiers.no_tier_hint(report))]


def _disk(project: Path) -> Finding:
    if project.is_dir() and not os.access(project, os.W_OK):
        return Finding("disk", False, f"{project} cannot be written", "work in a copy that you can write: git clone")
    there = project if project.exists() else Path("/")
    free = shutil.disk_usage(there).free
    hint = "" if free > LOW_DISK_BYTES else "free some space: runs write weights and logs"
    return Finding("disk", free > LOW_DISK_BYTES or None, f"{free / 2**30:.0f} GB free", hint)


def _project(project: Path, kind: str) -> list[Finding]:
    """program.md, repository, files and commands; each is examined even when another fails."""
    findings: list[Finding] = []
    program: Program | None = None
    repo: Repository | None = None
    try:
        program = load(project / "program.md")
        findings.append(Finding("program.md", True, f"{program.metric.name} {program.metric.arrow}"))
    except AutoresearchError as error:
        findings.append(failed("program.md", error))
    try:
        repo = Repository.open(project)
        findings.append(Finding("repository", True, str(repo.root)))
        if empty := repo.uninitialized_submodules(repo.head()):
            hint = f"git submodule update --init {' '.join(map(shlex.quote, empty[:5]))}"
            findings.append(Finding("submodules", None, f"empty in every run: {', '.join(empty[:5])}", hint))
        if dirty := repo.dirty(program.edit) if program else []:
            findings.append(Finding("changes", None, f"uncommitted: {', '.join(dirty[:5])}", "commit, or --from-head"))
    except AutoresearchError as error:
        findings.append(failed("repository", error))
    try:
        if program:
            check_files(program, project, outside=repo.outside_sparse() if repo else ())
    except AutoresearchError as error:
        findings.append(failed("program.md", error))
    return findings if program is None else [*findings, *_commands(project, program, repo, kind)]


def _commands(project: Path, program: Program, repo: Repository | None, kind: str) -> list[Finding]:
    """The commands of program.md, and what a checkout of HEAD must have for them."""
    findings: list[Finding] = []
    env = environment.run_environment(project)
    for name, command in commands_of(program, kind).items():
        try:
            argv = environment.resolve_command(command, env, project)
            if repo is not None:
                check_script(command, name, project, program.inputs, partial(repo.holds, repo.head()))
            findings.append(Finding(f"{name} command", True, " ".join(argv)))
        except AutoresearchError as error:
            findings.append(failed(f"{name} command", error))
    try:
        check_packages(program.run, env, project)
    except AutoresearchError as error:
        findings.append(failed("packages", error))
    try:
        if repo is not None:
            repo.check_filters(repo.head())
    except AutoresearchError as error:
        findings.append(failed("worktree", error))
    if repo is not None and all(finding.ok for finding in findings):
        findings += _imports(repo, program, env)
    return findings


def _imports(repo: Repository, program: Program, env: Mapping[str, str]) -> list[Finding]:
    """Whether the edited code is the imported one; said where it is installed as well."""
    try:
        said = imports_of(repo, repo.head(), program, env).sentence()
    except AutoresearchError as error:
        return [failed("imports", error)]
    return [Finding("imports", True, said)] if said else []


def _survival() -> list[Finding]:
    """Whether an engine outlives the login, and whether its socket can be created."""
    findings: list[Finding] = []
    try:
        findings.append(Finding("state", True, f"{state_home()} (socket in {socket_folder()})"))
    except (AutoresearchError, OSError) as error:
        findings.append(Finding("state", False, str(error), "set AUTORESEARCH_HOME to a folder you can write"))
    if kills_user_processes():
        detail = "logind ends a user's processes at logout (KillUserProcesses=yes)"
        if shutil.which("systemd-run") and os.environ.get("XDG_RUNTIME_DIR"):
            findings.append(Finding("logout", True, f"{detail}; engines are started through systemd-run --user"))
        else:
            findings.append(Finding("logout", False, detail, "run: loginctl enable-linger"))
    return findings
