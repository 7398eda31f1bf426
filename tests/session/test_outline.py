"""The outline of a State: a status reads it in place of the whole, and says the same, at every moment of a session."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core import views
from core.record import events as e
from core.record.events import Body, Event
from core.record.fold import fold
from core.record.state import BASELINE, State
from core.session.log import Log
from tests.long_session import long_session
from tests.recorded import story_events


def _varied() -> list[tuple[float, Body]]:
    """A told story with two slots, guidance and engines, then much of what a person does."""
    found = [(event.time, event.body) for event in story_events(experiments=12)]
    time, last = found[-1][0], max(getattr(body, "experiment", 0) or 0 for _, body in found)
    more: list[Body] = [
        e.BaseChanged(3), e.PinChanged(2, True), e.BaseChanged(None), e.PinChanged(2, False),
        e.GuidanceQueued(guidance=9, text="smaller", standing=True),
        e.ExperimentStarted(experiment=last + 1, parent=0, parent_commit="c", researcher="human"),
        e.Committed(last + 1, "d", "c"), e.ApprovalRequested(last + 1), e.ApprovalGiven(last + 1, True),
        e.Judged(experiment=last + 1, verdict="skipped", metric=None, delta=None, reason="", runs=0),
    ]  # fmt: skip
    return [*found, *((time + place, body) for place, body in enumerate(more, 1))]


def _status(state: State) -> str:
    table = {**views.status(state, True, state.time + 5), "queue": views.waiting(state), "next": state.next_experiment}
    return json.dumps([table, views.next_step(state, Path("/p"), "x"), [r.run for r in state.live_runs()]])


@pytest.mark.parametrize("facts", [_varied(), [(t, b) for t, some in long_session(25) for b in some]])
def test_an_outline_says_what_the_whole_state_says_after_every_event(
    tmp_path: Path, facts: list[tuple[float, Body]]
) -> None:
    log, whole = Log.create(tmp_path / "session.db"), State()
    with closing(Log.read(tmp_path / "session.db")) as reader, closing(log):
        for time, body in facts:
            log.append([body], time)
            fold(whole, Event(whole.seq + 1, time, body))
            outline = reader.outline()
            assert _status(outline) == _status(whole) and outline.total == whole.total
            assert all(whole.experiments[n] == x for n, x in outline.experiments.items())
            assert {BASELINE, *whole.live, whole.best} & whole.experiments.keys() <= outline.experiments.keys()
            assert outline.copy().total == whole.total
        assert reader.load() == whole and len(outline.experiments) < len(whole.experiments)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE head SET body = 'x'",
        "DELETE FROM head",
        "DELETE FROM experiments",
        "UPDATE experiments SET body = '{}'",
        "UPDATE head SET body = json_set(body, '$.seq', 3)",
        "UPDATE head SET body = json_remove(body, '$.slot_times')",
    ],
)
def test_an_outline_of_damaged_projections_is_folded_from_the_events(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "session.db"
    with closing(Log.create(path)) as log:
        for time, bodies in list(long_session(9))[:-4]:  # one is in the works
            log.append(bodies, time)
        whole = log.state
    db = sqlite3.connect(path)
    with db:
        db.execute(damage)
    db.close()
    with closing(Log.read(path)) as reader:
        assert _status(reader.outline()) == _status(whole)
