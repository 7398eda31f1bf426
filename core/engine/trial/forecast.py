"""Forecast of a session from one run of it: what would go wrong, and what to type; one finding for each."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.engine.finding import Finding
from core.engine.trial.traces import SEED, Written
from core.lab.device import threads_words
from core.program.printed_fault import printed_fault
from core.program.printed_metric import Printed
from core.program.program import Program
from core.record import events as e
from core.record.budget import format_seconds
from core.record.metric import format_metric
from core.stats.silence import seed_way
from core.text import one_line, plural

NEAR_BUDGET = 0.8  # of the budget; a run on a busier machine may exceed it
SLOW_CHECKOUT = 20.0  # seconds
NEAR_MEMORY = 0.8  # of the memory limit
PLACES = {
    "worktree": "the worktree", "run folder": "$AUTORESEARCH_RUN_DIR", "home": "the run's own HOME",
    "tmp": "the run's own /tmp",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a trial's run gave. `threads`: its OMP_NUM_THREADS; `cut_after`: seconds after which it was to be ended,
    where the budget was not to be used up; `second`: the same code with another seed; `dirty`: uncommitted files.
    """

    program: Program
    kind: str
    tier: str
    slots: tuple[str, ...]
    cores: int
    finished: e.RunFinished
    printed: Printed | None
    lines: tuple[str, ...] = ()
    threads: str = ""
    memory_limit: int | None = None
    written: tuple[Written, ...] = ()
    seed_places: tuple[str, ...] = ()
    dirty: tuple[str, ...] = ()
    cut_after: float | None = None
    second: e.RunFinished | None = None
    stopped: str = ""
    imports: str = ""  # what is installed, and yet imported from the worktree
    files: int = 0  # of the worktree
    checkout_seconds: float | None = None  # None: it could not be checked out
    phases: tuple[tuple[str, float], ...] = ()  # of the run: (phase as the log has it, when it began in Unix seconds)
    overlaps: bool = False  # whether the next run of a slot starts while this one is scored
    notes: tuple[str, ...] = ()  # lines of its output that begin with `note:`

    @property
    def cut(self) -> bool:
        """Whether the run was ended before its budget, as asked."""
        finished, budget = self.finished, self.program.run_budget(self.kind).seconds
        early = self.cut_after is not None and (budget is None or self.cut_after < budget)
        return early and finished.exit_code is None and finished.ended in ("overtime", "done")

    @property
    def at_limit(self) -> bool:
        """Whether the run was ended at its budget."""
        return not self.cut and self.finished.exit_code is None and self.finished.ended in ("overtime", "done")

    @property
    def counts(self) -> float | None:
        """The number that a session would take; of a run that was cut off, the last one printed."""
        if self.cut and self.printed is not None:
            return self.printed.value
        return self.finished.metric

    @property
    def seed_has_effect(self) -> bool | None:
        """Whether two seeds gave two numbers; None when that was not tried."""
        if self.second is None or self.second.metric is None or self.finished.metric is None:
            return None
        return self.second.metric != self.finished.metric


def forecast(o: Outcome) -> list[Finding]:
    """The findings, in the order in which a session would meet them."""
    if (tree := worktree(o)).ok is False:
        return [tree]
    looks = (_run, _metric, _budget, _seed, _imports, _files, _threads, _memory, _changes)
    return [tree, *(finding for look in looks if (finding := look(o)) is not None)]


def without_place(reason: str) -> str:
    """A reason without the place in the trial's folder, which is gone."""
    return re.sub(r"^[^\n]*?/sessions/\.try-\w+\S*: ", "", reason)


def worktree(o: Outcome) -> Finding:
    """The checkout that every run begins with."""
    if o.checkout_seconds is None:
        reason, _, hint = o.finished.reason.partition("\n  hint: ")
        return Finding("worktree", False, without_place(reason), hint)
    detail = f"{plural(o.files, 'file')} checked out in {format_seconds(o.checkout_seconds)}"
    if o.checkout_seconds < SLOW_CHECKOUT:
        return Finding("worktree", True, detail)
    return Finding("worktree", None, f"{detail}, before every run", "keep in HEAD what a run needs: fewer files")


def how_it_ended(o: Outcome) -> Finding:
    """The end of the run itself, without its number."""
    finished = o.finished
    if o.stopped:
        return Finding("run", False, o.stopped)
    if o.cut:
        said = f"it was still running after its first {o.cut_after:g} s, as asked"
        fault = printed_fault("\n".join(o.lines))
        if fault.told and fault.text == one_line(o.lines[-1], len(fault.text)):  # it was about to end
            return Finding("run", None, f"{said}, but the last line tells a fault: {fault.text}", "try it for longer")
        return Finding("run", True, said)
    if o.at_limit:
        return Finding("run", True, "it ran until its budget was over")
    if finished.ended in ("done", "rejected") or (finished.exit_code == 0 and o.printed is not None):
        return Finding("run", True, "it ended by itself, with exit code 0")
    reason, _, hint = finished.reason.partition("\n  hint: ")
    return Finding("run", False, reason or finished.ended, hint)


def _run(o: Outcome) -> Finding:
    found = how_it_ended(o)
    if found.ok is False and not found.hint and not o.stopped:
        return replace(found, hint="correct the code, or `run` in program.md; the last lines above may say more")
    return found


def _metric(o: Outcome) -> Finding | None:
    """Whether a number comes out, from the pattern or from the scorer."""
    name, finished, printed = o.program.metric.name, o.finished, o.printed
    if o.program.score is not None:
        return _scored(o)
    if printed is None:
        return None
    if o.counts is not None:
        times = f"the pattern matched {plural(printed.matches, 'time')}, last: {printed.text}"
        return Finding("metric", True, f"{name} {format_metric(o.counts)} ({times})")
    if printed.value is not None and not math.isfinite(printed.value):
        return Finding("metric", False, f"{name} is {printed.text}: not a finite number", "make the run converge")
    if printed.value is not None and o.at_limit:
        return _unscored_at_limit(o, printed)
    if printed.value is not None:
        detail = f"it printed {name} {printed.text}, which does not count as the run failed"
        return Finding("metric", False, detail, "let it end with exit code 0")
    if o.cut:
        detail = f"{name} was not seen in the first {o.cut_after:g} s: {printed.reason}"
        return Finding("metric", None, detail, "try it without --seconds")
    if finished.ended != "done" and not o.at_limit and finished.exit_code != 0 and printed.matches == 0:
        return None  # the crash is the cause, and is told already
    said, _, way = printed.reason.partition("; write ")
    return Finding("metric", False, said, f"write {way}" if way else "correct `pattern` below [metric]")


def _unscored_at_limit(o: Outcome, printed: Printed) -> Finding:
    """A run that prints its number until it is ended: the line that makes it count."""
    budget = o.program.run_budget(o.kind)
    detail = f"the pattern matched {plural(printed.matches, 'time')}, last: {printed.text}; "
    if budget.seconds is None:
        detail += f"none counts: the run was ended at its limit of {format_seconds(o.program.limit_seconds)}"
        return Finding("metric", False, detail, "raise `limit` below [budget], or lower the steps")
    detail += f"none counts: the run was ended at its budget of {budget}"
    hint = 'write below [budget]: at_limit = "score" (the last number printed counts); or raise `run` there'
    return Finding("metric", False, detail, hint)


def works(o: Outcome, findings: Sequence[Finding]) -> bool:
    """Whether a session can be expected to reach a verdict: a number was seen, and nothing speaks against it."""
    return o.counts is not None and all(finding.ok is not False for finding in findings)


def at_limit_line(o: Outcome) -> str:
    """The line of [budget] with which the run's last number would count; "" where it would not help."""
    found = o.printed is not None and o.printed.value is not None and math.isfinite(o.printed.value)
    helps = found and o.at_limit and o.counts is None and o.program.run_budget(o.kind).seconds is not None
    return 'at_limit = "score"' if helps else ""


def _scored(o: Outcome) -> Finding | None:
    name, finished = o.program.metric.name, o.finished
    if finished.metric is not None:
        return Finding("score", True, f"the scorer's answer: {name} {format_metric(finished.metric)}")
    if finished.ended == "rejected":
        return Finding(
            "score", False, f"the scorer rejects the unchanged code: {finished.reason}", "correct the scorer"
        )
    if o.cut:
        return Finding("score", None, "not scored: the run was ended early", "try it without --seconds")
    return None  # the run's own finding says why


def _budget(o: Outcome) -> Finding | None:
    """How much of the budget was used."""
    finished, budget = o.finished, o.program.run_budget(o.kind)
    if o.cut or (finished.ended in ("crashed", "startup_timeout", "abandoned") and finished.metric is None):
        return None
    if budget.seconds is None:
        return Finding("budget", True, f"{format_seconds(finished.seconds)} for {budget}")
    used = finished.seconds / budget.seconds
    if o.at_limit:
        scored = o.program.scored_at_limit or o.program.score is not None
        what = f"all of {budget} was used" + (': at_limit = "score" takes the last number printed' if scored else "")
        return Finding("budget", True if finished.metric is not None else None, what)
    detail = f"{format_seconds(finished.seconds)} of {budget} ({used:.0%}); it ended by itself"
    if used > NEAR_BUDGET and not o.program.score:
        hint = 'raise `run` below [budget], or write there at_limit = "score"'
        return Finding("budget", None, f"{detail}, and a busier machine may need more", hint)
    return Finding("budget", True, detail)


def _seed(o: Outcome) -> Finding | None:
    """What is known of the seed, and how."""
    places, run, effect = o.seed_places, o.program.run, o.seed_has_effect
    if o.second is not None and o.second.metric is None:
        reason, _, hint = o.second.reason.partition("\n  hint: ")
        detail = f"a second run, with another seed, gave no number that counts: {reason or o.second.ended}"
        return Finding("seed", False, detail, hint or "correct the code: a session runs it with many seeds")
    if o.program.timed and not places and SEED not in run:
        return None  # a time varies by itself
    in_command = SEED in run
    named = ["the run command"] * in_command + list(places)
    said = f"{SEED} is named in {', '.join(named)}" if named else f"no file of HEAD and no command names {SEED}"
    if effect is False:
        detail = f"two seeds, one number: seeds have no effect, so luck cannot be told from a gain ({said})"
        return Finding("seed", None, detail, _seed_hint(run, bool(named)))
    if effect:
        return Finding("seed", True, f"two runs with different seeds gave different numbers ({said})")
    if named:
        return Finding("seed", True, f"{said}; whether it has an effect was not tried (--full runs a second seed)")
    if o.finished.metric is None and o.counts is None:
        return None
    return Finding("seed", None, f"{said}; whether numbers vary was not tried (--full runs a second seed)",
                   _seed_hint(run, False))  # fmt: skip


def _seed_hint(run: str, named: bool) -> str:
    if named:
        return "let the code use it for all its random numbers; a metric without any randomness may stay as it is"
    return f"{seed_way(run)}; a metric without any randomness may stay as it is"


def _imports(o: Outcome) -> Finding | None:
    """A start is refused where edits would have no effect, so what is told here is in order."""
    return Finding("imports", True, o.imports) if o.imports else None


def _files(o: Outcome) -> Finding | None:
    if not o.written:
        return None
    said = [f"{', '.join(one.names)} in {PLACES.get(one.place, one.place)}" for one in o.written]
    lost = [one for one in o.written if one.place != "run folder"]
    detail = "written: " + "; ".join(said)
    if not lost:
        return Finding("files", True, detail)
    return Finding("files", True, f"{detail}; only $AUTORESEARCH_RUN_DIR is kept after a run")


def _threads(o: Outcome) -> Finding | None:
    if not o.threads.isdecimal():
        return None
    words, hint = threads_words(o.slots, int(o.threads))
    return Finding("threads", None, words, hint) if words else None


def _memory(o: Outcome) -> Finding | None:
    peak, limit = o.finished.peak_memory, o.memory_limit
    if not peak:
        return None
    detail = f"{peak / 2**20:.0f} MB at most" + (f" of {limit / 2**30:.1f} GB" if limit else "")
    if limit and peak > NEAR_MEMORY * limit:
        return Finding("memory", None, detail, "use fewer slots (--slots), or raise memory_gb below [sandbox]")
    return Finding("memory", True, detail)


def _changes(o: Outcome) -> Finding | None:
    if not o.dirty:
        return None
    more = " …" if len(o.dirty) > 5 else ""
    detail = f"HEAD was tried, without the uncommitted changes in {', '.join(o.dirty[:5])}{more}"
    return Finding("changes", None, detail, "commit them, or start with --from-head")
