"""Test data: a varied corpus, a worktree with an edited train.py, the folder of a run."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import nanotrain
from nanotrain import train

REPOSITORY = Path(nanotrain.__file__).parent.parent
SMALL = train.GPTConfig(vocab_size=1024, sequence_len=64, n_layer=2, n_embd=32, head_dim=16, window_pattern="SL")


def text(size: int, seed: int = 0) -> str:
    """At least `size` characters of generated sentences, one per line."""
    rng = random.Random(seed)
    syllables = ["ba", "co", "di", "fu", "ga", "he", "li", "mo", "nu", "pra", "sti", "tro", "vel", "wex", "yon", "zé"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(3000)]
    lines, length = [], 0
    while length < size:
        lines.append(" ".join(rng.choices(words, k=rng.randint(5, 15))).capitalize() + ".\n")
        length += len(lines[-1])
    return "".join(lines)


def command(*arguments: str, warm: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` in the repository with additional environment variables."""
    return command_in(REPOSITORY, *arguments, warm=warm, **env)


def command_in(folder: Path, *arguments: str, warm: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` in `folder` with additional environment variables, in a process of `warm` if given."""
    values = {k: v for k, v in os.environ.items() if not k.startswith(("AUTORESEARCH_CONTROL", "NANOTRAIN_"))} | env
    words = [sys.executable, "-m", *arguments]
    if warm:
        code = f"""
import runpy, sys
sys.path[0], sys.argv = {str(folder)!r}, {list(arguments)!r}
runpy.run_module({arguments[0]!r}, run_name="__main__", alter_sys=True)
"""
        words = [*warm, sys.executable, "-c", code]
    return subprocess.run(words, cwd=folder, env=values, capture_output=True, text=True, timeout=300)


def worktree(folder: Path, *edits: tuple[str, str]) -> Path:
    """A copy of the nanotrain package whose train.py has each (search, replace) applied once."""
    shutil.copytree(REPOSITORY / "nanotrain", folder / "nanotrain", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "nanotrain" / "train.py"
    source = path.read_text()
    for search, replace in edits:
        assert source.count(search) == 1, f"{search!r} occurs {source.count(search)} times"
        source = source.replace(search, replace)
    path.write_text(source)
    return folder


def saved_run(folder: Path, config: train.GPTConfig = SMALL, seed: int = 0, **extra: Any) -> Path:
    """A run's folder with random weights that are large enough for every part of the model to change the logits."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = train.build_model(asdict(config))
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.3)
    save_file(model.state_dict(), folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(asdict(config) | extra))
    return folder
