"""Train a small GPT for a fixed time and save its weights for the scorer. The one file that experiments edit.

    python -m nanotrain.train                 # a whole run, as the harness starts it (or by hand, after prepare)
    python -m nanotrain.train --steps 400     # by hand: a number of steps instead of a time, reproducible to the bit
    python -m nanotrain.train --smoke         # two steps on random tokens; reads no data and saves nothing

It reads from top to bottom: settings, model, optimizer, schedule, data, run. Names follow the public
training scripts (nanoGPT, nanochat, modded-nanogpt). The printed loss does not count: the scorer (nanotrain/score.py,
which this file cannot change) rebuilds the model with build_model() and measures it.
"""

# torch types every attribute of a module as Tensor | Module:
# mypy: disable-error-code="no-any-return, union-attr, arg-type, index, no-untyped-call"

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two runs share the cores: a spinning thread slows the other
if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():  # torch reads the first from 2.9 on
    os.environ["PYTORCH_ALLOC_CONF"] = os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save

from nanotrain import harness
from nanotrain.corpus import PrepareError
from nanotrain.device import shapes
from nanotrain.device.counts import operations_per_token
from nanotrain.device.machine import CPU, Machine, before_the_clock, find_machine
from nanotrain.device.usage import compiles, device_line
from nanotrain.device.warmup import EAGER, FLEX, fitting_tokens, limit_step, warm_up

# =================================================================================================
# Act 1. Settings. Plain numbers with unit and meaning; a name ending in _CPU or _CUDA applies to that device only.
# =================================================================================================

# --- size ---
DEPTH_CPU = 2                 # transformer blocks
DEPTH_CUDA = 8
WIDTH_CPU = 64                # channels of the residual stream
WIDTH_CUDA = 512
HEAD_DIM_CPU = 32             # channels of one attention head, an even number; the number of heads is WIDTH / HEAD_DIM
HEAD_DIM_CUDA = 128
MLP_RATIO = 4                 # hidden channels of the MLP, as a multiple of WIDTH
CONTEXT_CPU = 64              # tokens per training row (the scorer feeds rows of 64 on cpu, 2048 on cuda)
CONTEXT_CUDA = 2048
WINDOW_PATTERN = "SSSL"       # one letter per block, repeated: S short window, L whole row; the last block is always L
SHORT_WINDOW = 0.5            # length of the short window, as a share of CONTEXT
VALUE_EMBED_EVERY_CPU = 1     # every n-th block, counted from the last, has value embeddings; 0: none
VALUE_EMBED_EVERY_CUDA = 2
ROPE_BASE_CPU = 1000.0        # longest wavelength of the rotary embedding, in tokens / 2 pi
ROPE_BASE_CUDA = 10000.0
SOFTCAP_CPU = 0.0             # logits are limited to +-this by tanh; 0: off (tanh takes a quarter of a small step)
SOFTCAP_CUDA = 15.0

# --- batch ---
BATCH_TOKENS_CPU = 2**11      # tokens per optimizer step
BATCH_TOKENS_CUDA = 2**19
MICRO_TOKENS_CUDA = 2**16     # most tokens per forward pass; a card with less memory takes fewer, and accumulates

# --- optimizer ---
MATRIX_LR_CPU = 0.04          # Muon: learning rate of the blocks' matrices (their update has unit spectral norm)
MATRIX_LR_CUDA = 0.04
MATRIX_DECAY_CPU = 0.0        # Muon: weight decay per unit of learning rate, of weights that an update makes smaller
MATRIX_DECAY_CUDA = 0.2
MOMENTUM_START = 0.85         # Muon: momentum at the first step ...
MOMENTUM_CPU = 0.9            # ... and from MOMENTUM_WARMUP on
MOMENTUM_CUDA = 0.95
MOMENTUM_WARMUP = 0.3         # share of the budget
NEWTON_SCHULZ_STEPS = 4       # Muon: Newton-Schulz iterations that orthogonalize the update ...
POLAR_EXPRESS_CPU = False     # ... or five, each with the best coefficients for its input: costly for a small batch
POLAR_EXPRESS_CUDA = True
MUON_BETA2_CPU = 0.0          # Muon: decay of the second moment by which rows of an update are scaled; 0: off
MUON_BETA2_CUDA = 0.95
EMBED_LR_CPU = 0.6            # AdamW: token and value embeddings
EMBED_LR_CUDA = 0.73
HEAD_LR_CPU = 0.02            # AdamW: output projection
HEAD_LR_CUDA = 0.0049
SCALAR_LR = 0.02              # AdamW: per-block scalars and gates
ADAM_BETAS = (0.8, 0.95)      # AdamW: decay of the first and second moment per step
ADAM_EPS = 1e-10              # AdamW: added to the denominator
EMBED_DECAY = 0.0             # AdamW: weight decay of the embeddings per unit of learning rate
GRAD_CLIP = 0.0               # largest global gradient norm; 0: no clipping

# --- schedule, as shares of the budget ---
WARMUP = 0.0                  # linear rise of the learning rate over this share ...
WARMDOWN_CPU = 0.4            # ... and linear fall over this share, to FINAL_LR at the end
WARMDOWN_CUDA = 0.4
FINAL_LR = 0.0                # learning rate at the end, as a share of the peak

# --- initial weights ---
EMBED_STD = 1.0               # standard deviation of the token embeddings
MATRIX_SCALE = 1.0            # standard deviation of the blocks' input matrices, in 1/sqrt(fan-in)
HEAD_STD = 0.001              # standard deviation of the output projection
X0_SCALE = 0.1                # x0_lambdas: weight of the embedding that is added before each block

LOG_SECONDS = 0.25            # seconds between two progress lines


def setting(machine: Machine, name: str) -> Any:
    """The setting of this device: the constant NAME_CPU or NAME_CUDA."""
    return globals()[f"{name}_{'CUDA' if machine.cuda else 'CPU'}"]


# =================================================================================================
# Act 2. The model. Rotary attention with QK-norm, sliding windows and value embeddings; squared-ReLU MLP.
#
# The contract with the scorer, which every experiment keeps: build_model(config) returns an nn.Module whose
# load_state_dict() accepts the saved weights, and model(tokens: int64 (B, T)) returns the logits (B, T, V) of
# each next token, in any real dtype, for any B and any T up to the scorer's row. Logits may depend on tokens at
# and before their own position in their own row, and on nothing else: no other row, no later token, no state
# from earlier calls. `config` is the content of model.json.
# =================================================================================================


@dataclass(frozen=True)
class GPTConfig:
    """Shape of the model, enough to rebuild it; saved as model.json."""

    vocab_size: int
    sequence_len: int  # tokens per row, from which windows are computed
    n_layer: int
    n_embd: int
    head_dim: int
    mlp_ratio: float = 4
    window_pattern: str = "L"
    short_window: float = 0.5
    value_embed_every: int = 2
    rope_base: float = 10000.0
    softcap: float = 0.0

    @property
    def n_head(self) -> int:
        return max(1, self.n_embd // self.head_dim)

    def window(self, block: int) -> int:
        """Number of tokens that a position of this block attends to, its own included."""
        short = self.window_pattern[block % len(self.window_pattern)] == "S" and block < self.n_layer - 1
        return max(1, int(self.sequence_len * self.short_window)) if short else self.sequence_len

    def has_value_embed(self, block: int) -> bool:
        return self.value_embed_every > 0 and (self.n_layer - 1 - block) % self.value_embed_every == 0


def build_model(config: dict[str, Any]) -> nn.Module:
    """The model of a saved config (unknown keys are ignored), with initial weights, on the CPU, in float32."""
    known = {field.name for field in fields(GPTConfig)}
    return GPT(GPTConfig(**{name: value for name, value in config.items() if name in known}))


def norm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.size(-1),))


def precompute_rotary_embeddings(config: GPTConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each (sequence_len, 1, head_dim / 2)."""
    half = config.head_dim // 2
    inv_freq = config.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    freqs = torch.outer(torch.arange(config.sequence_len, dtype=torch.float32), inv_freq)[:, None, :]
    return freqs.cos(), freqs.sin()


def apply_rotary_emb(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate each pair (i, i + D / 2) of the channels of x (B, T, H, D) by the angle of its position."""
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1)


def window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """(length, length) bool, true where the position of the row attends to that of the column."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def flex_window_attention(length: int, window: int, device: torch.device) -> Callable[..., torch.Tensor]:
    """Attention over a window by FlexAttention, which skips the blocks outside it: (q, k, v) -> y, rows of `length`."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # takes a second to import

    def visible(b: Any, h: Any, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return (i >= j) & (i - j < window)

    mask = create_block_mask(visible, None, None, length, length, device=device)
    attention: Callable[..., Any] = functools.partial(flex_attention, block_mask=mask)
    return attention


class CausalSelfAttention(nn.Module):
    """Causal self-attention over a window, with an optional value embedding mixed into the values."""

    def __init__(self, config: GPTConfig, block: int) -> None:
        super().__init__()
        self.n_head, self.head_dim, self.window = config.n_head, config.head_dim, config.window(block)
        inner = self.n_head * self.head_dim
        self.qkv_w = nn.Parameter(torch.empty(3, inner, config.n_embd))  # queries, keys, values
        self.c_proj = nn.Linear(inner, config.n_embd, bias=False)
        self.ve_gate_channels = min(32, config.n_embd)
        gated = config.has_value_embed(block)
        self.ve_gate = nn.Linear(self.ve_gate_channels, config.n_head, bias=False) if gated else None
        self.flex_attention: Callable[..., torch.Tensor] | None = None  # set when FlexAttention is compiled

    def forward(
        self, x: torch.Tensor, ve: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """x (B, T, C), value embedding ve (B, T, n_head * head_dim) or None -> (B, T, C)."""
        rows, length, _ = x.shape
        qkv = F.linear(x, self.qkv_w.flatten(0, 1))
        q, k, v = qkv.view(rows, length, 3, self.n_head, self.head_dim).unbind(2)
        if ve is not None and self.ve_gate is not None:
            gate = 2 * torch.sigmoid(self.ve_gate(x[..., : self.ve_gate_channels]))
            v = v + gate[..., None] * ve.view(rows, length, self.n_head, self.head_dim)
        q, k = norm(apply_rotary_emb(q, cos, sin)), norm(apply_rotary_emb(k, cos, sin))
        q, k, v = (z.transpose(1, 2).to(qkv.dtype) for z in (q, k, v))
        if self.window >= length:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif self.flex_attention is not None:
            y = self.flex_attention(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.c_proj(y.transpose(1, 2).reshape(rows, length, -1))


class MLP(nn.Module):
    """Two matrices with a squared ReLU between them."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        hidden = int(config.mlp_ratio * config.n_embd)
        self.c_fc = nn.Linear(config.n_embd, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, config.n_embd, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.c_proj(F.relu(self.c_fc(x)).square())
        return result


class Block(nn.Module):
    """Attention, then MLP, each on the normalized stream and added to it."""

    def __init__(self, config: GPTConfig, block: int) -> None:
        super().__init__()
        self.attn, self.mlp = CausalSelfAttention(config, block), MLP(config)

    def forward(
        self, x: torch.Tensor, ve: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        x = x + self.attn(norm(x), ve, cos, sin, mask)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """tokens (B, T) -> logits (B, T, V)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        inner = config.n_head * config.head_dim
        with_values = [i for i in range(config.n_layer) if config.has_value_embed(i)]
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(config.vocab_size, inner) for i in with_values})
        self.blocks = nn.ModuleList([Block(config, i) for i in range(config.n_layer)])
        self.resid_lambdas = nn.Parameter(torch.ones(config.n_layer))  # weight of the stream that enters each block ...
        self.x0_lambdas = nn.Parameter(torch.full((config.n_layer,), X0_SCALE))  # ... and of the embedding x0
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        cos, sin = precompute_rotary_embeddings(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Embeddings normal, input matrices uniform, output matrices zero, so each block starts as the identity."""
        bound = MATRIX_SCALE * math.sqrt(3 / self.config.n_embd)
        nn.init.normal_(self.embed.weight, std=EMBED_STD)
        nn.init.normal_(self.lm_head.weight, std=HEAD_STD)
        for table in self.value_embeds.values():
            nn.init.uniform_(table.weight, -bound, bound)
        for block in self.blocks:
            nn.init.uniform_(block.attn.qkv_w, -bound, bound)
            nn.init.uniform_(block.mlp.c_fc.weight, -bound, bound)
            nn.init.zeros_(block.attn.c_proj.weight)
            nn.init.zeros_(block.mlp.c_proj.weight)
            if block.attn.ve_gate is not None:
                nn.init.zeros_(block.attn.ve_gate.weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.size(1)
        cos, sin = self.cos[:length], self.sin[:length]
        x = x0 = norm(self.embed(tokens))
        if tokens.is_cuda and torch.is_autocast_enabled("cuda"):  # half the memory traffic of a float32 stream
            x = x0 = x.to(torch.get_autocast_dtype("cuda"))
        for i, block in enumerate(self.blocks):
            x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            ve = self.value_embeds[str(i)](tokens) if self.config.has_value_embed(i) else None
            mask = window_mask(length, self.config.window(i), tokens.device)
            x = block(x, ve, cos, sin, mask)
        logits: torch.Tensor = self.lm_head(norm(x))
        if self.config.softcap > 0:
            logits = self.config.softcap * torch.tanh(logits.float() / self.config.softcap)
        return logits


# =================================================================================================
# Act 3. The optimizer. Muon for the matrices inside the blocks, AdamW for everything else.
# =================================================================================================


def zeropower_via_newtonschulz5(G: torch.Tensor, steps: int, polar_express: bool = False) -> torch.Tensor:
    """Replace the singular values of each (..., M, N) matrix by about 1: quintic Newton-Schulz (Jordan 2024), or the
    iterations that are optimal one after the other for values from 0.001 (Amsel et al. 2025, arXiv 2505.16932).
    """
    coefficients = ((3.4445, -4.7750, 2.0315),) * steps
    if polar_express:
        coefficients = (
            (8.15655, -22.48329, 15.87877), (4.04293, -2.80892, 0.50002), (3.89167, -2.77248, 0.50606),
            (3.28575, -2.36813, 0.46449), (2.34654, -1.70978, 0.42324),
        )
    X = G.to(torch.bfloat16 if G.is_cuda else torch.float32)  # each is the faster one there
    tall = X.size(-2) > X.size(-1)
    X = X.mT if tall else X
    X = X / (X.norm(dim=(-2, -1), keepdim=True) * (1.02 if polar_express else 1.0) + 1e-7)
    for a, b, c in coefficients:
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return (X.mT if tall else X).to(G.dtype)


class Muon:
    """Nesterov momentum, orthogonalized; (M, N) matrices, or stacks of them, of one shape are stepped together.

    `beta2` scales an update's rows, or columns where those are longer, to one size over time and keeps its norm
    (NorMuon, arXiv 2510.05491); weight decay is cautious (arXiv 2510.12402).
    """

    def __init__(self, matrices: list[torch.Tensor], rates: dict[str, float]) -> None:
        self.lr, self.weight_decay = rates["matrix"], rates["decay"]  # peak; weight decay per unit of it
        self.beta2, self.polar = rates.get("beta2", 0.0), bool(rates.get("polar"))
        shapes = sorted({tuple(m.shape[-2:]) for m in matrices})
        self.groups = [[m for m in matrices if tuple(m.shape[-2:]) == shape] for shape in shapes]
        stacks = [torch.cat([m.view(-1, *m.shape[-2:]) for m in group]) for group in self.groups]
        self.momentum_buffers = [torch.zeros_like(stack) for stack in stacks]
        self.axes = [-1 if s.size(-2) >= s.size(-1) else -2 for s in stacks]
        self.second_moments = [torch.zeros_like(s.mean(a, True)) for s, a in zip(stacks, self.axes, strict=True)]

    @torch.no_grad()
    def step(self, lrm: float, momentum: float) -> None:
        """`lrm` is the multiplier of the learning rate, 0 to 1."""
        states = zip(self.groups, self.momentum_buffers, self.second_moments, self.axes, strict=True)
        for group, buffer, second, axis in states:
            grad = torch.cat([m.grad.view(-1, *m.shape[-2:]) for m in group])
            buffer.lerp_(grad, 1 - momentum)
            update = zeropower_via_newtonschulz5(grad.lerp_(buffer, momentum), NEWTON_SCHULZ_STEPS, self.polar)
            if self.beta2:
                mean = update.square().mean(axis, keepdim=True)
                scale = second.lerp_(mean, 1 - self.beta2).clamp_min(1e-10).rsqrt()
                scaled = (mean * scale**2).sum((-2, -1), True).clamp_min(1e-10)  # 0 where there is no gradient yet
                update = update * scale * (mean.sum((-2, -1), True) / scaled).sqrt()
            lr = self.lr * lrm * max(1.0, update.size(-2) / update.size(-1)) ** 0.5
            pieces = zip(update.split([m.shape[:-2].numel() for m in group]), group, strict=True)
            updates = [piece.view_as(m) for piece, m in pieces]
            if self.weight_decay:
                decayed = [m * (m * u > 0) for m, u in zip(group, updates, strict=True)]
                torch._foreach_add_(group, decayed, alpha=-self.lr * lrm * lrm * self.weight_decay)
            torch._foreach_add_(group, updates, alpha=-lr)


class AdamW:
    """Adam with decoupled weight decay. torch's own would cost each run a second of imports."""

    def __init__(self, groups: list[tuple[list[nn.Parameter], float, float]]) -> None:
        self.groups = [group for group in groups if group[0]]  # parameters, peak learning rate, weight decay
        self.exp_avgs = [[torch.zeros_like(p) for p in parameters] for parameters, _, _ in self.groups]
        self.exp_avg_sqs = [[torch.zeros_like(p) for p in parameters] for parameters, _, _ in self.groups]
        self.steps = 0

    @torch.no_grad()
    def step(self, lrm: float) -> None:
        """`lrm` is the multiplier of the learning rate, 0 to 1."""
        self.steps += 1
        beta1, beta2 = ADAM_BETAS
        states = zip(self.groups, self.exp_avgs, self.exp_avg_sqs, strict=True)
        for (parameters, lr, decay), exp_avg, exp_avg_sq in states:
            grads = [p.grad for p in parameters]
            torch._foreach_lerp_(exp_avg, grads, 1 - beta1)
            torch._foreach_mul_(exp_avg_sq, beta2)
            torch._foreach_addcmul_(exp_avg_sq, grads, grads, 1 - beta2)
            denom = torch._foreach_sqrt(exp_avg_sq)
            torch._foreach_div_(denom, (1 - beta2**self.steps) ** 0.5)
            torch._foreach_add_(denom, ADAM_EPS)
            torch._foreach_mul_(parameters, 1 - lr * lrm * decay)
            torch._foreach_addcdiv_(parameters, exp_avg, denom, -lr * lrm / (1 - beta1**self.steps))


class MuonAdamW:
    """Muon and AdamW behind one step()."""

    def __init__(self, model: nn.Module, rates: dict[str, float]) -> None:
        named = dict(model.named_parameters())
        embeds = [p for n, p in named.items() if n.startswith(("embed.", "value_embeds."))]
        heads = [p for n, p in named.items() if n.startswith("lm_head.")]
        matrices = [p for n, p in named.items() if n.startswith("blocks.") and p.ndim >= 2 and "gate" not in n]
        taken = {id(p) for p in embeds + heads + matrices}
        scalars = [p for p in named.values() if id(p) not in taken]
        self.muon = Muon(matrices, rates)
        self.adamw = AdamW(
            [(embeds, rates["embed"], EMBED_DECAY), (heads, rates["head"], 0.0), (scalars, rates["scalar"], 0.0)]
        )

    def step(self, lrm: float, momentum: float) -> None:
        self.adamw.step(lrm)
        self.muon.step(lrm, momentum)


# =================================================================================================
# Act 4. The schedule. Everything is a function of progress, the share of the budget used (0 to 1).
# =================================================================================================


def get_lr_multiplier(progress: float, warmdown: float) -> float:
    """Multiplier of every learning rate: rises over WARMUP, then 1, then falls over `warmdown` to FINAL_LR."""
    if progress < WARMUP:
        return max(progress, 0.01) / WARMUP
    if progress <= 1 - warmdown:
        return 1.0
    left = (1 - progress) / warmdown
    return left + (1 - left) * FINAL_LR


def get_muon_momentum(progress: float, end: float) -> float:
    """Momentum of Muon: rises from MOMENTUM_START to `end` over MOMENTUM_WARMUP."""
    warm = min(1.0, progress / MOMENTUM_WARMUP) if MOMENTUM_WARMUP > 0 else 1.0
    return MOMENTUM_START + warm * (end - MOMENTUM_START)


# =================================================================================================
# Act 5. The data. Rows of CONTEXT + 1 tokens, every row once per epoch, in an order drawn from the seed.
# =================================================================================================


class TokenLoader:
    """Endless batches (inputs, targets), each (rows, context) int64 on `device`, from a flat array of tokens."""

    def __init__(
        self,
        tokens: np.ndarray[Any, np.dtype[np.uint16]],
        rows: int,
        context: int,
        seed: int,
        device: torch.device = CPU,
    ) -> None:
        self.tokens, self.rows, self.context, self.device = tokens, rows, context, device
        self.random = np.random.default_rng(seed)
        self.columns = np.arange(context + 1)
        self.order = np.empty(0, dtype=np.int64)
        if len(tokens) < 2 * context + 2:
            raise ValueError(f"{len(tokens)} tokens are too few for rows of {context}")
        shape = (2 * (device.type == "cuda"), rows, context + 1)  # one is filled while the card copies the other
        self.buffers = list(torch.empty(shape, dtype=torch.int16, pin_memory=device.type == "cuda"))
        self.copied = [torch.cuda.Event() for _ in self.buffers]

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor]:
        while len(self.order) < self.rows:  # a new epoch cuts the rows at a new offset
            offset = self.random.integers(self.context)
            starts = np.arange(offset, len(self.tokens) - self.context - 1, self.context)
            self.order = np.concatenate([self.order, self.random.permutation(starts)])
        starts, self.order = self.order[: self.rows], self.order[self.rows :]
        batch = self.to_device(self.tokens[starts[:, None] + self.columns])
        return batch[:, :-1].contiguous(), batch[:, 1:].contiguous()

    def to_device(self, rows: np.ndarray[Any, np.dtype[np.uint16]]) -> torch.Tensor:
        """The same tokens as int64 on the device; two bytes a token travel."""
        if not self.buffers:
            return torch.from_numpy(rows.astype(np.int64))
        self.buffers.reverse()
        self.copied.reverse()
        self.copied[0].synchronize()
        self.buffers[0].copy_(torch.from_numpy(rows.view(np.int16)))
        there = self.buffers[0].to(self.device, non_blocking=True)
        self.copied[0].record()
        return there.long() & 0xFFFF


# =================================================================================================
# Act 6. The run.
# =================================================================================================


def configure(machine: Machine, vocab_size: int) -> GPTConfig:
    """The model's shape by the settings of this device."""
    head_dim = setting(machine, "HEAD_DIM")
    if head_dim % 2:
        raise SystemExit(f"HEAD_DIM {head_dim} must be even: rotary embeddings rotate pairs of channels")
    return GPTConfig(
        vocab_size=vocab_size, sequence_len=setting(machine, "CONTEXT"), n_layer=setting(machine, "DEPTH"),
        n_embd=setting(machine, "WIDTH"), head_dim=head_dim, mlp_ratio=MLP_RATIO, window_pattern=WINDOW_PATTERN,
        short_window=SHORT_WINDOW, value_embed_every=setting(machine, "VALUE_EMBED_EVERY"),
        rope_base=setting(machine, "ROPE_BASE"), softcap=setting(machine, "SOFTCAP"),
    )


class InPlaceCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy whose gradient overwrites the softmax: an eighth faster per step on the CPU."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """logits (N, V), targets (N,) -> nats per token, a scalar."""
        ctx.softmax, ctx.targets = logits.softmax(-1), targets
        return -ctx.softmax.gather(1, targets[:, None]).clamp_min(1e-38).log().mean()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        scale = grads[0] / len(ctx.targets)
        gradient = ctx.softmax.mul_(scale)
        gradient[torch.arange(len(ctx.targets)), ctx.targets] -= scale
        return gradient, None


class Trainer:
    """Model, optimizer and one training step."""

    def __init__(self, machine: Machine, config: GPTConfig) -> None:
        self.machine, self.config = machine, config
        self.model = build_model(asdict(config)).to(machine.device)
        rates = {name: setting(machine, f"{name.upper()}_LR") for name in ("matrix", "embed", "head")}
        rates |= {"scalar": SCALAR_LR, "decay": setting(machine, "MATRIX_DECAY")}
        rates |= {"beta2": setting(machine, "MUON_BETA2"), "polar": float(setting(machine, "POLAR_EXPRESS"))}
        self.optimizer = MuonAdamW(self.model, rates)
        self.kernels = FLEX if machine.compiled else EAGER  # what the warm-up tries first
        self.loss: Callable[..., torch.Tensor] = self.plain_loss
        self.rows = max(1, setting(machine, "BATCH_TOKENS") // config.sequence_len)
        self.grad_accum_steps = 1
        self.micro_seconds = 0.0  # duration of one pass, measured in the warm-up
        most = fitting_tokens(MICRO_TOKENS_CUDA, config, machine) if machine.cuda else math.inf
        while self.rows > 1 and self.rows * config.sequence_len > most:
            self.halve_rows()

    @property
    def tokens_per_step(self) -> int:
        return self.rows * self.config.sequence_len * self.grad_accum_steps

    def plain_loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats per token."""
        with self.machine.autocast():
            logits = self.model(inputs).float().flatten(0, 1)
        if self.machine.cuda:
            return F.cross_entropy(logits, targets.flatten())
        return InPlaceCrossEntropy.apply(logits, targets.flatten())

    def step(self, batches: Any, progress: float) -> torch.Tensor:
        """One optimizer step on `grad_accum_steps` batches; returns the loss without waiting for the device."""
        total = torch.zeros((), device=self.machine.device)
        for _ in range(self.grad_accum_steps):
            inputs, targets = batches()
            loss = self.loss(inputs, targets) / self.grad_accum_steps
            loss.backward()
            total += loss.detach()
        if GRAD_CLIP > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRAD_CLIP)
        lrm = get_lr_multiplier(progress, setting(self.machine, "WARMDOWN"))
        self.optimizer.step(lrm, get_muon_momentum(progress, setting(self.machine, "MOMENTUM")))
        self.model.zero_grad(set_to_none=True)
        return total

    def loader(self, tokens: np.ndarray[Any, np.dtype[np.uint16]], seed: int) -> TokenLoader:
        return TokenLoader(tokens, self.rows, self.config.sequence_len, seed, self.machine.device)

    def halve_rows(self) -> None:
        """Half the rows in a pass, or fewer if that does not divide them: the same step in more passes."""
        passes = next(n for n in range(2, self.rows + 1) if self.rows % n == 0)
        self.rows, self.grad_accum_steps = self.rows // passes, passes * self.grad_accum_steps

    def set_kernels(self, kernels: str) -> None:
        """Compiled with FlexAttention, compiled with masked attention, or eager."""
        self.kernels = kernels
        length = self.config.sequence_len
        make = functools.cache(lambda window: flex_window_attention(length, window, self.machine.device))
        for attn in (block.attn for block in self.model.blocks):
            attn.flex_attention = make(attn.window) if kernels == FLEX and attn.window < length else None
        self.loss = self.plain_loss
        if kernels != EAGER:
            torch.compiler.reset()  # a try before this one counts towards the limit of compiles
            self.loss = torch.compile(self.plain_loss, dynamic=False)


def smoke(machine: Machine, run: harness.TrainingRun) -> None:
    """Two steps on random tokens: the model builds, trains, its loss is finite; on a GPU the shapes fit."""
    torch.manual_seed(run.seed)
    trainer = Trainer(machine, configure(machine, run.vocab))
    data = np.random.default_rng(run.seed).integers(run.vocab, size=65_536).astype(np.uint16)
    loader = trainer.loader(data, run.seed)
    losses = [float(trainer.step(loader, progress)) for progress in (0.0, 0.5)]
    if not all(map(math.isfinite, losses)):
        raise SystemExit(f"smoke: the loss is not finite: {losses}")
    if os.environ.get(shapes.VARIABLE) == "cuda":
        with shapes.imagined_card() as card:
            shapes.step_without_content(Trainer(card, configure(card, run.vocab)))
    print(f"smoke: two steps done, loss {losses[0]:.4f} then {losses[1]:.4f}, ln V = {math.log(run.vocab):.4f}")


def train(machine: Machine, run: harness.TrainingRun) -> None:
    """A whole run: warm up, receive the data, train until the budget is used, announce and save the weights."""
    torch.manual_seed(run.seed)
    started = time.monotonic()
    with before_the_clock(machine):
        trainer = Trainer(machine, configure(machine, run.vocab))
        warm_up(trainer, run.expected_seconds())
    params, compiled = sum(p.numel() for p in trainer.model.parameters()), compiles()
    clock, view = run.ready(params)
    limit_step(trainer, clock.seconds)
    loader = trainer.loader(np.frombuffer(view, dtype="<u2"), run.seed)
    startup, step, smooth, printed, slowest = time.monotonic() - started, 0, math.nan, -math.inf, 0.0
    since: list[torch.Tensor] = []  # losses of the steps since the last line: that of one step says little
    while not clock.over(step):
        begun = clock.elapsed()
        since.append(trainer.step(loader, clock.progress(step)))
        machine.wait()  # so that the clock does not run ahead of the device
        step += 1
        if clock.elapsed() - printed >= LOG_SECONDS or clock.over(step):
            value, printed, since = float(torch.stack(since).mean()), clock.elapsed(), []
            if not math.isfinite(value):
                raise SystemExit(f"step {step:05d} | loss {value} | training has diverged")
            smooth = value if math.isnan(smooth) else 0.8 * smooth + 0.2 * value
            speed = step * trainer.tokens_per_step / max(printed, 1e-9)
            lrm = get_lr_multiplier(clock.progress(step), setting(machine, "WARMDOWN"))
            print(
                f"step {step:05d} | loss {value:.4f} | smooth {smooth:.4f} | lr {lrm:.3f}"
                f" | {100 * clock.progress(step):5.1f}% | {speed:,.0f} tok/s", flush=True,
            )
        slowest = max(slowest, clock.elapsed() - begun)
    trained, tokens = clock.elapsed(), step * trainer.tokens_per_step
    run.done(step, tokens, serialize(trainer.model), asdict(trainer.config))

    print("---")
    print(f"loss:          {smooth:.4f} nats per token, smoothed, on training text")
    print(f"steps:         {step:,} of {trainer.tokens_per_step:,} tokens; slowest {1000 * slowest:.0f} ms")
    print(f"tokens:        {tokens:,} ({tokens / trained:,.0f} per second)")
    operations = operations_per_token(trainer.model, trainer.config)
    print(f"operations:    {operations:,} a token, {operations * tokens / trained / 1e12:.3g} TFLOP/s")
    print(f"parameters:    {params:,}")
    print(f"seconds:       {trained:.1f} of training after {startup:.1f} of start-up")
    print(f"machine:       {machine.device.type}, {str(machine.dtype)[6:]}, {trainer.kernels}")
    print(device_line(machine, compiled, tokens / trained))


def serialize(model: nn.Module) -> bytes:
    """The weights as the bytes of a safetensors file; a tensor with two names is saved under both."""
    values = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    return save({name: value.clone(memory_format=torch.contiguous_format) for name, value in values.items()})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nanotrain.train", description="Train for the time budget.")
    parser.add_argument("--smoke", action="store_true", help="two steps on random tokens, then stop")
    parser.add_argument("--seconds", type=float, help="by hand: time budget (default 20 on cpu, 300 on cuda)")
    parser.add_argument("--steps", type=int, help="by hand: a number of steps instead")
    options = parser.parse_args()
    machine = find_machine(os.environ.get("AUTORESEARCH_DEVICE"))
    run = harness.connect(options.seconds, options.steps, machine.device.type)
    try:
        (smoke if options.smoke else train)(machine, run)
    except (harness.HarnessError, PrepareError) as error:
        print(f"error: {error}\n hint: {getattr(error, 'hint', 'run it again')}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
