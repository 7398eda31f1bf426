"""The options of a session: stored in one place, newer values override older ones, invalid files are tolerated."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from core.session.options import (
    EngineOptions,
    load_options,
    merge,
    options_from,
    overrides_of,
    save_options,
    session_overrides,
)
from core.session.paths import SessionPaths
from tests import ROOT

ALL = EngineOptions(
    researcher="claude", model="opus", script="/s.jsonl", slots="cpu:2", seed=0, experiments=3, hours=1.5, usd=2.0,
    run_budget="20s", overrides=("decide.baseline=5", "read=[]"),
)  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> SessionPaths:
    return SessionPaths(tmp_path, "s")


def test_saved_options_are_loaded(paths: SessionPaths) -> None:
    assert load_options(paths) is None and session_overrides(paths) == ()
    for options in (ALL, EngineOptions()):
        save_options(paths, options)
        assert load_options(paths) == options
    save_options(paths, EngineOptions(only_task="certify:3", from_head=True))
    assert load_options(paths) == EngineOptions(), "what was for one start only came back"
    assert options_from(json.loads(json.dumps(asdict(ALL)))) == ALL, "on the way to the engine"
    assert options_from({"usd": 3}).usd == 3


def test_a_file_of_an_earlier_version_is_read(paths: SessionPaths) -> None:
    old = {**asdict(ALL), "only_task": None, "from_head": True, "since_removed": 1}
    paths.folder.mkdir(parents=True)
    paths.settings.write_text(json.dumps({"options": old}))
    assert load_options(paths) == ALL
    assert session_overrides(paths) == overrides_of(ALL)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"options": 3}', '{"overrides": ["decide.baseline=5"]}', "\udcff"]
)
def test_an_invalid_file_gives_no_options(paths: SessionPaths, text: str) -> None:
    paths.folder.mkdir(parents=True)
    paths.settings.write_text(text, errors="surrogateescape")
    assert load_options(paths) is None and session_overrides(paths) == ()


def test_values_of_a_wrong_type_are_ignored(paths: SessionPaths) -> None:
    paths.folder.mkdir(parents=True)
    junk = {"researcher": 3, "hours": "much", "seed": 1.5, "slots": ["cpu:1"], "overrides": ["a=1", 2, None], "usd": 4}
    paths.settings.write_text(json.dumps({"options": junk}))
    assert load_options(paths) == EngineOptions(usd=4, overrides=("a=1",))
    paths.settings.write_text(json.dumps({"options": {"overrides": 5, "model": "m"}}))
    assert load_options(paths) == EngineOptions(model="m")


def test_short_options_map_to_program_keys() -> None:
    assert overrides_of(ALL) == (
        "decide.baseline=5", "read=[]",
        'budget.run="20s"', "budget.experiments=3", "budget.hours=1.5", "budget.usd=2.0", "seed=0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "overrides"),
    [
        (EngineOptions(hours=3), EngineOptions(hours=4), ("budget.hours=4",)),
        (EngineOptions(hours=3), EngineOptions(overrides=("budget.hours=5",)), ("budget.hours=5",)),
        (EngineOptions(overrides=("budget.hours=5",)), EngineOptions(hours=3), ("budget.hours=3",)),
        (EngineOptions(seed=1), EngineOptions(seed=0), ("seed=0",)),
        (EngineOptions(overrides=("read=[]", "seed=2")), EngineOptions(overrides=("read=",)), ("seed=2", "read=")),
        (EngineOptions(usd=1.0), EngineOptions(), ("budget.usd=1.0",)),
    ],
)
def test_the_newer_value_of_a_key_wins(old: EngineOptions, new: EngineOptions, overrides: tuple[str, ...]) -> None:
    assert overrides_of(merge(old, new)) == overrides


def test_other_options_persist_until_they_are_given_again() -> None:
    kept = merge(ALL, EngineOptions())
    assert (kept.researcher, kept.model, kept.script, kept.slots) == ("claude", "opus", "/s.jsonl", "cpu:2")
    assert merge(ALL, EngineOptions(researcher="openai")).model is None, "another researcher has another model"
    assert merge(ALL, EngineOptions(researcher="claude")).model == "opus"
    assert merge(ALL, EngineOptions(script="/t.jsonl")).researcher == "scripted"
    again = merge(EngineOptions(), EngineOptions(only_task="certify", from_head=True))
    assert (again.only_task, again.from_head) == ("certify", True)


def test_only_one_module_opens_the_file() -> None:
    for top in ("core", "tui", "nanotrain"):
        for path in (ROOT / top).rglob("*.py"):
            text = path.read_text()
            if path.relative_to(ROOT).as_posix() not in ("core/session/options.py", "core/session/paths.py"):
                assert "paths.settings" not in text and '"settings.json"' not in text, path
