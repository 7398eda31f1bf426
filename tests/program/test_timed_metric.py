"""Which metrics are a time or a speed."""

from __future__ import annotations

import pytest

from core.program.timed_metric import timed, timed_unit

TIMES = [
    "seconds", "ms", "Time", "mean_time", "time_ms", "time_mean", "wall_time", "cpu_time", "stepTime", "epoch_time",
    "elapsed_seconds", "latency", "latency_p99", "p99_latency_ms", "tok/s", "tokens_per_second", "rounds/s",
    "images/sec", "it/s", "ops", "ops/s", "ns/op", "ns_per_op", "us_per_call", "MB/s", "throughput", "fps", "qps",
    "tps", "tokps", "speed", "speedup", "duration", "runtime", "time_per_step", "ms_per_step", "steps_per_second",
    "time_to_accuracy", "wall_s", "median_us", "mfu", "tflops", "iterPerSec",
]  # fmt: skip
OTHERS = [
    "loss", "val_loss", "val_loss_time", "timestep", "timesteps", "time_steps", "time_series", "time_series_loss",
    "time_mse", "accuracy", "f1", "percent", "s", "acc_after_60_seconds", "ms_ssim", "ms_marco_mrr", "learning_rate",
    "error_rate", "lifetime", "timeouts", "n_ops", "num_ops", "ops_count", "count", "bytes", "size", "memory_mb",
    "MB", "lines", "tests_passed", "seconds_survived", "survival_time", "minimum", "status", "steps", "tokens",
    "one_time_cost", "cost_per_user", "reward_per_step",
]  # fmt: skip


def test_a_time_or_a_speed_is_known_by_its_name() -> None:
    assert [name for name in TIMES if not timed(name)] == []
    assert [name for name in OTHERS if timed(name)] == []


@pytest.mark.parametrize(
    ("pattern", "known"),
    [
        (r"mean: ([\d.]+) ms", True), (r"took (\S+)s$", True), (r"(\d+\.\d+)\s*tok/s", True), (r"elapsed: (.+)", True),
        (r"time \(ms\): (\S+)", True), (r"ns/iter: (\S+)", True), (r"^(\S+) samples", False), (r"acc: (\S+)%", False),
        (r"^val_loss:\s*(\S+)", False), (r"iter \d+: loss ([\d.]+), time", False), (r"size: (\d+) bytes", False),
    ],
)  # fmt: skip
def test_the_words_and_the_unit_beside_the_number_tell_it_too(pattern: str, *, known: bool) -> None:
    assert timed("x", pattern) is known


def test_the_printed_unit_tells_it() -> None:
    assert all(map(timed_unit, ("980.3 ms", "3:25", "1m20s", "1204 tok/s", "1 204 ms", "1.20 s/it", "25 fps")))
    assert all(map(timed_unit, ("3 min", "3 minutes", "980ms,", "1.2e+03 s", "−3 h")))
    assert not any(map(timed_unit, ("0.43", "93.5%", "1.2 M", "1.5 GiB", "3 steps", "12 /50", "1,204")))
