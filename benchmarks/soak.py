"""A long session with a model server that fails one time in five, and an engine that is killed repeatedly.

    python -m benchmarks soak [EXPERIMENTS] [SEED]

A local server speaks the Anthropic protocol to the real SDK. One answer in five is a fault: a status (429, 500, 529), a
stream that is cut, ends early, is garbled or holds an error event, a page of HTML; or a useless answer: only text,
nothing at all, a tool input that is not JSON or lacks its fields, an edit that does not apply. About every hundredth
experiment the engine is killed (SIGKILL) and started again. At the end the log is checked: each experiment was proposed
once and judged once, with a commit of its own, and no process or worktree is left.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.engine.support import instant_project, proposed_and_judged, workplace
from benchmarks.screen.terminal import table
from core.client import read_events, read_state, start_engine
from core.record import events as e
from core.session.lock import engine_alive, lock_holder
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from tests.research.anthropic_server import Server

FAULT_SHARE = 0.2  # of the answers
KILL_EVERY = 100  # experiments
STUCK_SECONDS = 300.0  # without a verdict
FAULTS: dict[str, dict[str, Any]] = {
    "rate limit (429)": {"fault": "status", "status": 429, "code": "rate_limit_error", "retry_after": 0.02},
    "server error (500)": {"fault": "status", "status": 500},
    "overloaded (529)": {"fault": "status", "status": 529, "code": "overloaded_error"},
    "stream cut": {"fault": "cut"},
    "stream ends early": {"fault": "end"},
    "error event": {"fault": "error"},
    "garbled event": {"fault": "garbage"},
    "page of HTML": {"fault": "html"},
    "only words": {"text": "I would rather talk about it."},
    "nothing": {},
    "no JSON": {"raw_json": '{"hypothesis": "hal'},
    "missing fields": {"tool": {"rationale": "none"}},
    "edit does not apply": {
        "tool": {"hypothesis": "h", "edits": [{"path": "train.sh", "search": "not there", "replace": "x"}]},
    },
}  # fmt: skip
_ASKED = re.compile(r"Propose experiment (\d+)")


class Provider(Server):
    """Server that answers a request with a proposal, or with a fault."""

    def __init__(self, seed: int) -> None:
        super().__init__([])
        self._draw = random.Random(seed)
        self.best = 1.0
        self.served: Counter[str] = Counter()

    def next_turn(self, request: Any) -> Any:
        with self._lock:
            good = self._proposal(request)
            if self._draw.random() >= FAULT_SHARE:
                look = self._draw.random() < 0.3
                self.served["tool calls" if look else "proposal"] += 1
                looks = [["list_experiments", {"limit": 3}], ["read_file", {"path": "train.sh"}]]
                return {"thinking": "Let me see.", "tools": looks} if look else good
            name = self._draw.choice(sorted(FAULTS))
            self.served[name] += 1
            fault = dict(FAULTS[name])
            if fault.get("fault") in ("cut", "end", "error", "garbage"):
                return {**good, **fault, "after": self._draw.randrange(8)}
            return fault

    def _proposal(self, request: Any) -> Any:
        said = [b.get("text", "") for b in request["messages"][0]["content"]]
        number = int(next(found for text in said if (found := _ASKED.search(text)))[1])
        value = 1.01 + random.Random(number).random()
        if number % 25 == 0:
            value = 1.0 - number / 10_000
        edit = {"path": "train.sh", "content": f"echo loss: {value:.6f}\n# change {number}\n"}
        words = f"Number {number} of many: {random.Random(number).randbytes(12).hex()} lowers the loss"
        return {"thinking": "It falls.", "tool": {"hypothesis": words, "kind": "other", "edits": [edit]}}


def play(paths: SessionPaths, experiments: int) -> int:
    """Run the session to its end, with kills of its engine. Returns their number. Raises RuntimeError when stuck."""
    options = EngineOptions(researcher="claude", experiments=experiments, slots="cpu:2")
    start_engine(paths, options)
    kills, judged, since = 0, 0, time.monotonic()
    while True:
        time.sleep(0.25)
        state = read_state(paths)
        now = sum(state.verdicts.values())
        if now != judged:
            judged, since = now, time.monotonic()
            if sys.stderr.isatty():
                print(f"\r{judged} of {experiments}", end="", file=sys.stderr, flush=True)
        if state.state in ("finished", "crashed", "stopped") and not engine_alive(paths):
            return kills
        if time.monotonic() - since > STUCK_SECONDS:
            raise RuntimeError(f"stuck at {judged} of {experiments}: {state.state}, {state.reason}")
        if judged >= (kills + 1) * KILL_EVERY and judged < experiments and engine_alive(paths):
            os.kill(lock_holder(paths), signal.SIGKILL)
            kills += 1
            while engine_alive(paths):
                time.sleep(0.02)
            start_engine(paths, options)


def verdicts(paths: SessionPaths, experiments: int) -> list[list[str]]:
    """Number of experiments that violate each condition on the log."""
    proposed, judged = proposed_and_judged(paths)
    bodies = [event.body for event in read_events(paths)]
    commits = {body.experiment: body.commit for body in bodies if isinstance(body, e.Committed)}
    state = read_state(paths)
    asked = range(1, experiments + 1)
    wrong = [n for n in asked if f"Number {n} of" not in state.experiments[n].hypothesis] if not state.live else []
    return [
        ["stuck (begun, and without a verdict)", str(sum(n != 0 for n in state.live))],
        ["lost (never proposed, or never judged)", str(sum(not proposed[n] or not judged[n] for n in asked))],
        ["proposed twice", str(sum(proposed[n] > 1 for n in asked))],
        ["judged twice", str(sum(judged[n] > 1 for n in asked))],
        ["with another's commit", str(len(commits) - len(set(commits.values())))],
        ["with another's proposal", str(len(wrong))],
        ["more than were asked for", str(len([n for n in state.experiments if n > experiments]))],
    ]


def main(words: list[str]) -> int:
    numbers = [int(word) for word in words if word.isdigit()]
    experiments, seed = (numbers + [500, 1][len(numbers) :])[:2]
    with workplace() as folder, Provider(seed) as server:
        project, _ = instant_project(folder / "soak", 0)
        os.environ.update(ANTHROPIC_BASE_URL=server.url, ANTHROPIC_API_KEY=server.key, AUTORESEARCH_BACKOFF="0.02")
        paths = SessionPaths(Path(project), "soak")
        began = time.monotonic()
        try:
            kills = play(paths, experiments)
        finally:
            if engine_alive(paths):
                os.kill(lock_holder(paths), signal.SIGTERM)
        seconds = time.monotonic() - began
        state = read_state(paths)
        faults = sum(count for name, count in server.served.items() if name in FAULTS)
        answers = sum(server.served.values())
        counts = ", ".join(f"{n} {word}" for word, n in sorted(state.verdicts.items()) if n)
        print(f"{state.state}: {state.reason}\n{counts}\n{seconds:.0f} s, {seconds / experiments:.2f} s an experiment")
        print(
            f"{answers} answers, {faults} of them faults ({100 * faults / answers:.0f}%); engine killed {kills} times\n"
        )
        print(
            table(["fault", "times"], [[name, str(n)] for name, n in sorted(server.served.items()) if name in FAULTS])
        )
        rows = verdicts(paths, experiments)
        print()
        print(table(["experiments", "number"], rows), flush=True)
    return 1 if any(row[1] != "0" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
