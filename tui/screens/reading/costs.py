"""Time of the slots and money, by what they were spent on, verdict, kind of run, researcher and kept change"""

from __future__ import annotations

from typing import ClassVar

from core import views
from core.record.budget import format_seconds
from core.record.slot_time import OFF, SPENDING
from core.views import Costs, Share
from tui.paint.canvas import Pane
from tui.paint.cells import Part, brief, left, right
from tui.paint.split_bar import sign_of, split_bar
from tui.screens.reading.reader import ReadingScreen
from tui.widgets.page import Lines, Page


class CostsScreen(ReadingScreen):
    PLACE: ClassVar[str] = "costs"

    def make_panes(self) -> list[Pane]:
        view = self.view
        return [Page(view, "time and money", self._lines, of=lambda: (view.state.seq, int(view.now)))]

    def _lines(self, width: int) -> Lines:
        found = views.costs(self.view.state, self.view.now)
        look = self.view.look
        out: Lines = [*self._total(found), []]
        for title, lines in (
            ("Slots", self._slots(found, width)),
            ("By verdict", self._shares(found.verdicts, found.all.seconds, width)),
            ("By researcher", self._shares(found.researchers, found.all.seconds, width)),
            ("By kind of run", self._kinds(found)),
            ("Per kept change", self._per_kept(found)),
        ):
            out += [[(title, look["title_focus"])], *lines, []]
        return out

    # -- parts --------------------------------------------------------------------------------------------------

    def _total(self, found: Costs) -> Lines:
        """Use of the whole session against its budget."""
        look, budget = self.view.look, self.view.state.budget
        judged = found.all.count - found.verdicts.get("under way", Share()).count
        spent: list[tuple[str, str, float, float | int | None]] = [
            ("time", format_seconds(found.seconds), found.seconds / 3600, budget.get("hours")),
            ("experiments", f"{judged:,}", judged, budget.get("experiments")),
            ("dollars", self._usd(self.view.usd, found.usd_unknown), self.view.usd, budget.get("usd")),
        ]
        out: Lines = []
        for name, told, used, limit in spent:
            parts: list[Part] = [(left(f"  {name}", 16), look["dim"]), (right(told, 12), look["bright"])]
            if limit:
                unit = {"time": f"{limit:g} h", "experiments": f"{limit:,.0f}", "dollars": f"${limit:g}"}[name]
                share = used / limit
                parts += [("   ", look["text"]), *look.bar(share, 20), (f"  {share:4.0%} of {unit}", look["text"])]
            else:
                parts.append(("   no limit", look["faint"]))
            out.append(parts)
        tokens = found.all
        words = f"{tokens.input_tokens:,} in ({tokens.cached_tokens:,} cached), {tokens.output_tokens:,} out"
        out.append([(left("  tokens", 16), look["dim"]), (words if tokens.input_tokens else "none", look["text"])])
        thinking = f"{format_seconds(tokens.thinking)} by the researchers, mostly during runs"
        out.append([(left("  thinking", 16), look["dim"]), (thinking, look["text"])])
        return out

    def _slots(self, found: Costs, width: int) -> Lines:
        """A bar for each slot, and below them how its parts add up to its time."""
        look, use = self.view.look, found.use
        if not use.split:
            return [[("  the engine has not run yet", look["dim"])]]
        out: Lines = []
        for name, spent in use.split.items():
            held = views.held_seconds(spent)
            runs = found.runs.get(name, 0)
            told = f" {format_seconds(held):>7}{spent['training'] / held if held else 0:5.0%} training  {runs:,} runs"
            bar = split_bar(spent, max(8, min(60, width - 12 - len(told) - 1)), look)
            out.append([(left(f"  {brief(name)}", 12), look["title"]), *bar, (told, look["dim"])])
        names = list(use.split)[: max(0, (width - 44) // 15)] if len(use.split) > 1 else []
        heads = "".join(right(brief(head), 15) for head in ("together", *names))
        out += [[], [(" " * 29 + heads, look["dim"])]]
        columns = [use.together, *(use.split[name] for name in names)]
        wholes = [views.held_seconds(column) or 1.0 for column in columns]
        for what, words in SPENDING.items():
            if what not in use.together:
                continue
            sign, style = sign_of(what, look) if what != OFF else (" ", look["dim"])
            parts: list[Part] = [(f"  {sign} ", style), (left(words, 25), look["text"])]
            for column, whole in zip(columns, wholes, strict=True):
                seconds = column.get(what, 0.0)
                share = "" if what == OFF else f" {seconds / whole:4.0%}"
                parts.append((right(format_seconds(seconds) + share if seconds else "", 15), look["text"]))
            out.append(parts)
        rates = filter(None, (use.rates(), use.price(), use.stops()))
        return [*out, *([(f"  {words}", look["text"])] for words in rates)]

    def _shares(self, shares: dict[str, Share], whole: float, width: int) -> Lines:
        look = self.view.look
        if not shares:
            return [[("  no experiment yet", look["dim"])]]
        names = max(14, min(36, width - 70))
        heads = f"{'experiments':>12}{'kept':>7}{'running':>10}{'thinking':>10}{'tokens':>12}{'dollars':>10}"
        out: Lines = [[(" " * names + heads, look["dim"])]]
        for name, share in shares.items():
            tokens = share.input_tokens + share.output_tokens
            style = look.verdict(name) if name in views.SIGNS else look["text"]
            parts: list[Part] = [
                (left(f"  {brief(name)}", names), style),
                (right(f"{share.count:,}", 12), look["text"]),
                (right(f"{share.kept:,}" if share.kept else "", 7), look["good"]),
                (right(format_seconds(share.seconds), 10), look["text"]),
                (right(format_seconds(share.thinking), 10), look["dim"]),
                (right(f"{tokens:,}" if tokens else "", 12), look["dim"]),
                (right(f"${share.usd:.2f}" if share.usd else "", 10), look["text"]),
            ]
            if width >= 112 and whole:
                parts += [("   ", look["text"]), *look.bar(share.seconds / whole, 12)]
            out.append(parts)
        return out

    def _kinds(self, found: Costs) -> Lines:
        look = self.view.look
        whole = sum(kind.seconds for kind in found.kinds.values()) or 1.0
        return [
            [
                (left(f"  {name}", 14), look["text"]),
                (right(f"{kind.count:,} run{'s' * (kind.count != 1)}", 12), look["text"]),
                (right(format_seconds(kind.seconds), 12), look["text"]),
                (right(f"{kind.seconds / whole:.0%}", 7) + "   ", look["dim"]),
                *look.bar(kind.seconds / whole, 20),
            ]
            for name, kind in found.kinds.items()
        ] or [[("  no run yet", look["dim"])]]

    def _per_kept(self, found: Costs) -> Lines:
        look = self.view.look
        if not found.all.kept:
            return [[("  no experiment is kept yet", look["dim"])]]
        told = [
            ("experiments", f"{found.per_kept(lambda s: s.count) or 0:.1f}"),
            ("running", format_seconds(found.per_kept(lambda s: s.seconds) or 0.0)),
            ("thinking", format_seconds(found.per_kept(lambda s: s.thinking) or 0.0)),
            ("tokens", f"{found.per_kept(lambda s: s.input_tokens + s.output_tokens) or 0:,.0f}"),
            ("dollars", self._usd(found.per_kept(lambda s: s.usd) or 0.0, found.usd_unknown)),
        ]
        state = self.view.state
        if state.best_metric is not None and state.baseline is not None:
            gain = state.metric.gain(state.baseline.metric, state.best_metric)
            told.append(("gain", f"{gain / found.all.kept:.4f}"))
        return [[(left(f"  {name}", 16), look["dim"]), (right(text, 12), look["text"])] for name, text in told]

    def _usd(self, usd: float, unknown: bool) -> str:
        return "unknown" if unknown and not usd else f"${usd:.2f}{' or more' if unknown else ''}"
