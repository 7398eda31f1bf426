"""Command line of the benchmarks in docs/benchmarks.md.

    python -m benchmarks                 # the list
    python -m benchmarks NAME [ARGS]     # one of them, with its own arguments
    python -m benchmarks all             # all, one after the other

Each prints a small table and leaves no process running. Run them from the top folder of the repository.
"""

from __future__ import annotations

import ast
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

# name -> (module, description)
BENCHMARKS: dict[str, tuple[str, str]] = {
    "status": ("engine.status", "time of `status` and other read-only commands, and of their imports"),
    "open": ("engine.open", "opening a session of 10,000 experiments"),
    "memory": ("engine.memory", "the engine's memory at rest, and its growth over 1,000 experiments (minutes)"),
    "growth": ("engine.growth", "cost of each step at experiment 10,000 beside that at 100 (minutes)"),
    "idle": ("engine.idle", "processor time of the idle engine and app"),
    "clocks": ("engine.clocks", "steps that a run on its clock loses to a busy check beside it (two minutes)"),
    "load": ("engine.load", "nanotrain's noise beside busy neighbours, on either clock (ten minutes)"),
    "busy": (
        "engine.busy",
        "busy share of the slots, and experiments an hour, of commits of the product (half an hour)",
    ),
    "gap": ("engine.gap", "seconds between one run's end and the next run's clock (minutes)"),
    "sequential": (
        "engine.sequential",
        "a plain loop and the engine on simulated cards, all times a fifteenth (twenty minutes; EXPERIMENTS)",
    ),
    "scorer": (
        "nanotrain.scorer_cost",
        "processor time and memory of scoring at the size of a GPU, on the CPU (minutes)",
    ),
    "scoring": ("nanotrain.scoring", "processor time of scoring on the CPU, processes started or forked (minutes)"),
    "sandbox_start": ("sandbox_start", "time that each sandbox tier adds to the start of a run"),
    "signals": ("signals.measure", "bits a second by which two sandboxes can signal, by way, tier and role (minutes)"),
    "start": ("screen.start", "first paint of the app, opening a long session, cost at rest"),
    "stream": ("screen.stream", "bytes a second and key-to-paint while streaming at 160x48"),
    "prompt": ("prompt_size", "tokens of a researcher's prompt, and the time to build it"),
    "keys": ("screen.random_keys", "random keys, clicks and resizes on a live session (ten minutes; MINUTES SEED)"),
    "soak": ("soak", "500 experiments with a model server that fails one time in five (minutes)"),
    "day": (
        "day.killed_session",
        "a day in an hour: one-second runs while engine, app, runs, scorers are killed (an hour; EXPERIMENTS)",
    ),
    "prepare": ("nanotrain.prepare_text", "tokenizing a large corpus by threads and by processes (minutes; MB)"),
    "prune": ("early_stops", "early stops of recorded sessions: what they save and lose (SESSION…)"),
    "simulated": (
        "stop_simulation",
        "early stops on simulated sessions with known effects (minutes; SESSIONS EXPERIMENTS)",
    ),
    "decide": ("decide_simulation", "the decision rule and simpler ones, on simulated sessions"),
    "adversary": ("adversary_simulation", "the decision rule against one who owns a candidate in ten (minutes)"),
    "timed": ("timed_metric", "false keeps where the metric is a time, compared with earlier runs or in turn"),
    "planted": ("planted", "planted improvements and non-improvements that are kept, on nanotrain (fifteen minutes)"),
    "gpu": ("gpu.bare_machine", "everything that a card can tell, as one file (nine minutes; --slots cpu:1 rehearses)"),
    "nanotrain": ("nanotrain.vs_karpathy", "nanotrain's and karpathy's settings at equal time (minutes)"),
    "before": (
        "nanotrain.before",
        "nanotrain of two commits side by side: step, share of peak, val_bpb (five minutes)",
    ),
    "differences": ("nanotrain.differences", "settings of nanotrain on a GPU, each alone, on a small model (minutes)"),
}

WITHOUT_CARD = {"gpu": ["--slots", "cpu:1"]}  # arguments in `all`, which needs no card
NEED_INPUT = ("prune",)  # not in `all`


def usage() -> str:
    width = max(map(len, BENCHMARKS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (_, what) in BENCHMARKS.items()]
    return "usage: python -m benchmarks NAME [ARGS]\n\n" + "\n".join(lines) + f"\n  {'all'.ljust(width)}  all of them"


def run(name: str, words: list[str]) -> None:
    """Run one benchmark as a script with the arguments `words`, or show what it says of itself."""
    module, what = BENCHMARKS[name]
    spec = importlib.util.find_spec(f"benchmarks.{module}")
    source = Path(spec.origin or "").read_text() if spec else ""
    if {"-h", "--help"} & set(words) and "argparse" not in source:  # few have options of their own
        print(ast.get_docstring(ast.parse(source)))
        return
    print(f"\n{name}: {what}\n", flush=True)
    sys.argv = [f"benchmarks {name}", *words]
    runpy.run_module(f"benchmarks.{module}", run_name="__main__")


def main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = words
    if name == "all":  # a process for each: it may end with an exit code, and changes settings of its process
        commands = [
            [sys.executable, "-m", "benchmarks", known, *WITHOUT_CARD.get(known, [])]
            for known in BENCHMARKS
            if known not in NEED_INPUT
        ]
        return int(any([subprocess.run(command).returncode for command in commands]))
    if name not in BENCHMARKS:
        print(f"unknown benchmark {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    run(name, rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
