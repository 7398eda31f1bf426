"""Imports point downward, and entry points load no heavy modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

HEAVY = "torch git anthropic openai optuna"
SOURCES = sorted(path for top in ("core", "tui", "nanotrain") for path in (ROOT / top).rglob("*.py"))


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import tui.cli.look, tui.cli.steering.steer, tui.cli.run, core.client", f"{HEAVY} textual rich PIL pygments"),
        ("import tui.cli.parser; tui.cli.parser.parse(['status'])", f"{HEAVY} textual rich PIL sqlite3"),
        ("import tui.app", HEAVY),
        ("import core.engine.daemon", "textual rich torch anthropic openai nanotrain tui"),
        ("import core.views, core.session.log, core.program.program, core.session.paths", f"{HEAVY} textual asyncio"),
    ],
)
def test_entry_points_do_not_load_heavy_modules(statement: str, never: str) -> None:
    assert not loaded_by(statement) & set(never.split())


def test_git_is_run_in_one_place() -> None:
    """A command that begins with the word git is in core/git.py alone, which hardens it."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.List, ast.Tuple)) and node.elts and path != ROOT / "core/git.py":
                first = node.elts[0]
                assert not (isinstance(first, ast.Constant) and first.value == "git"), f"{path}:{node.lineno}"


def test_no_machine_specific_text_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    marks = ["/" + "work/main", "/" + "work/shared", "sk-" + "ant-api", "BEGIN RSA " + "PRIVATE"]
    for name in tracked:
        path = ROOT / name
        if path.is_file() and path.suffix in ("", ".py", ".md", ".toml", ".yml", ".svg", ".tcss", ".txt", ".json"):
            text = path.read_text(errors="replace")
            assert not [mark for mark in marks if mark in text], name
