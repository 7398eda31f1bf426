"""The benchmarks: what they change in nanotrain, and the call of all of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import planted, record_demo
from benchmarks.__main__ import BENCHMARKS, NEED_INPUT
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


def test_all_runs_each_benchmark_whatever_the_exit_code_of_another(tmp_path: Path) -> None:
    for module, _ in BENCHMARKS.values():
        stub = tmp_path.joinpath("benchmarks", *module.split(".")).with_suffix(".py")
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text("import sys\nprint('ran', *sys.argv)\nsys.exit(len(sys.argv) > 1)\n")
    (tmp_path / "benchmarks" / "__init__.py").touch()  # without it the installed package would come first
    shutil.copy(ROOT / "benchmarks" / "__main__.py", tmp_path / "benchmarks")
    done = subprocess.run([sys.executable, "-m", "benchmarks", "all"], cwd=tmp_path, capture_output=True, text=True)
    ran = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("ran ")]
    assert (ran, done.returncode) == ([name for name in BENCHMARKS if name not in NEED_INPUT], 1)
