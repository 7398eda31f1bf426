"""nanotrain's train.py and karpathy's, on the same card, text, tokens and rows, for the same time, in one call.

    python -m nanotrain.prepare --download climbmix --shards 8
    python -m benchmarks.nanotrain.beside_karpathy PATH/autoresearch/train.py [--seconds 300] [--runs 1] [--out FILE]

His file runs as it is, but for the values of --his (`--his DEVICE_BATCH_SIZE=32` on a card with less memory); what it
imports from prepare.py is made from nanotrain's data. FlashAttention 3 is loaded by his own `kernels` where that is
installed, else nanotrain's attention takes its place, and the table says so. The clock of his file leaves out its first
eleven steps, ours none. Both models are measured by one function on the rows that the scorer reads.

`--rehearse` runs both on the CPU at a small size, to see that all of it works; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nanotrain import prepare

ROOT = Path(__file__).parents[2]
COLUMNS = ("val_bpb", "steps", "tokens", "tokens_per_second", "peak_gb", "seconds", "attention")
SMALL = {"DEPTH": "2", "ASPECT_RATIO": "32", "HEAD_DIM": "32", "TOTAL_BATCH_SIZE": "2**10", "DEVICE_BATCH_SIZE": "16"}
ON_CPU = (
    ('torch.device("cuda")', 'torch.device("cpu")'), ('device_type="cuda"', 'device_type="cpu"'),
    ("torch.cuda.get_device_capability()", "(9, 0)"), ("torch.cuda.synchronize()", "None"),
    ("torch.cuda.manual_seed(42)", "None"), ("torch.cuda.max_memory_allocated()", "0"),
    ("@torch.compile(dynamic=False, fullgraph=True)", ""), ("torch.compile(model, dynamic=False)", "model"),
)  # fmt: skip
EVALUATE = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import load_file
from benchmarks.nanotrain import karpathy_data as data
from nanotrain import train
folder = Path(sys.argv[1])
model = train.build_model(json.loads((folder / "model.json").read_text()))
model.load_state_dict(load_file(folder / "weights.safetensors"))
model.to(data.DEVICE).eval()
with data.autocast():
    print("val_bpb:", data.evaluate_bpb(model, None, 1))
"""


def changed(source: str, values: dict[str, str], on_cpu: bool) -> str:
    """The source with other values of its constants, and for a rehearsal without CUDA. Raises SystemExit."""
    for name, value in values.items():
        source, count = re.subn(rf"^{name} = [^#\n]*", f"{name} = {value} ", source, flags=re.MULTILINE)
        if count != 1:
            raise SystemExit(f"error: that file has no constant {name}\n hint: read its names below `Hyperparameters`")
    for search, replace in ON_CPU if on_cpu else ():
        source = source.replace(search, replace)
    return source


def command(words: list[str], folder: Path, env: dict[str, str]) -> tuple[str, float]:
    """Output and seconds of one run, which is shown while it runs. Raises SystemExit when it fails."""
    begun, lines = time.monotonic(), list[str]()
    with subprocess.Popen(
        words, cwd=folder, env=os.environ | env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            print(f"  {line.rstrip()[-150:]}", flush=True)
    if process.returncode:
        raise SystemExit(f"error: {' '.join(words[:4])} ended with {process.returncode}; its output is above")
    return "".join(lines), time.monotonic() - begun


def number(output: str, name: str) -> float:
    """The last value of a line `name: 1,234.5`."""
    found = re.findall(rf"^{name}:?\s+([\d.,]+)", output, flags=re.MULTILINE)
    return float(found[-1].replace(",", "").rstrip(".")) if found else float("nan")


class Comparison:
    """Runs of both files, in a temporary folder."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.device = "cpu" if options.rehearse else "cuda"
        given = dict(one.split("=", 1) for one in options.his)
        source = changed(options.file.read_text(), (SMALL if options.rehearse else {}) | given, options.rehearse)
        (folder / "train.py").write_text(source)
        (folder / "prepare.py").write_text("from benchmarks.nanotrain.karpathy_data import *\n")
        self.attention = "FlashAttention 3"
        if options.rehearse or options.own_attention or importlib.util.find_spec("kernels") is None:
            (folder / "kernels.py").write_text("from benchmarks.nanotrain.karpathy_data import get_kernel\n")
            self.attention = "nanotrain's"
        self.env = {
            "BESIDE_DEVICE": self.device, "BESIDE_SECONDS": str(options.seconds), "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1", "AUTORESEARCH_DEVICE": self.device, "AUTORESEARCH_RUN_DIR": str(folder / "ours"),
        }  # fmt: skip

    def his(self) -> dict[str, Any]:
        output, wall = command([sys.executable, "train.py"], self.folder, self.env)
        seconds, tokens = number(output, "training_seconds"), 1e6 * number(output, "total_tokens_M")
        steps = number(output, "num_steps")
        timed = tokens * (steps - 11) / steps if steps > 11 else tokens  # the first eleven are not on his clock
        return {
            "val_bpb": number(output, "val_bpb"), "steps": steps, "tokens": tokens,
            "tokens_per_second": timed / seconds if seconds else float("nan"),
            "peak_gb": number(output, "peak_vram_mb") / 1024, "seconds": wall, "attention": self.attention,
        }  # fmt: skip

    def ours(self) -> dict[str, Any]:
        words = [sys.executable, "-m", "nanotrain.train", "--seconds", str(self.options.seconds)]
        output, wall = command(words, ROOT, self.env)
        tokens, peak = number(output, "tokens"), re.search(r"peak ([\d.]+) GB", output)
        measured, _ = command([sys.executable, "-c", EVALUATE, str(self.folder / "ours")], ROOT, self.env)
        kernels = re.search(r"^machine: .*", output, flags=re.MULTILINE)
        return {
            "val_bpb": number(measured, "val_bpb"), "steps": number(output, "steps"), "tokens": tokens,
            "tokens_per_second": tokens / number(output, "seconds"), "peak_gb": float(peak[1]) if peak else 0.0,
            "seconds": wall, "attention": kernels[0].rpartition(", ")[2] if kernels else "",
        }  # fmt: skip


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"| file | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, runs in found.items():
        for run in runs:
            cells = (f"{run[c]:.4f}" if c == "val_bpb" else _short(run[c]) for c in COLUMNS)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, help="his train.py, in a clone of karpathy/autoresearch")
    parser.add_argument("--seconds", type=float, default=300.0, help="time budget of a run (default 300)")
    parser.add_argument("--runs", type=int, default=1, help="runs of each, in turn (default 1)")
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    parser.add_argument("--his", action="append", default=[], metavar="NAME=VALUE", help="another value in his file")
    parser.add_argument("--own-attention", action="store_true", help="nanotrain's attention in both")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at a small size")
    options = parser.parse_args()
    if not options.file.is_file():
        raise SystemExit(
            f"error: {options.file} is not there\n hint: git clone the repository karpathy/autoresearch first"
        )
    if prepare.find() is None:
        raise SystemExit(
            "error: the data are not prepared\n hint: python -m nanotrain.prepare --download climbmix --shards 8"
        )
    found: dict[str, list[dict[str, Any]]] = {"nanotrain": [], "karpathy's": []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Comparison(options, Path(folder))
        for _ in range(options.runs):
            found["nanotrain"].append(bench.ours())
            found["karpathy's"].append(bench.his())
    print(table(found))
    if options.out:
        facts = {"seconds": options.seconds, "rehearsal": options.rehearse, "his": options.his, "python": sys.version}
        options.out.write_text(json.dumps(facts | {"runs": found}, indent=1))


if __name__ == "__main__":
    main()
