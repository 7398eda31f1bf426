"""Floating-point operations that a run needs for a token, from its model. Fixed, like harness.py."""

from __future__ import annotations

from typing import Any

import torch.nn as nn


def operations_per_token(model: nn.Module, config: Any) -> int:
    """Operations of the forward and the backward pass for one token: six a weight, without the embedding tables, which
    are looked up; and those of exact attention over the visible positions.
    """
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in tables)
    length, seen = config.sequence_len, 0.0
    for window in (min(config.window(i), length) for i in range(config.n_layer)):
        seen += window - window * (window - 1) / 2 / length  # positions up to a token, on average
    return int(6 * weights + 12 * config.n_head * config.head_dim * seen)
