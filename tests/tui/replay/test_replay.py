"""A recording: the recorded State and files at each time, and the keys that move in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.record.errors import EngineError, UsageError
from core.record.fold import fold
from core.record.state import State
from core.session.log import Log
from core.session.paths import SessionPaths
from tests.projects import PROGRAM, git
from tests.tui.conftest import text_of, until
from tests.tui.stage import Stage, build
from tui.actions import REGISTRY
from tui.app import Cockpit
from tui.main import main
from tui.paint.theme import Look
from tui.replay.demo import ARCHIVE, unpack_demo
from tui.replay.recording import MAX_GAP_SECONDS, Recording
from tui.screens.main_screen import MainScreen
from tui.screens.reading.lineage import LineageScreen


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("told"), experiments=12, live=False)


@pytest.fixture
def recording(told: Stage) -> Recording:
    return Recording(told.paths, 10.0)


def folded(stage: Stage, seq: int) -> State:
    log, state = Log.read(stage.paths.database), State()
    for event in log.events(0, seq):
        fold(state, event)
    log.close()
    return state


def test_the_replayed_state_equals_the_recorded_state(told: Stage, recording: Recording) -> None:
    for share in (0.0, 0.2, 0.5, 0.3, 0.9, 0.1, 1.0):
        recording.seek(recording.length * share)
        assert recording.state == folded(told, recording.state.seq), share
    assert recording.ended and recording.now() == recording.state.time
    assert recording.take_events() == [], "what a jump passes over is no news"


def test_files_grow_and_restart_after_a_jump_back(told: Stage, recording: Recording) -> None:
    sizes = []
    place = 0.0
    while not recording.state.running or 0 in recording.state.running.values():
        place += 0.5
        recording.advance(place)
    run, number = next(iter(recording.state.running.items()))
    curve = recording.paths.run(run) / "curve.tsv"
    while run in recording.state.running:
        sizes.append(curve.stat().st_size if curve.exists() else 0)
        place += 0.5
        recording.advance(place)
    whole = (told.paths.run(run) / "curve.tsv").read_bytes()
    assert len(set(sizes)) > 3 and sizes == sorted(sizes) and curve.read_bytes() == whole
    assert recording.paths.reasoning(number).read_bytes() == told.paths.reasoning(number).read_bytes()
    recording.seek(0.0)
    assert not (recording.paths.run(run) / "curve.tsv").exists()
    recording.seek(recording.length)
    assert (recording.paths.run(run) / "curve.tsv").read_bytes() == whole


def test_replay_steps_and_jumps_between_keeps(recording: Recording) -> None:
    kept = []
    while (place := recording.next_keep()) is not None:
        recording.seek(place)
        kept.append(recording.state.verdicts["kept"])
    assert kept == list(range(1, len(kept) + 1)) and kept
    recording.speed = 1.0
    back = recording.previous_keep()
    assert back is not None and back < recording.position
    seq = recording.state.seq
    recording.seek(0.0)
    for wanted in range(recording.state.seq + 1, 6):
        recording.step()
        assert recording.state.seq >= wanted and not recording.playing
    assert recording.state.seq < seq


def test_positions_are_parsed(recording: Recording) -> None:
    recording.seek(recording.position_of("#3"))
    assert max(recording.state.experiments) == 3
    assert recording.position_of("50%") == recording.length / 2
    assert recording.position_of("90") == 90 and recording.position_of("1m30s") == 90
    assert recording.position_of("1h20m") == 4800
    for wrong in ("soon", "#x", "#999", "", "%", "nan%", "inf%"):
        with pytest.raises(UsageError):
            recording.position_of(wrong)


def test_idle_time_is_shortened(tmp_path: Path, told: Stage) -> None:
    events = list(Log.read(told.paths.database).events())
    log = Log.create(tmp_path / "session.db")
    for at, event in enumerate(events):
        log.append([event.body], 1000.0 + at + (36_000 if at > len(events) // 2 else 0))
    log.close()
    played = Recording(SessionPaths(_project(tmp_path), "night"))
    assert played.length < len(events) + MAX_GAP_SECONDS + 1
    played.seek(played.length)
    assert played.now() == played.state.time > 36_000


def _project(folder: Path) -> Path:
    sessions = folder / "project" / "sessions" / "night"
    sessions.mkdir(parents=True)
    (folder / "session.db").rename(sessions / "session.db")
    return folder / "project"


async def test_commands_are_refused_in_a_recording(recording: Recording) -> None:
    from core.record.commands import Pause

    with pytest.raises(EngineError, match="recording"):
        await recording.send(Pause())


async def test_the_replay_keys_work(told: Stage) -> None:
    now = [0.0]
    played = Recording(told.paths, 10.0, clock=lambda: now[0])
    app = Cockpit(told.paths.project, None, source=played, look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "recording playing ×10" in text_of(app))
        await pilot.press("space")
        await until(pilot, lambda: "recording paused" in text_of(app))
        await pilot.press("greater_than_sign", "greater_than_sign", "less_than_sign")
        assert played.speed == 20.0
        before = played.state.seq
        await pilot.press("full_stop")
        assert played.state.seq > before
        await pilot.press("n", "n")
        assert played.state.verdicts["kept"] == 2
        await pilot.press("T", *"#2", "enter")
        await until(pilot, lambda: max(played.state.experiments) == 2)
        await until(pilot, lambda: isinstance(app.screen, MainScreen) and "2" in text_of(app))
        await pilot.press("right_square_bracket")
        at = played.position
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: played.position < at)
        await pilot.press("T", *"nonsense", "enter")
        await until(pilot, lambda: "is not a position in a recording" in text_of(app))
        await pilot.press("0")
        await until(pilot, lambda: played.position == 0.0)
        live = {a.name for a in REGISTRY.for_place("main", played=False) if a.played is False}
        assert live.isdisjoint(a.name for a in app.screen.listed())  # type: ignore[attr-defined]
        await pilot.press("space")
        now[0] += 10_000.0
        await until(pilot, lambda: "recording ended" in text_of(app))
        await pilot.press("q")
    assert app.return_code == 0 and not told.paths.seen.exists()


async def test_requests_of_a_replaced_screen_are_dropped(told: Stage) -> None:
    app = Cockpit(told.paths.project, None, source=Recording(told.paths, 10.0), look=Look())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("L")
        await until(pilot, lambda: isinstance(app.screen, LineageScreen))
        page = app.screen
        assert isinstance(page, LineageScreen)
        opening = [asyncio.create_task(app.open(Recording(told.paths, 10.0))) for _ in range(2)]  # one after the other
        await asyncio.gather(*opening)
        shown = app.screen
        assert isinstance(shown, MainScreen) and app.screen_stack == [shown]
        page.do(app.registry.named("costs"))
        page.do(app.registry.named("help"))
        page.dismiss(None)
        shown.dismiss(None)
        await pilot.pause()
        assert app.screen_stack == [shown] and app.failure is None
        await pilot.press("q")


def test_the_demo_is_small_and_complete(state_folder: Path) -> None:
    assert ARCHIVE.stat().st_size < 200_000
    paths = unpack_demo()
    assert paths is not None and paths == unpack_demo(), "unpacked twice"
    played = Recording(paths)
    played.seek(played.length)
    state = played.state
    assert state.state == "finished" and state.verdicts["kept"] >= 2
    assert state.verdicts["rejected"] and state.verdicts["crashed"] and state.verdicts["discarded"]
    for x in state.experiments.values():
        for run in x.runs:
            assert (paths.run(run.run) / "output.log").is_file() and (paths.run(run.run) / "curve.tsv").is_file()


def test_the_replay_command_reports_missing_recordings(
    tmp_path: Path, told: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["replay", "demo"]) == 1
    assert "a recording needs" in capsys.readouterr().err, "the demo is not found outside a project"
    assert main(["replay", "nothing"]) != 0
    git(tmp_path, "init", "-q")
    (tmp_path / "program.md").write_text(PROGRAM)
    assert main(["replay", "nothing"]) == 3
    assert "replay demo" in capsys.readouterr().err
    assert main(["replay", "demo", "--speed", "0"]) == 2
