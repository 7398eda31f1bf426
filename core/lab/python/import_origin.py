"""Where a run imports the project's own modules from: its worktree, or an installed copy that edits do not reach.

After `pip install -e .` an interpreter finds the project's packages in the user's checkout; after `pip install .`, in
site-packages. The interpreter is asked, without running any of them. What it finds elsewhere is set aside: the folders
that hold these modules in the worktree come first, by PYTHONPATH. Where that has no effect, the start is refused.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from core.lab.python.tool_command import ISOLATED_PYTHON, toml_line
from core.record.errors import ProjectError
from core.temporary import own_folder

_MAX_SECONDS = 60.0  # for the interpreter to answer
_MAX_MODULES = 400  # that are asked for
_ASSIGNED = re.compile(r"""(?:^|(?<=[\s;&|(]))PYTHONPATH=("[^"]*"|'[^']*'|[^\s;&|)]*)""")
_ISOLATED = re.compile(rf"(?:^|(?<=[\s;&|(/])){ISOLATED_PYTHON}")
_ASK = """
import importlib, importlib.util, json, os, sys
asked, copy = json.load(sys.stdin), sys.argv[1]
if sys.path[:1] == [""]: del sys.path[0]
def origin(name, rest):
    try:
        sys.modules.pop(name, None)
        spec = importlib.util.find_spec(name)
        places = [spec.origin] if not rest else [os.path.join(p, rest) for p in spec.submodule_search_locations]
        return next((os.path.realpath(p) for p in places if p and os.path.exists(p)), None)
    except Exception:
        return None
for one in asked: one["before"] = origin(one["name"], one["rest"])
roots = {os.path.join(copy, one["root"]) for one in asked if one["before"]}
sys.path[:0] = sorted(roots)
importlib.invalidate_caches()
for one in asked:
    one["own"] = bool(one["before"]) and (origin(one["name"], one["rest"]) or "").startswith(copy + os.sep)
packages = {}
del sys.path[:len(roots)]
if not all(one["own"] for one in asked if one["before"]):
    try:
        import importlib.metadata  # here, since it takes longer than all the rest
        packages = importlib.metadata.packages_distributions()
    except Exception: pass
mapped = {}  # of setuptools' editable finders: package -> folder, which may have another name
for module in list(sys.modules.values()):
    if module.__name__.startswith("__editable__"): mapped.update(getattr(module, "MAPPING", {}))
for one in asked: one["package"] = next(iter(packages.get(one["name"], [])), one["name"])
print(json.dumps([asked, {name: os.path.realpath(path) for name, path in mapped.items()}]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleOrigin:
    """A module of the project that is installed as well: its name, the folder in the worktree that has it, and the file
    that would be imported without PYTHONPATH. `edited`: a file in it that experiments may change, or "".
    """

    name: str
    folder: str
    file: str
    edited: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """What goes before everything else on a run's module path: `folders`, relative to the top of a worktree."""

    folders: tuple[str, ...] = ()
    installed: tuple[ModuleOrigin, ...] = ()

    def variables(self, worktree: Path) -> dict[str, str]:
        """The environment variable that puts them there, in the worktree."""
        places = [str(worktree / folder) if folder else str(worktree) for folder in self.folders]
        return {"PYTHONPATH": os.pathsep.join(places)} if places else {}

    def sentence(self) -> str:
        """What was set aside, for a person; "" for nothing."""
        edited = [one for one in self.installed if one.edited] or list(self.installed)
        if not edited:
            return ""
        first = edited[0]
        more = f" and {len(edited) - 1} more" if len(edited) > 1 else ""
        own = f"{first.folder}/ of their worktree" if first.folder else "their worktree"
        return f"{first.name}{more} is installed from {first.file}; runs import it from {own}"


@dataclass(frozen=True, slots=True)
class _Module:
    root: str  # the folder that would be on the module path
    name: str
    rest: str  # the file within the package; "" for a module that is one file
    file: str
    edited: bool


def own_imports(
    root: Path, files: Collection[str], edited: Collection[str], command: str, python: str | None,
    env: Mapping[str, str], shell: Mapping[str, str] | None = None, prefix: str = "",
) -> Imports:  # fmt: skip
    """The imports of a run with `command`, started in `prefix` of a worktree with `files`; all relative to its top.

    `root`: the user's checkout; `shell`: the environment of the user's shell, of whose PYTHONPATH the folders of the
    checkout are kept. Raises ProjectError where a module of `edited` would not be imported from the worktree.
    """
    given = _of_the_shell(root, os.environ if shell is None else shell)
    modules = _modules(set(files), set(edited))
    origins, folders = [], []
    found, renamed = _ask(python, env, modules, set(files)) if python and modules else ([], {})
    for name, folder in renamed.items():
        if file := next((one for one in edited if (root / one).is_relative_to(folder)), ""):
            origin = ModuleOrigin(name=name, folder="", file=folder, edited=file)
            _refuse(origin, command, f"name the folder {Path(folder).name} like the package, and install it again")
    for module, answer in found:
        origin = ModuleOrigin(
            name=module.name, folder=module.root, file=answer["before"], edited=module.file if module.edited else ""
        )
        if not module.edited and origin.file != os.path.realpath(root / module.file):
            continue  # another package of that name, or a copy of what does not change
        origins.append(origin)
        hides = _hides_standard_library(module.root, files)
        if module.edited and not answer["own"]:
            _refuse(origin, command, f"remove it there: {python} -m pip uninstall {answer['package']}")
        if module.edited:
            _check_command(origin, command, prefix, hides)
        if not hides:
            folders.append(module.root)
    return Imports(folders=tuple(dict.fromkeys((*given, *folders))), installed=tuple(origins))


def _refuse(origin: ModuleOrigin, command: str, hint: str) -> NoReturn:
    what = f"{origin.name} is imported from {origin.file}, so edits of {origin.edited} would have no effect"
    raise ProjectError(what, where=command, hint=hint)


def _of_the_shell(root: Path, shell: Mapping[str, str]) -> list[str]:
    """Folders of the checkout on the PYTHONPATH of the user's shell, relative to it."""
    places = [Path(os.path.realpath(entry)) for entry in shell.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return [
        "" if place == root else place.relative_to(root).as_posix() for place in places if place.is_relative_to(root)
    ]


def _modules(files: Collection[str], edited: Collection[str]) -> list[_Module]:
    """The names under which files may be imported, each from the folders where that is possible. Edited ones first."""
    found: dict[tuple[str, str], _Module] = {}
    for file in (*sorted(edited), *sorted(files)):
        parts = file.removesuffix(".py").split("/")
        if not file.endswith(".py") or not parts[-1].isidentifier() or len(found) >= _MAX_MODULES:
            continue
        for depth in range(len(parts) - 1, -1, -1):
            root, name, rest = "/".join(parts[:depth]), parts[depth], "/".join(file.split("/")[depth + 1 :])
            inside = f"{root}/__init__.py" in files if root else False
            package = f"{root}/{name}/__init__.py".lstrip("/") in files
            useful = file in edited or package or (not rest and root in ("", "src", "lib"))
            named = name.isidentifier() and name != "__init__" and name not in sys.stdlib_module_names
            if not inside and named and useful:
                found.setdefault((root, name), _Module(root, name, rest, file, file in edited))
    return list(found.values())


def _ask(
    python: str, env: Mapping[str, str], modules: Iterable[_Module], files: Collection[str]
) -> tuple[list[tuple[_Module, dict[str, Any]]], dict[str, str]]:
    """The modules that the interpreter finds without the worktree, each with its answer; and the packages that an
    editable install takes from folders of another name. Empty when it cannot tell.
    """
    asked = list(modules)
    with own_folder("imports") as folder:
        for module in asked:
            _copy_shape(Path(folder), module, files)
        question = json.dumps([{"name": m.name, "root": m.root, "rest": m.rest} for m in asked])
        try:
            done = subprocess.run(
                [python, "-c", _ASK, os.path.realpath(folder)], input=question, capture_output=True, text=True,
                env={**env, "PYTHONPATH": ""}, cwd="/", timeout=_MAX_SECONDS,
            )  # fmt: skip
            answers, mapped = json.loads(done.stdout.strip().splitlines()[-1])
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
            return [], {}
    renamed = {name: path for name, path in mapped.items() if Path(path).name != name.rpartition(".")[2]}
    return [(module, answer) for module, answer in zip(asked, answers, strict=True) if answer["before"]], renamed


def _copy_shape(folder: Path, module: _Module, files: Collection[str]) -> None:
    """Empty files in `folder` by which the import system finds the module, as in a worktree."""
    for parent in Path(module.file).parents:
        (folder / parent).mkdir(parents=True, exist_ok=True)
        if (parent / "__init__.py").as_posix() in files:
            (folder / parent / "__init__.py").touch()
    (folder / module.file).touch()


def _hides_standard_library(root: str, files: Iterable[str]) -> bool:
    """True when a module of the standard library would be hidden by the files of `root` on PYTHONPATH."""
    start = f"{root}/" if root else ""
    inside = [file.removeprefix(start) for file in files if file.startswith(start) and file.endswith(".py")]
    names = {file.removesuffix(".py") for file in inside if "/" not in file}
    names |= {file.removesuffix("/__init__.py") for file in inside if file.count("/") == 1}
    return bool(names & (sys.stdlib_module_names - {"test", "__main__"}))


def _check_command(origin: ModuleOrigin, command: str, prefix: str, hides: bool) -> None:
    """Refuse a command that sets a module path without the module's folder; where that folder `hides` modules of the
    standard library and is not put there by the harness, one that does not have it there by itself.
    """
    if found := _ISOLATED.search(command):
        _refuse(origin, command, f"leave {found[0].split()[-1]} out: with it Python ignores PYTHONPATH")
    assigned = _assigned(command, prefix)
    lacking = [value for value, folders in assigned if "PYTHONPATH" not in value and origin.folder not in folders]
    if lacking or (hides and not assigned and not _is_of_script(origin.folder, command, prefix)):
        _refuse(origin, command, f"write {_with_path(origin.folder, command, prefix)}")


def _assigned(command: str, prefix: str) -> list[tuple[str, list[str]]]:
    """Each value that the command gives PYTHONPATH, with its folders relative to the top of the worktree."""
    found = []
    for match in _ASSIGNED.finditer(command):
        inside = re.findall(r"(?:^|[;&(] *)cd +([^\s;&|]+)", command[: match.start()])
        value = match[1].strip("\"'")
        entries = [re.sub(r"^(\$PWD|\$\{PWD\}|\$\(pwd\)|`pwd`)/?", "./", entry) for entry in value.split(":")]
        folders = [posixpath.normpath(posixpath.join(prefix, *inside, entry or ".")) for entry in entries]
        found.append((value, ["" if folder == "." else folder for folder in folders]))
    return found


def _is_of_script(root: str, command: str, prefix: str) -> bool:
    """Whether Python has the folder on its module path because of the script, or of the folder where it starts."""
    script = re.match(r"\S*python[\d.]* +(?:-[uOBdqvWX]+ +)*(?:(-m)|([^\s-]\S*\.py))(?= |$)", command)
    if script is None:
        return False
    own = posixpath.normpath(posixpath.join(prefix, posixpath.dirname(script[2] or "")))
    return ("" if own == "." else own) == root


def _with_path(root: str, command: str, prefix: str) -> str:
    """The line of program.md that puts the folder first on the module path."""
    place = posixpath.relpath(root or ".", prefix or ".")
    if re.search(r"(^|[\s;&|(])cd ", command):
        place = "$PYTHONPATH"  # which the harness sets, with full paths
    if _ASSIGNED.search(command):
        command = _ASSIGNED.sub(
            lambda match: f"PYTHONPATH={place}:{match[1].strip(chr(34) + chr(39))}", command, count=1
        )
    elif re.match(r"\S*python[\d.]* ", command):
        command = f"PYTHONPATH={place} {command}"
    else:
        command = f"export PYTHONPATH=$PWD/{place}; {command}".replace("/.;", ";")
    return toml_line(command)
