"""The researcher `command` in the real engine and sandbox with a misbehaving coding agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from core.lab.sandbox import tiers
from core.record import events as e
from core.research.agent.transcript import MAX_SHOWN
from core.session.paths import SessionPaths
from tests import ROOT
from tests.engine.support import bodies, engine, events_named, wait_end, wait_state
from tests.projects import PROGRAM, git, make_project

AGENT = ROOT / "tests/research/agent/coding_agent.py"
PROFILES = """
[bad]
run = "{python} {agent} {behaviours}"
silence = 2.5
[keyed]
run = "{python} {agent} {{prompt_file}} {{files}} environment"
keys = ["MY_API_KEY"]
home = [".agent/login"]
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    config = home / ".config" / "autoresearch-tui"
    config.mkdir(parents=True)
    (config / "commands.toml").write_text(
        PROFILES.format(python=sys.executable, agent=AGENT, behaviours=" ".join(BEHAVIOURS))
    )
    (home / ".agent").mkdir()
    (home / ".agent" / "login").write_text("mine")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-s3cret")
    monkeypatch.setenv("MY_API_KEY", "sk-agent")
    return home


def agent(behaviour: str, *more: str) -> str:
    return f"{sys.executable} {AGENT} {' '.join((behaviour, *more))}"


def pane(paths: SessionPaths, experiment: int = 1) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in paths.reasoning(experiment).read_text().splitlines()]
    return [(line["k"], line["s"]) for line in lines]


def test_agent_edits_are_the_proposal_and_agent_output_is_the_reasoning(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(
        project, experiments=3, researcher="command", model=agent("good", "stream_json", "environment")
    ) as paths:
        state = wait_end(paths)
    x, y, z = (state.experiments[n] for n in (1, 2, 3))
    assert x.verdict == "kept" and x.researcher == "command", x.reason
    # It is made anew where the first was kept meanwhile and holds the same change.
    times = pane(paths, 2).count(("tool", "Edit train.py"))
    assert times and (y.input_tokens, y.output_tokens) == (120 * times, 50 * times)
    assert (y.cached_tokens, y.usd) == (900 * times, 0.25 * times)
    assert ("thinking", "The loss is quadratic.") in pane(paths, 2)
    assert z.hypothesis == "sees nothing; login none; argv 4"
    assert not list(paths.worktrees.glob("agent-*"))
    assert (x.hypothesis, x.expected, x.kind) == ("RATE 0.4 is nearer the minimum", -0.03, "optimizer")
    said = "".join(text for kind, text in pane(paths) if kind == "text")
    assert "I will move RATE." in said and "\x1b" not in said and "\x07" not in said
    assert not any(b"s3cret" in path.read_bytes() for path in paths.folder.rglob("*") if path.is_file())
    assert git(project, "status", "--short") == "" and "worktrees" not in git(project, "worktree", "list")


def test_an_agent_that_has_given_its_result_is_not_waited_for(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(project, experiments=1, researcher="command", model=agent("lingers")) as paths:
        x = wait_end(paths).experiments[1]
    assert x.commit and (x.usd, x.output_tokens) == (0.25, 50), x.reason
    assert not any("ended" in text for kind, text in pane(paths) if kind == "note")


ROT = "tr a-zA-Z n-za-mN-ZA-M"
ATTRIBUTES = {
    "eol": ("text eol=crlf", {}),
    "autocrlf": ("text=auto", {"core.autocrlf": "true", "core.safecrlf": "true"}),
    "ident": ("ident", {}),
    "encoding": ("text working-tree-encoding=UTF-16", {}),
    "filter": ("filter=rot", {"filter.rot.clean": ROT, "filter.rot.smudge": ROT, "filter.rot.required": "true"}),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_an_edit_in_a_checkout_with_attributes_is_stored_as_git_add_stores_it(tmp_path: Path, kind: str) -> None:
    attributes, config = ATTRIBUTES[kind]
    encoding = "utf-16" if kind == "encoding" else "utf-8"
    values = "".join(f"{line}\n" for line in ["# $Id$", "rate 5", *(f"x{n} {n}" for n in range(40))])
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "values.txt").write_text(values, encoding=encoding)
    (tmp_path / "p" / ".gitattributes").write_text(f"values.txt {attributes}\n")
    project = make_project(tmp_path / "p", program=PROGRAM.replace('"train.py"', '"values.txt"'))
    for key, value in config.items():
        git(project, "config", key, value)
    git(project, "add", "--renormalize", ".")
    git(project, "commit", "--allow-empty", "-qm", "attributes")
    (tmp_path / "agent.py").write_text(
        f"from pathlib import Path; p = Path('values.txt'); s = p.read_bytes().decode({encoding!r});"
        f" p.write_bytes(s.replace('rate 5', 'rate 4').encode({encoding!r})); Path('HYPOTHESIS').write_text('less')"
    )  # fmt: skip
    model = f"{sys.executable} {tmp_path / 'agent.py'}"
    with engine(project, experiments=1, researcher="command", model=model) as paths:
        x = wait_end(paths).experiments[1]
    assert x.commit and (x.added, x.removed) == (1, 1), x.reason
    assert git(project, "diff", "--numstat", "main", x.commit) == "1\t1\tvalues.txt"
    tree = tmp_path / "w"
    git(project, "worktree", "add", "-q", "--detach", str(tree), x.commit)
    assert "rate 4" in (tree / "values.txt").read_bytes().decode(encoding) and git(tree, "status", "--short") == ""


def test_names_that_are_no_text_end_no_session(tmp_path: Path) -> None:
    names = [b"caf\xe9.py", b"new\nline.py", b"tab\t.py", b"-lead.py", b"quo\"te's.py"]
    (tmp_path / "p").mkdir()
    for name in names:
        (tmp_path / "p" / os.fsdecode(name)).write_text("X = 1\n")
    (tmp_path / "p" / os.fsdecode(b"li\xffnk.py")).symlink_to(os.fsdecode(names[0]))
    project = make_project(tmp_path / "p", program=PROGRAM.replace('"train.py"', '"*.py"'))
    (tmp_path / "agent.py").write_text(
        f"import os; first = not os.path.exists(os.environ['HOME'] + '/ran'); open(os.environ['HOME'] + '/ran', 'w')\n"
        f"for name in {names!r}[:3] if first else {names!r}[3:]: open(name, 'a').write('Y = 2\\n')\n"
        "open(b'\\xfe.py', 'w').write('Z = 3'); open('HYPOTHESIS', 'w').write('less')"
    )
    model = f"{sys.executable} {tmp_path / 'agent.py'}"
    with engine(project, experiments=1, researcher="command", model=model) as paths:
        state = wait_end(paths)
    x = state.experiments[1]
    assert state.state == "finished" and x.files == ("-lead.py", "quo\"te's.py"), (state.reason, x.reason)
    refusals = [body.reason for body in bodies(paths, e.ProposalRefused)]
    assert len(refusals) == 1 and r"restored: caf\udce9.py, new\nline.py, tab\t.py" in refusals[0]


BEHAVIOURS = {  # the behaviour, and the text in the pane or in the wait
    "last_line": "RATE 0.4, said in the last line",
    "password": "ended with 1: Password: no password was given",
    "deletes": "train.py: was removed",
    "commits": "propose: RATE 0.4 is nearer the minimum",
    "fails": "429 usage limit",
    "nothing": "no file was changed",
    "links": "no regular file",
    "floods": "not shown",
    "hang": "silent",
    "outside": "refused: ",
    "read_only": "refused: " if tiers.probe().tier == "A" else "put back: program.md",
    "daemon": "propose: ",
}


@pytest.mark.slow  # a dozen experiments, one of which is silent for too long
@pytest.mark.skipif(tiers.probe().tier == "C", reason="no sandbox works here")
def test_a_misbehaving_agent_does_not_end_the_session(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    before = git(project, "rev-parse", "main")
    with engine(project, experiments=len(BEHAVIOURS), researcher="command", model="bad") as paths:
        state = wait_end(paths)
    assert state.state == "finished", state.reason
    for number, (behaviour, words) in enumerate(BEHAVIOURS.items(), 1):
        x = state.experiments[number]
        assert x.verdict in ("kept", "discarded", "provisional") and x.commit, (behaviour, x.verdict, x.reason)
        assert "said in the last line" in x.hypothesis or "RATE 0.4" in x.hypothesis
        reasons = [b.reason for b in bodies(paths, e.ResearcherWaiting) if b.experiment == number]
        assert words in json.dumps([*pane(paths, number), *reasons], ensure_ascii=False), behaviour
        tries = 1 + sum("not shown" in text for _, text in pane(paths, number))  # a flood is cut off in each
        assert paths.reasoning(number).stat().st_size < tries * (MAX_SHOWN + 100_000)
    assert git(project, "rev-parse", "main") == before and git(project, "branch", "--list", "other") == ""
    assert git(project, "status", "--short") == "" and (project / "program.md").read_text().startswith("+++")
    assert not Path("/escaped").exists() and not Path("/etc/escaped").exists()
    assert not list(tmp_path.rglob("escaped"))
    mark = f"AUTORESEARCH_BENCH={paths.worktrees}".encode()
    assert not [pid for pid in psutil.pids() if mark in environ(pid)]


def environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_an_agent_sees_its_own_key_and_login_and_no_other_secret(tmp_path: Path, own_home: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(project, experiments=1, researcher="command", model="keyed") as paths:
        x = wait_end(paths).experiments[1]
    assert x.hypothesis == "sees MY_API_KEY; login mine; argv 4", x.hypothesis
    assert (own_home / ".agent" / "login").read_text() == "mine"


def test_a_missing_program_is_reported_with_a_hint(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(project, experiments=1, researcher="command", model="codex") as paths:
        state = wait_end(paths)
    assert state.state == "crashed" and "'codex' is not found" in state.reason and "--model" in state.reason
    command = [sys.executable, "-m", "tui.main", "run", str(project), "--headless", "--researcher", "command"]
    for model in ("no-such-agent", None):
        words = [*command, "--session", "t", *(["--model", model] if model else [])]
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 1 and "claude, codex, gemini, aider, opencode" in done.stderr, done.stderr


def test_waiting_for_an_agent_without_edits_is_shown(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    with engine(project, experiments=1, researcher="command", model="/bin/true") as paths:
        state = wait_state(paths, lambda s: 1 in s.experiments and s.experiments[1].phase == "waiting", "waiting")
        assert "makes no change" in state.experiments[1].reason and len(events_named(paths, e.ProposalRefused)) >= 4
