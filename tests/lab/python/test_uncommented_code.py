"""Comments and docstrings are blanked, and nothing else: the code is the same, on the same lines."""

from __future__ import annotations

import ast
import base64
import random
from pathlib import Path

import pytest

from core.lab.python.uncommented_code import blank_comments, without_comments
from nanotrain import source_checks
from nanotrain.weights import Rejected

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nx = 1  # one\n    # two\ny = '# no'  # yes\n", "a\nb\nx = 1\n\ny = '# no'\n"),
        ("a\nb\nx = f'{y!r} # no'  # yes\r\nz = 1 # \u2028 one\r\n", "a\nb\nx = f'{y!r} # no'\r\nz = 1\r\n"),
        (
            "#!/usr/bin/python\n# -*- coding: utf-8 -*-\n# c\nx = 1",
            "#!/usr/bin/python\n# -*- coding: utf-8 -*-\n\nx = 1",
        ),
        ("\n\nx = f(y)  # type: (Tensor) -> Tensor\n# c", "\n\nx = f(y)  # type: (Tensor) -> Tensor\n"),
        ("\ufeffx\ny\n'''\n# no\n'''  # c", "\ufeffx\ny\n'''\n# no\n'''"),
        ("x\ny\nif a:\n    pass\n  # strange\n", "x\ny\nif a:\n    pass\n\n"),
        ("x = (  \n\n1,  # \\\n2)\n", "x = (  \n\n1,\n2)\n"),
    ],
)
def test_comments_are_blanked(before: str, after: str) -> None:
    assert without_comments(before) == after


@pytest.mark.parametrize("text", ["", "def (:  # c\n", "x\ny\n'''  # c", "print 1  # c\n", "\x00# c"])
def test_other_text_stays(text: str) -> None:
    assert without_comments(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('def f():\n    """\u00e9 a\n    b\n    """; x = 1\n', 'def f():\n    """\n\n"""; x = 1\n'),
        ("class A:\n    'd' \\\n    'e'\n    def g(self): 'q'; return 2\n",
         'class A:\n    """\n"""\n    def g(self): ""; return 2\n'),
        ("async def h():\r\n    ('a'\r\n     'b')\r\n", 'async def h():\r\n    ("""\r\n""")\r\n'),
        ("'module'\ndef f(): return 'no docstring'\n", "'module'\ndef f(): return 'no docstring'\n"),
        ("def f():\n    'd'\nprint(f.__doc__)\n", "def f():\n    'd'\nprint(f.__doc__)\n"),
        ("def f():\n    f'{1}'\n", "def f():\n    f'{1}'\n"),
    ],
)  # fmt: skip
def test_docstrings_are_blanked_where_the_code_does_not_ask_for_them(before: str, after: str) -> None:
    assert without_comments(before) == after


def test_a_complete_rewrite_is_no_knowledge() -> None:
    """The training code as if it were written from nothing: of the session's first code it has no line."""
    bare = without_comments((ROOT / "nanotrain" / "train.py").read_text())
    source_checks.check_size({"nanotrain/train.py": bare}, {})
    packed = base64.b85encode(random.Random(1).randbytes(4096)).decode()
    with pytest.raises(Rejected, match="text, strings, numbers and names"):
        source_checks.check_size({"nanotrain/train.py": f"{bare}\ntable = {packed!r}\n"}, {})


def _code(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def test_real_code_stays_the_same() -> None:
    text = (ROOT / "nanotrain" / "train.py").read_text()
    bare = without_comments(text)
    assert _code(bare) == _code(text) and bare.count("\n") == text.count("\n")
    assert "# " in text and not [line for line in bare.splitlines()[2:] if line.strip().startswith("#")]


def test_only_changed_python_files_are_written(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "same.py").write_text("\n\nx = 1  # one\n")
        (folder / "table.txt").write_text("# " + folder.name)
    (new / "latin.py").write_bytes(b"\n\nx = 1  # \xff\n")
    (new / "other.py").write_text("\n\nx = 2  # two\n")
    (new / "link.py").symlink_to("same.py")
    blank_comments(new, old)
    texts = {path.name: path.read_bytes() for path in new.iterdir()}
    assert texts["other.py"] == b"\n\nx = 2\n" and texts["same.py"] == texts["link.py"] == b"\n\nx = 1  # one\n"
    assert texts["table.txt"] == b"# new" and texts["latin.py"] == b"\n\nx = 1  # \xff\n"
