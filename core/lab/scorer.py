"""The metric of a run: from the scorer, a separate trusted command, or self-reported in the run's output."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.lab.git.layout import Layout
from core.lab.git.restore import restore_worktree
from core.lab.harness_command import MAX_TAIL, CommandResult, run_command
from core.lab.python.uncommented_code import blank_comments
from core.lab.shim.clocks.off_clock import OffClock
from core.lab.shim.output import logged
from core.lab.template.lender import Loan, orders
from core.program.printed_metric import Printed, read_metric
from core.record.errors import LabError, ScorerFault

CODE_PREFIX = "model: "  # of lines that a scorer passes on from the code under test: for its log, in no reason
_MAX_WHOLE_TAIL = 2048  # characters; a longer tail may begin in the middle of a line
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSpec:
    """Settings of one scoring. `cwd`: the pristine checkout; `out`: the folder with the run's weights; `sandbox`: the
    prefix that starts a command in the sandbox; `timeout` in seconds; `inputs`: links in the worktree, name → target;
    `checkout`: the user's, whose submodules the worktree has; `layout`: of the worktree, when it is large; `comments`:
    whether the code under test has its comments (`PrepareResult`).
    """

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
    checkout: Path | None = None
    layout: Layout | None = None
    comments: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Answer of the scorer: a metric, or the reason why the model is rejected."""

    metric: float | None
    rejected: str | None = None
    probes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is told of a scoring while it goes on: its processes (`look`, some times a second, from another thread), and
    that its number is known and only probes are left, which need no card (`number`).
    """

    look: Callable[[list[int]], object]
    number: Callable[[], object]

    def line(self, text: str) -> None:
        """Read a line that the scorer has printed."""
        if text.startswith("{") and '"pending"' in text and (_answer(text, "") or {}).get("pending") is True:
            self.number()


async def score(
    spec: ScoreSpec, off_clock: OffClock | None = None, loan: Loan | None = None, watch: Watch | None = None
) -> Score:
    """Run the scorer. Raises ScorerFault when it fails or its answer cannot be read. Cancellable. `off_clock` keeps it
    from the processors of runs on their clock; `loan`: of the template that it may fork models from; `watch` is told
    how it goes on.

    First the worktree is restored to its commit: nothing that a run changed or added there is scored.
    """
    try:
        await asyncio.to_thread(restore_worktree, spec.worktree, spec.inputs, user=spec.checkout, layout=spec.layout)
        if not spec.comments:
            await asyncio.to_thread(blank_comments, spec.worktree, spec.cwd)
    except (LabError, OSError) as error:
        raise ScorerFault(f"could not restore the worktree to its commit: {error}") from None
    env = {**spec.env, "AUTORESEARCH_WORKTREE": str(spec.worktree), "AUTORESEARCH_RUN_DIR": str(spec.out),
           "AUTORESEARCH_CAGE": json.dumps(spec.sandbox)}  # fmt: skip
    more, passed = orders(loan)
    try:
        done = await run_command(spec.argv, cwd=spec.cwd, env=env | more, seconds=spec.timeout, log=spec.log,
                                 off_clock=off_clock, kept=True, pass_fds=passed,
                                 beside=loan.tree if loan else list, on_line=watch.line if watch else None,
                                 look=watch.look if watch else None)  # fmt: skip
    except OSError as error:
        raise ScorerFault(f"could not start the scorer: {error.strerror}", where=spec.argv[0]) from None
    done = replace(done, tail=_own_words(done.tail))
    if done.timed_out:
        raise _fault(f"the scorer was killed: it took more than {spec.timeout:g} s", spec, done)
    if done.exit_code:
        raise _fault(f"the scorer {done.failure}", spec, done)
    answer = _answer(done.last, spec.metric)
    if answer is None:
        raise _fault(f"the scorer's last line is neither a JSON object nor `{spec.metric}: number`", spec, done)
    return _score(answer, spec, done)


def _own_words(tail: str) -> str:
    """The scorer's own lines of its output's end, whose first line may have lost its prefix."""
    lines = tail.splitlines()[len(tail) >= MAX_TAIL :]
    return "\n".join(line for line in lines if not line.startswith(CODE_PREFIX))


def _answer(line: str, metric: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(line)
    except ValueError:
        match = re.search(rf"(?<![\w.]){re.escape(metric)}\s*[:=]\s*({_NUMBER})(?!\w|[.,'’]\d)", line)
        return {"metric": float(match[1])} if match else None
    return answer if isinstance(answer, dict) else None


def _score(answer: dict[str, Any], spec: ScoreSpec, done: CommandResult) -> Score:
    probes = given if isinstance(given := answer.get("probes"), dict) else {}
    if answer.get("rejected"):
        return Score(metric=None, rejected=str(answer["rejected"]), probes=probes)
    if answer.get("pending"):
        raise _fault("the scorer ended before its probes: its last line says that they are pending", spec, done)
    value = answer.get("metric", answer.get(spec.metric))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _fault(f'the scorer\'s answer has no number under "metric" or "{spec.metric}"', spec, done)
    if not math.isfinite(value):
        return Score(metric=None, rejected=f"the metric is {value}: not a finite number", probes=probes)
    return Score(metric=float(value), probes=probes)


def _fault(what: str, spec: ScoreSpec, done: CommandResult) -> ScorerFault:
    return ScorerFault(what + done.excerpt(12), hint=f"see {spec.log}")


def self_reported(output_log: Path, pattern: str, tail: str = "", *, like: str = "", cut_off: bool = False) -> Printed:
    """The metric in a run's output: the last match of the metric's pattern, wherever it stands in the log.

    `tail` is the end of the output as the run's shim holds it in memory. `like`: as an earlier run printed it.
    `cut_off`: the run was killed, and the last line of its output may be the begin of one.
    """
    if len(tail) >= _MAX_WHOLE_TAIL:
        tail = tail.partition("\n")[2]  # its first line may be the end of one
    output = logged(output_log, tail)
    if cut_off:
        output = output[: output.rfind("\n") + 1]
    return read_metric(output, pattern, like=like)
