"""Guard of a trial: removes what is left of it once its process is gone, however that ended

`python -P -m core.engine.trial.guard PROJECT NAME FOLDER`. A guard rarely has anything to do: it imports what it needs
for that only then.
"""

from __future__ import annotations

import os
import sys


def main(project: str, name: str, folder: str) -> int:
    """Wait for the end of standard input, which the trial's process holds open; remove the trial if it is there."""
    sys.stdin.buffer.read()
    if os.path.lexists(folder):
        import asyncio
        from pathlib import Path

        from core.engine.trial.trial_folder import TrialPaths, remove

        asyncio.run(remove(TrialPaths(Path(project), name)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
