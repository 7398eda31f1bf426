"""Hints of crashes: the reason held against the project, the user's shell, git and the sandbox."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from core.engine.runs.hints.crash_hint import crash_hint
from core.engine.runs.hints.known import Crash, Known
from core.record.state import BASELINE
from core.views import in_short
from tests.engine.support import engine, wait_end
from tests.projects import PROGRAM, TRAIN, git, make_project

MISSING = "FileNotFoundError: [Errno 2] No such file or directory: '{}'"
MODULE = "ModuleNotFoundError: No module named '{}'"
LOST = "socket.gaierror: [Errno -3] Temporary failure in name resolution"


class Place:
    """A project in git with files that git ignores, and files of the user's outside it."""

    def __init__(self, folder: Path) -> None:
        self.project, self.home, self.store = folder / "p", folder / "home", folder / "store" / "big"
        self.python = folder / "tools" / "python"  # that of the runs
        self.python.parent.mkdir(parents=True)
        self.python.symlink_to(sys.executable)
        make_project(self.project)
        self.write("src/toyopt/__init__.py", "sub/cfg.txt", "sub/run.py", "go.sh")
        self.write(".gitignore", text="data/\nbuild/\nnode_modules/\nvenv/\n*_version.py\n")
        self.git("add", "-A")
        self.git("commit", "-qm", "more")
        self.write(
            "data/x.csv", "build/libfast.so", "node_modules/lodash/index.js", "src/toyopt/_version.py", "notes.txt"
        )
        self.write("venv/pyvenv.cfg", "venv/bin/python", "venv/lib/python3.11/site-packages/tomlx.py")
        for path in (self.home / ".cache/corpus/x.txt", self.home / ".cache/huggingface/m", self.store / "x.bin"):
            path.parent.mkdir(parents=True)
            path.touch()

    def write(self, *names: str, text: str = "") -> None:
        for name in names:
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def git(self, *words: str) -> None:
        git(self.project, *words)

    def hint(
        self, reason: str, output: str = "", code: str = "", shell: dict[str, str] | None = None, **more: object
    ) -> str:
        run = self.project / "sessions" / "s" / "runs" / "1"
        facts: dict[str, object] = {"key": "run", "command": "python train.py", "code": {"train.py": code}, **more}
        known = Known(
            project=self.project, worktree=self.project / "sessions" / "s" / "worktrees" / "1", private=run / "home",
            passed={"PATH": f"{self.python.parent}:/usr/bin:/bin"}, shell={"HOME": str(self.home), **(shell or {})},
            **facts,  # type: ignore[arg-type]
        )  # fmt: skip
        return crash_hint(Crash(reason=f"exited with code 1: {reason}", output=output), known)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("hints"))


def test_files_that_git_does_not_hold_become_inputs(place: Place) -> None:
    assert place.hint(MISSING.format("data/x.csv")).endswith('write inputs = ["data"] into program.md')
    worktree = f"{place.project}/sessions/s/worktrees/1"
    for reason in (
        f"Error: ENOENT: no such file or directory, open '{worktree}/data/x.csv'",
        "a.c:1:10: fatal error: data/x.csv: No such file or directory",
        "panicked: cannot read data/x.csv (main.rs:1:2)",
        "cat: data/x.csv: No such file or directory",
        "make: No rule to make target 'data/x.csv', needed by 'all'.",
    ):
        assert 'inputs = ["data"]' in place.hint(reason), reason
    assert 'inputs = ["raw", "data"]' in place.hint(MISSING.format("data/x.csv"), inputs=("raw",))
    assert "git" in (said := place.hint(MISSING.format("notes.txt"))) and 'inputs = ["notes.txt"]' in said
    code = 'std::fs::read("data/x.csv")'
    assert 'inputs = ["data"]' in place.hint("panicked: Os { code: 2, kind: NotFound }", code=code)
    place.write("main.rs", text=code)
    place.git("add", "main.rs")
    reason = "panicked: Os { code: 2, kind: NotFound } (main.rs:1:40)"
    assert 'inputs = ["data"]' in place.hint(reason, shell={"RUST_BACKTRACE": "1"}, output="run with RUST_BACKTRACE=1")
    assert place.hint(MISSING.format("nowhere.txt")) == "" == place.hint("ValueError: data/x.csv is bad")


def test_libraries_and_files_elsewhere(place: Place) -> None:
    library = "OSError: {}: cannot open shared object file: No such file or directory"
    assert place.hint(library.format("./build/libfast.so")).endswith('inputs = ["build"] into program.md')
    assert 'run = "LD_LIBRARY_PATH=build python train.py"' in place.hint(library.format("libfast.so"))
    assert place.hint(MISSING.format("cfg.txt"), command="python sub/run.py").endswith(
        'write run = "cd sub && python run.py" into program.md'
    )
    start = "python: can't open file '{}/sessions/s/worktrees/1/run.py': [Errno 2] No such file or directory"
    assert 'run = "python sub/run.py"' in place.hint(start.format(place.project), command="python run.py")


def test_paths_outside_the_project_are_linked(place: Place) -> None:
    said = place.hint(MISSING.format(place.store / "x.bin"))
    assert f"`ln -s {place.store} {place.project}/big`" in said and 'inputs = ["big"]' in said
    said = place.hint(MISSING.format(f"{place.project}/sessions/s/runs/1/home/.cache/corpus/x.txt"))
    assert f"ln -s {place.home}/.cache/corpus" in said and f'run = "HOME={place.home} python train.py"' in said
    writes = f"    open('{place.store}/out.txt', 'w')\n"
    assert "$AUTORESEARCH_RUN_DIR" in place.hint(MISSING.format(f"{place.store}/out.txt"), output=writes)
    assert "$AUTORESEARCH_RUN_DIR" in place.hint("OSError: [Errno 30] Read-only file system: '/data/out'")


def test_modules(place: Place) -> None:
    assert 'run = "PYTHONPATH=src python train.py"' in place.hint(MODULE.format("toyopt.main"))
    assert "PYTHONPATH" not in place.hint(MODULE.format("toyopt"), command="PYTHONPATH=src python train.py")
    assert 'inputs = ["src/toyopt/_version.py"]' in place.hint(MODULE.format("toyopt._version"))
    python = f"{place.project}/venv/bin/python"
    assert f'run = "{python} train.py"' in place.hint(MODULE.format("tomlx"))
    assert f'run = "{python} train.py"' in place.hint(MODULE.format("tomlx"), command="uv run --no-sync train.py")
    assert f"runs use {place.python}" in (said := place.hint(MODULE.format("yaml_of_nobody"))) and "install" not in said
    place.write("wants.py", text="import numpy_of_nobody\n")
    place.git("add", "wants.py")
    assert "pip install numpy_of_nobody" in place.hint(MODULE.format("numpy_of_nobody"))
    assert 'inputs = ["node_modules"]' in place.hint("Error: Cannot find module 'lodash' (b.js:1)", command="node b.js")
    assert "npm --prefix" in place.hint("Error: Cannot find package 'left-pad' imported from b.mjs", command="node b")


def test_an_empty_submodule_is_filled(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "outer"
    shutil.copytree(place.project, other)
    moved = Place.__new__(Place)
    moved.project, moved.home, moved.python = other, place.home, place.python
    moved.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(place.project), "vendor/lib")
    moved.git("commit", "-qm", "vendor")
    moved.git("submodule", "deinit", "-f", "-q", "vendor/lib")
    wanted = f"git -C {other} submodule update --init --recursive vendor/lib"
    assert wanted in moved.hint(MODULE.format("mathx"), code='sys.path.insert(0, "vendor/lib")')
    assert wanted in moved.hint(MISSING.format("vendor/lib/a.txt"))


def test_variables_of_the_shell(place: Place) -> None:
    shell = {"DATA_ROOT": "/usr/share", "WORDS": "two words", "MY_API_KEY": "sk-verysecret", "HF_HUB_OFFLINE": "1"}
    assert 'run = "DATA_ROOT=/usr/share python train.py"' in place.hint("DATA_ROOT is not set", shell=shell)
    assert "WORDS='two words' python" in place.hint("KeyError: 'WORDS'", shell=shell)
    assert 'run = "export DATA_ROOT=/usr/share; make && ./b"' in place.hint(
        "DATA_ROOT", shell=shell, command="make && ./b"
    )
    assert "DATA_ROOT=" in place.hint("the corpus is gone", shell=shell, code="os.environ.get('DATA_ROOT')")
    said = place.hint("KeyError: 'MY_API_KEY'", shell=shell)
    assert "MY_API_KEY" in said and "secret" not in said
    assert "HF_HUB_OFFLINE=1 python" in place.hint("OSError: cannot reach hub", shell=shell)
    assert "HF_HOME=huggingface HF_HUB_OFFLINE=1" in place.hint("OSError: We couldn't connect to huggingface.co")
    linked = place.hint("KeyError: 'CORPUS'", shell={"CORPUS": str(place.store)})
    assert f"ln -s {place.store}" in linked and f"CORPUS={place.store} python" in linked


@pytest.mark.parametrize(
    ("reason", "command", "words"),
    [
        ("fatal: not a git repository: /p/.git/worktrees/2", "python train.py", "export GIT_DIR="),
        (LOST, "python train.py", "network = true below [sandbox]"),
        ("ValueError: Couldn't reach http://data.test/x", "python train.py", "network = true below [sandbox]"),
        ("error: failed to get `serde` as a dependency", "cargo run", "cargo vendor"),
        ("go: github.com/x/y: dial tcp: lookup proxy", "go run .", "go mod vendor"),
        ("RuntimeError: can't start new thread", "python train.py", "OMP_NUM_THREADS=1"),
        ("MemoryError", "python train.py", "memory_gb"),
        ("FATAL ERROR: Reached heap limit - JavaScript heap out of memory", "node b.js", "--max-old-space-size"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "python train.py", "nvidia-smi"),
        ("RuntimeError: unable to open shared memory object </torch_1>", "python train.py", "num_workers=0"),
        ("OSError: [Errno 38] Function not implemented: inotify_init", "python train.py", "PollingObserver"),
        ("fcntl.flock(f, LOCK_EX): PermissionError: [Errno 1] Operation not permitted", "python train.py", "$TMPDIR"),
        ("io_setup: Function not implemented (ENOSYS)", "python train.py", "from threads"),
        ("OSError: [Errno 28] No space left on device", "python train.py", "df -h"),
        ("sh: 1: ./go.sh: Permission denied", "sh -c ./go.sh", "update-index --chmod=+x go.sh"),
        ("/bin/sh: 1: nothere-at-all: not found", "nothere-at-all -x", "install nothere-at-all"),
        ("EOFError: EOF when reading a line", "python train.py", "no terminal"),
        ("wandb.errors.UsageError: api_key not configured (no-tty)", "python train.py", "WANDB_MODE=offline"),
        ("KeyError: 'getpwuid(): uid not found: 54321'", "python train.py", "USER=run"),
    ],
)
def test_limits_of_the_sandbox(place: Place, reason: str, command: str, words: str) -> None:
    assert words in place.hint(reason, command=command)


def test_a_command_that_prints_nothing(place: Place) -> None:
    known = place.hint("x and printed nothing", command="make -s && ./b 2>/dev/null")
    assert 'write run = "make -s && ./b" into program.md' in known
    assert f"cd {place.project} && make -s" in place.hint("x and printed nothing", command="make -s")


def test_the_hint_is_the_same_in_the_event_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", "/usr/share")
    train = f"import os, sys\nos.environ.get('DATA_ROOT') or sys.exit('DATA_ROOT is not set')\n{TRAIN}"
    project = make_project(tmp_path / "p", train=train, program=PROGRAM)
    with engine(project, slots="cpu:1", researcher="human", overrides=("decide.baseline=1",)) as paths:
        state = wait_end(paths)
    wanted = "exited with code 1: DATA_ROOT is not set; hint: DATA_ROOT is set in your shell, and the command does not"
    run = state.experiments[BASELINE].runs[0]
    assert in_short(run.reason).startswith(wanted) and "DATA_ROOT=/usr/share" in run.reason
    assert state.state == "crashed" and in_short(state.reason).endswith(in_short(run.reason))
