"""A person as the researcher: nothing is proposed but what a person queues, which the engine takes up by itself."""

from __future__ import annotations

from core import invocation
from core.record.proposal import Proposal
from core.record.state import HUMAN, State
from core.research.protocol import Brief, Stream
from core.text import one_line

NAME = HUMAN
SLICE = 3600.0  # seconds of one visible wait
WAITING = "waiting for an experiment of yours: make one in the app, or with: " + invocation.call(
    "propose", "FILE.patch", "--hypothesis", "TEXT"
)


class HumanResearcher:
    """Waits in sight for ever. A person's experiments have numbers and turns of their own."""

    name = NAME
    model: str | None = None
    mends = False

    def ended(self, state: State, experiment: int) -> str | None:
        return None

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """Never returns; ends by being cancelled."""
        for idea in brief.ideas:
            stream.note(
                f"an idea in words waits for a researcher that writes code ({one_line(idea, 200)}): choose one with: "
                f"{invocation.call('set', 'researcher=claude')}; or hand over a patch"
            )
        turn = 0
        while True:
            turn += 1
            await stream.wait(WAITING, SLICE, turn)

    async def close(self) -> None:
        return None
