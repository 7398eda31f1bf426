"""The command `init`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli

from core.program.printed_numbers import NUMBER, direction_of
from core.program.program import check_files, load
from core.program.survey import survey
from tests.cli.command import run, terminal
from tests.projects import git, make_project
from tui.main import main


@pytest.mark.parametrize("code", ["train.py", "main.py", "makemodel.py"])
def test_init_guesses_and_never_overwrites(tmp_path: Path, code: str) -> None:
    (tmp_path / code).write_text("print(1)\n")
    done = run(tmp_path, "init")
    assert done.returncode == 0 and "git init" in done.stdout
    program = load(tmp_path / "program.md")
    check_files(program, tmp_path)
    assert program.edit == (code,) and program.run == f"python {code}"
    (tmp_path / "program.md").write_text("+++\nmine")
    for words in (["init"], ["init", "--template", "nanotrain"]):
        again = run(tmp_path, *words)
        assert again.returncode == 1 and "already" in again.stderr
    assert (tmp_path / "program.md").read_text() == "+++\nmine"
    assert not (tmp_path / "nanotrain").exists()


def test_init_creates_its_folder_and_refuses_a_file(tmp_path: Path) -> None:
    done = run(tmp_path, "init", "new folder/deeper")
    assert done.returncode == 0 and (tmp_path / "new folder/deeper/program.md").is_file()
    assert "no script, package.json, Cargo.toml or Makefile says how it runs" in done.stdout
    (tmp_path / "file").touch()
    refused = run(tmp_path, "init", "file")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr


PYTHON = """\
import argparse, random
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
for step in range(3):
    print(f"step {step}: train loss {0.5:.4f}, val loss {0.25:.4f}")
open("data/train.bin")
"""
# (files, files that git ignores, settings of the program.md, words that init prints)
KINDS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, object], tuple[str, ...]]] = {
    "a script with options and data": (
        {"train.py": PYTHON, "data/README": "run prepare", "model.py": "", ".gitignore": "data/*.bin\n"},
        {"data/train.bin": "x"},
        {"edit": ["train.py"], "run": "python train.py --seed $AUTORESEARCH_SEED", "inputs": ["data/train.bin"],
         "metric": {"name": "val_loss", "direction": "min", "pattern": r"val\s+loss\s+(\S+)"}},
        ("train.py:5 prints it", "train_loss (min)", "has the option --seed"),
    ),
    "a script of another name, higher is better": (
        {"fitter.py": "score = 1\nprint('test accuracy:', score)\n", "setup.py": "", ".gitignore": ""}, {},
        {"edit": ["fitter.py"], "run": "python fitter.py",
         "metric": {"name": "test_accuracy", "direction": "max", "pattern": r"^test\s+accuracy:\s*(\S+)"}},
        ("the only Python file",),
    ),
    "uv, an environment of its own": (
        {"train.py": "import random\nrandom.seed(7)\nprint('%s loss: %.3f ms' % ('x', 0.5))\n", "uv.lock": "",
         "pyproject.toml": "[project]\nname = 'x'\n", ".gitignore": ".venv\n"}, {".venv/bin/x": ""},
        {"run": "python train.py", "metric": {"name": "loss", "direction": "min", "pattern": r"loss:\s*(\S+)"}},
        ("that of .venv", "train.py:2 sets a seed of its own"),
    ),
    "a package in src, with benchmarks": (
        {"src/pkg/__init__.py": "", "src/pkg/core.py": "", "bench/bench_pkg.py":
         "import pkg\nif __name__ == '__main__':\n    print(f'time: {1.5:.3f} s')\n"}, {},
        {"edit": ["src/pkg/**/*.py"], "run": "PYTHONPATH=src python bench/bench_pkg.py"},
        ("bench/bench_pkg.py:3",),
    ),
    "package.json": (
        {"package.json": '{"scripts": {"test": "x", "bench": "node bench/b.js"}}', "src/a.js": "",
         "bench/b.js": "console.log(`speed: ${x.toFixed(1)} ops/s`);\n", ".gitignore": "node_modules\n"},
        {"node_modules/x/index.js": ""},
        {"edit": ["src/**/*.js"], "run": "node bench/b.js", "inputs": ["node_modules"],
         "metric": {"name": "speed", "direction": "max",
                    "pattern": r"^speed:\s*(\S+)"}},
        ("scripts.bench",),
    ),
    "a number joined to its name": (
        {"package.json": '{"scripts": {"bench": "node b.js"}}',
         "b.js": 'const n = 5\nconsole.log("time: " + (n * 2).toFixed(3));\nconsole.log("ops/s:", n);\n'}, {},
        {"run": "node b.js", "metric": {"name": "time", "direction": "min", "pattern": r"^time:\s*(\S+)"}},
        ("b.js:2", "per_sec"),
    ),
    "a main guard without spaces": (
        {"pyproject.toml": "[tool.poetry]\nname='x'\n", "pkg/__init__.py": "",
         "pkg/train.py": "if __name__=='__main__':\n    print(f'val_loss: {1.0:.3f}')\n"}, {},
        {"edit": ["pkg/train.py"], "run": "PYTHONPATH=. python pkg/train.py"},
        ("pkg/train.py:2",),
    ),
    "Cargo.toml": (
        {"Cargo.toml": "[package]\nname = 'x'\n", "src/main.rs": 'println!("latency: {:.3} ms", x);\n'}, {},
        {"edit": ["src/**/*.rs"], "run": "cargo run --release --offline",
         "metric": {"name": "latency", "direction": "min", "pattern": r"^latency:\s*(\S+)"}},
        (),
    ),
    "a Makefile": (
        {"Makefile": "bench: bench.c hash.c\n\tcc -o bench bench.c hash.c\n", "hash.c": "int x;\n",
         "bench.c": 'int main() { printf("Lookup: %f\\n", 1.0); }\n'}, {},
        {"edit": ["hash.c"], "run": "make -s bench && ./bench",
         "metric": {"name": "lookup", "direction": "min", "pattern": r"^Lookup:\s*(\S+)"}},
        ("Makefile",),
    ),
    "nothing printed, so the time of it": (
        {"Makefile": "test:\n\tcc -o t t.c && ./t\n", "lib.c": "", "t.c": ""}, {},
        {"run": "bash -c 'time -p make -s test'", "metric": {"name": "seconds", "direction": "min",
                                                             "pattern": r"^real\s+([\d.]+)"}},
        ("duration is measured",),
    ),
    "a package's script of which a module prints for debugging": (
        {"pkg/__init__.py": "", "pkg/deep.py": "print(f'best error: {1.0:.3f}')\n",
         "demo.py": "import pkg.deep\nif __name__ == '__main__':\n    print('accuracy:', x)\n"}, {},
        {"metric": {"name": "accuracy", "direction": "max", "pattern": r"^accuracy:\s*(\S+)"}},
        ("demo.py:3",),
    ),
    "a log file beside what the first rank prints": (
        {"train.py": "def print0(*words): print(*words)\n"
         "log.write('s:%d tel:%f' % (1, val_loss))\n"
         "print0(f'val loss {val_loss}')\n"}, {},
        {"metric": {"name": "val_loss", "direction": "min", "pattern": r"^val\s+loss\s+(\S+)"}},
        ("train.py:3",),
    ),
    "numbers of two splits by one line": (
        {"train.py": "for split in ('train', 'test'):\n    print('%s score: %.2f%% correct' % (split, 1.0))\n"}, {},
        {"metric": {"name": "test_score", "direction": "max", "pattern": r"\btest\s+score:\s*" + NUMBER + "%"}},
        (),
    ),
    "numbers of several candidates by one line": (
        {"package.json": '{"scripts": {"bench": "node b.js"}}', "a.js": "",
         "b.js": "console.log(`${name} took ${ms}ms`);\n"}, {}, {"run": "node b.js"},
        ("the value of `name` stands in front",),
    ),
    "a Makefile with many files, a library's name and tests": (
        {"Makefile": "tool: tool.c\n\tcc -o tool *.c\ntest: tool\n\t./tool x\n", "tool.c": "int main(void) {}\n",
         **{f"{name}.c": "" for name in "abcde"}}, {},
        {"edit": ["*.c"], "run": "make -s && bash -c 'time -p make -s test'"},
        ("target test",),
    ),
    "a server": (
        {"Makefile": "serve: serve.c net.c\n\tcc -o serve serve.c net.c\n", "serve.c": "int main(void) { loop(); }\n",
         "net.c": "listen(fd, 5);\n"}, {}, {"edit": ["net.c", "serve.c"]},
        ("net.c:1: it waits for connections",),
    ),
    "a benchmark in Python of a program in C": (
        {"Makefile": "all: serve\n", "serve.c": "int main(void) {}\n", "bench.py": "print(f'seconds: {x:.3f}')\n"}, {},
        {"edit": ["serve.c"], "run": "make -s && python bench.py"},
        ("bench.py:1 prints it",),
    ),
    "a benchmark of the module beside it": (
        {"bench.py": "import fast\nprint('ops/s:', fast.go())\n", "fast.py": "", "slow.py": ""}, {},
        {"edit": ["fast.py"], "run": "python bench.py"}, (),
    ),
    "CMake": (
        {"CMakeLists.txt": "", "lib/x.h": "", "lib/y.h": "", "lib/x.cpp": "", "test/t.cpp": "", "vendor/lint.py":
         "if __name__ == '__main__':\n    print('errors: %d' % 1)\n"}, {},
        {"edit": ["lib/**/*.cpp"], "run": "cmake -S . -B build -DCMAKE_BUILD_TYPE=Release > build.log && cmake --build "
         "build >> build.log && bash -c 'time -p ctest --test-dir build'"},
        (),
    ),
    "scripts of another language, with a test in shell": (
        {"test.sh": "perl a.pl", "a.pl": "", "b.pl": "", "c.pl": "", "other.py": ""}, {},
        {"edit": ["*.pl"], "run": "bash -c 'time -p bash test.sh'"},
        ("test.sh at the top",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_init_reads_the_repository(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files, ignored, settings, words = KINDS[kind]
    for name, text in {**files, **ignored}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    monkeypatch.chdir(tmp_path)
    code = main(["init", "--yes"])
    said = capsys.readouterr()
    assert code == 0, said.err
    for word in words:
        assert word in said.out, said.out
    text = (tmp_path / "program.md").read_text()
    front = tomli.loads(text.split("+++\n")[1])
    assert {key: front.get(key) for key in settings} == settings
    check_files(load(tmp_path / "program.md"), tmp_path)
    assert "@CODE@" not in text and not [line for line in text.splitlines() if line != line.rstrip()]


def test_init_says_what_would_end_a_first_session(tmp_path: Path) -> None:
    code = """\
device = 'cuda'  # examples: 'cpu', 'cuda'
parser.add_argument('--max-steps', type=int, default=-1)
data = MNIST('../data', download=True)
print("loss", loss)
"""
    (tmp_path / "train.py").write_text(code)
    (tmp_path / "README.md").write_text("```\n$ python train.py config/small.py --batch=4\n```\n")
    told = json.loads(run(tmp_path, "init", "--json").stdout)
    words = "\n".join(told["notes"])
    assert "train.py:1: the device is cuda" in words
    told_limit = [line["why"] for line in told["settings"] if line["key"] == "budget.at_limit"]
    assert len(told_limit) == 1 and told_limit[0].startswith("train.py:2: it trains until it is stopped")
    assert load(tmp_path / "program.md").scored_at_limit
    assert "train.py:3: this may use files of the home folder" in words
    assert told["launches"] == ["python train.py", "python train.py config/small.py --batch=4"]


def test_without_a_gpu_the_command_for_a_cpu_is_taken(tmp_path: Path) -> None:
    """README's command with its arguments, and the configuration that it names is editable too."""
    files = {
        "train.py": "device = 'cuda'\nmax_iters = None\nprint('val loss', 1.0)\n",
        "config/small.py": "",
        "README.md": "```\n$ python train.py config/small.py --device=cpu\n$ python train.py config/small.py\n```\n",
    }
    found = survey(list(files), [], lambda path: files.get(path, ""), gpu=False)
    launch = found.launches[0]
    assert launch.run == "python train.py config/small.py --device=cpu" and launch.edit == (
        "train.py",
        "config/small.py",
    )
    assert not [note for note in found.notes if "cuda" in note] and found.endless == "train.py:2"
    assert survey(list(files), [], lambda path: files.get(path, "")).launches[0].run == "python train.py"


def test_settings_are_put_above_a_program_of_prose(tmp_path: Path) -> None:
    """As in the repositories for which the researcher is a coding agent that reads program.md."""
    prose = "# program\n\nEdit train.py.\n\n+++ is no fence here\n"
    (tmp_path / "program.md").write_text(prose)
    (tmp_path / "train.py").write_text("from prepare import TIME_BUDGET\nprint(f'val_bpb:    {1.0:.6f}')\n")
    (tmp_path / "prepare.py").write_text("TIME_BUDGET = 300\n")
    done = run(tmp_path, "init", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["path"] == str(tmp_path / "program.md") and told["next"]
    text = (tmp_path / "program.md").read_text()
    assert told["text"] == text and text.startswith("+++\n") and text.endswith(prose)
    program = load(tmp_path / "program.md")
    assert program.prose == prose.strip("\n") and program.metric.name == "val_bpb"
    assert program.run_budget("cpu").seconds == 480.0  # more than the code's own 300 s
    again = run(tmp_path, "init", "--json")
    assert again.returncode == 1 and "already" in again.stderr and "doctor" in again.stderr


def test_data_that_git_does_not_know_is_an_input(tmp_path: Path) -> None:
    """A repository without .gitignore, and data that was fetched into it; the patterns offered are valid TOML."""
    code = "open('data/x.bin')\nprint(f'final loss of loaded: {a}')\nprint(f\"the best model's loss: {a}\")\n"
    (tmp_path / "train.py").write_text(code)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x.bin").write_text("1")
    run(tmp_path, "init", "--yes")
    text = (tmp_path / "program.md").read_text()
    assert load(tmp_path / "program.md").inputs == ("data",)
    offered = [line.partition("pattern = ")[2] for line in text.splitlines() if line.startswith("#   name")]
    assert [tomli.loads(f"x = {line}")["x"] for line in offered] == [r"^the\s+best\s+model's\s+loss:\s*(\S+)"]


def test_init_asks_in_a_terminal_and_takes_another_number(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PYTHON)
    with terminal(tmp_path, "init") as term:
        term.wait_for("write it?")
        term.type("n\n")
        assert term.end() == 1 and not (tmp_path / "program.md").exists()
    with terminal(tmp_path, "init") as term:
        term.wait_for("write it?")
        term.type("2\n")
        assert term.end() == 0
    assert load(tmp_path / "program.md").metric.name == "train_loss"


def test_the_nanotrain_template_is_a_valid_project(tmp_path: Path) -> None:
    folder = tmp_path / "my nano"
    home = tmp_path / "home"
    home.mkdir()
    done = run(tmp_path, "init", "my nano", "--template", "nanotrain", env={"HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert "'" in done.stdout  # the folder's name is quoted for the shell
    assert git(folder, "status", "--porcelain") == "" and git(folder, "log", "--format=%s").count("\n") == 0
    program = load(folder / "program.md")
    check_files(program, folder, git(folder, "ls-files").splitlines())
    assert program.edit == ("nanotrain/train.py",) and (folder / "nanotrain/score.py").is_file()
    assert run(folder, "status").returncode == 3


def test_the_template_does_not_change_an_existing_repository(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p")
    git(folder, "rm", "-q", "program.md")
    git(folder, "commit", "-q", "-m", "away")
    (folder / "staged.txt").write_text("mine")
    git(folder, "add", "staged.txt")
    done = run(folder, "init", "--template", "nanotrain")
    assert done.returncode == 0, done.stderr
    assert git(folder, "status", "--porcelain") == "A  staged.txt"


def test_the_template_reports_a_failed_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    hook = tmp_path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no commits on Mondays' >&2; exit 1\n")
    hook.chmod(0o755)
    done = run(tmp_path, "init", "--template", "nanotrain")
    assert done.returncode == 1 and "git commit failed: no commits on Mondays" in done.stderr
    assert "the files are written" in done.stderr and "git commit -m nanotrain" in done.stderr


def test_a_duration_is_better_when_it_is_lower() -> None:
    assert [direction_of(name) for name in ("elapsed_s", "duration_s", "wall_s", "tok_s")] == [
        "min",
        "min",
        "min",
        "max",
    ]
