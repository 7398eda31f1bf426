"""One row per slot: what it runs, how far it is, its loss; and the device's readings below."""

from __future__ import annotations

from textual.strip import Strip

from core.record.budget import format_seconds
from core.record.pulse import DeviceReading
from core.record.state import Run
from tui.braille import curve
from tui.text import Part, bar, brief, left, right, strip_of
from tui.widgets.canvas import Pane
from tui.widgets.curves import Curves

GIB = 2**30


class SlotsPane(Pane):
    NUMBER = 5
    NAME = "slots"
    curves: Curves

    def rows_wanted(self) -> int:
        """Lines of content: one per slot and per device, and one for the queue."""
        engine = self.model.state.engine
        devices = self.model.pulse.devices if self.model.pulse else ()
        return (len(engine.slots) if engine else 1) + max(1, len(devices)) + 1

    def heading(self) -> list[Part]:
        engine = self.model.state.engine
        if engine is None:
            return []
        return [(f" · {brief(engine.device)}", self.look["dim"])] if engine.device else []

    def aside(self) -> list[Part]:
        share = self.model.busy_share
        return [("busy ", self.look["dim"]), (f"{share:.0%}", self.look["text"])] if share is not None else []

    def body(self, width: int, height: int) -> list[Strip]:
        look, state = self.look, self.model.state
        if state.engine is None:
            return [strip_of([("  no engine has run yet", look["dim"])], width, look["text"])]
        runs = {r.slot: r for r in state.live_runs()}
        lines = [self._slot(name, runs.get(name), width) for name in state.engine.slots[: max(1, height - 2)]]
        devices = self.model.pulse.devices if self.model.pulse else ()
        for device in devices[: max(1, height - len(lines))]:
            lines.append(self._device(device, width))
        if not devices and height > len(lines):
            words = "no readings: no engine runs" if not self.model.live else "waiting for readings"
            lines.append(strip_of([(words, look["faint"])], width, look["text"]))
        if height > len(lines):
            lines.append(strip_of(self._queue(), width, look["text"]))
        return lines

    def _slot(self, name: str, run: Run | None, width: int) -> Strip:
        look = self.look
        label: Part = (left(brief(name), 6), look["title"])
        if run is None:
            word = "idle" if self.model.live else "–"
            return strip_of([label, (word, look["faint"])], width, look["text"])
        what = "baseline" if run.experiment == 0 else f"#{run.experiment}"
        phase = run.phase or ""
        share = self.model.progress(run)
        # what (9) phase (9) bar percent (4) time (6) curve loss (7)
        wide = width >= 70
        curve_cells = 10 if wide else 0
        room = width - 6 - 10 - 9 - 5 - 7 - (curve_cells + 9 if wide else 0)
        full, rest = bar(share, max(4, min(24, room)), look.glyph("bar_full"), look.glyph("bar_half"),
                         look.glyph("bar_rest"))  # fmt: skip
        percent = "" if share is None else f"{share:.0%}"
        since = run.clock_started if run.phase == "training" and run.clock_started else run.started
        parts: list[Part] = [
            label,
            (left(what, 9) + " ", look["accent"]),
            (left(phase, 9), look["text"]),
            (full, look["bar"]),
            (rest, look["bar_rest"]),
            (right(percent, 5), look["text"]),
            (right(format_seconds(self.model.now - since), 7), look["dim"]),
        ]
        return strip_of(parts + (self._loss(run, curve_cells) if wide else []), width, look["text"])

    def _loss(self, run: Run, cells: int) -> list[Part]:
        points = self.curves.of(run.run)
        if len(points) < 2:
            return []
        values = [v for _, v in points]
        low, high = min(values), max(values)
        dots = curve(points, cells, 1, low, high, points[0][0], points[-1][0])
        text = "".join(dots.text(x, 0) for x in range(cells))
        return [("  " + text, self.look["curve"]), (f"{values[-1]:7.3f}", self.look["text"])]

    def _device(self, device: DeviceReading, width: int) -> Strip:
        look = self.look
        parts: list[Part] = [(left(brief(device.name), 6), look["title"])]
        if device.utilisation is not None:
            full, rest = bar(device.utilisation, 8, look.glyph("block"), look.glyph("block"), look.glyph("block_rest"))
            parts += [(full, look["bar"]), (rest, look["bar_rest"])]
            parts.append((right(f"{device.utilisation:.0%}", 5), look["text"]))
        if device.memory_used is not None:
            total = f"/{device.memory_total / GIB:.0f}" if device.memory_total else ""
            used = device.memory_used / GIB
            parts += [
                ("   mem ", look["dim"]),
                (f"{used:.1f}{total} GiB" if used < 10 else f"{used:.0f}{total} GiB", look["text"]),
            ]
        if device.power is not None:
            parts.append((f"   {device.power:.0f} W", look["text"]))
        if device.temperature is not None:
            hot = look["warn"] if device.temperature >= 85 else look["text"]
            parts.append((f"   {device.temperature:.0f} °C", hot))
        if device.throttle:
            parts.append((f"   {look.glyph('note')} {brief(device.throttle)}", look["warn"]))
        parts.append(("   " + brief(device.label), look["faint"]))
        return strip_of(parts, width, look["text"])

    def _queue(self) -> list[Part]:
        """Experiments on their way, not on a slot: thinking, checking, queued, or to be repeated."""
        look, state = self.look, self.model.state
        waiting = [state.experiments[n] for n in state.live if not state.experiments[n].live_run and n != 0]
        if not waiting:
            return []
        parts: list[Part] = [(left("next", 6), look["title"])]
        for x in waiting:
            parts += [
                (f"#{x.number} ", look["accent"]),
                (f"{x.verdict}, to be repeated   " if x.verdict else f"{x.phase}   ", look["dim"]),
            ]
        return parts
