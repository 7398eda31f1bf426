"""Trust in a result: sigma, the claim, the hidden slice and the certificate"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from core.record import events as e
from core.record.events import Event
from core.record.metric import format_metric
from core.record.state import Experiment, State
from core.stats.silence import silence_line
from core.text import plural


def noise_table(state: State) -> dict[str, Any] | None:
    """Sigma of one run with its 90% interval and degrees of freedom."""
    known = state.noise
    if known is None:
        return None
    return {"sigma": known.sigma, "low": known.low, "high": _finite(known.high), "df": known.df}


def trust_in_best(state: State) -> dict[str, Any]:
    """Of the best: sigma, its number of runs, the gap on the hidden slice in sigmas (large: the gain is missing there),
    and the outcome of its certification.
    """
    x = state.experiments.get(state.best)
    return {
        "noise": noise_table(state),
        "noise_unknown": silence_line(state) or None,
        "runs": len(x.values) if x is not None else 0,
        "hidden_gap": _finite(x.hidden_gap) if x is not None else None,
        "certified": (x.certified or None) if x is not None else None,
    }


def trust_table(state: State, x: Experiment, events: Iterable[Event]) -> dict[str, Any]:
    """Part of `show N --json` about an experiment's result. `events`: of the experiment."""
    hidden: e.HiddenScored | None = None
    certified: e.Certified | None = None
    for event in events:
        if isinstance(event.body, e.HiddenScored):
            hidden = event.body
        elif isinstance(event.body, e.Certified):
            certified = event.body
    worth = x.sample.weight if x.values else 0.0
    return {
        "noise": noise_table(state),
        "claim": {"metric": x.metric, "worth_runs": round(worth, 2), "runs": len(x.values)} if x.values else None,
        "hidden": None
        if hidden is None
        else {"metric": hidden.metric, "gap": _finite(hidden.gap), "warning": hidden.warning},
        "certificate": None
        if certified is None
        else {
            "outcome": certified.outcome, "p": certified.p, "z": _finite(certified.z), "gain": certified.gain,
            "low": _finite(certified.low), "high": _finite(certified.high), "runs": certified.runs,
            "file": certified.file, "reason": certified.reason,
        },
    }  # fmt: skip


def trust_lines(table: dict[str, Any]) -> list[tuple[str, str]]:
    """The table in words, by label."""
    lines: list[tuple[str, str]] = []
    noise, claim, hidden, certificate = (table[name] for name in ("noise", "claim", "hidden", "certificate"))
    if claim is not None and claim["metric"] is not None:
        worth = f", worth {claim['worth_runs']:.1f} runs" if abs(claim["worth_runs"] - claim["runs"]) > 0.05 else ""
        lines.append(("number", f"{format_metric(claim['metric'])} from {plural(claim['runs'], 'run')}{worth}"))
    if noise is not None:
        lines.append(("sigma", noise_words(noise)))
    if hidden is not None:
        gap = "" if hidden["gap"] is None else f", its gain {abs(hidden['gap']):.1f}σ {_side(hidden['gap'])} there"
        warning = f"; {hidden['warning']}" if hidden["warning"] else ""
        lines.append(("hidden", f"{format_metric(hidden['metric'])} on the hidden slice{gap}{warning}"))
    if certificate is not None:
        p = "" if certificate["p"] is None else f" (p {certificate['p']:.2g})"
        file = f"; {certificate['file']}" if certificate["file"] else ""
        lines.append(("certified", f"{certificate['outcome']}{p}: {certificate['reason']}{file}"))
    return lines


def noise_words(noise: dict[str, Any]) -> str:
    if noise["sigma"] == 0:
        return f"unknown: {no_noise(noise['df'])}"
    high = "unknown" if noise["high"] is None else format_metric(noise["high"])
    return f"{format_metric(noise['sigma'])} a run ({format_metric(noise['low'])} to {high})"


def no_noise(df: float) -> str:
    """Why sigma is 0."""
    return "runs of the same code agree to the last digit" if df else "no code ran twice"


def _side(gap: float) -> str:
    return "smaller" if gap > 0 else "larger"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
