"""The researcher thinking aloud: the stream of the experiment it is at, then of the next one."""

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

LOOK_BACK = 500  # experiments that are asked for a stream
FOLDS = (frozenset[str](), frozenset({"tool"}), frozenset({"tool", "thinking"}))
FOLD_WORDS = (
    "everything that was thought",
    "tools in one line each group",
    "only what was said: thinking and tools folded",
)
_ROLES = {"thinking": "thinking", "text": "text", "tool": "tool", "note": "warn"}


class ReasoningPane(Tail):
    NUMBER = 1
    NAME = "reasoning"

    def __init__(self, model: SessionView, *, id: str | None = None, experiment: int | None = None) -> None:
        super().__init__(model, id=id)
        self.fixed = experiment
        self.experiment: int | None = None
        self._file: FileTail | None = None
        self._kind = ""
        self._open = False
        self._told_idea = self._told_end = False

    def poll(self) -> None:
        """Read what is new in the stream; when another experiment is thought about, turn to that one."""
        wanted = self._wanted()
        if wanted != self.experiment and wanted is not None:
            self._drain()
            self._tell()
            self._turn_to(wanted)
        self._drain()
        self._tell()

    def next_fold(self) -> str:
        """All of it; then tools in one line for each group; then thinking too. What is shown now, in words."""
        at = (FOLDS.index(self.folded) + 1) % len(FOLDS) if self.folded in FOLDS else 0
        self.set_folded(FOLDS[at])
        return FOLD_WORDS[at]

    def _tell(self) -> None:
        """Once it is proposed: the hypothesis and what is expected of it; once it is judged: why."""
        x = self.model.experiment(self.experiment)
        if x is None or self.fixed is not None:
            return
        if x.hypothesis and not self._told_idea:
            self._told_idea = True
            if len(self._entries) > 1:
                self.add("")
            self.add(brief(x.hypothesis), "bright", self.look.glyph("think") + " ")
            if x.expected is not None:
                self.add(self._expected(x), "accent")
            self._open = False
        if x.verdict and not self._told_end and (x.reason or x.hypothesis):
            self._told_end = True
            self.add(
                brief(f"{x.verdict}: {in_short(x.reason)}" if x.reason else x.verdict),
                "dim",
                self.look.glyph(x.verdict) + " ",
            )
            self._open = False

    def _expected(self, x: Experiment) -> str:
        """The effect it expects, in the metric's unit and in the noise's."""
        metric, sigma = self.model.state.metric, self.model.state.sigma
        assert x.expected is not None
        words = f"expects {format_delta(x.expected)} {brief(metric.name, 40)}"
        return words + (f" ({abs(x.expected) / sigma:.1f}σ)" if sigma else "")

    def _wanted(self) -> int | None:
        if self.fixed is not None:
            return self.fixed
        if self.model.selected is not None:
            return self.model.selected
        newest = self.model.newest
        if self.model.connection.status == "dead":
            return self.model.once("last_reasoned", self._last_reasoned) or (newest.number if newest else None)
        return self.model.thinking or (newest.number if newest else None)

    def _last_reasoned(self) -> int | None:
        """The newest experiment that left a stream: of one refused at once, or abandoned, there may be none."""
        highest = self.model.highest
        for number in range(highest, max(BASELINE, highest - LOOK_BACK), -1):
            with contextlib.suppress(OSError):
                if self.model.paths.reasoning(number).stat().st_size:
                    return number
        return None

    def _turn_to(self, number: int) -> None:
        following = self.experiment is not None and number > self.experiment and self.model.selected is None
        if not following:
            self.clear()
        elif self._entries:
            self.add("")
        self.experiment = number
        self._file = FileTail(self.model.paths.reasoning(number))
        self._open = self._told_idea = self._told_end = False
        if self.fixed is None:
            self.add(f"#{number}", "title_focus", self.look.glyph("think") + " ")

    def _drain(self) -> None:
        if self._file is None:
            return
        for line in self._file.lines():
            self._piece(line)

    def _piece(self, line: str) -> None:
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
            self._stream(text, kind, _ROLES.get(kind, "text"))

    def _stream(self, text: str, kind: str, role: str) -> None:
        """A fragment: it goes on in the open line of its kind; one that ends with a line end leaves none open."""
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
        if self.model.thinking == self.experiment and self.model.connection.status != "dead":
            seconds = self.model.pulse.thinking_seconds if self.model.pulse else 0.0
            return [(words + " thinking", self.look["accent"]), (f" {seconds:.0f}s" if seconds >= 1 else "", dim)]
        if self.model.selected == self.experiment:
            return [(words, dim), (" selected", self.look["warn"]), (" esc lets go", dim)]
        return [(words, dim)]

    def aside(self) -> list[Part]:
        waiting = self.model.pulse.waiting if self.model.pulse else ""
        if waiting and self.fixed is None:
            return [(brief(waiting), self.look["warn"])]
        return [("folded", self.look["dim"])] if self.folded else []

    def empty(self) -> str:
        return "nothing has been thought yet" if self.fixed is None else "this experiment left no stream"
