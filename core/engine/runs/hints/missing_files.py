"""Hints for files and libraries that a command does not find: ignored by git, not committed, or outside the project"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from core.engine.runs.hints.known import WRITABLE, Crash, Known, is_compound

_MISSING = re.compile(
    r"no such file|not found|does(?: not|n't) exist|cannot (?:open|find|access|stat|read|load)|can't (?:open|find|read)"
    r"|unable to (?:open|find|read|load|access)|could not (?:open|find|read|load)|couldn't (?:read|open|find)|ENOENT"
    r"|failed to (?:open|load|read)|missing|no rule to make target|not a (?:directory|file)|NotFound|is empty",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"""(?<!\w)['"`‘“]([^'"`’”\n]{1,300})['"`’”]""")
_BARE = re.compile(r"(?<![\w'\"`/~.-])([~./]?[\w@%+~./-]*[\w@%+-])")
_LITERAL = re.compile(r"""['"]([\w@%+~./ -]*[/.][\w@%+~./ -]*)['"]""")
_SCRIPTED = re.compile(r"can't open file|Cannot find module '/|can't open |cannot open ")
_WRITES = re.compile(
    r"""open\([^\n]*['"][wax]b?\+?['"]|mkdir|makedirs|\.save\w*\(|\.to_csv|savefig|\.dump\(|writeFile|write_text|File"""
    r"""Handler|SummaryWriter|Read-only file system|EROFS|mkstemp|touch\("""
)
_NO_LIBRARY = re.compile(r"([\w.+-]+\.so[\w.]*|lib[\w.+-]+): cannot open shared object|cannot find -l(?::?)([\w.+-]+)")
_TOO_WIDE = 2  # parts of a path, such as / and home


def missing_file(crash: Crash, known: Known) -> str:
    """Where the file is that the crash names, and the step that brings it into a run; "" when it is unknown."""
    if not _MISSING.search(crash.last):
        return ""
    named = list(dict.fromkeys((*_named(crash.reason), *_named(crash.last))))
    for path in named:
        if hint := _in_project(known.inside(path), known, crash):
            return hint
    if library := _NO_LIBRARY.search(crash.last):
        return _library(library[1] or f"lib{library[2]}", known)
    for path in named:
        if hint := _beyond(known.outside(path), path, known, crash):
            return hint
    beside = (inside for path in named if (inside := known.inside(path)) in known.tracked)
    code = "\n".join((known.sources, *(known.text(path) for path in beside if path)))
    for literal in dict.fromkeys(_LITERAL.findall(code)):
        if hint := _in_project(known.inside(literal), known, crash, told=False):
            return hint
        if literal.startswith(("/", "~")) and (hint := _beyond(known.outside(literal), literal, known, crash)):
            return hint
    return ""


def _named(text: str) -> Iterator[str]:
    """What may be a path in a text; each is looked up, so that a word too many does no harm."""
    for word in _QUOTED.findall(text):
        yield word.removeprefix("file://")
    for word in _BARE.findall(text):
        if "/" in word or "." in word:
            yield word.rstrip(".:")


def _in_project(path: str | None, known: Known, crash: Crash, *, told: bool = True) -> str:
    if path is None or path in known.inputs:
        return ""
    if entry := _entry(path, known.ignored, known):
        return f"git ignores {entry}, so runs do not have it: {known.write_inputs(entry)}"
    submodule = next((name for name in known.empty_submodules if f"{path}/".startswith(f"{name}/")), None)
    if submodule is not None:
        return fill(submodule, known)
    if entry := _entry(path, known.untracked, known):
        git, name = f"git -C {shlex.quote(str(known.project))}", shlex.quote(entry)
        return f"{entry} is not in git: `{git} add {name} && {git} commit -m {name}`, or {known.write_inputs(entry)}"
    return _elsewhere(path, known, crash) if told else ""


def fill(submodule: str, known: Known) -> str:
    """The step that fills a submodule of the user's checkout."""
    here = shlex.quote(str(known.project))
    return f"the submodule is empty: git -C {here} submodule update --init --recursive {shlex.quote(submodule)}"


def _entry(path: str, entries: tuple[str, ...], known: Known) -> str:
    """The entry of a listing of git that holds `path`, where the user has that path; "" when there is none."""
    for entry in entries:
        bare = entry.rstrip("/")
        within = path == bare or (entry.endswith("/") and path.startswith(entry))
        around = bare.startswith(f"{path}/")  # a folder of which git holds nothing
        if (within or around) and (known.project / path).exists():
            return bare if within else path
    return ""


def _elsewhere(path: str, known: Known, crash: Crash) -> str:
    """For a file that git holds under another folder."""
    if path in known.tracked or (known.project / path).exists():
        return ""
    same = [name for name in known.tracked if name.endswith(f"/{path}")]
    if len(same) != 1:
        return ""
    folder = same[0][: -len(path) - 1]
    scripts = [word for word in known.words if word.startswith(f"{folder}/")]
    if path in known.words:
        return f"it is at {same[0]}: {known.write_command(known.command.replace(path, same[0], 1))}"
    if scripts and not _SCRIPTED.search(crash.reason) and not is_compound(known.command):
        moved = known.command.replace(scripts[0], scripts[0][len(folder) + 1 :], 1)
        return f"it is at {same[0]}: {known.write_command(f'cd {shlex.quote(folder)} && {moved}')}"
    return ""


def _library(name: str, known: Known) -> str:
    """For a library that is named without its folder."""
    for file in known.ignored_files():
        folder, base = os.path.split(file)
        if base == name or base.startswith((f"{name}.so", f"{name}.a")):
            entry = next((e.rstrip("/") for e in known.ignored if file == e or file.startswith(e)), folder)
            step = known.write_inputs(entry)
            return f"git ignores {entry}, so runs do not have it: {step}" + (
                "" if "-l" in known.command else f", and {known.write_variables({'LD_LIBRARY_PATH': folder or '.'})}"
            )
    for part in known.shell.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        if part and (Path(part) / name).exists() and not known.shown(Path(part)):
            return link(Path(part), known)
    return ""


def _beyond(path: Path | None, named: str, known: Known, crash: Crash) -> str:
    """For a path outside the project that the user has, and that the sandbox does not show."""
    if path is None or len(path.parts) <= _TOO_WIDE or known.shown(path):
        return ""
    if _WRITES.search(crash.last):
        return WRITABLE if path.parent.exists() else ""
    if not path.exists() or path == known.home:
        return ""
    step = link(path, known)
    private = named.startswith("~") or Path(os.path.normpath(named)).is_relative_to(known.private)
    if private:
        step += f", and {known.write_variables({'HOME': shlex.quote(str(known.home))})}"
    return f"runs do not see {_short(path, known)}: {step}"


def link(path: Path, known: Known, name: str = "") -> str:
    """The step that links a path outside the project into it, and makes it an input."""
    parent = path.parent
    wide = len(parent.parts) <= _TOO_WIDE or known.project.is_relative_to(parent) or parent == known.home
    alone = wide or path.is_dir()
    source = path if alone else parent
    name = name or source.name.lstrip(".") or "data"
    while (known.project / name).exists() and (known.project / name).resolve() != source.resolve():
        name += "_link"
    made = known.write_inputs(name)
    if (known.project / name).exists():
        return made
    return f"`ln -s {shlex.quote(str(source))} {shlex.quote(str(known.project / name))}`, then {made}"


def _short(path: Path, known: Known) -> str:
    return f"~/{path.relative_to(known.home)}" if path.is_relative_to(known.home) else str(path)
