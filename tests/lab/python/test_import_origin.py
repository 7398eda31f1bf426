"""Where the edited modules are imported from in a run, with real interpreters and installations of every kind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.lab.python.import_origin import Imports, own_imports
from core.record.errors import ProjectError
from tests.lab.python.test_virtual_environment import make_environment

FILES = ("src/toyopt/__init__.py", "src/toyopt/main.py", "bench/run.py")
EDITED = ("src/toyopt/main.py",)
FINDER = """
import sys
from importlib.util import spec_from_file_location
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "toyopt":
            return spec_from_file_location(name, {init!r}, submodule_search_locations=[{folder!r}])
sys.meta_path.{insert}
"""


class Checkout:
    """A project with a virtual environment, into which its package is installed in one way or another."""

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self.root, self.files = root, files
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        self.venv = make_environment(root / ".venv")
        self.packages = next((self.venv / "lib").glob("python3*")) / "site-packages"

    def imports(self, command: str, edited: Sequence[str] = EDITED, prefix: str = ".", **shell: str) -> Imports:
        python = str(self.venv / "bin" / "python")
        return own_imports(self.root, self.files, edited, command, python, {}, shell, prefix)

    def found(self, imports: Imports, worktree: Path) -> str:
        """Where a run in `worktree` really imports the package from."""
        argv = [str(self.venv / "bin" / "python"), "-c", "import toyopt.main as m; print(m.__file__)"]
        done = subprocess.run(argv, cwd=worktree, env=imports.variables(worktree), capture_output=True, text=True)
        return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "project", FILES)


def install(checkout: Checkout, how: str) -> None:
    source = checkout.root / "src" / "toyopt"
    if how == "pth":
        (checkout.packages / "t.pth").write_text(f"{checkout.root / 'src'}\n")
    elif how == "copy":
        (checkout.packages / "toyopt").mkdir()
        for name in ("__init__.py", "main.py"):
            (checkout.packages / "toyopt" / name).touch()
    else:
        insert = {"finder": "append(Finder)", "first finder": "insert(0, Finder)"}[how]
        text = FINDER.format(init=str(source / "__init__.py"), folder=str(source), insert=insert)
        (checkout.packages / "__editable___toyopt_finder.py").write_text(text)
        (checkout.packages / "__editable__.toyopt.pth").write_text("import __editable___toyopt_finder")


@pytest.mark.parametrize("how", ["pth", "finder", "copy"])
@pytest.mark.parametrize(
    "command",
    [
        "python -m toyopt.main",
        "make bench",
        "PYTHONPATH=./src python bench/run.py",
        "cd bench && PYTHONPATH=x:../src python run.py",
        "PYTHONPATH=x:$PYTHONPATH python bench/run.py",
    ],
)
def test_an_installed_package_is_imported_from_the_worktree(
    checkout: Checkout, tmp_path: Path, how: str, command: str
) -> None:
    worktree = tmp_path / "worktree"
    for file in FILES:
        (worktree / file).parent.mkdir(parents=True, exist_ok=True)
        (worktree / file).touch()
    install(checkout, how)
    assert not checkout.found(Imports(), worktree).startswith(str(worktree))
    imports = checkout.imports(command)
    assert imports.folders == ("src",) and checkout.found(imports, worktree) == str(worktree / "src/toyopt/main.py")
    assert imports.sentence().startswith("toyopt is installed from ") and "src/ of their worktree" in imports.sentence()


def test_what_is_not_installed_needs_nothing(checkout: Checkout) -> None:
    (checkout.packages / "toyopt").mkdir()  # another package of that name, without the edited file
    (checkout.packages / "toyopt" / "__init__.py").touch()
    assert checkout.imports("python -m toyopt.main") == Imports()
    assert own_imports(checkout.root, FILES, EDITED, "python x.py", None, {}, {}) == Imports()


@pytest.mark.parametrize(
    ("how", "command", "hint"),
    [
        ("first finder", "python -m toyopt.main", "-m pip uninstall toyopt"),
        ("pth", "python -I -m toyopt.main", "leave -I out"),
        ("copy", "PYTHONPATH=bench python -m toyopt.main", 'write run = "PYTHONPATH=src:bench python -m toyopt.main"'),
        ("pth", "cd bench && PYTHONPATH=src python run.py", '"cd bench && PYTHONPATH=$PYTHONPATH:src python run.py"'),
    ],
)
def test_a_start_whose_edits_would_have_no_effect_is_refused(
    checkout: Checkout, how: str, command: str, hint: str
) -> None:
    install(checkout, how)
    with pytest.raises(
        ProjectError, match=r"toyopt is imported from .*edits of src/toyopt/main.py would have no"
    ) as no:
        checkout.imports(command)
    assert hint in no.value.hint


def test_a_folder_that_hides_the_standard_library_is_left_to_the_command(tmp_path: Path) -> None:
    """A flat layout with a module named queue at its top, which an editable install puts last on the module path."""
    flat = Checkout(tmp_path / "flat", ("toy/__init__.py", "toy/train.py", "queue.py", "test/__init__.py"))
    (flat.packages / "t.pth").write_text(f"{flat.root}\n")
    edited = ["toy/train.py"]
    assert flat.imports("python -m toy.train", edited).folders == ()
    assert flat.imports("PYTHONPATH=. python toy/train.py", edited).folders == ()
    for command, hint in (
        ("python toy/train.py", 'run = "PYTHONPATH=. python toy/train.py"'),
        ("make train", 'run = "export PYTHONPATH=$PWD; make train"'),
    ):
        with pytest.raises(ProjectError, match="toy is imported from") as no:
            flat.imports(command, edited)
        assert hint in no.value.hint and flat.imports(hint[7:-1], edited).folders == ()


def test_a_package_around_the_project_comes_from_the_worktree_too(tmp_path: Path) -> None:
    """program.md in a subfolder, and a package at the top that is installed for development and not edited."""
    whole = Checkout(tmp_path / "whole", ("mingpt/__init__.py", "projects/adder/adder.py"))
    (whole.packages / "t.pth").write_text(f"{whole.root}\n")
    imports = whole.imports("python adder.py", ["projects/adder/adder.py"], "projects/adder")
    assert imports.folders == ("",) and imports.variables(Path("/w")) == {"PYTHONPATH": "/w"}


def test_the_shells_module_path_is_kept_where_it_leads_into_the_checkout(checkout: Checkout, tmp_path: Path) -> None:
    path = os.pathsep.join([str(checkout.root / "src"), str(tmp_path / "elsewhere"), str(checkout.root), ""])
    assert checkout.imports("python bench/run.py", PYTHONPATH=path).folders == ("src", "")


def test_a_package_whose_folder_has_another_name_is_refused(tmp_path: Path) -> None:
    """`package_dir = {toyopt = "lib/code"}`: no folder on the module path makes it the worktree's."""
    renamed = Checkout(tmp_path / "renamed", ("lib/code/__init__.py", "lib/code/main.py", "run.py"))
    text = f"MAPPING = {{'toyopt': {str(renamed.root / 'lib/code')!r}}}\n"
    (renamed.packages / "__editable___toyopt_finder.py").write_text(text)
    (renamed.packages / "__editable__.toyopt.pth").write_text("import __editable___toyopt_finder")
    assert renamed.imports("python run.py", ["run.py"]) == Imports()
    with pytest.raises(ProjectError, match=r"toyopt is imported from .*code, so edits of lib/code/main.py") as refused:
        renamed.imports("python run.py", ["lib/code/main.py"])
    assert "name the folder code like the package" in refused.value.hint
