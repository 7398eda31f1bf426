"""The script that a command names must be in a worktree."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.engine.startup.command_needs import check_script, named_script
from core.record.errors import ProjectError

NAMED = {
    "python train.py --epochs 3": "train.py",
    "python -u -X dev ./src/train.py": "src/train.py",
    "OMP_NUM_THREADS=2 python3.12 train.py --seed $AUTORESEARCH_SEED": "train.py",
    "node bench/bench.js": "bench/bench.js",
    "uv run --no-sync train.py": None,
    "uv run train.py": "train.py",
    "poetry run python train.py": "train.py",
    ".venv/bin/python train.py": "train.py",
    "sh ./score.sh": "score.sh",
    "torchrun --nproc_per_node 1 train.py": "train.py",
    "python -m pkg.train": None,
    "python -c 'print(1)' x.py": None,
    "make -s && ./bench": None,
    "cd sub && python train.py": None,
    "python $SCRIPT.py": None,
    "python /opt/x/train.py": None,
    "python ../train.py": None,
    "cargo bench": None,
    "python 'a b.py'": "a b.py",
    "'": None,
}


@pytest.mark.parametrize("command", NAMED)
def test_the_script_of_a_command(command: str) -> None:
    assert named_script(command) == NAMED[command]


def test_a_script_that_no_worktree_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/bench.js").write_text("")
    (tmp_path / "own.py").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/run.py").write_text("")
    with pytest.raises(ProjectError, match=r"there is no file bench/bench\.js") as missing:
        check_script("node bench/bench.js", "run", tmp_path, (), lambda path: False)
    assert missing.value.hint == "did you mean tools/bench.js? Correct `run` in program.md"
    with pytest.raises(ProjectError, match=r"own\.py is not committed") as ignored:
        check_script("python own.py", "run", tmp_path, (), lambda path: False)
    assert ignored.value.hint.startswith("git add own.py")
    check_script("python data/run.py", "run", tmp_path, ("data/",), lambda path: False)
    check_script("python own.py", "run", tmp_path, (), lambda path: path == "own.py")
