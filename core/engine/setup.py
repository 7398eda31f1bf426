"""Opening a session: everything that can be refused is refused here, before a folder or a branch is made."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.engine.earlier import with_prior
from core.lab import cage, device, environment
from core.lab.git import Repository
from core.lab.libraries import own_versions
from core.log import Log
from core.program import Program, check_files, check_required, load, parse
from core.record import events as e
from core.record.errors import ProjectError, SessionError, UncommittedChanges
from core.record.state import State
from core.research import registry
from core.research.protocol import Researcher
from core.session import (
    EngineOptions,
    SessionPaths,
    check_name,
    disk_trouble,
    read_json,
    socket_folder,
    write_json,
)


@dataclass(slots=True)
class Setup:
    """All that the loop stands on. `environment` is what runs get, already scrubbed of secrets.

    `program`, `options`, `slots` and `researcher` are replaced when a person changes them (`core.engine.changes`);
    the rest stays as it was found.
    """

    paths: SessionPaths
    program: Program
    options: EngineOptions
    repo: Repository
    commit: str  # where the session's branch starts
    slots: tuple[str, ...]
    researcher: Researcher
    cage: cage.CageReport
    environment: Mapping[str, str]
    trusted_environment: Mapping[str, str]  # of the project's own `prepare` and `score`, which run outside the cage
    python: tuple[Path, ...]  # what must be readable for the commands' own Python to start
    seed: int
    device: str  # in words

    @property
    def project(self) -> Path:
        return self.paths.project

    @property
    def kind(self) -> str:
        """`cuda` or `cpu`: which of program.md's budgets holds."""
        return "cuda" if self.slots[0].startswith("gpu") else "cpu"


def product_version() -> str:
    try:
        return version("autoresearch-tui")
    except PackageNotFoundError:
        return "0"


def merge(old: Mapping[str, Any], new: EngineOptions) -> EngineOptions:
    """Options of an earlier start with what was asked now laid over them."""
    known = {f.name for f in fields(EngineOptions)}
    kept: dict[str, Any] = {k: tuple(v) if k == "overrides" else v for k, v in old.items() if k in known}
    base = EngineOptions(**kept)
    changes = {k: v for k, v in asdict(new).items() if v not in (None, (), [], False)}
    changes["overrides"] = (*base.overrides, *new.overrides)
    if new.researcher not in (None, base.researcher):
        changes["model"] = new.model  # the old one's model is not the new one's
    return replace(base, **changes)


def overrides_of(options: EngineOptions) -> tuple[str, ...]:
    """The command line's shorthands as the front-matter keys they stand for."""
    pairs = {
        "budget.run": f'"{options.run_budget}"' if options.run_budget else None,
        "budget.experiments": options.experiments,
        "budget.hours": options.hours,
        "budget.usd": options.usd,
        "seed": options.seed,
    }
    return (*options.overrides, *(f"{key}={value}" for key, value in pairs.items() if value is not None))


def prepare(paths: SessionPaths, asked: EngineOptions) -> Setup:
    """Check the project, the program, the repository, the devices and the researcher.

    Raises ProgramError, ProjectError (UncommittedChanges when the editable files differ from HEAD), UsageError,
    ResearcherMisconfigured or SessionError, each with its mend. Writes nothing.
    """
    check_name(paths.name)
    _check_folders(paths)
    resumed = paths.database.exists()
    options = merge(_stored(paths), asked) if resumed else asked
    if resumed and not paths.program.exists():
        program = parse(_as_started(paths), overrides_of(options))
    else:
        program = load(paths.program if resumed else paths.project / "program.md", overrides_of(options))
    repo = Repository.open(paths.project)
    if resumed:
        commit = _started_at(paths)
        if not repo.commit_exists(commit):
            raise SessionError(
                f"the commit {commit[:10]} this session started from is gone from the repository",
                where=str(paths.project),
                mend="fetch it back, or start another session with --session NAME",
            )
    else:
        check_files(program, paths.project)
        commit = _fresh_commit(paths, repo, program, options)
    checkout = repo.checked_out_at(paths.branch, apart_from=paths.worktrees)
    if checkout and not asked.errand:  # an errand moves no branch
        raise SessionError(
            f"the branch {paths.branch} is checked out here, and a session moves its branch",
            where=str(checkout.path),
            mend=f"free it with: {checkout.release}",
        )
    slots = device.parse_slots(options.slots) if options.slots else device.default_slots()
    env = environment.run_environment(paths.project)
    tier = cage.probe().tier
    if tier == "C" and not program.limits_only:
        raise ProjectError(
            "no sandbox works here: the code that a researcher writes could read and change whatever you can",
            mend="install bubblewrap (apt install bubblewrap); or, if that is what you want, "
            "consent with: --set sandbox.limits_only=true",
        )
    programs = _programs(program, env, paths.project)
    researcher = make_researcher(options, program.seed)
    return Setup(
        paths, program, options, repo, commit, slots, researcher, cage.probe(), env,
        environment.trusted_environment(paths.project),
        environment.readable_roots(env, programs), program.seed,
        device.Devices().describe(),
    )  # fmt: skip


def _check_folders(paths: SessionPaths) -> None:
    """Raises SessionError where the engine could not write: better now than after the session has begun."""
    sockets = socket_folder()
    if not os.access(sockets, os.W_OK | os.X_OK):
        raise SessionError(
            "the folder for the engine's socket cannot be written",
            where=str(sockets), mend="set AUTORESEARCH_HOME to a folder you can write",
        )  # fmt: skip
    trouble = disk_trouble(paths.folder)
    if trouble:
        raise SessionError(trouble, where=str(paths.folder), mend="free some space on this disk")


def _programs(program: Program, env: Mapping[str, str], cwd: Path) -> list[str]:
    """The programs that program.md's commands start. Raises ProjectError for one that is not there."""
    commands = filter(None, (program.run, program.score, program.prepare, *program.checks.values()))
    return [environment.resolve_command(command, env, cwd)[0] for command in commands]


def make_researcher(options: EngineOptions, seed: int) -> Researcher:
    """The researcher that `options` ask for. Raises UsageError or ResearcherMisconfigured."""
    name = options.researcher or ("scripted" if options.script else registry.default_researcher(os.environ))
    return registry.create(
        name, model=options.model, script=Path(options.script) if options.script else None, seed=seed
    )


def _fresh_commit(paths: SessionPaths, repo: Repository, program: Program, options: EngineOptions) -> str:
    dirty = repo.dirty(program.edit)
    if dirty and not options.from_head:
        raise UncommittedChanges(
            f"uncommitted changes in {', '.join(dirty[:5])}{' …' if len(dirty) > 5 else ''}",
            where=str(paths.project),
            mend="commit them, or run from HEAD without them: --from-head",
        )
    commit = repo.head()
    if not repo.files(commit, program.edit):
        raise ProjectError(
            f"none of the files to edit ({', '.join(program.edit)}) is committed",
            where=str(paths.project),
            mend="git add them and commit: every experiment starts from a commit",
        )
    check_required(program, lambda path: repo.read(commit, path))
    if repo.branch_commit("autoresearch"):
        raise ProjectError(
            "a branch named autoresearch is in the way: git cannot hold it beside autoresearch/NAME",
            where=str(paths.project),
            mend="give it another name: git branch -m autoresearch other-name",
        )
    if repo.branch_commit(paths.branch):
        checkout = repo.checked_out_at(paths.branch)
        release = f"{checkout.release} && " if checkout else ""
        raise SessionError(
            f"the branch {paths.branch} is already there, from an earlier session of this name",
            where=str(paths.project),
            mend=f"choose another name with --session, or delete it with: {release}git branch -D {paths.branch}",
        )
    return commit


def _stored(paths: SessionPaths) -> Mapping[str, Any]:
    stored = read_json(paths.settings).get("options", {})
    return stored if isinstance(stored, dict) else {}


def _as_started(paths: SessionPaths) -> str:
    """The text of program.md that the log holds. Raises SessionError where it holds none."""
    log = Log.read(paths.database)
    try:
        begun = next((event.body for event in log.of_type("session_started")), None)
    finally:
        log.close()
    text = begun.program if isinstance(begun, e.SessionStarted) else ""
    if not text:
        raise SessionError("the session's program.md is gone", where=str(paths.program), mend="put it back")
    return text


def _started_at(paths: SessionPaths) -> str:
    log = Log.read(paths.database)
    try:
        session = log.load().session
    finally:
        log.close()
    if session is None:
        raise SessionError("the session's log has no beginning", where=str(paths.database))
    return session.commit


def open_log(setup: Setup) -> Log:
    """Create the session's folder and log, or open them again; either way this engine has taken the session."""
    paths, program = setup.paths, setup.program
    remember(setup)
    if paths.database.exists():
        log = Log.append_to(paths.database)
    else:
        for folder in (paths.worktrees, paths.folder / "runs", paths.folder / "reasoning"):
            folder.mkdir(parents=True, exist_ok=True)
        paths.program.write_text(program.text, encoding="utf-8")
        if not setup.repo.in_clone_ignored("sessions/x"):
            inside = "" if setup.repo.prefix == "." else f"{setup.repo.prefix}/"
            setup.repo.exclude(f"/{inside}sessions/")
        log = Log.create(paths.database)
        log.append([with_prior(_session_started(setup), paths, setup.slots, setup.device)])
    log.append(
        [
            e.EngineStarted(
                os.getpid(),
                device.boot_id(),
                setup.researcher.name,
                setup.researcher.model,
                setup.slots,
                setup.cage.tier,
                setup.cage.note,
                f"{platform.node()}: {setup.device}",
                versions(),
            ),
            *in_force(setup, log.state),
        ]
    )
    return log


def remember(setup: Setup) -> None:
    """Keep the options beside the log, so that the next engine goes on with them."""
    write_json(setup.paths.settings, {"options": {**asdict(setup.options), "errand": None}})


def in_force(setup: Setup, state: State) -> list[e.Body]:
    """What the log does not say yet of the budget and the approval mode as this engine starts."""
    budget = asdict(setup.program.budget)
    facts: list[e.Body] = []
    if dict(state.budget) != budget:
        facts.append(e.BudgetChanged(budget))
    if state.approve != setup.program.approve:
        facts.append(e.ApprovalModeChanged(setup.program.approve))
    return facts


def _session_started(setup: Setup) -> e.SessionStarted:
    program = setup.program
    return e.SessionStarted(
        session=setup.paths.name,
        project=str(setup.paths.project),
        branch=setup.paths.branch,
        commit=setup.commit,
        metric=program.metric.name,
        direction=program.metric.direction,
        self_reported=program.metric.self_reported,
        run_budget=str(program.run_budget(setup.kind)),
        budget=asdict(program.budget),
        edit=program.edit,
        seed=setup.seed,
        version=product_version(),
        program=program.text,
    )


def versions() -> dict[str, str]:
    """Of what a number may depend on."""
    wanted = ("torch", "numpy", "safetensors", "tokenizers", "triton")
    return {"autoresearch-tui": product_version(), "system": platform.platform(), **own_versions(wanted)}
