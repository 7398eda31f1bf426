"""Glance at a project for `doctor`: one worktree, and the first seconds of the run in the sandbox."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core import invocation
from core.engine.finding import Finding, failed
from core.engine.trial.forecast import how_it_ended, worktree
from core.engine.trial.trial import TrialRequest, tried
from core.program.program import load
from core.record.errors import AutoresearchError, CardsTaken
from core.session.lock import running_session
from core.session.options import EngineOptions

RUN_SECONDS = 2.0
MAX_SECONDS = 60.0  # of the glance


async def glance(project: Path) -> list[Finding]:
    """Check one worktree out, and let the run begin there. Nothing of it remains."""
    if running := running_session(project):
        return [Finding("first seconds", None, f"not tried: session {running.name} runs here, and would be disturbed")]
    request = TrialRequest(project=project, options=EngineOptions(), seconds=RUN_SECONDS, glance=True)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            _, outcome = await tried(request, lambda _: None)
    except TimeoutError:
        return [Finding("worktree", None, f"one worktree and the start of a run took more than {MAX_SECONDS:g} s")]
    except CardsTaken as error:
        return [Finding("first seconds", None, f"not tried: {error.what}", error.hint)]
    except AutoresearchError as error:
        return [failed("start", error)]
    tree = worktree(outcome)
    if tree.ok is False:
        return [tree]
    ended = how_it_ended(outcome)
    whole = f"see the output with: {invocation.call('try', project=project)}"
    hint = ended.hint or (whole if ended.ok is False else "")
    if ended.ok is False and load(project / "program.md").prepares:
        detail = f"without `prepare`, which comes first in a session: {ended.detail}"
        return [tree, Finding("first seconds", None, detail, hint)]
    return [tree, Finding("first seconds", ended.ok, ended.detail, hint)]
