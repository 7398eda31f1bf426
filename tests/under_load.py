"""Repeats the tests of `make test` in the environment of a clean machine, together with other load.

    python -m tests.under_load                     # five rounds, eight busy processes beside each
    python -m tests.under_load --rounds 1 --load 0 # on an idle machine: the seconds of the suite
    python -m tests.under_load -- tests/engine     # words for pytest in place of the whole suite

Prints a line for each round, and the names of the tests that failed; ends with 1 when one did.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import ROOT

BUSY = "while True: pass"


def suite() -> list[str]:
    """The words that `make test` passes to pytest."""
    done = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith(".venv/bin/pytest"))
    return shlex.split(line)[1:]


def clean_environment(home: str) -> dict[str, str]:
    """The environment after a login to a new machine, without that of the developer's shell."""
    return {"PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8", "TERM": "xterm", "CI": "1"}


def play(words: list[str], load: int) -> tuple[bool, str]:
    """Run one round and return whether it passed and the output of pytest."""
    busy = [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(load)]
    try:
        with tempfile.TemporaryDirectory() as home:
            command = [str(ROOT / ".venv/bin/pytest"), *words]
            done = subprocess.run(
                command, cwd=ROOT, env=clean_environment(home), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return done.returncode == 0, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.under_load", description="The suite under load.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load", type=int, default=8, help="busy processes beside each round")
    parser.add_argument("--log", type=Path, help="a file for all that pytest prints")
    parser.add_argument("words", nargs="*", help="for pytest, in place of the whole suite")
    options = parser.parse_args()
    words = options.words or suite()
    passed = 0
    for number in range(1, options.rounds + 1):
        started = time.monotonic()
        good, text = play(words, options.load)
        passed += good
        if options.log:
            with options.log.open("a", encoding="utf-8") as file:
                file.write(text)
        counts = (re.findall(r"^.*\d+ (?:passed|failed|error).*$", text, re.M) or ["no test was run"])[-1]
        seconds = time.monotonic() - started
        print(f"round {number}: {'passed' if good else 'FAILED'} in {seconds:.0f} s: {counts}", flush=True)
        for line in re.findall(r"^(?:FAILED|ERROR) .*$", text, re.M):
            print(f"  {line}", flush=True)
    print(f"{passed} of {options.rounds} rounds passed with a load of {options.load}")
    return 0 if passed == options.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
