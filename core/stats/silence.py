"""Words for a metric whose noise is unknown: repeats with different seeds agree to the last digit."""

from __future__ import annotations

import re

import tomli

from core.record.state import State
from core.text import toml_text

_RUN = re.compile(r"^run\s*=.*$", re.MULTILINE)
_SEED = re.compile(r"((?:^|[\s-])[\w.-]*seed[ =])\d+\b", re.IGNORECASE)


def silence(state: State) -> str:
    """One sentence on why the noise is unknown; "" while there is no baseline, and once repeats differ."""
    if state.baseline is None or state.noise is None or state.noise.sigma > 0:
        return ""
    if state.noise.df == 0:
        return "the noise is unknown: no code ran twice"
    runs = f"the noise is unknown: {max(2, state.baseline.n)} runs with different seeds gave"
    if state.baseline.metric.is_integer():
        return f"{runs} the same whole number: a size or a count without chance is exact, else the code fixes a seed"
    return f"{runs} one number to the last digit, so a gain may be the luck of a fixed seed"


def silence_hint(state: State) -> str:
    """What makes the noise known, as a line for program.md. "" when `silence` has nothing to say."""
    if not silence(state):
        return ""
    if state.noise is not None and state.noise.df == 0:
        return "run the baseline more than once in another session: [decide] baseline = 3"
    found = _RUN.search(state.program.partition("\n[")[0])
    try:
        run = str(tomli.loads(found[0])["run"]) if found else "python train.py"
    except ValueError:  # over several lines
        run = "python train.py"
    way = seed_way(run)
    if state.baseline is not None and state.baseline.metric.is_integer():
        return f"where chance plays a part, {way}"
    return f"{way}; a metric without any randomness may stay as it is"


def seed_way(run: str) -> str:
    """How the code gets its seed with the command `run`."""
    if "AUTORESEARCH_SEED" in run:
        return "the command passes AUTORESEARCH_SEED on: let the code use it for all its random numbers"
    seeded, fixed = _SEED.subn(r"\1$AUTORESEARCH_SEED", run)
    if not fixed and run.rstrip().endswith(("'", '"')):  # what is quoted there may be a command of its own
        return "give the code its seed: put $AUTORESEARCH_SEED into `run`, or read it from the environment"
    seeded = seeded if fixed else f"{run} --seed $AUTORESEARCH_SEED"
    way = f"give the code its seed in program.md: run = {toml_text(seeded)}"
    return way + ("" if fixed else ", or read AUTORESEARCH_SEED from the environment")


def gain_word(state: State, gain: float) -> str:
    """`better` or `worse`; while the noise is unknown `lower` or `higher`."""
    if not silence(state):
        return "better" if gain >= 0 else "worse"
    lower = (gain >= 0) == (state.metric.direction == "min")
    return "lower" if lower else "higher"


def silence_line(state: State) -> str:
    """`silence` with its hint, in one line; "" when the noise is known."""
    said = silence(state)
    return f"{said}; hint: {silence_hint(state)}" if said else ""
