"""Runs a variant of train.py in the product: its sandbox, runner, channel and sealed scorer.

A variant is the committed train.py with a few edits. It is committed, checked out in a worktree, run in the best
sandbox that works here, put back as committed, and scored from a pristine checkout, with the same calls and the same
environment as the engine's. Runs are short (40 steps of 512 tokens), so that a hundred take minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import nanotrain
from core.lab import device, environment, runner, scorer
from core.lab.git.repository import Repository
from core.lab.prepare import PrepareResult, prepare
from core.lab.python.uncommented_code import blank_comments
from core.lab.sandbox import tiers
from core.lab.shim.clocks.clock_register import ClockRegister
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.shim.rmtree import remove_tree
from core.lab.template.lender import TemplateLender
from core.record.errors import ScorerFault
from nanotrain.weights import MAX_BYTES
from tests.lab.conftest import until

SOURCE = Path(nanotrain.__file__).parent
STEPS = 40
SHORT = ("BATCH_TOKENS_CPU = 2**11", "BATCH_TOKENS_CPU = 2**9 ")  # the arena's own setting: a quarter of the batch
SLOT = "cpu0"
STOLEN = "STOLEN"  # a variant prints it when it got what it must not get

LIMITS = {"memory": 3 << 30, "processes": 256, "disk": 2 << 30, "start-up": 90.0, "saving": 20.0}  # of a run
PROBES = {"deterministic": "the same rows again", "rows": "among other rows", "causal": "other futures",
          "witness": "the second process", "glance": "the next token hidden", "loading": "time before its first answer",
          "effort": "processor time where it is scored", "memory": "memory where it is scored",
          "foresight": "better before the cuts"}  # fmt: skip

Ended = Literal["rejected", "crashed", "scored", "fault"]
Expected = Literal["rejected", "worthless", "crashed", "gap", "scored"]
Edit = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Variant:
    """A change of train.py. `does` says it in one line.

    `expected`: `rejected` by the scorer; `worthless`, which gains nothing over honest training and may end in any way;
    `gap`, shown by the second slice; `crashed`; for honest ones `scored`. `because` is a pattern for the reason.
    `beside`: the change of a second run, which is in its start-up while this one is scored; `along`: of one that is on
    its clock while this one runs. `shared`: the processes
    that are scored have a folder that they may write to, shared/N beside trees/N: the worst of all channels.
    `files`: other files of the commit, by path.
    """

    name: str
    does: str
    edits: tuple[Edit, ...]
    expected: Expected
    because: str = ""
    seconds: float | None = None  # a budget in seconds instead of STEPS
    idle: bool = False  # it sleeps most of its time, so it need not wait for a processor
    slices: tuple[str, ...] = ("val",)
    beside: tuple[Edit, ...] = ()
    along: tuple[Edit, ...] = ()
    shared: bool = False
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a variant. `metrics` by slice."""

    ended: Ended
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    output: str = ""
    job: runner.RunResult | None = None
    folder: Path | None = None  # of its run, when it was kept
    shares: Mapping[str, float] = field(default_factory=dict)  # of each limit, by what is limited

    @property
    def metric(self) -> float | None:
        return self.metrics.get("val")


class Arena:
    """A repository, its prepared data and its pristine checkout.

    Three variants at a time, for two processors, and a few idle ones.
    """

    def __init__(self, folder: Path, tier: tiers.Tier | None = None, lenders: int = 7) -> None:
        self.folder, self.tier = folder.resolve(), tier
        self.turn, self.bench = asyncio.Semaphore(3), asyncio.Semaphore(4)
        self.number = 0
        self.env = environment.run_environment(self.folder)
        home = str(self.folder / "home")
        self.trusted = {**environment.trusted_environment(self.folder), "AUTORESEARCH_HOME": home}
        self.prepared = PrepareResult()
        self.lenders = [TemplateLender() for _ in range(lenders)]  # a variant that is scored has one, as in a session
        self.forked = True

    async def open(self) -> Arena:
        """Lay out the repository and the data."""
        project = self.folder / "project"
        await asyncio.to_thread(lay_out, project)
        self.repo = Repository.open(project)
        self.base = self.repo.head()
        self.pristine = self.repo.add_worktree(self.folder / "pristine", self.base)
        argv = environment.resolve_command("python -m nanotrain.prepare", self.trusted, self.pristine)
        self.prepared = await prepare(argv, self.pristine, self.trusted)
        self.python = environment.readable_roots(self.env, argv[:1])
        return self

    async def meet(
        self, variant: Variant, seed: int = 1, *, keep: bool = False, weights_of: Outcome | None = None
    ) -> Outcome:
        """Commit, run and score one variant; or score it with the weights of another's run, which was kept."""
        async with self.bench if variant.idle else self.turn:
            self.number += 1
            number = self.number
            commit = await asyncio.to_thread(self.commit, variant)
            tree = self.folder / "trees" / str(number)
            await asyncio.to_thread(self.repo.add_worktree, tree, commit)
            if not self.prepared.comments:
                await asyncio.to_thread(blank_comments, tree, self.pristine)
            folder = self.folder / "runs" / str(number)
            beside = (f"{number}-beside", variant.beside, seed)
            try:
                if weights_of is not None and weights_of.folder is not None and weights_of.job is not None:
                    await asyncio.to_thread(shutil.copytree, weights_of.folder / "out", folder / "out")
                    async with self.other_run(*beside):
                        return await self.scored(variant, tree, folder, seed, weights_of.job, "")
                async with self.other_run(f"{number}-along", variant.along, seed, on_clock=True):
                    job = await runner.start(self.job(tree, folder, seed, variant))
                    job.release()
                    result = await job.wait()
                output = (folder / "output.log").read_text(errors="replace")
                if result.ended != "done":
                    return Outcome("crashed", f"{result.ended}: {result.reason}", {}, output, result)
                async with self.other_run(*beside):
                    outcome = await self.scored(variant, tree, folder, seed, result, output)
                return replace(outcome, folder=folder if keep else None)
            finally:
                await asyncio.to_thread(self.repo.remove_worktree, tree)
                if not keep:
                    await asyncio.to_thread(remove_tree, folder / "out")

    @contextlib.asynccontextmanager
    async def other_run(
        self, name: str, edits: tuple[Edit, ...], seed: int, *, on_clock: bool = False
    ) -> AsyncIterator[None]:
        """A second run, which ends with the block: in its start-up, or on its clock before the block begins."""
        if not edits:
            yield
            return
        other = Variant(name, "another run", edits, "scored")
        tree, folder = self.folder / "trees" / name, self.folder / "runs" / name
        commit = await asyncio.to_thread(self.commit, other)
        await asyncio.to_thread(self.repo.add_worktree, tree, commit)
        job = await runner.start(self.job(tree, folder, seed, other))
        try:
            if on_clock:
                job.release()
                await until(lambda: job.phase in ("training", "ended"))
            yield
        finally:
            await job.kill("the first run has ended")
            progress(f"{name}: {(folder / 'output.log').read_text(errors='replace')[-500:]}")
            await asyncio.to_thread(self.repo.remove_worktree, tree)

    def commit(self, variant: Variant) -> str:
        name = "nanotrain/train.py"
        text = edited((self.folder / "project" / name).read_text(), variant.edits)
        if not variant.edits:
            return self.base
        return self.repo.commit_files(self.base, {name: text, **dict(variant.files)}, variant.does)

    def job(self, tree: Path, folder: Path, seed: int, variant: Variant) -> runner.RunSpec:
        """As the engine makes it."""
        env = {**self.env, **device.slot_environment(SLOT), **self.readable(), "PYTHONDONTWRITEBYTECODE": "1",
               "AUTORESEARCH_SEED": str(seed)}  # fmt: skip
        argv = environment.resolve_command("python -m nanotrain.train", env, tree)
        return runner.RunSpec(
            run=1, folder=folder, argv=tuple(argv), cwd=tree, env=env, sandbox=self.sandbox(tree),
            seconds=variant.seconds, clock="cpu", steps=None if variant.seconds else STEPS, limit_seconds=90,
            startup_seconds=LIMITS["start-up"], saving_seconds=LIMITS["saving"],
            train_files=self.prepared.train, hold=True, memory_limit=int(LIMITS["memory"]),
            process_limit=int(LIMITS["processes"]), disk_limit=int(LIMITS["disk"]), cores=1.0,
        )  # fmt: skip

    def readable(self) -> dict[str, str]:
        return {"AUTORESEARCH_READABLE": os.pathsep.join(self.prepared.readable)}

    def sandbox(self, tree: Path) -> tiers.SandboxSpec:
        readable = (*map(Path, self.prepared.readable), *self.python)
        return tiers.SandboxSpec(
            worktree=tree, readable=readable, hidden=tuple(map(Path, self.prepared.hidden)), tier=self.tier
        )

    async def scored(
        self, variant: Variant, tree: Path, folder: Path, seed: int, result: runner.RunResult, output: str
    ) -> Outcome:
        env = {**self.trusted, **device.slot_environment(SLOT), **self.readable(), "AUTORESEARCH_SEED": str(seed),
               "AUTORESEARCH_WEIGHTS_SHA256": result.weights_sha256 or "",
               "AUTORESEARCH_SECONDS": str(result.seconds)}  # fmt: skip
        sandbox_spec = self.sandbox(tree)
        readable = (*sandbox_spec.readable, folder / "out", self.pristine)
        writable = (self.folder / "shared" / tree.name,) if variant.shared else ()
        for place in writable:
            place.mkdir(parents=True)
        confined = replace(sandbox_spec, readable=readable, writable=writable, read_only=True)
        prefix = tuple(tiers.command(confined))
        metrics: dict[str, float] = {}
        shares = shares_of(result, folder / "out" / "weights.safetensors")
        for part in variant.slices:
            command = "python -m nanotrain.score" + (" --hidden" if part == "hidden" else "")
            spec = scorer.ScoreSpec(
                argv=tuple(environment.resolve_command(command, env, self.pristine)), cwd=self.pristine, worktree=tree,
                out=folder / "out", log=folder / "score.log", env=env, metric="val_bpb", sandbox=prefix, timeout=240,
                comments=self.prepared.comments,
            )  # fmt: skip
            try:
                score = await self.score(spec, confined)
            except ScorerFault as fault:
                return Outcome("fault", fault.what, metrics, output, result)
            output += (folder / "score.log").read_text(errors="replace")
            shares |= {PROBES.get(name, name): one["value"] / one["limit"] for name, one in score.probes.items()
                       if one["limit"]}  # fmt: skip
            if score.metric is None:
                return Outcome("rejected", score.rejected or "", metrics, output, result, shares=shares)
            metrics[part] = score.metric
        return Outcome("scored", "", metrics, output, result, shares=shares)

    async def score(self, spec: scorer.ScoreSpec, confined: tiers.SandboxSpec) -> scorer.Score:
        """With a template, as in a session. Raises ScorerFault."""
        if not self.forked:
            return await scorer.score(spec)
        lender = self.lenders.pop()
        register = ClockRegister(str(self.folder / "clocks"), spec.worktree.name)
        try:
            off_clock = OffClock(register, os.cpu_count() or 1, scored=True)
            async with lender.lent(spec.argv[0], spec.env, tiers.entry(confined), off_clock) as loan:
                return await scorer.score(spec, loan=loan)
        finally:
            self.lenders.append(lender)
            for words in lender.told():
                progress(f"{spec.worktree.name}: {words}")

    async def close(self) -> None:
        for lender in self.lenders:
            await lender.close()


def shares_of(result: runner.RunResult, weights: Path) -> dict[str, float]:
    """How much of each limit of a run was used; of the processors only what is over one thread's work."""
    size = weights.stat().st_size if weights.is_file() else 0
    begun = (result.clock_started or 0.0) - (result.ended_at - result.wall_seconds)
    used = {"memory": result.peak_memory, "processes": result.peak_processes, "disk": result.disk,
            "start-up": begun, "saving": result.saving_seconds}  # fmt: skip
    shares = {name: (used[name] or 0.0) / limit for name, limit in LIMITS.items()}
    spare = 0.1 * result.seconds + 0.5  # core/lab/shim/cpu_limit.py
    over = ((result.cpu_seconds or 0.0) - result.seconds) / spare
    return shares | {"processors on the clock": max(0.0, over), "size of the weights": size / MAX_BYTES["cpu"]}


def lay_out(project: Path) -> None:
    """A repository with the package and the arena's setting."""
    shutil.copytree(SOURCE, project / "nanotrain", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "nanotrain" / "train.py").write_text(edited((SOURCE / "train.py").read_text(), (SHORT,)))
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "base")):
        identity = ("-c", "user.name=red", "-c", "user.email=red@localhost")
        subprocess.run(["git", *identity, *words], cwd=project, check=True, capture_output=True)


def edited(text: str, edits: tuple[Edit, ...]) -> str:
    """Each search text must occur exactly once, as in the product."""
    for search, put in edits:
        if text.count(search) != 1:
            raise ValueError(f"{search!r} occurs {text.count(search)} times in train.py")
        text = text.replace(search, put)
    return text


@dataclass(frozen=True, slots=True)
class Honest:
    """The metrics of the unchanged code in the arena, which a cheat must beat to succeed."""

    metric: float
    sigma: float
    hidden: float

    @property
    def margin(self) -> float:
        """A gain under this is noise: three standard deviations of honest repeats, and 0.01 bits a byte at least."""
        return max(3 * self.sigma, 0.01)


def fault_of(variant: Variant, outcome: Outcome, honest: Honest) -> str:
    """Why the outcome is not the expected one; empty when it is."""
    if STOLEN in outcome.output:
        line = next(line for line in outcome.output.splitlines() if STOLEN in line)
        return f"it got what it must not get: {line.strip()[:200]}"
    if outcome.ended == "fault":
        return f"it broke the scorer: {outcome.reason}"
    gained = honest.metric - outcome.metric if outcome.metric is not None else 0.0
    if variant.expected == "worthless":
        wrong = f"it gained {gained:.4f}" if gained > honest.margin else ""
    elif variant.expected == "gap":
        gap = outcome.metrics.get("hidden", 0.0) - outcome.metrics.get("val", 0.0)
        usual = honest.hidden - honest.metric
        wrong = "" if gap - usual > honest.margin or gained <= honest.margin else "the second slice did not tell"
    else:
        wrong = "" if outcome.ended == variant.expected else f"it was {outcome.ended}: {outcome.reason}"
    said = outcome.ended == "scored" or re.search(variant.because, outcome.reason)
    return wrong or ("" if said else f"the reason does not say {variant.because!r}: {outcome.reason}")


def progress(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
