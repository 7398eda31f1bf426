"""Edits of a person in $EDITOR: shown as a diff, sent or discarded, and kept when they are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.record import commands as c
from core.record import events as e
from core.record.errors import UsageError
from core.session.options import EngineOptions, save_options
from tests.projects import PROGRAM, git, make_project
from tests.recorded import make_session
from tests.tui.conftest import Clock, text_of, until
from tests.tui.stage import Playing, Stage
from tui.app import Cockpit
from tui.control.editing import refused_patch
from tui.paint.theme import Look
from tui.screens.dialogs import ApprovalCard, DiffCard
from tui.screens.main_screen import MainScreen
from tui.terminal.calm import Calm
from tui.terminal.external_editor import EditedCopy, editor_command

Shown = tuple[Pilot[int], Cockpit, Playing, Path]


@asynccontextmanager
async def at_work(folder: Path, editor: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shown]:
    """The app on a session of a real repository, with a script as the editor."""
    project = make_project(folder / "project")
    paths = make_session(project, 4, name="night")
    script = folder / "editor.sh"
    script.write_text(f"#!/bin/sh\n{editor}\n")
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", "")
    monkeypatch.setenv("EDITOR", str(script))
    source = Playing(Stage(paths, 2e9))
    head = git(project, "rev-parse", "HEAD")
    session = source.state.session
    assert session is not None
    source.state.state = "running"
    source.state.session = replace(session, edit=("train.py",), commit=head)
    for number, x in source.state.experiments.items():
        source.state.experiments[number] = replace(x, commit=head, files=("train.py",))
    app = Cockpit(project, paths, source=source, look=Look(), clock=Clock(2e9))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        yield pilot, app, source, project


def awake(app: Cockpit) -> None:
    """Some time goes by."""
    app.clock.now += 1.0  # type: ignore[attr-defined]
    app.calm = Calm()


async def test_an_experiment_of_a_person_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = "sed -i 's/RATE = 0.5/RATE = 0.4/' train.py; echo 'K = 1' > extra.py"
    async with at_work(tmp_path, editor, monkeypatch) as (pilot, app, source, project):
        source.answer = c.Reply(False, "the session is stopping")
        await pilot.press("N", *"less is more", "enter")
        await until(pilot, lambda: isinstance(app.screen, DiffCard) and "RATE = 0.4" in text_of(app))
        awake(app)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, DiffCard))
        awake(app)
        await pilot.press("y")
        await until(pilot, lambda: bool(source.sent))
        [sent] = source.sent
        assert isinstance(sent, c.Propose) and sent.hypothesis == "less is more"
        assert [edit["path"] for edit in sent.edits] == ["train.py"], "a protected file was sent"
        assert "RATE = 0.4" in sent.edits[0]["content"]
        await until(pilot, lambda: "refused.patch" in text_of(app))
        assert "+RATE = 0.4" in refused_patch().read_text()
        assert "RATE = 0.5" in (project / "train.py").read_text(), "the checkout was touched"


async def test_no_change_and_a_failed_editor_propose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_work(tmp_path, "test -f train.py && exit ${FAIL:-0}", monkeypatch) as (pilot, app, source, _):
        await pilot.press("N", *"idle", "enter")
        await until(pilot, lambda: "nothing was changed" in text_of(app))
        monkeypatch.setenv("FAIL", "3")
        await pilot.press("N", *"idle", "enter")
        await until(pilot, lambda: "ended with exit code 3" in text_of(app))
        monkeypatch.setenv("EDITOR", "no-such-editor")
        await pilot.press("N", *"idle", "enter")
        await until(pilot, lambda: "no program 'no-such-editor'" in text_of(app))
        assert isinstance(app.screen, MainScreen) and not source.sent


async def test_a_proposal_is_edited_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_work(tmp_path, "sed -i 's/RATE = 0.5/RATE = 0.2/' \"$1\"", monkeypatch) as (pilot, app, source, _):
        source.happen(e.ApprovalRequested(2))
        await until(pilot, lambda: isinstance(app.screen, ApprovalCard) and "run this?" in text_of(app))
        awake(app)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, DiffCard) and "RATE = 0.2" in text_of(app))
        awake(app)
        await pilot.press("y")
        await until(pilot, lambda: bool(source.sent))
        [sent] = source.sent
        assert isinstance(sent, c.Approve) and sent.experiment == 2 and "RATE = 0.2" in sent.edits[0]["content"]


async def test_program_md_changes_only_when_it_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = "if [ -f ../ok ] || [ -f $HOME/ok ]; then sed -i 's/dirction/direction/; s/better/best/' program.md; else "
    editor += "sed -i 's/direction/dirction/' program.md; fi"
    monkeypatch.setenv("HOME", str(tmp_path))
    async with at_work(tmp_path, editor, monkeypatch) as (pilot, app, _source, project):
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, DiffCard) and "program.md:6" in text_of(app))
        assert "did you mean" in text_of(app) and "write it" not in text_of(app)
        awake(app)
        await pilot.press("y")
        assert isinstance(app.screen, DiffCard), "a program that does not read was taken"
        (tmp_path / "ok").touch()
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, DiffCard) and "write it" in text_of(app))
        assert (project / "program.md").read_text() == PROGRAM
        awake(app)
        await pilot.press("y")
        await until(pilot, lambda: "program.md is written" in text_of(app))
        assert (project / "program.md").read_text() == PROGRAM.replace("better", "best")


async def test_program_md_is_checked_with_the_options_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = 'sed -i \'s/run = "10s"/run = "soon"/\' program.md'
    async with at_work(tmp_path, editor, monkeypatch) as (pilot, app, source, _):
        await pilot.press("E")
        told = "'soon' is not a run budget"
        await until(pilot, lambda: isinstance(app.screen, DiffCard) and told in text_of(app))
        awake(app)
        await pilot.press("escape")
        save_options(source.paths, EngineOptions(run_budget="20s"))
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, DiffCard) and "write it" in text_of(app))


def test_the_editor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"PATH": "/usr/bin:/bin"}
    assert editor_command("cat -n", {**there, "EDITOR": "ls"}) == ["cat", "-n"]
    assert editor_command("", {**there, "VISUAL": "ls -l", "EDITOR": "cat"}) == ["ls", "-l"]
    for wrong in ("no-such 'thing", "no-such-thing"):
        with pytest.raises(UsageError):
            editor_command(wrong, there)
    with pytest.raises(UsageError, match="no editor"):
        editor_command("", {"PATH": "/nowhere"})


def test_a_copy_reports_changed_files() -> None:
    with EditedCopy({"a/b.py": "1\r\n2\r\n", "c.py": "x"}) as copy:
        assert copy.arguments == ["a/b.py", "c.py"] and copy.changed(["*.py"]) == {}
        (copy.folder / "a/b.py").write_bytes(b"1\r\n3\r\n")
        (copy.folder / "new.py").write_text("y = 1\n")
        (copy.folder / "other.txt").write_text("z")
        changed = copy.changed(["**/*.py", "*.py"])
        assert changed == {"a/b.py": "1\r\n3\r\n", "new.py": "y = 1\n"}
        assert "+y = 1" in copy.diff(changed) and "--- a/a/b.py" in copy.diff(changed)
        (copy.folder / "c.py").unlink()
        with pytest.raises(UsageError, match="is gone"):
            copy.changed()
    assert not copy.folder.exists()
