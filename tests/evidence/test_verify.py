"""`verify` on a session that fits, and on forged ones: each forgery is named, with where it is."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from core.client import read_state
from core.evidence.section import Section
from core.evidence.signature import marks
from core.evidence.verify import PARTS, verify
from core.record import events as e
from core.session.chain import ChainHead
from core.session.log import Log
from core.session.paths import SessionPaths, signature_of
from tests.cli.command import run
from tests.evidence.conftest import Made
from tests.evidence.forgery import Row, better, forge, of_type
from tests.projects import git

Change = Callable[[list[Row]], list[Row]]


def parts(paths: SessionPaths) -> dict[str, Section]:
    return {section.name: section for section in verify(paths, lambda what: None).sections}


def wrong(paths: SessionPaths) -> dict[str, str]:
    """The parts that do not fit, with their misfits in words."""
    return {
        name: "\n".join(f"{m.where}: {m.what}" for m in section.misfits)
        for name, section in parts(paths).items()
        if section.ok is False
    }


def test_a_session_fits_when_it_has_ended_and_while_it_runs(made: Made) -> None:
    found = parts(made.paths)
    assert list(found) == list(PARTS)
    assert all(section.ok and not section.misfits and not section.notes for section in found.values()), found
    assert len(made.meanwhile) > 2
    assert [v.sections for v in made.meanwhile if not v.fits] == []


def test_the_command(session: SessionPaths) -> None:
    done = run(session.project, "verify")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("s  ✓ fits  head ") and done.stdout.count("✓ fits") == 1 + len(PARTS)
    table = json.loads(run(session.project, "verify", "s", "--json").stdout)
    assert table["fits"] is True and [part["name"] for part in table["parts"]] == list(PARTS)
    head = f"{table['head']['events']}:{table['head']['hash']}"
    assert run(session.project, "verify", "--head", head, "--head", head[:20]).returncode == 0
    forge(session.database, better)
    done = run(session.project, "verify", "--head", head)
    assert done.returncode == 1 and "✗ does not fit  chain" in done.stdout
    assert "it is not what was hashed: changed, exchanged or put in since" in done.stdout
    table = json.loads(run(session.project, "verify", "--json").stdout)
    assert table["fits"] is False and table["parts"][0]["misfits"][0]["where"].startswith("event ")
    assert run(session.project, "verify", "--head", "7:xyz").returncode == 2
    assert run(session.project, "verify", "nothing").returncode == 3


def removed(rows: list[Row]) -> list[Row]:
    row = of_type(rows, "run_phase_changed")[0]
    return [other for other in rows if other is not row]


def swapped(rows: list[Row]) -> list[Row]:
    rows[7], rows[8] = {**rows[8], "seq": 8}, {**rows[7], "seq": 9}
    return rows


def inserted(rows: list[Row]) -> list[Row]:
    note = {"type": "noted", "level": "info", "text": "nothing happened", "experiment": None}
    later = [{**row, "seq": row["seq"] + 1} for row in rows[9:]]
    return [*rows[:9], {"seq": 10, "time": rows[8]["time"], "experiment": None, "body": note}, *later]


def cut(rows: list[Row]) -> list[Row]:
    return rows[:-4]


def later(rows: list[Row]) -> list[Row]:
    rows[11]["time"] += 0.5
    return rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (better, "not what was hashed"),
        (removed, ": missing: removed from the log"),
        (swapped, "event 8: it is not what was hashed"),
        (inserted, "event 10: it is not what was hashed"),
        (cut, "its end was cut off"),
        (later, "event 12: it is not what was hashed"),
    ],
)
def test_a_row_that_is_forged_is_named(session: SessionPaths, change: Change, words: str) -> None:
    forge(session.database, change)
    assert words in wrong(session)["chain"]


def best_is_the_other(rows: list[Row]) -> list[Row]:
    """Experiment 2 was kept, too."""
    judged = next(row for row in of_type(rows, "judged") if row["experiment"] == 2)
    judged["body"].update(verdict="kept", metric=0.1)
    return rows


@pytest.mark.parametrize("change", [better, removed, inserted, cut, later, best_is_the_other])
def test_a_log_that_is_written_again_whole_is_not_the_one_that_others_have_the_head_of(
    session: SessionPaths, change: Change
) -> None:
    """All hashes are computed again, and the state is what the forged events say: only the heads outside know."""
    forge(session.database, change, whole=True)
    found = wrong(session)
    assert "chain" not in found and "state" not in found
    why = ["events were removed"] if change is cut else ["are not the ones"]
    if change is removed:  # the head may be that of the last event, which is missing now
        why.append("events were removed")
    assert "refs/autoresearch/s/log" in found["git"] and any(words in found["git"] for words in why)
    if change is not cut:  # which begins after them
        assert "1.json: the head of the log that it names" in found["certificates"]
    if change is later or change is inserted:  # what was removed may be after the commit of #2, made ahead of its run
        assert "of #2: event" in found["git"]


def test_what_is_shown_is_held_against_the_events(session: SessionPaths) -> None:
    with closing(sqlite3.connect(session.database)) as db:
        (body,) = db.execute("SELECT body FROM experiments WHERE number = 1").fetchone()
        shown = {**json.loads(body), "metric": 0.1}
        db.execute("UPDATE experiments SET body = ? WHERE number = 1", (json.dumps(shown),))
        db.commit()
    found = wrong(session)
    assert list(found) == ["state"] and "experiment 1: the number is shown as 0.1" in found["state"]


def test_what_stands_in_the_database_besides_is_named(session: SessionPaths) -> None:
    with closing(sqlite3.connect(session.database)) as db:
        db.execute("CREATE TRIGGER helper AFTER INSERT ON events BEGIN DELETE FROM chain; END")
    assert "holds the trigger 'helper'" in wrong(session)["chain"]


def test_refs_and_branch(session: SessionPaths) -> None:
    project, ref = session.project, "refs/autoresearch/s/1"
    first = git(project, "rev-parse", "main")
    at = git(project, "rev-parse", ref)
    git(project, "update-ref", ref, first)
    assert wrong(session) == {"git": f"{ref}: it is at {first[:10]}, and by the log at {at[:10]}"}
    git(project, "update-ref", "-d", ref)
    section = parts(session)["git"]
    assert [(m.where, m.hint) for m in section.misfits] == [(ref, f"git update-ref {ref} {at}")]
    git(project, *section.misfits[0].hint.split()[1:])
    assert wrong(session) == {}
    git(project, "update-ref", "refs/autoresearch/s/7", at)
    assert "refs/autoresearch/s/7: the log knows no such experiment" in wrong(session)["git"]
    git(project, "update-ref", "-d", "refs/autoresearch/s/7")
    git(project, "update-ref", "refs/heads/autoresearch/s", first)
    assert "autoresearch/s: it is at" in wrong(session)["git"]
    git(project, "update-ref", "refs/heads/autoresearch/s", at)
    tree = git(project, "rev-parse", "main^{tree}")
    own = git(project, "commit-tree", tree, "-p", at, "-m", "mine")
    git(project, "update-ref", "refs/heads/autoresearch/s", own)
    section = parts(session)["git"]
    assert section.ok and "commits of yours" in section.notes[0]


def test_a_repository_without_the_refs_or_the_objects(session: SessionPaths) -> None:
    project = session.project
    refs = git(project, "for-each-ref", "--format=%(refname)", "refs/autoresearch", "refs/heads/autoresearch")
    for line in refs.split():
        git(project, "update-ref", "-d", line)
    said = wrong(session)["git"]
    assert said.count("the ref is gone") == 2
    notes = "\n".join(parts(session)["git"].notes)
    assert "git does not say how far the log had come" in notes and "the branch autoresearch/s is gone" in notes
    shutil.rmtree(session.pristine)
    git(project, "worktree", "prune")
    git(project, "reflog", "expire", "--expire=now", "--all")
    git(project, "gc", "-q", "--prune=now")
    assert wrong(session)["git"].count("ref and commit are gone") == 2
    shutil.rmtree(project / ".git")
    git(project, "init", "-q")
    git(project, "commit", "-q", "--allow-empty", "-m", "another")
    section = parts(session)["git"]
    assert section.ok is None and "from which the session began" in section.summary


def test_a_sealed_file_that_changed(session: SessionPaths) -> None:
    (session.pristine / "judge.py").write_text("# judges otherwise\n")
    found = wrong(session)
    assert list(found) == ["seals"] and f"{session.pristine}: what it holds is not what was sealed" in found["seals"]
    program = session.program.read_text()
    session.program.write_text(program.replace('direction = "min"', 'direction = "max"'))
    assert f"{session.program}: it is not the program.md that is in force" in wrong(session)["seals"]
    session.program.write_text(program)
    shutil.rmtree(session.pristine)
    section = parts(session)["seals"]
    assert section.ok is None and "is not here" in section.notes[0]


def test_certificates(session: SessionPaths) -> None:
    file = session.certificate(1)
    whole = file.read_text()

    def edited(**changes: object) -> str:
        file.write_text(json.dumps({**json.loads(whole), **changes}))
        return wrong(session)["certificates"]

    told = json.loads(whole)
    assert "its bytes are not those" in edited()
    assert "outcome is refuted, the log says certified" in edited(outcome="refuted")
    assert "test" not in edited(made="yesterday").removeprefix(str(file))
    said = edited(test={**told["test"], "p": told["test"]["p"] / 10})
    assert "p is " in said and "its runs give" in said
    assert "seed is 5, the log says" in edited(runs=[{**told["runs"][0], "seed": 5}, *told["runs"][1:]])
    assert "it is left out" in edited(runs=told["runs"][1:])
    assert "version of python is 2.7" in edited(versions={**told["versions"], "python": "2.7"})
    assert "what is sealed" in edited(sealed_sha256="0" * 64)
    assert "the head of the log that it names" in edited(log={"events": 9, "head": "0" * 64})
    assert "commit is 0000" in edited(commit="0" * 40)
    for nonsense in ("", "[]", "{}", '{"test": 3}', "null", '{"runs": null, "test": {}}'):
        file.write_text(nonsense)
        assert "cannot be read" in wrong(session)["certificates"]
    file.unlink()
    assert "the certificate is gone" in wrong(session)["certificates"]
    file.write_text(whole)
    shutil.copy(file, session.certificate(2))
    assert "2.json: the log knows no such certificate" in wrong(session)["certificates"]


def test_an_edited_certificate_whose_hash_is_in_a_forged_log(session: SessionPaths) -> None:
    """The figures do not follow from the runs, whatever the event says."""
    told = json.loads(session.certificate(1).read_text())
    told["test"]["p"] = told["test"]["p"] / 1000
    data = json.dumps(told).encode()
    session.certificate(1).write_bytes(data)

    def change(rows: list[Row]) -> list[Row]:
        of_type(rows, "certified")[0]["body"].update(p=told["test"]["p"], sha256=hashlib.sha256(data).hexdigest())
        return rows

    forge(session.database, change, whole=True)
    assert "p is" in wrong(session)["certificates"] and "its runs give" in wrong(session)["certificates"]


def test_the_exit_file_of_a_run(session: SessionPaths) -> None:
    run_of_best = next(r.run for r in read_state(session).experiments[1].runs if r.metric is not None)
    file = session.run(run_of_best) / "exit.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "seconds": 99.0}))
    assert f"run {run_of_best} took 99.0 s" in wrong(session)["runs"]


def test_a_copy_of_sessions_on_another_machine(session: SessionPaths, tmp_path: Path) -> None:
    shutil.copytree(session.project / "sessions", tmp_path / "copy" / "sessions", symlinks=True)
    shutil.rmtree(tmp_path / "copy" / "sessions" / "s" / "runs")
    done = run(tmp_path, "verify", "-C", "copy", env={"GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "· not checked   git           there is no git repository here" in done.stdout
    assert "not checked   runs" in done.stdout and "✓ fits          certificates" in done.stdout
    forge(tmp_path / "copy" / "sessions" / "s" / "session.db", better)
    assert run(tmp_path, "verify", "-C", "copy").returncode == 1


@pytest.mark.parametrize("damage", ["page", "garbage", "empty", "body", "type", "bytes"])
def test_a_damaged_log_is_said_without_a_traceback(session: SessionPaths, damage: str) -> None:
    data = bytearray(session.database.read_bytes())
    statement = {
        "body": "UPDATE events SET body = 'garbage' WHERE seq = 9",
        "type": "UPDATE events SET time = 'noon' WHERE seq = 9",
        "bytes": "UPDATE events SET body = CAST(x'ff00ff' AS TEXT) WHERE seq = 9",
    }.get(damage)
    if statement:
        with closing(sqlite3.connect(session.database)) as db:
            db.execute(statement)
            db.commit()
    elif damage == "page":
        data[4096 : 4096 * 5] = b"\xa5" * (4096 * 4)
        session.database.write_bytes(data)
    else:
        session.database.write_bytes(b"" if damage == "empty" else b"no database" * 1000)
    done = run(session.project, "verify", "s")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_session_of_a_version_without_a_chain(session: SessionPaths) -> None:
    with closing(sqlite3.connect(session.database)) as db:
        db.execute("DROP TABLE chain")
        (last,) = db.execute("SELECT max(seq) FROM events").fetchone()
    section = parts(session)["chain"]
    assert section.ok is None and "without a chain" in section.summary
    assert "git names heads of its chain" in wrong(session)["git"]  # the hashes were there once
    log = Log.append_to(session.database)
    log.append([e.Noted("info", "continued")])
    log.close()
    section = parts(session)["chain"]
    assert section.ok and f"events 1 to {last}: of a version without a chain" in section.notes[0]
    forge(session.database, better)
    assert f"event {last}: it does not fit its hash, or one of the events before" in wrong(session)["chain"]


def told(**values: object) -> Change:
    """Values of other types, in every event that has fields of these names."""

    def change(rows: list[Row]) -> list[Row]:
        for row in rows:
            row["body"].update({name: value for name, value in values.items() if name in row["body"]})
        return rows

    return change


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"commit": "abc\nabc def\0"}, "certificates"),
        ({"commit": "--help"}, "certificates"),
        ({"seal": 5, "sealed": {"/dev/zero": 5, "a\0b": "c"}}, "seals"),
        ({"device": [1]}, "seals"),
        ({"file": 5, "sha256": 7}, "certificates"),
    ],
)
def test_a_log_of_other_types_ends_no_check(session: SessionPaths, values: dict[str, object], part: str) -> None:
    forge(session.database, told(**values), whole=True)
    assert part in wrong(session) and len(parts(session)) == len(PARTS)


@pytest.mark.parametrize("value", ["'words'", "5", "0.5", "x''"])
def test_a_hash_of_another_type(session: SessionPaths, value: str) -> None:
    with closing(sqlite3.connect(session.database)) as db:
        db.execute(f"UPDATE chain SET hash = {value} WHERE seq IN (9, (SELECT max(seq) FROM chain))")
        db.commit()
    assert "event 9: it is not what was hashed" in wrong(session)["chain"]


def test_numbers_beyond_a_float_and_files_that_never_end(session: SessionPaths) -> None:
    run_of_best = next(r.run for r in read_state(session).experiments[1].runs if r.metric is not None)
    (session.run(run_of_best) / "exit.json").write_text(json.dumps({"seconds": 10**400, "exit_code": 0}))
    plain = json.loads(session.certificate(1).read_text())
    test = {**plain["test"], "p": 10**400}
    session.certificate(1).write_text(json.dumps({**plain, "test": test, "log": {"events": math.inf, "head": ""}}))
    os.mkfifo(signature_of(session.certificate(1)))
    os.mkfifo(session.pristine / "pipe")
    (session.pristine / "loop").symlink_to("loop")
    session.lock.unlink()
    os.mkfifo(session.lock)
    found = wrong(session)
    assert f"run {run_of_best} took 1000" in found["runs"] and "it is no signature" in found["certificates"]
    assert f"{session.pristine}: what it holds is not what was sealed" in found["seals"]
    assert "not signed" in marks(session.certificate(1))


def test_each_part_that_does_not_fit_ends_with_a_step(session: SessionPaths) -> None:
    """What does not fit is told with where it is, and with what to do."""
    forge(session.database, better)
    session.certificate(1).write_text("{}")
    (session.pristine / "judge.py").write_text("")
    git(session.project, "update-ref", "refs/autoresearch/s/1", "main")
    git(session.project, "update-ref", "refs/autoresearch/s/log", "main")
    found = [section for section in parts(session).values() if section.ok is False]
    assert {section.name for section in found} == {"chain", "state", "git", "seals", "certificates"}
    for section in found:
        assert any(m.hint for m in section.misfits) and all(m.where and m.what for m in section.misfits), section


def test_events_put_in_at_the_end_have_no_hash(session: SessionPaths) -> None:
    with closing(sqlite3.connect(session.database)) as db:
        (last,) = db.execute("SELECT max(seq) FROM events").fetchone()
        db.execute(
            "INSERT INTO events SELECT seq + 1, time, experiment, body FROM events WHERE seq = ?", (last,)
        )  # fmt: skip
        db.commit()
    assert f"event {last + 1}: without a hash" in wrong(session)["chain"]


def test_a_head_from_elsewhere(made: Made) -> None:
    head = verify(made.paths, lambda what: None).head
    assert head is not None
    for given, words in (
        (ChainHead(head.seq, "0" * 64), "not the ones"),
        (ChainHead(head.seq + 9, head.hash), "removed"),
    ):
        found = verify(made.paths, lambda what: None, heads=[given])
        assert not found.fits and words in found.sections[0].misfits[0].what
