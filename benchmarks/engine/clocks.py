"""What a busy neighbour takes from a run on its clock: eight sessions that compute in a check beside it.

    python -m benchmarks clocks [ROUNDS]

Each round has the same run alone, beside the check where nothing protects its clock, and beside the check where the
register of clocks does: with one processor that is nobody's, and with none. What is compared are the steps of one
round, so that other load on the machine affects all of them; the run trains on one thread.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.screen.terminal import table
from core.lab.environment import resolve_command, run_environment
from core.lab.runner import RunResult, RunSpec, start
from tests.lab.conftest import CHANNEL

ROUNDS, SECONDS = 5, 5.0
TRAIN = """
told, _ = ready()
until, steps = time.monotonic() + told["seconds"], 0
while time.monotonic() < until:
    sum(range(100_000))
    steps += 1
done(steps=steps)
"""
BUSY = """
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        while True: pass
time.sleep(600)
"""
CASES = (
    ("alone", False, None),
    ("beside a busy check, nothing protects its clock", True, None),
    ("the same, one processor is nobody's", True, 1.0),
    ("the same, no processor is nobody's", True, 2.0),
)


def job(base: Path, name: str, program: str, processors: float | None, **more: Any) -> RunSpec:
    """One run; `processors` None: it neither tells of its clock nor looks at those of others."""
    tree = base / name
    tree.mkdir()
    (tree / "job.py").write_text(CHANNEL + program)
    env = run_environment(tree)
    own: dict[str, Any] = {"clocks": base / "clocks", "processors": processors} if processors else {}
    return RunSpec(
        run=1, folder=base / f"run-{name}", argv=tuple(resolve_command("python -S job.py", env, tree)), cwd=tree,
        env=env, machine_processors=2, **own, **more,
    )  # fmt: skip


async def measure(busy: bool, processors: float | None) -> RunResult:
    with tempfile.TemporaryDirectory(prefix="autoresearch-clocks-") as folder:
        base = Path(folder)
        (base / "train.bin").write_text("text")
        files = {"train.bin": str(base / "train.bin")}
        check = job(base, "check", BUSY, processors, seconds=600.0, plain=True, beside=True)
        beside = await start(check) if busy else None
        try:
            train = job(base, "train", TRAIN, processors, seconds=SECONDS, train_files=files, cores=1.0)
            return await (await start(train)).wait()
        finally:
            if beside:
                await beside.kill("the round is over")


async def main(rounds: int) -> None:
    found: dict[str, list[RunResult]] = {name: [] for name, _, _ in CASES}
    for _ in range(rounds):
        for name, busy, processors in CASES:
            found[name].append(await measure(busy, processors))
    alone = [result.steps or 1 for result in found["alone"]]
    rows = []
    for name, results in found.items():
        parts = [(result.steps or 0) / steps for result, steps in zip(results, alone, strict=True)]
        shares = [result.share for result in results if result.share is not None]
        rows.append([name, f"{statistics.median(parts):.2f}", f"{min(parts):.2f}", f"{statistics.median(shares):.2f}"])
    print(table(["two processors", "steps of those alone, median", "least", "share of its processor time"], rows))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
