"""What is read out of the code under test without running it."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from nanotrain import code
from nanotrain.weights import Rejected
from tests.nanotrain.worlds import REPOSITORY

BASE = code.read(REPOSITORY / "nanotrain")
NOISE = random.Random(0).randbytes(6000)


def test_knowledge_in_the_code_is_told_by_its_size_however_it_is_written() -> None:
    numbers = ", ".join(map(str, NOISE))
    words = base64.b32encode(NOISE).decode().rstrip("=")
    for told in (
        f"TABLE = {base64.b85encode(NOISE)!r}\n",
        f"TABLE = [{numbers}]\n",
        "".join(f"# {words[i : i + 100]}\n" for i in range(0, len(words), 100)),
        f'"""{words}',  # no end: what cannot be read as Python is read as data
    ):
        with pytest.raises(Rejected, match="learned on the run's clock"):
            code.holds_no_knowledge(BASE + told, BASE)
    names = base64.b32encode(random.Random(1).randbytes(20_000)).decode().lower().rstrip("=")
    with pytest.raises(Rejected, match="bytes more of code"):
        code.holds_no_knowledge(BASE + "".join(f"_{names[i : i + 60]} = 0\n" for i in range(0, len(names), 60)), BASE)


def test_code_may_grow_shrink_and_be_rewritten() -> None:
    optimiser = BASE[BASE.index("class Muon") : BASE.index("class Optimiser")]
    code.holds_no_knowledge(BASE + optimiser.replace("Muon", "Shampoo").replace("momentum", "preconditioner"), BASE)
    code.holds_no_knowledge("\n\n\n".join(reversed(BASE.split("\n\n\n"))), BASE)
    code.holds_no_knowledge("", BASE)


def test_code_that_is_oversized_or_no_text_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xff\x00 x = 1\n")
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    code.holds_no_knowledge(code.read(tmp_path), BASE)
    (tmp_path / "b.py").write_text("#" * (1 << 20))
    with pytest.raises(Rejected, match="oversized"):
        code.read(tmp_path)


def test_new_imports_are_known_before_the_code_runs() -> None:
    text = BASE + "\nimport scipy.linalg as s\nfrom torch.linalg import norm\n    from nanotrain import train\n"
    assert code.imports(BASE, BASE) == []
    assert code.imports(text, BASE) == ["scipy.linalg", "torch.linalg"]
    assert code.imports(BASE + "f = torch.compile(f)", BASE) == ["torch._dynamo"]
