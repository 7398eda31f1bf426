"""The checks of the code under test that do not run it."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from nanotrain import source_checks
from nanotrain.weights import Rejected
from tests.nanotrain.worlds import REPOSITORY

FILES = sorted((REPOSITORY / "nanotrain").rglob("*.py"))
BASE = "\n".join(path.read_text() for path in FILES)
NOISE = random.Random(0).randbytes(6000)


def check(text: str, base: str = BASE, name: str = "a.py") -> None:
    source_checks.check_size({name: text}, {name: base})


def test_data_in_the_code_is_found_by_its_size_in_every_notation() -> None:
    numbers = ", ".join(map(str, NOISE))
    words = base64.b32encode(NOISE).decode().rstrip("=")
    for added in (
        f"TABLE = {base64.b85encode(NOISE)!r}\n",
        f"TABLE = [{numbers}]\n",
        "".join(f"# {words[i : i + 100]}\n" for i in range(0, len(words), 100)),
        f'"""{words}',  # not terminated: text that is not Python counts as data
    ):
        with pytest.raises(Rejected, match="learned on the run's clock"):
            check(BASE + added)
    with pytest.raises(Rejected, match="learned on the run's clock"):
        check(words, "", "table.txt")
    order = random.Random(1).choices([f"    {name} + 1" for name in "abcdefghijklmnopqrstuvwxyz"], k=30_000)
    with pytest.raises(Rejected, match="bytes of code"):
        check(BASE + "def f():\n" + "\n".join(order))


def test_code_may_grow_shrink_and_be_rewritten() -> None:
    optimizer = BASE[BASE.index("class Muon") : BASE.index("class MuonAdamW")]
    check(BASE + optimizer.replace("Muon", "Shampoo").replace("momentum", "preconditioner"))
    check("\n\n\n".join(reversed(BASE.split("\n\n\n"))))
    check("")


def test_new_files_of_every_kind_are_read(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        (folder / "pkg").mkdir(parents=True)
        (folder / "pkg" / "same.py").write_text("x = 1\n")
        (folder / "pkg" / "other.py").write_text(folder.name)
    (new / "pkg" / "a.py").write_bytes(b"\xff\x00 x = 1\n")
    (new / "link.py").symlink_to("/etc/passwd")
    (new / "folder").symlink_to("/etc")
    now, before = source_checks.changed_files(new, old)
    assert set(now) == set(before) == {"pkg/other.py", "pkg/a.py", "link.py", "folder"}
    assert now["link.py"] == "/etc/passwd" and before["pkg/other.py"] == "old" and before["link.py"] == ""
    source_checks.check_size(now, before)
    assert source_checks.changed_files(old, old) == ({}, {})
    (new / "table.bin").write_bytes(bytes(range(128, 256)) * 10 + NOISE)
    with pytest.raises(Rejected, match="text, strings, numbers and names"):
        source_checks.check_size(*source_checks.changed_files(new, old))
    (new / "b.txt").write_text("#" * (1 << 20))
    with pytest.raises(Rejected, match="oversized"):
        source_checks.changed_files(new, old)


def test_new_imports_are_found_without_running_the_code() -> None:
    text = BASE + "\nimport scipy.linalg as s\nfrom torch.linalg import norm\n    from nanotrain import train\n"

    def imports(text: str) -> list[str]:
        return source_checks.new_imports({"a.py": text, "b.md": "import this"}, {"a.py": BASE, "b.md": ""})

    assert imports(BASE) == []
    assert imports(text) == ["scipy.linalg", "torch.linalg"]
    for call in (
        "f = compile(f)",
        "torch.use_deterministic_algorithms(True)",
        "torch.library.custom_op('a::b')",
    ):
        assert imports(BASE + call) == ["torch._dynamo"]
    assert imports(BASE + "f = torch.compile(f)") == ["torch._dynamo", "torch._inductor.compile_fx"]


@pytest.mark.parametrize("name", [
    *("unittest.__main__", "pytest", "this", "antigravity", "runpy", "idlelib.idle", "site", "usercustomize"),
    *("numpy.distutils.core", "numpy.f2py.__main__", "torch.utils.cpp_extension", "torch.testing._internal.jit_utils"),
    *("pip.__main__", "nanotrain.own", "tests.x", "encodings.own", "torch.utils.bottleneck", "scipy._lib", "torchx"),
    "torch.__main__", "",
])  # fmt: skip
def test_what_may_run_other_code_is_imported_on_the_models_own_account(name: str) -> None:
    assert not source_checks.is_library(name)
    assert source_checks.is_library("scipy.linalg") and source_checks.is_library("torch.nn.attention.flex_attention")


def test_what_was_removed_pays_for_nothing_and_what_moved_costs_nothing() -> None:
    text = (REPOSITORY / "nanotrain" / "train.py").read_text()
    comments = "\n".join(line for line in text.splitlines() if line.strip().startswith("#"))
    bare = "\n".join(line for line in text.splitlines() if not line.strip().startswith("#"))
    check(f"{bare}\n{comments}", text)
    check("\n".join(f"# {line}" for line in text.splitlines()), text)  # all of it commented out
    hidden = f"\nT = {base64.b85encode(NOISE[:4600])!r}\n"
    with pytest.raises(Rejected, match="learned on the run's clock"):
        check(bare + hidden, text)
    # The old text is known however long it is, and whichever file had it.
    long = random.Random(1).randbytes(40_000).hex()
    table = f'"""{long}"""'
    source_checks.check_size({"b.py": f'X = {table[:-3]}\'"""'}, {"a.py": f"T = {table}", "b.py": ""})


def test_names_carry_data_too() -> None:
    names = base64.b32encode(NOISE).decode().lower().rstrip("=")
    with pytest.raises(Rejected, match="text, strings, numbers"):
        check(BASE + "".join(f"_{names[i : i + 60]} = 0\n" for i in range(0, len(names), 60)))


def test_folders_of_every_name_are_read(tmp_path: Path) -> None:
    for folder in (new := tmp_path / "new", tmp_path / "old"):
        (folder / "pkg").mkdir(parents=True)
    (tmp_path / "old" / "pkg" / "gone.py").write_text("# prose that moves\n")
    (new / "pkg" / "__pycache__").mkdir()
    (new / "pkg" / "__pycache__" / "notes.txt").write_text("x")
    now, before = source_checks.changed_files(new, tmp_path / "old")
    assert set(now) == {"pkg/__pycache__/notes.txt"} and before["pkg/gone.py"] == "# prose that moves\n"
