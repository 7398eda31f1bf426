"""One key set in the text of a program.md."""

from __future__ import annotations

from core.program.toml_edit import with_key

HEAD = '+++\nedit = ["a.py"]\n'
TAIL = "+++\nat_limit = prose\n[budget]\n"


def changed(front: str) -> str:
    text = with_key(f"{HEAD}{front}{TAIL}", "budget", "at_limit", '"score"')
    assert text.startswith(HEAD) and text.endswith(TAIL)
    return text.removeprefix(HEAD).removesuffix(TAIL)


def test_a_new_table() -> None:
    assert changed("") == '[budget]\nat_limit = "score"\n'


def test_a_line_in_its_table() -> None:
    before = '[budget]\nrun = "5m"\n[rules]\nat_limit = 1\n'
    assert changed(before) == '[budget]\nat_limit = "score"\nrun = "5m"\n[rules]\nat_limit = 1\n'


def test_a_value_and_a_comment_in_place() -> None:
    assert changed('[budget]\nat_limit = "crash"  # why\n') == '[budget]\nat_limit = "score"  # why\n'
    assert changed('[budget]\nusd = 5\n# at_limit = "score" # x\n') == '[budget]\nusd = 5\nat_limit = "score" # x\n'
