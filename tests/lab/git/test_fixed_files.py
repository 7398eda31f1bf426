"""What a run without a scorer may not change: every way of changing it is seen, and honest output is not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from core.edits.globs import matches
from core.lab.git.fixed_files import FixedFiles, FixedSpec, beyond, reserved_names
from core.lab.git.folder_watch import LOST

EDIT = ("train.py", "gen/*.py")
FILES = {
    "train.py": "RATE = 0.5\n", "eval.py": "import json, train, scipy\n", "other.py": "import plotting\n",
    "pkg/__init__.py": "", "pkg/inner/metric.py": "x = 1\n", "gen/net.py": "y = 1\n", "results.json": "{}\n",
    "Makefile": "all:\n", "logs/keep": "", "cases/1.json": "1", "cases/2.json": "1",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    for name, text in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (top / "link").symlink_to("eval.py")
    (tmp_path / "data").mkdir()
    (top / "data").symlink_to(tmp_path / "data")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "numpy").mkdir()
    return top


def spec(top: Path) -> FixedSpec:
    names = reserved_names(top, may_change, [top.parent / "site"])
    return FixedSpec(top=top, may_change=may_change, reserved=names, record=top.parent / "files.json")


def may_change(path: str) -> bool:
    return matches(path, EDIT)


def after(top: Path, code: str) -> tuple[str, ...]:
    """What is seen of a run of this code in the worktree."""
    files = FixedFiles.noted(spec(top))
    start = "import os, shutil, pathlib, time\nfrom pathlib import Path\nE = Path('eval.py')\nbefore = os.stat(E)\n"
    subprocess.run([sys.executable, "-ISc", start + textwrap.dedent(code)], cwd=top, check=True, timeout=60)
    return files.changed()


PUT_BACK = """
text = E.read_bytes()
{}
E.write_bytes(text)
os.utime(E, ns=(before.st_atime_ns, before.st_mtime_ns))
"""
# Name of the attack, its code, and what is named.
ATTACKS = {
    "rewritten": ("E.write_text('x')", "eval.py"),
    "put back": (PUT_BACK.format("E.write_text('x')"), "eval.py"),
    "a file moved away and back": ("E.rename('x'); E.write_text('y'); E.unlink(); os.rename('x', E)", "eval.py"),
    "replaced by a link": ("E.rename('kept'); E.symlink_to('kept')", "eval.py"),
    "another name for it": ("os.link(E, 'e'); Path('e').write_text('x'); os.unlink('e')", "eval.py"),
    "written where it is mapped": (
        "import mmap; f = open(E, 'r+b'); mmap.mmap(f.fileno(), 0)[0] = 65; f.close()", "eval.py",
    ),
    "mode": ("E.chmod(0o600)", "eval.py"),
    "attribute": ("os.utime(E)", "eval.py"),
    "removed": ("os.unlink('pkg/inner/metric.py')", "pkg/inner/metric.py"),
    "two exchanged": ("E.rename('x'); os.rename('other.py', E); os.rename('x', 'other.py')", "eval.py"),
    "a folder exchanged": (
        "os.rename('pkg/inner', 'x'); os.mkdir('pkg/inner'); Path('pkg/inner/metric.py').write_text('x')",
        "pkg/inner/metric.py",
    ),
    "a folder exchanged and put back": (
        "os.rename('pkg/inner', 'x'); os.mkdir('pkg/inner'); shutil.rmtree('pkg/inner'); os.rename('x', 'pkg/inner')",
        "pkg/inner",
    ),
    "a folder around it put back": ("os.rename('pkg', 'x'); os.rename('x', 'pkg')", "pkg"),
    "a link's target": ("os.unlink('data'); os.mkdir('data')", "data"),
    "through a link": ("Path('link').write_text('x')", "eval.py"),
    "bytecode": ("os.mkdir('__pycache__'); Path('__pycache__/eval.cpython-311.pyc').touch()", "__pycache__/eval."),
    "bytecode that removes itself": (
        "os.mkdir('pkg/__pycache__'); p = Path('pkg/__pycache__/__init__.cpython-311.pyc'); p.touch(); time.sleep(.1)\n"
        "shutil.rmtree('pkg/__pycache__')", "pkg/__pycache__/__init__.",
    ),
    "bytecode moved there": (
        "os.mkdir('x'); Path('x/eval.cpython-312.opt-1.pyc').touch(); os.rename('x', '__pycache__')",
        "__pycache__/eval.",
    ),
    "a module of Python": ("Path('json.py').touch()", "json.py"),
    "a module that removes itself": ("Path('json.py').touch(); os.unlink('json.py')", "json.py"),
    "an installed module": ("os.mkdir('numpy'); Path('numpy/__init__.py').touch()", "numpy/__init__.py"),
    "a package that removes itself": (
        "os.mkdir('numpy'); time.sleep(.1); p = Path('numpy/__init__.py'); p.touch(); p.unlink()", "numpy/__init__.py",
    ),
    "a package before a module": ("os.mkdir('eval'); Path('eval/__init__.py').touch()", "eval/__init__.py"),
    "a module that is imported": ("Path('plotting.py').touch()", "plotting.py"),
    "compiled": ("Path('pkg/inner/metric.cpython-311-x86_64-linux-gnu.so').touch()", "pkg/inner/metric."),
    "a package by a link": ("os.mkdir('../elsewhere'); os.symlink('../elsewhere', 'json')", "json"),
    "sitecustomize": ("Path('pkg/sitecustomize.py').touch()", "pkg/sitecustomize.py"),
    "conftest": ("Path('conftest.py').touch()", "conftest.py"),
    "the file that make prefers": ("Path('GNUmakefile').touch()", "GNUmakefile"),
    "one more of the cases": ("Path('cases/3.json').touch()", "cases/*.json"),
    "a case that is gone soon": ("Path('cases/3.json').touch(); os.unlink('cases/3.json')", "cases/*.json"),
    "a header before the system's": ("Path('math.h').touch()", "math.h"),
    "settings of a tool": ("Path('.env').touch()", ".env"),
    "a tool's folder": ("os.mkdir('.cargo'); Path('.cargo/config.toml').touch()", ".cargo/config.toml"),
    "a package of node": ("os.makedirs('node_modules/x'); Path('node_modules/x/index.js').touch()", "node_modules/x"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_change_of_what_judges_is_seen(tree: Path, name: str) -> None:
    code, named = ATTACKS[name]
    assert any(path.startswith(named) for path in after(tree, code))


HONEST = {
    "output": "Path('log.txt').write_text('x'); Path('model.pt').write_text('x'); Path('plot.png').touch()",
    "folders": "os.makedirs('runs/1/code'); shutil.copy('train.py', 'runs/1/code/train.py'); Path('logs/a').touch()",
    "a folder named like a package": "os.makedirs('numpy/run-1/files'); Path('numpy/run-1/files/json.py').touch()",
    "its own files": "Path('train.py').write_text('x'); Path('gen/json.py').touch(); Path('gen/net.py').unlink()",
    "its own bytecode": "os.mkdir('__pycache__'); Path('__pycache__/train.cpython-311.pyc').touch()",
    "a compiler's cache": "os.mkdir('__pycache__'); Path('__pycache__/eval.f-1.py311.nbi').touch()",
    "a generated module": "Path('kernel_7f3a.py').write_text('x'); os.mkdir('outputs'); os.mkdir('trace')",
    "a link to the last result": "os.makedirs('runs/2'); os.symlink('runs/2', 'latest')",
    "temporary files": "[(Path(f't{i}').touch(), os.unlink(f't{i}')) for i in range(500)]",
    "another kind beside cases": "Path('cases/log.txt').touch(); Path('more.json').touch(); os.makedirs('cases/x')",
    "reading": "[p.read_bytes() for p in Path('.').rglob('*') if p.is_file()]",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_output_is_no_change(tree: Path, name: str) -> None:
    assert after(tree, HONEST[name]) == ()


def test_what_another_engine_noted_is_compared(tree: Path) -> None:
    FixedFiles.noted(spec(tree)).close()
    later = FixedFiles.resumed(spec(tree))
    assert later is not None and later.changed() == ()
    (tree / "eval.py").write_text("x")
    (tree / "json.py").touch()
    assert later.changed() == ("eval.py", "json.py")
    (tree.parent / "files.json").unlink()
    assert FixedFiles.resumed(spec(tree)) is None


def test_names_that_differ_in_each_run_are_allowed_where_the_baseline_writes_such(tree: Path) -> None:
    baseline = after(tree, "Path('cases/at-10:31.json').touch()")
    (tree / "cases" / "at-10:31.json").unlink()
    assert beyond(after(tree, "Path('cases/at-10:32.json').touch()"), baseline) == []


def test_many_changes_are_named_by_their_folders(tree: Path) -> None:
    for number in range(300):
        (tree / "logs" / str(number)).touch()
    changed = after(tree, "[p.write_text('x') for p in Path('logs').iterdir()]; E.write_text('x')")
    assert changed == ("eval.py", "logs/")
    assert beyond(["logs/5", "logs/", "eval.py", LOST], changed) == [LOST]
