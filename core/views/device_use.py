"""Use of the devices: each slot's time by what it was spent on, and what an hour of it gives and costs"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.record.slot_time import OFF, SPENDING, device_time, split
from core.record.state import State
from core.stats.prune import believed
from core.text import plural

SHOWN = 0.05  # seconds, from which a part is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """`split`: seconds of each slot by what they were spent on (core/record/slot_time.SPENDING). `hours`: of all
    devices together, while engines held the session; `usd`: what they cost, None without a price.
    """

    split: dict[str, dict[str, float]]
    hours: float
    usd: float | None
    experiments_per_hour: float | None
    keeps_per_device_hour: float | None
    stopped: int  # runs stopped early
    saved: float  # seconds of the slots that these stops saved
    audited: int  # hopeless runs that were run to their end, and gave a number
    wrong: int  # of these, how many were not hopeless

    @property
    def saved_share(self) -> float | None:
        """Share of the training time without any stop that the stops saved, 0..1. None before one."""
        whole = self.saved + self.together.get("training", 0.0)
        return self.saved / whole if self.stopped and whole > 0 else None

    @property
    def busy_share(self) -> float | None:
        """Share of the slots' time in which they trained, 0..1, without that of retries. None before there is any."""
        held = sum(held_seconds(spent) for spent in self.split.values())
        return sum(spent["training"] for spent in self.split.values()) / held if held > 0 else None

    @property
    def together(self) -> dict[str, float]:
        """Seconds of all slots by what they were spent on; only what took some."""
        total: dict[str, float] = {}
        for spent in self.split.values():
            for what, seconds in spent.items():
                total[what] = total.get(what, 0.0) + seconds
        return {what: seconds for what, seconds in total.items() if seconds >= SHOWN}

    def words(self) -> str:
        """Shares of the slots' time while engines held the session, the largest first: `training 62%, scoring 21%`."""
        held = {what: seconds for what, seconds in self.together.items() if what != OFF}
        whole = sum(held.values())
        shares = sorted(held.items(), key=lambda item: -item[1])
        return ", ".join(
            f"{SPENDING[what]} {seconds / whole:.0%}" for what, seconds in shares if seconds >= whole / 200
        )

    def rates(self) -> str:
        """What an hour gives: `41.2 experiments an hour, 2.3 keeps a device-hour`; "" before there is time."""
        found = (
            (self.experiments_per_hour, "experiments an hour"),
            (self.keeps_per_device_hour, "keeps a device-hour"),
        )
        return ", ".join(f"{rate:.3g} {words}" for rate, words in found if rate is not None)

    def stops(self) -> str:
        """What early stops save, and how the audits ended: `29% of device time saved …, 0 of 9 audited were wrong`."""
        if not self.stopped and not self.audited:
            return ""
        off = "" if believed(self.audited, self.wrong) else "; off, since its audits were wrong"
        saved = f"{self.saved_share or 0.0:.0%} of device time saved by {plural(self.stopped, 'early stop')}"
        return f"{saved}, {self.wrong} of {self.audited} audited were wrong{off}"

    def price(self) -> str:
        """What the devices cost; "" without a price."""
        return "" if self.usd is None else f"${self.usd:.2f} for {plural_hours(self.hours)} of device time"

    def table(self) -> dict[str, Any]:
        """`device` of `status --json`."""
        share = self.busy_share
        return {
            "busy_share": None if share is None else round(share, 4),
            "split": {
                slot: {what: round(seconds, 3) for what, seconds in spent.items()} for slot, spent in self.split.items()
            },
            "hours": round(self.hours, 4),
            "usd": _rounded(self.usd),
            "experiments_per_hour": _rounded(self.experiments_per_hour),
            "keeps_per_device_hour": _rounded(self.keeps_per_device_hour),
            "saved": {
                "share": _rounded(self.saved_share),
                "seconds": round(self.saved, 3),
                "stopped": self.stopped,
                "audited": self.audited,
                "wrong": self.wrong,
                "believed": believed(self.audited, self.wrong),
            },
        }


def device_use(state: State, now: float) -> DeviceUse:
    """The use up to `now` (Unix seconds)."""
    hours, usd = device_time(state, now)
    held = state.seconds(now) / 3600
    return DeviceUse(
        split=split(state, now),
        hours=hours,
        usd=usd if usd or state.budget.get("device_usd_per_hour") else None,
        experiments_per_hour=state.judged / held if held > 0 else None,
        keeps_per_device_hour=state.verdicts.get("kept", 0) / hours if hours > 0 else None,
        stopped=state.stopped_early,
        saved=state.saved_seconds,
        audited=state.audited,
        wrong=state.audits_wrong,
    )


def held_seconds(spent: dict[str, float]) -> float:
    """Seconds of a slot while engines held the session."""
    return sum(seconds for what, seconds in spent.items() if what != OFF)


def plural_hours(hours: float) -> str:
    return f"{hours:.3g} hour{'' if f'{hours:.3g}' == '1' else 's'}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
