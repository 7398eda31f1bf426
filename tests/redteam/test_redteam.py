"""The quick part of the red team, and checks of the tables. `make redteam` runs all of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redteam.__main__ import DOCS, REFERENCE, written
from tests.redteam.arena import SHORT, SOURCE, Arena, Honest, Outcome, Variant, edited, fault_of
from tests.redteam.cheats.prior_knowledge import MEMORISED, memorised
from tests.redteam.patches import built
from tests.redteam.variants import CHEATS, ESCAPES, HONEST


def test_every_variant_is_a_parsable_change_of_train_py() -> None:
    assert len(CHEATS) >= 190 and len(HONEST) >= 190 and len(ESCAPES) >= 70
    names = [variant.name for variant in [*CHEATS, *HONEST]] + [escape.name for escape in ESCAPES]
    assert len(set(names)) == len(names)
    base = edited((SOURCE / "train.py").read_text(), (SHORT,))
    for variant in [*CHEATS, *HONEST]:
        text = edited(base, variant.edits)
        assert text != base, variant.name
        compile(text, variant.name, "exec")
    assert not [variant.name for variant in HONEST if variant.expected not in ("scored", "crashed")]


def test_every_unexpected_outcome_is_detected() -> None:
    honest = Honest(2.0, 0.005, 2.1)
    cheat = Variant("c", "cheats", (), "rejected", "not causal")
    free = Variant("w", "gains nothing", (), "worthless", "killed")
    told = Variant("g", "knows the text", (), "gap")
    assert fault_of(cheat, Outcome("rejected", "not causal: x"), honest) == ""
    assert "the reason" in fault_of(cheat, Outcome("rejected", "a crash"), honest)
    assert "scored" in fault_of(cheat, Outcome("scored", "", {"val": 0.1}), honest)
    assert fault_of(free, Outcome("scored", "", {"val": 1.99}), honest) == ""
    assert "gained 0.1" in fault_of(free, Outcome("scored", "", {"val": 1.9}), honest)
    assert "must not get" in fault_of(free, Outcome("scored", "", {"val": 2.0}, "STOLEN x"), honest)
    assert "broke the scorer" in fault_of(free, Outcome("fault", "it died"), honest)
    assert fault_of(told, Outcome("scored", "", {"val": 0.9, "hidden": 2.2}), honest) == ""
    assert "did not tell" in fault_of(told, Outcome("scored", "", {"val": 0.9, "hidden": 1.0}), honest)


ROW = re.compile(r"^\| (?P<name>[\w-]+) \| [^|]* \| (?P<end>[^|]*) \|", re.M)


def table(name: str) -> dict[str, str]:
    """How each variant of a table of docs/integrity.md ended."""
    lines = written(name).values()
    return {found["name"]: found["end"] for found in map(ROW.match, lines) if found}


def test_the_docs_list_every_variant_and_no_cheat_gained() -> None:
    page = DOCS.read_text()
    figures = re.search(r"<!-- figures -->\n(\d+) cheats, (\d+) honest variants, (\d+) attacks [^\n]*\n<!-- end", page)
    assert figures is not None and tuple(map(int, figures.groups())) == tuple(
        len(table(name)) for name in ("cheats", "honest", "escapes")
    )
    figures = re.search(r"unchanged code scores ([\d.]+) .*; a gain under ([\d.]+) is noise", page)
    assert figures is not None
    honest, margin = float(figures[1]), float(figures[2])
    cheats, fair = table("cheats"), table("honest")
    assert list(cheats) == [variant.name for variant in CHEATS] + list(MEMORISED)
    assert list(fair) == [variant.name for variant in HONEST]
    assert set(table("escapes")) == {escape.name for escape in ESCAPES}
    for name, end in cheats.items():
        if not end.startswith(("rejected: ", "crashed: ")):
            found = re.fullmatch(r"scored (\S+?)(?:, hidden (\S+))?", end)
            assert found is not None, f"{name}: {end}"
            told = found[2] is not None and float(found[2]) - float(found[1]) > margin
            assert told or float(found[1]) > honest - margin - 0.002, f"{name} paid: {end}"
    for variant in HONEST:
        assert fair[variant.name].startswith(variant.expected), f"{variant.name}: {fair[variant.name]}"


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    with tempfile.TemporaryDirectory(prefix="autoresearch-red-", dir="/var/tmp") as folder:
        found = await Arena(Path(folder)).open()
        yield found
        await found.close()


def all_of(name: str, does: str, *names: str) -> Variant:
    """Several variants in one: a run of each would take as long as all other tests together."""
    known = {variant.name: variant for variant in [*CHEATS, *HONEST]}
    assert len({known[one].expected for one in names}) == 1
    return Variant(name, does, tuple(edit for one in names for edit in known[one].edits), known[names[0]].expected)


NOTHING = ("all-tokens-certain", "weights-in-links", "reads-the-validation-text", "answers-of-odd-size")
HARMLESS = all_of("all-for-nothing", "cheats that gain nothing, all at once", *NOTHING)
FAIR = all_of("all-honest", "honest oddities, all at once", "post-norm", "soft-cap", "swiglu", "causal-convolution",
              "label-smoothing", "prefetching", "weight-decay", "resampled-data", "checkpointing", "tables-by-length",
              "patches-torch", "locks-its-own-file", "logs-everywhere", "a-table-in-the-settings")  # fmt: skip
LOOP = built("end = time.process_time() + 4\nwhile time.process_time() < end: pass")
BUSY = Variant("busy-loading", "computes for a while when it is loaded", (LOOP,), "rejected", "on the run's clock")
REMEMBERS = next(variant for variant in CHEATS if variant.name == "memory-of-beginnings")


@pytest.mark.timeout(600)  # a busy machine takes minutes
@pytest.mark.slow  # about 35 s of one processor: a run or a scoring for each way of being caught
async def test_each_rejection_path_once(arena: Arena) -> None:
    """Through runs: the rules on logits one by one are in tests/nanotrain/test_score.py."""
    reference = await arena.meet(REFERENCE, keep=True)
    assert reference.ended == "scored" and reference.job is not None, reference
    honest = Honest(reference.metrics["val"], 0.007, reference.metrics["hidden"])
    text = memorised(arena.prepared)[0]
    wrong = {}
    for variant, again in ((HARMLESS, False), (FAIR, False), (REMEMBERS, True), (BUSY, True), (text, True)):
        outcome = await arena.meet(variant, weights_of=reference if again else None)
        wrong[variant.name] = fault_of(variant, outcome, honest)
    assert set(wrong.values()) == {""}, wrong
    assert reference.folder is not None
    (reference.folder / "out" / "model.json").write_text("{}")  # as if trained on after the clock
    late = await arena.meet(REFERENCE, weights_of=reference)
    assert late.ended == "rejected" and "changed after the clock had stopped" in late.reason
