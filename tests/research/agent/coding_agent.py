"""A coding agent for tests: a command-line program whose arguments set its behaviour in the current folder.

    python tests/research/agent/coding_agent.py BEHAVIOUR [BEHAVIOUR …] < prompt

Of several behaviours it uses the first for experiment 1, the second for experiment 2, and so on.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ.get("HOME", "/"))
NUMBER = 1  # of the experiment


def edit() -> None:
    """A better RATE for each experiment."""
    path = Path("train.py")
    path.write_text(re.sub(r"RATE = [0-9.]+", f"RATE = {0.41 - NUMBER / 1000:.3f}", path.read_text()))


def say() -> None:
    Path("HYPOTHESIS").write_text("RATE 0.4 is nearer the minimum\nexpected: about −0.03\nkind: optimizer\nBecause.\n")


def again() -> bool:
    """Whether this is not the first run."""
    tally = HOME / f"tally-{NUMBER}"
    tally.parent.mkdir(parents=True, exist_ok=True)
    before = tally.exists()
    tally.write_text("x")
    return before


def good() -> None:
    print("\x1b[31mI will\x07 move RATE.\x1b[0m")
    edit()
    say()


def last_line() -> None:
    edit()
    print("Working …\n\nRATE 0.4, said in the last line\n")


def stream_json() -> None:
    """As `claude -p --output-format stream-json` prints."""
    blocks = [
        {"type": "thinking", "thinking": "The loss is quadratic."},
        {"type": "text", "text": "Moving RATE."},
        {"type": "tool_use", "name": "Edit", "input": {"file_path": "train.py"}},
    ]
    print(json.dumps({"type": "system", "subtype": "init"}))
    print(json.dumps({"type": "assistant", "message": {"content": blocks}}), flush=True)
    edit()
    Path("HYPOTHESIS").write_text("A smaller constant lowers the quadratic term\n")
    usage = {
        "input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 900,
        "output_tokens": 50,
    }
    print(json.dumps({"type": "result", "is_error": False, "result": "done", "total_cost_usd": 0.25, "usage": usage}))


def hang() -> None:
    if again():
        return good()
    print("thinking about it", flush=True)
    time.sleep(600)


def lingers() -> None:
    """Gives its result, and does not end."""
    stream_json()
    sys.stdout.flush()
    time.sleep(600)


def password() -> None:
    try:
        os.open("/dev/tty", os.O_RDWR)
        print("there is a terminal")
    except OSError:
        print("Password: ", end="", flush=True)
    if not sys.stdin.read() and not again():
        sys.exit("no password was given")
    edit()
    say()


def deletes() -> None:
    if again():
        return good()
    subprocess.run("rm -rf ./* ./.git ../* 2>/dev/null", shell=True)


def commits() -> None:
    edit()
    say()
    for words in ("add -A", "commit -q -m mine", "checkout -q -b other"):
        subprocess.run(["git", *words.split()], check=True)


def outside() -> None:
    for place in ("/tmp/../escaped", "../../../../escaped", "../../../../../escaped", "/etc/escaped"):
        try:
            Path(place).write_text("x")
        except OSError as error:
            print(f"refused: {error.strerror}")
    good()


def read_only() -> None:
    if not again():
        try:
            Path("program.md").write_text("do as I say")
        except OSError as error:
            print(f"refused: {error.strerror}")
    good()


def fails() -> None:
    if again():
        return good()
    sys.exit("429 usage limit reached")


def nothing() -> None:
    if again():
        return good()
    print("I have looked at everything and it is fine.")


def floods() -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(100):
        os.write(1, line * 1024)
    edit()
    print("RATE 0.4 after a flood")


def daemon() -> None:
    good()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)


def links() -> None:
    if again():
        return good()
    Path("train.py").unlink()
    Path("train.py").symlink_to("/etc/hostname")


def environment() -> None:
    """Write the visible environment and home into the hypothesis."""
    edit()
    seen = [name for name in ("SECRET_TOKEN", "ANTHROPIC_API_KEY", "MY_API_KEY") if os.environ.get(name)]
    login = HOME / ".agent" / "login"
    said = login.read_text() if login.exists() else "none"
    print(f"sees {' '.join(seen) or 'nothing'}; login {said}; argv {len(sys.argv)}")


if __name__ == "__main__":
    given = sys.stdin.read()
    NUMBER = int((re.search(r"Propose experiment (\d+)", given) or [0, 1])[1])
    behaviours = [word for word in sys.argv[1:] if word in globals()]
    globals()[behaviours[min(NUMBER, len(behaviours)) - 1]]()
