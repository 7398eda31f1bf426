"""The fast part of the red team, and that the tables say what they must. `make redteam` runs all of it."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redteam.__main__ import reference
from tests.redteam.arena import SHORT, SOURCE, Arena, Honest, Outcome, Variant, edited, fault_of
from tests.redteam.escapes import ESCAPES
from tests.redteam.honest import HONEST
from tests.redteam.looking import MODEL_CHEATS
from tests.redteam.tampering import TAMPERING

CHEATS = [*MODEL_CHEATS, *TAMPERING]


def test_there_are_enough_and_each_is_a_change_of_train_py_that_parses() -> None:
    assert len(CHEATS) >= 40 and len(HONEST) >= 40 and len(ESCAPES) >= 15
    names = [variant.name for variant in [*CHEATS, *HONEST]] + [escape.name for escape in ESCAPES]
    assert len(set(names)) == len(names)
    base = edited((SOURCE / "train.py").read_text(), (SHORT,))
    for variant in [*CHEATS, *HONEST]:
        text = edited(base, variant.edits)
        assert text != base, variant.name
        compile(text, variant.name, "exec")
    assert not [variant.name for variant in HONEST if variant.expected not in ("scored", "crashed")]


def test_a_judge_who_sees_every_kind_of_wrong() -> None:
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


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    with tempfile.TemporaryDirectory(prefix="autoresearch-red-", dir="/var/tmp") as folder:
        yield await Arena(Path(folder)).open()


@pytest.mark.redteam
@pytest.mark.timeout(600)
async def test_the_fast_part(arena: Arena) -> None:
    honest = await reference(arena, seeds=(1, 2))
    fast = [variant for variant in itertools.chain(CHEATS, HONEST) if variant.fast]
    assert 8 <= len(fast) <= 14
    outcomes = await asyncio.gather(*map(arena.meet, fast))
    wrong = {v.name: fault for v, o in zip(fast, outcomes, strict=True) if (fault := fault_of(v, o, honest))}
    assert wrong == {}
