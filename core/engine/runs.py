"""One run from its worktree to its number: start it, watch it, score it, say how it ended."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from core.engine.journal import Journal
from core.engine.setup import Setup
from core.engine.slots import Slots, Urgency
from core.lab import cage, device, environment, runner, scorer
from core.lab.prepare import Prepared
from core.record import events as e
from core.record.errors import LabError, ScorerFault
from core.record.pulse import SlotReading

SCORE_TIMEOUT = 600.0  # seconds; a scorer that is slower than this is at fault
PROCESS_LIMIT = 256
DISK_LIMIT = 20 * 2**30


@dataclass(slots=True)
class Live:
    """A run in a slot just now. `wanted_end` says why the engine itself ends it ("skip" or "stop")."""

    run: int
    experiment: int
    slot: str
    started: float
    job: runner.Job | None = None
    phase: str = "starting"
    phase_since: float = 0.0
    scoring: asyncio.Task[scorer.Score] | None = None
    wanted_end: str = ""
    owns_slot: bool = True
    owns_clock: bool = False
    clock: asyncio.Task[bool] | None = None  # waiting for the slot's clock
    killing: set[asyncio.Task[runner.JobResult]] = field(default_factory=set)

    def end(self, why: str) -> None:
        """Kill the run's process tree, or the scoring of it."""
        self.wanted_end = why
        if self.job is not None:
            killing = asyncio.create_task(self.job.kill("was skipped" if why == "skip" else "was stopped"))
            self.killing.add(killing)
            killing.add_done_callback(self.killing.discard)
        if self.scoring is not None:
            self.scoring.cancel()


class Runs:
    """Executes runs for the loop. One call of `execute` is one run in one slot."""

    def __init__(self, setup: Setup, journal: Journal, slots: Slots) -> None:
        self._setup = setup
        self._journal = journal
        self._slots = slots
        self._next_run = journal.state.next_run
        self._memory_limit = _memory_limit(setup)
        self.prepared = Prepared()
        self.live: dict[int, Live] = {}

    async def execute(self, experiment: int, kind: e.RunKind, commit: str, urgency: Urgency) -> e.RunFinished:
        """Wait for a slot, run, score, and log how it ended."""
        slot = await self._slots.acquire(urgency)
        run = self._next_run
        self._next_run += 1
        live = self.live[run] = Live(run, experiment, slot, time.time(), phase_since=time.time())
        try:
            seed = self._seed(run)
            budget = self._setup.program.run_budget(self._setup.kind)
            await self._journal.write(e.RunStarted(run, experiment, kind, slot, seed, commit, str(budget)))
            try:
                await asyncio.to_thread(self.checkout, self._setup.paths.worktree(run), commit)
                live.job = await _start(self._spec(run, slot, seed))
            except LabError as error:
                return await self._finish(
                    live, e.RunFinished(run, experiment, "crashed", None, 0, 0, reason=str(error))
                )
            if live.wanted_end:
                live.end(live.wanted_end)
            return await self._see_through(live, seed)
        finally:
            self._end(live)

    async def adopt(self, run: int, experiment: int, slot: str, seed: int) -> e.RunFinished | None:
        """Go on with a run that an earlier engine left in flight, or log it as abandoned."""
        job = runner.adopt(self._setup.paths.run(run))
        live = Live(run, experiment, slot, time.time(), job, phase_since=time.time(), owns_slot=False)
        if job is None:
            reason = "left unfinished when the engine ended"
            await self._journal.write(e.RunFinished(run, experiment, "abandoned", None, 0, 0, reason=reason))
            await asyncio.to_thread(self._setup.repo.remove_worktree, self._setup.paths.worktree(run))
            return None
        live.owns_slot = self._slots.take(slot)
        self.live[run] = live
        try:
            return await self._see_through(live, seed)
        finally:
            self._end(live)

    def _end(self, live: Live) -> None:
        self.live.pop(live.run, None)
        self._leave_slot(live)
        if live.owns_clock:
            live.owns_clock = False
            self._slots.clocks[live.slot].release()

    def _leave_slot(self, live: Live) -> None:
        if live.owns_slot:
            live.owns_slot = False
            self._slots.release(live.slot)

    @property
    def _overlaps(self) -> bool:
        """Whether a run's start-up and its clock can be told apart: it then starts up while the last one is scored."""
        return self._setup.program.score is not None and bool(self.prepared.train)

    async def _take_clock(self, live: Live) -> None:
        """Wait until nothing else of the slot is measured or scored, then let the run have its data."""
        lock = self._slots.clocks.get(live.slot)
        if lock is None or live.owns_clock or live.job is None:
            return
        live.clock = asyncio.create_task(lock.acquire())
        try:
            live.owns_clock = await live.clock
        except asyncio.CancelledError:
            if not live.clock.cancelled():
                raise
            return  # the run ended before its turn came
        live.job.hand_over()

    async def _see_through(self, live: Live, seed: int) -> e.RunFinished:
        """Watch the job to its end, score it, and log the result."""
        job = live.job
        assert job is not None
        phases: asyncio.Queue[str | None] = asyncio.Queue()
        writer = asyncio.create_task(self._log_phases(live, phases))
        try:
            result = await job.wait(phases.put_nowait)
        finally:
            if live.clock is not None and not live.clock.done():
                live.clock.cancel()
            phases.put_nowait(None)
            await writer
        if self._overlaps:
            self._leave_slot(live)
        finished = self._as_event(live, result)
        if result.ended == "done" and not live.wanted_end:
            finished = await self._measure(live, seed, finished)
        if live.wanted_end == "stop":
            finished = replace(finished, ended="abandoned", metric=None, reason="stopped before its end")
        elif live.wanted_end == "skip":
            finished = replace(finished, ended="killed", metric=None, reason="skipped")
        return await self._finish(live, finished)

    async def _finish(self, live: Live, finished: e.RunFinished) -> e.RunFinished:
        await self._journal.write(finished)
        await asyncio.to_thread(self._setup.repo.remove_worktree, self._setup.paths.worktree(live.run))
        return finished

    async def _log_phases(self, live: Live, phases: asyncio.Queue[str | None]) -> None:
        logged = {"starting", "ready"}
        while (phase := await phases.get()) is not None:
            live.phase, live.phase_since = phase, time.time()
            if phase in ("ready", "training"):
                await self._take_clock(live)
            if phase not in logged:
                logged.add(phase)
                known: Any = phase
                await self._journal.write(e.RunPhaseChanged(live.run, live.experiment, known))

    async def _measure(self, live: Live, seed: int, finished: e.RunFinished) -> e.RunFinished:
        """The number: by the scorer, or parsed from the output of a project that has none."""
        program, paths = self._setup.program, self._setup.paths
        folder = paths.run(live.run)
        if program.score is None:
            output, pattern = folder / "output.log", program.pattern or ""
            said = await asyncio.to_thread(scorer.self_reported, output, pattern, finished.log_tail)
            if said.value is None:
                return replace(finished, ended="crashed", reason=said.reason)
            return _number(finished, said.value)
        live.phase, live.phase_since = "scoring", time.time()
        await self._journal.write(e.RunPhaseChanged(live.run, live.experiment, "scoring"))
        live.scoring = asyncio.create_task(self._score(live, seed))
        try:
            score = await live.scoring
        except asyncio.CancelledError:
            if live.wanted_end:
                return finished
            raise
        except ScorerFault as fault:
            return replace(finished, ended="crashed", reason=f"the scorer failed: {fault.what}")
        finally:
            live.scoring = None
        wall = time.time() - live.started
        finished = replace(finished, probes=dict(score.probes), wall_seconds=wall)
        if score.rejected is not None:
            return replace(finished, ended="rejected", reason=score.rejected)
        return _number(finished, score.metric)

    async def _score(self, live: Live, seed: int) -> scorer.Score:
        """Twice at most: a fault of the scorer's own is tried once more."""
        setup, folder = self._setup, self._setup.paths.run(live.run)
        worktree = setup.paths.worktree(live.run) / setup.repo.prefix
        env = {**setup.trusted_environment, **device.slot_environment(live.slot), **self._readable()}
        env["AUTORESEARCH_SEED"] = str(seed)
        cwd = setup.paths.pristine / setup.repo.prefix
        spec = scorer.ScoreSpec(
            argv=tuple(environment.resolve_command(setup.program.score or "", env, cwd)),
            cwd=cwd,
            worktree=worktree,
            out=folder / "out",
            log=folder / "score.log",
            cage=tuple(cage.command(self._scoring_cage(live.run))),
            env=env,
            timeout=SCORE_TIMEOUT,
            metric=setup.program.metric.name,
        )
        try:
            return await scorer.score(spec)
        except ScorerFault:
            return await scorer.score(spec)

    def _as_event(self, live: Live, result: runner.JobResult) -> e.RunFinished:
        before = self._slots.ended.get(live.slot)
        self._slots.ended[live.slot] = result.ended_at
        gap = result.clock_started - before if before and result.clock_started else None
        return e.RunFinished(
            live.run, live.experiment, result.ended, None, round(result.seconds, 3), round(result.wall_seconds, 3),
            exit_code=result.exit_code, steps=result.steps, tokens=result.tokens, reason=result.reason,
            log_tail=result.log_tail, peak_memory=result.peak_memory, gap=None if gap is None else round(gap, 3),
        )  # fmt: skip

    def checkout(self, path: Path, commit: str) -> Path:
        """A worktree of `commit` at `path` with the project's inputs linked in. Returns the project's folder in it."""
        self._setup.repo.add_worktree(path, commit)
        top = path / self._setup.repo.prefix
        for name in self._setup.program.inputs:
            source, link = self._setup.project / name.rstrip("/"), top / name.rstrip("/")
            if source.exists() and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
        return top

    def _spec(self, run: int, slot: str, seed: int) -> runner.JobSpec:
        program, kind = self._setup.program, self._setup.kind
        budget = program.run_budget(kind)
        return self._job(
            run=run,
            folder=self._setup.paths.run(run),
            command=program.run,
            top=self._setup.paths.worktree(run),
            env={**device.slot_environment(slot), "AUTORESEARCH_SEED": str(seed)},
            seconds=budget.seconds,
            steps=budget.steps,
            limit_seconds=program.limit_seconds if budget.seconds is None else budget.seconds * 1.1 + 5,
            startup_seconds=program.startup_seconds.get(kind, 300.0),
            saving_seconds=program.saving_seconds,
            train_files=self.prepared.train,
            plain=program.score is None,
            hold=self._overlaps,
        )

    def _job(self, *, folder: Path, command: str, top: Path, env: dict[str, str], **limits: Any) -> runner.JobSpec:
        """A command in the worktree `top`, in the cage, with nothing of ours in its environment."""
        cwd = top / self._setup.repo.prefix
        env = {**self._setup.environment, **env, **self._readable(), "PYTHONDONTWRITEBYTECODE": "1"}
        return runner.JobSpec(
            folder=folder,
            argv=tuple(environment.resolve_command(command, env, cwd)),
            cwd=cwd,
            env=env,
            cage=self._cage(top),
            memory_limit=self._memory_limit,
            process_limit=PROCESS_LIMIT,
            disk_limit=DISK_LIMIT,
            **limits,
        )

    def _readable(self) -> dict[str, str]:
        return {"AUTORESEARCH_READABLE": os.pathsep.join(self.prepared.readable)} if self.prepared.readable else {}

    def _cage(self, top: Path) -> cage.CageSpec:
        program = self._setup.program
        inputs = [(self._setup.project / name).resolve() for name in program.inputs]
        return cage.CageSpec(
            worktree=top,
            readable=(*map(Path, self.prepared.readable), *inputs, *self._setup.python),
            hidden=tuple(map(Path, self.prepared.hidden)),
            network=program.network,
        )

    def _scoring_cage(self, run: int) -> cage.CageSpec:
        """For the process that holds the edited model while it is scored: it may read, and nothing else."""
        folder = self._setup.paths.run(run)
        spec = self._cage(self._setup.paths.worktree(run))
        readable = (*spec.readable, folder / "out", self._setup.paths.pristine)
        return replace(spec, readable=readable, read_only=True, network=False)

    async def check(self, experiment: int, name: str, command: str, commit: str) -> e.Checked:
        """One of program.md's checks, in the cage, before any slot is asked for."""
        setup = self._setup
        path = setup.paths.worktrees / f"check-{experiment}"
        folder = setup.paths.folder / "checks" / f"{experiment}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        try:
            await asyncio.to_thread(self.checkout, path, commit)
            limit = setup.program.check_seconds
            spec = self._job(
                run=0, folder=folder, command=command, top=path, env=device.slot_environment("cpu0"), seconds=limit,
                limit_seconds=limit, startup_seconds=limit, saving_seconds=limit, plain=True,
            )  # fmt: skip
            job = await _start(spec)
            try:
                result = await job.wait(lambda phase: None)
            except asyncio.CancelledError:
                await job.kill("was skipped")
                raise
        finally:
            await asyncio.to_thread(setup.repo.remove_worktree, path)
        seconds = time.monotonic() - started
        ok = result.ended == "done"
        if ok:
            shutil.rmtree(folder, ignore_errors=True)
        return e.Checked(experiment, name, ok, round(seconds, 2), "" if ok else f"{result.reason}\n{result.log_tail}")

    def _seed(self, run: int) -> int:
        """Every run has a seed of its own, chosen here: a lucky one cannot be kept by whoever wrote the code."""
        return (self._setup.seed * 1_000_003 + run * 7_919) % 2**31

    def readings(self) -> tuple[SlotReading, ...]:
        """What each slot does just now."""
        now = time.time()
        by_slot = {live.slot: live for live in self.live.values()}
        return tuple(_reading(name, by_slot.get(name), now) for name in self._slots.names)


async def _start(spec: runner.JobSpec) -> runner.Job:
    """Start a job; a cancellation in the middle of it leaves no job behind."""
    starting = asyncio.create_task(runner.start(spec))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        job = await starting
        await job.kill("was stopped")
        raise


def _reading(name: str, live: Live | None, now: float) -> SlotReading:
    if live is None:
        return SlotReading(name)
    fraction = live.job.fraction if live.job is not None and live.phase == "training" else None
    return SlotReading(name, live.experiment, live.run, live.phase, fraction, now - live.phase_since)


def _memory_limit(setup: Setup) -> int:
    if setup.program.memory_gb is not None:
        return int(setup.program.memory_gb * 2**30)
    return int(psutil.virtual_memory().total * 0.9 / len(setup.slots))


def _number(finished: e.RunFinished, value: float | None) -> e.RunFinished:
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return replace(finished, ended="crashed", metric=None, reason=f"the metric is not a finite number ({value})")
    return replace(finished, metric=value)
