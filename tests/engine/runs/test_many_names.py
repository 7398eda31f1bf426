"""What an earlier run leaves in names of missing files gains a later one nothing: where very many were new, a gain is
measured again.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from core.engine.runs.counted.many_names import many_names_words
from core.lab.shim.clocks.new_names import KNOWN_NAMES, NewNames
from core.ordered import Ordered
from core.record.state import Baseline, State
from tests.engine.runs.test_overrun import experiment, ran
from tests.engine.support import engine, wait_end
from tests.projects import PROGRAM, TRAIN, make_project, write_script

pytestmark = pytest.mark.skipif(
    not Path(KNOWN_NAMES).exists(), reason="the kernel does not tell how many names it knows"
)


def words(new: int | None, *baseline: int | None) -> str:
    runs = [replace(ran(number, 6.0), new_names=one) for number, one in enumerate(baseline)]
    return many_names_words(State(experiments=Ordered({0: experiment(*runs)}), baseline=Baseline(2.0, 0.1, 3)), new)


def test_many_are_far_more_than_at_the_quietest_run_of_the_unchanged_code() -> None:
    assert words(None, 10) == words(50_000) == words(350_000, 100_000, 900_000) == words(40_000, None) == ""
    assert words(60_000, 0).startswith("it, or another program, looked up 60,000 names") and words(360_000, 100_000)


def test_what_the_kernel_learns_is_summed_and_what_it_forgets_is_not_subtracted(tmp_path: Path) -> None:
    count = tmp_path / "dentry-state"

    def known(names: int, missing: int) -> None:
        count.write_text(f"{names}\t{names - 5}\t45\t0\t{missing}\t0\n")

    known(100, 40)
    names = NewNames(str(count))
    for missing in (50, 20, 25):
        known(900, missing)
        names.sample()
    assert names.total == 15
    known(100, 0)  # as before Linux 5.0
    old = NewNames(str(count))
    known(130, 0)
    old.sample()
    assert old.total == 30 and NewNames(str(tmp_path / "none")).total is None
    count.write_text("nothing that a number can be read from")
    assert NewNames(str(count)).total is None


@pytest.mark.slow
def test_a_gain_made_while_many_names_were_looked_up_counts_once_it_is_made_without_them(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", program=PROGRAM, train=TRAIN)
    look = "import os\nfor n in range(150_000): os.path.exists(f'/usr/NAME{n}')\n"

    def change(name: str) -> dict[str, object]:
        code = look.replace("NAME", name)
        edits = [{"path": "train.py", "search": "import time\n", "replace": f"import time\n{code}"},
                 {"path": "train.py", "search": "RATE = 0.5", "replace": "RATE = 0.3"}]  # fmt: skip
        return {"hypothesis": "it looks around", "edits": edits}

    unique = f"no-{os.getpid()}-{os.urandom(4).hex()}"
    fresh, fixed = "{os.urandom(8).hex()}", f"{unique}-"
    script = write_script(tmp_path / "s.jsonl", [change(fresh), change(fixed)])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        found = wait_end(paths)
    always, once = found.experiments[1], found.experiments[2]
    assert always.verdict == "rejected" and "names of missing files" in always.reason, always.reason
    assert len(always.runs) == 3 and len({run.seed for run in always.runs}) == 1
    assert once.runs[0].ended == "abandoned" and "measured again, not counted" in once.runs[0].reason
    assert once.verdict == "kept" and once.runs[1].metric is not None and once.runs[1].seed == once.runs[0].seed
