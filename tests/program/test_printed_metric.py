"""Numbers as programs print them: read whole, or refused with what was found and the pattern that works."""

from __future__ import annotations

import pytest

from core.program.printed_metric import read_metric

ANY = r"loss: (\S+)"
DIGITS = r"loss: ([\d.]+)"


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ("0.4321", 0.4321), ("1,204,331", 1204331), ("4.3e-05", 4.3e-5), ("0,4321", 0.4321), ("12_000.5", 12000.5),
        ("1,204", 1204), ("1,204.5", 1204.5), ("1.234,5", 1234.5), ("1.204.331", 1204331), ("12,34,567", 1234567),
        ("1'204.5", 1204.5), ("−0.5", -0.5), (".5", 0.5), ("5.", 5), ("0.43.", 0.43), ("1E3", 1000), ("1.5d-3", 0.0015),
        ("tensor(0.43, grad)", 0.43), ("0.43}", 0.43), ("93.5%", 93.5), ("980.3ms", 980.3), ("1.2M", 1.2e6),
        ("inf", float("inf")), ("1/3", 1 / 3), ("3:25", 205), ("0:03:25.5", 205.5), ("1m20.5s", 80.5), ("-0.0", 0),
    ],
)  # fmt: skip
def test_a_printed_form_taken_whole_is_read(printed: str, value: float) -> None:
    assert read_metric(f"loss: {printed}\n", ANY).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        (DIGITS, "loss: 1,204,331", "takes 1 out of 1,204,331; write pattern = 'loss: (\\S+)'"),
        (DIGITS, "loss: 4.3e-05", "takes 4.3 out of 4.3e-05; write pattern = 'loss: (\\S+)'"),
        (DIGITS, "loss: 0,4321", "takes 0 out of 0,4321; write pattern = 'loss: (\\S+)'"),
        (r"loss: (\d+)", "loss: 12_000.5", "takes 12 out of 12_000.5; write pattern = 'loss: (\\S+)'"),
        (r"loss: ([\d.]+).*$", "loss: 1,204,331 a second", "takes 1 out of 1,204,331"),
        (r"loss.*(\d+\.\d+)", "loss: 12.345", "takes 2.345 out of 12.345; write pattern = 'loss.*?"),
        (r"loss.*?([\d.]+)", "loss: -0.5", "takes 0.5 out of -0.5"),
        (r"loss: (\d\.\d)", "loss: 0.4321", "takes 0.4 out of 0.4321"),
        (DIGITS, "loss: 1m20s", "takes 1 out of 1m20s"),
        (r"loss: (\d+)", "loss: 1:20", "takes 1 out of 1:20"),
        (r"(\d+\.\d+)s", "took 1:02.5s", "takes 02.5 out of 1:02.5"),
        (DIGITS, "loss: 4.3 × 10^-5", "takes 4.3 out of 4.3 × 10^"),
        (ANY, "loss: 1 204,5", "takes 1 out of 1 204,5; write pattern = 'loss: (.+)'"),
        (r"(\d+) tok", "speed: 1 204 331 tok/s", "takes 331 out of 1 204 331"),
        (ANY, "loss: 1\u202f204,5", "takes 1 out of 1 204,5; write pattern = 'loss: (.+)'"),
        (DIGITS, "loss: 3 min 25 s", "takes 3 out of 3 min 25 s; write pattern = 'loss: (.+)'"),
        (r"loss: (\S+)", "loss: 1h 20m", "takes 1h out of 1h 20m; write pattern = 'loss: (.+)'"),
        (r"real.*m([\d.]+)s", "real\t1m3.25s", "takes 3.25 out of 1m3.25s"),
        (r"loss: (\d+)", "loss: 2½", "takes 2 out of 2½"),
        (r"loss: (\d+)", "loss: 10^-5", "takes 10 out of 10^-5"),
        (ANY, "loss: <0.001", "is not a number: <0.001"),
        (r"\|\s*([\d.]+)\s*\|", "| 2 | 0.4 | 0.95 |", "several numbers of one line: | 2 | 0.4 | 0.95 |"),
        (ANY, "loss: 1-2", "is not a number: 1-2"),
        (r"loss: (.*)", "loss: 0.5 after 3", "is not a number: 0.5 after 3; write pattern = 'loss: (\\S+)'"),
    ],
)
def test_a_number_cut_out_of_its_surroundings_is_refused(pattern: str, line: str, found: str) -> None:
    printed = read_metric(f"{line}\n", pattern)
    assert printed.value is None and found in printed.reason


@pytest.mark.parametrize(
    ("pattern", "line", "value"),
    [
        (r"^\d+,([\d.]+)", "10,0.5", 0.5),
        (r"^\d+,(\d+)", "10,123", 123),
        (r"^(\d+),", "10,123", 10),
        (r"acc: (\d+)/", "acc: 93/100 (93%)", 93),
        (r"^(\d+) ", "12 345 0.5", 12),
        (r"^\d+ (\d+)", "12 345 0.5", 345),
        (r"loss: (.+)", "loss: 1 204,5", 1204.5),
        (r"took (.+)", "took 3 min 25 s", 205),
        (r"real\s+0m([\d.]+)s", "real\t0m3.25s", 3.25),
        (r"\| ([\d.]+) \|$", "| 2 | 0.4 | 0.95 |", 0.95),
        (r"loss ([\d.]+)", "iter 3: loss 0.5123, time 25.1ms", 0.5123),
        (r'"loss": ([^,}]+)', '{"loss": 0.5, "acc": 0.6}', 0.5),
    ],
)
def test_separators_of_the_line_are_not_part_of_the_number(pattern: str, line: str, value: float) -> None:
    assert read_metric(line, pattern).value == value


def test_the_last_of_a_series_counts_and_different_lines_are_refused() -> None:
    series = "epoch 1 | loss: 0.5\nepoch 2 | loss: 0.4\n"
    assert read_metric(series, ANY).value == 0.4
    assert read_metric(series, ANY).matches == 2
    printed = read_metric("train loss: 0.5\nval loss: 0.6\n", ANY)
    assert printed.value is None and "train loss: 0.5 and val loss: 0.6" in printed.reason
    assert "write pattern = '^val loss: (\\S+)'" in printed.reason
    assert read_metric("train loss: 0.5\nval loss: 0.6\n", r"^val loss: (\S+)").value == 0.6
    assert "several numbers of one line" in read_metric("train loss: 0.5 val loss: 0.6\n", ANY).reason
    bar = "1/9 ETA: 0s - loss: 0.7\n9/9 1s 5ms/step - loss: 0.5\n 97%|### | 5/9 [00:01<00:02, 80.1it/s, loss: 0.4]\n"
    assert read_metric(bar, r"loss: ([\d.]+)").value == 0.4
    assert read_metric("loss: 0.5\nfinal loss: 0.5\n", ANY).value == 0.5  # the same number twice


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        ("loss: 980.3 ms", "loss: 1.02 MB", "the unit changed: this run printed 1.02 MB, the baseline 980.3 ms"),
        ("loss: 980.3ms", "loss: 1.02ms/it", "the unit changed"),
        ("loss: 93.5%", "loss: 0.94", "the unit changed"),
        ("loss: 80 it/s", "loss: 1.2 s/it", "the unit changed"),
        ("loss: 0.94", "loss: 1.2k", "the unit changed"),
        ("loss: 93/100", "loss: 940/1000", "the unit changed"),
        ("loss: 980 ms", "loss: 960 ms", ""),
        ("loss: 5 seconds", "loss: 6 s", ""),
        ("loss: 0.5 (best)", "loss: 0.6 worse", ""),
    ],
)
def test_a_unit_that_changes_between_runs_is_refused(before: str, now: str, reason: str) -> None:
    first = read_metric(before, DIGITS)
    assert first.value is not None
    second = read_metric(now, DIGITS, like=first.text)
    assert (second.value is None) == bool(reason) and reason in second.reason


def test_a_comma_keeps_its_meaning_between_runs() -> None:
    assert read_metric("loss: 1,204", ANY, like="0,987").value == 1.204
    printed = read_metric("loss: 0,98", ANY, like="1,204")
    assert printed.value is None and "the comma changed its meaning" in printed.reason


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (" 97%|### 80.1it/s]val_loss: 0.43\n",
         "97%|### 80.1it/s]val_loss: 0.43; write pattern = 'val_loss:\\s*([\\d.]+)'"),
        ("Val_Loss: 0.43\n", "Val_Loss: 0.43; write pattern = '(?i)val_loss:\\s*([\\d.]+)'"),
        ("val_loss: -0.43\n", "val_loss: -0.43; write pattern = '^val_loss:\\s*(\\S+)'"),
        ("step 1\nval_loss = 0.43\nsaved\n", "the nearest line is: val_loss = 0.43"),
        ("", "it printed nothing"),
        ("a\n[... 90 MB of output left out here ...]\nb\n", "of which 90 MB in the middle were not kept"),
    ],
)  # fmt: skip
def test_a_pattern_that_never_matched_shows_the_nearest_line(output: str, reason: str) -> None:
    printed = read_metric(output, r"^val_loss:\s*([\d.]+)")
    assert printed.value is None and "never matched" in printed.reason and reason in printed.reason


def test_a_pattern_that_is_advised_works() -> None:
    output = " 97%|### 80.1it/s]val_loss: 1,204\n"
    reason = read_metric(output, r"^val_loss:\s*(\S+)").reason
    assert read_metric(output, reason.rpartition("pattern = '")[2].rstrip("'")).value == 1204


@pytest.mark.parametrize(
    ("before", "now", "value"),
    [("1.02 ms", "980 us", 0.98), ("980 ms", "1.2 s", 1200), ("1m20.5s", "950ms", 0.95), ("59 seconds", "1m2s", 62)],
)
def test_a_time_in_another_unit_is_converted(before: str, now: str, value: float) -> None:
    """Else a change that makes a program faster would fail by it: many choose the unit by the size."""
    like = read_metric(f"took {before}", r"^took (.+)").text
    assert read_metric(f"took {now}", r"^took (.+)", like=like).value == pytest.approx(value)
