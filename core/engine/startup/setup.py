"""Checks and Setup of a starting engine; a refused start leaves no folder and no branch."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.engine.journal import Journal
from core.engine.session_settings import SessionSettings, following
from core.engine.startup.command_needs import check_packages, check_script, commands_of
from core.engine.startup.noise_prior import with_prior
from core.lab import device, environment
from core.lab.git.repository import Repository
from core.lab.gpu import cards
from core.lab.gpu.card_locks import CardLocks, holder_of
from core.lab.python.import_origin import Imports, own_imports
from core.lab.python.virtual_environment import dependency_folders
from core.lab.sandbox import tiers
from core.lab.shim.proctree import boot_id
from core.lab.versions import own_versions
from core.program.program import Program, changed_basis, check_files, check_required, load, parse
from core.record import events as e
from core.record.errors import AutoresearchError, CardsTaken, ProjectError, SessionError, UncommittedChanges, UsageError
from core.record.state import State
from core.research import registry
from core.research.control.constants import check_tunable
from core.research.protocol import Researcher
from core.session.disk import disk_trouble, private_folder, replace_file
from core.session.homes import socket_folder
from core.session.log import Log
from core.session.options import EngineOptions, load_options, merge, overrides_of, save_options
from core.session.paths import SessionPaths, check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What does not change while an engine runs; what may change is in `SessionSettings`."""

    paths: SessionPaths
    repo: Repository
    commit: str  # where the session's branch starts
    kind: str  # `cuda` or `cpu`: which of program.md's budgets holds
    sandbox: tiers.SandboxReport
    environment: Mapping[str, str]  # of runs, without secrets
    trusted_environment: Mapping[str, str]  # of the project's own `prepare` and `score`, which run outside the sandbox
    python: tuple[Path, ...]  # folders that the commands' Python must be able to read
    imports: Imports  # what runs import from their worktree although it is installed
    linked: tuple[Path, ...]  # virtual environments and node_modules of the project, linked into every worktree
    seed: int
    threads: int  # of a run; 0: the default of its slot
    device: str  # in words
    locks: CardLocks  # on the cards of the slots
    only_task: str | None  # the one task that the engine was started for, such as `certify:5`

    @property
    def project(self) -> Path:
        return self.paths.project


@dataclass(eq=False)
class EnginePart:
    """A part of an engine: what all of them are made with, and read."""

    setup: Setup
    settings: SessionSettings
    journal: Journal

    @property
    def state(self) -> State:
        return self.journal.state

    @property
    def program(self) -> Program:
        return self.settings.program

    @property
    def paths(self) -> SessionPaths:
        return self.setup.paths

    @property
    def repo(self) -> Repository:
        return self.setup.repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A checked start of an engine: its setup, and the settings that it begins with."""

    setup: Setup
    program: Program
    options: EngineOptions
    slots: tuple[str, ...]
    researcher: Researcher
    asked: tuple[str, ...]  # the overrides that this start asks for
    before: Program | None  # program.md of the session's last engine; None when it cannot be read any more
    timed: bool  # the metric is a time or a speed
    left_out: tuple[str, ...]  # cards that the session does not use, with the reason


def product_version() -> str:
    try:
        return version("autoresearch-tui")
    except PackageNotFoundError:
        return "0"


def prepare(paths: SessionPaths, asked: EngineOptions) -> Start:
    """Check the project, the program, the repository, the devices and the researcher, and lock the cards.

    Raises ProgramError, ProjectError (UncommittedChanges when the editable files differ from HEAD), UsageError,
    ResearcherMisconfigured or SessionError, each with a hint. Writes nothing into the project.
    """
    locks = CardLocks(paths.name, paths.project)
    try:
        return _prepare(paths, asked, locks)
    except BaseException:
        locks.release()
        raise


def _prepare(paths: SessionPaths, asked: EngineOptions, locks: CardLocks) -> Start:
    check_name(paths.name)
    _check_folders(paths)
    begun: State | None = None
    if paths.database.exists():
        begun = _state(paths)
        options, program, before = _going_on(paths, begun, asked)
        repo, commit = Repository.open(paths.project), begun.session.commit if begun.session else ""
        if not repo.commit_exists(commit):
            what = f"the commit {commit[:10]} this session started from is gone from the repository"
            hint = "fetch it back, or start another session with --session NAME"
            raise SessionError(what, where=str(paths.project), hint=hint)
    else:
        options, program, before = asked, load(paths.project / "program.md", overrides_of(asked)), None
        repo = Repository.open(paths.project)
        check_files(program, paths.project, outside=repo.outside_sparse())
        commit = _fresh_commit(paths, repo, program, options)
    checkout = repo.checked_out_at(paths.branch, apart_from=paths.worktrees)
    if checkout and not asked.only_task:  # certify and reproduce move no branch
        what = f"the branch {paths.branch} is checked out here, and a session moves its branch"
        raise SessionError(what, where=str(checkout.path), hint=f"free it with: {checkout.release}")
    timed = begun.session.timed if begun and begun.session else program.timed
    slots, left_out = _slots(options, locks, program.gpu_memory, alone=timed)
    started = begun.session.threads if begun and begun.session else None
    threads = device.threads_for(slots, program.threads) if started is None else started
    env = environment.run_environment(paths.project)
    kind = device.kind_of(slots)
    sandbox = _sandbox(program, kind)
    linked = dependency_folders(paths.project)
    commands = (*commands_of(program, kind).values(), *program.checks.values())
    programs = [environment.resolve_command(command, env, paths.project)[0] for command in commands]
    if not paths.database.exists():
        _check_worktree(paths.project, repo, commit, program, kind)
        check_packages(program.run, env, paths.project)
    researcher = make_researcher(options, program.seed)
    if researcher.name == "control" and not asked.only_task:
        best = repo.branch_commit(paths.branch) or commit
        check_tunable(editable_texts(repo, best, program), kind, program.run)
    setup = Setup(
        paths=paths,
        repo=repo,
        commit=commit,
        kind=kind,
        sandbox=sandbox,
        environment=env,
        trusted_environment=environment.trusted_environment(paths.project),
        python=(*environment.readable_roots(env, [*programs, *(str(one / "bin/python") for one in linked)]), *linked),
        imports=imports_of(repo, commit, program, env),
        linked=linked,
        seed=program.seed,
        threads=threads,
        device=device.Devices().describe(slots),
        only_task=asked.only_task,
        locks=locks,
    )
    return Start(
        setup=setup, program=program, options=options, slots=slots, researcher=researcher,
        asked=overrides_of(asked), before=before, timed=timed, left_out=left_out,
    )  # fmt: skip


def _slots(
    options: EngineOptions, locks: CardLocks, memory: int | None, *, alone: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The slots that the options name, or all; and which were left out, with the reason. Their cards are locked.
    `memory`: of a card, that a run needs; `alone`: no run may disturb another.

    Raises CardsTaken when other sessions hold all of them, UsageError for a card that is too small.
    """
    slots = device.parse_slots(options.slots) if options.slots else device.default_slots()
    taken = locks.take(slots)
    free = [slot for slot in slots if slot not in taken]
    said = tuple(f"{slot} is left out: {holder} uses it" for slot, holder in taken.items())
    if not free:
        what = "; ".join(f"{slot} is used by {holder}" for slot, holder in taken.items())
        raise CardsTaken(what, where="--slots", hint=_other_slots(slots))
    if not options.slots:
        said += cards.allowed().left_out
        free = free[:1] if alone else free
    locks.keep_only(free)
    return device.shared(tuple(free), None if alone else memory), said


def _other_slots(slots: tuple[str, ...]) -> str:
    """What to do where other sessions use all cards of `slots`."""
    others = [name for name in device.default_slots() if name not in slots and not holder_of(name)]
    other = device.option_of(others[0]) if others else "cpu:2"
    return f"wait for its end, or use another: --slots {other}"


def _sandbox(program: Program, kind: str) -> tiers.SandboxReport:
    sandbox = tiers.probe(cuda=kind == "cuda")
    if sandbox.tier == "C" and not program.limits_only:
        why = "; ".join(f"tier {tier}: {why}" for tier, ok, why in sandbox.tiers if not ok)
        raise ProjectError(
            f"no sandbox works here: the code that a researcher writes could read and change whatever you can ({why})",
            hint=tiers.no_tier_hint(sandbox),
        )
    return sandbox


def imports_of(repo: Repository, commit: str, program: Program, env: Mapping[str, str]) -> Imports:
    """Where runs of `commit` import the project's modules from. Raises ProjectError when edits would have no effect."""
    whole = repo if repo.prefix == "." else Repository.open(repo.root)
    start = "" if repo.prefix == "." else f"{repo.prefix}/"
    own = environment.python_of(program.run, env, repo.project)
    found = [shutil.which(name, path=env.get("PATH")) for name in ("python", "python3")]
    return own_imports(
        repo.root, whole.tree(commit).files().keys(), [start + path for path in repo.files(commit, program.edit)],
        program.run, next(filter(None, (own, *found)), None), env, prefix=repo.prefix,
    )  # fmt: skip


def _going_on(paths: SessionPaths, begun: State, asked: EngineOptions) -> tuple[EngineOptions, Program, Program | None]:
    """Options and program.md of a session that has begun, and the program.md of its last engine (`Start.before`).

    Raises UsageError for an option with which new results could not be compared with the session's own.
    """
    kept = load_options(paths)
    was = overrides_of(kept or EngineOptions())
    options = merge(kept or EngineOptions(), asked)
    if paths.program.exists():
        program = load(paths.program, overrides_of(options))
    elif begun.program:
        program = parse(begun.program, overrides_of(options))
    else:
        raise SessionError("the session's program.md is missing", where=str(paths.program), hint="put it back")
    same = _readable(program.text, was) if kept else None
    # Another machine may have no working sandbox: the consent to that does not change what results mean.
    words = changed_basis(same, replace(program, limits_only=same.limits_only)) if same else []
    if words:
        raise UsageError(
            f"{', '.join(words)} cannot change in a session that has begun: its results could not be compared any more",
            hint="leave that option out, or start another session with --session NAME",
        )
    clocked = program.run_budget("cpu")
    if clocked.clock == "cpu" and begun.session and begun.session.run_budget == str(replace(clocked, clock="wall")):
        # It began when all runs were clocked by the wall, and its results are compared with those that follow.
        options = replace(options, overrides=(*options.overrides, "budget.clock=wall"))
        program = replace(program, clock="wall")
    return options, program, _readable(begun.program, was)


def _readable(text: str, overrides: tuple[str, ...]) -> Program | None:
    try:
        return parse(text, overrides)
    except AutoresearchError:
        return None


def _check_folders(paths: SessionPaths) -> None:
    """Raises SessionError for a folder that the engine could not write to."""
    sockets = socket_folder()
    if not os.access(sockets, os.W_OK | os.X_OK):
        hint = "set AUTORESEARCH_HOME to a folder you can write"
        raise SessionError("the folder for the engine's socket cannot be written", where=str(sockets), hint=hint)
    if trouble := disk_trouble(paths.folder):
        raise SessionError(trouble, where=str(paths.folder), hint="free some space on this disk")


def make_researcher(options: EngineOptions, seed: int) -> Researcher:
    """The researcher that `options` ask for. Raises UsageError or ResearcherMisconfigured."""
    name = options.researcher or ("scripted" if options.script else registry.default_researcher(os.environ))
    return registry.create(
        name, model=options.model, script=Path(options.script) if options.script else None, seed=seed
    )


def editable_texts(repo: Repository, commit: str, program: Program) -> dict[str, str]:
    """The editable files of `commit` that are text."""
    found = {}
    for path in repo.files(commit, program.edit):
        with contextlib.suppress(ProjectError):
            if (text := repo.read(commit, path)) is not None:
                found[path] = text
    return found


def _fresh_commit(paths: SessionPaths, repo: Repository, program: Program, options: EngineOptions) -> str:
    where, dirty = str(paths.project), repo.dirty(program.edit)
    if dirty and not options.from_head:
        what = f"uncommitted changes in {', '.join(dirty[:5])}{' …' if len(dirty) > 5 else ''}"
        raise UncommittedChanges(what, where=where, hint="commit them, or run from HEAD without them: --from-head")
    commit = repo.head()
    if not repo.files(commit, program.edit):
        what = f"none of the files to edit ({', '.join(program.edit)}) is committed"
        raise ProjectError(what, where=where, hint="git add them and commit: every experiment starts from a commit")
    check_required(program, lambda path: repo.read(commit, path))
    if repo.branch_commit("autoresearch"):
        what = "a branch named autoresearch is in the way: git cannot hold it beside autoresearch/NAME"
        hint = "give it another name: git branch -m autoresearch other-name"
        raise ProjectError(what, where=where, hint=hint)
    if repo.branch_commit(paths.branch):
        checkout = repo.checked_out_at(paths.branch)
        release = f"{checkout.release} && " if checkout else ""
        what = f"the branch {paths.branch} is already there, from an earlier session of this name"
        hint = f"choose another name with --session, or delete it with: {release}git branch -D {paths.branch}"
        raise SessionError(what, where=where, hint=hint)
    return commit


def _check_worktree(project: Path, repo: Repository, commit: str, program: Program, kind: str) -> None:
    """Raises ProjectError when git cannot check `commit` out, or a command names a script that it does not hold."""
    repo.check_filters(commit)
    for key, command in commands_of(program, kind).items():
        check_script(command, key, project, program.inputs, partial(repo.holds, commit))


def _state(paths: SessionPaths) -> State:
    """Outline of a session's State from its log. Raises SessionError for a log without a first event."""
    with closing(Log.read(paths.database)) as log:
        state = log.outline()
    if state.session is None:
        raise SessionError("the session's log has no first event", where=str(paths.database))
    return state


def open_log(start: Start, *, exclude: bool = True) -> Log:
    """Create the session's folder and log, or open them again, and log the start of this engine.

    `exclude`: make git ignore the sessions in this clone.
    """
    setup, program, paths = start.setup, start.program, start.setup.paths
    save_options(paths, start.options)
    begun = paths.database.exists()
    if begun:
        log = Log.append_to(paths.database)
    else:
        for folder in (paths.worktrees, paths.folder / "runs", paths.folder / "reasoning"):
            private_folder(folder)
        replace_file(paths.program, program.text.encode())
        if exclude and not setup.repo.is_ignored("sessions/x"):
            inside = "" if setup.repo.prefix == "." else f"{setup.repo.prefix}/"
            setup.repo.exclude(f"/{inside}sessions/")
        log = Log.create(paths.database)
        log.append([with_prior(_session_started(start), paths, program, start.slots, setup.device)])
    facts = following(log.state, start.before if begun else program, program, start.asked)
    facts += _other_tier(log.state, setup.sandbox)
    log.append([_engine_started(start), *facts])
    return log


def _other_tier(state: State, sandbox: tiers.SandboxReport) -> list[e.Body]:
    """The event to log when another sandbox tier works here than with the session's last engine."""
    was = state.engine.sandbox if state.engine else sandbox.tier
    if was == sandbox.tier:
        return []
    why = "".join(f": {why}" for tier, ok, why in sandbox.tiers if tier == was and not ok)
    text = f"the sandbox of runs is tier {sandbox.tier} from here on, and was tier {was}{why}"
    return [e.Noted("warning" if why else "info", text)]


def _engine_started(start: Start) -> e.EngineStarted:
    setup, researcher = start.setup, start.researcher
    return e.EngineStarted(
        pid=os.getpid(),
        boot_id=boot_id(),
        researcher=researcher.name,
        model=researcher.model,
        slots=start.slots,
        sandbox=setup.sandbox.tier,
        sandbox_note=setup.sandbox.note,
        device=f"{platform.node()}: {setup.device}",
        versions=versions(),
        conditions=(*start.left_out, *conditions(start.slots, setup.threads, timed=start.timed)),
    )


def conditions(slots: tuple[str, ...], threads: int, *, timed: bool) -> tuple[str, ...]:
    """What a person should know of the runs' slots and threads, each in one line with its hint."""
    said, hint = device.threads_words(slots, threads)
    found = [f"{said}; hint: {hint}" if hint else said] if said else []
    if timed:
        found.append(f"a time or a speed: {timed_words(slots)}")
    return tuple(found)


def timed_words(slots: tuple[str, ...]) -> str:
    """How a time or a speed is measured."""
    how = "a warm-up run first, then each candidate in turn with the best"
    if len(slots) == 1:
        return f"one slot, {how}"
    alone = f"--slots {device.option_of(slots[0])}"
    return f"{how}; but runs in {len(slots)} slots measure each other: {alone} runs one at a time"


def _session_started(start: Start) -> e.SessionStarted:
    setup, program = start.setup, start.program
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
        timed=program.timed,
        threads=setup.threads,
    )


def versions() -> dict[str, str]:
    """Versions of the product, the system and the packages on which a metric may depend."""
    wanted = ("torch", "numpy", "safetensors", "tokenizers", "triton")
    return {"autoresearch-tui": product_version(), "system": platform.platform(), **own_versions(wanted)}
