"""Everything that a card can tell, in one call on a bare machine without network, and as one file.

    python -m benchmarks gpu [--out FILE] [--slots gpu:0|cpu:1] [--limit SECONDS]

The machine needs git, Python from 3.11 on with torch, and some packages that travel as wheels (see docs/benchmarks.md).
The tree is copied. No corpus travels: one is made from the Python files of the machine, so speed and mechanics are
measured, and no quality. The file is written again after every step: a call that is cut off leaves what it measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
NOT_COPIED = (".git", ".venv", "sessions", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")
CORPUS_BYTES = {"cuda": 100e6, "cpu": 4e6}  # the scorer takes the 8192 tokens of a large corpus from 20 MB on
TRAIN_SECONDS = {"cuda": 30, "cpu": 6}
SAMPLE_SECONDS = 0.5
KEPT_CHARACTERS = 12_000  # of the end of each step's output
PROPOSAL: dict[str, Any] = {
    "hypothesis": "a longer warm-down", "expected": -0.001,
    "edits": [
        {"path": "nanotrain/train.py", "search": f"WARMDOWN_{device} = 0.4", "replace": f"WARMDOWN_{device} = 0.5"}
        for device in ("CPU", "CUDA")
    ],
}  # fmt: skip
FACTS = (
    "uname -a; id -u; nproc; free -g; df -h /dev/shm /tmp",
    "nvidia-smi; ls -l /dev/nvidia* /dev/nvidia-caps; grep -i modify /proc/driver/nvidia/params",
    "ldconfig -p | grep libcuda; echo LD_LIBRARY_PATH=$LD_LIBRARY_PATH",
    "for x in git bwrap gcc cc ptxas; do echo $x: $(command -v $x); done",
)


class Results:
    """The one file: facts of the machine, and for each step its exit code, seconds, end of output and device use."""

    def __init__(self, path: Path, limit: float) -> None:
        self.path, self.until = path, time.monotonic() + limit
        self.found: dict[str, Any] = {"date": time.strftime("%Y-%m-%dT%H:%M:%S"), "steps": []}
        self.samples: list[tuple[float, float, float, float]] = []  # Unix seconds, share in use, GB in use, watts

    def step(self, name: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path, most: float) -> str:
        """Run a command for at most `most` seconds, or what is left; keep how it went. Returns its output."""
        begun, clock = time.monotonic(), time.time()
        seconds = max(5.0, min(most, self.until - begun))
        print(f"{name} …", flush=True)
        try:
            done = subprocess.run(argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=seconds)  # fmt: skip
            code, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            code, output = 124, error.stdout or b""
        except OSError as error:
            code, output = 127, str(error).encode()
        text = output.decode(errors="replace")
        took = round(time.monotonic() - begun, 1)
        used = use([one for one in self.samples if one[0] >= clock])
        self.found["steps"].append(
            {"name": name, "rc": code, "seconds": took, "output": text[-KEPT_CHARACTERS:], **used}
        )
        print(f"{name}: rc {code}, {took} s{', ' + json.dumps(used) if used else ''}", flush=True)
        self.write()
        return text

    def write(self) -> None:
        self.path.write_text(json.dumps(self.found, indent=1))

    def watch(self, slot: str) -> None:
        """Sample the card until the process ends."""
        try:
            import pynvml as nvml

            nvml.nvmlInit()
            card = nvml.nvmlDeviceGetHandleByIndex(int(slot.partition(":")[2].split(",")[0] or 0))
            while True:
                memory, rates = nvml.nvmlDeviceGetMemoryInfo(card), nvml.nvmlDeviceGetUtilizationRates(card)
                watts = nvml.nvmlDeviceGetPowerUsage(card) / 1000
                self.samples.append((time.time(), rates.gpu / 100, memory.used / 2**30, watts))
                time.sleep(SAMPLE_SECONDS)
        except Exception as error:
            self.found["not_sampled"] = str(error)


def use(samples: Sequence[tuple[float, float, float, float]]) -> dict[str, float]:
    """Share of the time in which the card was busy, the longest gap in seconds, the most memory in GB and the watts."""
    if len(samples) < 2:
        return {}
    gap = longest = 0.0
    for (before, *_), (now, busy, *_) in itertools.pairwise(samples):
        gap = 0.0 if busy >= 0.5 else gap + now - before
        longest = max(longest, gap)
    watts = sum(one[3] for one in samples) / len(samples)
    return {
        "busy": round(sum(one[1] >= 0.5 for one in samples) / len(samples), 3), "longest_gap": round(longest, 1),
        "most_gb": round(max(one[2] for one in samples), 2), "watts": round(watts),
    }  # fmt: skip


def python_files() -> Iterator[str]:
    """Texts of the Python files that this Python can import."""
    for folder in filter(os.path.isdir, sys.path):
        for path in sorted(Path(folder).rglob("*.py")):
            try:
                yield path.read_text(encoding="utf-8")
            except (OSError, ValueError):
                continue


def make_corpus(folder: Path, size: float) -> None:
    folder.mkdir()
    written = 0
    with (folder / "a.jsonl").open("w") as out:
        for text in python_files():
            out.write(json.dumps({"text": text}) + "\n")
            written += len(text)
            if written > size:
                break


def copy_of_tree(folder: Path) -> Path:
    """A repository with the tree as its only commit."""
    shutil.copytree(TREE, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "the tree")):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def measure(base: Path, slots: str, results: Results) -> None:
    """All steps, the shortest and most telling first."""
    kind = "cuda" if slots.startswith("gpu") else "cpu"
    tree, seconds = copy_of_tree(base / "tree"), TRAIN_SECONDS[kind]
    make_corpus(base / "text", CORPUS_BYTES[kind])
    (base / "script.jsonl").write_text(json.dumps(PROPOSAL) + "\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH", "")])),
           "PYTHONUNBUFFERED": "1", "AUTORESEARCH_HOME": str(base / "home"), "NANOTRAIN_DATA": str(base / "text"),
           "TORCH_LOGS": "recompiles"}  # fmt: skip
    train_env = {**env, "AUTORESEARCH_DEVICE": kind, "AUTORESEARCH_RUN_DIR": str(base / "run")}
    caches = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
    cold = {**train_env, **{name: str(base / "cache" / place) for name, place in caches.items()}}
    moved = {**train_env, **{name: str(base / "moved" / place) for name, place in caches.items()}}
    product = [sys.executable, "-P", "-m", "tui.main"]
    for number, line in enumerate(FACTS):
        results.step(f"facts {number + 1}", ["/bin/sh", "-c", line], env, tree, 30)
    results.step("prepare", [sys.executable, "-m", "nanotrain.prepare"], env, tree, 200)
    (base / "run").mkdir()
    train = [sys.executable, "-m", "nanotrain.train", "--seconds"]
    results.step("train, cold caches", [*train, str(seconds)], cold, tree, 180)
    results.step("score", [sys.executable, "-m", "nanotrain.score"], train_env, tree, 200)
    if (base / "cache").is_dir():
        (base / "cache").rename(base / "moved")
    results.step("train, the cache moved", [*train, str(max(4, seconds // 4))], moved, tree, 90)
    check = ["doctor", str(tree), "--device", "--json", "--slots", slots, "--seconds", str(seconds)]
    said = results.step("doctor --device", [*product, *check, "--set", "sandbox.limits_only=true"], env, tree, 240)
    results.found["device_check"] = as_json(said)
    session = ["run", str(tree), "--headless", "--researcher", "scripted", "--script", str(base / "script.jsonl"),
               "--slots", slots, "--experiments", "1", "--set", f'budget.run="{max(6, seconds // 2)}s"',
               "--set", "decide.baseline=2", "--set", "sandbox.limits_only=true"]  # fmt: skip
    results.step("a session of one experiment", [*product, *session], env, tree, 300)


def as_json(text: str) -> Any:
    """The JSON object in the output of a command; None where there is none."""
    start, end = text.find("\n{") + 1, text.rfind("}") + 1
    try:
        return json.loads(text[start:end])
    except ValueError:
        return None


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks gpu", description="Everything that a card can tell, as one file.")
    parser.add_argument("--out", type=Path, default=Path("gpu-results.json"), help="the one file of results")
    parser.add_argument("--slots", default="gpu:0", help="gpu:0, or cpu:1 to rehearse without a card")
    parser.add_argument("--limit", type=float, default=570.0, help="seconds for all steps")
    asked = parser.parse_args(words)
    results = Results(asked.out.absolute(), asked.limit)
    if asked.slots.startswith("gpu"):
        threading.Thread(target=results.watch, args=(asked.slots,), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="autoresearch-gpu-") as folder:
        measure(Path(folder).resolve(), asked.slots, results)
    results.found["samples"] = [[round(value, 2) for value in one] for one in results.samples]
    results.write()
    print(f"\nwritten: {results.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
