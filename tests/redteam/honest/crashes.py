"""Honest code that crashes: a crash, never a rejection."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import each_step

CRASHES = [
    Variant("crash", "an exception in the middle of training", (each_step("if step == 20: raise RuntimeError('boom')"),),
            "crashed", "exited with code 1: RuntimeError: boom"),
    Variant("diverges", "the loss becomes NaN", (each_step("if step == 20: trainer.model.lm_head.weight.data *= float('nan')"),),
            "crashed", "training has diverged"),
    Variant("out-of-memory", "takes more memory than it may", (each_step("hold = torch.ones(1 << 30)"),),
            "crashed", "used more than 3072 MB|memory"),
    Variant("exits", "exits without a word in mid-run", (each_step("if step == 9: sys.exit(3)"),), "crashed", "code 3"),
    Variant("segfault", "reads where there is nothing", (each_step("if step == 9: ctypes.string_at(0)"),), "crashed", "SIGSEGV"),
]  # fmt: skip
