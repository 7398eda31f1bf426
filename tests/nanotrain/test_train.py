"""The training code: its parts, and whole runs without a harness."""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanotrain import train
from nanotrain.device.counts import operations_per_token
from nanotrain.device.machine import CPU, Machine
from nanotrain.device.shapes import ImaginedCard, imagined_card
from nanotrain.device.usage import compiles, device_line
from nanotrain.device.warmup import EAGER, FLEX, limit_step, warm_up
from tests.nanotrain import worlds

MACHINE = Machine(CPU, torch.float32, compiled=False)
USED = r"device: compiles \d+ before the clock, \d+ on it; peak \d+\.\d GB of \d+\.\d; \d+\.\d\d[kM] tokens/s"


@pytest.mark.parametrize("own", [None, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_a_setting_of_cudas_allocator_is_kept_under_either_name(own: str | None, monkeypatch: Any) -> None:
    names = {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}
    for name in names:
        monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv(own, "max_split_size_mb:64")
    before_torch = Path(train.__file__).read_text().partition("\nimport numpy")[0]
    exec(before_torch, {"__name__": "beginning"})
    set_now = {name: os.environ[name] for name in names & os.environ.keys()}
    assert set_now == ({own: "max_split_size_mb:64"} if own else dict.fromkeys(names, "expandable_segments:True"))


def random_model(config: train.GPTConfig) -> train.GPT:
    torch.manual_seed(3)
    model = train.build_model(asdict(config))
    assert isinstance(model, train.GPT)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.3)
    return model.eval()


@pytest.mark.parametrize(("pattern", "width"), [("L", 32), ("SL", 40), ("SSSL", 4)])
def test_the_model_is_causal_and_rows_are_independent(pattern: str, width: int) -> None:
    model = random_model(
        train.GPTConfig(vocab_size=97, sequence_len=32, n_layer=4, n_embd=width, head_dim=8, window_pattern=pattern)
    )
    tokens = torch.randint(97, (4, 32))
    other = tokens.clone()
    other[:, 20:] = torch.randint(97, (4, 12))
    with torch.inference_mode():
        before, after = model(tokens), model(other)
        assert torch.allclose(before[:, :20], after[:, :20], atol=1e-5)
        assert not torch.allclose(before[:, 20:], after[:, 20:], atol=1e-2)
        assert torch.allclose(model(tokens[1:2]), before[1:2], atol=1e-4)
        assert torch.allclose(model(tokens[:, :7]), before[:, :7], atol=1e-4)
    assert before.shape == (4, 32, 97)


def test_a_short_window_masks_earlier_tokens() -> None:
    mask = train.window_mask(6, 3, torch.device("cpu"))
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
    ]


def test_flex_attention_agrees_with_masked_attention() -> None:
    config = train.GPTConfig(
        vocab_size=50, sequence_len=128, n_layer=2, n_embd=32, head_dim=16, window_pattern="S", short_window=0.3
    )
    model = random_model(config)
    tokens = torch.randint(50, (2, 128))
    with torch.inference_mode():
        masked = model(tokens)
        first = model.blocks[0]
        assert isinstance(first, train.Block)
        first.attn.flex_attention = train.flex_window_attention(128, config.window(0), torch.device("cpu"))
        assert torch.allclose(model(tokens), masked, atol=1e-4)


def test_rotary_embeddings_depend_on_distance_only() -> None:
    config = train.GPTConfig(vocab_size=8, sequence_len=16, n_layer=1, n_embd=8, head_dim=8)
    cos, sin = train.precompute_rotary_embeddings(config)
    q, k = torch.randn(8).expand(1, 16, 1, 8), torch.randn(8).expand(1, 16, 1, 8)
    scores = torch.einsum("bihd,bjhd->ij", train.apply_rotary_emb(q, cos, sin), train.apply_rotary_emb(k, cos, sin))
    for distance in (0, 1, 5):
        line = torch.diagonal(scores, offset=-distance)
        assert torch.allclose(line, line[0].expand_as(line), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 256, 64), (3, 64, 192)])
def test_newton_schulz_makes_the_singular_values_about_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(train.zeropower_via_newtonschulz5(torch.randn(shape), 5))
    assert values.max() < 1.4
    assert (values > 0.5).float().mean() > 0.9, "all but the smallest are about 1"


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 256, 64), (3, 64, 192)])
def test_the_polar_express_brings_singular_values_nearer_to_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    found = [
        torch.linalg.svdvals(train.zeropower_via_newtonschulz5(torch.randn(shape), 4, polar)) for polar in (False, True)
    ]
    plain, polar = ((values - 1).abs().mean() for values in found)
    assert polar < 0.7 * plain and found[1].max() < 1.2


@pytest.mark.parametrize("shape", [(40, 8), (8, 40), (3, 16, 16)])
def test_muon_scales_the_longer_side_to_one_size_and_keeps_the_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    changes = []
    for beta2 in (0.0, 0.95):
        weight = torch.nn.Parameter(torch.zeros(shape))
        muon = train.Muon([weight], {"matrix": 0.1, "decay": 0.0, "beta2": beta2})
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        muon.step(1.0, 0.9)
        changes.append(weight.detach())
    plain, scaled = changes
    sizes = scaled.square().mean(-1 if shape[-2] >= shape[-1] else -2).flatten()
    assert torch.allclose(plain.norm(dim=(-2, -1)), scaled.norm(dim=(-2, -1)), rtol=1e-4)
    assert sizes.std() < 1e-3 * sizes.mean() or len(shape) == 3
    weight = torch.nn.Parameter(torch.zeros(shape))  # no gradient yet, as behind an output that is zero
    muon = train.Muon([weight], {"matrix": 0.1, "decay": 0.2, "beta2": 0.95})
    weight.grad = torch.zeros(shape)
    muon.step(1.0, 0.9)
    assert not weight.any()


def test_decay_touches_only_weights_that_the_update_makes_smaller() -> None:
    torch.manual_seed(0)
    ends = []
    for decay in (0.0, 0.5):
        weight = torch.nn.Parameter(torch.randn(16, 16, generator=torch.Generator().manual_seed(2)))
        before = weight.detach().clone()
        muon = train.Muon([weight], {"matrix": 0.1, "decay": decay})
        weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
        muon.step(1.0, 0.9)
        ends.append(weight.detach())
    smaller = (ends[0] - before) * before < 0
    assert torch.equal(ends[0][~smaller], ends[1][~smaller])
    assert torch.allclose((ends[0] - ends[1])[smaller], 0.1 * 0.5 * before[smaller], atol=1e-6)


def test_the_in_place_cross_entropy_equals_that_of_torch() -> None:
    logits, targets = (10 * torch.randn(30, 50)).requires_grad_(), torch.randint(50, (30,))
    expected = torch.nn.functional.cross_entropy(logits, targets)
    (gradient,) = torch.autograd.grad(3 * expected, logits)
    found = train.InPlaceCrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(torch.autograd.grad(3 * found, logits)[0], gradient, atol=1e-6)


def test_every_parameter_is_optimized_once_and_changes() -> None:
    trainer = train.Trainer(MACHINE, worlds.SMALL)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    loader = train.TokenLoader(np.arange(20_000).astype(np.uint16) % 1024, 4, 64, 1)
    for _ in range(3):  # output matrices start at zero, so some gradients come with the second step
        trainer.step(loader, 0.1)
    unchanged = [name for name, value in trainer.model.named_parameters() if torch.equal(value, before[name])]
    assert unchanged == []
    adam = [p for parameters, _, _ in trainer.optimizer.adamw.groups for p in parameters]
    muon = [p for group in trainer.optimizer.muon.groups for p in group]
    assert len({id(p) for p in adam + muon}) == len(adam + muon) == len(before)


def test_the_schedule_reaches_its_end_exactly_at_the_budget() -> None:
    rates = [train.get_lr_multiplier(i / 1000, 0.4) for i in range(1001)]
    assert rates[-1] == train.FINAL_LR and max(rates) == 1.0 and all(0 <= rate <= 1 for rate in rates)
    falling = [rate for i, rate in enumerate(rates) if i / 1000 > 1 - 0.4]
    assert falling == sorted(falling, reverse=True)
    assert train.get_muon_momentum(0.0, 0.95) == train.MOMENTUM_START and train.get_muon_momentum(1.0, 0.95) == 0.95


def test_the_loader_yields_each_row_once_per_epoch_in_seed_order() -> None:
    tokens = np.arange(10_000).astype(np.uint16)
    loader = train.TokenLoader(tokens, 8, 32, seed=5)
    firsts = [int(row) for _ in range(38) for row in loader()[0][:, 0]]
    assert len(set(firsts)) == len(firsts) == 304
    inputs, targets = train.TokenLoader(tokens, 8, 32, seed=5)()
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(inputs, train.TokenLoader(tokens, 8, 32, seed=5)()[0])
    assert not torch.equal(inputs, train.TokenLoader(tokens, 8, 32, seed=6)()[0])
    with pytest.raises(ValueError, match="too few"):
        train.TokenLoader(tokens[:40], 8, 32, seed=5)


def test_a_saved_config_with_unknown_keys_rebuilds() -> None:
    assert isinstance(train.build_model(asdict(worlds.SMALL) | {"data": "abc"}), torch.nn.Module)


def test_settings_are_plain_assignments_with_a_comment() -> None:
    """The control researcher parses the assignments; a person reads the comments."""
    import ast

    source = Path(train.__file__).read_text()
    lines = source.splitlines()
    assert 560 <= len(lines) <= 680
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            name = node.targets[0].id
            found[name] = node
            paired = name.endswith("_CUDA") and f"{name[:-5]}_CPU" in source
            assert "#" in lines[node.lineno - 1] or paired, f"{name} has no comment with unit and meaning"
    assert len(found) >= 30
    assert all(isinstance(getattr(train, name), int | float | bool | tuple | str) for name in found)


def test_smoke_takes_two_steps_without_any_data(tmp_path: Path, warm: list[str]) -> None:
    env = {"AUTORESEARCH_HOME": str(tmp_path), "AUTORESEARCH_DEVICE": "cpu"}
    result = worlds.command("nanotrain.train", "--smoke", warm=warm, **env)
    assert result.returncode == 0, result.stderr
    assert "smoke: two steps done" in result.stdout
    assert list(tmp_path.iterdir()) == []


def shape_check(length: int = 2048) -> None:
    with imagined_card() as card:
        trainer = train.Trainer(card, replace(train.configure(card, 8192), sequence_len=length))
        tokens = torch.empty(2, 64, dtype=torch.int64, device="meta")
        trainer.step(lambda: (tokens, tokens), 0.5)


def test_the_settings_of_a_gpu_are_checked_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    shape_check()
    assert capsys.readouterr().out == ""
    with pytest.raises(RuntimeError, match="broadcast") as caught:
        shape_check(48)  # shorter than the rows
    assert "settings of the GPU" in caught.value.__notes__[0]
    with imagined_card() as card:
        float(torch.zeros((), device=card.device))
    assert "cannot be checked without one" in capsys.readouterr().out
    with pytest.raises(KeyError, match="RATE_CUDA"), imagined_card() as card:
        train.setting(card, "RATE")


@pytest.mark.slow
def test_smoke_finds_a_size_that_only_a_gpu_has(tmp_path: Path) -> None:
    broken = ("self.ve_gate_channels = min(32, config.n_embd)", "self.ve_gate_channels = 600 if inner > 500 else 32")
    tree = worlds.worktree(tmp_path / "tree", broken)
    runs_on = {"AUTORESEARCH_DEVICE": "cpu", "AUTORESEARCH_HOME": str(tmp_path)}
    results = [
        worlds.command_in(tree, "nanotrain.train", "--smoke", **runs_on, AUTORESEARCH_RUNS_ON=kind)
        for kind in ("cpu", "cuda")
    ]  # fmt: skip
    assert [result.returncode for result in results] == [0, 1]
    assert "reduction dim" in results[1].stderr and results[1].stderr.rstrip().endswith("whose names end in _CUDA.")


def test_a_run_that_was_given_a_gpu_never_trains_on_the_cpu(tmp_path: Path, warm: list[str]) -> None:
    result = worlds.command(
        "nanotrain.train", "--smoke", warm=warm,
        AUTORESEARCH_HOME=str(tmp_path), AUTORESEARCH_DEVICE="cuda", CUDA_VISIBLE_DEVICES="",
    )  # fmt: skip
    assert result.returncode == 1 and "Traceback" not in result.stderr and result.stdout == ""
    assert "this run was given a GPU" in result.stderr and " hint: nvidia-smi" in result.stderr


class Card(train.Trainer):
    """A trainer whose loader hands over copies, as the move to a card does; it counts what a compiler is given."""

    def __init__(self, config: train.GPTConfig, rows: int, passes: int) -> None:
        super().__init__(MACHINE, config)
        self.rows, self.grad_accum_steps = rows, passes

    def set_kernels(self, kernels: str) -> None:
        self.loss = torch.compile(self.plain_loss, dynamic=False, backend=self.count)

    def count(self, graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        COMPILED.append(graph)
        return graph

    def loader(self, tokens: np.ndarray[Any, np.dtype[np.uint16]], seed: int) -> train.TokenLoader:
        made = super().loader(tokens, seed)
        plain = made.to_device
        made.to_device = lambda rows: plain(rows).to(copy=True)  # type: ignore[method-assign]
        return made


COMPILED: list[torch.fx.GraphModule] = []


def test_nothing_is_compiled_after_the_warm_up_and_nothing_of_it_is_left() -> None:
    torch._dynamo.reset()
    torch.manual_seed(1)
    trainer = Card(worlds.SMALL, rows=4, passes=2)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    COMPILED.clear()
    warm_up(trainer)
    compiled, counted = len(COMPILED), compiles()
    assert compiled > 0
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert trainer.optimizer.adamw.steps == 0 and not any(b.any() for b in trainer.optimizer.muon.momentum_buffers)
    loader = trainer.loader(np.arange(20_000).astype(np.uint16) % 1024, 1)
    for progress in (0.0, 0.2, 0.9):
        trainer.step(loader, progress)
    assert len(COMPILED) == compiled
    assert re.fullmatch(USED, device_line(MACHINE, counted, 1.41e6)) and compiles() == counted > 0


class Random(train.Trainer):
    """An experiment with random numbers, a buffer that is not saved, and an attribute of the trainer's own."""

    def __init__(self, machine: Machine = MACHINE) -> None:
        super().__init__(machine, worlds.SMALL)
        self.rows, self.grad_accum_steps, self.average = 4, 2, [torch.zeros(())]
        self.model.register_buffer("seen", torch.zeros(()), persistent=False)

    def step(self, batches: Any, progress: float) -> torch.Tensor:
        loss = super().step(batches, progress)
        self.average[0] += loss * torch.rand(()) * np.random.random() * random.random()
        self.model.get_buffer("seen").add_(1)
        return loss


def test_a_run_after_the_warm_up_is_the_same_to_the_bit_as_one_without_it() -> None:
    ends = []
    for warm in (False, True):
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(7)
        trainer = Random()
        if warm:
            warm_up(trainer)
        loader = trainer.loader(np.arange(20_000).astype(np.uint16) % 1024, 1)
        for progress in (0.0, 0.5):
            trainer.step(loader, progress)
        ends.append([*trainer.model.parameters(), *trainer.model.buffers(), *trainer.average])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def footprint(trainer: train.Trainer, work: Any) -> tuple[set[tuple[str, str]], int]:
    """The operators and shapes that `work` met, and the bytes that it held at most, beyond what was held before."""
    with torch.profiler.profile(profile_memory=True, record_shapes=True) as profiler:
        work()
    met, held, most = set(), 0, 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda one: one.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
        elif event.name().startswith("aten::"):
            met.add((event.name(), str(event.shapes())))
    return met, most


def test_the_clock_sees_no_new_operator_and_no_new_peak_of_memory() -> None:
    trainer = train.Trainer(MACHINE, worlds.SMALL)
    trainer.rows, trainer.grad_accum_steps = 4, 2
    warmed, before = footprint(trainer, lambda: warm_up(trainer))
    loader = trainer.loader(np.arange(20_000).astype(np.uint16) % 1024, 1)

    def real() -> None:
        for progress in (0.0, 0.2, 0.9):
            trainer.step(loader, progress)

    met, after = footprint(trainer, real)
    assert met - warmed == set() and len(met) > 50
    assert 0 < after <= before


class Released(Machine):
    """A machine that notes what it is told."""

    def release(self) -> None:
        TOLD.append("release")

    def wait(self) -> None:
        TOLD.append("wait")


TOLD: list[str] = []


def test_cached_memory_is_given_back_before_the_run_waits_for_its_data() -> None:
    TOLD.clear()
    warm_up(Random(Released(CPU, torch.float32, compiled=False)))
    assert TOLD == ["wait", "release", "wait"]


def test_full_memory_halves_the_rows_and_keeps_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    for full in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")):
        trainer = Full(full, 8)
        tokens = trainer.tokens_per_step
        warm_up(trainer)
        assert trainer.rows == 8 and trainer.tokens_per_step == tokens and trainer.kernels == EAGER
        assert "8 rows a pass" in capsys.readouterr().out
        with pytest.raises(type(full)):
            warm_up(Full(full, 0))


class Full(train.Trainer):
    """A trainer whose card holds `most` rows."""

    def __init__(self, error: Exception, most: int) -> None:
        super().__init__(MACHINE, worlds.SMALL)
        self.error, self.most = error, most

    def plain_loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if len(inputs) > self.most:
            raise self.error
        return super().plain_loss(inputs, targets)


@pytest.mark.parametrize("rows", [32, 12, 7])
def test_passes_divide_the_batch_and_sum_to_its_gradient(rows: int) -> None:
    """The same rows in the same order; between different numbers of passes only the order of sums differs."""
    gradients, sizes = [], []
    tokens = np.random.default_rng(1).integers(1024, size=20_000).astype(np.uint16)
    for halvings in (0, 0, 1, 2):
        torch.manual_seed(1)
        trainer = train.Trainer(MACHINE, worlds.SMALL)
        trainer.rows = rows
        for _ in range(halvings if rows > 7 else min(1, halvings)):
            trainer.halve_rows()
        loader = trainer.loader(tokens, 1)
        for _ in range(trainer.grad_accum_steps):
            (trainer.loss(*loader()) / trainer.grad_accum_steps).backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad for p in trainer.model.parameters() if p.grad is not None])
        sizes.append((trainer.rows, trainer.tokens_per_step))
    assert {tokens for _, tokens in sizes} == {rows * 64} and sizes[0][0] > sizes[2][0] >= sizes[3][0]
    assert all(torch.equal(a, b) for a, b in zip(gradients[0], gradients[1], strict=True)), "to the bit"
    for split in gradients[2:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients[0], split, strict=True))


@pytest.mark.parametrize(
    ("card", "gb", "dtype", "rows"),
    [
        ("8 GB", 7.5, torch.bfloat16, 4), ("T4", 14.5, torch.float32, 8), ("16 GB", 15.3, torch.bfloat16, 16),
        ("24 GB", 23.3, torch.bfloat16, 16), ("48 GB", 47, torch.bfloat16, 32), ("80 GB", 79, torch.bfloat16, 32),
        ("141 GB", 139, torch.bfloat16, 32), ("full", 0.1, torch.bfloat16, 1), ("2080", 7.5, torch.float32, 4),
    ],
)  # fmt: skip
def test_a_pass_fits_the_free_memory_of_a_card(card: str, gb: float, dtype: torch.dtype, rows: int) -> None:
    machine = SomeCard(torch.device("meta"), dtype, compiled=True, free=int(gb * 2**30))
    with machine.device:
        trainer = train.Trainer(machine, train.configure(machine, 8192))
    assert trainer.rows == rows, card
    assert trainer.tokens_per_step == train.BATCH_TOKENS_CUDA


@dataclass(frozen=True)
class SomeCard(ImaginedCard):
    """An imagined card with so much free memory."""

    free: int = 0

    def free_memory(self) -> int:
        return self.free


def failing(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("out of resource: shared memory\nmore")


class WithoutKernels(train.Trainer):
    """A trainer on a card on which no compiled kernel starts."""

    def __init__(self) -> None:
        super().__init__(MACHINE, worlds.SMALL)
        self.kernels = FLEX

    def set_kernels(self, kernels: str) -> None:
        self.kernels = kernels
        self.loss = self.plain_loss if kernels == EAGER else failing


def test_a_kernel_that_fails_gives_way_to_a_slower_one(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = WithoutKernels()
    warm_up(trainer)
    assert trainer.kernels == EAGER
    first, second = capsys.readouterr().out.splitlines()
    assert "out of resource: shared memory; the run goes on compiled, masked attention" in first
    assert second.endswith("eager (about three times slower, with more memory)")
    trainer.set_kernels = lambda _: failing(*[torch.zeros(())] * 2)  # type: ignore[assignment, method-assign]
    with pytest.raises(RuntimeError, match="shared memory"):
        warm_up(trainer)


@pytest.mark.slow
def test_without_a_compiler_a_run_goes_on_eager(tmp_path: Path) -> None:
    """For real: FlexAttention, then masked attention, are compiled by a compiler that is not there."""
    program = """
import torch
from nanotrain import train
from nanotrain.device.machine import CPU, Machine
from nanotrain.device.warmup import warm_up
from tests.nanotrain import worlds
trainer = train.Trainer(Machine(CPU, torch.float32, compiled=True), worlds.SMALL)
trainer.rows = 2
warm_up(trainer)
print(trainer.kernels)
"""
    (tmp_path / "program.py").write_text(program)
    nowhere = {"CC": "/nowhere/cc", "CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    result = worlds.command("runpy", "program", PYTHONPATH=str(tmp_path), **nowhere)
    assert result.returncode == 0, result.stderr
    first, second, last = result.stdout.splitlines()
    assert first.startswith("note: a kernel does not work here") and "masked attention" in first
    assert second.endswith("eager (about three times slower, with more memory)") and last == "eager"


def test_a_step_lasts_a_hundredth_of_the_budget_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = train.Trainer(MACHINE, worlds.SMALL)
    trainer.grad_accum_steps, trainer.micro_seconds = 8, 1.0
    limit_step(trainer, None)
    assert trainer.grad_accum_steps == 8
    limit_step(trainer, 300.0)
    assert trainer.grad_accum_steps == 2 and "slow for its budget" in capsys.readouterr().out
    limit_step(trainer, 1.0)
    assert trainer.grad_accum_steps == 1


@pytest.mark.slow
def test_the_same_seed_and_steps_give_the_same_bits(home: Path, tmp_path: Path, warm: list[str]) -> None:
    marks = []
    for name, seed, process in (("a", "1", []), ("b", "1", warm), ("c", "2", warm)):
        env = {"AUTORESEARCH_RUN_DIR": str(tmp_path / name), "AUTORESEARCH_SEED": seed, "AUTORESEARCH_DEVICE": "cpu"}
        result = worlds.command("nanotrain.train", "--steps", "12", warm=process, **env)
        assert result.returncode == 0, result.stderr
        assert "steps:         12 of" in result.stdout
        marks.append(hashlib.sha256((tmp_path / name / "weights.safetensors").read_bytes()).hexdigest())
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.slow
def test_training_lowers_the_loss(home: Path, tmp_path: Path, warm: list[str]) -> None:
    result = worlds.command("nanotrain.train", "--steps", "60", warm=warm, AUTORESEARCH_RUN_DIR=str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    summary = next(line for line in result.stdout.splitlines() if line.startswith("loss:"))
    assert float(summary.split()[1]) < math.log(1024) - 1.5
    (used,) = [line for line in result.stdout.splitlines() if line.startswith("device:")]
    assert re.fullmatch(USED, used) and "compiles 0 before the clock, 0 on it" in used


def test_adamw_equals_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(50, 8)), torch.nn.Parameter(torch.randn(7))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    adam = train.AdamW([([ours[0]], 0.3, 0.1), ([], 1.0, 0.0), ([ours[1]], 0.02, 0.0)])
    groups = [
        {"params": [theirs[0]], "lr": 0.15, "weight_decay": 0.1},
        {"params": [theirs[1]], "lr": 0.01, "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, betas=train.ADAM_BETAS, eps=train.ADAM_EPS)
    for _ in range(20):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        adam.step(0.5)
        reference.step()
    assert all(torch.allclose(p, q, rtol=0, atol=1e-6) for p, q in zip(ours, theirs, strict=True))


def test_the_operations_of_a_token_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = replace(worlds.SMALL, window_pattern="L")
    model = random_model(config)
    tokens = torch.zeros(2, config.sequence_len, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    counted = counter.get_total_flops() / tokens.numel()
    attention = 12 * config.n_layer * config.n_head * config.head_dim * (config.sequence_len + 1) / 2
    assert operations_per_token(model, config) - attention == counted  # torch counts no attention on the CPU
