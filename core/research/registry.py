"""Registry of the researchers: names, readiness, and construction. Importing it imports no SDK and no optimizer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from core import invocation
from core.record.errors import ResearcherMisconfigured, UsageError
from core.research.agent import profiles
from core.research.llm import keys
from core.research.llm.retry import Backoff
from core.research.protocol import Researcher

NAMES: tuple[str, ...] = ("claude", "openai", "command", "human", "control", "scripted")
WITH_SERVER = ("claude", "openai")
REACH_SECONDS = 5.0  # without a word, after which a server counts as not reached


def default_researcher(environ: Mapping[str, str]) -> str:
    """`claude` when it has a key, else `openai` when it has one, else `control`."""
    if _key("ANTHROPIC_API_KEY", environ)[0]:
        return "claude"
    if _key("OPENAI_API_KEY", environ)[0] and _installed("openai"):
        return "openai"
    return "control"


def available(environ: Mapping[str, str]) -> list[tuple[str, bool, str]]:
    """(name, whether it is ready, note) of each researcher, for the launch screen and `doctor`."""
    ready = {
        "claude": _claude(environ),
        "openai": _openai(environ),
        "command": (True, _command(environ)),
        "human": (True, "you: only experiments that you queue are run"),
        "control": (_installed("optuna"), "Optuna over the constants of the code; no language model, needs no key"),
        "scripted": (True, "plays a file of proposals, given with --script"),
    }
    return [(name, *ready[name]) for name in NAMES]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _key(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """(place of a key, error of that place); both empty when there is no key."""
    try:
        found = keys.find(name, environ)
    except ResearcherMisconfigured as error:
        return "", f"{error.where}: {error.what}"
    return (found.where if found else ""), ""


def _missing(package: str, extra: str) -> str:
    line = invocation.install(*invocation.requirements(extra, [package]))
    return f"the package {package} is not installed; install it with: {line}"


def _claude(environ: Mapping[str, str]) -> tuple[bool, str]:
    if not _installed("anthropic"):
        return False, _missing("anthropic", "")
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        where, error = _key(name, environ)
        if where or error:
            return bool(where), error or f"a key is set ({where})"
    return False, f"needs ANTHROPIC_API_KEY, or a key in {keys.user_file()}"


def _openai(environ: Mapping[str, str]) -> tuple[bool, str]:
    if not _installed("openai"):
        return False, _missing("openai", "openai")
    where, error = _key("OPENAI_API_KEY", environ)
    base = environ.get("OPENAI_BASE_URL", "").strip()
    if error:
        return False, error
    if base:
        return True, f"a compatible server at {base}{'' if where else ', without a key'}"
    if where:
        return True, f"a key is set ({where})"
    return False, "needs OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own (Ollama, vLLM, llama.cpp …)"


def _command(environ: Mapping[str, str]) -> str:
    if found := profiles.installed(environ.get("PATH")):
        return f"a coding agent, named with --model: found {', '.join(found)}; or a command line of your own"
    known = ", ".join(profile.name for profile in profiles.KNOWN)
    return f"a coding agent, named with --model: none of {known} is installed; or a command line of your own"


def reach(name: str, model: str | None = None) -> str:
    """What the model server of a ready researcher answers to one request that costs nothing; empty for a researcher
    without a server. Raises ResearcherMisconfigured when a session would fail there, or wait for it.
    """
    from core.research.llm.providers.client import ModelResearcher

    researcher = create(name, model=model) if name in WITH_SERVER else None
    if not isinstance(researcher, ModelResearcher):
        return ""
    researcher.read_seconds = REACH_SECONDS
    return asyncio.run(researcher.examine())


def create(name: str, *, model: str | None = None, script: Path | None = None, seed: int | None = None) -> Researcher:
    """The researcher called `name`. Raises UsageError for an unknown name, ResearcherMisconfigured for what it lacks: a
    script and a command line are checked here; a key must exist here, and is tested by the first experiment.
    """
    if name in WITH_SERVER:
        from core.research.llm.providers import client

        _require_ready(name)
        client.route("ANTHROPIC_BASE_URL" if name == "claude" else "OPENAI_BASE_URL")
    backoff = _backoff()
    match name:
        case "claude":
            from core.research.llm.providers.anthropic import ClaudeResearcher

            return ClaudeResearcher(model, backoff=backoff)
        case "openai":
            from core.research.llm.providers.openai import OpenAIResearcher

            return OpenAIResearcher(model, backoff=backoff)
        case "command":
            from core.research.agent.researcher import CommandResearcher

            return CommandResearcher(model, backoff=backoff)
        case "human":
            from core.research.human import HumanResearcher

            return HumanResearcher()
        case "control":
            from core.research.control.tpe import ControlResearcher

            return ControlResearcher(seed)
        case "scripted":
            from core.research.scripted import ScriptedResearcher

            if script is None:
                hint = "give one with --script FILE.jsonl, or set script=FILE.jsonl"
                raise UsageError("the scripted researcher has no script", hint=hint)
            scripted = ScriptedResearcher(script)
            scripted.check()
            return scripted
    raise UsageError(f"there is no researcher {name!r}", hint=f"choose one of: {', '.join(NAMES)}")


def _require_ready(name: str) -> None:
    """Raises ResearcherMisconfigured when the researcher is not ready."""
    ready, note = next((ready, note) for known, ready, note in available(os.environ) if known == name)
    if not ready:
        hint = f"correct that, put a key into {keys.user_file()}, or choose --researcher control (needs no key)"
        raise ResearcherMisconfigured(f"{name} is not ready: {note}", hint=hint)


def _backoff() -> Backoff:
    """The backoff from the seconds in AUTORESEARCH_BACKOFF, if these are such a number."""
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(os.environ.get("AUTORESEARCH_BACKOFF", ""))) < 3600:
            return Backoff(base=seconds)
    return Backoff()
