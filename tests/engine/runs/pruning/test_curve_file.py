"""The reader of a run's curve: torn, huge, foreign and backward files are read as far as they are a curve."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.engine.runs.pruning.curve_file import MAX_BYTES, points
from core.record.budget import RunBudget
from core.stats import prune

SECONDS, STEPS = RunBudget(seconds=10.0), RunBudget(steps=40)


def _written(folder: Path, text: str | bytes) -> Path:
    path = folder / "curve.tsv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_shares_are_those_of_the_budget(tmp_path: Path) -> None:
    path = _written(tmp_path, "1.000\t4\t3.5\n2.500\t10\t3.0\n")
    assert points(path, SECONDS) == [(0.1, 3.5), (0.25, 3.0)]
    assert points(path, STEPS) == [(0.1, 3.5), (0.25, 3.0)]
    assert points(path, SECONDS, cut=5.0) == [(0.2, 3.5), (0.5, 3.0)], "a clock that was cut short"
    assert points(path, SECONDS, cut=10.0) == [], "no time, no share"


def test_a_torn_last_line_waits_for_its_end(tmp_path: Path) -> None:
    whole = "1.000\t4\t3.5\n2.500\t10\t3.0\n"
    for length in range(len(whole)):
        found = points(_written(tmp_path, whole[:length]), SECONDS)
        assert found == [(0.1, 3.5)][: whole[:length].count("\n")], whole[:length]


def test_torn_and_foreign_lines_between_are_left_out(tmp_path: Path) -> None:
    odd = [
        "",
        "\t\t",
        "1.1\t5",
        "1.1\t5\t3.4\t9",
        "x\t5\t3.4",
        "1.1\tfive\t3.4",
        "1.1\t5\tloss",
        "1.1\t5.5\t3.4",
        "\x00\ufeff",
    ]
    path = _written(tmp_path, "1.000\t4\t3.5\n" + "\n".join(odd) + "\n2.500\t10\t3.0\n")
    assert points(path, SECONDS) == [(0.1, 3.5), (0.25, 3.0)]
    assert points(_written(tmp_path, os.urandom(4096) + b"\n1.000\t4\t3.5\n"), SECONDS)[-1:] == [(0.1, 3.5)]


@pytest.mark.parametrize("budget", [SECONDS, STEPS])
def test_numbers_out_of_all_bounds_are_no_points_of_a_profile(tmp_path: Path, budget: RunBudget) -> None:
    long = "9" * 400  # a float cannot hold it
    lines = ["nan\t1\t9.0", "inf\t2\t9.0", f"1.0\t{long}\t9.0", f"1.0\t-{long}\t9.0", "1.0\t-4\t9.0", "-1e308\t5\t9.0",
             "1.0\t6\tnan", "1.0\t7\tinf", "1.0\t8\t1e300"]  # fmt: skip
    path = _written(tmp_path, "\n".join(lines) + "\n")
    found = prune.profile(points(path, budget))
    assert all(y is None for k, y in enumerate(found) if k > 9), found
    honest = "".join(f"{k / 4:.3f}\t{k}\t3.0\n" for k in range(1, 41))
    path = _written(tmp_path, "\n".join(lines) + "\n" + honest)
    late = prune.profile(points(path, budget))[20:38]
    assert late == (3.0,) * 18, "what follows is a curve all the same"


def test_time_that_goes_back_starts_the_curve_anew(tmp_path: Path) -> None:
    """The harness's own clock goes back only where it started again; a step that goes back is the run's own word."""
    path = _written(tmp_path, "1.0\t4\t9.0\n8.0\t32\t9.0\n0.5\t2\t4.0\n1.0\t4\t3.5\n")
    assert points(path, SECONDS) == [(0.05, 4.0), (0.1, 3.5)]
    back = _written(tmp_path, "".join(f"{k / 4}\t{41 - k}\t3.0\n" for k in range(1, 41)))
    assert len(points(back, STEPS)) == 40
    assert sum(y is not None for y in prune.profile(points(back, STEPS))) == 1, "only its first point counts"


def test_a_huge_file_costs_no_more_than_its_bound(tmp_path: Path) -> None:
    path = _written(tmp_path, b"1.000\t4\t3.5\n")
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a sparse terabyte of zeros
    assert points(path, SECONDS) == [(0.1, 3.5)]
    line = b"1.000\t4\t3.5\n"
    many = points(_written(tmp_path, line * (2 * MAX_BYTES // len(line))), SECONDS)
    assert len(many) == MAX_BYTES // len(line)


def test_what_cannot_be_read_is_no_curve(tmp_path: Path) -> None:
    assert points(tmp_path / "none", SECONDS) == []
    assert points(tmp_path, SECONDS) == [], "a folder"
    assert points(_written(tmp_path, b""), SECONDS) == []
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert points(tmp_path / "loop", SECONDS) == []
