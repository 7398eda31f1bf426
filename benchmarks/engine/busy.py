"""Busy share of the slots of two commits: sessions of the bundled nanotrain by `control`, with 20 s runs.

    python -m benchmarks busy [OLD] [NEW] [--slots cpu:2] [--experiments 30] [--budget 20s]

OLD and NEW are commits (NEW: HEAD). Each is unpacked, and its own product runs a session, one after the other, on a
machine that must be idle but for this. Busy is the share of the slots' time in which a clock ran that counted, by each
product's own account; experiments an hour and what else the time went to are of the same account.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.engine.support import workplace
from benchmarks.nanotrain.before import unpack
from benchmarks.screen.terminal import table

PRODUCT = "import sys; from tui.main import main; sys.exit(main())"


def session(tree: Path, project: Path, slots: str, experiments: int, budget: str) -> dict[str, Any]:
    """`status --json` at the end of a session."""
    env = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", PRODUCT]

    def call(*words: str, cwd: Path = project) -> str:
        return subprocess.run(
            [*command, *words], cwd=cwd, env=env, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    call("init", "--template", "nanotrain", str(project), cwd=tree)
    options = ("--slots", slots, "--experiments", str(experiments), "--run-budget", budget)
    call("run", "--headless", "--session", "busy", "--researcher", "control", *options)
    return dict(json.loads(call("status", "busy", "--json")))


def row(commit: str, found: dict[str, Any]) -> list[str]:
    device, baseline, best = found["device"], found["baseline"], found["best"]["metric"]
    totals: dict[str, float] = {}
    for spent in device["split"].values():
        for what, seconds in spent.items():
            totals[what] = totals.get(what, 0.0) + seconds
    whole = sum(seconds for what, seconds in totals.items() if what != "off") or 1.0
    others = sorted(((s, w) for w, s in totals.items() if w not in ("training", "off")), reverse=True)
    rest = ", ".join(f"{what} {100 * seconds / whole:.0f}" for seconds, what in others if seconds / whole >= 0.005)
    shares = [f"{100 * device['busy_share']:.0f}", f"{device['experiments_per_hour']:.0f}"]
    noise = [f"{baseline['metric']:.4f}", f"{baseline['sigma']:.4f}"]
    return [commit, *shares, *noise, f"{best:.4f}" if best is not None else "", rest]


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks busy")
    parser.add_argument("commits", nargs="*", default=["HEAD"])
    parser.add_argument("--slots", default="cpu:2")
    parser.add_argument("--experiments", type=int, default=30)
    parser.add_argument("--budget", default="20s")
    given = parser.parse_args(words)
    rows = []
    with workplace() as folder:
        for number, commit in enumerate(given.commits):
            tree = unpack(commit, folder / f"tree{number}")
            found = session(tree, folder / f"project{number}", given.slots, given.experiments, given.budget)
            rows.append(row(commit, found))
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(["commit", "busy %", "an hour", "baseline", "sigma", "best", "the rest, %"], rows))


if __name__ == "__main__":
    main(sys.argv[1:])
