"""program.md: what is read, and that every refusal names the line, the reason and the hint."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.edits.rules import Rules
from core.program.program import (
    EXAMPLES,
    FIXED,
    KEYS,
    Program,
    check_change,
    check_files,
    check_required,
    find_project,
    load,
    parse,
)
from core.record.budget import RunBudget
from core.record.errors import AutoresearchError, ProgramError, ProjectError, UsageError
from core.stats.decide import Policy
from tests import ROOT
from tests.recorded import PROGRAM

LINES = [
    "+++",
    'edit = ["train.py"]',
    'run = "python train.py"',
    "[metric]",
    'name = "val_bpb"',
    "pattern = '^val_bpb:\\s*(\\S+)'",
    "[budget]",
    'run = "20s"',
    "hours = 3",
    "+++",
    "# Title",
    "prose",
]
TEXT = "\n".join(LINES)


def changed(line: int, new: str) -> str:
    """TEXT with its line `line` (from 1) replaced."""
    return "\n".join([*LINES[: line - 1], new, *LINES[line:]])


def test_unset_keys_have_their_defaults() -> None:
    program = parse(TEXT)
    assert program.edit == ("train.py",)
    assert program.metric.name == "val_bpb" and program.metric.direction == "min" and program.metric.self_reported
    assert program.run_budget("cpu") == RunBudget(seconds=20.0) == program.run_budget("cuda")
    assert program.budget.hours == 3.0 and program.budget.experiments is None and program.budget.usd is None
    assert (program.policy, program.baseline_runs, program.seed) == (Policy(), 3, 1)
    assert program.startup_seconds == {"cpu": 120.0, "cuda": 300.0}
    assert program.prose == "# Title\nprose"
    assert program.text == TEXT


def test_every_key_is_read() -> None:
    program = parse(
        """+++
edit = ["src/**/*.py", "!src/eval.py"]
read = ["README.md"]
inputs = ["data"]
run = "python -m x"
prepare = "python prepare.py"
score = "python score.py"
approve = true
seed = 7
[metric]
name = "accuracy"
direction = "max"
[budget]
run = { cuda = "5m", cpu = "400 steps" }
hours = 1.5
experiments = 10
usd = 2
startup = { cuda = "10m" }
saving = "30s"
limit = "1h"
check = "5s"
[checks]
smoke = "python -m x --smoke"
[rules]
max_diff_lines = 40
forbid = ['torch\\.compile']
require = ["src/a.py:GPT.forward"]
freeze_dependencies = true
[decide]
keep = 0
baseline = 5
[sandbox]
network = true
memory_gb = 2.5
[slots]
gpu_memory = "1.5 GB"
+++
"""
    )
    assert program.metric.direction == "max" and not program.metric.self_reported and program.pattern is None
    assert program.run_budget("cpu").steps == 400 and program.run_budget("cuda").seconds == 300
    assert program.startup_seconds == {"cpu": 120.0, "cuda": 600.0}
    assert (program.saving_seconds, program.limit_seconds, program.check_seconds) == (30, 3600, 5)
    assert program.checks == {"smoke": "python -m x --smoke"}
    assert program.rules == Rules(40, ("torch\\.compile",), ("src/a.py:GPT.forward",), True)
    assert (program.policy.keep, program.baseline_runs, program.approve, program.seed) == (0, 5, True, 7)
    assert program.network and program.memory_gb == 2.5 and program.gpu_memory == 3 * 2**29


@pytest.mark.parametrize(
    ("line", "new", "says", "hint"),
    [
        (1, "---", "does not begin", "begin it"),
        (2, 'edits = ["train.py"]', "unknown key 'edits'", "`edit`"),
        (2, 'edit = "train.py"', "not a list", "edit ="),
        (2, 'edit = ["x"]\nslots.gpu_memory = "10"', "no amount of memory", 'gpu_memory = "10 GB"'),
        (2, "edit = []", "empty", "edit ="),
        (2, 'edit = ["/etc/passwd"]', "is outside the project", "without .."),
        (2, 'edit = ["a/../../b"]', "is outside the project", "without .."),
        (2, 'edit = ["~/b"]', "is outside the project", "relative"),
        (
            2,
            'edit = ["x"]\ninputs = ["/data/my corpus"]',
            "is outside the project",
            "ln -s '/data/my corpus' 'my corpus'; then",
        ),
        (
            2,
            'edit = ["x"]\ninputs = ["~/sets/x/"]',
            "is outside the project",
            '~/sets/x/ x; then write inputs = ["x"]',
        ),
        (2, 'edit = ["x"]\ninputs = ["../shared"]', "is outside the project", "ln -s ../shared shared; then"),
        (2, 'edit = ["x"]\ninputs = ["./"]', "is the whole project", "folders with the data"),
        (2, 'edit = [".git/config"]', "belongs to git", "your own"),
        (2, 'edit = ["*"]', "program.md itself", "never editable"),
        (2, 'edit = ["./program.md"]', "program.md itself", "never editable"),
        (2, 'edit = ["a\\tb"]', "is not a path", "give a file"),
        (2, 'edit = ["train.py"', "not TOML", "correct that line"),
        (3, "run = 3", "`run` is 3", "run ="),
        (3, 'run = " "', "`run`", "run ="),
        (3, 'run = "a\\nb"', "line break", "one line"),
        (3, 'hours = 3\nrun = "x"', "unknown key 'hours'", "`budget.hours`"),
        (5, 'nam = "x"', "unknown key 'nam'", "`name`"),
        (5, "name = 5", "`metric.name` is 5", "name ="),
        (5, 'name = "loss"\ndirection = "down"', "'down' is not a direction", "lower is better"),
        (5, 'name = "accuracy"', "`metric.direction` is missing", 'direction = "max"'),
        (6, "pattern = '(unclosed'", "not a regular expression", "pattern ="),
        (6, "pattern = 'no group'", "0 groups", "pattern ="),
        (6, "pattern = '(two) (groups)'", "2 groups", "pattern ="),
        (6, "", "neither `score` nor", "pattern ="),
        (7, "[budgets]", "unknown key 'budgets'", "`budget`"),
        (8, "run = 20", "not a time or steps", "5m"),
        (8, 'run = "20 parsecs"', "not a run budget", "5m"),
        (8, 'run = "0s"', "more than 0", "5m"),
        (8, 'run = "0 steps"', "at least 1 step", "5m"),
        (8, "run = {}", "empty", "5m"),
        (8, 'run = { tpu = "3s" }', "not a device", "cuda or cpu"),
        (9, "hours = 0", "more than 0", "hours ="),
        (9, "hours = true", "`budget.hours` is true", "hours ="),
        (9, "hours = inf", "more than 0", "hours ="),
        (9, "experiments = 2.5", "whole number", "experiments ="),
        (9, 'saving = "-3s"', "not a duration", ""),
        (9, "hours = 3\n[decide]\nkeep = -1", "at least 0", "keep ="),
        (9, "hours = 3\n[decide]\nbaseline = 0", "from 1", "baseline ="),
        (9, "hours = 3\n[sandbox]\nnetwork = 'yes'", "not true or false", "without quotes"),
        (9, "hours = 3\n[checks]\nsmoke = 1", "`checks.smoke` is 1", ""),
        (9, "hours = 3\n[rules]\nmax_diff_lines = 0", "from 1", "max_diff_lines ="),
        (9, "hours = 3\n[rules]\nforbid = ['(']", "not a regular expression", "single quotes"),
        (9, "hours = 3\n[rules]\nforbid = 'x'", "not a list", "forbid ="),
        (9, "hours = 3\n[rules]\nrequire = ['train.py']", "is not FILE:NAME", "require ="),
        (9, "hours = 3\n[rules]\nrequire = ['score.py:main']", "cannot change", "require ="),
        (9, "hours = 3\nhours = 4", "not TOML", "may be given only once"),
        (10, "", "not closed", "+++"),
    ],
)
def test_invalid_programs_are_refused(line: int, new: str, says: str, hint: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(changed(line, new))
    assert says in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.where.startswith("program.md:")
    number = int(caught.value.where.partition(":")[2])
    shown = caught.value.what.partition("\n")[2]
    if shown:  # what is shown is the line that is named
        assert shown.strip().startswith(f"{number} | ")
        assert changed(line, new).split("\n")[number - 1].strip()[:60] in shown.replace("?", "\t")


def test_the_reported_line_is_that_of_the_file() -> None:
    with pytest.raises(ProgramError) as caught:
        parse(changed(9, "hous = 3"))
    assert caught.value.where == "program.md:9"
    with pytest.raises(ProgramError) as caught:
        parse(changed(8, "run = '20s"))
    assert caught.value.where == "program.md:8"


@pytest.mark.parametrize("key", ["edit", "run"])
def test_missing_required_keys_are_reported(key: str) -> None:
    text = "\n".join(line for line in LINES if not line.startswith(f"{key} =") or line == 'run = "20s"')
    with pytest.raises(ProgramError, match=f"`{key}` is missing"):
        parse(text)


def test_exactly_one_metric_source_is_required() -> None:
    with pytest.raises(ProgramError, match=r"\[metric\] is missing"):
        parse('+++\nedit = ["a"]\nrun = "b"\n+++\n')
    with pytest.raises(ProgramError, match="both given"):
        parse(changed(3, 'run = "x"\nscore = "y"'))


def test_overrides_replace_values() -> None:
    program = parse(TEXT, ["budget.run=400steps", "decide.keep=3", 'edit=["b.py"]', "budget.hours=", "seed = 9"])
    assert program.run_budget("cpu").steps == 400
    assert program.policy.keep == 3 and program.edit == ("b.py",) and program.budget.hours is None and program.seed == 9


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("budget.rnu=20s", "unknown key 'rnu'"),
        ("bugdet.run=20s", "unknown key 'bugdet'"),
        ("budget.run=soon", "not a run budget"),
        ("run.x=1", "is a value, not a table"),
        ("decide.keep=many", "not a number"),
        ('edit=["program.md"]', "program.md itself"),
        ("metric.name=accuracy", "direction"),
    ],
)
def test_invalid_overrides_are_named(override: str, says: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(TEXT, [override])
    assert says in caught.value.what
    if "metric" not in override:
        assert caught.value.where == f"--set {override}"


@pytest.mark.parametrize("override", ["nonsense", "=3", "a.b.c.d=1", "a b=1"])
def test_an_override_without_assignment_is_refused(override: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        parse(TEXT, [override])


def test_the_seconds_of_a_project_that_asks_for_its_data_are_processor_seconds_in_a_cpu_slot() -> None:
    scored = ["metric.pattern=", "score=python score.py"]
    asks = [*scored, "prepare=python prepare.py"]
    assert [parse(TEXT, given).run_budget("cpu").clock for given in ([], scored, asks)] == ["wall", "wall", "cpu"]
    assert parse(TEXT, asks).run_budget("cuda").clock == "wall"
    assert str(parse(TEXT, ["budget.clock=cpu", "budget.run=5m"]).run_budget("cpu")) == "5:00 cpu"
    assert parse(TEXT, [*asks, "budget.clock=wall"]).run_budget("cpu").clock == "wall"
    for overrides, words in (
        (["budget.clock=gpu"], "'gpu' is not a clock"),
        (["budget.clock=cpu", "budget.run=400 steps"], "needs a time budget"),
    ):
        with pytest.raises(ProgramError, match=words) as caught:
            parse(TEXT, overrides)
        assert caught.value.hint


def test_what_counts_at_the_time_budget_is_read_or_refused() -> None:
    assert not parse(TEXT).scored_at_limit and not parse(TEXT, ["budget.at_limit=crash"]).scored_at_limit
    assert parse(TEXT, ["budget.at_limit=score"]).scored_at_limit
    for more, says in (
        (["budget.at_limit=last"], "'last' is not what happens"),
        (["budget.at_limit=score", "budget.run=400 steps"], "is in steps"),
        (["budget.at_limit=score", "metric.pattern=", "score=python score.py"], "`score` is given"),
    ):
        with pytest.raises(AutoresearchError, match=says):
            parse(TEXT, more)


def test_byte_order_marks_and_windows_line_endings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "program.md"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert load(path).edit == ("train.py",)
    path.write_bytes(b'+++\nedit = ["\xff"]\n+++\n')
    with pytest.raises(ProgramError, match="not UTF-8") as caught:
        load(path)
    assert caught.value.where == "program.md:2"
    path.unlink()
    with pytest.raises(ProgramError, match="cannot be read"):
        load(path)


def test_files_must_exist_and_be_committed(tmp_path: Path) -> None:
    program = parse(changed(2, 'edit = ["src/*.py"]\nread = ["README.md"]\ninputs = ["data"]'))
    with pytest.raises(ProgramError, match=r"'src/\*.py' in `edit` matches no file"):
        check_files(program, tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").touch()
    with pytest.raises(ProgramError, match=r"'README\.md' in `read`"):
        check_files(program, tmp_path)
    (tmp_path / "README.md").touch()
    with pytest.raises(ProgramError, match="'data' in `inputs`") as caught:
        check_files(program, tmp_path)
    assert caught.value.where == "program.md:4"
    (tmp_path / "data").mkdir()
    check_files(program, tmp_path)
    (tmp_path / "src/old.py").write_bytes(b"# -*- coding: latin-1 -*-\n\xe9 = 1\n")
    check_files(parse(changed(2, 'edit = ["src/*.py"]')), tmp_path)  # the others can be edited
    with pytest.raises(ProgramError, match=r"'src/old\.py' is not UTF-8") as caught:
        check_files(parse(changed(2, 'edit = ["src/old.py"]')), tmp_path)
    assert caught.value.where == "program.md:2" and "iconv" in caught.value.hint
    (tmp_path / "src/old.py").unlink()
    (tmp_path / "src/table.csv").write_bytes(b"\xe9")  # data in a folder: nobody has to edit it
    check_files(parse(changed(2, 'edit = ["src/**"]')), tmp_path)
    with pytest.raises(ProgramError, match="not in git"):
        check_files(program, tmp_path, tracked=["src/a.py"])


def test_the_project_is_found_from_a_subfolder(tmp_path: Path) -> None:
    repo = tmp_path / "a repo ☂"
    deep = repo / "x" / "y"
    deep.mkdir(parents=True)
    (repo / ".git").mkdir()
    with pytest.raises(ProjectError, match=r"no program\.md") as caught:
        find_project(deep)
    assert "autoresearch-tui init" in caught.value.hint
    (tmp_path / "program.md").touch()  # above the repository: not meant
    with pytest.raises(ProjectError):
        find_project(deep)
    (repo / "program.md").touch()
    assert find_project(deep) == repo == find_project(repo / "program.md")
    with pytest.raises(ProjectError, match="no such folder"):
        find_project(repo / "nowhere")


def test_prepare_by_device() -> None:
    both = parse(TEXT, ["prepare=python all.py"])
    assert both.prepare("cuda") == both.prepare("cpu") == "python all.py"
    one = parse(TEXT, ['prepare={ cuda = "python large.py" }'])
    assert (one.prepare("cuda"), one.prepare("cpu"), parse(TEXT).prepare("cuda")) == ("python large.py", None, None)
    for value, what in (("{}", "empty"), ('{ gpu = "x" }', "not a device"), ("{ cuda = 3 }", "not a text")):
        with pytest.raises(ProgramError, match=what):
            parse(TEXT, [f"prepare={value}"])


def test_the_shipped_programs_are_valid() -> None:
    nanotrain = load(ROOT / "program.md")
    check_files(nanotrain, ROOT)
    assert nanotrain.edit == ("nanotrain/train.py",)
    template = (ROOT / "core/templates/program.md").read_text().replace("@CODE@", "main.py")
    assert parse(template).edit == ("main.py",)
    assert parse(PROGRAM.format(experiments=3)).budget.experiments == 3


def test_only_some_keys_may_change_during_a_session() -> None:
    """Each field was thought about: it rests a number's comparison on it, or it does not."""
    free = {
        "edit", "read", "text", "prose", "budget", "startup_seconds", "saving_seconds", "limit_seconds", "checks",
        "check_seconds", "rules", "policy", "approve", "queue", "minds", "prune",
    }  # fmt: skip
    assert free | FIXED.keys() == {f.name for f in fields(Program)} and not free & FIXED.keys()
    check_change(parse(TEXT), parse(changed(9, "hours = 4\n[rules]\nmax_diff_lines = 3\n[decide]\nkeep = 2")))
    for line, new, word in (
        (3, 'run = "python other.py"', "run"),
        (5, 'name = "loss"', "metric"),
        (8, 'run = "9s"', "run"),
    ):
        with pytest.raises(ProgramError, match=word) as caught:
            check_change(parse(TEXT), parse(changed(line, new)))
        assert "new session" in caught.value.hint


def test_required_definitions_must_exist() -> None:
    program = parse(changed(9, 'hours = 4\n[rules]\nrequire = ["train.py:main"]'))
    check_required(program, lambda path: "def main(): pass\n")
    with pytest.raises(ProgramError, match="no such file"):
        check_required(program, lambda path: None)
    with pytest.raises(ProgramError, match="not defined") as caught:
        check_required(program, lambda path: "main()\n")
    assert caught.value.where == "program.md:11"


def test_every_key_is_documented() -> None:
    page = (ROOT / "docs/program.md").read_text()
    for table, names in KEYS.items():
        for name in names or ():
            assert f"`{f'{table}.' if table else ''}{name}`" in page or name in KEYS, f"{table}.{name}"
    assert set(EXAMPLES) <= {f"{t}.{n}".lstrip(".") for t, ns in KEYS.items() for n in ns or ()}


_pieces = st.sampled_from([*LINES, "", "[", "]", "x = {", "+++", "[metric]", "= 3", "[[edit]]", "\x00", "é"])


@given(st.lists(_pieces | st.text(max_size=20), max_size=14))
def test_any_text_is_parsed_or_refused_with_a_reason(lines: list[str]) -> None:
    try:
        assert isinstance(parse("\n".join(lines)), Program)
    except AutoresearchError as error:
        assert error.what and error.where


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def _toml(value: object) -> str:
    if value is None:
        return "nan"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    assert isinstance(value, dict)
    return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"


@given(st.sampled_from([f"{t}.{n}".lstrip(".") for t, ns in KEYS.items() for n in ns or ()]), _values)
def test_any_value_of_any_key_is_accepted_or_refused_with_a_reason(key: str, value: object) -> None:
    try:
        assert isinstance(parse(TEXT, [f"{key}={_toml(value)}"]), Program)
    except AutoresearchError as error:
        assert error.what
