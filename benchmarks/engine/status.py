"""Time of read-only commands, compared with a bare interpreter measured in the same minute.

    python -m benchmarks status [TIMES]

Each command is a process of its own, on a recorded session of 40 experiments without an engine; warm, so the first time
of each is not counted. "bare interpreter" is `python -c pass` in the same environment, the lower limit.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.engine.support import product, row_of, time_command, workplace
from benchmarks.screen.terminal import table
from tests.recorded import make_session

EXPERIMENTS = 40


def heavy(project: Path) -> str:
    """Slow modules that `status` loads."""
    suspects = ("asyncio", "textual", "torch", "git", "anthropic", "optuna", "pydantic", "PIL", "numpy")
    code = (
        "import sys; from tui.main import main; main(['status']); "
        f"print(' '.join(m for m in {suspects!r} if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    return done.stderr.strip() or "none"


def main(times: int) -> None:
    with workplace() as folder:
        project = folder / "project"
        make_session(project, EXPERIMENTS)
        rows = [row_of("bare interpreter", time_command([sys.executable, "-c", "pass"], project, times))]
        for words in (["status"], ["status", "--json"], ["leaderboard"], ["sessions"], ["--help"]):
            rows.append(row_of(" ".join(words), time_command(product(*words), project, times)))
        print(table([f"{times} times", "median s", "best s", "worst s", "CPU s"], rows))
        print(f"\nheavy modules that `status` loads: {heavy(project)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
