"""Random keys, clicks and resizes on a live session in tmux; it must show no traceback and never stop responding.

    python -m benchmarks keys [MINUTES] [SEED]

Input: all keys of the registry, text, the mouse, and sizes from 20x5 to 200x60. When the input leaves the app or stops
the session, it is started again. At intervals the screen must respond: `?` shows the help.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from benchmarks.screen.tmux import Tmux, environment
from core.session.lock import engine_alive, lock_holder
from core.session.paths import SessionPaths
from tests.projects import TRAIN, make_project, rate, write_script
from tui.actions import REGISTRY
from tui.screens.dialogs import UNASKED_DELAY_SECONDS, ApprovalCard

COMMAND = str(Path(sys.executable).with_name("autoresearch-tui"))
SIZES = ((160, 48), (120, 36), (100, 30), (80, 24), (60, 20), (20, 5), (200, 60))
WORDS = ("try less", "#3", "40%", "0.5", "ümläut ☂", "kept", "\t", "999999999999")
PACE = 0.02  # seconds between two keys: faster than a person types
CHECK_EVERY = 60  # keys between two checks
HELP = re.compile("[─-] help [─-]")  # a key may have chosen the theme without box drawing
CARD = ApprovalCard.TITLE_TEXT


class Walk:
    """One seeded walk. `log` holds the last inputs, to reproduce a failure."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.log: deque[str] = deque(maxlen=80)
        self.done = self.starts = self.looks = 0
        self.env = environment(folder / "home")
        os.environ["AUTORESEARCH_HOME"] = self.env["AUTORESEARCH_HOME"]
        self.project = make_project(folder / "project", train=TRAIN.replace("SECONDS = 0.05", "SECONDS = 0.5"))
        train = (self.project / "train.py").read_text()
        lines = []
        for n in range(3000):
            edit = {"path": "train.py", "content": train.replace("RATE = 0.5", f"RATE = {0.5 - n / 9000:.5f}")}
            lines.append({**rate("", ""), "edits": [edit], "hypothesis": f"Idea {n} ☂ lowers the loss",
                          "thinking": f"About number {n}. " * 9, "seconds": 0.4})  # fmt: skip
        self.script = write_script(folder / "s.jsonl", lines)
        self.paths = SessionPaths(self.project, "walk")
        places = ("main", "detail", "lineage", "failures", "costs", "logs", "compare")
        keys = {k for place in places for played in (False, True) for a in REGISTRY.for_place(place, played)
                for k in a.keys}  # fmt: skip
        self.keys = sorted({*keys, *"ynedwA+12345", "enter", "escape", "up", "down", "backspace", "delete", "ctrl+s"})

    def start(self) -> Tmux:
        self.starts += 1
        if engine_alive(self.paths) and self.random.random() < 0.8:
            words = ["attach", "walk"]
        elif engine_alive(self.paths):
            words = ["replay", "walk", "--speed", "20"]
        else:
            words = [
                "run",
                "--session",
                "walk",
                "--researcher",
                "scripted",
                "--script",
                str(self.script),
                "--slots",
                "cpu:1",
            ]
        self.log.append(f"[{' '.join(words[:2])}]")
        return Tmux([COMMAND, *words], self.project, self.env, self.random.choice(SIZES[:4]))

    def step(self, tmux: Tmux) -> None:
        """One key, click, word or resize."""
        kind = self.random.random()
        if kind < 0.86:
            key = self.random.choice(self.keys)
            if key == "q" and self.random.random() < 0.7:
                key = "escape"
            self.log.append(key)
            tmux.press(key)
        elif kind < 0.92:
            x, y = self.random.randint(1, 160), self.random.randint(1, 48)
            button = self.random.choice((0, 0, 64, 65))
            self.log.append(f"mouse{button}@{x},{y}")
            tmux.click(x, y, button)
        elif kind < 0.96:
            word = self.random.choice(WORDS)
            self.log.append(repr(word))
            tmux.type(word)
        else:
            size = self.random.choice(SIZES)
            self.log.append(f"{size[0]}x{size[1]}")
            tmux.resize(*size)
        self.done += 1

    def look(self, tmux: Tmux) -> bool:
        """Whether the screen responds; False when the program has ended normally. Raises AssertionError."""
        self.looks += 1
        tmux.resize(120, 36)
        deadline = time.monotonic() + 60.0
        while not self._helps(tmux):
            if tmux.code is not None:
                assert tmux.code == 0, f"it ended with {tmux.code}:\n{tmux.text}"
                return False
            assert time.monotonic() < deadline, f"the screen is stuck:\n{tmux.text}"
        tmux.press("escape")
        return True

    def _helps(self, tmux: Tmux) -> bool:
        """Close the open screens and ask for the help once. A card that opens by itself meanwhile is closed first."""
        for _ in range(2):
            tmux.press("escape")
            time.sleep(0.15)  # an escape directly followed by a key is another key
        text = tmux.whole()
        if HELP.search(text) or CARD in text:  # a card ignores keys at first
            time.sleep(UNASKED_DELAY_SECONDS)
            return False
        tmux.press("question_mark")
        patience = time.monotonic() + 3.0
        while not HELP.search(text := tmux.whole()):
            if CARD in text or tmux.code is not None or time.monotonic() > patience:
                return False
            time.sleep(0.05)
        return True


def walk(folder: Path, seconds: float, seed: int) -> Walk:
    """Walk for `seconds`. Raises AssertionError with the seed and the last keys."""
    path = Walk(folder, seed)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            with path.start() as tmux:
                tmux.wait(lambda text: "help" in text or "q detaches" in text or tmux.code is not None)
                while time.monotonic() < end and tmux.code is None:
                    path.step(tmux)
                    time.sleep(PACE)
                    if path.done % CHECK_EVERY == 0 and not path.look(tmux):
                        break
                assert tmux.code in (None, 0), f"it ended with {tmux.code}:\n{tmux.text}"
                if tmux.code is None:
                    path.look(tmux)
    except AssertionError as error:
        crashes = "\n".join(file.read_text() for file in (folder / "home" / "state" / "crashes").glob("*"))
        raise AssertionError(
            f"seed {seed}, after {path.done} steps, the last: {' '.join(path.log)}\n{error}\n{crashes}"
        ) from None
    finally:
        if engine_alive(path.paths):
            os.kill(lock_holder(path.paths), signal.SIGTERM)
    return path


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory(prefix="keys-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        path = walk(Path(folder), minutes * 60, seed)
    print(
        f"{minutes:g} minutes, seed {seed}: {path.done} steps, {path.starts} starts, {path.looks} looks, nothing broke"
    )


if __name__ == "__main__":
    main()
