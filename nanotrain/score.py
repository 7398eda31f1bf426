"""The sealed scorer: says how many bits a byte of unseen text costs the model that a run left behind.

    python -m nanotrain.score                 # the run that $AUTORESEARCH_RUN_DIR names, or the last one by hand
    python -m nanotrain.score --hidden        # on the second, never shown, slice

This process holds the validation text and never imports the code under test: model_process.py starts two others for
that, one after the other, which see inputs only (probes.py says which). The last line of stdout is the JSON of
docs/run-protocol.md, section 3.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from nanotrain import harness, prepare, process_limits, source_checks, weights
from nanotrain.corpus import PrepareError
from nanotrain.model_process import Caged, Fault, clean
from nanotrain.probes import Examiner, Judgement, rows_of, strangers_of
from nanotrain.weights import Rejected

STARTUP_SECONDS = {"cpu": 90.0, "cuda": 180.0}  # imports and rebuilding the model
LIMIT_SECONDS = {"cpu": 90.0, "cuda": 240.0}  # all probes and the scoring
REASON_CHARACTERS = 600


def score(worktree: Path, run: Path, device: str, seed: int, cage: list[str], part: str) -> dict[str, Any]:
    """Judge one run; `part` is `val` or `hidden`. Returns the result line. Raises Fault and PrepareError."""
    start = time.monotonic()
    ready = prepare.find()
    if ready is None:
        raise PrepareError("the validation data are not prepared", prepare.MEND)
    vocab = int(ready.manifest["vocab"])
    process_limits.take_in_orphans()
    process_limits.leave_the_keys()
    judgement = Judgement()
    try:
        weights.only_these(run, device)
        now, before = source_checks.changed(worktree, Path(__file__).parents[1])
        source_checks.holds_no_knowledge(now, before)
        order = {"worktree": str(worktree), "run": str(run), "device": device, "seed": seed}
        order["imports"] = source_checks.imports(now, before)
        # By hand nobody says for how long it was trained, and nobody cheats himself.
        trained = float(os.environ.get("AUTORESEARCH_SECONDS") or "inf")
        # Both import torch at once; the code under test is loaded by the second when the first is dead and gone.
        with Caged(cage, order, vocab, trained) as first, Caged(cage, order, vocab, trained) as witness:
            config = weights.check(run, device)
            weights.same_as_announced(run, os.environ.get("AUTORESEARCH_WEIGHTS_SHA256"))
            same_data(config, ready)
            lengths = np.fromfile(ready.tokenizer / "token_bytes.bin", dtype=np.uint8).astype(np.int64)
            rows = rows_of(np.fromfile(ready.folder / f"{part}.bin", dtype="<u2"), lengths, device)
            train = np.memmap(ready.train, dtype="<u2", mode="r")
            strangers = strangers_of(train, rows.shape[1] - 1, np.random.default_rng())
            examiner = Examiner(rows, strangers, lengths, device)
            judgement = examiner.result
            for model, work in ((first, examiner.score), (witness, examiner.examine)):
                loaded = model.load(STARTUP_SECONDS[device], LIMIT_SECONDS[device])
                work(model)
                changed = float(model.hash() != loaded)
                judgement.record("parameters", changed, 0.0, "the parameters changed while the model was scored")
                model.settle()
                judgement.record("effort", model.effort, 1.0, "the model computed for too long")
                model.close()
    except Rejected as reason:
        return {"rejected": clean(str(reason))[:REASON_CHARACTERS], "probes": judgement.probes}
    except ValueError as error:
        raise Fault(str(error)) from error
    return {
        "metric": round(judgement.bits_per_byte, 6),
        "probes": judgement.probes,
        "tokens": judgement.tokens,
        "bytes": judgement.bytes,
        "seconds": round(time.monotonic() - start, 2),
    }


def same_data(config: dict[str, Any], ready: prepare.Prepared) -> None:
    """Raises Fault when the run was trained on another corpus than the one chosen now, Rejected if by its doing."""
    mark = config.get("data")
    with ready.train.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        expected = harness.mark_of(size, file.read(harness.MARK_BYTES))
    if mark is None or mark == expected:
        return
    if "AUTORESEARCH_WEIGHTS_SHA256" in os.environ:  # the harness handed the data over, and they were these
        raise Rejected("model.json says that it was trained on other data than the run was handed")
    raise Fault(
        f"this run was not trained on the corpus chosen now ({ready.manifest['corpus']}); choose its corpus "
        "again with `python -m nanotrain.prepare --data …`, or train anew"
    )


def main(argv: list[str] | None = None) -> int:
    """0 with a result line, rejected or not; 1 when the scorer itself cannot work."""
    parser = argparse.ArgumentParser(prog="python -m nanotrain.score", description="Score the model a run left behind.")
    parser.add_argument("--hidden", action="store_true", help="score the second, hidden slice")
    options = parser.parse_args(argv)
    env = os.environ
    for stream in (sys.stdout, sys.stderr):  # what a model prints may hold letters that this terminal does not know
        cast(io.TextIOWrapper, stream).reconfigure(errors="backslashreplace")
    try:
        cage = json.loads(env.get("AUTORESEARCH_CAGE") or "[]")
        worktree = Path(env.get("AUTORESEARCH_WORKTREE") or Path.cwd()).resolve()
        run = Path(env.get("AUTORESEARCH_RUN_DIR") or prepare.cache_root() / "last-run").resolve()
        device = env.get("AUTORESEARCH_DEVICE") or ("cuda" if Path("/dev/nvidiactl").exists() else "cpu")
        if device not in prepare.EVAL_CONTEXT:
            raise Fault(f"AUTORESEARCH_DEVICE is {device!r}; cpu or cuda expected")
        seed = int(env.get("AUTORESEARCH_SEED") or 1)
        result = score(worktree, run, device, seed, cage, "hidden" if options.hidden else "val")
    except (Fault, PrepareError, OSError, ValueError) as error:
        print(f"error: the scorer cannot work: {error}\n mend: {getattr(error, 'mend', 'see above')}", file=sys.stderr)
        return 1
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
