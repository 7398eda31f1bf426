"""Train a small GPT for a fixed time, and leave its weights for the scorer. The one file experiments edit.

    python -m nanotrain.train                 # a whole run, as the harness starts it (or by hand, after prepare)
    python -m nanotrain.train --steps 400     # by hand: a number of steps instead of a time, reproducible to the bit
    python -m nanotrain.train --smoke         # two steps on random tokens, nothing read, nothing kept

It reads top to bottom: settings, model, optimiser, schedule, data, the run. Nothing printed here is believed:
the scorer (nanotrain/score.py, outside this file's reach) rebuilds the model with build_model() and judges it.
"""

# torch types a module's attributes as Tensor | Module, whatever they are:
# mypy: disable-error-code="no-any-return, union-attr, arg-type, index, no-untyped-call"

from __future__ import annotations

import argparse
import ctypes
import functools
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two runs share the cores: a spinning thread starves the other
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save

from nanotrain import harness
from nanotrain.corpus import PrepareError

# =================================================================================================
# Act 1. Settings. Plain numbers with unit and meaning; a name ending in _CPU or _CUDA counts on that device only.
# =================================================================================================

# --- size ---
DEPTH_CPU = 2                 # transformer blocks
DEPTH_CUDA = 8
WIDTH_CPU = 64                # channels of the residual stream
WIDTH_CUDA = 512
HEAD_DIM_CPU = 32             # channels of one attention head, an even number; as many heads as fit in WIDTH
HEAD_DIM_CUDA = 128
MLP_RATIO = 4                 # hidden channels of the MLP, in widths
CONTEXT_CPU = 64              # tokens a training row (the scorer feeds rows of 64 on cpu, 2048 on cuda)
CONTEXT_CUDA = 2048
WINDOW_PATTERN = "SL"         # a letter a block, repeated: S sees the short window, L all; the last block is L
SHORT_WINDOW = 0.5            # length of the short window, in contexts
VALUE_EMBED_EVERY_CPU = 1     # every so many blocks, counted from the last, has value embeddings; 0: none
VALUE_EMBED_EVERY_CUDA = 2
ROPE_BASE_CPU = 1000.0        # longest wavelength of the rotary embedding, in tokens / 2 pi
ROPE_BASE_CUDA = 10000.0
SOFTCAP_CPU = 0.0             # logits are squeezed into +-this by tanh; 0: not (it is a quarter of a small step)
SOFTCAP_CUDA = 15.0

# --- batch ---
BATCH_TOKENS_CPU = 2**11      # tokens an optimiser step
BATCH_TOKENS_CUDA = 2**19
MICRO_TOKENS_CUDA = 2**16     # tokens a forward pass; the rest is accumulated (halve it when memory runs out)

# --- optimiser ---
MATRIX_LR_CPU = 0.04          # Muon: step size for the matrices of the blocks (their update has unit spectral norm)
MATRIX_LR_CUDA = 0.04
MATRIX_DECAY_CPU = 0.0        # Muon: weight decay a unit of learning rate, fades with the learning rate
MATRIX_DECAY_CUDA = 0.2
MOMENTUM_START = 0.85         # Muon: momentum at the first step ...
MOMENTUM_CPU = 0.9            # ... and from MOMENTUM_WARMUP on
MOMENTUM_CUDA = 0.95
MOMENTUM_WARMUP = 0.3         # share of the budget
NEWTON_SCHULZ_STEPS = 4       # Muon: iterations of the orthogonalisation
EMBED_LR_CPU = 0.6            # AdamW: token and value embeddings
EMBED_LR_CUDA = 0.6
HEAD_LR_CPU = 0.02            # AdamW: output projection
HEAD_LR_CUDA = 0.004
SCALAR_LR = 0.02              # AdamW: per-block scalars and gates
ADAM_BETAS = (0.8, 0.95)      # AdamW: decay of the first and second moment, a step
ADAM_EPS = 1e-10              # AdamW: keeps the division finite
EMBED_DECAY = 0.0             # AdamW: weight decay of the embeddings, a unit of learning rate
GRAD_CLIP = 0.0               # largest global gradient norm; 0: no clipping

# --- schedule, in shares of the budget ---
WARMUP = 0.0                  # the learning rate rises linearly this long
WARMDOWN = 0.4                # ... and falls linearly this long, to FINAL_LR at the very end
FINAL_LR = 0.0                # learning rate at the end, in peaks

# --- initial weights ---
EMBED_STD = 1.0               # standard deviation of the token embeddings
MATRIX_SCALE = 1.0            # of the blocks' input matrices, in 1/sqrt(fan-in)
HEAD_STD = 0.001              # of the output projection
X0_SCALE = 0.1                # how much of the embedding is added to the stream before each block

LOG_SECONDS = 0.25            # seconds between two lines of progress


# =================================================================================================
# Act 2. The model. Rotary attention with QK-norm, sliding windows and value embeddings; squared-ReLU MLP.
#
# The contract with the scorer, which every experiment keeps: build_model(config) returns an nn.Module in the
# state in which load_state_dict() of the saved weights fits, and model(tokens: int64 (B, T)) returns the
# logits (B, T, V) of each next token, any real dtype, for any B and any T up to the scorer's row. They may
# depend on tokens at and before their own position in their own row, and on nothing else: no other row, no
# future, no memory of earlier calls. `config` is what model.json holds.
# =================================================================================================


@dataclass(frozen=True)
class Config:
    """What it takes to rebuild the model; saved as model.json."""

    vocab: int
    context: int  # tokens a row; windows are counted in it
    depth: int
    width: int
    head_dim: int
    mlp_ratio: float = 4
    window_pattern: str = "L"
    short_window: float = 0.5
    value_embed_every: int = 2
    rope_base: float = 10000.0
    softcap: float = 0.0

    @property
    def heads(self) -> int:
        return max(1, self.width // self.head_dim)

    def window(self, block: int) -> int:
        """How many tokens, its own included, a position of this block may see."""
        short = self.window_pattern[block % len(self.window_pattern)] == "S" and block < self.depth - 1
        return max(1, int(self.context * self.short_window)) if short else self.context

    def has_value_embed(self, block: int) -> bool:
        return self.value_embed_every > 0 and (self.depth - 1 - block) % self.value_embed_every == 0


def build_model(config: dict[str, Any]) -> nn.Module:
    """The model of a saved config (unknown keys are ignored), with initial weights, on the CPU, in float32."""
    known = {field.name for field in fields(Config)}
    return GPT(Config(**{name: value for name, value in config.items() if name in known}))


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.size(-1),))


def rotary_tables(config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each (context, 1, head_dim / 2)."""
    half = config.head_dim // 2
    frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = torch.outer(torch.arange(config.context, dtype=torch.float32), frequency)[:, None, :]
    return angle.cos(), angle.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + half) of the channels of x (B, T, H, D) by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """(length, length), true where the row's position may see the column's."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def windowed(length: int, window: int, device: torch.device) -> Callable[..., torch.Tensor]:
    """Attention over a window by FlexAttention, which skips the blocks outside it: (q, k, v) -> y, rows of `length`."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # a second to import

    def visible(b: Any, h: Any, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return (i >= j) & (i - j < window)

    mask = create_block_mask(visible, None, None, length, length, device=device)
    return functools.partial(flex_attention, block_mask=mask)


class Attention(nn.Module):
    """Causal self-attention over a window, with an optional value embedding mixed into the values."""

    def __init__(self, config: Config, block: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.window = config.heads, config.head_dim, config.window(block)
        inner = self.heads * self.head_dim
        self.qkv = nn.Parameter(torch.empty(3, inner, config.width))  # queries, keys, values
        self.out = nn.Linear(inner, config.width, bias=False)
        self.gate_width = min(32, config.width)
        self.gate = nn.Linear(self.gate_width, config.heads, bias=False) if config.has_value_embed(block) else None
        self.windowed: Callable[..., torch.Tensor] | None = None  # set where FlexAttention is compiled

    def forward(
        self, x: torch.Tensor, extra: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """x (B, T, C), extra (B, T, heads * head_dim) or None -> (B, T, C)."""
        rows, length, _ = x.shape
        qkv = F.linear(x, self.qkv.flatten(0, 1))
        q, k, v = qkv.view(rows, length, 3, self.heads, self.head_dim).unbind(2)
        if extra is not None and self.gate is not None:
            gate = 2 * torch.sigmoid(self.gate(x[..., : self.gate_width]))
            v = v + gate[..., None] * extra.view(rows, length, self.heads, self.head_dim)
        q, k = rms_norm(rotate(q, cos, sin)), rms_norm(rotate(k, cos, sin))
        q, k, v = (z.transpose(1, 2).to(qkv.dtype) for z in (q, k, v))
        if self.window >= length:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif self.windowed is not None:
            y = self.windowed(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: torch.Tensor = self.out(y.transpose(1, 2).reshape(rows, length, -1))
        return result


class MLP(nn.Module):
    """Two matrices around a squared ReLU."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden = int(config.mlp_ratio * config.width)
        self.up = nn.Linear(config.width, hidden, bias=False)
        self.down = nn.Linear(hidden, config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.down(F.relu(self.up(x)).square())
        return result


class Block(nn.Module):
    def __init__(self, config: Config, block: int) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(config, block), MLP(config)

    def forward(
        self, x: torch.Tensor, extra: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        x = x + self.attention(rms_norm(x), extra, cos, sin, mask)
        return x + self.mlp(rms_norm(x))


class GPT(nn.Module):
    """tokens (B, T) -> logits (B, T, V)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        inner = config.heads * config.head_dim
        with_values = [i for i in range(config.depth) if config.has_value_embed(i)]
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(config.vocab, inner) for i in with_values})
        self.blocks = nn.ModuleList([Block(config, i) for i in range(config.depth)])
        self.keep = nn.Parameter(torch.ones(config.depth))  # how much of the stream enters each block ...
        self.recall = nn.Parameter(torch.full((config.depth,), X0_SCALE))  # ... and how much of the embedding
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        cos, sin = rotary_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Embeddings wide, input matrices uniform, output matrices zero: each block starts as the identity."""
        bound = MATRIX_SCALE * math.sqrt(3 / self.config.width)
        nn.init.normal_(self.embed.weight, std=EMBED_STD)
        nn.init.normal_(self.head.weight, std=HEAD_STD)
        for table in self.value_embeds.values():
            nn.init.uniform_(table.weight, -bound, bound)
        for block in self.blocks:
            nn.init.uniform_(block.attention.qkv, -bound, bound)
            nn.init.uniform_(block.mlp.up.weight, -bound, bound)
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.mlp.down.weight)
            if block.attention.gate is not None:
                nn.init.zeros_(block.attention.gate.weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.size(1)
        cos, sin = self.cos[:length], self.sin[:length]
        x = first = rms_norm(self.embed(tokens))
        for i, block in enumerate(self.blocks):
            x = self.keep[i] * x + self.recall[i] * first
            extra = self.value_embeds[str(i)](tokens) if self.config.has_value_embed(i) else None
            mask = window_mask(length, self.config.window(i), tokens.device)
            x = block(x, extra, cos, sin, mask)
        logits: torch.Tensor = self.head(rms_norm(x))
        if self.config.softcap > 0:
            logits = self.config.softcap * torch.tanh(logits.float() / self.config.softcap)
        return logits


# =================================================================================================
# Act 3. The optimiser. Muon for the matrices inside the blocks, AdamW for everything else.
# =================================================================================================


def orthogonalise(update: torch.Tensor, steps: int) -> torch.Tensor:
    """Replace the singular values of each (..., M, N) matrix by about 1: a quintic Newton-Schulz iteration.

    Runs in float32 on the CPU and in bfloat16 on CUDA, where it is the faster of the two.
    """
    x = update.to(torch.bfloat16 if update.is_cuda else torch.float32)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(update.dtype)


class Muon:
    """Momentum, orthogonalised; (M, N) matrices, or stacks of them, of one shape are stepped together."""

    def __init__(self, matrices: list[torch.Tensor], peak: float, decay: float) -> None:
        self.peak, self.decay = peak, decay  # learning rate at the schedule's top; weight decay a unit of it
        shapes = sorted({tuple(m.shape[-2:]) for m in matrices})
        self.groups = [[m for m in matrices if tuple(m.shape[-2:]) == shape] for shape in shapes]
        self.momenta = [torch.zeros_like(torch.cat([m.view(-1, *m.shape[-2:]) for m in g])) for g in self.groups]

    @torch.no_grad()
    def step(self, scale: float, momentum: float) -> None:
        """`scale` is the schedule's multiplier, 0 to 1."""
        for group, average in zip(self.groups, self.momenta, strict=True):
            gradient = torch.cat([m.grad.view(-1, *m.shape[-2:]) for m in group])
            average.lerp_(gradient, 1 - momentum)
            update = orthogonalise(gradient.lerp_(average, momentum), NEWTON_SCHULZ_STEPS)
            rate = self.peak * scale * max(1.0, update.size(-2) / update.size(-1)) ** 0.5
            torch._foreach_mul_(group, 1 - self.peak * scale * scale * self.decay)
            updates = update.split([m.shape[:-2].numel() for m in group])
            torch._foreach_add_(group, [u.view_as(m) for u, m in zip(updates, group, strict=True)], alpha=-rate)


class AdamW:
    """Adam with decoupled weight decay. Written out, because making torch's own costs each run a second of imports."""

    def __init__(self, groups: list[tuple[list[nn.Parameter], float, float]]) -> None:
        self.groups = [group for group in groups if group[0]]  # parameters, peak learning rate, weight decay
        self.means = [[torch.zeros_like(p) for p in parameters] for parameters, _, _ in self.groups]
        self.squares = [[torch.zeros_like(p) for p in parameters] for parameters, _, _ in self.groups]
        self.steps = 0

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """`scale` is the schedule's multiplier, 0 to 1."""
        self.steps += 1
        fast, slow = ADAM_BETAS
        for (parameters, peak, decay), mean, square in zip(self.groups, self.means, self.squares, strict=True):
            gradients = [p.grad for p in parameters]
            torch._foreach_lerp_(mean, gradients, 1 - fast)
            torch._foreach_mul_(square, slow)
            torch._foreach_addcmul_(square, gradients, gradients, 1 - slow)
            size = torch._foreach_sqrt(square)
            torch._foreach_div_(size, (1 - slow**self.steps) ** 0.5)
            torch._foreach_add_(size, ADAM_EPS)
            torch._foreach_mul_(parameters, 1 - peak * scale * decay)
            torch._foreach_addcdiv_(parameters, mean, size, -peak * scale / (1 - fast**self.steps))


class Optimiser:
    """Muon and AdamW behind one step()."""

    def __init__(self, model: nn.Module, rates: dict[str, float]) -> None:
        named = dict(model.named_parameters())
        embeds = [p for n, p in named.items() if n.startswith(("embed.", "value_embeds."))]
        heads = [p for n, p in named.items() if n.startswith("head.")]
        matrices = [p for n, p in named.items() if n.startswith("blocks.") and p.ndim >= 2 and "gate" not in n]
        taken = {id(p) for p in embeds + heads + matrices}
        scalars = [p for p in named.values() if id(p) not in taken]
        self.muon = Muon(matrices, rates["matrix"], rates["decay"])
        self.adam = AdamW(
            [(embeds, rates["embed"], EMBED_DECAY), (heads, rates["head"], 0.0), (scalars, rates["scalar"], 0.0)]
        )

    def step(self, scale: float, momentum: float) -> None:
        self.adam.step(scale)
        self.muon.step(scale, momentum)


# =================================================================================================
# Act 4. The schedule. Everything is a function of progress, the share of the budget used (0 to 1).
# =================================================================================================


def rate_at(progress: float) -> float:
    """Multiplier of every learning rate: up over WARMUP, level, down over WARMDOWN to FINAL_LR at exactly 1."""
    if progress < WARMUP:
        return max(progress, 0.01) / WARMUP
    if progress <= 1 - WARMDOWN:
        return 1.0
    left = (1 - progress) / WARMDOWN
    return left + (1 - left) * FINAL_LR


def momentum_at(progress: float, end: float) -> float:
    """Muon's momentum: from MOMENTUM_START up to `end` over MOMENTUM_WARMUP."""
    warm = min(1.0, progress / MOMENTUM_WARMUP) if MOMENTUM_WARMUP > 0 else 1.0
    return MOMENTUM_START + warm * (end - MOMENTUM_START)


# =================================================================================================
# Act 5. The data. Rows of context + 1 tokens, every row once an epoch, in an order drawn from the seed.
# =================================================================================================


class Loader:
    """Endless batches (inputs, targets), each (rows, context) int64, from a flat array of tokens."""

    def __init__(self, tokens: np.ndarray[Any, np.dtype[np.uint16]], rows: int, context: int, seed: int) -> None:
        self.tokens, self.rows, self.context = tokens, rows, context
        self.random = np.random.default_rng(seed)
        self.columns = np.arange(context + 1)
        self.order = np.empty(0, dtype=np.int64)
        if len(tokens) < 2 * context + 2:
            raise ValueError(f"{len(tokens)} tokens are too few for rows of {context}")

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor]:
        while len(self.order) < self.rows:  # a new epoch starts at a new offset, so rows are cut elsewhere
            offset = self.random.integers(self.context)
            starts = np.arange(offset, len(self.tokens) - self.context - 1, self.context)
            self.order = np.concatenate([self.order, self.random.permutation(starts)])
        starts, self.order = self.order[: self.rows], self.order[self.rows :]
        batch = torch.from_numpy(self.tokens[starts[:, None] + self.columns].astype(np.int64))
        return batch[:, :-1], batch[:, 1:]


# =================================================================================================
# Act 6. The machine. Which device, which number format, whether compiling works: found out, never assumed.
# =================================================================================================


@dataclass(frozen=True)
class Machine:
    device: torch.device
    dtype: torch.dtype  # of the matrix products; the weights stay float32
    compiled: bool

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def setting(self, name: str) -> Any:
        """The setting of this device: NAME_CPU or NAME_CUDA."""
        return globals()[f"{name}_{'CUDA' if self.cuda else 'CPU'}"]

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def find_machine(wanted: str | None) -> Machine:
    """The device asked for if it is there, else what is; float32 unless bfloat16 proves faster in a 50 ms probe."""
    cuda = wanted != "cpu" and torch.cuda.is_available()
    if wanted == "cuda" and not cuda:
        print("note: cuda was asked for and is not there: training on the cpu with its settings")
    if not cuda:
        torch.set_num_threads(1)  # two runs of one thread beat one run of two
        keep_freed_memory()
        return Machine(torch.device("cpu"), faster_dtype(torch.device("cpu")), compiled=False)
    torch.set_float32_matmul_precision("high")
    return Machine(torch.device("cuda"), faster_dtype(torch.device("cuda")), compiled=can_compile())


def keep_freed_memory() -> None:
    """Have glibc reuse large blocks: mapped anew for every big tensor, their pages cost a fifth of a step."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):  # another C library: slower, not wrong
        pass


def faster_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 when a product of 256x256 matrices takes less than 0.7 of float32's time, else float32."""
    times: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        best, x = math.inf, torch.ones(256, 256, device=device, dtype=dtype)
        for _ in range(5):
            start = time.perf_counter()
            (x @ x).sum().item()
            best = min(best, time.perf_counter() - start)
        times[dtype] = best
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if times[torch.bfloat16] < 0.7 * times[torch.float32] else torch.float32


def can_compile() -> bool:
    """Whether torch.compile works here: it needs triton and a C compiler, which a bare machine may lack."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device="cuda"))
        return True
    except Exception as error:  # whatever it is, training without it is the answer
        print(f"note: torch.compile does not work here ({type(error).__name__}); training without it")
        return False


# =================================================================================================
# Act 7. The run.
# =================================================================================================


def configure(machine: Machine, vocab: int) -> Config:
    head_dim = machine.setting("HEAD_DIM")
    if head_dim % 2:
        raise SystemExit(f"HEAD_DIM {head_dim} must be even: rotary embeddings turn pairs of channels")
    return Config(
        vocab=vocab, context=machine.setting("CONTEXT"), depth=machine.setting("DEPTH"), width=machine.setting("WIDTH"),
        head_dim=head_dim, mlp_ratio=MLP_RATIO, window_pattern=WINDOW_PATTERN, short_window=SHORT_WINDOW,
        value_embed_every=machine.setting("VALUE_EMBED_EVERY"), rope_base=machine.setting("ROPE_BASE"),
        softcap=machine.setting("SOFTCAP"),
    )


class InPlaceCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy whose gradient overwrites the softmax: saves an eighth of a step on the CPU."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """logits (N, V), targets (N,) -> nats a token, a scalar."""
        ctx.softmax, ctx.targets = logits.softmax(-1), targets
        return -ctx.softmax.gather(1, targets[:, None]).clamp_min(1e-38).log().mean()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        scale = grads[0] / len(ctx.targets)
        gradient = ctx.softmax.mul_(scale)
        gradient[torch.arange(len(ctx.targets)), ctx.targets] -= scale
        return gradient, None


class Trainer:
    """Model, optimiser and one step of both."""

    def __init__(self, machine: Machine, config: Config) -> None:
        self.machine, self.config = machine, config
        self.model = build_model(asdict(config)).to(machine.device)
        for i, block in enumerate(self.model.blocks if machine.compiled else ()):
            block.attention.windowed = windowed(config.context, config.window(i), machine.device)
        rates = {name: machine.setting(f"{name.upper()}_LR") for name in ("matrix", "embed", "head")}
        rates |= {"scalar": SCALAR_LR, "decay": machine.setting("MATRIX_DECAY")}
        self.optimiser = Optimiser(self.model, rates)
        self.loss = torch.compile(self.plain_loss, dynamic=False) if machine.compiled else self.plain_loss
        tokens = machine.setting("BATCH_TOKENS")
        micro = min(tokens, MICRO_TOKENS_CUDA) if machine.cuda else tokens
        self.rows = max(1, micro // config.context)
        self.micro_steps = max(1, tokens // micro)

    @property
    def tokens_a_step(self) -> int:
        return self.rows * self.config.context * self.micro_steps

    def plain_loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats a token."""
        with self.machine.autocast():
            logits = self.model(inputs).float().flatten(0, 1)
        if self.machine.cuda:
            return F.cross_entropy(logits, targets.flatten())
        return InPlaceCrossEntropy.apply(logits, targets.flatten())

    def step(self, batches: Any, progress: float) -> torch.Tensor:
        """One optimiser step on `micro_steps` batches; returns the loss, not yet waited for."""
        total = torch.zeros((), device=self.machine.device)
        for _ in range(self.micro_steps):
            inputs, targets = (part.to(self.machine.device, non_blocking=True) for part in batches())
            loss = self.loss(inputs, targets) / self.micro_steps
            loss.backward()
            total += loss.detach()
        if GRAD_CLIP > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRAD_CLIP)
        self.optimiser.step(rate_at(progress), momentum_at(progress, self.machine.setting("MOMENTUM")))
        self.model.zero_grad(set_to_none=True)
        return total

    def rehearse(self) -> None:
        """Everything a step needs, once, on random tokens, before the clock starts: compilation, kernels, memory."""
        shape = (self.rows, self.config.context + 1)
        batch = torch.randint(self.config.vocab, shape, device=self.machine.device)
        self.loss(batch[:, :-1], batch[:, 1:]).backward()
        self.model.zero_grad(set_to_none=True)
        if self.machine.cuda:
            orthogonalise(torch.ones(2, 64, 64, device=self.machine.device), NEWTON_SCHULZ_STEPS)
        self.machine.wait()


def smoke(machine: Machine, run: harness.Run) -> None:
    """Two steps on random tokens at the real size of the model: does it build, learn and stay finite?"""
    torch.manual_seed(run.seed)
    trainer = Trainer(machine, configure(machine, run.vocab))
    data = np.random.default_rng(run.seed).integers(run.vocab, size=65_536).astype(np.uint16)
    loader = Loader(data, trainer.rows, trainer.config.context, run.seed)
    losses = [float(trainer.step(loader, progress)) for progress in (0.0, 0.5)]
    if not all(map(math.isfinite, losses)):
        raise SystemExit(f"smoke: the loss is not finite: {losses}")
    print(f"smoke: two steps done, loss {losses[0]:.4f} then {losses[1]:.4f}, ln V = {math.log(run.vocab):.4f}")


def train(machine: Machine, run: harness.Run) -> None:
    torch.manual_seed(run.seed)
    started = time.monotonic()
    trainer = Trainer(machine, configure(machine, run.vocab))
    params = sum(p.numel() for p in trainer.model.parameters())
    trainer.rehearse()
    clock, view = run.ready(params)

    loader = Loader(np.frombuffer(view, dtype="<u2"), trainer.rows, trainer.config.context, run.seed)
    startup, step, smooth, printed, slowest = time.monotonic() - started, 0, math.nan, -math.inf, 0.0
    while not clock.over(step):
        begun = clock.elapsed()
        loss = trainer.step(loader, clock.progress(step))
        machine.wait()  # or the clock would run ahead of the device
        step += 1
        if clock.elapsed() - printed >= LOG_SECONDS or clock.over(step):
            value, printed = float(loss), clock.elapsed()
            if not math.isfinite(value):
                raise SystemExit(f"step {step:05d} | loss {value} | training has diverged")
            smooth = value if math.isnan(smooth) else 0.8 * smooth + 0.2 * value
            speed = step * trainer.tokens_a_step / max(printed, 1e-9)
            print(
                f"step {step:05d} | loss {value:.4f} | smooth {smooth:.4f} | lr {rate_at(clock.progress(step)):.3f}"
                f" | {100 * clock.progress(step):5.1f}% | {speed:,.0f} tok/s", flush=True,
            )
        slowest = max(slowest, clock.elapsed() - begun)
    trained, tokens = clock.elapsed(), step * trainer.tokens_a_step
    run.done(step, tokens, packed(trainer.model), asdict(trainer.config))

    memory = torch.cuda.max_memory_allocated() / 2**20 if machine.cuda else peak_memory_mb()
    print("---")
    print(f"loss:          {smooth:.4f} nats a token, smoothed, on training text")
    print(f"steps:         {step:,} of {trainer.tokens_a_step:,} tokens; slowest {1000 * slowest:.0f} ms")
    print(f"tokens:        {tokens:,} ({tokens / trained:,.0f} a second)")
    print(f"parameters:    {params:,}")
    print(f"seconds:       {trained:.1f} training after {startup:.1f} of preparation")
    print(f"memory:        {memory:,.0f} MB at the peak")
    mode = "compiled" if machine.compiled else "eager"
    print(f"machine:       {machine.device.type}, {str(machine.dtype)[6:]}, {mode}")


def packed(model: nn.Module) -> bytes:
    """The weights as the content of a safetensors file; a tensor with two names is saved under both."""
    values = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    return save({name: value.clone(memory_format=torch.contiguous_format) for name, value in values.items()})


def peak_memory_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
    except (harness.HandoverError, PrepareError) as error:
        print(f"error: {error}\n mend: {getattr(error, 'mend', 'run it again')}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
