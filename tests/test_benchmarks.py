"""The benchmarks: what they change in nanotrain, and the call of all of them."""

from __future__ import annotations

from benchmarks import planted, record_demo
from benchmarks.gpu import bare_machine
from benchmarks.nanotrain import scorer_cost
from tests import ROOT


def test_what_the_benchmarks_replace_in_train_py_is_there_once() -> None:
    source = (ROOT / "nanotrain" / "train.py").read_text(encoding="utf-8")
    searched = [scorer_cost.HEAD, *(edit["search"] for edit in bare_machine.PROPOSAL["edits"])]
    searched += [old for _, old, _ in (*planted.NOTHING, *planted.WORSE)]
    searched += [old for old, _ in (*planted.DETUNED, *record_demo.WORSE)]
    assert [text for text in searched if source.count(text) != 1] == []
    demo = source + "".join(new for _, new in record_demo.WORSE)
    for proposal in record_demo.PROPOSALS:
        for edit in proposal["edits"]:
            assert edit["search"] in demo
            demo += edit["replace"]
