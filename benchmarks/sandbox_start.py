"""Time that the sandbox adds to the start of a run, up to the first line of the run's own code.

    python -m benchmarks sandbox_start [ROUNDS]

Each round starts the same run without a sandbox and in each available tier, one after the other, so that other load on
the machine affects all of them; the cost of a tier is the difference within a round. The run is a bare Python that
prints the time, with the files and settings of a real run (readable packages of an interpreter, a hidden file in them).
"Start" is the whole time: shim, sandbox and interpreter.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from core.lab.environment import readable_roots, resolve_command, run_environment
from core.lab.runner import RunSpec, start
from core.lab.sandbox import tiers
from core.lab.sandbox.tiers import SandboxSpec, Tier

ROUNDS = 40
PROGRAM = "import time; print(time.monotonic())"


def spec(base: Path, number: int, tier: Tier) -> RunSpec:
    """The same run in each tier; C is without a sandbox."""
    env = run_environment(base)
    argv = tuple(resolve_command("python -I -S job.py", env, base / "tree"))
    hidden = Path(os.__file__).with_name("this.py")  # one of the interpreter's files, like the text of a corpus package
    spec = SandboxSpec(worktree=base / "tree", readable=readable_roots(env, argv), hidden=(hidden,), tier=tier)
    return RunSpec(
        run=1,
        folder=base / f"run{number}",
        argv=argv,
        cwd=base / "tree",
        env=env,
        sandbox=spec,
        plain=True,
        seconds=30.0,
    )


async def one(base: Path, number: int, tier: Tier) -> float:
    """Seconds until the run's first line."""
    job = spec(base, number, tier)
    begun = time.monotonic()
    result = await (await start(job)).wait()
    if result.ended != "done":
        raise SystemExit(f"the run in tier {tier} ended as {result.ended}: {result.reason}")
    return float(result.log_tail) - begun


async def measure(rounds: int) -> None:
    working: list[Tier] = [tier for tier, ok, _ in tiers.probe().tiers if ok]
    times: dict[Tier, list[float]] = {tier: [] for tier in working}
    with tempfile.TemporaryDirectory(prefix="autoresearch-bench-", dir="/var/tmp") as folder:
        base = Path(folder)
        (base / "tree").mkdir()
        (base / "tree" / "job.py").write_text(PROGRAM)
        for number in range(rounds + 1):
            for place, tier in enumerate(working):
                seconds = await one(base, 3 * number + place, tier)
                if number:  # the first round warms the caches
                    times[tier].append(seconds * 1000)
    load = os.getloadavg()[0]
    print(f"{rounds} rounds, load {load:.1f}, {os.cpu_count()} cores, Linux {os.uname().release}\n")
    print("| ms                   | start, median | start, p90 | the sandbox, median | the sandbox, p90 |")
    print("|----------------------|---------------|------------|------------------|---------------|")
    for tier in reversed(working):
        name = {"A": "A: bubblewrap", "B": "B: Landlock, seccomp", "C": "no sandbox"}[tier]
        more = [with_it - without for with_it, without in zip(times[tier], times["C"], strict=True)]
        of_sandbox = [f"{statistics.median(more):.0f}", f"{_p90(more):.0f}"] if tier != "C" else ["", ""]
        row = [f"{statistics.median(times[tier]):.0f}", f"{_p90(times[tier]):.0f}", *of_sandbox]
        print(f"| {name:<20} | {row[0]:<13} | {row[1]:<10} | {row[2]:<16} | {row[3]:<13} |")
    print("\nTarget: at most 60 ms for the sandbox.")


def _p90(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.9)]


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
