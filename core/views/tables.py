"""Tables of a session for scripts and screens: status, leaderboard and results.tsv"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.record.budget import RunBudget
from core.record.events import VERDICTS
from core.record.state import BASELINE, NO_BASELINE, Experiment, Run, State
from core.text import first_line, one_line
from core.views.device_use import device_use
from core.views.trust import trust_in_best

# Rank of a verdict in the leaderboard: kept first, even if a discarded result within the noise is better.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", '"')  # begin one, or a quoted cell with one
_RANK = {"kept": 0, "provisional": 1, "discarded": 2, "pruned": 3, "crashed": 4, "rejected": 5, "skipped": 6}

FAILED_START = "failed start"  # of a session that crashed before its first verdict, for a person


def why_failed(state: State) -> str:
    """The reason of a failed start in a line, without the words that all of them have."""
    return first_line(state.reason.removeprefix(f"{NO_BASELINE}: "))


def session_word(state: State, alive: bool) -> str:
    """State of a session for display: one that is "running" in its log, without an engine, has crashed."""
    if not alive and state.state in ("starting", "running", "paused", "stopping"):
        return "crashed" if state.session is not None else "starting"
    return state.state


def phase_word(x: Experiment, alive: bool) -> str:
    """Verdict of an experiment, else its phase; without an engine nothing goes on."""
    return x.verdict or (x.phase if alive else "interrupted")


def run_word(run: Run, alive: bool) -> str:
    """How a run ended, else its phase; without an engine nothing goes on."""
    return (run.ended or (run.phase or "running" if alive else "interrupted")).replace("_", " ")


def baseline_failed(state: State) -> bool:
    """Whether the session ended as its unchanged code or its `prepare` failed: resuming would not change that."""
    runs = state.experiments[BASELINE].runs if BASELINE in state.experiments else ()
    failed = any(
        run.ended not in (None, "done", "abandoned") or (run.ended == "done" and run.metric is None) for run in runs
    )
    failed = failed or "`prepare`" in state.reason.partition("\n")[0]
    return state.state == "crashed" and state.baseline is None and failed


def progress(run: Run, now: float, used: float | None = None) -> float | None:
    """Share of its budget that a run has used, 0..1; `used`: that of a budget in processor seconds, which the log does
    not tell. None before its clock starts, and for a step budget.
    """
    if run.clock_started is None:
        return None
    if run.phase in ("saving", "scoring"):
        return 1.0
    try:
        budget = RunBudget.recorded(run.budget)
    except ValueError:
        return None
    if budget.clock == "cpu":
        return used
    return None if not budget.seconds else max(0.0, min(1.0, (now - run.clock_started) / budget.seconds))


def status(state: State, alive: bool, now: float, used: Mapping[int, float] | None = None) -> dict[str, Any]:
    """Output of `status --json`. `alive`: whether an engine holds the session; `now`: Unix seconds; `used`: of each run
    the share of its budget in processor seconds.

    Times are Unix seconds; unknown values are null.
    """
    started, engine = state.session, state.engine
    until = now if alive else state.time
    use, used = device_use(state, until), used or {}
    best = state.best_metric is not None
    return {
        "session": started.session if started else None,
        "state": session_word(state, alive),
        "project": started.project if started else None,
        "branch": started.branch if started else None,
        "researcher": engine.researcher if engine else None,
        "model": engine.model if engine else None,
        "sandbox": engine.sandbox if engine else None,
        "conditions": list(engine.conditions) if engine else [],
        "set_aside": dict(state.aside),
        "started": state.started or None,
        "seconds": round(state.seconds(until), 3),
        "experiments": {"total": state.total, **{v: state.verdicts.get(v, 0) for v in VERDICTS}},
        "baseline": _baseline(state),
        "best": {
            "experiment": state.best if best else None,
            "metric": state.best_metric,
            "commit": (state.best_commit or (started.commit if started else None)) if best else None,
        },
        "trust": trust_in_best(state),
        "running": [
            {
                "experiment": r.experiment,
                "slot": r.slot,
                "phase": r.phase,
                "progress": progress(r, now, used.get(r.run)),
            }
            for r in (state.live_runs() if alive else [])
        ],
        "queue": [x["experiment"] for x in waiting(state)],
        "device": use.table(),
        "cost": {
            "usd": None if state.usd_unknown and not state.usd else round(state.usd, 6),
            "input_tokens": state.input_tokens,
            "output_tokens": state.output_tokens,
            "cached_tokens": state.cached_tokens,
            "usd_per_kept": _usd_per_kept(state),
        },
        "engine": {"pid": engine.pid if engine else None, "alive": alive},
    }


def waiting(state: State) -> list[dict[str, Any]]:
    """The queue as `queue --json` prints it: the proposals that wait for a slot, in the order of their turn."""
    return [
        {
            "place": place,
            "experiment": number,
            "phase": state.experiments[number].phase,
            "parent": state.experiments[number].parent,
            "researcher": state.experiments[number].researcher,
            "hypothesis": one_line(state.experiments[number].hypothesis, 300),
            "commit": state.experiments[number].commit,
        }
        for place, number in enumerate(state.queue, 1)
    ]


def _usd_per_kept(state: State) -> float | None:
    """Dollars per kept change; None before the first, or while no price is known."""
    kept = state.verdicts.get("kept", 0)
    return round(state.usd / kept, 6) if kept and (state.usd or not state.usd_unknown) else None


def _baseline(state: State) -> dict[str, Any]:
    if state.baseline is not None:
        return {"metric": state.baseline.metric, "sigma": state.baseline.sigma, "n": state.baseline.n}
    runs = state.experiments[BASELINE].runs if BASELINE in state.experiments else ()
    return {"metric": None, "sigma": None, "n": sum(r.ended == "done" and r.kind == "baseline" for r in runs)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRow:
    """One row of the leaderboard. `word`: the verdict, or the phase while there is none."""

    number: int
    word: str
    verdict: str | None
    metric: float | None
    sigma: float | None
    delta: float | None
    hypothesis: str
    kind: str
    researcher: str
    commit: str | None
    parent: int
    runs: int
    seconds: float
    usd: float
    ended: float | None
    is_best: bool


def rows(state: State, *, live: bool = True) -> list[ExperimentRow]:
    """The leaderboard without the baseline: kept, provisional and discarded experiments by metric, then those without
    a result. `live`: experiments without a verdict too, newest first, at the end.
    """
    return [_row(x, state.best) for x in ranked(state, live=live)]


def ranked(state: State, *, live: bool = True) -> list[Experiment]:
    """The experiments of `rows`."""
    key, best, rank = state.metric.sort_key, state.best, _RANK.get
    judged = [x for x in state.experiments.values() if x.verdict is not None and x.number != BASELINE]
    # The best comes first even if an earlier one has a better number: only the best's is corrected by later candidates.
    judged.sort(key=lambda x: (rank(x.verdict or "", 9), x.number != best, key(x.metric), x.number))
    if live:
        begun = (state.experiments[n] for n in sorted(state.live, reverse=True) if n != BASELINE)
        judged += [x for x in begun if x.verdict is None]
    return judged


def _row(x: Experiment, best: int) -> ExperimentRow:
    return ExperimentRow(
        number=x.number, word=x.verdict or x.phase, verdict=x.verdict, metric=x.metric, sigma=x.sigma, delta=x.delta,
        hypothesis=x.hypothesis, kind=x.kind, researcher=x.researcher,
        commit=x.commit, parent=x.parent, runs=len(x.runs), seconds=x.run_seconds, usd=x.usd, ended=x.ended,
        is_best=x.number == best,
    )  # fmt: skip


def experiment_table(x: Experiment) -> dict[str, Any]:
    """One entry of `leaderboard --json`. `delta`: signed change against the experiment it was compared with."""
    return {
        "experiment": x.number,
        "verdict": x.verdict,
        "metric": x.metric,
        "sigma": x.sigma,
        "delta": x.delta,
        "hypothesis": x.hypothesis,
        "researcher": x.researcher,
        "commit": x.commit,
        "parent": x.parent,
        "runs": len(x.runs),
        "seconds": round(x.run_seconds, 3),
        "usd": None if x.usd_unknown and not x.usd else round(x.usd, 6),
    }


def leaderboard(state: State) -> list[dict[str, Any]]:
    """Output of `leaderboard --json`: every judged experiment, in the order of `rows`."""
    return [experiment_table(x) for x in ranked(state, live=False)]


def results_tsv(state: State) -> str:
    """The five columns of karpathy's results.tsv, in order of number, the baseline first.

    `keep`: kept; `discard`: has a result and was not kept; `crash`: has none (metric 0.000000, as there). A description
    that a spreadsheet would take for a formula begins with an apostrophe.
    """
    lines = ["\t".join(("commit", one_line(state.metric.name), "memory_gb", "status", "description"))]
    for number in sorted(state.experiments):
        x = state.experiments[number]
        if (state.baseline if number == BASELINE else x.verdict) is None:
            continue
        kept = number == BASELINE or x.verdict == "kept"
        word = "keep" if kept else "crash" if x.metric is None else "discard"
        memory = max((r.peak_memory or 0 for r in x.runs), default=0) / 2**30
        what = "baseline" if number == BASELINE else one_line(x.hypothesis) or x.reason
        commit = (x.commit or "-")[:7]
        told = one_line(what)
        told = f"'{told}" if told.startswith(_FORMULA) else told
        lines.append(f"{commit}\t{x.metric or 0.0:.6f}\t{memory:.1f}\t{word}\t{told}")
    return "\n".join(lines) + "\n"
