"""The sealed scorer: measures the bits per byte of unseen text for the model that a run saved.

    python -m nanotrain.score                 # the run in $AUTORESEARCH_RUN_DIR, or the last one started by hand
    python -m nanotrain.score --hidden        # on the hidden slice, by which no experiment is chosen

This process holds the validation text and never imports the code under test. Two other processes do (model_process.py),
one after the other; they receive inputs only, which probes.py chooses. The last line of stdout is the JSON of
docs/run-protocol.md, section 3.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from nanotrain import harness, prepare, process_limits, source_checks, weights
from nanotrain.corpus import PrepareError
from nanotrain.device.spread import MAX_SPREAD, remembered
from nanotrain.isolation.forked_process import Template, TemplateLost
from nanotrain.model_process import NO_GPU, ModelProcess, ScorerError, Unsettled, clean
from nanotrain.probes import LATER_PASSES, Examiner, ProbeResults, rows_of, training_rows_of
from nanotrain.weights import Rejected

MAX_STARTUP_SECONDS = {"cpu": 90.0, "cuda": 180.0}  # imports and rebuilding the model
MAX_SCORING_SECONDS = {"cpu": 90.0, "cuda": 240.0}  # all probes and the scoring of one process, waiting for it
MAX_REASON_CHARACTERS = 600
MAX_TRIES = 3  # of an unsettled model: honest code finds in memory the next time what it read from the disk
MEASURED_ROWS = 16  # of training text, to measure the spread of a device
PRISTINE = Path(__file__).parents[1]


def score(worktree: Path, run: Path, device: str, seed: int, sandbox: list[str], part: str) -> dict[str, Any]:
    """Score one run on `part`, `val` or `hidden`. Returns the result line. Raises ScorerError and PrepareError."""
    reason, tries, template = "", 0, Template.lent() if device == "cpu" else None
    while tries < MAX_TRIES:
        try:
            return score_once(worktree, run, device, seed, sandbox, part, template)
        except Unsettled as read:
            print(reason := str(read))
            tries += 1
        except TemplateLost as lost:
            print(f"{lost}: scored again, with processes of its own")
            template = None
    return {"rejected": reason, "probes": {}}


def score_once(
    worktree: Path, run: Path, device: str, seed: int, sandbox: list[str], part: str, template: Template | None = None
) -> dict[str, Any]:
    """One try. Raises Unsettled and TemplateLost, too."""
    start = time.monotonic()
    ready = prepare.find()
    if ready is None:
        raise PrepareError("the validation data are not prepared", prepare.PREPARE_COMMAND)
    vocab = int(ready.manifest["vocab"])
    process_limits.become_subreaper()
    process_limits.join_new_session_keyring()
    results = ProbeResults()
    try:
        weights.remove_other_files(run, device)
        now, before = source_checks.changed_files(worktree, PRISTINE)
        source_checks.check_size(now, before)
        order = {"worktree": str(worktree), "run": str(run), "device": device, "seed": seed}
        order["imports"] = source_checks.new_imports(now, before)
        # Without a harness the training time is unknown, and no limit applies.
        trained = float(os.environ.get("AUTORESEARCH_SECONDS") or "inf")
        # All import torch together, or each is forked; each loads the code after the one before it has ended.
        with contextlib.ExitStack() as stack:
            parts = sandbox, order, vocab, trained, template
            count = 2 + (LATER_PASSES[device] > 0)
            models = [] if template else [stack.enter_context(ModelProcess(*parts)) for _ in range(count)]
            config = weights.check(run, device)
            weights.check_announced(run, os.environ.get("AUTORESEARCH_WEIGHTS_SHA256"))
            check_corpus(config, ready)
            check_device(config, device, part)
            lengths = np.fromfile(ready.tokenizer / "token_bytes.bin", dtype=np.uint8).astype(np.int64)
            rows = rows_of(np.fromfile(ready.folder / f"{part}.bin", dtype="<u2"), lengths, device)
            train = np.memmap(ready.train, dtype="<u2", mode="r")
            training_rows = training_rows_of(train, rows.shape[1] - 1, np.random.default_rng())
            spread = 0.0
            if device == "cuda":
                machine = models[0].prime(MAX_STARTUP_SECONDS[device])
                some = training_rows_of(train, rows.shape[1], np.random.default_rng())[:MEASURED_ROWS]
                probe = Examiner(some, training_rows, lengths, device, math.inf)
                spread = spread_of(machine, probe, sandbox, config)
            examiner = Examiner(rows, training_rows, lengths, device, spread)
            results = examiner.results
            stages = (examiner.examine, examiner.score, examiner.examine_again)
            for place, work in enumerate(stages[:count]):
                model = models[place] if models else stack.enter_context(ModelProcess(*parts))
                loaded = model.load(MAX_STARTUP_SECONDS[device], MAX_SCORING_SECONDS[device])
                work(model)
                changed = float(model.hash() != loaded)
                results.record("parameters", changed, 0.0, "the parameters changed while the model was scored")
                model.check_effort()
                results.record("effort", model.effort, 1.0, "the model used too much processor time")
                model.close()
            examiner.compare()
    except Unsettled:
        raise
    except Rejected as reason:
        return {"rejected": clean(str(reason))[:MAX_REASON_CHARACTERS], "probes": results.probes}
    except ValueError as error:
        raise ScorerError(str(error)) from error
    return {
        "metric": round(results.bits_per_byte, 6),
        "probes": results.probes,
        "tokens": results.tokens,
        "bytes": results.bytes,
        "seconds": round(time.monotonic() - start, 2),
    }


def check_corpus(config: dict[str, Any], ready: prepare.PreparedData) -> None:
    """Raises ScorerError for a run on another corpus than the selected one; Rejected if the harness passed the data."""
    fingerprint = config.get("data")
    with ready.train.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        expected = harness.fingerprint_of(size, file.read(harness.FINGERPRINT_BYTES))
    if fingerprint in (None, expected):
        return
    if "AUTORESEARCH_WEIGHTS_SHA256" in os.environ:  # the harness passed the data, and they were these
        raise Rejected("model.json names other data than the run was given")
    raise ScorerError(
        f"this run was not trained on the selected corpus ({ready.manifest['corpus']})",
        "select its corpus with `python -m nanotrain.prepare --data …`, or train again",
    )


def spread_of(machine: str, probe: Examiner, sandbox: list[str], config: dict[str, Any]) -> float:
    """The spread of the card, measured once for each machine and pristine code."""
    path, code = prepare.cache_root() / "spread.json", (PRISTINE / "nanotrain" / "train.py").read_bytes()
    return remembered(path, machine, code, lambda: measured_spread(probe, sandbox, config))


def measured_spread(
    examiner: Examiner, sandbox: list[str], config: dict[str, Any], device: str = "cuda"
) -> float | None:
    """The spread of the device, by pristine code with random weights in two processes, as a run is scored.

    None when the code cannot build a model by `config`, that of a run. Raises ScorerError when the spread is larger
    than that of any sound device.
    """
    vocab = len(examiner.lengths)
    order = {"worktree": str(PRISTINE), "device": device, "seed": 1, "imports": [], "config": config}
    try:
        with (
            ModelProcess(sandbox, order, vocab, math.inf) as first,
            ModelProcess(sandbox, order, vocab, math.inf) as second,
        ):
            for model, work in ((first, examiner.examine), (second, examiner.score)):
                model.load(MAX_STARTUP_SECONDS[device], MAX_SCORING_SECONDS[device])
                work(model)
                model.close()
            examiner.compare()
    except Rejected as error:
        print(f"the device's spread was not measured: {clean(str(error))}")
        return None
    spread = examiner.tolerance.seen
    if spread > MAX_SPREAD:
        raise ScorerError(f"the GPU gives other logits each time, up to {spread:.3g} bfloat16 units apart", NO_GPU)
    return spread


def check_device(config: dict[str, Any], device: str, part: str) -> None:
    """Raises ScorerError when the run was made for another device: its model was trained on rows of another length.

    With a harness that trains and scores on one device, Rejected: then it is model.json that is wrong. (The hidden
    slice may be scored in another slot, after the run has been scored in its own.)
    """
    trained = str(config.get("device"))
    if trained == device or trained not in prepare.EVAL_CONTEXT:
        return
    if "AUTORESEARCH_WEIGHTS_SHA256" in os.environ and part == "val":
        raise Rejected(f"model.json names another device ({trained}) than the run was given ({device})")
    raise ScorerError(
        f"this run was made on {trained}, and rows for {device} are of another length",
        f"AUTORESEARCH_DEVICE={trained} python -m nanotrain.score",
    )


def device_of(run: Path) -> str:
    """The device to score on without a harness: that of the run, else a GPU where there is one."""
    try:
        trained = str(json.loads((run / "model.json").read_text()).get("device"))
    except (OSError, ValueError, AttributeError, RecursionError):
        trained = ""
    if trained in prepare.EVAL_CONTEXT:
        return trained
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


def main(argv: list[str] | None = None) -> int:
    """Returns 0 with a result line, rejected or not; 1 when the scorer itself cannot work."""
    parser = argparse.ArgumentParser(prog="python -m nanotrain.score", description="Score the model that a run saved.")
    parser.add_argument("--hidden", action="store_true", help="score on the hidden slice")
    options = parser.parse_args(argv)
    env = os.environ
    for stream in (sys.stdout, sys.stderr):  # output of a model may hold characters that this terminal cannot show
        cast(io.TextIOWrapper, stream).reconfigure(errors="backslashreplace")
    try:
        sandbox = json.loads(env.get("AUTORESEARCH_CAGE") or "[]")
        worktree = Path(env.get("AUTORESEARCH_WORKTREE") or Path.cwd()).resolve()
        run = Path(env.get("AUTORESEARCH_RUN_DIR") or prepare.cache_root() / "last-run").resolve()
        device = env.get("AUTORESEARCH_DEVICE") or device_of(run)
        if device not in prepare.EVAL_CONTEXT:
            raise ScorerError(f"AUTORESEARCH_DEVICE is {device!r}", "set it to cpu or cuda")
        seed = int(env.get("AUTORESEARCH_SEED") or 1)
        result = score(worktree, run, device, seed, sandbox, "hidden" if options.hidden else "val")
    except (ScorerError, PrepareError, OSError, ValueError) as error:
        hint = getattr(error, "hint", "see the lines above")
        print(f"error: the scorer cannot work: {error}\n hint: {hint}", file=sys.stderr)
        return 1
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
