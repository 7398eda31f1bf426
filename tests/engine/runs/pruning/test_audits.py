"""Audits that were wrong end the stops, visibly, and good ones bring them back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from core import views
from core.record import events as e
from core.record.fold import fold
from core.record.state import State
from tests.engine.runs.pruning.sessions import CHILDREN, change, session

# A first best, far enough ahead that nothing else is kept: the first hopeless run beside it is an audit.
BEST = change(RATE=0.4)
# Its loss is hopeless, and its result is better: whoever stops it is wrong. Not so much better that it is kept.
UNDERRATED = change(RATE=0.4, SHOWN=1.0, GAIN=0.008)
HOPELESS = change(RATE=0.45, SHOWN=9.0)
NOT_KEPT = ("decide.min_effect=0.02",)


def _said(state: State) -> str:
    return views.device_use(state, state.time).stops()


def test_a_wrong_audit_ends_the_stops_by_itself_and_good_ones_bring_them_back(tmp_path: Path) -> None:
    script = [BEST, *CHILDREN, UNDERRATED, HOPELESS]
    off, ends, events = session(tmp_path, script, *NOT_KEPT)
    assert off.verdicts.get("kept") == 1 and off.best == 1, "the underrated one is better, and not by enough"
    underrated, hopeless = (off.experiments[len(script) - 1], off.experiments[len(script)])
    assert underrated.verdict == hopeless.verdict == "discarded" and underrated.metric and hopeless.metric
    assert off.stopped_early == 0 and (off.audited, off.audits_wrong) == (2, 1)
    assert [end.audit for end in ends if end.stopped_at is not None] == [True, True]

    # It is said at once, in the log and in what every screen shows.
    notes = [event.body for event in events if isinstance(event.body, e.Noted)]
    (warned,) = [note for note in notes if "no longer stopped" in note.text]
    assert warned.level == "warning" and "1 of 1 audited runs ended better than what they came from" in warned.text
    assert "1 of 2 audited were wrong; off, since its audits were wrong" in _said(off)
    assert views.status(off, False, off.time)["device"]["saved"]["believed"] is False
    shown = subprocess.run(
        [sys.executable, "-m", "tui.main", "status", "-C", str(tmp_path / "p"), "s"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "off, since its audits were wrong" in shown.stdout, shown.stdout

    # Further hopeless runs go to their end as audits until the record is good again: then one is stopped.
    script += [change(RATE=0.45, SHOWN=9.0 + n / 10) for n in range(1, 7)]
    on, ends, events = session(tmp_path, script, *NOT_KEPT)
    again = State()
    for event in events:
        believed = views.status(again, False, again.time)["device"]["saved"]["believed"]
        fold(again, event)
        if isinstance(event.body, e.RunFinished) and event.body.ended == "killed":
            assert believed, "a run was stopped while the audits said no"
    assert on.stopped_early > 0 and on.audits_wrong == 1 and "; off" not in _said(on)
    assert any(isinstance(x.body, e.Noted) and "stopped early again" in x.body.text for x in events)
    assert on.verdicts["pruned"] == on.stopped_early
