"""The next step after a session's end: what to correct, and the command that then works"""

from __future__ import annotations

from pathlib import Path

from core import invocation
from core.record.state import State
from core.views.tables import baseline_failed

_MARKS = ("hint: ", "mend: ")  # `mend:` in logs of version 0.1


def without_hint(reason: str) -> tuple[str, str]:
    """A reason without its first hint, and that hint."""
    lines = reason.strip().splitlines()
    for at, line in enumerate(lines):
        if line.strip().startswith(_MARKS):
            return "\n".join((*lines[:at], *lines[at + 1 :])), line.strip()[6:]
    return reason.strip(), ""


def next_step(state: State, project: Path, name: str) -> str:
    """What a person does after this end of a session: the hint of its reason, then the command that works.

    A session whose unchanged code has no result fails again when it is continued: what it starts from is fixed.
    """
    hint = without_hint(state.reason)[1] if state.state == "crashed" else ""
    if baseline_failed(state):
        first = hint or "correct program.md, or the code and commit it"
        return f"{first}; then start a new session with: {invocation.call('run', project=project)}"
    again = f"continue with: {invocation.call('run', '--session', name, project=project)}"
    return f"{hint}; then {again}" if hint else again
