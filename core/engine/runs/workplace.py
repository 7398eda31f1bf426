"""Worktrees, sandboxes and process specifications of runs, checks and scorings; the seal on code and data."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from core.edits.globs import matches
from core.engine.runs.hints.crash_hint import crash_hint
from core.engine.runs.hints.known import Crash, Known
from core.engine.runs.run_key import key_file
from core.engine.session_settings import SessionSettings
from core.engine.startup.command_needs import commands_of
from core.engine.startup.setup import Setup, editable_texts
from core.git import end_commands
from core.lab import compile_cache, container, device, environment, runner, scorer
from core.lab.git.fixed_files import FixedFiles, FixedSpec, reserved_names
from core.lab.git.restore import apart_from_git, link_inputs
from core.lab.gpu import cards, slices
from core.lab.integrity import Seal
from core.lab.prepare import PrepareResult
from core.lab.python.uncommented_code import blank_comments
from core.lab.sandbox import tiers
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.shim.rmtree import remove_tree
from core.lab.template.lender import Loan, TemplateLender
from core.record import events as e
from core.record.errors import AutoresearchError, LabError, ScorerFault
from core.session.disk import read_json

MAX_SCORE_SECONDS = 900.0  # a slower scorer is at fault; nanotrain's may need minutes without CUDA
_OWN_SCORER = "nanotrain.score"  # it starts one process with the model in it
MIN_TURN_SECONDS = 10.0  # that a scoring waits for the end of another, at least; else a tenth of the run budget
MAX_PROCESSES = 256  # of one run
RECENT_USES = 5  # runs on cards whose use of the processors says what the next one uses
MAX_DISK_BYTES = 20 * 2**30  # of one run
MANIFESTS = (
    "pyproject.toml", "uv.toml", "uv.lock", ".python-version", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml",
    "rust-toolchain", "package.json", "go.mod", "go.work", "tsconfig.json",
)  # fmt: skip


class Workplace:
    """Makes what a run, a check or a scoring needs. Knows no log and no slots."""

    def __init__(self, setup: Setup, settings: SessionSettings, stop_judging: Callable[[str], Awaitable[None]]) -> None:
        """`stop_judging` is called with a reason: no run may start and none be judged until a person resumes."""
        self._setup = setup
        self._settings = settings
        self.stop_judging = stop_judging
        self._seal: Seal | None = None
        self._scoring = asyncio.Lock()
        self.template = TemplateLender()
        self.prepared = PrepareResult()
        self._baseline_cache = compile_cache.BaselineCache(setup.paths.folder / "cache")
        self.compilers: dict[str, str] = {}  # versions that a compile cache depends on
        self.uses: deque[float] = deque(maxlen=RECENT_USES)  # processors that runs on cards used, as measured
        self._reserved: tuple[tuple[str, ...], frozenset[str]] | None = None

    @property
    def cache_trouble(self) -> str:
        """Why the last run that was specified compiles without the cache that is there; empty if it does not."""
        return self._baseline_cache.trouble

    def close_seal(self) -> None:
        """Hash the pristine code and the data: a later change stops judging."""
        prepared = self.prepared
        data = map(Path, (*prepared.train.values(), *prepared.readable, *prepared.hidden))
        self._seal = Seal([self._setup.paths.pristine, *data])

    @property
    def seal_digest(self) -> str:
        return self._seal.digest if self._seal else ""

    def sealed(self) -> dict[str, str]:
        """The hash of each sealed place: `pristine`, or the path of the data. Empty before the seal is closed."""
        found = self._seal.by_root() if self._seal else {}
        return {"pristine" if root == self._setup.paths.pristine else str(root): h for root, h in found.items()}

    async def broken_seal(self) -> str | None:
        """The file that has changed since the session began, or None. Stops judging when there is one."""
        broken = await asyncio.to_thread(self._seal.broken) if self._seal else None
        if broken:
            await self.stop_judging(f"{broken}: put it back, then resume")
        return broken

    async def broken_sandbox(self) -> str | None:
        """Why commands cannot be confined as they were when the engine began, or None; to be asked after one that
        failed. Stops judging when they cannot: what failed for it says nothing of the code.
        """
        tier = self._setup.sandbox.tier
        why = await asyncio.to_thread(tiers.failure, tier)
        if not why:
            return None
        broken = f"the sandbox (tier {tier}) does not work any more: {why}"
        await self.stop_judging(
            f"{broken}: put it right, then resume; or stop and resume, which takes the best tier here"
        )
        return broken

    @property
    def overlaps(self) -> bool:
        """Whether start-up and clock of a run are separate, so that it can start while the one before is scored."""
        return self._settings.program.score is not None and bool(self.prepared.train)

    def checkout(self, path: Path, commit: str, *, to_read: bool = False) -> Path:
        """A worktree of `commit` at `path` with the project's inputs linked in, `to_read` with its comments, whatever
        `prepare` says. Returns the project's folder in it.
        """
        self._setup.repo.add_worktree(path, commit)
        top = path / self._setup.repo.prefix
        link_inputs(top, self._inputs())
        if not self.prepared.comments and not to_read:
            blank_comments(top, self._setup.paths.pristine / self._setup.repo.prefix)
        return top

    async def _checked_out(self, path: Path, commit: str) -> None:
        """Lay out a worktree. One that is cancelled has ended before this returns: nothing writes in it any more."""
        work = asyncio.create_task(asyncio.to_thread(self.checkout, path, commit))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            end_commands(path)
            await asyncio.wait({work})
            work.exception()  # nobody asks for it
            raise

    def fixed_files(self, run: int, *, resumed: bool = False) -> FixedFiles | None:
        """What `run` may not change in its worktree, before it begins; `resumed`: an earlier engine has begun it.

        None where a scorer judges it, which sees nothing of what it left there. Raises LabError.
        """
        program, prefix, top = self._settings.program, self._setup.repo.prefix, self._setup.paths.worktree(run)
        if program.score is not None:
            return None
        above = "" if prefix == "." else f"{prefix}/"

        def may_change(path: str) -> bool:
            return path.startswith(above) and matches(path.removeprefix(above), program.edit)

        try:
            if self._reserved is None or self._reserved[0] != program.edit:
                names = reserved_names(top, may_change, environment.module_folders(self._setup.python))
                self._reserved = program.edit, names
            record = self._setup.paths.run(run) / "files.json"
            record.parent.mkdir(parents=True, exist_ok=True)
            spec = FixedSpec(top=top, may_change=may_change, reserved=self._reserved[1], record=record)
            return FixedFiles.resumed(spec) if resumed else FixedFiles.noted(spec)
        except OSError as error:
            if resumed:
                return None
            what = f"the worktree's files cannot be noted: {error.strerror}"
            raise LabError(
                what, where=str(top), hint="free some space on that disk, or correct its permissions"
            ) from None

    def _inputs(self) -> dict[str, Path]:
        """What git does not hold and a worktree has as links, by the name of the link: inputs, dependencies."""
        project, found = self._setup.project, dict[str, Path]()
        for name in self._settings.program.inputs:
            source = project / name.rstrip("/")
            if source.exists():
                found |= apart_from_git(name.rstrip("/"), source, self._held)
        return {**found, **{os.path.relpath(path, project): path for path in self._setup.linked}}

    @cached_property
    def _held(self) -> frozenset[str]:
        """The project's files in git."""
        return frozenset(self._setup.repo.tree(self._setup.commit).files())

    @cached_property
    def _linked(self) -> tuple[Path, ...]:
        """Where links inside the inputs lead to."""
        return environment.link_targets(self._setup.project / name for name in self._settings.program.inputs)

    @cached_property
    def _manifests(self) -> tuple[Path, ...]:
        """Files around the sessions that uv, cargo, npm and go open on the way up from a worktree. In tier B they see
        that a file is there, and one that they cannot read is an error.
        """
        root, project = self._setup.repo.root, self._setup.project
        around = [place for place in (project, *project.parents) if place.is_relative_to(root)]
        found = (place / name for place in around for name in MANIFESTS) if self._setup.sandbox.tier == "B" else ()
        return tuple(path for path in found if path.is_file())

    def spec(self, run: int, slot: str, seed: int, commit: str) -> runner.RunSpec:
        """The training command of `run`, in its worktree of `commit`. Raises ProjectError when it is missing there."""
        program, kind = self._settings.program, self._setup.kind
        folder, top = self._setup.paths.run(run).resolve(), self._setup.paths.worktree(run)
        budget = program.run_budget(kind)
        made_for = f"{sorted(self.compilers.items())} {cards.card_model(cards.card_of(slot))}"
        cache = self._baseline_cache.path(made_for)
        first = cache is None and commit == self._setup.commit
        if first:
            self._baseline_cache.offer(folder, made_for)
        return self._job(
            run=run,
            folder=folder,
            command=program.run,
            top=top,
            cache=cache,
            keep_cache=first,
            env={**self._slot_environment(slot), "AUTORESEARCH_SEED": str(seed)},
            seconds=budget.seconds,
            steps=budget.steps,
            clock=budget.clock,
            limit_seconds=program.limit_seconds,
            at_limit=program.scored_at_limit and budget.seconds is not None,
            startup_seconds=program.startup_seconds.get(kind, 300.0),
            saving_seconds=program.saving_seconds,
            train_files=self.prepared.train,
            plain=program.score is None,
            hold=self.overlaps,
            cores=self._cores(slot) if budget.seconds is not None else None,
            processors=self.processors(slot),
            expected_processors=self._expected(slot),
        )

    def _slot_environment(self, slot: str) -> dict[str, str]:
        """Variables of a run or a scoring in a slot."""
        memory = self._settings.program.gpu_memory if slot.startswith("gpu") else None
        own = {"AUTORESEARCH_GPU_MEMORY": str(memory)} if memory else {}
        return {**device.slot_environment(slot, self._setup.threads), **own}

    def _cores(self, slot: str) -> float | None:
        """Processors that a run may use on its clock: one a thread in a CPU slot, any number with a GPU. Start-up may
        use all, and is separate from the clock only for a run that gets its data from the engine.
        """
        return float(self._setup.threads or 1) if self.overlaps and slot.startswith("cpu") else None

    def processors(self, slot: str) -> float:
        """Processors that nothing else may take from a run on its clock: of one on a card at most, which keeps what it
        uses, as measured, and always leaves a quarter of all.
        """
        if slot.startswith("cpu"):
            return min(float(self._setup.threads or 1), container.cores() / len(self._settings.slots))
        return max(1.0, 0.75 * container.cores() / len(self._settings.slots))

    def _expected(self, slot: str) -> float | None:
        """Processors that a run in a GPU slot uses by what was measured of those before it; None in a CPU slot."""
        if slot.startswith("cpu"):
            return None
        return max(self.uses, default=self.processors(slot))

    def free_processors(self) -> float:
        """Processors that no run on its clock uses at present, as measured in GPU slots."""
        return container.cores() - ClockRegister(str(self._setup.paths.clocks), "engine").others()[0]

    def room_beside(self, slot: str) -> bool:
        """Whether a scoring, which always has one processor, would take none from the next run of a GPU slot."""
        return self.free_processors() - (self._expected(slot) or 0.0) >= 1

    def off_clock(self, name: str) -> OffClock:
        """What keeps a command of a researcher's from the processors of runs on their clock, and from a scoring."""
        return OffClock(ClockRegister(str(self._setup.paths.clocks), name), container.cores())

    @asynccontextmanager
    async def _alone(self, run: int) -> AsyncIterator[ClockRegister]:
        """The time in which a model is scored: whatever else runs code under test is stopped, but runs on their clock.
        Scorings take turns, but none waits for long: a project's scorer may take minutes.
        """
        register = ClockRegister(str(self._setup.paths.clocks), f"score-{run}")
        patience = max(MIN_TURN_SECONDS, 0.1 * (self._settings.program.run_budget(self._setup.kind).seconds or 0.0))
        mine = False
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                mine = await self._scoring.acquire()
        try:
            register.scoring()
            yield register
        finally:
            register.leave()
            if mine:
                self._scoring.release()

    def _job(self, *, folder: Path, command: str, top: Path, env: dict[str, str], **limits: Any) -> runner.RunSpec:
        """A command in the worktree `top`, in the sandbox, without the engine's environment."""
        cwd = top / self._setup.repo.prefix
        own = {**self._setup.imports.variables(top), "PYTHONDONTWRITEBYTECODE": "1"}
        own |= {} if self._settings.program.network else environment.WITHOUT_NETWORK
        env = {**self._setup.environment, **env, **self._readable(), **own}
        return runner.RunSpec(
            folder=folder,
            argv=tuple(environment.resolve_command(command, env, cwd)),
            cwd=cwd,
            env=env,
            sandbox=replace(self.sandbox_of(top), cards=slices.slot_files(env["AUTORESEARCH_SLOT"])),
            memory_limit=_memory_limit(self._settings),
            process_limit=MAX_PROCESSES,
            disk_limit=MAX_DISK_BYTES,
            clocks=self._setup.paths.clocks,
            machine_processors=container.cores(),
            **limits,
        )

    def _readable(self) -> dict[str, str]:
        return {"AUTORESEARCH_READABLE": os.pathsep.join(self.prepared.readable)} if self.prepared.readable else {}

    def sandbox_of(self, top: Path) -> tiers.SandboxSpec:
        """Access rights of a command that works in `top`."""
        program = self._settings.program
        inputs = [(self._setup.project / name).resolve() for name in program.inputs]
        prepared, python = map(Path, self.prepared.readable), self._setup.python
        readable = (*prepared, *inputs, *self._linked, *python, *self._manifests)
        secret = key_file().resolve()
        seen = any(secret.is_relative_to(place) for place in (*map(Path, tiers.SYSTEM), *readable))
        return tiers.SandboxSpec(
            worktree=top,
            readable=readable,
            hidden=(*map(Path, self.prepared.hidden), *((secret,) if seen else ())),
            network=program.network,
            tier=self._setup.sandbox.tier,
        )

    def _scoring_sandbox(self, command: str, run: int, slot: str) -> tiers.SandboxSpec:
        """Access rights of the process that runs the edited model during scoring: read only.

        A scorer of the project's own may start any command with them.
        """
        folder = self._setup.paths.run(run).resolve()
        spec = self.sandbox_of(self._setup.paths.worktree(run))
        readable = (*spec.readable, folder / "out", self._setup.paths.pristine)
        return replace(spec, readable=readable, read_only=True, network=False, cards=slices.slot_files(slot),
                       processes=_OWN_SCORER not in command)  # fmt: skip

    def hint(self, crash: Crash, key: str, folder: Path, top: Path, commit: str) -> str:
        """The hint of a command of program.md that failed; "" when nothing is known. Slow.

        `key`: that of the command; `folder`, `top`: the run's, and its worktree.
        """
        setup, program = self._setup, self._settings.program
        commands = commands_of(program, setup.kind)
        trusted = key in ("score", "prepare")
        known = Known(
            project=setup.project,
            worktree=(setup.paths.pristine if trusted else top) / setup.repo.prefix,
            private=setup.paths.folder if trusted else folder / "home",
            key=key,
            command=commands.get(key) or program.checks.get(key.partition(".")[2], ""),
            passed=setup.trusted_environment if trusted else setup.environment,
            shell=dict(os.environ),
            inputs=program.inputs,
            readable=(*map(Path, self.prepared.readable), *setup.python),
            network=program.network or trusted,
            tier="C" if trusted else setup.sandbox.tier,
            slots=self._settings.slots,
            code=editable_texts(setup.repo, commit, program),
        )
        with suppress(OSError, ValueError, AutoresearchError):
            return crash_hint(crash, known)
        return ""

    async def score(
        self, command: str, run: int, slot: str, seed: int, log: str = "score.log",
        again: AbstractAsyncContextManager[None] | None = None, watch: scorer.Watch | None = None,
    ) -> scorer.Score:  # fmt: skip
        """Score what `run` left, in its worktree; once more after a fault of the scorer, then within `again`. Raises
        ScorerFault; LabError where it is not the scorer's, and judging has stopped. `watch` is told how it goes on.
        """
        setup, folder = self._setup, self._setup.paths.run(run).resolve()
        worktree = setup.paths.worktree(run) / setup.repo.prefix
        env = {**setup.trusted_environment, **self._slot_environment(slot), **self._readable()}
        env["AUTORESEARCH_SEED"] = str(seed)
        if self.overlaps:  # then the shim recorded the weights at the end of the clock
            ended = read_json(folder / "exit.json")
            env["AUTORESEARCH_WEIGHTS_SHA256"] = str(ended.get("weights_sha256") or "")
            env["AUTORESEARCH_SECONDS"] = str(ended.get("seconds") or 0.0)
        cwd = setup.paths.pristine / setup.repo.prefix
        confined = self._scoring_sandbox(command, run, slot)
        spec = scorer.ScoreSpec(
            argv=tuple(environment.resolve_command(command, env, cwd)),
            cwd=cwd,
            worktree=worktree,
            out=folder / "out",
            log=folder / log,
            sandbox=await self._entered(confined),
            env=env,
            timeout=MAX_SCORE_SECONDS,
            metric=self._settings.program.metric.name,
            inputs=self._inputs(),
            checkout=setup.repo.root,
            layout=setup.repo.layout(setup.paths.worktree(run)),
            comments=self.prepared.comments,
        )
        for last in (False, True):
            try:
                async with again if last and again else nullcontext(), self._alone(run) as register:
                    off_clock = OffClock(register, container.cores(), scored=True)
                    async with self._template(spec, confined, register) as loan:
                        return await scorer.score(spec, off_clock, loan, watch)
            except ScorerFault:
                if broken := await self.broken_seal() or await self.broken_sandbox():  # the cause, whatever the fault
                    raise LabError(broken) from None
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _entered(self, confined: tiers.SandboxSpec) -> tuple[str, ...]:
        """The command line that enters a sandbox. Raises LabError."""
        try:
            return tuple(tiers.command(confined))
        except LabError as error:
            raise LabError(await self.broken_sandbox() or error.what, hint=error.hint) from None

    def _template(
        self, spec: scorer.ScoreSpec, confined: tiers.SandboxSpec, register: ClockRegister
    ) -> AbstractAsyncContextManager[Loan | None]:
        """The template for one scoring of nanotrain's scorer on the processor; others start their processes."""
        if not confined.one_model or not Path(spec.argv[0]).name.startswith("python"):
            return nullcontext()
        off_clock = OffClock(register, container.cores(), scored=True)
        return self.template.lent(spec.argv[0], spec.env, tiers.entry(confined), off_clock)

    async def check(self, experiment: int, name: str, command: str, commit: str) -> e.Checked:
        """Run one of program.md's checks in the sandbox, without a slot."""
        setup = self._setup
        path = setup.paths.worktrees / f"check-{experiment}"
        folder = setup.paths.folder / "checks" / f"{experiment}-{name}"
        with suppress(OSError):
            remove_tree(folder)
        started = time.monotonic()
        try:
            await self._checked_out(path, commit)
            limit = self._settings.program.check_seconds
            spec = self._job(
                run=0, folder=folder, command=command, top=path, seconds=limit,
                env={**device.slot_environment("cpu0", setup.threads), "AUTORESEARCH_RUNS_ON": setup.kind},
                limit_seconds=limit, startup_seconds=limit, saving_seconds=limit, plain=True, beside=True,
            )  # fmt: skip
            job = await start(spec)
            try:
                result = await job.wait(lambda phase: None)
            except asyncio.CancelledError:
                await job.kill("was skipped")
                raise
            output = "" if result.ended == "done" else result.reason
            if output:
                crash = Crash(reason=output, output=result.log_tail)
                hint = await asyncio.to_thread(self.hint, crash, f"checks.{name}", folder, path, commit)
                output = "\n".join((output, *([f"  hint: {hint}"] if hint else []), result.log_tail))
        except AutoresearchError as error:
            output = str(error) or "no output"
        finally:
            await asyncio.to_thread(setup.repo.remove_worktree, path)
        if not output:
            with suppress(OSError):
                remove_tree(folder)
        seconds = round(time.monotonic() - started, 2)
        return e.Checked(experiment=experiment, name=name, ok=not output, seconds=seconds, output=output)


async def start(spec: runner.RunSpec) -> runner.RunProcess:
    """Start a run's process. A cancellation meanwhile leaves no process behind."""
    starting = asyncio.create_task(runner.start(spec))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        job = await starting
        await job.kill("was stopped")
        raise


def _memory_limit(settings: SessionSettings) -> int:
    gigabytes = settings.program.memory_gb
    if gigabytes is not None:
        return int(gigabytes * 2**30)
    return int(container.memory_total() * 0.9 / len(settings.slots))
