"""A session as a self-contained HTML page, without scripts and external files"""

from __future__ import annotations

import time
from html import escape
from typing import Any

from core import views
from core.record.budget import format_seconds
from core.record.events import VERDICTS, Event
from core.record.metric import format_delta, format_metric
from core.record.slot_time import OFF, SPENDING
from core.record.state import BASELINE, State
from core.session.chain import ChainHead
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from tui.cli.export import plot

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --dim: #6b7683; --line: #d5dae0; --paper: #fff; --good: #1b7f6b; --bad: #c8552d }
@media (prefers-color-scheme: dark) { :root { --ink: #d3d7dd; --dim: #8b94a1; --line: #323a45; --paper: #11151a;
  --good: #4fc3a1; --bad: #e8825a } svg { border-radius: 6px } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem } dt { color: var(--dim) } dd { margin: 0 }
svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: normal; color: var(--dim) } th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right } .kept { color: var(--good) } .crashed, .rejected { color: var(--bad) } .dim { color: var(--dim) }
details { margin: .6rem 0 } summary { cursor: pointer }
code { overflow-wrap: anywhere }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); border-radius: 6px; font-size: 13px; line-height: 1.4 }
.add { color: var(--good) } .del { color: var(--bad) }
.slot { display: flex; align-items: center; height: .6rem; margin: .5rem 0 } .slot b { width: 6rem; font-weight: normal }
i { display: inline-block; height: .6rem; background: var(--line) } td i { width: .8rem }
i.training { background: var(--good) } i.scoring { background: #5b8fc7 } i.starting { background: #a58ad0 }
i.researcher { background: #d0a23f } i.person { background: var(--dim) } i.memory { background: #8f6f20 }
i.retries { background: var(--bad) } i.set_aside { background: #8c3b20 }
"""  # noqa: E501


def _h(value: object) -> str:
    """Any text, escaped for HTML and without control characters."""
    return escape(views.clean(str(value)))


def page(paths: SessionPaths, state: State, events: dict[int, list[Event]], head: ChainHead | None = None) -> str:
    alive = engine_alive(paths)
    until = time.time() if alive else state.time
    status, use = views.status(state, alive, until), views.device_use(state, until)
    title = f"{paths.name} · {state.metric.name}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>{_h(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{_h(paths.name)} <span class='dim'>{_h(status['state'])}</span></h1>",
        _summary(status, use, state),
        f"<h2>Progress</h2>{plot.to_svg(plot.shapes(views.chart(state)))}",
        _slots(use),
        _table(state),
        _kept(state, events),
        _program(state),
        f"<p class='dim'>Written by autoresearch-tui on {_when(time.time())}.{_log(paths, head)}</p></body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _log(paths: SessionPaths, head: ChainHead | None) -> str:
    """The head of the log, and the line by which the log can be held against it later."""
    if head is None:
        return ""
    line = f"autoresearch-tui verify {paths.name} --head {head}"
    return f" The session's log had the head {head}. To check it: <code>{_h(line)}</code>"


def _when(moment: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) if moment else "–"


def _summary(s: dict[str, Any], use: views.DeviceUse, state: State) -> str:
    metric, best, baseline, counts = state.metric, s["best"], s["baseline"], s["experiments"]
    own = ", self-reported: no scorer computed it" if metric.self_reported else ""
    better = "lower" if metric.direction == "min" else "higher"
    rows: list[tuple[str, object]] = [("metric", f"{metric.name} ({better} is better{own})")]
    if best["metric"] is not None and baseline["metric"] is not None:
        change = format_delta(best["metric"] - baseline["metric"])
        who = f"experiment {best['experiment']}" if best["experiment"] else "the baseline still"
        rows.append(("best", f"{format_metric(best['metric'])} ({change}), {who}"))
        spread = f"± {format_metric(baseline['sigma']) if baseline['sigma'] else '?'}, n = {baseline['n']}"
        rows.append(("baseline", f"{format_metric(baseline['metric'])} {spread}"))
        if s["trust"]["noise_unknown"]:
            rows.append(("noise", s["trust"]["noise_unknown"]))
    parts = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
    rows += [
        ("experiments", f"{counts['total']}{': ' + parts if parts else ''}"),
        ("researcher", f"{s['researcher'] or '–'}{' · ' + s['model'] if s['model'] else ''}"),
        ("device", (state.engine.device if state.engine else "") or "–"),
        ("run budget", state.session.run_budget if state.session else "–"),
        ("started", _when(s["started"])),
        ("took", format_seconds(s["seconds"])),
        ("model", "cost unknown" if s["cost"]["usd"] is None else f"${s['cost']['usd']:.2f}"),
        *((("device time", use.price()),) if use.usd is not None else ()),
        *((("an hour gives", use.rates()),) if use.rates() else ()),
        *((("early stops", use.stops()),) if use.stops() else ()),
        ("branch", s["branch"] or "–"),
    ]
    return "<dl>" + "".join(f"<dt>{_h(k)}</dt><dd>{_h(v)}</dd>" for k, v in rows) + "</dl>"


def _slots(use: views.DeviceUse) -> str:
    """The time of each slot: a bar, and a table whose columns add up to the slot's time."""
    if not use.together:
        return ""
    bars = [
        f"<p class=slot><b>{_h(name)}</b>"
        + "".join(
            f'<i class="{what}" style="flex:{seconds:.3f}" title="{_h(SPENDING[what])}"></i>'
            for what, seconds in spent.items()
            if what != OFF and seconds >= views.SHOWN
        )
        + "</p>"
        for name, spent in use.split.items()
    ]
    head = "<th>time of the slots" + "".join(f"<th class=n>{_h(name)}" for name in use.split)
    rows = [
        f'<tr><td><i class="{what}"></i> {_h(SPENDING[what])}'
        + "".join(f"<td class=n>{_share(spent, what)}" for spent in use.split.values())
        + "</tr>"
        for what in SPENDING
        if what in use.together
    ]
    return f"<h2>Time</h2>{''.join(bars)}<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _share(spent: dict[str, float], what: str) -> str:
    held = views.held_seconds(spent)
    share = f" · {spent[what] / held:.0%}" if held and what != OFF else ""
    return f"{format_seconds(spent[what])}{share}"


def _table(state: State) -> str:
    name = _h(state.metric.name)
    head = f"<th class=n>#<th>verdict<th class=n>{name}<th class=n>change<th class=n>runs<th>hypothesis"
    rows = [
        f"<tr><td class=n>{r.number}<td class={_h(r.word)}>{_h(r.word)}<td class=n>{format_metric(r.metric)}"
        f"<td class=n>{format_delta(r.delta)}<td class=n>{r.runs}<td>{_h(views.one_line(r.hypothesis))}</tr>"
        for r in views.rows(state)
    ]
    if not rows:
        return ""
    return f"<h2>Experiments</h2><div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _kept(state: State, events: dict[int, list[Event]]) -> str:
    numbers = [n for n, x in sorted(state.experiments.items()) if x.verdict == "kept" and n != BASELINE]
    parts = []
    for number in numbers:
        found = views.show(state, number, events.get(number, []))
        parts.append(
            f"<details open><summary>#{number} {_h(views.one_line(found['hypothesis']))} "
            f"<span class=kept>{format_delta(found['delta'])}</span></summary>"
            f"<p>{_h(found['reasoning'])}</p><p class=dim>{_h(found['reason'])}</p>"
            f"<pre>{_diff(found['diff'])}</pre></details>"
        )
    return f"<h2>Kept experiments</h2>{''.join(parts)}" if parts else ""


def _diff(text: str) -> str:
    lines = []
    for line in text.splitlines():
        name = "add" if line.startswith("+") else "del" if line.startswith("-") else ""
        lines.append(f"<span class={name}>{_h(line)}</span>" if name else _h(line))
    return "\n".join(lines)


def _program(state: State) -> str:
    if state.session is None or not state.session.program:
        return ""
    return f"<h2>program.md</h2><details><summary>as started</summary><pre>{_h(state.session.program)}</pre></details>"
