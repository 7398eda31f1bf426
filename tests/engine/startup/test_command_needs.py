"""The script that a command names must be in a worktree."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.engine.startup.command_needs import check_script, named_script
from core.record.errors import ProjectError
from tests.lab.python.test_virtual_environment import make_environment

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


def test_a_program_that_git_does_not_hold_is_refused_unless_it_is_linked(tmp_path: Path) -> None:
    for name in ("node_modules/.bin/vite", "tools/build/bench"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch(0o755)
    make_environment(tmp_path / ".venv")

    def holds(path: str) -> bool:
        return path == "tools"

    for command, folder in (
        ("node_modules/.bin/vite bench", "node_modules"),
        ("A=1 ./tools/build/bench", "tools/build"),
        ("node node_modules/vite.js", "node_modules"),
    ):
        (tmp_path / "node_modules" / "vite.js").touch()
        with pytest.raises(ProjectError, match=f"{folder} is not in git") as refused:
            check_script(command, "run", tmp_path, (), holds)
        assert f'inputs = ["{folder}"]' in refused.value.hint
        check_script(command, "run", tmp_path, (folder,), holds)
    check_script(".venv/bin/python -m train", "run", tmp_path, (), holds)
    check_script("make && tools/build/bench", "run", tmp_path, (), holds)  # make may build it
    with pytest.raises(ProjectError, match="no file build/none"):
        check_script("build/none --bench", "run", tmp_path, (), holds)
