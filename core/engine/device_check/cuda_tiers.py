"""Second step of a device check: a start of CUDA in each sandbox tier that works here, as a run and for scoring"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from core import invocation
from core.engine.finding import Finding
from core.lab.sandbox import tiers
from core.lab.sandbox.card_start import CudaStart

ROLES = {False: "as a run", True: "for scoring"}
NAMES: dict[tiers.Tier, str] = {"A": "tier A", "B": "tier B", "C": "no sandbox"}


def start_everywhere(slot: str, tell: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """The driver's answer of each start as plain JSON, and a finding for each. Takes seconds; see `start_cuda`.

    The first is outside the sandbox: where CUDA does not start there, no tier is to blame.
    """
    report = tiers.probe()
    answers, findings, plain = [], [], True
    for tier, ok, why in sorted(report.tiers, key=lambda one: one[0] != "C"):
        if not ok and tier not in report.without_cuda:
            findings.append(Finding(f"CUDA, {NAMES[tier]}", None, f"not tried: {why}"))
            continue
        for scoring in (False, True) if tier != "C" else (False,):
            tell(f"{NAMES[tier]}, {ROLES[scoring]}" if tier != "C" else NAMES[tier])
            start = tiers.start_cuda(tier, slot, scoring=scoring)
            answers.append({"tier": tier, "as": "scoring" if scoring else "run", "ok": start.ok, **asdict(start)})
            findings.append(_finding(tier, scoring, start, used=report.tier in (tier, "C"), plain=plain))
            plain = start.ok if tier == "C" else plain
    return answers, findings


def _finding(tier: tiers.Tier, scoring: bool, start: CudaStart, *, used: bool, plain: bool) -> Finding:
    name = f"CUDA, {NAMES[tier]}"
    words = start.sentence() if tier == "C" else f"{ROLES[scoring]}: {start.sentence()}"
    if start.ok:
        return Finding(name, True, f"{words} in {start.seconds:.1f} s")
    if tier == "C":
        return Finding(
            name, False, words, "nvidia-smi   (and dmesg for the driver's own log): the machine itself refuses"
        )
    if not plain:
        return Finding(name, None, f"{words}, as without a sandbox")
    if not used:
        return Finding(name, None, f"{words}; sessions do not use this tier here")
    other = "apt-get install -y bubblewrap   (for tier A)" if tier == "B" else ""
    hint = other or f"{invocation.call('run')} --set sandbox.limits_only=true   (without a sandbox)"
    return Finding(name, False, words, hint)
