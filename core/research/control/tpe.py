"""Researcher `control`: a classical optimizer (Optuna's TPE) over the constants of the code.

It uses no language model, and is the reference for those that do. TPE (Bergstra et al., 2011) models the values of each
constant in the good and in the bad experiments, and draws where good ones are dense and bad ones are not.

A proposal changes few constants (one at first, later up to four), so that its verdict is informative and the next one
builds on the best code. They are drawn by weight: important by name, helpful before, seldom tried. Everything is
computed from the log and the seed, so a resumed session gives the same proposals; running experiments count as pending
(TPE's constant liar).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.record.errors import AutoresearchError, ProposalFailed, ScriptEnded
from core.record.metric import format_metric
from core.record.proposal import Proposal
from core.record.state import BASELINE, Experiment, State
from core.research.control.constants import Constant, check_tunable, edits_for, rounded, written
from core.research.control.numbers import Value
from core.research.protocol import Brief, Researcher, Stream
from core.text import plural

FIRST_STEPS = 6  # experiments that each change one constant by one step, before TPE has data
MAX_DRAWS = 60  # before the search space counts as exhausted

Constants = Mapping[str, Constant]  # by key

_WEIGHTS: tuple[tuple[str, float], ...] = (
    (r"(?:^|_)(?:LR|RATE)(?:_|$)", 3.0),
    (r"(?:^|_)BATCH(?:_|$)", 2.5),
    (r"WARM|SCHEDULE|FINAL|COOLDOWN", 2.0),
    (r"DEPTH|WIDTH|LAYERS|DIM|MOMENTUM|BETA|RATIO", 1.5),
)
_KINDS: tuple[tuple[str, str], ...] = (
    (r"WARM|SCHEDULE|FINAL|COOLDOWN", "schedule"),
    (r"(?:^|_)(?:LR|RATE|MOMENTUM|BETAS?|BATCH|NEWTON|MUON|ADAM|CLIP)(?:_|$)", "optimizer"),
    (r"DECAY|DROPOUT|(?:^|_)WD(?:_|$)|SMOOTH", "regularization"),
    (r"DEPTH|WIDTH|LAYERS|DIM|HEADS|MLP|WINDOW|ROPE|EMBED|SOFTCAP|SCALE|STD|X0", "architecture"),
)


@dataclass(slots=True)
class Observation:
    """One experiment as the search sees it: the value of every constant, and the result."""

    experiment: int
    values: dict[str, Value]
    changed: tuple[str, ...]
    state: str  # complete, failed (counts as worst), pending, void (only not to be repeated)
    metric: float | None = None
    helped: bool = False


@dataclass(slots=True)
class Draw:
    """Result of one draw: new values by key, and the reasoning."""

    values: dict[str, Value]
    reason: str
    thoughts: list[str] = field(default_factory=list)


class ControlResearcher(Researcher):
    """Proposes changes of constants by Optuna's TPE. `seed` None: the session's."""

    name = "control"

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._proposed: dict[int, list[Observation]] = {}  # of this process, until they are in the log

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """Raises ResearcherMisconfigured without tunable constants, ScriptEnded when every value has been tried."""
        constants = check_tunable(brief.files, brief.device, brief.program.run)
        stream.note("control: Optuna's TPE over the constants of the code; no language model is asked")
        if brief.feedback:
            stream.note(f"the last proposal was refused: {brief.feedback}")
        for _ in range(MAX_DRAWS):
            observations = self._history(brief, constants)
            draw = await asyncio.to_thread(self._draw, brief, constants, observations)
            proposal = _proposal(brief, constants, draw)
            values = {**_values(constants), **draw.values}
            pending = Observation(brief.experiment, values, tuple(draw.values), "pending")
            self._proposed.setdefault(brief.experiment, []).append(pending)
            for thought in draw.thoughts:
                stream.thinking(thought + "\n")
            try:
                await asyncio.to_thread(brief.check, proposal)
            except AutoresearchError as error:
                stream.refused(len(self._proposed[brief.experiment]), str(error))
                continue
            stream.text(proposal.hypothesis + "\n")
            return proposal
        raise ProposalFailed(f"none of {MAX_DRAWS} changes of constants could be applied")

    def _history(self, brief: Brief, constants: Constants) -> list[Observation]:
        """Every known combination of values: from the log, and proposals of this process that are not in it yet."""
        known = history(brief.state, constants, brief.parent)
        logged = {t.experiment for t in known}
        for number, own in self._proposed.items():
            if number == brief.experiment:
                known += [Observation(number, t.values, t.changed, "failed" if brief.feedback else "void") for t in own]
            elif number not in logged:
                verdict = brief.state.experiments[number].verdict if number in brief.state.experiments else None
                known += [Observation(number, t.values, t.changed, "void" if verdict else "pending") for t in own[-1:]]
        return known

    def _draw(self, brief: Brief, constants: Constants, observations: Sequence[Observation]) -> Draw:
        seed = self.seed if self.seed is not None else brief.program.seed
        own = sum(t.experiment == brief.experiment for t in observations)
        tried = {_key(t.values, constants) for t in observations} | {_key(_values(constants), constants)}
        done = sum(t.state in ("complete", "failed") and t.experiment != BASELINE for t in observations)
        begun = len({t.experiment for t in observations} - {BASELINE, brief.experiment})
        for attempt in range(MAX_DRAWS):
            rng = random.Random(f"{seed}/{brief.experiment}/{own}/{attempt}")
            if begun < FIRST_STEPS and attempt < MAX_DRAWS // 3:
                draw = _first_step(constants, observations, rng)
            else:
                draw = _tpe(brief.state, constants, observations, rng, _how_many(done, attempt))
            now = {k: v for k, v in draw.values.items() if v != constants[k].value}
            if now and _key({**_values(constants), **now}, constants) not in tried:
                draw.values = now
                draw.thoughts.insert(0, _summary(brief.state, constants, observations))
                return draw
        raise ScriptEnded("every reachable combination of the constants has been tried")


def _how_many(done: int, attempt: int) -> int:
    """Number of constants that a proposal changes: few at first; more when near values are exhausted."""
    return (1 if done < 12 else 2 if done < 40 else 3) + min(1, done // 100) + attempt // 20


def _values(constants: Constants) -> dict[str, Value]:
    return {key: c.value for key, c in constants.items()}


def _key(values: Mapping[str, Value], constants: Constants) -> tuple[object, ...]:
    return tuple(values.get(key, c.value) for key, c in constants.items())


# --- past experiments ------------------------------------------------------------------------------


def history(state: State, constants: Constants, parent: int) -> list[Observation]:
    """The session's experiments as observations, oldest first, with the baseline.

    `extra["params"]` has the value of every constant after a proposal, `extra["changed"]` its changes as [old, new].
    """
    values: dict[int, dict[str, Value]] = {}
    observations: list[Observation] = []
    for number, x in sorted(state.experiments.items()):
        params, changed = x.extra.get("params"), x.extra.get("changed")
        if not isinstance(params, Mapping) or not isinstance(changed, Mapping):
            continue
        new = {key: pair[1] for key, pair in changed.items()}
        if x.parent == BASELINE and BASELINE not in values and not x.rebased:
            values[BASELINE] = {**params, **{key: pair[0] for key, pair in changed.items()}}
        base = values.get(x.parent) if x.rebased else None  # the same changes of a new parent
        values[number] = {**base, **new} if base is not None else dict(params)
        observations.append(_observation(x, values[number], tuple(changed)))
    values.setdefault(parent, _values(constants))
    for number in (BASELINE, parent):
        if number in values and all(t.experiment != number for t in observations) and number in state.experiments:
            observations.insert(0, _observation(state.experiments[number], values[number], ()))
    return observations


def _observation(x: Experiment, values: dict[str, Value], changed: tuple[str, ...]) -> Observation:
    if x.metric is not None and (x.verdict is not None or x.number == BASELINE):
        return Observation(x.number, values, changed, "complete", x.metric, x.verdict in ("kept", "provisional"))
    if x.verdict in ("crashed", "rejected"):
        return Observation(x.number, values, changed, "failed")
    return Observation(x.number, values, changed, "pending" if x.verdict is None else "void")


# --- drawing ---------------------------------------------------------------------------------------


def _weight(c: Constant, observations: Sequence[Observation]) -> float:
    """Weight of a constant in the next draw: by its name, how often it helped, and how seldom it was tried."""
    base = next((w for pattern, w in _WEIGHTS if re.search(pattern, c.name)), 1.0)
    tried = [t.helped for t in observations if c.key in t.changed]
    return base * (1 + sum(tried)) / (1 + 0.7 * (len(tried) - sum(tried)))


def _choose(constants: Constants, observations: Sequence[Observation], rng: random.Random, n: int) -> list[str]:
    left = {key: _weight(c, observations) for key, c in constants.items()}
    chosen: list[str] = []
    while left and len(chosen) < n:
        chosen += rng.choices(list(left), list(left.values()))
        del left[chosen[-1]]
    return chosen


def _first_step(constants: Constants, observations: Sequence[Observation], rng: random.Random) -> Draw:
    """One step of one constant: a factor of two, or one position along its range."""
    [key] = _choose(constants, observations, rng, 1)
    c, up = constants[key], rng.random() < 0.5
    s = c.space
    value: float
    if s.scale == "choice":
        value = not c.value
    elif s.scale == "power":
        value = c.value * 2 if up else c.value // 2
    elif s.scale == "one_minus":
        value = 1 - (1 - c.value) * (2 if up else 0.5)
    elif s.step:
        value = c.value + (s.step if up else -s.step)
    elif s.scale == "log" and c.value:
        value = c.value * (2 if up else 0.5)
    else:
        value = c.value + (0.25 if up else -0.25) * (s.high - s.low)
    limits = (2.0**s.low, 2.0**s.high) if s.scale == "power" else (s.low, s.high)
    new = rounded(c, value if s.scale == "choice" else min(max(value, limits[0]), limits[1]))
    return Draw({key: new}, "one step in one direction, as data for later ones")


def _tpe(state: State, constants: Constants, observations: Sequence[Observation], rng: random.Random, n: int) -> Draw:
    """New values for `n` constants, drawn together by TPE from a study of these only, which is much faster."""
    import optuna

    chosen = _choose(constants, observations, rng, n)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=rng.randrange(2**31), n_startup_trials=4, constant_liar=True)
    direction = "minimize" if state.metric.direction == "min" else "maximize"
    study = optuna.create_study(sampler=sampler, direction=direction)
    spaces = {key: _distribution(optuna, constants[key]) for key in chosen}
    for t in observations:
        known = {key: _to_study(constants[key], t.values[key]) for key in chosen if key in t.values}
        if t.state == "void" or not known:
            continue
        kind, ranges = getattr(optuna.trial.TrialState, _STATES[t.state]), {key: spaces[key] for key in known}
        value = t.metric if t.state == "complete" else None
        study.add_trial(optuna.trial.create_trial(params=known, distributions=ranges, state=kind, value=value))
    drawn = study.ask(spaces).params
    values = {key: rounded(constants[key], _from_study(constants[key], drawn[key])) for key in chosen}
    return _explained(state, constants, observations, values)


_STATES = {"complete": "COMPLETE", "failed": "PRUNED", "pending": "RUNNING"}  # TPE ranks pruned ones last


def _distribution(optuna: Any, c: Constant) -> Any:
    s, d = c.space, optuna.distributions
    if s.scale == "choice":
        return d.CategoricalDistribution([False, True])
    if s.scale == "power":
        return d.IntDistribution(int(s.low), int(s.high))
    if s.scale == "one_minus":
        return d.FloatDistribution(1 - s.high, 1 - s.low, log=True)
    if s.step is not None:
        span = int(s.high - s.low) // s.step * s.step
        log = s.scale == "log"
        return d.IntDistribution(int(s.low), int(s.low) + span, log=log, step=1 if log else s.step)
    return d.FloatDistribution(s.low, s.high, log=s.scale == "log")


def _to_study(c: Constant, value: Value) -> Any:
    """A value in the study's units; one outside the range counts as its end."""
    s = c.space
    if s.scale == "choice":
        return bool(value)
    if s.scale == "power":
        return int(s.clip(max(1, int(value)).bit_length() - 1))
    if s.scale == "one_minus":
        return min(max(1 - value, 1 - s.high), 1 - s.low)
    clipped = s.clip(value)
    if s.step is not None:
        return int(s.low) + round((clipped - int(s.low)) / s.step) * s.step
    return clipped


def _from_study(c: Constant, drawn: Any) -> float:
    """A value of the constant from the study's units: the inverse of `_to_study`."""
    if c.space.scale == "power":
        return float(2 ** int(drawn))
    return 1 - drawn if c.space.scale == "one_minus" else drawn  # type: ignore[no-any-return]


# --- reasoning -------------------------------------------------------------------------------------


def _summary(state: State, constants: Constants, observations: Sequence[Observation]) -> str:
    done = sorted((t for t in observations if t.state == "complete"), key=lambda t: state.metric.sort_key(t.metric))
    pending = sum(t.state == "pending" for t in observations)
    failed = sum(t.state == "failed" for t in observations)
    known = f"Known: {plural(len(done), 'result')}, {pending} pending, {failed} failed."
    lines = [f"{plural(len(constants), 'constant')} can be tuned. {known}"]
    for t in done[:3]:
        what = ", ".join(f"{k}={_shown(constants, k, t.values)}" for k in t.changed) or "the unchanged code"
        lines.append(f"  {format_metric(t.metric)}  #{t.experiment}  {what}")
    return "\n".join(lines)


def _shown(constants: Constants, key: str, values: Mapping[str, Value]) -> str:
    value = values.get(key)
    return "–" if value is None else written(constants[key], value) if key in constants else f"{value:g}"


def _split(state: State, observations: Sequence[Observation]) -> tuple[list[Observation], list[Observation]]:
    """The good and the bad observations as TPE splits them: the best tenth, rounded up, at most 25."""
    ranked = sorted((t for t in observations if t.state == "complete"), key=lambda t: state.metric.sort_key(t.metric))
    total = len(ranked) + sum(t.state == "failed" for t in observations)
    good = min(-(-total // 10), 25)
    return ranked[:good], ranked[good:]


def _explained(
    state: State, constants: Constants, observations: Sequence[Observation], values: dict[str, Value]
) -> Draw:
    good, bad = _split(state, observations)
    thoughts = [f"TPE splits the results into {len(good)} good and {len(bad)} bad; it draws where the good are dense:"]
    for key, value in values.items():
        c = constants[key]
        tried = [t.helped for t in observations if key in t.changed]
        thoughts.append(
            f"  {key}: changed {len(tried)} times, {sum(tried)} helped; good at {_values_in(c, good)}, "
            f"bad at {_values_in(c, bad)}; now {written(c, c.value)}, drawn {written(c, value)}"
        )
    reason = f"TPE expects it among the best {len(good)} of {len(good) + len(bad)} results"
    return Draw(values, reason, thoughts)


def _values_in(c: Constant, observations: Sequence[Observation]) -> str:
    values = sorted({t.values[c.key] for t in observations if c.key in t.values})
    if len(values) > 4:
        return f"{written(c, values[0])} … {written(c, values[-1])} ({len(values)} values)"
    return ", ".join(written(c, v) for v in values) or "–"


def _proposal(brief: Brief, constants: Constants, draw: Draw) -> Proposal:
    changes = [f"{k} {constants[k].source} → {written(constants[k], v)}" for k, v in draw.values.items()]
    name = constants[next(iter(draw.values))].name
    kind = next((kind for pattern, kind in _KINDS if re.search(pattern, name)), "other")
    changed = {k: [constants[k].value, v] for k, v in draw.values.items()}
    return Proposal(
        hypothesis=f"{', '.join(changes)}: {draw.reason}", kind=kind,
        edits=tuple(edits_for(brief.files, constants, draw.values)),
        rationale="\n".join(["Proposed by Optuna's TPE; no language model was asked.", *draw.thoughts]),
        extra={"params": {**_values(constants), **draw.values}, "changed": changed},
    )  # fmt: skip
