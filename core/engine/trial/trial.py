"""A trial: one run as a session's baseline, in a worktree of HEAD, of which nothing remains but the report."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from core.engine.finding import Finding, failed
from core.engine.journal import Journal
from core.engine.runs.card_watch import CardWatch
from core.engine.runs.live_run import Live
from core.engine.runs.run import Runs
from core.engine.runs.slots import Slots, Urgency
from core.engine.runs.workplace import Workplace
from core.engine.session_settings import SessionSettings
from core.engine.startup.preparation import prepare_session
from core.engine.startup.setup import Start, open_log, prepare
from core.engine.trial.forecast import Outcome, at_limit_line, forecast, without_place, works
from core.engine.trial.traces import SEED, Snapshot, Written, seed_places, snapshot, written
from core.engine.trial.trial_folder import TrialPaths, new_paths, remove, remove_stale, start_guard
from core.lab import container, runner, scorer
from core.lab.shim.output import clean
from core.record import events as e
from core.record.errors import AutoresearchError
from core.record.state import BASELINE
from core.session.lock import hold
from core.session.options import EngineOptions, overrides_of
from core.session.trial_record import note_trial

PROGRESS_SECONDS = 0.25
SECOND_RUN_SECONDS = 10.0  # a run that took less is run again with another seed
TAIL_BYTES = 8192
NOTES_BYTES = 1 << 16  # of the beginning of an output
SHOWN_LINES = 20
NO_MATCH = r"(?!)"  # the pattern of a run whose output is not read
Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """What to try. `seconds`: only the first ones of the run; `full`: a second run however long the first took;
    `once`: never a second run; `glance`: neither `prepare` nor the scorer.
    """

    project: Path
    options: EngineOptions
    seconds: float | None = None
    full: bool = False
    once: bool = False
    glance: bool = False


class TrialPlace(Workplace):
    """A session's places of work. The runs keep what they wrote in their home, and may end after `seconds`."""

    seconds: float | None = None
    before: Snapshot
    spec_used: runner.RunSpec | None = None
    checkout_seconds: float | None = None  # None: not checked out

    def checkout(self, path: Path, commit: str, *, to_read: bool = False) -> Path:
        begun = time.monotonic()
        top = super().checkout(path, commit, to_read=to_read)
        self.checkout_seconds = time.monotonic() - begun
        return top

    def spec(self, run: int, slot: str, seed: int, commit: str) -> runner.RunSpec:
        spec = replace(super().spec(run, slot, seed, commit), keep_private=True)
        if self.seconds is not None and (spec.seconds is None or self.seconds < spec.seconds):
            spec = replace(spec, seconds=self.seconds, steps=None, clock="wall", at_limit=True)
        self.before, self.spec_used = snapshot(spec.cwd), spec
        return spec


@dataclass(eq=False)
class TrialRuns(Runs):
    """A session's runs. What each wrote is looked at before anything of it is removed."""

    place: TrialPlace
    card_repeats: int = field(default=0, init=False)  # nobody waits for a card to work again
    written: tuple[Written, ...] = field(default=(), init=False)

    def make_room(self, run: int, scored: bool) -> None:
        spec, folder = self.place.spec_used, self.paths.run(run)
        assert spec is not None
        places: tuple[tuple[str, Path, Snapshot], ...] = (
            ("worktree", spec.cwd, self.place.before), ("run folder", folder / "out", {}),
            ("home", folder / "home", {}), ("tmp", folder / "tmp", {}),
        )  # fmt: skip
        found = (written(place, where, before) for place, where, before in places)
        self.written = tuple(one for one in found if one is not None)
        super().make_room(run, scored)


class Trial:
    """The parts of an engine that one run needs. To be made within a running event loop."""

    def __init__(self, request: TrialRequest, start: Start, journal: Journal, say: Say) -> None:
        self._request, self._start, self._say, self._journal = request, start, say, journal
        self._stopped = ""  # why nothing can be judged
        self._phase = "starting"
        self._phases: list[tuple[str, float]] = []
        setup = start.setup
        self._settings = SessionSettings(setup.paths, journal, start.program, start.options, start.researcher)
        self._place = TrialPlace(setup, self._settings, self._stop_judging)
        self._place.seconds = request.seconds
        slots = Slots(start.slots)
        slots.open()
        self._watch = watch = CardWatch(setup.sandbox.tier, journal, slots, _go_on, "another try")
        self._runs = TrialRuns(setup, self._settings, journal, slots, self._place, watch)
        journal.listeners.append(self._hear)

    async def _stop_judging(self, reason: str) -> None:
        self._stopped = reason

    def _hear(self, event: e.Event) -> None:
        if isinstance(event.body, e.Preparing):
            self._phase = event.body.what
        elif isinstance(event.body, e.RunStarted):
            self._phases = [("starting", event.time)]
        elif isinstance(event.body, e.RunPhaseChanged):
            self._phases.append((event.body.phase, event.time))
        elif isinstance(event.body, e.RunFinished):
            self._phases.append(("ended", event.time))

    async def run(self) -> Outcome:
        """Run once, and again with another seed where that is short."""
        setup = self._start.setup
        telling = asyncio.create_task(self._tell())
        try:
            if not self._request.glance:
                await prepare_session(setup, self._settings, self._journal, self._place, lambda: False)
            await self._journal.write(
                e.ExperimentStarted(
                    experiment=BASELINE, parent=BASELINE, parent_commit=setup.commit, researcher="baseline"
                )
            )
            first = await self._execute()
            outcome = await asyncio.to_thread(self._outcome, first)
            if first.metric is not None and self._wants_second(first):
                second = await self._execute()
                outcome = replace(outcome, second=second)
        finally:
            telling.cancel()
            self._watch.close()
            await self._place.template.close()
        return outcome

    def _wants_second(self, first: e.RunFinished) -> bool:
        if self._request.seconds is not None or self._request.once:
            return False
        return self._request.full or first.wall_seconds < SECOND_RUN_SECONDS

    async def _execute(self) -> e.RunFinished:
        return await self._runs.execute(BASELINE, "baseline", self._start.setup.commit, Urgency.BASELINE)

    def _outcome(self, finished: e.RunFinished) -> Outcome:
        setup, program = self._start.setup, self._start.program
        log = setup.paths.run(finished.run) / "output.log"
        printed = None
        if program.pattern is not None:
            cut_off = finished.exit_code is None
            printed = scorer.self_reported(log, program.pattern, finished.log_tail, cut_off=cut_off)
        spec = self._place.spec_used
        own = PurePosixPath(setup.repo.prefix)
        edited = [(own / name).as_posix() for name in setup.repo.files(setup.commit, program.edit)]
        return Outcome(
            program=program,
            kind=setup.kind,
            tier=setup.sandbox.tier,
            slots=self._start.slots,
            cores=container.cores(),
            finished=finished,
            printed=printed,
            lines=tuple(_lines(log)[-SHOWN_LINES:]) or tuple(finished.log_tail.splitlines()[-SHOWN_LINES:]),
            threads=str(spec.env.get("OMP_NUM_THREADS", "")) if spec else "",
            memory_limit=spec.memory_limit if spec else None,
            written=self._runs.written,
            seed_places=seed_places(setup.repo.root, setup.commit, edited),
            dirty=tuple(setup.repo.dirty(program.edit)),
            cut_after=self._request.seconds,
            stopped=self._stopped,
            imports=setup.imports.sentence(),
            files=len(self._place.before) if spec else 0,
            checkout_seconds=self._place.checkout_seconds,
            phases=tuple(self._phases),
            overlaps=self._place.overlaps,
            notes=_notes(log),
        )

    async def _tell(self) -> None:
        while True:
            self._say({"progress": self._progress()})
            await asyncio.sleep(PROGRESS_SECONDS)

    def _progress(self) -> dict[str, Any]:
        live = next(iter(self._runs.live.values()), None)
        budget = self._request.seconds or self._start.program.run_budget(self._start.setup.kind).seconds
        if live is None:
            return {"phase": self._phase, "seconds": None, "budget": budget, "line": "", "run": 0}
        job, lines = live.job, _lines(self._start.setup.paths.run(live.run) / "output.log")
        return {
            "phase": _phase(live), "seconds": round(job.seconds, 1) if job else None, "budget": budget,
            "line": lines[-1] if lines else "", "run": live.run,
        }  # fmt: skip


async def _go_on(_: str) -> None:
    """A try has no session to pause: its run says what is wrong with the card."""


def _phase(live: Live) -> str:
    if live.job is None:
        return "checking out"
    return {"starting": "starting", "ready": "starting", "training": "running"}.get(live.phase, live.phase)


def _lines(log: Path) -> list[str]:
    """The last lines of a run's output."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            data = file.read()
    except OSError:
        return []
    return [line.rstrip() for line in clean(data).splitlines() if line.strip()]


def _notes(log: Path) -> tuple[str, ...]:
    """What a run remarks about itself."""
    try:
        with log.open("rb") as file:
            data = file.read(NOTES_BYTES)
    except OSError:
        return ()
    return tuple(line[5:].strip() for line in clean(data).splitlines() if line.startswith("note:"))


async def try_program(request: TrialRequest, say: Say) -> dict[str, Any]:
    """Try a project's program.md at HEAD. Returns the report; nothing else remains, also after a cancellation.

    `say` receives the progress, four times a second.
    """
    try:
        start, outcome = await tried(request, say)
    except AutoresearchError as error:
        return _refused(request.project, error)
    report = _report(request.project, start, outcome)
    if request.seconds is None and not overrides_of(request.options):
        note_trial(request.project, report["ok"])
    return report


async def tried(request: TrialRequest, say: Say) -> tuple[Start, Outcome]:
    """One trial, of which nothing remains. Raises what refuses a session's start."""
    await remove_stale(request.project)
    paths = new_paths(request.project)
    guard = start_guard(paths)
    try:
        with hold(paths):
            (paths.folder / ".gitignore").write_text("*\n")
            asked = replace(request.options, researcher="human", from_head=True)
            start = await asyncio.to_thread(prepare, paths, asked)
            if request.glance:
                program = replace(start.program, prepares={}, score=None, pattern=start.program.pattern or NO_MATCH)
                start = replace(start, program=program)
            try:
                journal = Journal(open_log(start, exclude=False))
                try:
                    return start, await Trial(request, start, journal, say).run()
                finally:
                    journal.log.close()
            finally:
                start.setup.locks.release()
    finally:
        await asyncio.shield(asyncio.ensure_future(_leave(paths, guard)))


async def _leave(paths: TrialPaths, guard: Any) -> None:
    await remove(paths)
    with contextlib.suppress(OSError):
        guard.stdin.close()
    await asyncio.to_thread(guard.wait)


def _refused(project: Path, error: AutoresearchError) -> dict[str, Any]:
    finding = failed("start", error)
    finding = replace(finding, detail=without_place(finding.detail))
    return {"project": str(project), "ok": False, "started": False, "findings": [asdict(finding)]}


def _report(project: Path, start: Start, outcome: Outcome) -> dict[str, Any]:
    findings: list[Finding] = forecast(outcome)
    finished, second, budget = outcome.finished, outcome.second, outcome.program.run_budget(outcome.kind)
    printed = outcome.printed
    return {
        "project": str(project),
        "ok": works(outcome, findings),
        "started": True,
        "commit": start.setup.commit,
        "command": outcome.program.run,
        "sandbox": outcome.tier,
        "ended": finished.ended,
        "reason": finished.reason,
        "exit_code": finished.exit_code,
        "budget": {
            "run": str(budget), "seconds": finished.seconds, "wall_seconds": finished.wall_seconds,
            "steps": finished.steps, "only_seconds": outcome.cut_after,
        },
        "output": list(outcome.lines),
        "checkout": {"files": outcome.files, "seconds": outcome.checkout_seconds},
        "pattern": None if printed is None else {
            "pattern": outcome.program.pattern, "matches": printed.matches, "last": printed.text or printed.line,
            "value": printed.value, "reason": printed.reason,
        },
        "metric": {"name": outcome.program.metric.name, "value": finished.metric},
        "score": None if outcome.program.score is None else {
            "command": outcome.program.score, "metric": finished.metric, "probes": dict(finished.probes or {}),
        },
        "seed": {
            "variable": SEED, "named_in": list(outcome.seed_places), "in_command": SEED in outcome.program.run,
            "second_run": None if second is None else {"ended": second.ended, "metric": second.metric},
            "has_effect": outcome.seed_has_effect,
        },
        "files": [asdict(one) for one in outcome.written],
        "threads": {"OMP_NUM_THREADS": outcome.threads, "cores": outcome.cores, "slots": list(outcome.slots)},
        "imports": outcome.imports,
        "at_limit": at_limit_line(outcome),
        "memory": {"peak": finished.peak_memory, "limit": outcome.memory_limit},
        "findings": [asdict(finding) for finding in findings],
    }  # fmt: skip
