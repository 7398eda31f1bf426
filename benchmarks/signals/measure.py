"""Bits a second that go from one sandbox to another by each way that the kernel offers, by tier and role.

    python -m benchmarks signals [SECONDS] [WAY ...]

Two real sandboxes: a run of the product (shim, filter, supervisor) tells, and another run, or the process that runs a
model for scoring, hears. Each time slot carries one value, drawn at random; of several slot lengths the best counts.
"-" is a call that was refused, 0 that nothing was heard.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.signals.ways import WAYS, Way, as_scored
from core.lab.environment import readable_roots, resolve_command, run_environment
from core.lab.runner import RunSpec, start
from core.lab.sandbox import tiers
from core.lab.sandbox.tiers import SandboxSpec, Tier

SLOTS = (0.05, 0.01, 0.002)  # seconds a value; shorter ones need an idle machine
LEAD_SECONDS = 2.5  # until both run, on a busy machine
_TELL = """
start_telling() if "start_telling" in globals() else None
def act(number):
    tell(VALUES[number])
    time.sleep(max(0, START + (number + 0.9) * SLOT - time.monotonic()))
    free()
"""
_HEAR = """
heard, early = [], getattr(hear, "early", False)
start_hearing() if "start_hearing" in globals() else None
def act(number):
    if not early: time.sleep(max(0, START + (number + 0.6) * SLOT - time.monotonic()))
    heard.append(hear())
"""
_LOOP = """
error = ""
try:
    for number in range(len(VALUES)):
        time.sleep(max(0, START + number * SLOT - time.monotonic()))
        act(number)
except OSError as refused:
    error = str(refused)
import json
print(json.dumps({"heard": globals().get("heard", []), "error": error}), flush=True)
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program has heard in each time slot; `error`: the call that was refused."""

    heard: list[int | None]
    error: str = ""


async def signal(way: Way, tier: Tier, teller: str, listener: str, slot: float, seconds: float) -> float | None:
    """Bits a second by one way, slot by slot; None where a call was refused."""
    draw = random.Random(1)
    values = [draw.randrange(1 << way.bits) for _ in range(max(20, min(600, int(seconds / slot))))]
    with tempfile.TemporaryDirectory(prefix="autoresearch-bench-", dir="/var/tmp") as folder:
        base = Path(folder)
        for name in ("tell", "hear"):
            (base / name).mkdir()
        names = (
            f"START, SLOT, VALUES, TREE = {time.monotonic() + LEAD_SECONDS}, {slot}, {values}, {str(base / 'tell')!r}\n"
        )
        programs = {"tell": names + way.program(_TELL + _LOOP), "hear": names + way.program(_HEAR + _LOOP)}
        roles = {"tell": teller, "hear": listener}
        answers = await asyncio.gather(*(_process(base, name, roles[name], tier, programs[name]) for name in roles))
    if any(answer.error for answer in answers):
        return None
    return information(values, answers[1].heard, way.bits) / slot


async def _process(base: Path, name: str, role: str, tier: Tier, program: str) -> Answer:
    """Run a program in a sandbox."""
    tree = base / name
    (tree / "job.py").write_text(program if role == "run" else as_scored(program))
    env = run_environment(base)
    argv = tuple(resolve_command("python -S job.py", env, tree))
    readable = readable_roots(env, argv)
    if role == "run":
        spec = SandboxSpec(worktree=tree, readable=readable, tier=tier)
        job = RunSpec(run=1, folder=base / f"run-{name}", argv=argv, cwd=tree, env=env, sandbox=spec, plain=True,
                      seconds=60.0)  # fmt: skip
        last = (await (await start(job)).wait()).log_tail.strip().splitlines()[-1:]
    else:
        command = tiers.command(SandboxSpec(worktree=tree, readable=readable, read_only=True, tier=tier), argv)
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=tree, env=env, capture_output=True, text=True, timeout=60
        )
        last = (done.stdout or json.dumps({"error": done.stderr[-200:] or "killed"})).strip().splitlines()[-1:]
    try:
        return Answer(**json.loads(last[0]))
    except (IndexError, ValueError, TypeError):
        return Answer(heard=[], error=f"it said {last}")


def information(told: list[int], heard: list[int | None], bits: int) -> float:
    """Bits that a value carries at least, by the share of those heard wrong (Fano's inequality)."""
    wrong = sum(one != other for one, other in zip(told, heard, strict=True)) / len(told)
    if wrong > 0.9 * (1 - 0.5**bits):
        return 0.0
    doubt = -sum(p * math.log2(p) for p in (wrong, 1 - wrong) if p) + wrong * math.log2(max(1, 2**bits - 1))
    return max(0.0, bits - doubt)


async def best(way: Way, tier: Tier, teller: str, listener: str, seconds: float) -> str:
    """The best rate over the slot lengths, as the table shows it."""
    rates = [await signal(way, tier, teller, listener, SLOTS[0], seconds)]
    if rates[0]:
        rates += [await signal(way, tier, teller, listener, slot, seconds) for slot in SLOTS[1:]]
    known = [rate for rate in rates if rate is not None]
    return f"{max(known):,.0f}" if known else "-"


async def measure(seconds: float, names: list[str]) -> None:
    working: list[Tier] = [tier for tier, ok, _ in tiers.probe().tiers if ok and tier != "C"]
    columns = [(tier, teller, role) for tier in working for teller, role in
               (("run", "run"), ("run", "scoring"), ("scoring", "run"))]  # fmt: skip
    heads = [f"{tier}: {teller} → {role}" for tier, teller, role in columns]
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, Linux {os.uname().release}; bits a second\n")
    print("| way | " + " | ".join(heads) + " |")
    print("|" + "---|" * (len(heads) + 1))
    for way in WAYS:
        if not names or way.name in names:
            cells = [await best(way, tier, teller, role, seconds) for tier, teller, role in columns]
            print(f"| {way.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    asyncio.run(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, sys.argv[2:]))
