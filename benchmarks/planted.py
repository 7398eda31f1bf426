"""The decision rule on real runs: nanotrain on the CPU, with planted improvements and planted non-improvements.

    python -m benchmarks planted [RUN_BUDGET] [SEED] [FOLDER]     # default 100steps and 1; fifteen minutes

train.py is detuned in five constants and committed. A scripted researcher then proposes, in an order drawn from the
seed, to restore each of them (an improvement), to make changes without effect (names, comments, layout, seeds, unused
constants), and to make things worse. The verdicts are counted. With FOLDER, which must not exist, the project and its
session are kept in it. With a budget in seconds the machine must be idle: other programs would add noise.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.support import engine, workplace
from core.client import read_state
from core.record.metric import format_delta, format_metric
from core.record.state import BASELINE, Experiment, State
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from tests.projects import write_script

TRAIN = "nanotrain/train.py"
MAX_SECONDS = 7200.0  # of the whole session
# Tuned and detuned. Restored alone, one run of 110 steps each: −0.072, −0.082, −0.030, −0.013 and −0.011 val_bpb.
DETUNED: tuple[tuple[str, str], ...] = (
    ("MATRIX_LR_CPU = 0.04 ", "MATRIX_LR_CPU = 0.008 "),
    ("VALUE_EMBED_EVERY_CPU = 1 ", "VALUE_EMBED_EVERY_CPU = 0 "),
    ("HEAD_LR_CPU = 0.02 ", "HEAD_LR_CPU = 0.006 "),
    ("EMBED_LR_CPU = 0.6 ", "EMBED_LR_CPU = 0.15 "),
    ("MOMENTUM_CPU = 0.9 ", "MOMENTUM_CPU = 0.97 "),
)
NOTHING: tuple[tuple[str, str, str], ...] = (
    ("a name", "        result: torch.Tensor = self.c_proj(F.relu(self.c_fc(x)).square())\n        return result",
     "        mixed: torch.Tensor = self.c_proj(F.relu(self.c_fc(x)).square())\n        return mixed"),
    ("a comment", "class MLP(nn.Module):", "# Where most of the multiplications are.\nclass MLP(nn.Module):"),
    ("a docstring", '"""Muon and AdamW behind one step()."""', '"""One step() for Muon and AdamW."""'),
    ("layout", "        return x + self.mlp(norm(x))",
     "        update = self.mlp(norm(x))\n        return x + update"),
    ("layout again", "        x = x + self.attn(norm(x), ve, cos, sin, mask)",
     "        seen = self.attn(norm(x), ve, cos, sin, mask)\n        x = x + seen"),
    ("the seed of the weights", "    torch.manual_seed(run.seed)\n    started",
     "    torch.manual_seed(run.seed + 1)\n    started"),
    ("the seed of the data", "self.random = np.random.default_rng(seed)",
     "self.random = np.random.default_rng(seed + 17)"),
    ("ADAM_EPS, far too small to matter", "ADAM_EPS = 1e-10 ", "ADAM_EPS = 1e-12 "),
    ("HEAD_STD, next to nothing either way", "HEAD_STD = 0.001 ", "HEAD_STD = 0.0011 "),
    ("ROPE_BASE_CPU, by a hundredth", "ROPE_BASE_CPU = 1000.0 ", "ROPE_BASE_CPU = 1010.0 "),
)  # fmt: skip
# Each removes something that training needs, so that it never helps; the last only a little.
# With a step budget, wasted time has no effect.
WORSE: tuple[tuple[str, str, str], ...] = (
    ("a fiftieth of the text", "self.context, self.device = tokens, rows, context, device",
     "self.context, self.device = tokens[: len(tokens) // 50], rows, context, device"),
    ("every fourth step learns nothing", "        self.adamw.step(lrm)\n        self.muon.step(lrm, momentum)",
     "        self.calls = getattr(self, 'calls', 0) + 1\n        if self.calls % 4:\n"
     "            self.adamw.step(lrm)\n            self.muon.step(lrm, momentum)"),
    ("a fifth of the time is wasted", "        total = torch.zeros((), device=self.machine.device)",
     "        begun = time.perf_counter()\n        while time.perf_counter() - begun < 0.03:\n"
     "            pass\n        total = torch.zeros((), device=self.machine.device)"),
    ("matrices are hardly orthogonalised", "\nNEWTON_SCHULZ_STEPS = 4 ", "\nNEWTON_SCHULZ_STEPS = 1 "),
    ("a hundredth of the time is wasted", "        for _ in range(self.grad_accum_steps):\n            inputs, targets",
     "        begun = time.perf_counter()\n        while time.perf_counter() - begun < 0.0015:\n            pass\n"
     "        for _ in range(self.grad_accum_steps):\n            inputs, targets"),
)  # fmt: skip
KINDS = ("improvement", "nothing", "worse")


@dataclass(frozen=True, slots=True)
class Plant:
    """One proposal of known effect."""

    kind: str  # of KINDS
    name: str
    search: str
    replace: str

    @property
    def hypothesis(self) -> str:
        return f"{self.kind}: {self.name}"

    @property
    def proposal(self) -> dict[str, object]:
        edits = [{"path": TRAIN, "search": self.search, "replace": self.replace}]
        return {"hypothesis": self.hypothesis, "kind": "other", "edits": edits}


def plants(seed: int, in_steps: bool) -> list[Plant]:
    """All proposals, in an order drawn from the seed. An edit of a setting begins at its line's start."""

    def setting(kind: str, old: str, new: str) -> Plant:
        return Plant(kind, f"{old.strip()} becomes {new.partition('= ')[2].strip()}", f"\n{old}", f"\n{new}")

    found = [setting("improvement", new, old) for old, new in DETUNED]
    found += [Plant("nothing", name, old, new) for name, old, new in NOTHING[:7]]
    found += [Plant("nothing", name, f"\n{old}", f"\n{new}") for name, old, new in NOTHING[7:]]
    found += [Plant("nothing" if in_steps and "wasted" in name else "worse", name, a, b) for name, a, b in WORSE]
    random.Random(seed).shuffle(found)
    return found


def detuned_project(folder: Path) -> Path:
    """A clone of this repository's last commit with a detuned train.py."""
    subprocess.run(["git", "clone", "-q", str(Path(__file__).parents[1]), str(folder)], check=True)
    file = folder / TRAIN
    text = file.read_text()
    for tuned, off in DETUNED:
        if text.count(f"\n{tuned}") != 1:
            raise SystemExit(
                f"{TRAIN} has no line that begins with {tuned!r}: this benchmark is to be brought up to date"
            )
        text = text.replace(f"\n{tuned}", f"\n{off}")
    file.write_text(text)
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@localhost"]
    subprocess.run(["git", *identity, "commit", "-qam", "out of tune"], cwd=folder, check=True)
    return folder


def follow(paths: SessionPaths) -> State:
    """Print each verdict as it comes, until the engine ends."""
    began, said = time.monotonic(), 0
    while engine_alive(paths) and time.monotonic() - began < MAX_SECONDS:
        state = read_state(paths)
        judged = [
            x for n, x in sorted(state.experiments.items()) if n != BASELINE and n not in state.live and x.verdict
        ]
        for x in judged[said:]:
            print(f"  {time.monotonic() - began:5.0f} s  {line(x)}", flush=True)
        said = max(said, len(judged))
        time.sleep(1)
    return read_state(paths)


def line(x: Experiment) -> str:
    return f"#{x.number:<3} {x.verdict or '-':10} {len(x.values)} runs  {format_delta(x.delta):>9}  {x.hypothesis}"


def report(state: State, order: Sequence[Plant]) -> None:
    base, noise = state.baseline, state.noise
    if base is None or noise is None:
        raise SystemExit(f"no baseline: {state.reason}")
    sigma = f"{format_metric(noise.sigma)} ({format_metric(noise.low)} to {format_metric(noise.high)})"
    print(f"\nbaseline {format_metric(base.metric)}, best {format_metric(state.best_metric)}, sigma {sigma}")
    print(f"{'planted':14}{'proposed':>10}{'kept':>8}{'discarded':>12}{'other':>8}{'runs':>8}")
    of = {x.hypothesis: x for x in state.experiments.values()}
    for kind in KINDS:
        found = [of[p.hypothesis] for p in order if p.kind == kind and p.hypothesis in of]
        kept, discarded = (sum(x.verdict == verdict for x in found) for verdict in ("kept", "discarded"))
        runs = sum(len(x.runs) for x in found)
        print(f"{kind:14}{len(found):>10}{kept:>8}{discarded:>12}{len(found) - kept - discarded:>8}{runs:>8}")
    print()
    for number, x in sorted(state.experiments.items()):
        if number != BASELINE:
            print(f"  {line(x)}\n        {x.reason}")


@contextmanager
def place(folder: str) -> Iterator[Path]:
    """The folder, which is kept afterwards; or, without one, a temporary folder with a private home."""
    if not folder:
        with workplace() as temporary:
            yield temporary
        return
    Path(folder).mkdir(parents=True)
    yield Path(folder)


def main(budget: str, seed: int, folder: str) -> None:
    order = plants(seed, in_steps="step" in budget)
    with place(folder) as where:
        project = detuned_project(where / "project")
        script = write_script(where / "planted.jsonl", [plant.proposal for plant in order])
        print(f"{len(order)} proposals, {budget} a run; first the corpus, and three baseline runs", flush=True)
        options = {"researcher": "scripted", "script": str(script), "slots": "cpu:1", "run_budget": budget}
        with engine(project, "planted", seed=seed, **options) as (paths, _):
            report(follow(paths), order)


if __name__ == "__main__":
    words = (*sys.argv[1:], *("100steps", "1", "")[len(sys.argv) - 1 :])
    main(words[0], int(words[1]), words[2])
