"""Text of an experiment's page: the idea with its verdict, the facts, and the runs"""

from __future__ import annotations

import json

from core import invocation
from core.evidence.signature import marks
from core.record import events as e
from core.record.budget import format_seconds
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment, Run, who
from core.views import plural
from tui.paint.cells import Part, brief, flat, left, right
from tui.session_view import SessionView
from tui.widgets.page import Lines, paragraphs

TAIL_LINES = 12  # of a failed run's output, beside other runs
LABEL = 12


def result(view: SessionView, x: Experiment) -> list[Part]:
    """Number, verdict, metric, change and commit in one line."""
    look, metric = view.look, view.state.metric
    word = "baseline" if x.number == BASELINE else view.phase_of(x)
    dim, text = look["dim"], look["text"]
    parts: list[Part] = [(f" #{x.number}  ", look["bright"]), (f"{look.glyph(word)} {word}", look.verdict(word))]
    if x.verdict and (run := x.live_run):
        parts.append((f" · {run.kind} {run.phase}", look["accent"]))
    if x.certified:
        parts.append((f" · {look.glyph('certified')} {x.certified}", look["accent"]))
    if x.number == view.state.best and x.metric is not None:
        parts.append((f" · {look.glyph('best')} best", look["good"]))
    if x.metric is not None:
        parts += [("   " + brief(metric.name) + " ", dim), (format_metric(x.metric), look["bright"])]
        if x.sigma is not None:
            parts.append((f" ± {format_metric(x.sigma)}" if x.sigma else " ± ?", dim))
    if x.delta is not None and x.number != BASELINE:
        style = look["good" if metric.better(x.delta, 0.0) else "dim"]
        parts += [(f"   {format_delta(x.delta)}", style), (f" vs {who(x.parent)}", dim)]
    if x.commit:
        parts += [("   commit ", dim), (brief(x.commit)[:10], text)]
    if x.usd or x.usd_unknown:
        parts.append((f"   ${x.usd:.3f}" if not x.usd_unknown else "   cost unknown", dim))
    return parts


def idea(view: SessionView, number: int, width: int) -> Lines:
    """Hypothesis, rationale, expectation, verdict, refusals and repairs, facts, commands."""
    look = view.look
    x = view.experiment(number)
    if x is None:
        return []
    details = view.details(number)
    out: Lines = []

    def section(title: str, text: str) -> None:
        if text.strip():
            out.extend([[(title, look["title_focus"])], *paragraphs(text, width, look["text"], 2), []])

    section("Hypothesis", x.hypothesis)
    section("Rationale", details.proposal.rationale if details.proposal else "")
    section("Expected", expected(view, x))
    section("Verdict", verdict(view, x))
    section("Hidden slice (not part of the verdict)", hidden(view, x))
    section("Certificate", certificate(view, number))
    for refusal in details.refusals:
        section(f"Rejected before it ran (try {refusal.attempt})", refusal.reason)
    for repair in details.repairs:
        section(f"Sent back for repair ({repair.attempt})", repair.reason)
    for check in details.checks:
        if not check.ok:
            section(f"Failed its check {check.name}", check.output)
    out += [[(left(name, LABEL), look["dim"]), (flat(value), look["text"])] for name, value in facts(view, x)]
    if x.commit and number != BASELINE:
        out += [[], [("Commands to look at it and to repeat it", look["title_focus"])]]
        out += [[("  " + line, look["accent"])] for line in commands(view, x)]
    return out


def expected(view: SessionView, x: Experiment) -> str:
    if x.expected is None:
        return ""
    met = "" if x.delta is None else f"; measured {format_delta(x.delta)}"
    sigma = view.state.sigma
    noise = f" ({abs(x.expected) / sigma:.1f}σ)" if sigma else ""
    return f"{format_delta(x.expected)} {view.state.metric.name}{noise}{met}"


def verdict(view: SessionView, x: Experiment) -> str:
    if x.verdict is None:
        return "the unchanged code, to which every result is compared" if x.number == BASELINE else ""
    more = "; it is being repeated" if x.number in view.state.live else ""
    return (f"{x.verdict}: {x.reason}" if x.reason else x.verdict) + more


def hidden(view: SessionView, x: Experiment) -> str:
    """Score on the hidden slice, and the part of the gain that is missing there."""
    if x.hidden is None:
        return ""
    found = view.details(x.number).hidden
    words = f"{view.state.metric.name} {format_metric(x.hidden)}"
    if x.hidden_gap is not None:
        words += f"; its gain is {abs(x.hidden_gap):.1f}σ {'smaller' if x.hidden_gap > 0 else 'larger'} there"
    return f"{words}. {found.warning}" if found and found.warning else words


def certificate(view: SessionView, number: int) -> str:
    found = view.details(number).certified
    if found is None:
        return ""
    words = f"{found.outcome} after {plural(found.runs, 'run')}"
    if found.p is not None and found.z is not None:
        words += f": z {found.z:.2f}, p {found.p:.2g}"
    if found.gain is not None and found.low is not None and found.high is not None:
        words += f", gain {format_metric(found.gain)} ({format_metric(found.low)} to {format_metric(found.high)})"
    return words + (f". {found.reason}" if found.reason else "") + _file(view, number, found.file)


def _file(view: SessionView, number: int, file: str) -> str:
    """Where a certificate is, the head of the log that it names, and who signed it."""
    if not file:
        return ""
    told = marks(view.paths.certificate(number))
    return f"\n{file}" + (f"\n{told}" if told else "")


def facts(view: SessionView, x: Experiment) -> list[tuple[str, str]]:
    """Facts as (name, text): researcher, kind, parent, files, commit, time, tokens."""
    told = [("researcher", x.researcher + (f" · {x.model}" if x.model else "")), ("kind", x.kind)]
    if x.number != BASELINE:
        told.append(("parent", f"{who(x.parent)} at {x.parent_commit[:10]}"))
    if x.files:
        lines = f", {x.lines:+d} lines of code".replace("-", "−") if x.lines else ""
        told.append(("files", f"{', '.join(x.files)}  +{x.added} −{x.removed}{lines}"))
    if x.commit and x.number != BASELINE:
        told.append(("commit", f"{x.commit[:10]}  kept at {ref(view, x.number)}"))
    if x.rebased:
        told.append(("re-applied", f"{plural(x.rebased, 'time')} on a new best"))
    told.append(("time", f"thinking {format_seconds(x.thinking_seconds)}, running {format_seconds(x.run_seconds)}"))
    if x.input_tokens or x.output_tokens:
        cost = "price unknown" if x.usd_unknown else f"${x.usd:.4f}"
        told.append(("tokens", f"{x.input_tokens:,} in ({x.cached_tokens:,} cached), {x.output_tokens:,} out · {cost}"))
    told += [(key, brief(json.dumps(value, ensure_ascii=False), 200)) for key, value in x.extra.items()]
    return told


def ref(view: SessionView, number: int) -> str:
    return f"refs/autoresearch/{view.paths.name}/{number}"


def commands(view: SessionView, x: Experiment) -> list[str]:
    """Commands to check the experiment out, to show its change, and to run it again."""
    return [
        f"git switch --detach {ref(view, x.number)}",
        f"git diff {x.parent_commit[:10]} {ref(view, x.number)}",
        invocation.call("reproduce", str(x.number), "--session", view.paths.name, project=view.paths.project),
    ]


# -- runs ---------------------------------------------------------------------------------------------------


def runs(view: SessionView, number: int, width: int) -> Lines:
    """Each run in a row, with reason, probes, memory and the end of its log below it."""
    look = view.look
    x = view.experiment(number)
    if x is None or not x.runs:
        return [[("  no run yet", look["dim"])]]
    name = right(brief(view.state.metric.name), 9)
    heads = f"{'run':>4}  {'kind':<10}{'slot':<7}{'seed':>8}{'clock':>8}{'wall':>8}{'steps':>8}{name}  {'ended':<10}"
    out: Lines = [[(heads, look["dim"])]]
    finished = {f.run: f for f in view.details(number).finished}
    for run in x.runs:
        out.append(run_row(view, run))
        out += _run_more(view, run, finished.get(run.run), width)
    return out


def run_row(view: SessionView, r: Run) -> list[Part]:
    look = view.look
    steps = f"{r.steps:,}" if r.steps is not None else "–"
    style = look["text"] if r.ended == "done" else look["accent"] if r.phase else look["bad"]
    head = f"{r.run:>4}  {r.kind:<10}{left(brief(r.slot), 6)} {r.seed:>8}"
    times = f"{format_seconds(r.seconds):>8}{format_seconds(r.wall_seconds):>8}{steps:>8}"
    return [
        (head + times, look["text"]),
        (right(format_metric(r.metric), 9), look["bright"]),
        (f"  {view.word_of_run(r)}", style),
    ]


def _run_more(view: SessionView, run: Run, finished: e.RunFinished | None, width: int) -> Lines:
    look = view.look
    out: Lines = []
    if run.reason:
        out += paragraphs(run.reason, width, look["warn"], 6)
    if finished is None:
        return out
    good = {name for name, probe in finished.probes.items() if isinstance(probe, dict) and probe.get("ok")}
    probes = [f"{look.glyph('ok' if name in good else 'no')} {name}" for name in finished.probes]
    if probes:
        out.append([(" " * 6 + "probes  " + flat("   ".join(probes)), look["dim"])])
    memory = f"peak memory {run.peak_memory / 2**30:.2f} GiB" if run.peak_memory else ""
    gap = f"device idle before {format_seconds(run.gap)}" if run.gap is not None else ""
    words = "   ".join(w for w in (f"budget {run.budget}", memory, gap) if w)
    out.append([(" " * 6 + flat(words), look["faint"])])
    if run.ended not in ("done", None) and finished.log_tail.strip():
        out += log_tail(view, finished.log_tail, TAIL_LINES)
    return [*out, []]


def log_tail(view: SessionView, text: str, most: int) -> Lines:
    """The end of a run's output, as it was printed."""
    look = view.look
    lines = [flat(line, 8) for line in text.rstrip().split("\n")[-most:]]
    return [[("      " + look.glyph("v") + " ", look["frame"]), (line, look["dim"])] for line in lines]
