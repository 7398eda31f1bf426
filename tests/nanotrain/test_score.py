"""The sealed scorer, run as by the harness, on an honest model and on cheats."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanotrain import corpus, harness, model_host, prepare, probes, process_limits, score, train
from nanotrain.model_process import Unsettled
from tests.nanotrain import worlds

FORWARD = "        length = tokens.size(1)\n        cos, sin"  # where GPT.forward begins
RESULT = "torch.tanh(logits.float() / self.config.softcap)\n        return logits\n"  # where it ends


def scored(tree: Path, run: Path, home: Path, sandbox: Sequence[str] = ()) -> dict[str, Any]:
    """The scorer's last line; the scorer must succeed for any code under test."""
    result = worlds.command(
        "nanotrain.score",
        AUTORESEARCH_HOME=str(home),
        AUTORESEARCH_WORKTREE=str(tree),
        AUTORESEARCH_RUN_DIR=str(run),
        AUTORESEARCH_DEVICE="cpu",
        AUTORESEARCH_CAGE=json.dumps(list(sandbox)),
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("cold", [0, 1, 2, 3])
def test_a_model_that_reads_much_from_the_disk_is_scored_again(cold: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Honest code finds its libraries in memory the next time; one that reads other files each time is rejected."""
    tries: list[str] = []

    def once(*_: Any) -> dict[str, Any]:
        tries.append("")
        if len(tries) <= cold:
            raise Unsettled(process_limits.READS)
        return {"metric": 1.0}

    monkeypatch.setattr(score, "score_once", once)
    found = score.score(Path(), Path(), "cpu", 1, [], "val")
    assert found == ({"metric": 1.0} if cold < score.MAX_TRIES else {"rejected": process_limits.READS, "probes": {}})
    assert len(tries) == min(cold + 1, score.MAX_TRIES)


def with_result(code: str) -> tuple[str, str]:
    """An edit that runs `code` on the logits before they are returned."""
    return RESULT, RESULT.replace("        return logits\n", f"{code}        return logits\n")


def test_an_honest_model_gets_the_loss_of_its_logits(
    home: Path, tmp_path: Path, prepared: prepare.PreparedData
) -> None:
    run = worlds.saved_run(tmp_path / "run")
    found = scored(worlds.worktree(tmp_path / "tree"), run, home)
    assert all(probe["ok"] for probe in found["probes"].values()), found
    names = {"deterministic", "rows", "causal", "witness", "glance", "foresight", "parameters", "effort"}
    assert set(found["probes"]) == names
    assert found["bytes"] >= 65_536 and found["tokens"] > 20_000

    torch.manual_seed(0)  # the same model in this process, with torch's own cross-entropy
    model = train.build_model(json.loads((run / "model.json").read_text()))
    from safetensors.torch import load_file

    model.load_state_dict(load_file(run / "weights.safetensors"))
    lengths = np.fromfile(prepared.tokenizer / "token_bytes.bin", dtype=np.uint8).astype(np.int64)
    rows = probes.rows_of(np.fromfile(prepared.folder / "val.bin", dtype="<u2"), lengths, "cpu")
    tokens = torch.from_numpy(rows.astype(np.int64))
    with torch.inference_mode():
        logits = model(tokens[:, :-1]).flatten(0, 1).double()
    targets = tokens[:, 1:].flatten()
    nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    size = torch.from_numpy(lengths)[targets]
    assert found["bytes"] == int(size.sum())
    expected = float(nats[size > 0].sum()) / math.log(2) / int(size.sum())
    assert found["metric"] == pytest.approx(expected, abs=2e-5)


CHEATS = {
    "a mask that lets the next token through": (
        [("y = F.scaled_dot_product_attention(q, k, v, is_causal=True)",
          "y = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(length, length).tril(1).bool())")],
        "not causal: changing the tokens from",
    ),
    "the end of the row is read in its middle only": (
        [with_result("        if length == 64: logits[:, 30, 5] += tokens[:, 60] / 50\n")],
        "not causal",
    ),
    "a mean over the batch": (
        [with_result("        logits = logits + logits.mean(0, keepdim=True)\n")],
        "rows are not independent",
    ),
    "the next row's first token": (
        [with_result("        logits[:-1, -1] += F.one_hot(tokens[1:, 0], self.config.vocab_size) * 20\n")],
        "rows are not independent",
    ),
    "training while it is scored": (
        [with_result("        with torch.no_grad(): self.lm_head.weight.mul_(1.01)\n")],
        "not deterministic",
    ),
    "random numbers": (
        [with_result("        logits = logits + torch.randn_like(logits)\n")],
        "not deterministic",
    ),
    "state of earlier rows, used when a row comes a second time": (
        [with_result(
            "        seen = self.__dict__.setdefault('seen', {})\n"
            "        self.__dict__['calls'] = self.__dict__.get('calls', 0) + 1\n"
            "        if self.__dict__['calls'] > 12 and length == 64:\n"
            "            for i, row in enumerate(tokens.tolist()):\n"
            "                logits[i] += 3.0 * seen.get(tuple(row), 0)\n"
            "                seen[tuple(row)] = 1\n"
            "            logits[:, :, 0] -= sum(seen.values()) / 10\n")],
        "not deterministic|not causal",
    ),
    "logits of another vocabulary": (
        [with_result("        logits = logits[..., :512]\n")],
        r"another shape than \[32, 64, 1024\], different in its vocabulary",
    ),
    "logits that are not finite": (
        [with_result("        logits = logits / 0\n")],
        "not finite",
    ),
    "a small change of a parameter": (
        [with_result("        self.x0_lambdas.data[0] += 1e-7\n")],
        "parameters changed",
    ),
    "a crash": (
        [(FORWARD, f"        raise RuntimeError('\\x1b[2Jboom')\n{FORWARD}")],
        r"cannot be rebuilt or run: RuntimeError at line \d+ of nanotrain/train.py",
    ),
    "an exit": (
        [(FORWARD, f"        os._exit(3)\n{FORWARD}")],
        r"ended by itself \(another exit code than 0\)",
    ),
    "forged answers on every open descriptor": (
        [(FORWARD,
          "        for n in range(3, 9):\n"
          "            try: os.write(n, b'{\"metric\": 0.1}' * 9)\n"
          "            except OSError: pass\n" + FORWARD)],
        "wrote to the scorer's pipe",
    ),
    "weights that do not fit the code": (
        [("self.resid_lambdas = nn.Parameter(torch.ones(config.n_layer))",
          "self.resid_lambdas = nn.Parameter(torch.ones(9))")],
        "cannot be rebuilt or run: RuntimeError",
    ),
}  # fmt: skip


NAMES = [pytest.param(name, marks=pytest.mark.slow if place else []) for place, name in enumerate(CHEATS)]


@pytest.mark.parametrize("name", NAMES)
def test_a_cheat_is_rejected_with_a_reason(name: str, home: Path, tmp_path: Path, warm: list[str]) -> None:
    edits, reason = CHEATS[name]
    tree = worlds.worktree(tmp_path / "tree", *edits)
    config = replace(worlds.SMALL, window_pattern="L")
    found = scored(tree, worlds.saved_run(tmp_path / "run", config), home, warm)
    assert "metric" not in found
    assert re.search(reason, found["rejected"]), found
    assert found["rejected"].isprintable()


def test_a_model_looks_no_file_up_once_it_is_shown_rows(home: Path, tmp_path: Path, warm: list[str]) -> None:
    """Not even one that is not there: the next process would find that out faster."""
    looks = """
        global SEEN
        SEEN = globals().get("SEEN", ()) or tuple(os.listdir("/usr/bin"))
        os.path.exists(f"/usr/bin/none-{len(SEEN)}") or print("looked", os.access("/usr/bin/env", os.R_OK), flush=True)
"""
    command = worlds.command(
        "nanotrain.score",
        AUTORESEARCH_HOME=str(home),
        AUTORESEARCH_WORKTREE=str(worlds.worktree(tmp_path / "tree", with_result(looks))),
        AUTORESEARCH_RUN_DIR=str(worlds.saved_run(tmp_path / "run")),
        AUTORESEARCH_DEVICE="cpu",
        AUTORESEARCH_CAGE=json.dumps(warm),
    )
    assert "metric" in json.loads(command.stdout.splitlines()[-1]), command.stdout
    said = "".join(word[0] for word in re.findall(r"looked (\w+)", command.stdout))
    assert re.fullmatch("T+F+TF+", said), f"training text, then rows, in each of two processes: {said}"


def test_a_model_may_read_files_of_its_own_each_time(home: Path, tmp_path: Path, warm: list[str]) -> None:
    reads = """
        import json, numpy, inspect
        assert "self.c_proj" in inspect.getsource(MLP) and os.path.isdir("nanotrain") and not os.path.exists("none")
        with open(__file__) as file:
            assert os.stat(__file__).st_size == os.fstat(file.fileno()).st_size > os.access(__file__, os.R_OK) == 1
        assert len(open(__file__).read()) > 9000 and json.load(open("nanotrain/table.json")) == [1]
        assert numpy.memmap("nanotrain/table.json", dtype="uint8", mode="r")[1] == 49
        if SYSTEM: open("/etc/passwd")
"""
    run = worlds.saved_run(tmp_path / "run")
    for name, system in (("own", "False"), ("other", "True")):
        tree = worlds.worktree(tmp_path / name, with_result(reads.replace("SYSTEM", system)))
        (tree / "nanotrain" / "table.json").write_text("[1]")
        found = scored(tree, run, home, warm)
        assert ("metric" in found) == (name == "own"), found
    assert re.search(
        r"FileNotFoundError at line \d+ of .*, after a call that is refused once it is shown rows", str(found)
    )


def test_printing_code_keeps_the_score_and_runs_in_the_sandbox(home: Path, tmp_path: Path, warm: list[str]) -> None:
    noisy = "        print('\\x1b[31m{\"metric\": 0.1}', flush=True)\n"
    tree = worlds.worktree(tmp_path / "tree", (FORWARD, noisy + FORWARD))
    note = tmp_path / "environment"
    sandbox = ["/bin/sh", "-c", f'echo "$AUTORESEARCH_RUN_DIR$AUTORESEARCH_HOME" > {note}; exec "$@"', "sandbox"]
    found = scored(tree, worlds.saved_run(tmp_path / "run"), home, [*sandbox, *warm])
    assert found["metric"] > 1.0
    assert note.read_text() == "\n", "its environment names neither the cache nor the run's folder"


def test_a_sandbox_that_does_not_start_is_a_scorer_error(home: Path, tmp_path: Path) -> None:
    tree, run = worlds.worktree(tmp_path / "tree"), worlds.saved_run(tmp_path / "run")
    for sandbox in (["/no/such/sandbox"], ["/bin/false"]):
        result = worlds.command(
            "nanotrain.score", AUTORESEARCH_HOME=str(home), AUTORESEARCH_CAGE=json.dumps(sandbox),
            AUTORESEARCH_WORKTREE=str(tree), AUTORESEARCH_RUN_DIR=str(run), AUTORESEARCH_DEVICE="cpu",
        )  # fmt: skip
        assert result.returncode == 1 and "the scorer cannot work" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_card_that_does_not_start_is_a_scorer_error_and_no_verdict(
    home: Path, tmp_path: Path, warm: list[str]
) -> None:
    tree, run = worlds.worktree(tmp_path / "tree"), worlds.saved_run(tmp_path / "run")
    result = worlds.command(
        "nanotrain.score", AUTORESEARCH_HOME=str(home), AUTORESEARCH_CAGE=json.dumps(warm),
        AUTORESEARCH_WORKTREE=str(tree), AUTORESEARCH_RUN_DIR=str(run), AUTORESEARCH_DEVICE="cuda",
        CUDA_VISIBLE_DEVICES="",
    )  # fmt: skip
    assert result.returncode == 1 and "the GPU cannot be used for scoring: " in result.stderr
    assert " hint: see what else uses the card" in result.stderr and "Traceback" not in result.stderr


def test_errors_of_the_device_are_told_from_those_of_the_model() -> None:
    faults = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: an ECC error was found")]
    assert all(map(model_host.is_device_fault, faults))
    assert not any(
        map(model_host.is_device_fault, [RuntimeError("shapes differ"), ValueError("CUDA error"), MemoryError()])
    )


def test_a_run_on_another_corpus_is_not_scored(
    home: Path, tmp_path: Path, prepared: prepare.PreparedData, warm: list[str]
) -> None:
    mark = harness.fingerprint_of(
        prepared.train.stat().st_size, prepared.train.read_bytes()[: harness.FINGERPRINT_BYTES]
    )
    other = worlds.saved_run(tmp_path / "run", data="0" * len(mark))
    result = worlds.command(
        "nanotrain.score", AUTORESEARCH_HOME=str(home), AUTORESEARCH_RUN_DIR=str(other), AUTORESEARCH_DEVICE="cpu",
        AUTORESEARCH_WORKTREE=str(worlds.worktree(tmp_path / "tree")), AUTORESEARCH_CAGE=json.dumps(warm),
    )  # fmt: skip
    assert result.returncode == 1 and "not trained on the selected corpus" in result.stderr
    assert " hint: select its corpus" in result.stderr


def test_missing_data_are_a_scorer_error(tmp_path: Path) -> None:
    result = worlds.command("nanotrain.score", AUTORESEARCH_HOME=str(tmp_path))
    assert result.returncode == 1 and "python -m nanotrain.prepare" in result.stderr


def test_a_changed_future_differs_at_its_cut_and_nowhere_before() -> None:
    random = np.random.default_rng(1)
    rows = random.integers(0, 5, size=(50, 20)).astype(np.uint16)
    cuts = random.integers(1, 20, size=50)
    cuts[:3] = 20
    changed = probes.change_future(rows, cuts, random.permutation(rows), random)
    for before, after, cut in zip(rows, changed, cuts, strict=True):
        assert (before[:cut] == after[:cut]).all() and (cut == 20 or before[cut] != after[cut])


def test_cross_entropy_is_exact_for_huge_logits() -> None:
    logits = np.array([[1000.0, 1000.0, -1000.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    assert probes.cross_entropy(logits, np.array([1, 2], dtype=np.uint16)) == pytest.approx([math.log(2), math.log(3)])
    for huge in (1e6, 1e17, 3e38, -3e38):  # a double of that size has no digits for the few nats of the normalizer
        same = probes.cross_entropy(np.full((2, 1024), huge, dtype=np.float32), np.array([0, 9], dtype=np.uint16))
        assert same == pytest.approx([math.log(1024)] * 2)
    far = np.array([[3e38, -3e38]], dtype=np.float32)
    assert probes.cross_entropy(far, np.array([1], dtype=np.uint16)) == pytest.approx([6e38])


def test_rows_of_a_long_slice_are_evenly_spaced_and_sufficient() -> None:
    tokens = np.arange(60_001).astype(np.uint16)
    lengths = np.full(65_536, 3, dtype=np.int64)
    rows = probes.rows_of(tokens, lengths, "cpu")
    assert rows.shape[1] == 65 and 65_536 <= int(lengths[rows[:, 1:]].sum()) < 75_000
    assert rows[0, 0] == 0 and rows[-1, -1] > 59_900
    for device in ("cpu", "cuda"):
        with pytest.raises(corpus.PrepareError, match="needed") as caught:
            probes.rows_of(tokens[:9000], lengths, device)
        assert "larger corpus" in caught.value.hint


def test_the_default_corpus_can_be_scored_on_either_device(prepared: prepare.PreparedData) -> None:
    lengths = np.fromfile(prepared.tokenizer / "token_bytes.bin", dtype=np.uint8).astype(np.int64)
    val = np.fromfile(prepared.folder / "val.bin", dtype="<u2")
    assert probes.rows_of(val, lengths, "cpu").shape[1] == 65
    rows = probes.rows_of(val, lengths, "cuda")
    assert rows.shape[1] == 2049 and len(rows) >= probes.BATCH_ROWS["cuda"]


def examiner(device: str, rows: int, length: int, vocab: int = 50) -> probes.Examiner:
    random = np.random.default_rng(0)
    text = random.integers(vocab, size=(rows + 64, length + 1), dtype=np.uint16)
    return probes.Examiner(text[:rows], text[rows:], np.ones(vocab, dtype=np.int64), device)


def test_the_position_before_the_cut_is_compared_and_does_not_show() -> None:
    long = examiner("cuda", 16, 2048)
    cuts = np.array([1, 2, 64, 1000, 2047, 2048, 5, 6])
    chosen = long.positions(cuts)
    assert chosen.shape == (8, 64) and (np.diff(chosen, axis=1) > 0).all()
    assert all(cut - 1 in row for cut, row in zip(cuts, chosen, strict=True))
    assert (chosen.max(axis=1)[:3] > 1000).all(), "also after the cut"
    request = long.request(long.inputs[:8], chosen)
    assert request.positions is not None and (request.positions.reshape(8, 64) // 2048 == np.arange(8)[:, None]).all()
    short = examiner("cpu", 40, 64)
    assert short.request(short.inputs[:32], short.positions(np.ones(32, dtype=np.int64))).positions is None


def test_later_cuts_lie_anywhere_and_more_often_where_a_look_ahead_would_pay() -> None:
    found = examiner("cuda", 32, 200)
    found.nats = np.full((32, 200), 4.0)
    told = np.arange(200) % 20 == 7
    found.nats[:, told] = 0.1
    cuts = found.paying_cuts(np.tile(np.arange(32), 300))
    assert cuts.min() == 1 and cuts.max() == 200
    assert 2.0 < told[cuts - 1].mean() / told.mean() < 12
    assert (np.bincount(cuts - 1, minlength=200) > 0).all()


def test_a_later_pass_shows_no_less_of_a_row_than_the_one_before() -> None:
    cuts = examiner("cpu", 400, 64).cuts
    assert cuts.shape == (2, 400) and (np.diff(cuts, axis=0) >= 0).all()
    assert cuts.min() == 1 and cuts.max() == 64


def test_a_large_vocabulary_means_fewer_rows_in_a_request() -> None:
    assert [examiner("cuda", 16, 2048, vocab).batch for vocab in (1024, 8192, 16_384, 65_535)] == [8, 8, 4, 2]
    assert [examiner("cpu", 40, 64, vocab).batch for vocab in (1024, 65_535)] == [32, 32]
