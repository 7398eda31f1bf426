"""Commands that read a session from its log, without an engine: sessions, status, leaderboard, events, show"""

from __future__ import annotations

import contextlib
import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from core import invocation, views
from core.record.budget import format_seconds
from core.record.errors import AutoresearchError, SessionError
from core.record.events import VERDICTS, Event
from core.record.metric import Metric, format_delta, format_metric
from core.record.state import State
from core.session.disk import disk_trouble
from core.session.lock import engine_alive, lock_holder
from core.session.paths import SessionPaths, list_sessions
from core.stats.decide import MAX_HIDDEN_GAP
from core.stats.silence import silence_line
from tui.cli.command import EXPERIMENT, JSON, NAME, PROJECT, argument, command, flag, whole_number
from tui.cli.output import Output
from tui.cli.session_names import project_of, session_of

MAX_OUTPUT_BYTES = 8_000  # read from the end of a failed run's output by `show`
MAX_OUTPUT_LINES = 15  # printed of them


def _read(paths: SessionPaths, *, outline: bool = False) -> tuple[State, bool]:
    """The State, or its outline, and whether an engine runs the session: checked twice, since it may start or end."""
    from core.client import read_outline, read_state

    read = read_outline if outline else read_state
    before = engine_alive(paths)
    state = read(paths)
    alive = engine_alive(paths)
    return (state, alive) if alive == before else (read(paths), alive)


@command(
    "status", NAME, JSON, flag("--follow", "-f", help="continue with one sentence for each change"), PROJECT,
    help="Print the state of a session: best against baseline, counts, runs, cost. Works without an engine.",
    examples=(
        "status", "status --json | jq .best.metric",
        "status --follow     the same, then a plain sentence for each change: for screen readers",
    ),
)  # fmt: skip
def status(arguments: Namespace, out: Output) -> int:
    paths = session_of(arguments)
    newest = list_sessions(paths.project)[0]
    if arguments.name is None and newest != paths:
        shown = invocation.call("status", newest.name, project=paths.project)
        out.say(f"session {newest.name}, begun later, is a failed start; see it with: {shown}")
    if arguments.follow:
        from tui.cli.follow import follow_aloud

        return follow_aloud(paths, out, arguments.json)
    from core.client import used_budgets

    state, alive = _read(paths, outline=True)
    now = time.time()
    table = views.status(state, alive, now, used_budgets(paths, state))
    use = views.device_use(state, now if alive else state.time)
    table["session"] = table["session"] or paths.name
    table["project"] = table["project"] or str(paths.project)
    if alive:  # an engine that has just started is not in the log yet
        table["engine"]["pid"] = lock_holder(paths) or table["engine"]["pid"]
    if arguments.json:
        out.json(table)
        return 0
    lines = _status_lines(state, table, use, out)
    trouble = disk_trouble(paths.folder) if alive else ""
    if trouble:
        lines.insert(1, ("waits", out.paint(f"{trouble}; it continues when there is space", "bad")))
    for label, text in lines:
        out.line(f"  {out.paint(label.ljust(11), 'dim')}  {text}" if label else text)
    return 0


def _status_lines(state: State, s: dict[str, Any], use: views.DeviceUse, out: Output) -> list[tuple[str, str]]:
    word, project, alive, cost = s["state"], Path(s["project"]), s["engine"]["alive"], s["cost"]
    head = f"{out.paint(s['session'], 'bold')}  {out.word(word)}"
    if state.preparing and alive:
        head += f"  preparing {out.paint(views.one_line(state.preparing), 'dim')}"
    reason = state.reason if word == state.state else "its engine ended without a report"
    first, *more = views.without_hint(views.clean(reason))[0].splitlines() or [""]
    lines = [("", head + (f"  {out.paint(views.one_line(first), 'dim')}" if first else ""))]
    lines += [("", out.paint(f"  | {line}", "dim")) for line in more]

    def add(label: str, text: str) -> None:
        lines.append((label, text))

    lines += [*_best_lines(s, state.metric, out), *_doubt(state, s, out)]
    counts = s["experiments"]
    parts = [f"{counts[v]} {v}" for v in VERDICTS if counts[v]]
    add("experiments", f"{counts['total']}" + (f": {', '.join(parts)}" if parts else ""))
    for run in s["running"]:
        who = f"#{run['experiment']}" if run["experiment"] else "baseline"
        share = "" if run["progress"] is None else f" {100 * run['progress']:.0f}%"
        add("running", f"{who} {run['phase']}{share} on {out.paint(run['slot'], 'text')}")
    for number in state.live if alive else ():
        x = state.experiments[number]
        if x.phase in ("thinking", "waiting"):
            why = f": waits, {views.one_line(x.reason)}" if x.phase == "waiting" and x.reason else ""
            add("thinking", f"#{number}{out.paint(why, 'warn')}")
    if state.ready:
        add("queue", f"{', '.join(f'#{n}' for n in state.ready)} {'waits' if len(state.ready) == 1 else 'wait'}")
    if state.approvals:
        waiting = ", ".join(f"#{n}" for n in state.approvals)
        add("waits", f"for approval: {waiting} ({invocation.call('approve', 'N')})")
    if state.base not in (None, state.best):
        back = invocation.call("fork", "best", "--session", s["session"], project=project)
        add("builds on", f"#{state.base}, not on the best ({back})")
    for slot, trouble in state.aside.items():
        add("slot", f"{out.paint(slot, 'text')} set aside: {out.paint(views.one_line(trouble), 'warn')}")
    if state.branch_held:
        add("branch", out.paint(views.one_line(state.branch_held), "warn"))
    if state.pinned:
        add("pinned", ", ".join(f"#{n}" for n in sorted(state.pinned)))
    for g in state.guidance.values():
        if g.taken_by is None or g.standing:
            how = "idea" if g.idea else "standing" if g.taken_by is not None else "queued"
            add("guidance", f"{g.id} {how}: {out.paint(views.one_line(g.text, 160), 'text')}")
    who = f"{s['researcher'] or '–'}{' (' + s['model'] + ')' if s['model'] else ''}"
    usd = "" if cost["usd"] is None else f"   ${cost['usd']:.2f}"
    if cost["usd_per_kept"]:
        usd += f" (${cost['usd_per_kept']:.2f} for each kept)"
    if state.usd_unknown:
        usd += "   price unknown" if cost["usd"] is None else " and what has no known price"
    took = f"{format_seconds(s['seconds'])}{usd}"
    add("researcher", out.paint(f"{who}   sandbox {s['sandbox'] or '–'}", "text"))
    lines += [("runs", out.paint(words, "text")) for words in s["conditions"]]
    add("spent", took)
    for words in filter(None, (use.words(), "   ".join(filter(None, (use.rates(), use.price()))), use.stops())):
        add("device", words)
    add("engine", f"pid {s['engine']['pid']}" if alive else "not running")
    if not alive and word != "finished":
        add("hint", out.paint(views.next_step(state, project, s["session"]), "dim"))
    return lines


def _doubt(state: State, s: dict[str, Any], out: Output) -> list[tuple[str, str]]:
    """A word on a best whose gain was implausible: while no noise is known, a repeat is no proof."""
    leader = state.experiments.get(state.best)
    if leader is None or "implausible" not in leader.reason:
        return []
    show = invocation.call("show", str(state.best), s["session"], project=Path(s["project"]))
    words = f"a repeat gave this implausible gain again: read the change that makes it, with: {show}"
    return [("", out.paint(f"  {words}", "warn"))]


def _best_lines(s: dict[str, Any], metric: Metric, out: Output) -> list[tuple[str, str]]:
    """The best against the baseline, and the trust in it; empty before there is a baseline."""
    best, baseline = s["best"], s["baseline"]
    if best["metric"] is None or baseline["metric"] is None:
        return []
    own = ", self-reported" if metric.self_reported else ""
    name = out.paint(f"{metric.name} {metric.arrow}{own}", "dim")
    change = best["metric"] - baseline["metric"]
    share = f" ({100 * change / abs(baseline['metric']):+.1f}%)" if baseline["metric"] else ""
    text = f"{format_metric(best['metric'])}  {format_delta(change)}{share.replace('-', '−')} from the baseline"
    text += f"  #{best['experiment']}"
    sigma = f"±{format_metric(baseline['sigma']) if baseline['sigma'] else '?'} ({views.plural(baseline['n'], 'run')})"
    lines = [
        ("best", f"{text}  {name}" if best["experiment"] else f"the baseline still  {name}"),
        ("baseline", f"{format_metric(baseline['metric'])} {sigma}"),
    ]
    trust = s["trust"]
    if trust["noise"] is not None:
        lines.append(("sigma", views.noise_words(trust["noise"])))
    if trust["noise_unknown"]:
        lines.append(("", out.paint(f"  {trust['noise_unknown']}", "warn")))
    gap, certified = trust["hidden_gap"], trust["certified"]
    if certified or (gap is not None and gap > MAX_HIDDEN_GAP):
        doubt = f"gains {gap:.1f}σ less on the hidden slice" if gap is not None and gap > MAX_HIDDEN_GAP else ""
        lines.append(("trust", "; ".join(filter(None, (certified, out.paint(doubt, "warn") if doubt else "")))))
    return lines


@command("sessions", JSON, PROJECT, help="List this project's sessions, newest first.", examples=("sessions --json",))
def sessions(arguments: Namespace, out: Output) -> int:
    project = project_of(arguments)
    found = [_session_entry(paths) for paths in list_sessions(project)]
    if arguments.json:
        out.json(found)
        return 0
    if not found:
        out.line(f"no session here yet; start one with: {invocation.call('run', project=project)}")
        return 0
    body = []
    for s in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(s["updated"])) if s["updated"] else ""
        numbers = [str(s["experiments"]), str(s["kept"]), format_metric(s["best"])]
        who = out.paint(views.one_line(s["reason"] or s["researcher"] or s["error"] or "", 90), "text")
        word = out.word(s["state"], views.FAILED_START if s["failed_start"] else "")
        body.append([out.paint(s["session"], "bold"), word, *numbers, when, who])
    out.table(["session", "state", "tried", "kept", "best", "last event", "researcher"], body, "llrrrll")
    return 0


def _session_entry(paths: SessionPaths) -> dict[str, Any]:
    error = None
    try:
        state, alive = _read(paths)
    except AutoresearchError as unreadable:
        state, alive, error = State(), engine_alive(paths), unreadable.what
    return {
        "session": paths.name,
        "state": "unreadable" if error else views.session_word(state, alive),
        "alive": alive,
        "failed_start": state.failed_start and not alive,
        "reason": views.why_failed(state) if state.failed_start and not alive else None,
        "experiments": state.tried,
        "kept": state.verdicts.get("kept", 0),
        "best": state.best_metric,
        "researcher": state.engine.researcher if state.engine else None,
        "updated": state.time or None,
        "error": error,
    }


@command(
    "leaderboard", NAME, JSON, PROJECT,
    help="List the experiments, best first: kept, then provisional, then discarded, then those without a result.",
    examples=("leaderboard | head", "leaderboard nov23 --json"),
)  # fmt: skip
def leaderboard(arguments: Namespace, out: Output) -> int:
    state, alive = _read(session_of(arguments))
    if arguments.json:
        out.json(views.leaderboard(state))
        return 0
    found = views.ranked(state)
    if not found:
        out.line("no experiment yet" + ("" if state.baseline else ": the baseline comes first"))
        return 0
    words = [views.phase_word(x, alive) for x in found]
    shown = {word: out.word(word) for word in set(words)}
    body = []
    for x, word in zip(found, words, strict=True):
        sigma = "?" if x.sigma == 0 else format_metric(x.sigma)
        result = [format_metric(x.metric), format_delta(x.delta), sigma]
        rest = [format_seconds(x.run_seconds), views.one_line(x.hypothesis)]
        body.append([str(x.number), shown[word], *result, *rest])
    head = ["#", "verdict", views.one_line(state.metric.name), "change", "sigma", "time", "hypothesis"]
    out.table(head, body, "rlrrrrl")
    if said := silence_line(state):
        out.line(out.paint(said, "warn"))
    return 0


@command(
    "events", NAME, JSON, flag("--follow", "-f", help="wait for new ones while an engine runs"),
    argument("--since", metavar="SEQ", type=whole_number, default=0, help="only those after number SEQ"), PROJECT,
    help="Print the events that concern a person, a sentence each (--json: every event, one a line).",
    examples=("events --follow", "events --json --since 120"),
)  # fmt: skip
def events(arguments: Namespace, out: Output) -> int:
    from core.client import follow, read_events, read_outline

    paths = session_of(arguments)
    metric = read_outline(paths).metric
    found = follow(paths, arguments.since) if arguments.follow else read_events(paths, since=arguments.since)
    for event in found:
        print_event(event, metric, arguments.json, out)
    return 0


def print_event(event: Event, metric: Metric, as_json: bool, out: Output) -> None:
    """One event as a line: its sentence with the time of day, or its JSON."""
    if as_json:
        from core.record.wire import encode_event

        out.write(out.safe_json(encode_event(event)) + "\n")
        out.flush()
        return
    text = views.sentence(event, metric)
    if text is not None:
        clock = time.strftime("%H:%M:%S", time.localtime(event.time))
        out.line(f"{out.paint(clock, 'dim')}  {text}")
        out.flush()


@command(
    "show", JSON, EXPERIMENT, NAME, PROJECT,
    help="Show one experiment in full: hypothesis, reasoning, diff, runs, verdict and its reason.",
    examples=("show 12", "show 12 nov23 --json"),
)  # fmt: skip
def show(arguments: Namespace, out: Output) -> int:
    from core.client import FileTail, read_events
    from core.evidence.signature import marks

    paths = session_of(arguments)
    state, alive = _read(paths)
    number = arguments.experiment
    if number not in state.experiments:
        known = f"there are 1 to {max(state.experiments)}" if state.total else "there is none yet"
        raise SessionError(f"session {paths.name!r} has no experiment {number}", hint=f"{known}; 0 is the baseline")
    found = views.show(state, number, read_events(paths, experiment=number), reasoning(paths, number))
    if arguments.json:
        out.json(found)
        return 0
    told = marks(paths.certificate(number)) if found["certificate"] else ""
    _print_experiment(found, state, out, alive, told)
    failed = [r["run"] for r in found["runs"] if r["ended"] not in (None, "done", "abandoned")]
    if failed and found["metric"] is None:
        text = views.clean(FileTail(paths.run(failed[-1]) / "output.log", MAX_OUTPUT_BYTES).read())
        _print_lines("the end of its output", text.strip().splitlines()[-MAX_OUTPUT_LINES:], out)
    return 0


def reasoning(paths: SessionPaths, number: int) -> str:
    """The researcher's recorded text for an experiment, or "". Each kind begins a new line."""
    pieces: list[str] = []
    kind = ""
    with contextlib.suppress(OSError), paths.reasoning(number).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, AttributeError, TypeError):  # a line that was cut off
                piece = json.loads(line)
                if piece["k"] in ("thinking", "text", "note"):
                    if pieces and (piece["k"] != kind or kind == "note") and not pieces[-1].endswith("\n"):
                        pieces.append("\n")
                    pieces.append(str(piece["s"]))
                kind = piece["k"]  # of a tool call too: text after it begins a new line
    return "".join(pieces)


def _print_experiment(x: dict[str, Any], state: State, out: Output, alive: bool, certificate: str) -> None:
    verdict = views.phase_word(state.experiments[x["experiment"]], alive)
    if not x["experiment"] and views.baseline_failed(state):
        verdict = "crashed"
    name = f"#{x['experiment']}" if x["experiment"] else "baseline"
    delta = f"  {format_delta(x['delta'])}" if x["experiment"] else ""
    metric = f"{out.paint(state.metric.name, 'text')} {format_metric(x['metric'])}{delta}"
    out.line(f"{out.paint(name, 'bold')}  {out.word(verdict)}  {metric}")
    parent = f"#{x['parent']}" if x["parent"] else "baseline"
    for label, text in (
        ("hypothesis", x["hypothesis"]),
        ("reason", x["reason"]),
        ("researcher", x["researcher"]),
        ("commit", x["commit"] or "–"),
        ("parent", parent if x["experiment"] else ""),
        *views.trust_lines(x),
        ("", certificate),
    ):
        if text:
            more = views.clean(text).strip().splitlines()[1:] if label == "reason" else []
            first = text.strip().partition("\n")[0] if more else text
            out.line(f"  {out.paint(label.ljust(10), 'dim')}  {views.one_line(first)}")
            for line in more:
                out.line(f"  {' ' * 10}  {line}")
    if x["runs"]:
        out.line()
        body = [
            [r["kind"], views.run_word(run, alive), format_metric(r["metric"]), format_seconds(r["seconds"]),
             str(r["steps"] if r["steps"] is not None else "–"), str(r["seed"])]
            for r, run in zip(x["runs"], state.experiments[x["experiment"]].runs, strict=True)
        ]  # fmt: skip
        out.table(["run", "ended", views.one_line(state.metric.name), "time", "steps", "seed"], body, "llrrrr")
    _print_lines("reasoning", x["reasoning"].splitlines(), out)
    if x["diff"]:
        out.line()
        out.diff(x["diff"])


def _print_lines(title: str, lines: list[str], out: Output) -> None:
    if lines:
        out.line()
        out.line(out.paint(title, "dim"))
        for line in lines:
            out.line(f"  {line}")
