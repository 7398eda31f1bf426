"""Hints for modules and programs that a command does not find: off the path, in another Python, not installed"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from core import invocation
from core.engine.runs.hints.known import Crash, Known
from core.engine.runs.hints.missing_files import fill, link

_NO_MODULE = re.compile(r"[Nn]o module named ['\"]?([A-Za-z_][\w.]*)")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from (?:partially initialized module )?'([\w.]+)'")
_NO_PACKAGE = re.compile(r"Cannot find (?:module|package) '((?:@[\w.-]+/)?[\w-][\w.-]*)(?:/[^']*)?'")
_NO_PROGRAM = re.compile(
    r"(?:^|: )(?:line )?(?:\d+: )?([\w.+-]+): (?:command )?not found|env: ['‘]?([\w.+-]+)['’]?: No such file"
    r"|make: ([\w.+-]+): No such file|spawn ([\w.+-]+) ENOENT"
)
_RUSTUP = re.compile(r"rustup could not choose|no default is configured|toolchain .* is not inst")
_STARTED = re.compile(r"in _execute_child\n[\s\S]*No such file or directory: '([\w.+-]+)'")
_DISTRIBUTIONS = {
    "yaml": "pyyaml", "cv2": "opencv-python-headless", "sklearn": "scikit-learn", "PIL": "pillow",
    "skimage": "scikit-image",
    "bs4": "beautifulsoup4", "dateutil": "python-dateutil", "dotenv": "python-dotenv", "Crypto": "pycryptodome",
    "google.protobuf": "protobuf", "attr": "attrs", "serial": "pyserial", "OpenSSL": "pyopenssl", "git": "gitpython",
}  # fmt: skip


def missing_module(crash: Crash, known: Known) -> str:
    """For a module of Python or a package of Node."""
    if package := _NO_PACKAGE.search(crash.reason):
        return _node_package(package[1], known)
    found = _NO_MODULE.search(crash.reason)
    name = _NO_NAME.search(crash.reason)
    if found is None and name is None:
        return ""
    module = found[1] if found else f"{name[2]}.{name[1]}" if name else ""
    if hint := _of_project(module, known):
        return hint
    return _of_python(module.partition(".")[0], module, known) if found else ""


def _of_project(module: str, known: Known) -> str:
    """For a module that is the project's own: committed elsewhere, in an empty submodule, or ignored by git."""
    path, top = module.replace(".", "/"), module.partition(".")[0]
    for file in known.ignored_files():
        if _root(file, path) is None or "site-packages" in file:
            continue
        entry = next((e.rstrip("/") for e in known.ignored if file == e or file.startswith(e)), file)
        return f"git ignores {entry}, so runs do not have it: {known.write_inputs(entry)}"
    roots = sorted({root for file in known.tracked if (root := _root(file, top)) is not None}, key=_depth)
    on_path = _python_path(known)
    if roots and roots[0] not in on_path:
        words = os.pathsep.join(shlex.quote(root) for root in (roots[0], *on_path))
        place = "at the top of the project" if roots[0] == "." else f"in {roots[0]}"
        return f"it is {place}: {known.write_variables({'PYTHONPATH': words})}"
    for name in known.empty_submodules:
        if name.rpartition("/")[2] == top or top in name.split("/") or name in known.sources:
            return fill(name, known)
    return ""


def _root(file: str, path: str) -> str | None:
    """The folder that has the module `path` when `file` is a part of it; None when it is not."""
    stem, _, end = file.partition(f"{path}.") if file.startswith(f"{path}.") else file.rpartition(f"/{path}.")
    if end in ("py", "pyx") or re.fullmatch(r"(?:cpython|abi3|pypy)\S*\.so|so", end):
        return stem or "."
    if file.startswith(f"{path}/") and file.endswith(".py"):
        return "."
    before, middle, _ = file.partition(f"/{path}/")
    return before if middle and file.endswith(".py") else None


def _depth(root: str) -> tuple[int, str]:
    return (0 if root == "." else root.count("/") + 1, root)


def _python_path(known: Known) -> list[str]:
    given = re.search(r"PYTHONPATH=(\S+)", known.command)
    return [part for part in (given[1] if given else "").split(os.pathsep) if part and "$" not in part]


def _of_python(top: str, module: str, known: Known) -> str:
    """For a module of another Python that the user has, or of none."""
    used = known.interpreter
    for python, folders in _pythons(known):
        if used and _same(python, Path(used)):
            continue
        if any(_holds(folder, top) for folder in folders):
            return f"runs use {used or 'no Python'}, which does not have it: {known.write_python(str(python))}"
    if used is None:
        return ""
    if not known.mentions(top):  # a name that only the change under test has may be anybody's package
        return f"runs use {used}, which does not have it: let the change do without it"
    package = _DISTRIBUTIONS.get(module, _DISTRIBUTIONS.get(top, top))
    return f"runs use {used}, which does not have it: {invocation.install(package, python=used)}"


def _pythons(known: Known) -> Iterator[tuple[Path, list[Path]]]:
    """The user's Pythons with the folders of their packages: the project's environments, active ones, those on PATH."""
    prefixes = [known.project / ".venv", known.project / "venv", known.project / "env"]
    prefixes += sorted(path.parent for path in known.project.glob("*/pyvenv.cfg"))
    prefixes += sorted(path.parent for path in known.project.glob(".*/pyvenv.cfg"))
    prefixes += [Path(known.shell[name]) for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if known.shell.get(name)]
    for folder in known.shell.get("PATH", "").split(os.pathsep):
        if folder and (Path(folder) / "python3").exists():
            prefixes.append((Path(folder) / "python3").resolve().parent.parent)
    for prefix in dict.fromkeys(prefixes):
        python = next((p for name in ("python", "python3") if (p := prefix / "bin" / name).exists()), None)
        if python is not None:
            inner = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages")
            yield python, [folder for pattern in inner for folder in sorted(prefix.glob(pattern))]


def _holds(folder: Path, top: str) -> bool:
    """Whether a folder of packages has the module, also by an editable install."""
    if (folder / top).is_dir() or (folder / f"{top}.py").is_file() or any(folder.glob(f"{top}.*.so")):
        return True
    return any(folder.glob(f"__editable__*{top}*"))


def _same(a: Path, b: Path) -> bool:
    """Whether two names are one Python. A virtual environment's is a link to another's."""
    return os.path.normpath(a) == os.path.normpath(b) or (
        a.resolve() == b.resolve() and not any((python.parent.parent / "pyvenv.cfg").is_file() for python in (a, b))
    )


def _node_package(name: str, known: Known) -> str:
    modules = known.project / "node_modules"
    if (modules / name).exists() and "node_modules" not in known.inputs:
        return f"git ignores node_modules, so runs do not have it: {known.write_inputs('node_modules')}"
    prefix = shlex.quote(str(known.project))
    made = "" if "node_modules" in known.inputs else f", then {known.write_inputs('node_modules')}"
    return f"it is not installed: `npm --prefix {prefix} install {name}`{made}"


def hidden_toolchain(crash: Crash, known: Known) -> str:
    """For Rust by rustup, whose toolchains are in the home."""
    if not _RUSTUP.search(crash.reason) or "rust/bin" in known.command:
        return ""
    home = Path(known.shell.get("RUSTUP_HOME") or known.home / ".rustup")
    chosen = re.search(r'default_toolchain = "(.+)"', (home / "settings.toml").read_text())
    if chosen is None:
        return ""
    linked = link(home / "toolchains" / chosen[1], known, name="rust")
    return f"runs do not see {home}: {linked}, and {known.write_variables({'PATH': '$PWD/rust/bin:$PATH'})}"


def missing_program(crash: Crash, known: Known) -> str:
    """For a program that a command starts."""
    found = _NO_PROGRAM.search(crash.reason) or _STARTED.search(crash.output)
    name = next((group for group in found.groups() if group), None) if found else None
    if name is None:
        return ""
    local = known.project / "node_modules" / ".bin" / name
    if local.exists() and "node_modules" not in known.inputs:
        return f"git ignores node_modules, so runs do not have it: {known.write_inputs('node_modules')}"
    script = next((file for file in known.tracked if file.rpartition("/")[2] == name), None)
    if script is not None and known.words[:1] == [name]:
        return f"it is in the project: {known.write_command(known.command.replace(name, f'./{script}', 1))}"
    there = shutil.which(name, path=known.shell.get("PATH"))
    if there is None:
        return f"install {name}, or put its folder on PATH, then start from that shell"
    real = Path(there).resolve()
    if not known.shown(real):
        return f"runs do not see {there}: {known.write_command(known.command.replace(name, str(real), 1))}"
    return ""
