"""Researcher `human`: proposes nothing and waits for experiments that the user queues."""

from __future__ import annotations

from core import invocation
from core.record.proposal import Proposal
from core.record.state import HUMAN
from core.research.protocol import Brief, Researcher, Stream
from core.text import one_line

WAIT_SECONDS = 3600.0  # of one visible wait
WAITING = "waiting for an experiment of yours: make one in the app, or with: " + invocation.call(
    "propose", "FILE.patch", "--hypothesis", "TEXT"
)


class HumanResearcher(Researcher):
    """Waits for ever. The engine takes queued experiments itself, under numbers of their own."""

    name = HUMAN
    can_revise = False

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """Never returns; ends by being cancelled."""
        for idea in brief.ideas:
            stream.note(
                f"a queued idea needs a researcher that writes code ({one_line(idea, 200)}): choose one with: "
                f"{invocation.call('set', 'researcher=claude')}; or queue a patch"
            )
        attempt = 0
        while True:
            attempt += 1
            await stream.wait(WAITING, WAIT_SECONDS, attempt)
