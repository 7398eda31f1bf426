"""Edits: what applies, what is refused with which message, and properties over generated files."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.edits.apply import MAX_BYTES, MAX_EDITS, apply_edits, proposal_from_plain, proposal_to_plain
from core.edits.diff import MAX_COMPARED_PAIRS, unified
from core.edits.globs import matches
from core.record.errors import EditError
from core.record.proposal import KINDS, Edit, kind_of

TRAIN = """\
import math

LR = 0.1  # step size
WD = 0.1


def step(x):
    for i in range(3):
        x = x + i
        x = x * 2
    return x


def stop(x):
    return x
"""
FILES = {"train.py": TRAIN, "notes.txt": "a\nb\n"}


def apply(*edits: Edit, files: dict[str, str] | None = None) -> dict[str, str]:
    return apply_edits(files or FILES, edits, may_edit=lambda p: matches(p, ["*.py", "notes.txt", "new/"]))


def refusal(*edits: Edit, files: dict[str, str] | None = None) -> str:
    with pytest.raises(EditError) as caught:
        apply(*edits, files=files)
    return str(caught.value)


def test_an_exact_edit_changes_only_its_file() -> None:
    assert apply(Edit(path="train.py", search="LR = 0.1", replace="LR = 0.2")) == {
        "train.py": TRAIN.replace("LR = 0.1", "LR = 0.2")
    }


def test_edits_apply_in_order_each_to_the_previous_result() -> None:
    new = apply(
        Edit(path="train.py", search="LR = 0.1", replace="LR = 0.2"),
        Edit(path="./train.py", search="LR = 0.2 ", replace="LR = 0.3 "),
    )
    assert "LR = 0.3  # step size" in new["train.py"]


def test_trailing_whitespace_is_ignored() -> None:
    search = "    for i in range(3):   \n        x = x + i\t\n"
    new = apply(Edit(path="train.py", search=search, replace="    for i in range(4):\n        x = i\n"))
    assert "    for i in range(4):\n        x = i\n        x = x * 2\n" in new["train.py"]


def test_missing_indentation_is_added_to_the_replacement() -> None:
    new = apply(Edit(path="train.py", search="x = x + i\nx = x * 2", replace="if i:\n    x = x * 3\n\nx = x + 1"))
    assert "        if i:\n            x = x * 3\n\n        x = x + 1\n    return x\n" in new["train.py"]


def test_extra_indentation_is_removed() -> None:
    search = "        def stop(x):\n            return x"
    new = apply(Edit(path="train.py", search=search, replace="        def stop(x):\n            return -x"))
    assert new["train.py"].endswith("def stop(x):\n    return -x\n")


def test_removed_lines_leave_no_empty_line() -> None:
    assert "    x = x + i" not in apply(Edit(path="train.py", search="x = x + i   \n", replace=""))["train.py"]
    new = apply(Edit(path="train.py", search="        x = x + i  \n        x = x * 2\n", replace="        pass\n"))
    assert "range(3):\n        pass\n    return x" in new["train.py"]


def test_a_file_keeps_its_line_endings() -> None:
    new = apply(
        Edit(path="train.py", search="A = 1\nB = 2\n", replace="A = 1\nC = 3\n"),
        files={"train.py": "A = 1\r\nB = 2\r\nD = 4\r\n"},
    )
    assert new["train.py"] == "A = 1\r\nC = 3\r\nD = 4\r\n"


def test_a_new_file_is_created_and_a_whole_file_is_replaced() -> None:
    assert apply(Edit(path="new/more.py", search="", replace="X = 1\n")) == {"new/more.py": "X = 1\n"}
    assert apply(Edit(path="train.py", content="X = 1\n")) == {"train.py": "X = 1\n"}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            Edit(path="train.py", search="LR = 0.3", replace="LR = 1"),
            ["not found", "3 | LR = 0.1  # step size", "hint: copy"],
        ),
        (
            Edit(path="train.py", search="    x = x + j\n    x = x * 2", replace="pass"),
            ["not found", "9 |         x = x + i"],
        ),
        (
            Edit(path="train.py", search="= 0.1", replace="= 1"),
            ["occurs 2 times, at lines 3, 4", "4 | WD = 0.1", "add lines"],
        ),
        (Edit(path="train.py", search="return x", replace="return 1"), ["occurs 2 times, at lines 11, 15"]),
        (Edit(path="train.py", search="LR = 0.1", replace="LR = 0.1"), ["no effect"]),
        (Edit(path="train.py", search="", replace="X = 1"), ["exists already"]),
        (Edit(path="other.py", search="A", replace="B"), ["no such file", "notes.txt, train.py"]),
        (Edit(path="setup.cfg", search="A", replace="B"), ["may not be edited", "notes.txt, train.py"]),
        (Edit(path="train.py", search="LR = 0.1", replace="LR = ("), ["train.py:", "would not parse", "|"]),
        (Edit(path="train.py", search="LR = 0.1", replace="LR = 1\x00"), ["NUL"]),
        (Edit(path="train.py", search="LR = 0.1", replace="LR = '\x1b[2J'"), ["control character", "train.py:3"]),
        (Edit(path="train.py", search="LR = 0.1", replace="LR = '\ud800'"), ["not valid Unicode"]),
        (Edit(path="train.py", content="#" * (MAX_BYTES + 1)), ["more than 2,000,000"]),
        (Edit(path="train.py", content="(" * 5000), ["would not parse"]),
        (Edit(path="train.py", search="LR = 0.1"), ["replace is missing"]),
        (Edit(path="train.py", search="LR", replace="X", content="Y"), ["content and search/replace are both given"]),
    ],
)
def test_refusals_have_a_reason_and_a_hint(edit: Edit, words: list[str]) -> None:
    said = refusal(edit)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x.py", "a/../../x.py", "~/x.py", "C:\\x.py", "a\\b.py", ".git/config", "a/.GIT/hooks/x.py",
     ".gitmodules", "", "a//b.py", "a/./b.py", "x.py\n", "x\x1b.py", " train.py",
     ".g\u200cit/config", "tr\u202eain.py"],
)  # fmt: skip
def test_paths_outside_the_project_are_refused(path: str) -> None:
    with pytest.raises(EditError):
        apply_edits(FILES, [Edit(path=path, content="X = 1\n")], may_edit=lambda _: True)
    assert "\x1b" not in refusal(Edit(path=path, content="X = 1\n"))


def test_a_proposal_without_edits_is_refused() -> None:
    assert "empty" in refusal()


@pytest.mark.parametrize(
    ("path", "patterns", "meant"),
    [
        ("a.py", ["*.py"], True),
        ("d/a.py", ["*.py"], False),
        ("d/a.py", ["**/*.py"], True),
        ("a.py", ["**/*.py"], True),
        ("d/e/a.py", ["d/**"], True),
        ("d/e/a.py", ["d"], True),
        ("d/e/a.py", ["d/"], True),
        ("de/a.py", ["d"], False),
        ("d/a.py", ["d/*.py", "!d/a.py"], False),
        ("a1.py", ["a[0-9].py"], True),
        ("a/.py", ["a[!x].py"], False),
        ("a+b.py", ["a+b.py"], True),
        ("a.py", ["./a.py"], True),
        ("apy", ["a.py"], False),
        ("x/y.py", ["."], True),
        ("a.py\n", ["*.py"], False),
        ("[z-a]", ["[z-a]"], True),
    ],
)
def test_glob_patterns_match_paths(path: str, patterns: list[str], meant: bool) -> None:
    assert matches(path, patterns) is meant


GLOB_NAMES = (
    "a.py", "b1.py", "]x.py", "-.py", "[z-a]", "[id]/page.ts", "i/page.ts", "d", "e.py/inner.py", "e.py/in.txt",
    "s/a.py", "s/t/a.py", "s/t/u/a.py", "st/a.py", "S.py", "a b.py", "#h.py", "!n.py", "{x}.py", "x^.py",
)  # fmt: skip
GLOBS = (
    "*.py", "**/*.py", "**", "s/**", "s/**/a.py", "s/*", "s/*/*", "**/t/*", "*", "?", "?.py", "[a-c].py", "[!a].py",
    "[]a]x.py", "[a-]*.py", "[z-a]", "[id]", "[id]/page.ts", "d", "d/", "s",
    "s/", "s/t", "s/a**", "**a.py", "a *", "#*", "{x}.py", "{*}.py", "x[\\^].py", "[^a]*.py", "nothing*",
    "*.PY", "[unclosed*", "e.py", "e*",
)  # fmt: skip


def test_globs_match_as_in_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for name in GLOB_NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    subprocess.run(["git", "-C", str(tmp_path), "add", "-A"], check=True)
    wrong = {}
    for pattern in GLOBS:
        command = ["git", "-C", str(tmp_path), "ls-files", "-z", "--", f":(glob){pattern}"]
        meant = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]
        found = [name for name in GLOB_NAMES if matches(name, [pattern])]
        if sorted(found) != sorted(meant):
            wrong[pattern] = (found, meant)
    assert not wrong


def test_globs_differ_from_git_where_intended() -> None:
    assert matches("é.py", ["?.py"])
    assert matches("e.py/in.txt", ["e*/"]) and matches("s/t/a.py", ["*/t/"]) and not matches("e.py", ["e*/"])


LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=12), max_size=12)


@settings(max_examples=200, deadline=None)
@given(before=LINES, middle=st.text("abc \n", min_size=1, max_size=12), after=LINES, new=st.text("xyz\n ", max_size=9))
def test_a_unique_search_is_replaced_only_at_its_match(
    before: list[str], middle: str, after: list[str], new: str
) -> None:
    head, tail = "\n".join(before) + "<", ">" + "\n".join(after)
    text = head + middle + tail
    search = f"<{middle}>"
    files = {"f.txt": text}
    if text.count(search) != 1 or text.find(search) != len(head) - 1:
        return
    replaced = head[:-1] + new + tail[1:]
    if replaced == text:
        return
    assert apply_edits(files, [Edit(path="f.txt", search=search, replace=new)], may_edit=lambda _: True) == {
        "f.txt": replaced
    }


def _common(a: str, b: str) -> int:
    """Length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@settings(max_examples=300, deadline=None)
@given(text=st.text("ab \n\t", max_size=60), search=st.text("ab \n\t", max_size=12), new=st.text("cd \n", max_size=8))
def test_any_input_is_applied_or_raises_an_edit_error(text: str, search: str, new: str) -> None:
    try:
        changed = apply_edits(
            {"f.txt": text}, [Edit(path="f.txt", search=search, replace=new)], may_edit=lambda _: True
        )
    except EditError as error:
        assert error.what
    else:
        assert changed["f.txt"] != text
        # Only one range changed: the text around it is unchanged.
        result = changed["f.txt"]
        head = _common(text, result)
        tail = _common(text[::-1], result[::-1])
        assert len(text) - head - tail <= len(search) + text.count(" ") + text.count("\t") + 2


@settings(max_examples=150, deadline=None)
@given(depth=st.integers(1, 4), drop=st.integers(0, 4))
def test_any_search_indentation_matches_one_block_and_the_result_parses(depth: int, drop: int) -> None:
    pad = "    " * depth
    body = "".join(f"{'    ' * i}if x:\n" for i in range(depth)) + f"{pad}y = 1\n{pad}z = 2\n"
    lost = "    " * drop
    edit = Edit(
        path="f.py", search=f"{lost}y = 1\n{lost}z = 2\n", replace=f"{lost}y = 3\n\n{lost}if y:\n{lost}    z = 4\n"
    )
    new = apply_edits({"f.py": body}, [edit], may_edit=lambda _: True)["f.py"]
    ast.parse(new)
    assert f"{pad}y = 3\n\n{pad}if y:\n{pad}    z = 4\n" in new


@settings(max_examples=60, deadline=None)
@given(old=st.text("ab\n", max_size=30), new=st.text("ab\n", max_size=30))
def test_git_applies_the_unified_diff(old: str, new: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    diff, added, removed = unified({"d/f.txt": old}, {"d/f.txt": new})
    if old == new:
        assert (diff, added, removed) == ("", 0, 0)
        return
    if not old or not new:  # git says "new file" or "deleted file" for these
        return
    folder: Path = tmp_path_factory.mktemp("repo")
    (folder / "d").mkdir()
    (folder / "d" / "f.txt").write_bytes(old.encode())
    subprocess.run(["git", "apply", "--unidiff-zero", "-"], input=diff.encode(), cwd=folder, check=True)
    assert (folder / "d" / "f.txt").read_bytes() == new.encode()


def test_a_very_large_change_is_one_hunk_that_git_applies(tmp_path: Path) -> None:
    lines = [f"value_{n} = {n % 7}\n" for n in range(3000)]
    old = "# head\n" * 5 + "".join(lines) + "# tail\n" * 5
    new = "# head\n" * 5 + "".join(reversed(lines)) + "# tail\n" * 4 + "# tail"
    diff, added, removed = unified({"f.txt": old}, {"f.txt": new})
    assert len(lines) ** 2 > MAX_COMPARED_PAIRS and diff.count("\n@@ ") == 1 and added > 2900 < removed
    (tmp_path / "f.txt").write_text(old)
    done = subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=diff, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.txt").read_text() == new


@pytest.mark.parametrize(
    ("text", "search", "words"),
    [
        (
            "x\n" * 200_000,
            "x\n" * 50_000 + "y\nx",
            "was not found",
        ),  # a partial match at every line
        ("a" * 1_500_000, "a", "50 times or more"),
        ("".join(f"v{n} = 1\n" for n in range(90_000)), "\n".join(f"v{n}  = 1" for n in range(5000)), "was not found"),
    ],
)
def test_a_search_with_many_partial_matches_ends_in_time(text: str, search: str, words: str) -> None:
    with pytest.raises(EditError, match=words):
        apply_edits({"f.txt": text}, [Edit(path="f.txt", search=search, replace="z")], may_edit=lambda path: True)


def test_edits_above_the_limit_are_refused_and_at_the_limit_apply() -> None:
    text = "".join(f"v{n} = 1\n" for n in range(MAX_EDITS + 1))
    edits = [Edit(path="f.py", search=f"v{n} = 1\n", replace=f"v{n} = 2\n") for n in range(MAX_EDITS + 1)]
    assert apply_edits({"f.py": text}, edits[1:], may_edit=lambda path: True)["f.py"].count("= 2") == MAX_EDITS
    with pytest.raises(EditError, match="201 edits"):
        apply_edits({"f.py": text}, edits, may_edit=lambda path: True)


def test_an_edit_does_not_apply_twice() -> None:
    edits = [Edit(path="f.py", search="a = 1", replace="a = 2"), Edit(path="f.py", search="a = 1", replace="a = 2")]
    with pytest.raises(EditError, match="not found"):
        apply_edits({"f.py": "a = 1\n"}, edits, may_edit=lambda path: True)


def test_the_diff_of_a_new_file_is_complete() -> None:
    diff, added, removed = unified({}, {"n.py": "a\nb"})
    assert "new file mode" in diff and "--- /dev/null\n+++ b/n.py\n" in diff
    assert diff.endswith("+b\n\\ No newline at end of file\n") and (added, removed) == (2, 0)


PLAIN = {
    "hypothesis": "LR up: faster", "rationale": "r", "expected": -0.01, "kind": "optimizer",
    "edits": [{"path": "train.py", "search": "a", "replace": "b"}, {"path": "n.py", "content": ""}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("optimizer", "optimizer"), ("Optimiser", "optimizer"), ("OPTIMISATION", "optimizer"),
        ("learning-rate", "optimizer"),
        ("LR", "optimizer"), ("hyperparameters", "optimizer"), ("hyper-parameter tuning", "optimizer"),
        ("lr schedule", "schedule"), ("learning_rate_schedule", "schedule"), ("warm-up", "schedule"),
        ("schedules", "schedule"), ("arch", "architecture"), ("Architectural change", "architecture"),
        ("Regularisation", "regularization"), ("Regularization", "regularization"), ("weight decay", "regularization"),
        ("numeric", "numerics"), ("Numerics", "numerics"), ("data", "data"), ("Simplify", "simplification"),
        ("optimiser / LR schedule", "optimizer"), ("model architecture (attention)", "architecture"),
        ("Other.", "other"),
        ("tea", None), ("", None), ("is", None), ("/", None),
    ],
)  # fmt: skip
def test_every_spelling_of_a_kind_is_recognized(words: str, kind: str | None) -> None:
    assert kind_of(words) == kind


def test_no_alias_belongs_to_two_kinds() -> None:
    assert sorted(kind_of(kind) or "" for kind in KINDS) == sorted(KINDS)


def test_edits_survive_serialization() -> None:
    assert proposal_to_plain(proposal_from_plain(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hypothesis": None}, '"hypothesis" is missing'),
        ({"hypothesis": " \n"}, '"hypothesis" is empty'),
        ({"hypothesis": 3}, '"hypothesis" is not text'),
        ({"edits": None}, '"edits" is missing'),
        ({"edits": []}, '"edits" is empty'),
        ({"edits": {"path": "x"}}, '"edits" is an object, not a list'),
        ({"edits": "no json"}, '"edits" is text'),
        ({"edits": "[" * 100_000}, '"edits" is text'),
        ({"edits": ["x"]}, "edit 1 is text"),
        ({"edits": [{"search": "a", "replace": "b"}]}, 'no "path"'),
        ({"edits": [{"path": "a", "search": "b"}]}, 'no "replace"'),
        ({"edits": [{"path": "a", "search": 1, "replace": "b"}]}, '"search" is a number'),
        ({"expected": "soon"}, '"expected" is text'),
        ({"expected": True}, '"expected" is true or false'),
        ({"rationale": []}, '"rationale" is a list'),
    ],
)
def test_a_wrong_shape_is_reported(change: dict[str, object], words: str) -> None:
    with pytest.raises(EditError, match=words.replace("(", "\\(")):
        proposal_from_plain({**PLAIN, **change})


def test_common_mistakes_of_models_are_accepted() -> None:
    proposal = proposal_from_plain(
        {**PLAIN, "kind": "Optimisers", "expected": "−0.02", "hypothesis": "a\nb\x1b[2J",
         "edits": '[{"path": "a", "search": "b", "replace": "c"}]'}
    )  # fmt: skip
    assert (proposal.kind, proposal.extra, proposal.expected) == ("optimizer", {}, -0.02)
    strange = proposal_from_plain({**PLAIN, "kind": "tea\nleaves"})
    assert (strange.kind, strange.extra) == ("other", {"kind": "tea leaves"})
    assert proposal.hypothesis == "a b" and proposal.edits == (Edit(path="a", search="b", replace="c"),)
    assert proposal_from_plain({**PLAIN, "expected": float("nan")}).expected is None
    wrongs: tuple[object, ...] = (None, [], "x", 3)
    for wrong in wrongs:
        with pytest.raises(EditError):
            proposal_from_plain(wrong)


PYTHON_2 = "print 'hello'\nLR = 0.1\n"


def test_a_change_is_refused_for_its_syntax_only_where_the_parent_parses() -> None:
    edit = Edit(path="train.py", search="LR = 0.1", replace="LR = 0.2")
    assert apply_edits({"train.py": PYTHON_2}, [edit], may_edit=lambda _: True) == {
        "train.py": PYTHON_2.replace("0.1", "0.2")
    }
    with pytest.raises(EditError, match="would not parse"):
        apply_edits({"train.py": "LR = 0.1\n"}, [Edit(path="new.py", content=PYTHON_2)], may_edit=lambda _: True)


@pytest.mark.parametrize(
    "edit",
    [
        Edit(path="train.py", search="LR = 0.1", replace="LR = 0.2"),
        Edit(path="train.py", search="\ufeffLR = 0.1", replace="\ufeffLR = 0.2"),
        Edit(path="train.py", content="LR = 0.2\nWD = 1\n"),
        Edit(path="train.py", content="\ufeffLR = 0.2\nWD = 1\n"),
    ],
)
def test_a_byte_order_mark_stays_and_parses(edit: Edit) -> None:
    changed = apply_edits({"train.py": "\ufeffLR = 0.1\nWD = 1\n"}, [edit], may_edit=lambda _: True)
    assert changed == {"train.py": "\ufeffLR = 0.2\nWD = 1\n"}
