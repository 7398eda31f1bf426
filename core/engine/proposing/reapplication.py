"""Re-application of waiting proposals on the experiment that proposals build on now, where that has changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core.engine.proposing.proposer import MERGE, Proposer
from core.engine.startup.setup import EnginePart
from core.engine.verdict import Judge
from core.record import events as e
from core.record.errors import AutoresearchError, GitConflict
from core.record.state import HUMAN, Experiment, who


@dataclass(eq=False)
class Reapplication(EnginePart):
    """Brings a waiting proposal up to the present parent, or returns it to the researcher with the reason."""

    judge: Judge
    proposer: Proposer

    async def bring_up(self, number: int) -> bool:
        """Whether the experiment still waits for its run, on the present parent as far as its change applies there.

        One that waits for a person's approval is left as the person sees it.
        """
        x = self.state.experiments[number]
        parent, onto, forked = self.proposer.parent()
        if x.parent == parent or number not in self.state.ready:
            return True
        try:
            commit, diff = await self.judge.reapplied(x, parent, onto)
            await asyncio.to_thread(self.proposer.briefing.refuse_repeat, number, commit)
        except AutoresearchError as error:
            why = f"{error.where}: {error.what}" if error.where and isinstance(error, GitConflict) else error.what
            return await self._does_not_apply(x, parent, why)
        await self.journal.write(
            e.Rebased(
                experiment=number, parent=parent, parent_commit=onto, commit=commit, diff=diff, waiting=True,
                forked=forked,
            )
        )  # fmt: skip
        await asyncio.to_thread(self.repo.keep_ref, self.paths.name, number, commit)
        return True

    async def _does_not_apply(self, x: Experiment, parent: int, why: str) -> bool:
        """A person, a script and a merge have no other answer: theirs runs on the parent that it was made for, unless
        nothing may be built on that any more.
        """
        reason = f"it does not apply on {who(parent)}, which proposals build on now: {why}"
        researcher = self.settings.next_researcher or self.settings.researcher
        if x.researcher not in (HUMAN, MERGE) and researcher.can_revise:
            await self.journal.write(e.ProposalReturned(x.number, reason))
            return False
        if x.parent not in self.state.pinned:
            return True
        pinned = f"nothing may be built on {who(x.parent)}, as this is, and {reason}"
        await self.judge.settle(x.number, "abandoned", pinned)
        return False
