"""The rules of program.md and patches as edits: pure functions of texts."""

from __future__ import annotations

import difflib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.edits.patch import edits_from_patch
from core.edits.rules import Rules, check_rules, defines, imported
from core.record.errors import EditError

CODE = """\
import os
from torch import nn

RATE: float = 0.5
A, B = 1, 2
if RATE:
    def main():
        pass


class GPT(nn.Module):
    depth = 3

    def forward(self, x):
        return x
"""


def refused(rules: Rules, new: str, before: str = CODE, known: tuple[str, ...] = ()) -> EditError:
    with pytest.raises(EditError) as caught:
        check_rules(rules, {"train.py": before}, {"train.py": new}, known)
    assert caught.value.where and caught.value.hint
    return caught.value


def test_the_limit_on_changed_lines_holds() -> None:
    rules = Rules(max_diff_lines=2)
    check_rules(rules, {"train.py": CODE}, {"train.py": CODE.replace("0.5", "0.4")})
    said = refused(rules, CODE.replace("0.5", "0.4").replace("depth = 3", "depth = 4"))
    assert "4 lines (+2 −2)" in said.what and "allows 2" in said.what
    assert "+3 −0" in refused(rules, CODE + "a = 1\nb = 2\nc = 3\n").what


def test_forbidden_patterns_apply_to_added_lines_only() -> None:
    rules = Rules(forbid=(r"\bos\.", r"import_module"))
    check_rules(rules, {"train.py": CODE + "os.nice(1)\n"}, {"train.py": CODE.replace("0.5", "1") + "os.nice(1)\n"})
    said = refused(rules, CODE.replace("        return x", '        os.system("x")\n        return x'))
    assert said.where == "train.py:15" and "os.system" in said.what and r"\bos\." in said.what


def test_a_large_change_is_measured_fast() -> None:
    same = "x = 1\n" * 20_000
    changed = "y = 2\n" + same + "z = 3\n" + same + "w = 4\n"
    begun = time.process_time()
    check_rules(Rules(), {"train.py": same}, {"train.py": changed})
    said = refused(Rules(max_diff_lines=50_000), changed, same)
    assert "60003 lines (+40003 −20000)" in said.what
    assert refused(Rules(forbid=("z =",)), changed, same).where == "train.py:20002"
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", ["main", "GPT", "GPT.forward", "GPT.depth", "RATE", "A", "nn", "os"])
def test_required_patterns_must_remain(name: str) -> None:
    assert defines("train.py", CODE, name)
    gone = CODE.replace(name.rpartition(".")[2], "renamed")
    assert name in refused(Rules(require=(f"train.py:{name}",)), gone).what
    check_rules(Rules(require=(f"train.py:{name}",)), {"train.py": CODE}, {"train.py": CODE + "more = 1\n"})
    check_rules(Rules(require=(f"other.py:{name}",)), {"train.py": CODE}, {"train.py": gone})


def test_defines_finds_exact_definitions_only() -> None:
    for name in ("GPT.main", "x", "Module", "forward", "GPT.forward.x"):
        assert not defines("train.py", CODE, name)
    assert defines("model.yaml", "depth: 3\n", "depth") and not defines("model.yaml", "depths: 3\n", "depth")


@pytest.mark.parametrize(
    "line",
    [
        "import scipy.optimize as so", "from scipy import stats", "    import json, scipy",
        "__import__('scipy')", "importlib.import_module('scipy.stats')",
    ],
)  # fmt: skip
def test_new_dependencies_are_refused(line: str) -> None:
    rules = Rules(freeze_dependencies=True)
    new = f"{CODE}def f():\n    {line.strip()}\n"
    said = refused(rules, new)
    assert "scipy" in said.what and said.where == "train.py:17"
    check_rules(rules, {"train.py": CODE}, {"train.py": new}, known=("scipy",))
    check_rules(rules, {"train.py": CODE}, {"train.py": CODE + "import math, torch\nfrom . import helpers\n"})
    check_rules(rules, {"train.py": CODE}, {"train.py": CODE + "import blocks\n", "blocks.py": "import os\n"})
    for path in ("pyproject.toml", "sub/requirements-dev.txt", "uv.lock"):
        with pytest.raises(EditError, match="frozen"):
            check_rules(rules, {}, {path: "x"})


def test_imports_of_unparsable_code_are_found_by_line() -> None:
    assert imported("train.py", "import a.b, c as d\nfrom e.f import g\nthis is no python\n") == {
        "a": 1,
        "c": 1,
        "e": 1,
    }
    assert imported("notes.md", "import everything") == {}


# --- patches -------------------------------------------------------------------------------------

_line = st.sampled_from(["a", "b", "", "  c", "-d", "+e", "\\f", "@@ g", "--- h", "+++ i"])
_text = st.builds(
    lambda lines, ended: "\n".join(lines) + ("\n" if ended and lines else ""),
    st.lists(_line, max_size=9),
    st.booleans(),
)


def diff(old: str, new: str) -> str:
    a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    lines = difflib.unified_diff(a, b, "a/train.py", "b/train.py", n=1)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


@given(_text, _text)
@settings(max_examples=300)
def test_a_patch_applies(old: str, new: str) -> None:
    patch = diff(old, new)
    if patch:
        (edit,) = edits_from_patch(patch, {"train.py": old})
        assert edit.content == new


def test_a_patch_finds_its_offset_and_keeps_line_endings() -> None:
    moved = "# one\n# two\n" + CODE
    patch = diff(CODE, CODE.replace("0.5", "0.4").replace("depth = 3", "depth = 4"))
    (edit,) = edits_from_patch(patch, {"train.py": moved})
    assert edit.content == "# one\n# two\n" + CODE.replace("0.5", "0.4").replace("depth = 3", "depth = 4")
    (edit,) = edits_from_patch(patch.replace("\n", "\r\n"), {"train.py": CODE.replace("\n", "\r\n")})
    assert edit.content == CODE.replace("0.5", "0.4").replace("depth = 3", "depth = 4").replace("\n", "\r\n")
    made = "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1,2 @@\n+a\n+b\n"
    assert [(e.path, e.content) for e in edits_from_patch(made, {})] == [("new.py", "a\nb\n")]
    inside = patch.replace("/train.py", "/sub/train.py")
    assert edits_from_patch(inside, {"train.py": CODE}, "sub")[0].path == "train.py"


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ("", "not a unified diff"),
        ("just words", "not a unified diff"),
        ("--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n import os\n", "ends within"),
        ("--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-import sys\n+import os\n", "hunk 1 of 1: the patch"),
        ("--- a/train.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-import os\n", "removes"),
        ("--- a/train.py\n+++ b/main.py\n@@ -1 +1 @@\n-import os\n+import sys\n", "renames"),
        ("--- a/score.py\n+++ b/score.py\n@@ -1 +1 @@\n-a\n+b\n", "may not be edited"),
        ("--- /dev/null\n+++ b/train.py\n@@ -0,0 +1 @@\n+b\n", "exists already"),
        ("Binary files a/x and b/x differ\n", "binary"),
        ("x" * 2_000_001, "smaller"),
    ],
)  # fmt: skip
def test_an_invalid_patch_is_refused_with_a_reason(patch: str, words: str) -> None:
    with pytest.raises(EditError) as caught:
        edits_from_patch(patch, {"train.py": CODE})
    assert words in str(caught.value)


def test_changed_line_ends_count_as_git_counts_them() -> None:
    old = "".join(f"x{number} = 1\n" for number in range(20))
    with pytest.raises(EditError, match="20 "):
        check_rules(Rules(max_diff_lines=10), {"a.py": old}, {"a.py": old.replace("\n", "\r\n")})
    with pytest.raises(EditError, match="forbids"):
        check_rules(Rules(forbid=("= 2$",)), {"a.py": "x = 1\r\n"}, {"a.py": "x = 2\r\n"})


def test_definitions_are_found_behind_a_byte_order_mark_and_in_another_version_of_python() -> None:
    assert defines("train.py", "\ufeff" + CODE, "main") and defines("train.py", "\ufeff" + CODE, "GPT.forward")
    assert imported("train.py", "\ufeffimport os\n") == {"os": 1}
    old = "print 'hello'\ndef main(x):\n    pass\nclass GPT:\n    def forward(self): pass\nRATE = 0.5\n"
    for name in ("main", "GPT.forward", "GPT", "RATE"):
        assert defines("train.py", old, name)
    assert not defines("train.py", old, "mai") and not defines("train.py", old, "hello")
