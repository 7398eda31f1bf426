"""Lines around the panes: status, the most important message, tabs, footer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from core.record.budget import format_seconds
from core.record.metric import format_delta, format_metric
from core.record.state import who
from core.views import baseline_failed, in_short, plural
from tui.paint.canvas import Canvas
from tui.paint.cells import Part, brief, cut_parts, fit, left, parts_width, right, strip_of, width_of, wrap
from tui.session_view import Played, SessionView, name_of

GAP = "  "
MAX_TROUBLE_LINES = 4
_PHASES = ("training", "starting", "saving", "scoring")  # order in which the status line prefers live runs


class StatusLine(Canvas):
    """State of the session, most important facts first; a fact that does not fit is left out."""

    DEFAULT_CSS = "StatusLine { height: 1; width: 1fr; }"

    def paint(self, width: int, height: int) -> list[Strip]:
        shown: list[Part] = [(" ", self.look["text"])]
        for group in filter(None, self._groups(width)):
            gap = 0 if len(shown) == 1 else 3 if width >= 130 else 2
            if parts_width(shown) + gap + parts_width(group) + 1 > width:
                continue
            shown += [(" " * gap, self.look["text"]), *group]
        return [strip_of(shown, width, self.look["text"])]

    def _groups(self, width: int) -> list[list[Part]]:
        view, look = self.view, self.look
        return [
            self._session(width), self._state(), self._work(width), self._best(width), self._gain(),
            self._busy(), self._cost(), self._sandbox(), [(format_seconds(view.elapsed), look["dim"])],
        ]  # fmt: skip

    def _session(self, width: int) -> list[Part]:
        project = self.view.state.session.project if self.view.state.session else str(self.view.paths.project)
        name = brief(Path(project).name) or "project"
        both = f"{fit(name, 20)}·" if width >= 110 else ""
        return [(both, self.look["dim"]), (brief(self.view.paths.name), self.look["bright"])]

    def _state(self) -> list[Part]:
        word = self.view.word
        return [(f" {self.look.glyph(word)} {word.upper()} ", self.look.state(word) + Style(reverse=True, bold=True))]

    def _work(self, width: int) -> list[Part]:
        """The live run first in _PHASES, with its progress and time; without one, what the session does."""
        look, state = self.look, self.view.state
        runs = state.live_runs()
        if not runs:
            if state.approvals and self.view.live:  # the session waits
                words = f" #{state.approvals[0]} needs approval · a "
                return [(words, look["warn"] + Style(reverse=True, bold=True))]
            thinking = self.view.thinking
            if thinking is not None and self.view.live:
                return [(f"#{thinking} ", look["accent"]), ("thinking", look["text"])]
            if state.preparing:
                return [(fit(brief(state.preparing), 30), look["text"])]
            return []
        run = min(runs, key=lambda r: (_PHASES.index(r.phase) if r.phase in _PHASES else len(_PHASES), r.run))
        what = name_of(run.experiment)
        if self.view.connection.status == "dead":
            return [(what + " ", look["accent"]), ("interrupted", look["warn"])]
        if run.phase not in ("training", "starting"):  # its clock has stopped: there is no progress to show
            return [(what + " ", look["accent"]), (run.phase or "", look["text"])]
        share = self.view.progress(run)
        cells = 16 if width >= 150 else 10 if width >= 100 else 6
        percent = "   " if share is None else f"{share:3.0%}"
        return [
            (what + " ", look["accent"]),
            *([(left(run.phase or "", 9), look["text"])] if width >= 100 else []),
            *look.bar(share, cells),
            (right(percent, 5), look["text"]),
            (right(format_seconds(self.view.seconds_of(run)), 6), look["dim"]),
        ]

    def _best(self, width: int) -> list[Part]:
        state, look = self.view.state, self.look
        if state.best_metric is None:
            return []
        name = f"{fit(brief(state.metric.name), 12)} " if width >= 130 else "best "
        return [(name, look["dim"]), (format_metric(state.best_metric), look["bright"])]

    def _gain(self) -> list[Part]:
        state, look = self.view.state, self.look
        if state.best_metric is None or state.baseline is None:
            return []
        base = state.baseline.metric
        delta = state.best_metric - base
        if delta == 0:
            return [("baseline", look["violet"])]
        better = state.metric.better(state.best_metric, base)
        share = f" ({format_percent(delta / abs(base))})" if base else ""
        return [(format_delta(delta) + share, look["good" if better else "bad"])]

    def _busy(self) -> list[Part]:
        share = self.view.use.busy_share
        return [] if share is None else [("busy ", self.look["dim"]), (f"{share:.0%}", self.look["text"])]

    def _cost(self) -> list[Part]:
        usd = self.view.usd
        if not usd and not self.view.state.usd_unknown:
            return []
        return [(f"${usd:.2f}" if usd else "$?", self.look["text"])]

    def _sandbox(self) -> list[Part]:
        engine = self.view.state.engine
        return [("sandbox ", self.look["dim"]), (brief(engine.sandbox), self.look["text"])] if engine else []


def format_percent(share: float) -> str:
    """A signed percentage with a minus sign (U+2212); two decimals below 1%, one below 100%."""
    value = abs(share) * 100
    digits = f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return f"{'−' if share < 0 else '+'}{digits}%"


class NowLine(Canvas):
    """The most important message: trouble, else what waits for the user, else what the session does."""

    DIMS_WHEN_LOST = False
    DEFAULT_CSS = "NowLine { height: 1; width: 1fr; }"

    def urgent(self) -> bool:
        return self._trouble() is not None or self.view.replaying or bool(self.view.state.approvals)

    def paint(self, width: int, height: int) -> list[Strip]:
        played = self.view.source
        if isinstance(played, Played):
            parts = cut_parts([(" ", self.look["text"]), *self._recording(played, width)], width)
            return [strip_of(parts, width, self.look["text"])]
        trouble = self._trouble()
        if trouble:
            text, style = trouble
            lines = wrap(text, max(1, width - 2))
            if len(lines) > height:
                rest = fit(" ".join(lines[height - 1 :]), width - 2, self.look.glyph("ellipsis"))
                lines = [*lines[: height - 1], rest]
            return [strip_of([(" " + line, style)], width, style) for line in lines]
        return [strip_of(cut_parts([(" ", self.look["text"]), *self._calm()], width), width, self.look["text"])]

    def rows_wanted(self, width: int) -> int:
        """Lines that the message takes: a reason that no line holds is shown in a few."""
        trouble = None if isinstance(self.view.source, Played) else self._trouble()
        return min(MAX_TROUBLE_LINES, len(wrap(trouble[0], max(1, width - 2)))) if trouble else 1

    def _recording(self, played: Played, width: int) -> list[Part]:
        """State, speed and position of a recording, and its newest verdict."""
        look = self.look
        share = played.position / played.length if played.length else 1.0
        word = f"playing ×{played.speed:g}" if played.playing else "ended" if share >= 1 else "paused"
        return [
            (f"{look.glyph('think')} recording {word}", look["warn"]),
            (f"   {format_seconds(played.position)} of {format_seconds(played.length)} ", look["text"]),
            *look.bar(share, max(8, min(40, width // 5))),
            ("   ", look["text"]),
            *self._last(),
        ]

    def _trouble(self) -> tuple[str, Style] | None:
        look, link = self.look, self.view.connection
        if link.status == "lost":
            retry = max(0.0, (link.retry_at or 0.0) - self.view.clock())
            age = max(0.0, self.view.clock() - link.since)
            words = f"trying again in {retry:.0f} s" if retry >= 0.5 else "trying again now"
            text = f"{look.glyph('lost')} {brief(link.message)}: {words}   data: {format_seconds(age)} old"
            return text, look["banner_bad"]
        if link.status == "dead":
            state = self.view.state
            reason = f": {brief(in_short(state.reason))}" if state.reason else ""
            word = state.state if state.state == self.view.word else "the engine has ended"
            step = "start a new session" if baseline_failed(state) else "R resumes it"
            return f"{look.glyph('dead')} read only   {word}{reason}   {step}", look["banner_warn"]
        if self.view.pulse and self.view.pulse.trouble:
            return f"{look.glyph('note')} {brief(self.view.pulse.trouble)}", look["banner_warn"]
        return None

    def _calm(self) -> list[Part]:
        look, state, view = self.look, self.view.state, self.view
        if state.approvals:
            numbers = ", ".join(f"#{n}" for n in state.approvals)
            verb = "needs" if len(state.approvals) == 1 else "need"
            return [(f"? {numbers} {verb} approval", look["warn"]), ("   a opens", look["dim"])]
        if view.connection.status == "connecting":
            return [(brief(view.connection.message) or "connecting", look["dim"])]
        if view.pulse and view.pulse.waiting:
            return [(f"{look.glyph('waiting')} {brief(view.pulse.waiting)}", look["warn"])]
        if state.state in ("paused", "stopping"):
            rest = len(state.live_runs())
            words = f"waits for {plural(rest, 'run')} to end" if rest else brief(in_short(state.reason))
            return [(f"{state.state}: no new runs", look["warn"]), (f"   {words}", look["dim"])]
        if state.preparing:
            return [(f"preparing: {brief(state.preparing)}", look["accent"])]
        return [*self._choices(), *(self._guidance() or self._last())]

    def _choices(self) -> list[Part]:
        """Settings and actions of the user that stay in force."""
        state, out = self.view.state, []
        if state.base is not None:
            out.append(f"building on {who(state.base)}, as you chose   ")
        if state.approve:
            out.append("approve mode   ")
        if state.branch_held:
            out.append("branch not moved: it is checked out   ")
        if state.stop_at is not None:
            rest = max(0, state.stop_at - state.judged)
            out.append(f"stops after {rest} more   ")
        return [(text, self.look["warn"]) for text in out]

    def _guidance(self) -> list[Part]:
        look = self.look
        queued = [g for g in self.view.state.in_force() if g.taken_by is None]
        standing = [g for g in self.view.state.in_force() if g.standing and g.taken_by is not None]
        if queued:
            more = f" (+{len(queued) - 1})" if len(queued) > 1 else ""
            return [("guidance for the next proposal ", look["dim"]), (brief(queued[0].text) + more, look["warn"])]
        if standing:
            return [("standing guidance ", look["dim"]), (brief(standing[-1].text), look["text"])]
        return []

    def _last(self) -> list[Part]:
        """The newest verdict in a sentence."""
        look = self.look
        x = self.view.last_judged
        if x is None:
            return []
        word = x.verdict or ""
        return [
            (f"{look.glyph(word)} #{x.number} {word}", look.verdict(word)),
            (f"  {brief(in_short(x.reason))}", look["dim"]),
            (f"   {brief(x.hypothesis)}", look["faint"]),
        ]


class SummaryText(Canvas):
    """The session in a few sentences, for a terminal too small for panes."""

    def paint(self, width: int, height: int) -> list[Strip]:
        state = self.view.state
        words = [f"{brief(self.view.paths.name)} {self.view.word}."]
        if self.view.pulse and self.view.pulse.trouble:
            words.append(f"{brief(self.view.pulse.trouble)}.")
        for run in state.live_runs()[:1]:
            share = self.view.progress(run)
            words.append(f"{name_of(run.experiment)} {run.phase}{'' if share is None else f' {share:.0%}'}.")
        if state.best_metric is not None:
            words.append(f"best {format_metric(state.best_metric)}.")
        if state.approvals:
            words.append("A proposal needs approval.")
        words.append("q detaches.")
        style = self.look["text"]
        return [strip_of([(line, style)], width, style) for line in wrap(" ".join(words), width)]


class TabLine(Canvas):
    """Names of the panes, for a screen that shows one at a time."""

    DEFAULT_CSS = "TabLine { height: 1; width: 1fr; }"

    @dataclass
    class Picked(Message):
        index: int

    def __init__(self, view: SessionView, names: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(view, id=id)
        self.names = list(names)
        self.active = 0

    def paint(self, width: int, height: int) -> list[Strip]:
        look = self.look
        parts: list[Part] = [(" ", look["text"])]
        for index, shown in enumerate(self._shown(width)):
            if index == self.active:
                parts.append((f"[{index + 1} {shown}]", look["title_focus"]))
            else:
                parts += [(f" {index + 1}", look["key"]), (f" {shown} ", look["dim"])]
        return [strip_of(parts, width, look["text"])]

    def _shown(self, width: int) -> list[str]:
        """The names; when they do not fit, all but the active one are shortened."""
        short = sum(len(n) + 5 for n in self.names) > width
        cut = self.look.glyph("ellipsis")
        return [fit(n, 5, cut) if short and i != self.active else n for i, n in enumerate(self.names)]

    def on_click(self, event: events.Click) -> None:
        x, at = event.x, 1
        for index, shown in enumerate(self._shown(self.size.width)):
            at += 4 + len(shown)
            if x < at:
                self.post_message(self.Picked(index))
                return


KeyHint = tuple[str, str, bool, str]  # key, title, whether the action is available, its name


class Footer(Canvas):
    """The keys of the screen, or a message for some seconds. A click on a key runs its action."""

    DIMS_WHEN_LOST = False
    DEFAULT_CSS = "Footer { height: 1; width: 1fr; }"

    @dataclass
    class Picked(Message):
        action: str

    def __init__(self, view: SessionView, hints: Callable[[], Sequence[KeyHint]], *, id: str | None = None) -> None:
        super().__init__(view, id=id)
        self._hints = hints
        self._message: Part | None = None
        self._until = 0.0
        self._ends: list[tuple[int, str]] = []  # the cell after each hint, and its action

    def say(self, text: str, role: str, seconds: float, now: float) -> None:
        self._message = (brief(text), self.look[role])
        self._until = now + seconds
        self.flush()

    def expire(self, now: float) -> bool:
        """Remove a message whose time is over; whether there was one."""
        if self._message and now >= self._until:
            self._message = None
            return True
        return False

    def paint(self, width: int, height: int) -> list[Strip]:
        look = self.look
        if self._message:
            text, style = self._message
            return [strip_of([(" " + fit(text, width - 2), style)], width, look["text"])]
        hints = list(self._hints())
        while len(hints) > 4 and sum(width_of(k) + len(t) + 1 + len(GAP) for k, t, *_ in hints) > width:
            del hints[-4]  # the last three (help, all actions, detach) always stay
        parts: list[Part] = [(" ", look["text"])]
        self._ends, at = [], 1
        for key, title, enabled, action in hints:
            parts.append((key, look["key" if enabled else "faint"]))
            parts.append((f" {title}{GAP}", look["dim" if enabled else "faint"]))
            at += width_of(key) + width_of(title) + 1 + len(GAP)
            self._ends.append((at, action))
        return [strip_of(parts, width, look["text"])]

    def on_click(self, event: events.Click) -> None:
        if self._message:
            self._message = None
            self.flush()
            return
        found = next((action for end, action in self._ends if event.x < end), None)
        if found is not None:
            self.post_message(self.Picked(found))
