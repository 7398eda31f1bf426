"""The hint of a crash: the first of a table of recognisers that knows a step for its reason"""

from __future__ import annotations

from collections.abc import Callable

from core.engine.runs.hints.known import Crash, Known
from core.engine.runs.hints.missing_files import missing_file
from core.engine.runs.hints.missing_modules import hidden_toolchain, missing_module, missing_program
from core.engine.runs.hints.missing_variables import hub_variable, named_variable, read_variable
from core.engine.runs.hints.sandbox_limits import (
    executable,
    git_in_a_run,
    network,
    room,
    shared_state,
    silence,
    surroundings,
    writing,
)
from core.engine.runs.hints.wrong_torch import wrong_torch

RECOGNISERS: tuple[Callable[[Crash, Known], str], ...] = (
    wrong_torch, room, git_in_a_run, missing_module, named_variable, writing, executable, hidden_toolchain,
    missing_file, missing_program, hub_variable, shared_state, surroundings, network, silence, read_variable,
)  # fmt: skip


def crash_hint(crash: Crash, known: Known) -> str:
    """What a person can do about the crash: one sentence with a command or a line of program.md, "" when unknown."""
    return next((hint for recognise in RECOGNISERS if (hint := recognise(crash, known))), "")
