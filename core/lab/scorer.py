"""The scorer: a separate, trusted command that computes the metric; and the self-reported metric without one."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.lab.git import restore
from core.lab.harness_command import Finished, run_command
from core.lab.shim.output import clean
from core.record.errors import LabError, ScorerFault

_WHOLE = 2048  # characters; a remembered end that is longer may begin in the middle of a line
_LOOKED_AT = 1 << 20  # bytes at each end of an output log
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSpec:
    """One scoring. `cwd` is the pristine checkout; `out` the folder with the run's weights; `sandbox` the prefix that
    starts a command in the sandbox; `timeout` in seconds; `inputs` what is laid in the worktree as links, by name."""

    argv: tuple[str, ...]
    cwd: Path
    worktree: Path
    out: Path
    log: Path
    env: Mapping[str, str]
    metric: str
    sandbox: tuple[str, ...] = ()
    timeout: float = 600.0
    inputs: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The verdict of the scorer: a metric, or why the model is rejected."""

    metric: float | None
    rejected: str | None = None
    probes: Mapping[str, Any] = field(default_factory=dict)
    tokens: int | None = None
    seconds: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict)


async def score(spec: ScoreSpec) -> Score:
    """Run the scorer. Raises ScorerFault when it fails, or says nothing that can be understood. Cancellable.

    The worktree is put back as committed first: what a run changed or left in it is not scored.
    """
    try:
        await asyncio.to_thread(restore.restore, spec.worktree, spec.inputs)
    except (LabError, OSError) as error:
        raise ScorerFault(f"the worktree cannot be put back as it was committed: {error}") from None
    env = {
        **spec.env,
        "AUTORESEARCH_WORKTREE": str(spec.worktree),
        "AUTORESEARCH_RUN_DIR": str(spec.out),
        "AUTORESEARCH_CAGE": json.dumps(list(spec.sandbox)),
    }
    try:
        done = await run_command(spec.argv, cwd=spec.cwd, env=env, seconds=spec.timeout, log=spec.log)
    except OSError as error:
        raise ScorerFault(f"the scorer cannot be started: {error.strerror}", where=spec.argv[0]) from None
    if done.timed_out:
        raise _fault(f"the scorer was killed: it took more than {spec.timeout:g} s", spec, done)
    if done.exit_code:
        raise _fault(f"the scorer ended with code {done.exit_code}", spec, done)
    answer = _answer(done.last, spec.metric)
    if answer is None:
        raise _fault(f"the scorer's last line is neither a JSON object nor `{spec.metric}: number`", spec, done)
    return _score(answer, spec, done)


def _answer(line: str, metric: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        match = re.search(rf"(?<![\w.]){re.escape(metric)}\s*[:=]\s*({_NUMBER})(?![\w.])", line)
        return {"metric": float(match[1])} if match else None
    return answer if isinstance(answer, dict) else None


def _score(answer: dict[str, Any], spec: ScoreSpec, done: Finished) -> Score:
    probes = answer.get("probes")
    tokens = answer.get("tokens")
    common: dict[str, Any] = {
        "probes": probes if isinstance(probes, dict) else {},
        "tokens": tokens if isinstance(tokens, int) else None,
        "seconds": done.seconds,
        "raw": answer,
    }
    if answer.get("rejected"):
        return Score(metric=None, rejected=str(answer["rejected"]), **common)
    value = answer.get("metric", answer.get(spec.metric))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _fault(f'the scorer\'s answer has no number under "metric" or "{spec.metric}"', spec, done)
    if not math.isfinite(value):
        return Score(metric=None, rejected=f"the metric is {value}: not a finite number", **common)
    return Score(metric=float(value), rejected=None, **common)


def _fault(what: str, spec: ScoreSpec, done: Finished) -> ScorerFault:
    tail = "\n".join(done.tail.splitlines()[-12:])
    return ScorerFault(f"{what}\n{tail}" if tail else what, hint=f"see {spec.log}")


@dataclass(frozen=True, slots=True)
class Reported:
    """What a run's output says of the metric. `reason` says why there is no value."""

    value: float | None
    reason: str = ""


def self_reported(output_log: Path, pattern: str, tail: str = "") -> Reported:
    """The last match of the metric's pattern in a run's output; its first group, or the whole match, as a number.

    `^` and `$` match at every line. Of a very long log the first and last megabyte are looked at. `tail` is the end of
    the output as the run's shim remembers it: a full disk costs the log, not the number.
    """
    found = re.compile(pattern, re.M)
    if len(tail) >= _WHOLE:
        tail = tail.partition("\n")[2]  # its first line may be the end of one
    for text in _parts(output_log, tail):
        matches = list(found.finditer(text))
        if matches:
            said = (matches[-1][1] if found.groups else matches[-1][0]) or ""
            value = _number(said)
            shown = " ".join(said.split())[:60]
            return Reported(
                value, "" if value is not None else f"what the pattern {pattern} found is no number: {shown}"
            )
    return Reported(None, f"the pattern {pattern} never matched in its output")


def _parts(output_log: Path, tail: str) -> Iterator[str]:
    """The places to look in, the newest words first."""
    if tail:
        yield tail
    try:
        with output_log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOOKED_AT))
            yield clean(file.read(_LOOKED_AT))
            if size > _LOOKED_AT:
                file.seek(0)
                yield clean(file.read(_LOOKED_AT))
    except OSError:
        return


def _number(text: str) -> float | None:
    try:
        return float(text.strip().rstrip(",;"))
    except ValueError:
        return None
