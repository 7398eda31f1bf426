"""Changes whose loss curve cannot be held against their parent's, or only once the learning rate falls."""

from __future__ import annotations

import math

import pytest

from core.edits.curve_changes import comparable_from

DECAY = 0.6


def _diff(old: str, new: str) -> str:
    return f"--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n unchanged_loss = 1\n-{old}\n+{new}\n # batch schedule\n"


@pytest.mark.parametrize(
    "old, new, since",
    [
        ("MATRIX_LR_CPU = 0.04", "MATRIX_LR_CPU = 0.02", 0.0),
        ("DEPTH = 2", "DEPTH = 4  # a loss of speed, the batch stays", 0.0),
        ("NEWTON_SCHULZ_STEPS = 4", "NEWTON_SCHULZ_STEPS = 5", 0.0),
        ("BATCH_TOKENS_CPU = 2**11", "BATCH_TOKENS_CPU = 2**12", DECAY),
        ("batchSize = 8", "batchSize = 16", DECAY),
        ("EMBED_DECAY = 0.0", "EMBED_DECAY = 0.1", DECAY),
        ("wd = 0.0", "wd = 0.1", DECAY),
        ("WARMUP = 0.0", "WARMUP = 0.1", DECAY),
        ("MOMENTUM_WARMUP = 0.3", "MOMENTUM_WARMUP = 0.1", DECAY),
        ("WARMDOWN_CPU = 0.4", "WARMDOWN_CPU = 0.2", math.inf),
        ("FINAL_LR = 0.0", "FINAL_LR = 0.1", math.inf),
        ("lr_decay_iters = 10", "lr_decay_iters = 20", math.inf),
        ("vocab_size = 10", "vocab_size = 20", math.inf),
        ("loss = a", "loss = a + 0.1 * z", math.inf),
        ("y = x", "y = F.cross_entropy(x, t)", math.inf),
        ("p = 0.0", "dropout = 0.1", math.inf),
        ("w = w", "ema = 0.9 * ema", math.inf),
        ("schema = 1", "schema = 2", 0.0),
    ],
)
def test_what_the_changed_lines_name_decides(old: str, new: str, since: float) -> None:
    assert comparable_from("optimizer", _diff(old, new), DECAY) == since


def test_the_kind_of_the_hypothesis_counts_too() -> None:
    plain = _diff("A = 1", "A = 2")
    assert comparable_from("schedule", plain, DECAY) == comparable_from("data", plain, DECAY) == math.inf
    assert comparable_from("regularization", plain, DECAY) == DECAY
    assert comparable_from("architecture", plain, DECAY) == 0.0


def test_without_a_diff_nothing_is_compared() -> None:
    assert comparable_from("optimizer", "", DECAY) == math.inf
