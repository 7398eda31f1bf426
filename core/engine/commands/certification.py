"""Certification of an experiment on fresh seeds, and reproduction of one from its recorded seed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from core.engine.commands.dispatch import Handlers, LoopControl
from core.engine.ending import Ending
from core.engine.lifecycle import Lifecycle
from core.engine.runs.run import Runs, side_by_side
from core.engine.runs.slots import Urgency
from core.engine.startup.setup import EnginePart, versions
from core.record import commands as c
from core.record import events as e
from core.record.errors import CommandRefused
from core.record.metric import format_metric
from core.record.state import BASELINE, Experiment, Run
from core.session.disk import private_folder, replace_file
from core.session.paths import signature_of
from core.stats.certify import InterimAnalysis, certificate_test, most_pairs
from core.stats.eligible import certifiable, reproducible
from core.stats.noise import Noise
from core.stats.sigma import noise_of
from core.stats.silence import silence


@dataclass(eq=False)
class CertificationCommands(EnginePart):
    """Carries out these commands with runs beside the loop's own; they change no best."""

    lifecycle: Lifecycle
    runs: Runs
    loop: LoopControl
    _under_way: set[tuple[str, int]] = field(default_factory=set, init=False)

    @property
    def handlers(self) -> Handlers:
        return {c.Certify: self._start_certify, c.Reproduce: self._start_reproduce}

    async def begin_only_task(self) -> None:
        """Begin the one task that this engine was started for, if it was; the session ends with it."""
        name, _, number = (self.setup.only_task or "").partition(":")
        if not name:
            return
        self.lifecycle.finish(f"{name} is done")
        try:
            if name == "certify":
                await self._start_certify(c.Certify(int(number) if number else None))
            else:
                await self._start_reproduce(c.Reproduce(int(number)))
        except CommandRefused as refusal:
            hint = f"; hint: {refusal.hint}" if refusal.hint else ""
            self.lifecycle.end(Ending("stopped", refusal.what + hint))

    async def _start_certify(self, command: c.Certify) -> str:
        self.lifecycle.refuse_when_stopping()
        number = certifiable(self.state, command.experiment)
        if any(what == "certify" for what, _ in self._under_way):
            raise CommandRefused("a certification is in progress already")
        self._begin("certify", number, self._certify)
        return f"experiment {number} is tested against the baseline on fresh seeds"

    async def _start_reproduce(self, command: c.Reproduce) -> str:
        self.lifecycle.refuse_when_stopping()
        x = reproducible(self.state, command.experiment)
        budget, recorded = str(self.program.run_budget(self.setup.kind)), _recorded(x).budget
        if recorded != budget:
            raise CommandRefused(f"experiment {x.number} ran for {recorded}, and a run here is now {budget}")
        if ("reproduce", x.number) in self._under_way:
            raise CommandRefused(f"experiment {x.number} is being reproduced already")
        self._begin("reproduce", x.number, self._reproduce)
        return f"experiment {x.number} is run again with its recorded seed"

    def _begin(self, what: str, number: int, work: Callable[[int], Awaitable[None]]) -> None:
        async def marked() -> None:
            try:
                await work(number)
            finally:
                self._under_way.discard((what, number))

        self._under_way.add((what, number))
        self.loop.run_beside(marked())

    async def _certify(self, number: int) -> None:
        """Pairs of baseline and experiment on fresh seeds, until the sequential test decides."""
        state = self.state
        x, noise = state.experiments[number], noise_of(state, prior=False)
        if state.timed:  # the two arms are single runs, and their difference has the noise of a pair
            noise = replace(noise, sigma=noise.sigma / 2**0.5)
        assert state.baseline is not None and x.metric is not None
        expected = state.metric.gain(state.baseline.metric, x.metric)
        planned = most_pairs(expected, noise.sigma)
        size = f" ({expected / noise.sigma:.1f}σ)" if noise.sigma else ""
        own = ", of a metric that the code reports itself" if state.metric.self_reported else ""
        words = f"for a gain of {format_metric(expected)}{size}{own}"
        await self.journal.write(
            e.CertificationStarted(
                experiment=number, planned=planned, reason=words, expected=expected, sigma=noise.sigma, df=noise.df
            )
        )  # fmt: skip
        first, pairs = state.next_run, 0
        look: InterimAnalysis | None = None
        while look is None or look.decision == "continue":
            broken = await self._pair(number, x.commit or "", turned=pairs % 2 == 1)
            if broken:
                return await self.journal.write(
                    e.Certified(
                        experiment=number, outcome="undecided", p=None, z=None, gain=None, low=None, high=None,
                        runs=2 * pairs, reason=broken,
                    )
                )  # fmt: skip
            pairs += 1
            arms = [self._fresh(n, first) for n in (BASELINE, number)]
            look = certificate_test(
                state.metric, arms[0], arms[1], planned, expected=expected, sigma=noise.sigma, df=noise.df
            )
        await self._conclude(number, look, noise, expected, first)

    async def _pair(self, number: int, commit: str, *, turned: bool) -> str:
        """One run of each. Returns why there is no number, or "". `turned`: the experiment runs first, in every second
        pair, so that a machine that slows down over the day favours neither.
        """
        pair = [(BASELINE, self.setup.commit), (number, commit)]
        arms = pair[::-1] if turned else pair
        runs = await side_by_side(*(self.runs.execute(n, "certify", at, Urgency.REPEAT) for n, at in arms))
        return next((run.reason or "a run gave no number" for run in runs if run.metric is None), "")

    async def _conclude(self, number: int, look: InterimAnalysis, noise: Noise, expected: float, first: int) -> None:
        file = self.paths.certificate(number)
        head = self.journal.log.chain_head()
        named = {"expected": expected, "log": {"events": head.seq, "head": head.hash} if head else None}
        certificate = {**await asyncio.to_thread(self._certificate, number, look, noise, first), **named}
        data = (json.dumps(certificate, indent=1) + "\n").encode()
        await asyncio.to_thread(_write, file, data)
        known = math.isfinite(look.low)
        interval = f"{format_metric(look.low)} to {format_metric(look.high)}" if known else "of unknown noise"
        own = "; self-reported by the code" if self.state.metric.self_reported else ""
        await self.journal.write(
            e.Certified(
                experiment=number, outcome=_outcome(look), p=look.p if known else None,
                z=look.z, gain=look.gain, low=look.low, high=look.high, runs=2 * look.pairs,
                file=str(file), sha256=hashlib.sha256(data).hexdigest(),
                reason=f"{look.reason}; gain {format_metric(look.gain)} ({interval}){own}",
            )
        )  # fmt: skip

    def _fresh(self, number: int, first: int) -> tuple[float, ...]:
        """Results of certificate runs since `first`, by which nothing was selected."""
        return tuple(r.metric for r in self._runs_of(number, first) if r.metric is not None)

    def _runs_of(self, number: int, first: int) -> list[Run]:
        """Those with a result: one that was cut off, or starved of the processor, is made again with its seed."""
        runs = self.state.experiments[number].runs
        return [r for r in runs if r.kind == "certify" and r.run >= first and r.metric is not None]

    def _certificate(self, number: int, look: InterimAnalysis, noise: Noise, first: int) -> dict[str, Any]:
        """Everything needed to judge the claim and to repeat the test."""
        state, setup = self.state, self.setup
        x, base = state.experiments[number], state.experiments[BASELINE]
        devices = {
            event.body.run: dict(event.body.device)
            for n in (BASELINE, number)
            for event in self.journal.log.events_of(n)
            if isinstance(event.body, e.RunFinished)
        }
        runs = [
            {
                "experiment": r.experiment, "run": r.run, "commit": r.commit, "seed": r.seed, "metric": r.metric,
                "budget": r.budget, "seconds": r.seconds, "steps": r.steps, "slot": r.slot,
                "device": {k: v for k, v in devices.get(r.run, {}).items() if k not in ("versions", "sealed")},
            }
            for r in sorted(self._runs_of(BASELINE, first) + self._runs_of(number, first), key=lambda r: r.run)
        ]  # fmt: skip
        hidden = {"baseline": base.hidden, "experiment": x.hidden, "gap_in_sigmas": x.hidden_gap}
        known = x.hidden is not None and base.hidden is not None
        plain: dict[str, Any] = _plain({
            "session": setup.paths.name,
            "experiment": number,
            "hypothesis": x.hypothesis,
            "outcome": _outcome(look),
            "noise_unknown": silence(state) or None,
            "statement": look.reason,
            "test": asdict(look),
            "planned": look.planned,
            "metric": asdict(state.metric),
            "self_reported": state.metric.self_reported,
            "noise": asdict(noise),
            "sigma": noise.sigma,
            "claimed": {"baseline": state.baseline.metric if state.baseline else None, "experiment": x.metric},
            "hidden_slice": hidden if known else None,
            "runs": runs,
            "baseline_commit": setup.commit,
            "commit": x.commit,
            "branch": setup.paths.branch,
            "run": self.program.run,
            "run_budget": str(self.program.run_budget(setup.kind)),
            "sealed_sha256": self.runs.place.seal_digest,
            "hardware": setup.device,
            "slots": list(self.settings.slots),
            "sandbox": setup.sandbox.tier,
            "versions": {**versions(), **self.runs.versions()},
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "repeat_it_with": f"autoresearch-tui certify {number} --session {setup.paths.name}",
        })  # fmt: skip
        return plain

    async def _reproduce(self, number: int) -> None:
        """Run the recorded commit with its recorded seed, and log whether the result is within the noise."""
        state = self.state
        x = state.experiments[number]
        recorded = _recorded(x)
        run = await self.runs.execute(number, "reproduce", x.commit or "", Urgency.REPEAT, seed=recorded.seed)
        if run.metric is None or recorded.metric is None:
            reason = f"#{number} was not reproduced: {run.reason}"
            was = recorded.metric
            fact = e.Reproduced(experiment=number, metric=None, recorded=was, within_noise=False, reason=reason)
            return await self.journal.write(fact)
        now = state.experiments[number]
        ran = now.counted(next(r for r in now.runs if r.run == run.run), run.metric)
        was = x.counted(recorded, recorded.metric)
        apart = abs(ran - was)
        # Two single runs differ by √2 σ; three of those are beyond chance.
        within = apart <= 3 * 2**0.5 * (state.sigma or 0.0)
        same = "to the last digit" if apart == 0 else f"{format_metric(apart)} apart"
        word = "reproduced" if within else "NOT reproduced: the difference is beyond the noise"
        reason = f"#{number} {word}: {format_metric(ran)} against {format_metric(was)}, {same}"
        reason += self._changed(number, recorded.run, run)
        fact = e.Reproduced(experiment=number, metric=ran, recorded=was, within_noise=within, reason=reason)
        await self.journal.write(fact)

    def _changed(self, number: int, recorded: int, now: e.RunFinished) -> str:
        """Changed conditions of the result besides its code, in words."""
        bodies = [event.body for event in self.journal.log.events_of(number)]
        old = next((dict(b.device) for b in bodies if isinstance(b, e.RunFinished) and b.run == recorded), {})
        before, after = _facts(old), _facts(dict(now.device))
        changed = [name for name in before if after.get(name) != before[name]]
        words = [f"{name} is {after.get(name, 'gone')}, was {before[name]}" for name in changed]
        return f"; but {', '.join(words)}" if words else ""


def _write(file: Path, data: bytes) -> None:
    """Write a certificate; the signature of an earlier one goes."""
    private_folder(file.parent)
    signature_of(file).unlink(missing_ok=True)
    replace_file(file, data)


def _outcome(look: InterimAnalysis) -> Literal["certified", "refuted", "undecided"]:
    return "refuted" if look.decision == "continue" else look.decision


def _recorded(x: Experiment) -> Run:
    """The first run of its present commit with a result."""
    return next(r for r in x.runs if r.commit == x.commit and r.metric is not None and r.kind != "warmup")


def _facts(device: dict[str, Any]) -> dict[str, str]:
    versions = device.get("versions")
    named = {"the device": str(device["name"])} if device.get("name") else {}
    sealed = {"what scores it": str(device["sealed"])} if device.get("sealed") else {}
    return {**named, **sealed, **({str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {})}


def _plain(value: Any) -> Any:
    """The value with null in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
