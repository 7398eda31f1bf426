"""Time and money of a session by device, verdict, researcher and kind of run"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from core.record.events import VERDICTS
from core.record.state import BASELINE, Experiment, Run, State
from core.views.device_use import DeviceUse, device_use


@dataclass(slots=True, kw_only=True)
class Share:
    """Costs of one group: a verdict, a researcher or a kind of run."""

    count: int = 0
    kept: int = 0
    seconds: float = 0.0  # on the clocks of their runs
    thinking: float = 0.0
    usd: float = 0.0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class Costs:
    """`verdicts` and `researchers` count experiments, `kinds` runs, `runs` those of each slot. `usd_unknown`: some
    prices of models are unknown.
    """

    use: DeviceUse
    seconds: float = 0.0
    runs: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, Share] = field(default_factory=dict)
    researchers: dict[str, Share] = field(default_factory=dict)
    kinds: dict[str, Share] = field(default_factory=dict)
    all: Share = field(default_factory=Share)
    usd_unknown: bool = False

    def per_kept(self, read: Callable[[Share], float]) -> float | None:
        """A cost of the whole session per kept change; None before the first."""
        return read(self.all) / self.all.kept if self.all.kept else None


def costs(state: State, now: float) -> Costs:
    """Costs of a State. `now`: Unix seconds up to which a live run counts."""
    out = Costs(use=device_use(state, now), seconds=state.seconds(now), usd_unknown=state.usd_unknown)
    for x in state.experiments.values():
        for run in x.runs:
            out.runs[run.slot] = out.runs.get(run.slot, 0) + 1
            kind = out.kinds.setdefault(run.kind, Share())
            kind.count += 1
            kind.seconds += _trained(state, run, now)
        if x.number != BASELINE:
            verdict = x.verdict or "under way"
            who = x.researcher + (f" · {x.model}" if x.model else "")
            for share in (out.all, out.verdicts.setdefault(verdict, Share()), out.researchers.setdefault(who, Share())):
                _add(share, x)
    order = [*VERDICTS, "under way"]
    out.verdicts = {word: out.verdicts[word] for word in order if word in out.verdicts}
    return out


def _trained(state: State, run: Run, now: float) -> float:
    """Seconds by the wall on a run's clock."""
    if run.phase is None:
        return run.on_clock
    if run.phase == "training" and run.clock_started:
        return max(0.0, now - run.clock_started)
    slot = state.slot_times.get(run.slot)
    held = slot.held.get(run.run) if slot else None
    return held.spent.get("training", 0.0) if held else 0.0


def _add(share: Share, x: Experiment) -> None:
    share.count += 1
    share.kept += x.verdict == "kept"
    share.seconds += sum(run.on_clock for run in x.runs)
    share.thinking += x.thinking_seconds
    share.usd += x.usd
    share.input_tokens += x.input_tokens
    share.cached_tokens += x.cached_tokens
    share.output_tokens += x.output_tokens
