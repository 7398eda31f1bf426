"""From a brief to a commit: a proposal is asked for, checked, committed and logged."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.clock import now
from core.edits.apply import proposal_from_plain, proposal_to_plain
from core.edits.diff import unified
from core.edits.patch import edits_from_patch
from core.edits.python_syntax import parsed
from core.engine.journal import Journal
from core.engine.proposing.brief import Briefing
from core.engine.proposing.stream import Counted, ThinkingStream
from core.engine.startup.setup import EnginePart
from core.record import events as e
from core.record.commands import Propose
from core.record.errors import EditError, GitConflict
from core.record.proposal import Proposal
from core.record.state import HUMAN, Experiment, Guidance, who
from core.research.protocol import Brief
from core.text import clean, one_line

MAX_BACK_OFF_SECONDS = 60.0
MERGE = "merge"  # researcher of an experiment that joins two others: no one proposed it


@dataclass(slots=True)
class Thought:
    """A proposal in the making. `held`: guidance for one experiment that it was given."""

    experiment: int
    started: float
    stream: ThinkingStream
    held: frozenset[int] = frozenset()


@dataclass(eq=False)
class Proposer(EnginePart):
    """Gives an experiment a logged and committed proposal, from the researcher or from a person."""

    briefing: Briefing
    thoughts: dict[int, Thought] = field(default_factory=dict, init=False)  # by experiment, the oldest first
    _numbering: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)  # experiments are numbered one at a time
    _committing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)  # or two could be the same

    async def begin(self, number: Callable[[], int]) -> int:
        """Log that an experiment has begun. Returns `number()`, which is asked when no other is being numbered."""
        researcher = self.settings.researcher
        async with self._numbering:
            experiment = number()
            parent, commit, forked = self.parent()
            await self.journal.write(
                e.ExperimentStarted(
                    experiment=experiment, parent=parent, parent_commit=commit, researcher=researcher.name,
                    model=researcher.model, forked=forked,
                )
            )  # fmt: skip
        return experiment

    def parent(self) -> tuple[int, str, bool]:
        """The parent of the next proposal, its commit, and whether a person chose it over the best."""
        state = self.state
        if state.base is None or state.base == state.best:
            return state.best, state.best_commit or self.setup.commit, False
        return state.base, state.experiments[state.base].commit or self.setup.commit, True

    async def propose(self, experiment: int, counted: Counted) -> None:
        """Log Proposed and Committed for `experiment`, which has been begun. `counted`: see ThinkingStream.

        Raises EditError or ProposalFailed (to be judged as rejected), ScriptEnded, ResearcherMisconfigured.
        """
        x = self.state.experiments[experiment]
        stream = ThinkingStream(experiment, self.paths.reasoning(experiment), self.journal, counted)
        others = list(self.thoughts.values())
        thought = self.thoughts[experiment] = Thought(experiment, now(), stream)
        held = frozenset[int]().union(*(other.held for other in others))
        thought.held = frozenset(g.id for g in self.state.in_force(held) if not g.standing)  # before another begins
        beside = [other.experiment for other in others]
        try:
            brief, guidance = await self.briefing.brief(experiment, x.parent, x.parent_commit, beside=beside, held=held)
            thought.held = frozenset(g.id for g in guidance if not g.standing)
            started = time.monotonic()
            async with stream:
                proposal = await self.settings.researcher.propose(brief, stream)
            seconds, model = round(time.monotonic() - started, 2), self.settings.researcher.model
            async with self._committing:
                await self._take(x, brief, proposal, seconds, model)
            await self.journal.write(*(e.GuidanceTaken(g.id, experiment) for g in guidance if self._still_queued(g)))
        finally:
            self.thoughts.pop(experiment, None)
            self.briefing.forget(experiment)

    async def _take(self, x: Experiment, brief: Brief, proposal: Proposal, seconds: float, model: str | None) -> None:
        """Check, commit and log a proposal. Raises EditError."""
        try:
            changed = await asyncio.to_thread(brief.check, proposal)
        except EditError:
            # A rejected proposal is logged too: its hypothesis belongs with the reason.
            await self.journal.write(_proposed(x.number, proposal, _Change(), seconds, model))
            raise
        commit = await self._commit(x.number, x.parent_commit, proposal, changed)
        await self.journal.write(
            _proposed(x.number, proposal, await asyncio.to_thread(_change, brief.files, changed), seconds, model),
            e.Committed(x.number, commit, x.parent_commit),
        )
        await self._keep(x.number, commit)

    def _still_queued(self, given: Guidance) -> bool:
        """False for guidance that was changed or withdrawn during the thought: it has not been taken."""
        now = self.state.guidance.get(given.id)
        return now is not None and now.taken_by is None and now.text == given.text

    async def own(self, command: Propose) -> int:
        """Commit and log a person's own experiment. Returns its number. Raises EditError."""
        parent, parent_commit, forked = self.parent()
        next_number = self.state.next_experiment
        brief, _ = await self.briefing.brief(next_number, parent, parent_commit, question=False)
        edits: Any = command.edits
        if command.patch:
            found = edits_from_patch(command.patch, brief.files, self.repo.prefix)
            edits = proposal_to_plain(Proposal(hypothesis=command.hypothesis, edits=found))["edits"]
        proposal = proposal_from_plain({"hypothesis": command.hypothesis, "kind": command.kind, "edits": edits})
        async with self._committing, self._numbering:
            changed = await asyncio.to_thread(brief.check, proposal)
            change = await asyncio.to_thread(_change, brief.files, changed)
            number = self.state.next_experiment
            commit = await self._commit(number, parent_commit, proposal, changed)
            await self.journal.write(
                e.ExperimentStarted(
                    experiment=number, parent=parent, parent_commit=parent_commit, researcher=HUMAN, forked=forked
                ),
                _proposed(number, proposal, change, 0.0, None),
                e.Committed(number, commit, parent_commit),
            )
        await self._keep(number, commit)
        return number

    async def merge(self, leader: int, other: int) -> int | None:
        """Commit and log, as a further candidate on `leader`, what `other` changed since the leader's parent.

        Returns its number; None when the two do not go together.
        """
        x, moved = self.state.experiments[leader], self.state.experiments[other]
        onto = x.commit or ""
        proposal = Proposal(hypothesis=f"#{leader} and {who(other)} together", edits=(), kind=x.kind)
        async with self._numbering:
            number = self.state.next_experiment
            message = commit_message(self.journal, self.paths.name, number, proposal)
            try:
                commit = await asyncio.to_thread(
                    self.repo.reapply, moved.commit or self.setup.commit, x.parent_commit, onto, message
                )
            except GitConflict as conflict:
                text = f"#{leader} leads as it is; it does not go together with {who(other)}: {conflict.what}"
                if all(note.text != text for note in self.state.notes):  # each engine of the session tries it
                    await self.journal.write(e.Noted("info", text, leader))
                return None
            diff = await asyncio.to_thread(self.repo.diff, onto, commit)
            lines = [line for line in diff.splitlines() if not line.startswith(("+++", "---"))]
            change = _Change(
                diff=diff,
                files=moved.files,
                added=sum(line.startswith("+") for line in lines),
                removed=sum(line.startswith("-") for line in lines),
            )
            await self.journal.write(
                e.ExperimentStarted(experiment=number, parent=leader, parent_commit=onto, researcher=MERGE),
                _proposed(number, proposal, change, 0.0, None),
                e.Committed(number, commit, onto),
            )
        await self._keep(number, commit)
        return number

    async def amend(self, experiment: int, edits: Sequence[Mapping[str, Any]]) -> None:
        """Approve a proposal with a person's edits in place of its own, on the same parent. Raises EditError."""
        x = self.state.experiments[experiment]
        bodies = [event.body for event in self.journal.log.events_of(experiment)]
        before = [body for body in bodies if isinstance(body, e.Proposed)][-1]
        brief, _ = await self.briefing.brief(experiment, x.parent, x.parent_commit, question=False)
        plain = {"hypothesis": before.hypothesis, "edits": list(edits)}
        proposal = replace(
            proposal_from_plain(plain), rationale=before.rationale, expected=before.expected, kind=x.kind,
            extra={**before.extra, "edited": "by a person"},
        )  # fmt: skip
        changed = await asyncio.to_thread(brief.check, proposal)
        commit = await self._commit(experiment, x.parent_commit, proposal, changed)
        change = await asyncio.to_thread(_change, brief.files, changed)
        await self.journal.write(
            _proposed(experiment, proposal, change, before.seconds, before.model),
            e.Committed(experiment, commit, x.parent_commit),
            e.ApprovalGiven(experiment, True, "with a person's edits"),
        )
        await self._keep(experiment, commit)

    async def _commit(self, experiment: int, parent: str, proposal: Proposal, changed: Mapping[str, str]) -> str:
        message = commit_message(self.journal, self.paths.name, experiment, proposal)
        return await asyncio.to_thread(self.repo.commit_files, parent, dict(changed), message)

    async def _keep(self, experiment: int, commit: str) -> None:
        await asyncio.to_thread(self.repo.keep_ref, self.paths.name, experiment, commit)


def _proposed(experiment: int, p: Proposal, change: _Change, seconds: float, model: str | None) -> e.Proposed:
    edits = tuple(proposal_to_plain(p)["edits"])
    return e.Proposed(
        experiment=experiment, hypothesis=p.hypothesis, rationale=p.rationale, expected=p.expected, kind=p.kind,
        diff=change.diff, files=change.files, added=change.added,
        removed=change.removed, seconds=seconds, extra=dict(p.extra), edits=edits, model=model, lines=change.lines,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A change of files as a diff and in numbers. `lines`: difference in lines of code (`code_lines`)."""

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
    return _Change(diff=diff, files=tuple(changed), added=added, removed=removed, lines=lines)


def code_lines(path: str, text: str) -> int:
    """Lines of Python without comments, blank lines and layout (by syntax tree); of other files, non-blank lines."""
    if path.endswith(".py"):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            return len(ast.unparse(parsed(text)).splitlines())
    return sum(bool(line.strip()) for line in text.splitlines())


def commit_message(journal: Journal, session: str, experiment: int, proposal: Proposal) -> str:
    """Commit message of an experiment: the hypothesis, the rationale, and trailers that identify it and the log."""
    parts = [f"#{experiment} {one_line(proposal.hypothesis)}", clean(proposal.rationale).strip()]
    trailers = f"Autoresearch-Session: {session}\nAutoresearch-Experiment: {experiment}\n{journal.trailer()}"
    return "\n\n".join([p for p in parts if p] + [trailers]) + "\n"


async def back_off(journal: Journal, failures: int) -> None:
    """Wait before the next proposal after several failures in a row, which cost money; a wait is logged."""
    seconds = min(MAX_BACK_OFF_SECONDS, 0.5 * (failures - 1) ** 2)
    if seconds >= 1:
        text = f"{failures} proposals in a row have failed: the next one is asked for in {seconds:.0f} s"
        await journal.write(e.Noted("warning", text))
        await asyncio.sleep(seconds)
