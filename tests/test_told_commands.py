"""Every command that hints, pages and `--help` name: its program is known and its arguments parse."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import invocation
from core.lab.gpu.torch_build import BUILDS
from tests import ROOT
from tests.cli.command import COMMAND, run
from tui.actions import REGISTRY
from tui.cli import parser

SOURCES = [path for top in ("core", "tui", "nanotrain") for path in sorted((ROOT / top).rglob("*.py"))]
PAGES = [
    ROOT / "README.md",
    ROOT / "sessions/README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
STATED = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
REQUIREMENTS = {re.split(r"[<>=\[]", line)[0] for line in STATED}
DEBIAN = {"git", "bubblewrap", "python3", "python3-venv"}  # packages of Debian and Ubuntu, by these names
# Programs of the system, or of another project whose installation the text describes.
OTHERS = {"cd", "source", "export", "ssh", "jq", "head", "docker", "npm", "pipx", "kill", "chmod", "df", "ulimit"}
OWN = ("autoresearch-tui", "make", "git", "pip", "python", "uv", "apt", "apt-get", ".venv/bin/python")
PROGRAMS = {*OWN, *OTHERS}
WORDS = {"N": "1", "EXPERIMENT": "1", "COMMAND": "status", "N|best": "best", "on|off": "on", "ID": "1", "PROJECT": "."}


def wrong(line: str) -> str:
    """Why a person who types `line` would be refused, or ""."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        return str(error)
    part: list[str] = []
    for word in [*words, "&&"]:
        if word not in ("&&", "|", ";"):
            part.append(word)
        elif part:
            if trouble := wrong_part(part):
                return trouble
            part = []
    return ""


def wrong_part(words: list[str]) -> str:
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0].startswith("$"):
        return ""
    name, rest = words[0], words[1:]
    if name.endswith("autoresearch-tui"):
        if len(rest) == 1 and rest[0] in parser.COMMANDS:
            return ""  # named in a sentence; alone some of them want an argument
        return refused([WORDS.get(word, word) for word in rest if word[0] not in "[…" and not word.endswith("]")])
    if name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return next((f"no target {w}" for w in rest if w not in targets and "=" not in w), "")
    if name == "git":
        return "" if not rest or knows_git(rest) else f"git has no {rest}"
    if name in ("pip", "python", "uv") or name.endswith("/bin/python"):
        return wrong_install(words) if "pip" in words else ""
    if name in ("apt", "apt-get"):
        return next((f"no package {word}" for word in rest[1:] if word not in DEBIAN), "")
    return "" if name in OTHERS else f"unknown program {name}"


def refused(words: list[str]) -> str:
    """How the command line's own parser refuses `words`, or ""."""
    kept = sys.stdout, sys.stderr
    try:
        with Path(os.devnull).open("w") as sys.stdout, Path(os.devnull).open("w") as sys.stderr:
            parser.parse(words)
    except SystemExit as end:
        return f"{words} is refused" if end.code else ""
    finally:
        sys.stdout, sys.stderr = kept
    return ""


def knows_git(words: list[str]) -> bool:
    while words and words[0].startswith("-"):
        words = words[2 if words[0] in ("-C", "-c") else 1 :]
    if not words or not words[0].isalpha():
        return not words or re.fullmatch(r"[a-z-]+", words[0]) is not None
    done = subprocess.run(["git", words[0], "-h"], capture_output=True, text=True, timeout=300, cwd=ROOT)
    return "is not a git command" not in done.stderr


def wrong_install(words: list[str]) -> str:
    indexes = {build.index for build in BUILDS}
    names = [word for word in words[words.index("pip") + 2 :] if not word.startswith("-") and word not in indexes]
    for name in names:
        package, _, extra = name.rstrip("]").partition("[")
        package = re.split(r"[<>=]", package)[0]
        if (package == "." and not extra) or (package == "." and set(extra.split(",")) <= set(EXTRAS)):
            continue
        if package == "autoresearch-tui" and "uninstall" in words:
            continue
        if package not in REQUIREMENTS and package != "1":
            return f"pip finds no {name}"
    return ""


# --- sources of the commands ----------------------------------------------------------------------


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each text of a source, with 1 in place of what an f-string fills in; docstrings are left out."""
    inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    inner |= {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "1" for v in node.values)


def calls(tree: ast.AST, name: str) -> Iterator[tuple[int, list[str]]]:
    """The words of each `invocation.NAME(…)`, with 1 for a word that is made as the program runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"invocation.{name}":
            words = [a for a in node.args if not isinstance(a, ast.Starred)]
            yield node.lineno, [str(a.value) if isinstance(a, ast.Constant) else "1" for a in words]


def test_commands_in_hints_are_accepted_by_the_parser() -> None:
    found = {
        f"{path.name}:{line}": trouble
        for path in SOURCES
        for line, words in calls(ast.parse(path.read_text()), "call")
        if (trouble := refused([WORDS.get(word, word) for word in words]))
    }
    assert not found


def test_hints_name_the_program_through_invocation() -> None:
    allowed = {"parser.py", "certification.py", "html_page.py"}  # certificate and report are read on other machines
    by_hand = re.compile(rf"(?<![/\w-])autoresearch-tui ({'|'.join(parser.COMMANDS)})\b|'autoresearch-tui\[")
    found = [
        f"{path.name}:{line}"
        for path in SOURCES
        if path.name not in allowed
        for line, text in literals(ast.parse(path.read_text()))
        if by_hand.search(text)
    ]
    assert not found


_TOLD = re.compile(r"(?:^|: |with |\(|`)((?:git|apt|apt-get|pip|pipx|npm|docker|python|uv) [a-z-][^`;,)\n]*)")


def test_other_programs_in_hints_have_valid_arguments() -> None:
    found = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        hints = [
            k.value
            for n in ast.walk(tree)
            if isinstance(n, ast.Call)
            for k in n.keywords
            if k.arg in ("hint", "install")
        ]
        for hint in hints:
            for line, text in literals(hint):
                for command in _TOLD.findall(text):
                    if trouble := wrong(re.split(r" (?:and|until|then|to) ", command)[0]):
                        found[f"{path.name}:{line}"] = trouble
    assert not found


def commands_of(page: Path) -> Iterator[str]:
    text = page.read_text()
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (line for line in re.sub(r"\\\n", " ", block).splitlines() if line.strip())
    bare = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`]+)`", bare):
        if code.split()[0] in PROGRAMS and len(code.split()) > 1 and "…" not in code:
            yield " ".join(code.split()).replace("\\|", "|")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_are_valid(page: Path) -> None:
    assert page != PAGES[0] or len(list(commands_of(page))) > 12
    assert not {line: trouble for line in commands_of(page) if (trouble := wrong(line))}


def test_commands_in_help_are_valid() -> None:
    found = {}
    for command in ("", *parser.COMMANDS):
        done = run(ROOT, *filter(None, [command]), "--help", env={"PATH": "/usr/bin:/bin"})
        assert done.returncode == 0
        assert command == "" or f"{invocation.program()} {command}" in done.stdout
        for line in done.stdout.splitlines():
            if re.match(r"  \S*autoresearch-tui|  git ", line):
                line = re.split(r" {3,}", line.strip())[0]
                if trouble := wrong(line):
                    found[line] = trouble
    assert not found


def test_documented_variables_are_read() -> None:
    code = "\n".join(path.read_text() for path in [*SOURCES, ROOT / "Makefile"])
    told = "\n".join(page.read_text() for page in PAGES) + run(ROOT, "--help").stdout
    names = set(re.findall(r"\b(?:AUTORESEARCH|ANTHROPIC|OPENAI|XDG)_[A-Z_]+\b|\bNO_COLOR\b", told))
    assert len(names) > 5 and not {name for name in names if name not in code and not name.startswith("XDG_")}


def test_keys_in_the_readme_are_bound() -> None:
    text = (ROOT / "README.md").read_text()
    rows = text[text.index("| key | does |") : text.index("`q` | detach")].splitlines()[2:]
    named = {key for row in rows for key in re.findall(r"`([^`]+)`", row.split(" | ")[0])} | {"q"}
    bound = {key for action in REGISTRY.actions for key in action.keys}
    spelled = {"/": "slash", "?": "question_mark", "$": "dollar_sign", ",": "comma"}
    assert len(named) > 15 and not {key for key in named if not {key, spelled.get(key, key)} & bound}


# --- invocation -----------------------------------------------------------------------------------


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv(invocation.MADE_FROM, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return monkeypatch


def test_the_bare_name_is_used_only_when_it_is_this_program(stand: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand.chdir(tmp_path)
    assert invocation.call("status") == f"{shlex.quote(COMMAND)} status"
    other = tmp_path / "bin" / "autoresearch-tui"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    stand.setenv("PATH", str(other.parent))
    assert invocation.program() == shlex.quote(COMMAND)
    other.unlink()
    other.symlink_to(COMMAND)
    assert invocation.call("steer", "a b") == "autoresearch-tui steer 'a b'"


def test_a_path_below_the_current_folder_is_relative(stand: pytest.MonkeyPatch) -> None:
    stand.chdir(Path(COMMAND).parent.parent)
    assert invocation.call("status") == "bin/autoresearch-tui status"
    stand.chdir("/")
    assert invocation.program() == COMMAND


def test_the_project_is_named_outside_its_folder(stand: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand.setenv("PATH", str(Path(COMMAND).parent))
    (tmp_path / "my p").mkdir()
    stand.chdir(tmp_path)
    assert invocation.call("attach", "s", project=tmp_path) == "autoresearch-tui attach s"
    assert invocation.call("attach", "s", project=tmp_path / "my p") == "autoresearch-tui attach -C 'my p' s"
    assert invocation.call("run", project=tmp_path / "my p") == "autoresearch-tui run 'my p'"
    assert invocation.call(project=tmp_path / "my p") == "autoresearch-tui 'my p'"


def test_after_make_run_the_hint_is_make_run(stand: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / ".venv").mkdir(parents=True)
    (clone / "Makefile").touch()
    stand.setattr(sys, "prefix", str(clone / ".venv"))
    stand.setenv(invocation.MADE_FROM, str(clone))
    stand.chdir(clone)
    assert invocation.call(project=clone) == "make run"
    assert invocation.call("attach", "nov23", project=clone) == 'make run args="attach nov23"'
    assert shlex.split(invocation.call("steer", "for $5")) == ["make", "run", "args=steer 'for $$5'"]
    stand.setenv(invocation.MADE_FROM, str(tmp_path))
    assert invocation.call() == f"make -C {clone} run"
    stand.chdir(tmp_path)  # such as a program that make started elsewhere
    assert "make" not in invocation.call()


def test_packages_are_installed_into_this_environment(stand: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand.chdir(tmp_path)
    wanted = invocation.requirements("openai")
    assert [re.split("[<>=]", one)[0] for one in wanted] == ["openai"] and ">=3.5" in wanted[0]
    line = invocation.install(*wanted)
    assert shlex.split(line) == [sys.executable, "-m", "pip", "install", *wanted]
    assert invocation.requirements("", ["anthropic"])[0].startswith("anthropic")
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=300)
    python = str(bare / "bin/python")
    assert invocation.install("x", python=python) == "bare/bin/python -m ensurepip && bare/bin/python -m pip install x"
    (tmp_path / "uv").write_text("")
    (tmp_path / "uv").chmod(0o755)
    stand.setenv("PATH", str(tmp_path))
    assert invocation.install("x", python=python) == "uv pip install --python bare/bin/python x"
