"""A gain of a run in which the kernel learned very many names of missing files: it may have read data out of them."""

from __future__ import annotations

from core.record.state import BASELINE, State

MAX_MANY = 2  # times that one run is measured again for this
_MANY = 50_000  # names beyond those of the unchanged code: some 6 kB, a bit each
_USUAL_FACTOR = 3  # times those of its quietest run: others' work on the machine is among them


def many_names_words(state: State, new: int | None) -> str:
    """In words, that the kernel learned very many names while a run of an experiment went on; "" where it did not."""
    baseline = state.experiments.get(BASELINE)
    usual = [r.new_names for r in baseline.runs if r.metric is not None and r.new_names is not None] if baseline else []
    if new is None or new <= _MANY + _USUAL_FACTOR * min(usual, default=0):
        return ""
    return f"it, or another program, looked up {new:,} names of missing files that the kernel did not know"
