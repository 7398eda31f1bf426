"""What karpathy's train.py imports from its prepare.py and from `kernels`, over nanotrain's data and for any card.

benchmarks/nanotrain/beside_karpathy.py puts it under those two names; the measure of the loss is that of both files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nanotrain import prepare, probes, train

DEVICE = "cuda" if os.environ.get("BESIDE_DEVICE", "cuda") == "cuda" else "cpu"
MAX_SEQ_LEN = prepare.EVAL_CONTEXT[DEVICE]
TIME_BUDGET = float(os.environ.get("BESIDE_SECONDS", "300"))


def _data() -> prepare.PreparedData:
    ready = prepare.find()
    if ready is None:
        raise SystemExit(f"error: the data are not prepared\n hint: {prepare.PREPARE_COMMAND}")
    return ready


class Tokenizer:
    """The tokenizer by its size; the text is tokenized already."""

    @classmethod
    def from_directory(cls) -> Tokenizer:
        return cls()

    def get_vocab_size(self) -> int:
        return int(_data().manifest["vocab"])


def make_dataloader(
    tokenizer: Tokenizer, rows: int, length: int, split: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    """Endless (inputs, targets, epoch) of the training text, by nanotrain's own loader."""
    tokens = np.fromfile(_data().train, dtype="<u2")
    loader, read = train.TokenLoader(tokens, rows, length, 1, torch.device(DEVICE)), 0
    while True:
        read += rows * length
        yield *loader(), 1 + read // len(tokens)


@torch.inference_mode()
def evaluate_bpb(model: Callable[[torch.Tensor], torch.Tensor], tokenizer: Tokenizer | None, rows: int) -> float:
    """Bits per byte of the rows that nanotrain's scorer reads, in float32, tokens without bytes left out."""
    ready = _data()
    lengths = np.fromfile(ready.tokenizer / "token_bytes.bin", dtype=np.uint8).astype(np.int64)
    text = probes.rows_of(np.fromfile(ready.folder / "val.bin", dtype="<u2"), lengths, DEVICE)
    sizes, nats = torch.from_numpy(lengths), 0.0
    for row in torch.from_numpy(text.astype(np.int64)):
        inputs, targets = row[None, :-1].to(DEVICE), row[1:]
        losses = F.cross_entropy(model(inputs)[0].float(), targets.to(DEVICE), reduction="none").double().cpu()
        nats += float(losses[sizes[targets] > 0].sum())
    return nats / math.log(2) / float(lengths[text[:, 1:]].sum())


@cache
def _windowed(length: int, window: int) -> Callable[..., torch.Tensor]:
    if DEVICE == "cuda":
        return train.flex_window_attention(length, window, torch.device(DEVICE))
    mask = train.window_mask(length, window, torch.device(DEVICE))
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def flash_attn_func(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, window_size: tuple[int, int]
) -> torch.Tensor:
    """(B, T, H, D) -> the same: nanotrain's attention in place of FlashAttention 3."""
    q, k, v = (x.transpose(1, 2).to(v.dtype) for x in (q, k, v))
    length, window = q.size(2), window_size[0] + 1
    if window >= length:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)
    return _windowed(length, window)(q, k, v).transpose(1, 2)


def get_kernel(repository: str) -> Any:
    return SimpleNamespace(flash_attn_interface=SimpleNamespace(flash_attn_func=flash_attn_func))


def autocast() -> Any:
    return torch.autocast("cuda", dtype=torch.bfloat16) if DEVICE == "cuda" else nullcontext()
