"""One experiment's page: idea, diff, runs, output and reasoning, with its verdict in words above."""

from __future__ import annotations

import json
from typing import ClassVar

from textual.app import ComposeResult
from textual.strip import Strip

from core.record import events as e
from core.record.budget import format_seconds
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment, Run
from core.views import plural
from tui.model import Model
from tui.screens.base import ActionScreen
from tui.text import Part, brief, flat, left, right, strip_of
from tui.widgets.canvas import Canvas, Pane
from tui.widgets.curves import Curves
from tui.widgets.diff import DiffPane
from tui.widgets.output import OutputPane
from tui.widgets.page import Lines, Page, paragraphs
from tui.widgets.prompt import Prompt
from tui.widgets.reasoning import ReasoningPane
from tui.widgets.status import Footer, NowLine, StatusLine, TabLine

TABS = ("idea", "diff", "runs", "output", "reasoning")


class Head(Canvas):
    """Three lines: number, verdict, result; the hypothesis; the reason of the verdict."""

    DEFAULT_CSS = "Head { height: 3; width: 1fr; }"

    def __init__(self, model: Model, experiment: int) -> None:
        super().__init__(model)
        self.experiment = experiment

    def paint(self, width: int, height: int) -> list[Strip]:
        look = self.look
        x = self.model.experiment(self.experiment)
        if x is None:
            return [strip_of([(f" there is no experiment {self.experiment}", look["warn"])], width, look["text"])]
        text = look["text"]
        title = brief(x.hypothesis) or "not proposed yet"
        reason = brief(x.reason)
        return [
            strip_of(self._result(x), width, text),
            strip_of([(" ", text), (title, look["bright"])], width, text),
            strip_of([(" ", text), (reason, look["dim"])], width, text),
        ]

    def _result(self, x: Experiment) -> list[Part]:
        look, metric = self.look, self.model.state.metric
        word = "baseline" if x.number == BASELINE else x.verdict or x.phase
        run = x.live_run if x.verdict else None
        dim, text = look["dim"], look["text"]
        style = look.verdict(word)
        parts: list[Part] = [(f" #{x.number}  ", look["bright"]), (f"{look.glyph(word)} {word}", style)]
        if run:
            parts.append((f" · {run.kind} {run.phase}", look["accent"]))
        if x.metric is not None:
            parts += [("   " + brief(metric.name) + " ", dim), (format_metric(x.metric), look["bright"])]
            if x.sigma is not None:
                parts.append((f" ± {format_metric(x.sigma)}", dim))
        if x.delta is not None and x.number != BASELINE:
            better = metric.better(x.delta, 0.0)
            parts.append((f"   {format_delta(x.delta)}", look["good" if better else "dim"]))
            parts.append((f" vs {'the baseline' if x.parent == BASELINE else f'#{x.parent}'}", dim))
        if x.commit:
            parts += [("   commit ", dim), (brief(x.commit)[:10], text)]
        if x.usd or x.usd_unknown:
            parts.append((f"   ${x.usd:.3f}" if not x.usd_unknown else "   cost unknown", dim))
        return parts


class DetailScreen(ActionScreen):
    PLACE: ClassVar[str] = "detail"

    def __init__(self, model: Model, experiment: int, tab: int = 0) -> None:
        super().__init__()
        self.model = model
        self.experiment = experiment
        self.tab = tab
        self.curves = Curves(model.paths)
        self.prompt = Prompt(self.written)

    @property
    def page(self) -> int | None:
        return self.experiment

    def compose(self) -> ComposeResult:
        model, number = self.model, self.experiment
        yield StatusLine(model, id="status")
        yield NowLine(model, id="now")
        yield Head(model, number)
        yield TabLine(model, TABS, id="tabs")
        x = model.experiment(number)
        output = OutputPane(model, run=x.runs[-1].run if x and x.runs else -1)
        output.curves = self.curves
        self.panes: list[Pane] = [
            Page(model, "idea", self._idea),
            DiffPane(model, experiment=number),
            Page(model, "runs", self._runs),
            output,
            ReasoningPane(model, experiment=number),
        ]
        self.panes[1].colours = True  # type: ignore[attr-defined]
        for pane in self.panes:
            pane.NUMBER = 0
            yield pane
        yield self.prompt
        yield Footer(model, self.hints, id="footer")

    def on_mount(self) -> None:
        super().on_mount()
        self.show_tab(self.tab)

    def show_tab(self, index: int) -> None:
        self.tab = index
        tabs = self.query_one(TabLine)
        tabs.active = index
        small = self.app.size.height < 30 or self.app.size.width < 100
        for at, pane in enumerate(self.panes):
            pane.display = at == index
            pane.framed = not small
        self.query_one(NowLine).display = self.query_one(NowLine).urgent() and not small
        self.panes[index].poll()
        self.set_focus(self.panes[index])
        self.flush()

    def flush(self) -> None:
        self.cockpit.heard()
        output = self.panes[3]
        assert isinstance(output, OutputPane)
        if (shown := output.shown()) is not None:
            self.curves.poll({shown.run})
        self.panes[self.tab].poll()
        footer = self.query_one(Footer)
        footer.expire(self.cockpit.clock())
        for canvas in self.query(Canvas):
            if canvas.display:
                canvas.flush()

    def flush_streams(self) -> None:
        self.poll_and_flush([self.panes[self.tab]])

    # -- pages --------------------------------------------------------------------------------------------------

    def _idea(self, width: int) -> Lines:
        look = self.model.look
        x = self.model.experiment(self.experiment)
        if x is None:
            return []
        details = self.model.details(x.number)
        out: Lines = []

        def section(title: str, text: str) -> None:
            if text.strip():
                out.extend([[(title, look["title_focus"])], *paragraphs(text, width, look["text"], 2), []])

        section("Hypothesis", x.hypothesis)
        section("Why", details.proposal.rationale if details.proposal else "")
        section("Expected", self._expected(x))
        section("Verdict", self._verdict(x))
        for refusal in details.refusals:
            section(f"Turned down before it ran (try {refusal.attempt})", refusal.reason)
        for check in details.checks:
            if not check.ok:
                section(f"Failed its check {check.name}", check.output)
        out += [[(left(name, 12), look["dim"]), (flat(value), look["text"])] for name, value in self._facts(x)]
        return out

    def _expected(self, x: Experiment) -> str:
        if x.expected is None:
            return ""
        met = ""
        if x.delta is not None:
            met = f"; measured {format_delta(x.delta)}"
        return f"{format_delta(x.expected)} {self.model.state.metric.name}{met}"

    def _verdict(self, x: Experiment) -> str:
        if x.verdict is None:
            return "the unchanged code, which everything is compared with" if x.number == BASELINE else ""
        more = " It is being repeated." if x.number in self.model.state.live else ""
        return (f"{x.verdict}: {x.reason}" if x.reason else x.verdict) + more

    def _facts(self, x: Experiment) -> list[tuple[str, str]]:
        model = f" · {x.model}" if x.model else ""
        parent = "the baseline" if x.parent == BASELINE else f"#{x.parent}"
        facts = [
            ("researcher", x.researcher + model),
            ("kind", x.kind),
            ("parent", f"{parent} at {x.parent_commit[:10]}"),
        ]
        if x.files:
            facts.append(("files", f"{', '.join(x.files)}  +{x.added} −{x.removed}"))
        if x.commit and x.number != BASELINE:
            facts.append(("commit", f"{x.commit[:10]}  kept at refs/autoresearch/{self.model.paths.name}/{x.number}"))
        if x.rebased:
            facts.append(("re-applied", f"{plural(x.rebased, 'time')} on a best that had moved"))
        facts.append(
            ("time", f"thinking {format_seconds(x.thinking_seconds)}, running {format_seconds(x.run_seconds)}")
        )
        if x.input_tokens or x.output_tokens:
            cost = "price unknown" if x.usd_unknown else f"${x.usd:.4f}"
            facts.append(
                ("tokens", f"{x.input_tokens:,} in ({x.cached_tokens:,} cached), {x.output_tokens:,} out · {cost}")
            )
        facts += [(key, brief(json.dumps(value, ensure_ascii=False), 200)) for key, value in x.extra.items()]
        return facts

    def _runs(self, width: int) -> Lines:
        look = self.model.look
        x = self.model.experiment(self.experiment)
        if x is None or not x.runs:
            return [[("  it has not run", look["dim"])]]
        name = right(brief(self.model.state.metric.name), 9)
        heads = (
            f"{'run':>4}  {'kind':<10}{'slot':<7}{'seed':>7}{'clock':>8}{'wall':>8}{'steps':>8}{name}  {'ended':<10}"
        )
        out: Lines = [[(heads, look["dim"])]]
        finished = {f.run: f for f in self.model.details(x.number).finished}
        for run in x.runs:
            out.append(self._run_row(run))
            out += self._run_more(run, finished.get(run.run), width)
        return out

    def _run_row(self, r: Run) -> list[Part]:
        look = self.model.look
        steps = f"{r.steps:,}" if r.steps is not None else "–"
        ended = r.ended or r.phase or ""
        style = look["text"] if r.ended == "done" else look["accent"] if r.phase else look["bad"]
        left_part = f"{r.run:>4}  {r.kind:<10}{left(brief(r.slot), 6)} {r.seed:>7}"
        times = f"{format_seconds(r.seconds):>8}{format_seconds(r.wall_seconds):>8}{steps:>8}"
        return [
            (left_part + times, look["text"]),
            (right(format_metric(r.metric), 9), look["bright"]),
            (f"  {ended.replace('_', ' ')}", style),
        ]

    def _run_more(self, run: Run, finished: e.RunFinished | None, width: int) -> Lines:
        look = self.model.look
        out: Lines = []
        if run.reason:
            out += paragraphs(run.reason, width, look["warn"], 6)
        if finished is None:
            return out
        probes = []
        for name, probe in finished.probes.items():
            ok = probe.get("ok") if isinstance(probe, dict) else None
            probes.append(f"{look.glyph('ok' if ok else 'no')} {name}")
        if probes:
            out.append([(" " * 6 + "probes  " + flat("   ".join(probes)), look["dim"])])
        memory = f"peak memory {run.peak_memory / 2**30:.2f} GiB" if run.peak_memory else ""
        gap = f"device idle before {format_seconds(run.gap)}" if run.gap is not None else ""
        budget = f"budget {run.budget}"
        words = "   ".join(w for w in (budget, memory, gap) if w)
        out.append([(" " * 6 + flat(words), look["faint"])])
        if run.ended not in ("done", None) and finished.log_tail.strip():
            tail = [flat(line, 8) for line in finished.log_tail.rstrip().split("\n")[-12:]]
            out += [[(" " * 6 + "│ ", look["frame"]), (line, look["dim"])] for line in tail]
        return [*out, []]

    # -- actions ------------------------------------------------------------------------------------------------

    def on_tab_line_picked(self, message: TabLine.Picked) -> None:
        self.show_tab(message.index)

    async def act_mark(self) -> None:
        marked = self.model.toggle_mark(self.experiment)
        words = "marked" if marked else "no longer marked"
        self.say(f"#{self.experiment} {words}; {len(self.model.marks)} marked", "accent", 3.0)

    async def act_escape(self) -> None:
        self.dismiss()

    async def act_tab_1(self) -> None:
        self.show_tab(0)

    async def act_tab_2(self) -> None:
        self.show_tab(1)

    async def act_tab_3(self) -> None:
        self.show_tab(2)

    async def act_tab_4(self) -> None:
        self.show_tab(3)

    async def act_tab_5(self) -> None:
        self.show_tab(4)

    async def act_next_pane(self) -> None:
        self.show_tab((self.tab + 1) % len(self.panes))

    async def act_previous_pane(self) -> None:
        self.show_tab((self.tab - 1) % len(self.panes))

    async def act_next(self) -> None:
        self._go(1)

    async def act_previous(self) -> None:
        self._go(-1)

    def _go(self, step: int) -> None:
        numbers = sorted(self.model.state.experiments)
        at = numbers.index(self.experiment) + step if self.experiment in numbers else 0
        if not 0 <= at < len(numbers):
            self.say("there is no experiment beyond this one", "warn", 2.0)
            return
        self.app.switch_screen(DetailScreen(self.model, numbers[at], self.tab))

    async def act_down(self) -> None:
        self.panes[self.tab].move(1)

    async def act_up(self) -> None:
        self.panes[self.tab].move(-1)

    async def act_page_down(self) -> None:
        self.panes[self.tab].page(1)

    async def act_page_up(self) -> None:
        self.panes[self.tab].page(-1)

    async def act_top(self) -> None:
        self.panes[self.tab].home()

    async def act_bottom(self) -> None:
        self.panes[self.tab].end()
