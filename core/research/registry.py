"""The researchers by name. Importing this imports no SDK and no optimiser."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from core.record.errors import ResearcherMisconfigured, UsageError
from core.research.backoff import Backoff
from core.research.protocol import Researcher

NAMES: tuple[str, ...] = ("claude", "control", "scripted")


def default_researcher(environ: Mapping[str, str]) -> str:
    """Claude when there is a key for it, else the control."""
    return "claude" if environ.get("ANTHROPIC_API_KEY", "").strip() else "control"


def available(environ: Mapping[str, str]) -> list[tuple[str, bool, str]]:
    """Each researcher's name, whether it is ready to use, and a note for the launch screen and `doctor`."""
    has_sdk = importlib.util.find_spec("anthropic") is not None
    has_optuna = importlib.util.find_spec("optuna") is not None
    key = bool(environ.get("ANTHROPIC_API_KEY", "").strip() or environ.get("ANTHROPIC_AUTH_TOKEN", "").strip())
    claude = "a key is set" if key else "needs ANTHROPIC_API_KEY"
    return [
        ("claude", key and has_sdk, claude if has_sdk else "the package anthropic is not installed"),
        ("control", has_optuna, "Optuna over the constants of the code; no language model, needs no key"),
        ("scripted", True, "plays a file of proposals, given with --script"),
    ]


def create(name: str, *, model: str | None = None, script: Path | None = None, seed: int | None = None) -> Researcher:
    """The researcher called `name`. Raises UsageError for an unknown name, ResearcherMisconfigured for what it lacks.

    A script is read and checked here; a key is asked for here, and tried with the first experiment.
    """
    if name == "claude":
        from core.research.claude import ClaudeResearcher

        if not available(os.environ)[0][1]:
            note = available(os.environ)[0][2]
            mend = "set ANTHROPIC_API_KEY, or choose --researcher control (needs no key)"
            raise ResearcherMisconfigured(f"claude is not ready: {note}", mend=mend)
        return ClaudeResearcher(model, backoff=Backoff(base=_seconds("AUTORESEARCH_BACKOFF", 1.0)))
    if name == "control":
        from core.research.control import ControlResearcher

        return ControlResearcher(seed)
    if name == "scripted":
        from core.research.scripted import ScriptedResearcher

        if script is None:
            raise UsageError("the scripted researcher has no script", mend="give one with --script FILE.jsonl")
        scripted = ScriptedResearcher(script)
        scripted.check()
        return scripted
    raise UsageError(f"there is no researcher {name!r}", mend=f"choose one of: {', '.join(NAMES)}")


def _seconds(variable: str, default: float) -> float:
    """A number of seconds from the environment; what is no such number counts as not set."""
    try:
        value = float(os.environ.get(variable, ""))
    except ValueError:
        return default
    return value if 0 <= value < 3600 else default
