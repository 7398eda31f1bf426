"""Reasoning pane: the researcher's stream, experiment after experiment."""

from __future__ import annotations

import contextlib
import json

from core.client import FileTail
from core.record.metric import format_delta
from core.record.state import BASELINE, Experiment
from core.views import in_short
from tui.paint.cells import Part, brief, flat
from tui.session_view import SessionView
from tui.widgets.tail import Tail

MAX_LOOK_BACK = 500  # experiments of which the newest with a stream is looked for
FOLDS = (frozenset[str](), frozenset({"tool"}), frozenset({"tool", "thinking"}))
FOLD_WORDS = ("everything", "one line for each group of tools", "text only, thinking and tools folded")
_ROLES = {"thinking": "thinking", "text": "text", "tool": "tool", "note": "warn"}


class ReasoningPane(Tail):
    NUMBER = 1
    NAME = "reasoning"

    def __init__(self, view: SessionView, *, id: str | None = None, experiment: int | None = None) -> None:
        super().__init__(view, id=id)
        self.fixed = experiment
        self.experiment: int | None = None
        self._file: FileTail | None = None
        self._kind = ""
        self._open = False
        self._has_idea = self._has_verdict = False  # among the entries

    def poll(self) -> None:
        """Read the new part of the stream, and change to another experiment when it is wanted."""
        wanted = self._wanted()
        if wanted != self.experiment and wanted is not None:
            self._read_stream()
            self._add_results()
            self._change_to(wanted)
        self._read_stream()
        self._add_results()

    def next_thought(self) -> None:
        """Show the next of several thoughts; after one that is over, the oldest."""
        thoughts, shown = self.view.thoughts, self.view.thinking
        if self.view.selected is None and len(thoughts) > 1 and shown in thoughts:
            self.view.thought = thoughts[(thoughts.index(shown) + 1) % len(thoughts)]

    def next_fold(self) -> str:
        """Fold the next of FOLDS; its name."""
        at = (FOLDS.index(self.folded) + 1) % len(FOLDS) if self.folded in FOLDS else 0
        self.set_folded(FOLDS[at])
        return FOLD_WORDS[at]

    def _add_results(self) -> None:
        """Add the hypothesis and the expected effect of a proposal, and the verdict with its reason."""
        x = self.view.experiment(self.experiment)
        if x is None or self.fixed is not None:
            return
        if x.hypothesis and not self._has_idea:
            self._has_idea = True
            if len(self._entries) > 1:
                self.add("")
            self.add(brief(x.hypothesis), "bright", self.look.glyph("think") + " ")
            if x.expected is not None:
                self.add(self._expected(x), "accent")
            self._open = False
        if x.verdict and not self._has_verdict and (x.reason or x.hypothesis):
            self._has_verdict = True
            words = f"{x.verdict}: {in_short(x.reason)}" if x.reason else x.verdict
            self.add(brief(words), "dim", self.look.glyph(x.verdict) + " ")
            self._open = False

    def _expected(self, x: Experiment) -> str:
        """The expected effect, in the metric's unit and in sigma."""
        metric, sigma = self.view.state.metric, self.view.state.sigma
        assert x.expected is not None
        words = f"expects {format_delta(x.expected)} {brief(metric.name, 40)}"
        return words + (f" ({abs(x.expected) / sigma:.1f}σ)" if sigma else "")

    def _wanted(self) -> int | None:
        if self.fixed is not None:
            return self.fixed
        if self.view.selected is not None:
            return self.view.selected
        newest = self.view.newest
        if self.view.connection.status == "dead":
            return self.view.once("last_reasoned", self._last_reasoned) or (newest.number if newest else None)
        return self.view.thinking or (newest.number if newest else None)

    def _last_reasoned(self) -> int | None:
        """The newest experiment with a stream: one that was refused at once, or abandoned, may have none."""
        highest = self.view.highest
        for number in range(highest, max(BASELINE, highest - MAX_LOOK_BACK), -1):
            with contextlib.suppress(OSError):
                if self.view.paths.reasoning(number).stat().st_size:
                    return number
        return None

    def _change_to(self, number: int) -> None:
        chosen = number in (self.view.selected, self.view.thought)
        following = self.experiment is not None and number > self.experiment and not chosen
        if not following:
            self.clear()
        elif self._entries:
            self.add("")
        self.experiment = number
        self._file = FileTail(self.view.paths.reasoning(number))
        self._open = self._has_idea = self._has_verdict = False
        if self.fixed is None:
            self.add(f"#{number}", "title_focus", self.look.glyph("think") + " ")

    def _read_stream(self) -> None:
        for line in self._file.lines() if self._file else []:
            self._add_piece(line)

    def _add_piece(self, line: str) -> None:
        try:
            piece = json.loads(line)
            kind, text = str(piece["k"]), str(piece["s"])
        except (ValueError, KeyError, TypeError):
            return
        if kind in ("tool", "note"):
            sign = self.look.glyph("tool" if kind == "tool" else "note") + " "
            self.add(brief(text), _ROLES[kind], sign)
            self._open = False
            return
        if text:
            self._add_fragment(text, kind, _ROLES.get(kind, "text"))

    def _add_fragment(self, text: str, kind: str, role: str) -> None:
        """Append a fragment to the open line of its kind; after a line end no line is open."""
        parts = text.split("\n")
        grows = self._open and self._kind == kind
        self._kind = kind
        for index, part in enumerate(parts):
            if index == 0 and grows:
                if part:
                    self.grow(flat(part))
            elif index == len(parts) - 1 and not part:
                self._open = False
                return
            else:
                self.add(flat(part), role)
        self._open = True

    def heading(self) -> list[Part]:
        dim = self.look["dim"]
        if self.fixed is not None or self.experiment is None:
            return []
        words = f" · #{self.experiment}"
        if self.view.thinking == self.experiment and self.view.connection.status != "dead":
            seconds = self._thinking_seconds()
            shown = [(words + " thinking", self.look["accent"]), (f" {seconds:.0f}s" if seconds >= 1 else "", dim)]
            others = " ".join(f"#{n}" for n in self.view.thoughts if n != self.experiment)
            return [*shown, *([(f" · {others}", dim), (" 1 next", self.look["warn"])] if others else [])]
        if self.view.selected == self.experiment:
            return [(words, dim), (" selected", self.look["warn"]), (" esc deselects", dim)]
        return [(words, dim)]

    def _thinking_seconds(self) -> float:
        """Of the thought that is shown."""
        pulse = self.view.pulse
        if pulse is None:
            return 0.0
        each = dict(zip(pulse.thoughts, pulse.thought_seconds, strict=False))
        return each.get(self.experiment or 0, pulse.thinking_seconds)

    def aside(self) -> list[Part]:
        of_another = self.experiment in self.view.thoughts[1:]
        waiting = self.view.pulse.waiting if self.view.pulse and not of_another else ""
        if waiting and self.fixed is None:
            return [(brief(waiting), self.look["warn"])]
        return [("folded", self.look["dim"])] if self.folded else []

    def empty(self) -> str:
        return "no reasoning yet" if self.fixed is None else "this experiment has no reasoning"
