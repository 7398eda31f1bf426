"""How a session or a run ends, and why: values that the parts of the engine hand to one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Kind = TypeVar("Kind", bound=str)


@dataclass(frozen=True, slots=True)
class Ending(Generic[Kind]):
    """How something ends, and why."""

    kind: Kind
    reason: str


SessionEnding = Ending[Literal["finished", "stopped", "crashed"]]
# Of a run that the engine itself ends:
RunEnding = Ending[Literal["stopped", "paused", "withdrawn", "skipped", "pruned"]]

RUN_STOPPED: RunEnding = Ending("stopped", "stopped")
RUN_PAUSED: RunEnding = Ending("paused", "cut off by a pause")
RUN_MADE_ROOM: RunEnding = Ending("paused", "made room for a scoring that had failed")
RUN_SKIPPED: RunEnding = Ending("skipped", "skipped")
RUN_WITHDRAWN: RunEnding = Ending("withdrawn", "withdrawn while it waited for its slot")
RUN_LEFT_MEMORY: RunEnding = Ending("withdrawn", f"{RUN_WITHDRAWN.reason}, as memory was short: it starts again alone")
