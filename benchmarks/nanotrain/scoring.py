"""Processor seconds of scoring nanotrain's model on the CPU: its processes started, or forked from the template.

    python -m benchmarks scoring [--times 5] [--tiers A,B]

One run of the unchanged code is scored again and again, as in a session, in turn in both ways. Counted is all that
works for it: scorer, keeper, sandbox, models, template, the restored worktree, by the kernel in a control group of its
own, in which the benchmark runs. The first scoring with a template starts it; it is in a line of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from core.lab.container import own_group
from core.lab.sandbox.delegation import delegation
from core.lab.sandbox.tiers import TIERS, probe
from core.lab.shim.group.cgroup import ControlGroup
from tests.redteam.__main__ import REFERENCE
from tests.redteam.arena import Arena, Outcome

Taken = tuple[float, float]  # processor seconds, seconds by the clock


async def measure(arena: Arena, trained: Outcome, *, forked: bool) -> Taken:
    """Score the run once."""
    group = own_group()
    assert group is not None
    arena.forked = forked
    before, begun = ControlGroup(str(group)).cpu_seconds() or 0.0, time.monotonic()
    outcome = await arena.meet(replace(REFERENCE, slices=("val",)), weights_of=trained)
    if outcome.metrics != {"val": trained.metrics["val"]}:
        raise SystemExit(f"scored differently: {outcome.metrics} {outcome.reason}, not {trained.metrics}")
    return (ControlGroup(str(group)).cpu_seconds() or 0.0) - before, time.monotonic() - begun


def line(tier: str, what: str, taken: list[Taken]) -> None:
    seconds = sorted(one for one, _ in taken)
    wall = statistics.median(clock for _, clock in taken)
    print(f"| {tier} | {what} | {len(taken)} | {statistics.median(seconds):.2f} | {seconds[0]:.2f} | {seconds[-1]:.2f} "
          f"| {wall:.2f} |", flush=True)  # fmt: skip


async def compare(tiers: list[str], times: int) -> None:
    print("| tier | processes of the model | scorings | CPU s, median | best | worst | seconds |")
    print("|---|---|---|---|---|---|---|")
    for tier in [one for one in TIERS if one in tiers]:
        with tempfile.TemporaryDirectory(prefix="autoresearch-bench-", dir="/var/tmp") as folder:
            arena = await Arena(Path(folder), tier, lenders=1).open()
            arena.forked = False
            trained = await arena.meet(replace(REFERENCE, slices=("val",)), keep=True)
            first = [await measure(arena, trained, forked=True)]
            both: tuple[list[Taken], list[Taken]] = ([], [])
            for _ in range(times):
                for way in (False, True):
                    both[way].append(await measure(arena, trained, forked=way))
            await arena.close()
        line(tier, "started", both[False])
        line(tier, "forked, the template's start in it", first)
        line(tier, "forked", both[True])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scoring")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--tiers", default="A,B")
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.counted:
        works = [name for name, ok, _ in probe(cuda=False).tiers if ok]
        asyncio.run(compare([name for name in options.tiers.split(",") if name in works], options.times))
        return
    group = ControlGroup.make(delegation().base)
    if group is None:
        raise SystemExit(f"this needs control groups: {delegation().why}; {delegation().hint}")
    words = [sys.executable, "-m", "benchmarks.nanotrain.scoring", *sys.argv[1:], "--counted"]
    try:
        code = subprocess.run(words, preexec_fn=group.enter).returncode
    finally:
        group.end()
    print(f"load {os.getloadavg()[0]:.1f}")
    sys.exit(code)


if __name__ == "__main__":
    main()
