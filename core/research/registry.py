"""The researchers by name. Importing this imports no SDK and no optimiser."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from core import invocation
from core.record.errors import ResearcherMisconfigured, UsageError
from core.research.agent import profiles
from core.research.llm import keys
from core.research.llm.retry import Backoff
from core.research.protocol import Researcher

NAMES: tuple[str, ...] = ("claude", "openai", "command", "human", "control", "scripted")


def default_researcher(environ: Mapping[str, str]) -> str:
    """Claude when there is a key for it, else GPT when there is one for that, else the control."""
    if _has_key("ANTHROPIC_API_KEY", environ):
        return "claude"
    if _has_key("OPENAI_API_KEY", environ) and _installed("openai"):
        return "openai"
    return "control"


def available(environ: Mapping[str, str]) -> list[tuple[str, bool, str]]:
    """Each researcher's name, whether it is ready to use, and a note for the launch screen and `doctor`."""
    looks: Mapping[str, Callable[[Mapping[str, str]], tuple[bool, str]]] = {
        "claude": _claude, "openai": _openai, "command": _command, "human": _human, "control": _control,
        "scripted": _scripted,
    }  # fmt: skip
    return [(name, *looks[name](environ)) for name in NAMES]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _key(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """(where a key was found, what is wrong with it); both empty when there is none."""
    try:
        found = keys.find(name, environ)
    except ResearcherMisconfigured as error:
        return "", f"{error.where}: {error.what}"
    return (found.where if found else ""), ""


def _has_key(name: str, environ: Mapping[str, str]) -> bool:
    return bool(_key(name, environ)[0])


def _missing(package: str, extra: str) -> str:
    line = invocation.install(*invocation.requirements(extra, [package]))
    return f"the package {package} is not installed; install it with: {line}"


def _claude(environ: Mapping[str, str]) -> tuple[bool, str]:
    if not _installed("anthropic"):
        return False, _missing("anthropic", "")
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        where, wrong = _key(name, environ)
        if where or wrong:
            return bool(where), wrong or f"a key is set ({where})"
    return False, f"needs ANTHROPIC_API_KEY, or a key in {keys.user_file()}"


def _openai(environ: Mapping[str, str]) -> tuple[bool, str]:
    if not _installed("openai"):
        return False, _missing("openai", "openai")
    where, wrong = _key("OPENAI_API_KEY", environ)
    base = environ.get("OPENAI_BASE_URL", "").strip()
    if wrong:
        return False, wrong
    if base:
        return True, f"a compatible server at {base}{'' if where else ', without a key'}"
    if where:
        return True, f"a key is set ({where})"
    return False, "needs OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own (Ollama, vLLM, llama.cpp …)"


def _command(environ: Mapping[str, str]) -> tuple[bool, str]:
    found = profiles.installed(environ.get("PATH"))
    known = ", ".join(profile.name for profile in profiles.KNOWN)
    if found:
        return True, f"a coding agent, named with --model: {', '.join(found)} found here, or a command line of your own"
    return True, f"a coding agent, named with --model: none of {known} is installed, but any command line will do"


def _human(environ: Mapping[str, str]) -> tuple[bool, str]:
    return True, "you: only experiments that you queue are run"


def _control(environ: Mapping[str, str]) -> tuple[bool, str]:
    return _installed("optuna"), "Optuna over the constants of the code; no language model, needs no key"


def _scripted(environ: Mapping[str, str]) -> tuple[bool, str]:
    return True, "plays a file of proposals, given with --script"


def create(name: str, *, model: str | None = None, script: Path | None = None, seed: int | None = None) -> Researcher:
    """The researcher called `name`. Raises UsageError for an unknown name, ResearcherMisconfigured for what it lacks.

    A script and a command are read and checked here; a key is asked for here, and tried with the first experiment.
    """
    backoff = Backoff(base=_seconds("AUTORESEARCH_BACKOFF", 1.0))
    if name == "claude":
        from core.research.llm.providers.anthropic import ClaudeResearcher

        _need(name)
        return ClaudeResearcher(model, backoff=backoff)
    if name == "openai":
        from core.research.llm.providers.openai import OpenAIResearcher

        _need(name)
        return OpenAIResearcher(model, backoff=backoff)
    if name == "command":
        from core.research.agent.researcher import CommandResearcher

        return CommandResearcher(model, backoff=backoff)
    if name == "human":
        from core.research.human import HumanResearcher

        return HumanResearcher()
    if name == "control":
        from core.research.control.tpe import ControlResearcher

        return ControlResearcher(seed)
    if name == "scripted":
        from core.research.scripted import ScriptedResearcher

        if script is None:
            raise UsageError(
                "the scripted researcher has no script",
                hint="give one with --script FILE.jsonl, or set script=FILE.jsonl",
            )
        scripted = ScriptedResearcher(script)
        scripted.check()
        return scripted
    raise UsageError(f"there is no researcher {name!r}", hint=f"choose one of: {', '.join(NAMES)}")


def _need(name: str) -> None:
    """Raises ResearcherMisconfigured when the researcher is not ready."""
    ready, note = next((ready, note) for known, ready, note in available(os.environ) if known == name)
    if not ready:
        hint = f"mend that, write a key into {keys.user_file()}, or choose --researcher control (needs no key)"
        raise ResearcherMisconfigured(f"{name} is not ready: {note}", hint=hint)


def _seconds(variable: str, default: float) -> float:
    """A number of seconds from the environment; what is no such number counts as not set."""
    try:
        value = float(os.environ.get(variable, ""))
    except ValueError:
        return default
    return value if 0 <= value < 3600 else default
