"""From a brief to a commit: ask the researcher, check what comes back, and make it stand in git."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from core.engine.briefing import Briefing
from core.engine.journal import Journal
from core.engine.setup import Setup
from core.engine.stream import ThinkingStream
from core.record import events as e
from core.record.edits import proposal_to_plain, unified
from core.record.errors import EditError
from core.record.proposal import Proposal
from core.research.protocol import Brief

LONGEST_BACK_OFF = 60.0  # seconds


@dataclass(slots=True)
class Thought:
    """What is being thought about just now."""

    experiment: int
    started: float
    stream: ThinkingStream


class Thinker:
    """Turns one experiment's number into a logged proposal with a commit."""

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self._setup = setup
        self._journal = journal
        self.briefing = Briefing(setup, journal)
        self.now: Thought | None = None

    async def propose(self, experiment: int) -> None:
        """Log Proposed and Committed for `experiment`, which has been started.

        Raises EditError or ProposalFailed (to be judged as rejected), ScriptEnded, ResearcherMisconfigured.
        """
        state = self._journal.state
        parent, parent_commit = state.best, state.best_commit or self._setup.commit
        await self._journal.write(
            e.ExperimentStarted(
                experiment, parent, parent_commit, self._setup.researcher.name, self._setup.researcher.model
            )
        )
        brief, guidance = await self.briefing.brief(experiment, parent, parent_commit)
        stream = ThinkingStream(experiment, self._setup.paths.reasoning(experiment), self._journal)
        started = time.monotonic()
        self.now = Thought(experiment, time.time(), stream)
        try:
            async with stream:
                proposal = await self._setup.researcher.propose(brief, stream)
        finally:
            self.now = None
        seconds = round(time.monotonic() - started, 2)
        try:
            changed = brief.check(proposal)
        except EditError:
            # What was turned down is on record too: its hypothesis belongs beside the reason.
            await self._journal.write(self._proposed(experiment, proposal, _Change(), seconds))
            raise
        await self._commit(experiment, parent_commit, brief, proposal, changed, seconds)
        await self._journal.write(*(e.GuidanceTaken(g.id, experiment) for g in guidance if g.taken_by is None))

    async def _commit(
        self,
        experiment: int,
        parent_commit: str,
        brief: Brief,
        proposal: Proposal,
        changed: Mapping[str, str],
        seconds: float,
    ) -> None:
        change = _change(brief.files, changed)
        message = commit_message(self._setup.paths.name, experiment, proposal)
        commit = await asyncio.to_thread(self._setup.repo.commit_files, parent_commit, dict(changed), message)
        await self._journal.write(
            self._proposed(experiment, proposal, change, seconds),
            e.Committed(experiment, commit, parent_commit),
        )
        await asyncio.to_thread(self._setup.repo.keep_ref, self._setup.paths.name, experiment, commit)

    def _proposed(self, experiment: int, p: Proposal, change: _Change, seconds: float) -> e.Proposed:
        edits = tuple(proposal_to_plain(p)["edits"])
        return e.Proposed(
            experiment, p.hypothesis, p.rationale, p.expected, p.kind, change.diff, change.files, change.added,
            change.removed, seconds, dict(p.extra), edits, self._setup.researcher.model, change.lines,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of files in numbers and as a diff. `lines`: of code, on the syntax tree."""

    diff: str = ""
    files: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    lines: int = 0


def _change(before: Mapping[str, str], changed: Mapping[str, str]) -> _Change:
    old = {path: before[path] for path in changed if path in before}
    diff, added, removed = unified(old, changed)
    lines = sum(code_lines(path, text) for path, text in changed.items())
    lines -= sum(code_lines(path, text) for path, text in old.items())
    return _Change(diff, tuple(changed), added, removed, lines)


def code_lines(path: str, text: str) -> int:
    """Lines of code as the syntax tree has them (comments, blank lines and layout do not count); else plain lines."""
    if path.endswith(".py"):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            return len(ast.unparse(ast.parse(text)).splitlines())
    return sum(bool(line.strip()) for line in text.splitlines())


def commit_message(session: str, experiment: int, proposal: Proposal) -> str:
    """The experiment's commit message: the hypothesis as subject, the rationale below, trailers that name it."""
    parts = [f"#{experiment} {' '.join(proposal.hypothesis.split())}", proposal.rationale.strip()]
    trailers = f"Autoresearch-Session: {session}\nAutoresearch-Experiment: {experiment}"
    return "\n\n".join([p for p in parts if p] + [trailers]) + "\n"


async def back_off(journal: Journal, failures: int) -> None:
    """A model whose proposals keep coming to nothing costs money: ask it less often, and say so."""
    seconds = min(LONGEST_BACK_OFF, 0.5 * (failures - 1) ** 2)
    if seconds >= 1:
        text = f"{failures} proposals in a row came to nothing: the next one is asked for in {seconds:.0f} s"
        await journal.write(e.Noted("warning", text))
        await asyncio.sleep(seconds)
