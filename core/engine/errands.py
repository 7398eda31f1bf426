"""What a person may ask of a session beyond its loop: certify an experiment, and reproduce one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any

from core.engine.journal import Journal
from core.engine.judging import Judge
from core.engine.runs import Runs
from core.engine.setup import Setup, versions
from core.engine.slots import Urgency
from core.record import events as e
from core.record.certify import Look, certificate_test, most_pairs
from core.record.errors import CommandRefused
from core.record.metric import format_metric
from core.record.state import BASELINE, Experiment
from core.session import write_json


class Errands:
    """Runs of their own, interleaved with the loop's; they move no best."""

    def __init__(self, setup: Setup, journal: Journal, runs: Runs) -> None:
        self._setup = setup
        self._journal = journal
        self._runs = runs

    def may_certify(self, number: int | None) -> int:
        """The experiment that will be certified. Raises CommandRefused with the reason."""
        state = self._journal.state
        chosen = state.best if number is None else number
        x = state.experiments.get(chosen)
        if state.baseline is None:
            raise CommandRefused("the baseline is not known yet")
        if chosen == BASELINE:
            raise CommandRefused("there is nothing to certify yet: the best is the baseline itself")
        if x is None or not x.values or not x.commit:
            raise CommandRefused(f"experiment {chosen} has no result to certify")
        if state.metric.gain(state.baseline.metric, x.metric or 0.0) <= 0:
            raise CommandRefused(f"experiment {chosen} is no better than the baseline: there is no gain to certify")
        if x.hidden_gap is not None and x.hidden_gap > 3:
            raise CommandRefused(f"experiment {chosen} gains {x.hidden_gap:.1f}σ less on the hidden slice")
        return chosen

    def may_reproduce(self, number: int) -> Experiment:
        """Raises CommandRefused with the reason."""
        x = self._journal.state.experiments.get(number)
        if x is None:
            raise CommandRefused(f"there is no experiment {number}")
        if not x.commit or not x.values:
            raise CommandRefused(f"experiment {number} has no result to reproduce")
        return x

    async def certify(self, number: int) -> None:
        """Best against baseline on fresh seeds, pair by pair, until the sequential test says stop."""
        state = self._journal.state
        x, noise = state.experiments[number], Judge.noise(state)
        assert state.baseline is not None and x.metric is not None
        expected = state.metric.gain(state.baseline.metric, x.metric)
        planned = most_pairs(expected, noise.sigma)
        await self._journal.write(e.CertificationStarted(number, planned))
        first = state.next_run
        look: Look | None = None
        while look is None or look.decision == "continue":
            pair = await asyncio.gather(
                self._runs.execute(BASELINE, "certify", self._setup.commit, Urgency.REPEAT),
                self._runs.execute(number, "certify", x.commit or "", Urgency.REPEAT),
            )
            if any(run.metric is None for run in pair):
                reason = next(run.reason for run in pair if run.metric is None)
                await self._journal.write(
                    e.Certified(number, "undecided", None, None, None, None, None, 0, reason=reason)
                )
                return
            arms = [self._fresh(n, first) for n in (BASELINE, number)]
            look = certificate_test(
                state.metric, arms[0], arms[1], planned, expected=expected, sigma=noise.sigma, df=noise.df
            )
        file = self._setup.paths.folder / "certificates" / f"{number}.json"
        await asyncio.to_thread(write_json, file, self._certificate(number, look, planned, first))
        outcome = "certified" if look.decision == "certified" else "refuted"
        interval = f"{format_metric(look.low)} to {format_metric(look.high)}"
        reason = f"{look.reason}; gain {format_metric(look.gain)} ({interval})"
        known: Any = outcome
        await self._journal.write(
            e.Certified(
                number, known, look.p, look.z, look.gain, look.low, look.high, sum(map(len, arms)), str(file), reason
            )
        )

    def _fresh(self, number: int, first: int) -> tuple[float, ...]:
        """Results of certificate runs since `first`, which nothing was chosen on."""
        runs = self._journal.state.experiments[number].runs
        return tuple(r.metric for r in runs if r.kind == "certify" and r.run >= first and r.metric is not None)

    def _certificate(self, number: int, look: Look, planned: int, first: int) -> dict[str, Any]:
        state, setup = self._journal.state, self._setup
        x = state.experiments[number]
        runs = [
            {
                "experiment": n,
                "seed": r.seed,
                "metric": r.metric,
                "seconds": r.seconds,
                "steps": r.steps,
                "slot": r.slot,
            }
            for n in (BASELINE, number)
            for r in state.experiments[n].runs
            if r.kind == "certify" and r.run >= first
        ]
        return {
            "session": setup.paths.name,
            "experiment": number,
            "hypothesis": x.hypothesis,
            "outcome": look.decision,
            "test": asdict(look),
            "planned": planned,
            "metric": asdict(state.metric),
            "sigma": state.sigma,
            "runs": runs,
            "baseline_commit": setup.commit,
            "commit": x.commit,
            "run_budget": str(setup.program.run_budget(setup.kind)),
            "sealed_sha256": self._runs.place.seal_digest,
            "hardware": setup.device,
            "sandbox": setup.cage.tier,
            "versions": versions(),
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "repeat_it_with": f"autoresearch-tui certify {number} --session {setup.paths.name}",
        }

    async def reproduce(self, number: int) -> None:
        """Run the recorded commit again with its recorded seed, and say whether the result is within the noise."""
        state = self._journal.state
        x = state.experiments[number]
        recorded = next(r for r in x.runs if r.commit == x.commit and r.metric is not None)
        run = await self._runs.execute(number, "reproduce", x.commit or "", Urgency.REPEAT, seed=recorded.seed)
        sigma = state.sigma or 0.0
        if run.metric is None or recorded.metric is None:
            reason = f"#{number} was not reproduced: {run.reason}"
            await self._journal.write(e.Reproduced(number, None, recorded.metric, False, reason))
            return
        apart = abs(run.metric - recorded.metric)
        # Two single runs differ by √2 σ; three of those are beyond chance.
        within = apart <= 3 * 2**0.5 * sigma
        same = "to the last digit" if apart == 0 else f"{format_metric(apart)} apart"
        word = "reproduced" if within else "NOT reproduced: the difference is beyond the noise"
        reason = f"#{number} {word}: {format_metric(run.metric)} against {format_metric(recorded.metric)}, {same}"
        await self._journal.write(e.Reproduced(number, run.metric, recorded.metric, within, reason))
