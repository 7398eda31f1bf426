"""The control researcher: the constants it finds, its search ranges, and that it learns, resumes and never repeats."""

from __future__ import annotations

import math

import pytest

from core.record.errors import ResearcherMisconfigured, ScriptEnded
from core.record.proposal import Proposal
from core.research.control.constants import Constant, edits_for, find_constants, rounded, written
from core.research.control.tpe import ControlResearcher
from tests import ROOT
from tests.research.support import Heard, Session

NANOTRAIN = ROOT / "nanotrain" / "train.py"

CODE = '''\
"""Some code. LR = 0.1 in words."""
LR = 0.1  # step size
MATRIX_LR = 0.1               # of matrices
MATRIX_LR_CUDA = 0.3
MATRIX_LR_CPU: float = 3e-4
BATCH = 2**14                 # tokens
ROWS = 48
STEPS_BACK = 3
USE_BIAS = False
BETAS = (0.9, 0.95, 1e-8)     # decay
DROPOUT = 0.0
SHIFT = -0.5
HALF = 1 / 2
SEED = 42
NAME = "x"
TABLE = {"A": 1.0}
GIVEN = 3.0                   # somewhere [1..10 log]
COUNT = 4                     # [2..9]
KEPT = 0.7                    # [fixed]
TWICE = 0.1
TWICE = 0.2
lower = 0.1
ÄRGER, B = 0.1, 0.2
if True:
    INNER = 0.3


def f():
    LOCAL = 0.4
    return LOCAL
'''
# The same with upper-case constants only: what is found elsewhere has its own tests.
UPPER = CODE.replace('TABLE = {"A": 1.0}\n', "").replace("lower = 0.1\n", "")


def found(device: str = "cpu") -> dict[str, Constant]:
    return find_constants({"train.py": CODE}, device)


def test_numeric_constants_are_found() -> None:
    assert list(found()) == [
        "LR", "MATRIX_LR", "MATRIX_LR_CPU", "BATCH", "ROWS", "STEPS_BACK", "USE_BIAS", "BETAS[0]", "BETAS[1]",
        "BETAS[2]", "DROPOUT", "SHIFT", "HALF", "GIVEN", "COUNT", "lower", "TABLE.A",
    ]  # fmt: skip
    assert "MATRIX_LR_CUDA" in found("cuda") and "MATRIX_LR_CPU" not in found("cuda")


def test_the_search_range_of_each_constant_is_derived() -> None:
    spaces = {key: (c.space.scale, c.space.low, c.space.high) for key, c in found().items()}
    assert spaces["LR"] == ("log", 0.025, 0.4)
    assert spaces["BATCH"] == ("power", 12, 16)
    assert spaces["ROWS"][0] == "linear" and found()["ROWS"].space.step == 16
    assert spaces["USE_BIAS"][0] == "choice"
    assert spaces["BETAS[1]"][0] == "one_minus" and spaces["BETAS[1]"][2] < 1
    assert spaces["DROPOUT"] == ("linear", 0.0, 0.3)
    assert spaces["SHIFT"] == ("linear", -1.0, -0.25)
    assert spaces["GIVEN"] == ("log", 1.0, 10.0)
    assert spaces["COUNT"] == ("linear", 2.0, 9.0)
    assert all(c.space.high <= 1 for key, c in found().items() if key in ("HALF", "DROPOUT", "BETAS[0]"))


def test_edits_change_one_unique_line_and_keep_the_comment_column() -> None:
    files, constants = {"train.py": CODE}, found()
    session = Session(files)
    edits = edits_for(files, constants, {"BATCH": 2**15, "BETAS[0]": 0.8, "BETAS[1]": 0.999, "LR": 0.05})
    assert len(edits) == 3
    new = session.apply(0, Proposal(hypothesis="h", edits=tuple(edits)))["train.py"]
    assert "BATCH = 2**15                 # tokens\n" in new
    assert "BETAS = (0.8, 0.999, 1e-8)    # decay\n" in new
    assert "\nLR = 0.05  # step size\nMATRIX_LR = 0.1 " in new
    assert {k: c.value for k, c in find_constants({"train.py": new}).items()} == {
        **{k: c.value for k, c in constants.items()}, "BATCH": 2**15, "BETAS[0]": 0.8, "BETAS[1]": 0.999, "LR": 0.05,
    }  # fmt: skip


@pytest.mark.parametrize("value", [1.0, 1e-9, 123456.0, 0.1, 3e30, 0.0])
def test_written_values_are_read_back(value: float) -> None:
    c = found()["LR"]
    new = rounded(c, value)
    assert float(written(c, new)) == new and math.isclose(new, value, rel_tol=6e-3)
    assert "." in written(c, new) or "e" in written(c, new)


def test_constants_of_the_same_name_in_two_files_are_distinct() -> None:
    assert list(find_constants({"a.py": "LR = 0.1\n", "b.py": "LR = 0.2\nWD = 0.1\n", "c.txt": "LR = 1.0"})) == [
        "a.py:LR", "b.py:LR", "WD",
    ]  # fmt: skip


async def play(session: Session, count: int, *, crash_every: int = 0, start: int = 1, fresh: bool = False) -> list[str]:
    """Run the control on a quadratic metric of all constants and return the proposed hypotheses."""
    first = find_constants(session.files[0])
    researcher = ControlResearcher()
    said = []
    for number in range(start, start + count):
        if fresh:
            researcher = ControlResearcher()
        session.start(number, "control")
        proposal = await researcher.propose(session.brief(number), Heard())
        said.append(proposal.hypothesis)
        session.propose(number, proposal)
        if crash_every and number % crash_every == 0:
            session.judge(number, "crashed")
            continue
        value = bowl(session.files[number], first)
        best = session.state.best_metric
        session.judge(number, "kept" if best is not None and value < best - 1e-4 else "discarded", value)
    return said


def bowl(files: dict[str, str], first: dict[str, Constant]) -> float:
    total = 2.0
    for n, (key, c) in enumerate(sorted(find_constants(files).items())):
        away = math.log2((abs(c.value) + 1e-3) / (abs(first[key].value) + 1e-3))
        wanted = (-1.0, 0.5, 1.0)[n % 3]
        total += 0.02 * (min(abs(away - wanted), 2.0) ** 2 - wanted**2)
    return total


def ready(code: str = UPPER) -> Session:
    session = Session({"train.py": code})
    session.calibrate(bowl(session.files[0], find_constants(session.files[0])))
    return session


async def test_it_improves_and_never_repeats_a_proposal() -> None:
    session = ready()
    start = session.state.best_metric or 0.0
    said = await play(session, 40, crash_every=9)
    assert session.state.best_metric is not None and session.state.best_metric < start - 0.05
    texts = [session.files[n]["train.py"] for n in range(41)]
    assert len(set(texts)) == 41
    assert len(set(said)) > 35 and any("TPE expects" in hypothesis for hypothesis in said)


async def test_early_proposals_change_one_constant() -> None:
    session = ready()
    await play(session, 16)
    changed = [len(x.extra["changed"]) for n, x in session.state.experiments.items() if n]  # type: ignore[arg-type]
    assert changed[:8] == [1] * 8 and max(changed) <= 3


async def test_a_resumed_session_makes_the_same_proposals() -> None:
    assert await play(ready(), 14) == await play(ready(), 14, fresh=True)


async def test_another_seed_makes_other_proposals() -> None:
    session = ready()
    session.start(1, "control")
    said = {(await ControlResearcher(seed).propose(session.brief(1), Heard())).hypothesis for seed in range(6)}
    assert len(said) > 2


async def test_running_and_unlogged_proposals_count_as_tried() -> None:
    session = ready("A = 0.5\nUSE = False\n")
    researcher = ControlResearcher()
    files = []
    for number in range(1, 13):
        session.start(number, "control")
        proposal = await researcher.propose(session.brief(number), Heard())  # never logged, never judged
        files.append(session.apply(0, proposal)["train.py"])
    assert len(set(files)) == 12


async def test_a_proposal_has_a_hypothesis_and_a_rationale() -> None:
    session = ready()
    await play(session, 10)
    session.start(11, "control")
    heard = Heard()
    proposal = await ControlResearcher().propose(session.brief(11), heard)
    assert "no language model" in heard.notes[0] and "no language model" in proposal.rationale
    thought = "".join(heard.thoughts)
    assert "TPE splits the results into 2 good and 9 bad" in thought and "Known: 11 results" in thought
    assert " → " in proposal.hypothesis and proposal.kind != ""


async def test_feedback_causes_another_proposal() -> None:
    session = ready()
    researcher = ControlResearcher()
    session.start(1, "control")
    first = await researcher.propose(session.brief(1), Heard())
    second = await researcher.propose(session.brief(1, feedback="the smoke check failed"), Heard())
    assert first.edits != second.edits


async def test_a_rebased_experiment_counts_with_the_values_of_its_new_parent() -> None:
    from core.record import events as e
    from core.research.control.tpe import history

    session = ready()
    await play(session, 2)
    session.start(3, "control")
    session.propose(3, await ControlResearcher().propose(session.brief(3), Heard()))
    changed = session.state.experiments[3].extra["changed"]
    assert isinstance(changed, dict)
    parent = 1 if session.state.experiments[3].parent != 1 else 2
    session.add(e.Rebased(experiment=3, parent=parent, parent_commit="c", commit="c"))
    trials = {t.experiment: t for t in history(session.state, find_constants(session.files[0]), session.state.best)}
    assert trials[3].values == {**trials[parent].values, **{k: v[1] for k, v in changed.items()}}


async def test_code_without_constants_is_reported_with_a_hint() -> None:
    session = Session({"train.py": "import model\nepochs = 3\nmodel.train(epochs)\n", "notes.txt": "A = 1"})
    session.start(1, "control")
    with pytest.raises(ResearcherMisconfigured) as caught:
        await ControlResearcher().propose(session.brief(1), Heard())
    assert "LEARNING_RATE = 0.01" in caught.value.hint and "--researcher human" in caught.value.hint
    assert "train.py" in caught.value.where


async def test_it_ends_when_every_value_has_been_tried() -> None:
    session = ready("USE_A = False\nUSE_B = True\n")
    await play(session, 3)
    session.start(4, "control")
    with pytest.raises(ScriptEnded):
        await ControlResearcher().propose(session.brief(4), Heard())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
async def test_the_constants_of_nanotrain_are_found(device: str) -> None:
    """train.py has enough constants, none of the other device is changed, and every proposal parses."""
    text = NANOTRAIN.read_text()
    constants = find_constants({"nanotrain/train.py": text}, device)
    other = "CUDA" if device == "cpu" else "CPU"
    assert len(constants) >= 15 and not any(key.endswith(other) for key in constants)
    assert not {f"CONTEXT_{device.upper()}", f"HEAD_DIM_{device.upper()}", "LOG_SECONDS"} & set(constants)
    session = Session({"nanotrain/train.py": text}, edit=["nanotrain/train.py"])
    session.calibrate(2.0)
    for number in range(1, 9):
        session.start(number, "control")
        proposal = await ControlResearcher().propose(session.brief(number, device=device), Heard())
        session.propose(number, proposal)
        session.judge(number, "discarded", 2.0 + number / 100)


async def test_what_it_tries_for_nanotrain_is_the_same_as_ever() -> None:
    """Sessions recorded before other kinds of constants were found go on as they would have."""
    session = Session({"nanotrain/train.py": NANOTRAIN.read_text()}, edit=["nanotrain/train.py"])
    session.calibrate(2.0)
    tried = []
    for number in range(1, 9):
        session.start(number, "control")
        proposal = await ControlResearcher().propose(session.brief(number), Heard())
        tried.append(proposal.hypothesis.partition(":")[0])
        session.propose(number, proposal)
        session.judge(number, "discarded", 2.0 + number / 100)
    assert tried == [
        "HEAD_LR_CPU 0.02 → 0.04", "EMBED_LR_CPU 0.6 → 1.2", "DEPTH_CPU 2 → 1", "SCALAR_LR 0.02 → 0.01",
        "BATCH_TOKENS_CPU 2**11 → 2**10", "X0_SCALE 0.1 → 0.05", "NEWTON_SCHULZ_STEPS 4 → 8",
        "HEAD_STD 0.001 → 0.00334",
    ]  # fmt: skip
