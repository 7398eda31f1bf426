"""Slots pane: a row per slot with its run, progress, loss and the readings of its device."""

from __future__ import annotations

from textual.strip import Strip

from core.record.budget import format_seconds
from core.record.metric import format_delta
from core.record.pulse import POWER_CAP, DeviceReading
from core.record.slot_time import SPENDING, at_present
from core.record.state import BASELINE, Run
from tui.paint.braille import curve
from tui.paint.canvas import Pane
from tui.paint.cells import Part, bar, brief, left, parts_width, right, strip_of
from tui.paint.split_bar import split_bar
from tui.session_view import name_of
from tui.widgets.run.loss_curves import Curves, window
from tui.widgets.run.loss_pane import standing

GIB = 2**30
MIN_SHARED_CELLS = 112  # of a row with a slot and its device
HOT_CELSIUS = 85.0
KIND_WORDS = {"repeat": " again", "certify": " cert.", "reference": " beside", "warmup": " warm-up"}
NAME_CELLS, MAX_NAME_CELLS = 6, 13


class SlotsPane(Pane):
    NUMBER = 5
    NAME = "slots"
    curves: Curves

    def rows_wanted(self, width: int) -> int:
        """Lines of content: the slots, each with its device beside it or below, and the queue."""
        slots, devices = self._slots(), self._readings()
        if width >= MIN_SHARED_CELLS:
            known = {device.name for name in slots if (device := self._device_of(name)) is not None}
            return max(1, len(slots)) + sum(device.name not in known for device in devices) + 1
        return max(1, len(slots)) + max(1, len(devices)) + 1

    def _slots(self) -> tuple[str, ...]:
        """The engine's slots, and removed ones whose run has not ended."""
        engine = self.view.state.engine
        named = engine.slots if engine else ()
        return (*named, *dict.fromkeys(r.slot for r in self.view.state.live_runs() if r.slot not in named))

    @property
    def _name_cells(self) -> int:
        return max(NAME_CELLS, min(MAX_NAME_CELLS, 1 + max(map(len, self._slots()), default=0)))

    def _readings(self) -> tuple[DeviceReading, ...]:
        return self.view.pulse.devices if self.view.pulse else ()

    def _device_of(self, slot: str) -> DeviceReading | None:
        """The device of a slot: gpu0 for `gpu0` and `gpu0.1`, cpu for `cpu1`."""
        devices = {device.name: device for device in self._readings()}
        return devices.get(slot.partition(".")[0]) or devices.get(slot.rstrip("0123456789"))

    def heading(self) -> list[Part]:
        engine = self.view.state.engine
        return [(f" · {brief(engine.device)}", self.look["dim"])] if engine and engine.device else []

    def aside(self) -> list[Part]:
        share, waiting = self.view.use.busy_share, len(self.view.state.ready)
        parts: list[Part] = [("waiting ", self.look["dim"]), (f"{waiting} ", self.look["text"])] if waiting else []
        if share is not None:
            parts += [("busy ", self.look["dim"]), (f"{share:.0%}", self.look["text"])]
        return parts

    def body(self, width: int, height: int) -> list[Strip]:
        look, state = self.look, self.view.state
        if state.engine is None:
            return [strip_of([("  no engine has run yet", look["dim"])], width, look["text"])]
        runs = self._in_slots()
        wide = width >= MIN_SHARED_CELLS
        names, shown = self._slots(), set[str]()  # `shown`: devices
        spent, does = self.view.use.split, {name: what for name, what, _ in at_present(state)}
        room = max(1, height - 1)
        hidden = len(names) - room if len(names) > room else 0
        lines: list[Strip] = []
        for name in names[: room - (hidden > 0)]:
            bar = split_bar(spent.get(name, {}), self._split(width), look)
            parts = self._slot(name, runs.get(name), width, wide, bar, does.get(name, "idle"))
            device = self._device_of(name) if wide else None
            if device is not None and device.name not in shown:
                shown.add(device.name)
                parts += [("  ", look["text"]), *self._reading(device, width - parts_width(parts) - 2)]
            lines.append(strip_of(parts, width, look["text"]))
        if hidden:
            busy = sum(name in runs for name in names[room - 1 :])
            lines.append(strip_of([(f"and {hidden + 1} more slots, {busy} busy", look["dim"])], width, look["text"]))
        lines += self._devices(shown, width, height - len(lines))
        if height > len(lines):
            lines.append(strip_of(self._queue(width), width, look["text"]))
        return lines

    def _devices(self, shown: set[str], width: int, room: int) -> list[Strip]:
        """Rows of the devices that are not in `shown`."""
        look = self.look
        devices = [d for d in self._readings() if d.name not in shown]
        out = []
        for device in devices[: max(0, room)]:
            label: Part = (left(brief(device.name), self._name_cells), look["title"])
            more: Part = ("   " + brief(device.label), look["faint"])
            out.append(strip_of([label, *self._reading(device, width - self._name_cells), more], width, look["text"]))
        if not devices and not shown and room > 1:
            words = "waiting for readings" if self.view.live else "no readings: the engine does not run"
            out.append(strip_of([(words, look["faint"])], width, look["text"]))
        return out

    def _slot(self, name: str, run: Run | None, width: int, wide: bool, split: list[Part], does: str) -> list[Part]:
        """A slot's row. `split`: the bar of its time; `does`: what its time is spent on now."""
        look = self.look
        label = [(left(brief(name), self._name_cells), look["title"]), *split, (" ", look["text"])]
        room = self._cells(width, wide) - self._name_cells - self._split(width) - 1

        def rest(text: str, used: int = 0) -> str:
            return left(text, room - used) if wide else text

        if run is None and (trouble := self.view.state.aside.get(name)):
            return [*label, ("set aside  ", look["warn"]), (rest(brief(trouble), 11), look["dim"])]
        if run is None:
            return [*label, (rest(SPENDING[does] if self.view.live else "–"), look["faint"])]
        what = name_of(run.experiment) + KIND_WORDS.get(run.kind, "")
        if self.view.connection.status == "dead":  # the next engine adopts it, or runs it again
            return [*label, (left(what, 11) + " ", look["accent"]), (rest("interrupted", 12), look["warn"])]
        share = self.view.progress(run)
        percent = "" if share is None else f"{share:.0%}"
        parts: list[Part] = [
            *label,
            (left(what, 11) + " ", look["accent"]),
            (left(f"{look.glyph(run.phase or '')} {run.phase or ''}", 11), look["text"]),
            *look.bar(share, self._bar(width, wide)),
            (right(percent, 5), look["text"]),
            (right(format_seconds(self.view.seconds_of(run)), 7), look["dim"]),
        ]
        if width >= 76:
            parts += self._loss(run, 10, width >= 100)
            short = self._cells(width, wide) - parts_width(parts)
            if wide and short > 0:
                parts.append((" " * short, look["text"]))
        return parts

    def _bar(self, width: int, wide: bool) -> int:
        """Cells of the progress bar: those that the other columns leave."""
        if wide:
            return 20 if width >= 150 else 8
        loss, difference = 19 if width >= 76 else 0, 14 if width >= 100 else 0
        taken = self._name_cells + self._split(width) + 1 + 12 + 11 + 12 + loss + difference
        return max(4, min(24, width - taken))

    def _split(self, width: int) -> int:
        """Cells of the bar of a slot's time."""
        return 16 if width >= 170 else 8 if width >= 60 else 4

    def _cells(self, width: int, wide: bool) -> int:
        return self._name_cells + self._split(width) + 1 + 12 + 11 + self._bar(width, wide) + 12 + 19 + 11

    def _loss(self, run: Run, cells: int, beside: bool) -> list[Part]:
        """The curve so far, the loss, and its difference from the best's at equal time."""
        look, points = self.look, self.curves.of(run.run)
        if len(points) < 2:
            return []
        low, high = window([points])
        dots = curve(points, cells, 1, low, high, points[0][0], points[-1][0])
        text = "".join(dots.text(x, 0) for x in range(cells))
        parts: list[Part] = [("  " + text, look["curve"]), (f"{points[-1][1]:7.3f}", look["text"])]
        found = standing(self.view, self.curves, run) if beside else None
        if found is not None and found.difference is not None:
            good = found.difference < 0
            sign = look.glyph("down" if good else "up")
            parts.append((left(f" {sign} {format_delta(found.difference)}", 11), look["good" if good else "warn"]))
        return parts

    def _reading(self, device: DeviceReading, room: int) -> list[Part]:
        """Utilization, memory, power, temperature, as far as they fit; first the clock when it is throttled."""
        look, rest = self.look, self.view.at_rest  # at rest values are rounded: their noise sends nothing over a link
        tight = room < 50
        gap = 2 if tight else 3
        groups: list[list[Part]] = []
        if device.throttle and device.throttle != POWER_CAP:
            clock = f" {device.clock_mhz:.0f} MHz" if device.clock_mhz else ""
            groups.append([(f"{look.glyph('note')} throttled{clock}: {brief(device.throttle)}", look["warn"])])
        if device.utilisation is not None:
            share = _rough(device.utilisation, 0.1) if rest else device.utilisation
            full, free = bar(share, 7, look.glyph("block"), look.glyph("block"), look.glyph("block_rest"))
            drawn: list[Part] = [] if tight else [(full, look["bar"]), (free, look["bar_rest"]), (" ", look["text"])]
            groups.append([("util ", look["dim"]), *drawn, (f"{share:.0%}", look["text"])])
        if device.memory_used is not None:
            total = f"/{device.memory_total / GIB:.0f}" if device.memory_total else ""
            used = device.memory_used / GIB
            text = f"{used:.1f}{total} GiB" if used < 10 and not rest else f"{used:.0f}{total} GiB"
            groups.append([("" if tight else "mem ", look["dim"]), (text, look["text"])])
        if device.power is not None:
            power = _rough(device.power, 20.0) if rest else device.power
            capped = " (power cap)" if device.throttle == POWER_CAP and not tight else ""
            groups.append([(f"{power:.0f} W{capped}", look["text"])])
        if device.temperature is not None:
            hot = look["warn"] if device.temperature >= HOT_CELSIUS else look["text"]
            temperature = _rough(device.temperature, 5.0) if rest else device.temperature
            groups.append([(f"{temperature:.0f} °C", hot)])
        parts: list[Part] = []
        for group in groups:
            if parts_width(parts) + parts_width(group) + gap <= room:
                parts += [(" " * gap if parts else "", look["text"]), *group]
        return parts

    def _in_slots(self) -> dict[str, Run]:
        """The run that has each slot: not the one that starts up beside it."""
        return {name: run for name, _, run in at_present(self.view.state) if run is not None}

    def _queue(self, width: int) -> list[Part]:
        """Live experiments without a slot: thinking, checking, queued, starting up beside a run, or to be repeated; as
        many as `width` cells show.
        """
        look, state = self.look, self.view.state
        placed = {BASELINE, *(run.experiment for run in self._in_slots().values())}
        waiting = (state.experiments[n] for n in state.live if n not in placed)
        parts: list[Part] = []
        alive, room = self.view.connection.status != "dead", width
        for x in waiting:
            if not parts:
                parts.append((left("next", self._name_cells), look["title"]))
            starts = x.live_run.phase if x.live_run is not None and alive else None
            words = f"{x.verdict}, to be repeated   " if x.verdict else f"{starts or self.view.phase_of(x)}   "
            parts += [(f"#{x.number} ", look["accent"]), (words, look["dim"])]
            room -= len(words) + 2
            if room <= 0:
                break
        return parts


def _rough(value: float, step: float) -> float:
    """The nearest multiple of `step`."""
    return round(value / step) * step
