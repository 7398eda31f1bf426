"""The scripted researcher: plays a file of proposals, one JSON object a line (DESIGN §12).

Beside the fields of a proposal a line may hold `thinking` (text to stream), `seconds` (how long to take) and `usage`
(`{"input_tokens", "output_tokens", "cached_tokens", "usd"}`, what to charge). Blank lines and lines starting with
`//` are skipped. The whole file is checked before the first proposal, so a mistake in line 9 is told at once.

A resumed session goes on where it stopped: see `position`.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.edits.apply import proposal_from_plain
from core.record.errors import AutoresearchError, ProposalFailed, ResearcherMisconfigured, ScriptEnded
from core.record.proposal import Proposal, Usage
from core.record.state import BASELINE, State
from core.research.protocol import Brief, Stream

NAME = "scripted"
ORDINAL = "script"  # key in a proposal's `extra`: which proposal of the script it is, counted from 0
PIECE_SECONDS = 0.1  # between two pieces of streamed thinking
HINT = 'each line is one JSON object: {"hypothesis", "edits": [{"path", "search", "replace"}], …}'


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a script. `number` counts from 1; `seconds` is how long the researcher takes over it."""

    number: int
    proposal: Proposal
    thinking: str = ""
    seconds: float = 0.0
    usage: Usage | None = None


def read_script(path: Path) -> tuple[Line, ...]:
    """Every proposal of a script. Raises ResearcherMisconfigured with file and line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ResearcherMisconfigured(
            f"the script cannot be read: {reason}", where=str(path), hint="give a readable file with --script"
        ) from None
    lines: list[Line] = []
    for number, raw in enumerate(text.split("\n"), 1):
        if raw.strip() and not raw.lstrip().startswith("//"):
            lines.append(_parse(raw, number, f"{path}:{number}"))
    return tuple(lines)


def _parse(raw: str, number: int, where: str) -> Line:
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ResearcherMisconfigured(f"this line is no JSON: {error}", where=where, hint=HINT) from None
    try:
        proposal = proposal_from_plain(plain)
    except AutoresearchError as error:
        raise ResearcherMisconfigured(error.what, where=where, hint=error.hint or HINT) from None
    thinking, seconds = plain.get("thinking", ""), plain.get("seconds", 0.0)
    if not isinstance(thinking, str):
        raise ResearcherMisconfigured('"thinking" is not text', where=where, hint=HINT)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ResearcherMisconfigured('"seconds" is not a number of seconds', where=where, hint=HINT)
    return Line(number, proposal, thinking, float(seconds), _usage(plain.get("usage"), where))


def _usage(plain: object, where: str) -> Usage | None:
    if plain is None:
        return None
    names = ("input_tokens", "output_tokens", "cached_tokens", "usd")
    good = isinstance(plain, Mapping) and all(
        name in names and (value is None or isinstance(value, (int, float))) and not isinstance(value, bool)
        for name, value in plain.items()
    )
    if not good or not isinstance(plain, Mapping):
        hint = f"write any of {', '.join(names)} with a number"
        raise ResearcherMisconfigured('"usage" is not as it should be', where=where, hint=hint)
    tokens = {name: int(plain.get(name) or 0) for name in names[:3]}
    usd = plain.get("usd")
    return Usage(**tokens, usd=None if usd is None else float(usd))


def position(state: State, experiment: int) -> int:
    """The proposal of the script (counted from 0) that is `experiment`'s, by a rule that holds across a resume.

    A proposal of the script belongs to one experiment for good; which one is in the log once it is proposed. In order
    of number, each other scripted experiment that is not in the log that far takes the first one still free when it
    has a verdict (it was skipped or turned down while its proposal was in hand) or a smaller number (it is being
    thought about just now); `abandoned` does not count, for that experiment never saw its proposal. What is free
    first after that is ours. So an experiment that a crash cut off is never proposed a second time.
    """
    others = [x for n, x in sorted(state.experiments.items()) if n != experiment and x.researcher == NAME]
    used = {x.extra[ORDINAL] for x in others if ORDINAL in x.extra}
    for x in others:
        pending = x.verdict is None and x.number < experiment and not x.hypothesis
        if x.number != BASELINE and ORDINAL not in x.extra and (pending or x.verdict not in (None, "abandoned")):
            used.add(_first_free(used))
    return _first_free(used)


def _first_free(used: set[object]) -> int:
    return next(n for n in range(len(used) + 1) if n not in used)


class ScriptedResearcher:
    """Plays the proposals of `path` in order; ScriptEnded after the last."""

    name = NAME
    mends = False
    model: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: tuple[Line, ...] | None = None
        self._taken: dict[int, int] = {}  # experiment -> index of its line

    def check(self) -> int:
        """Read the script now; the number of its proposals. Raises ResearcherMisconfigured with file and line."""
        self._lines = read_script(self.path)
        return len(self._lines)

    def ended(self, state: State, experiment: int) -> str | None:
        """A script has an end: said before an experiment is begun in vain."""
        count = self.check() if self._lines is None else len(self._lines)
        return None if position(state, experiment) < count else _played(count)

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """The next proposal. One that does not apply is handed over as it is: the engine turns it down.

        Raises ProposalFailed when asked again after that.
        """
        if self._lines is None:
            await asyncio.to_thread(self.check)
        lines = self._lines or ()
        index = self._line_for(brief)
        if index >= len(lines):
            raise ScriptEnded(_played(len(lines)), where=str(self.path))
        line = lines[index]
        if brief.feedback:  # a script has no other answer
            raise ProposalFailed(brief.feedback, where=f"{self.path}:{line.number}", hint="correct this line")
        await _think(stream, line)
        if line.usage:
            stream.usage(line.usage)
        extra: dict[str, Any] = {**line.proposal.extra, ORDINAL: index}
        return replace(line.proposal, extra=extra)

    def _line_for(self, brief: Brief) -> int:
        """The line of this experiment: the same one when it is asked for again, else the first that nobody has."""
        if brief.experiment not in self._taken:
            index = position(brief.state, brief.experiment)
            while index in self._taken.values():
                index += 1  # two are being thought about at once, and neither is in the log yet
            self._taken[brief.experiment] = index
        return self._taken[brief.experiment]

    async def close(self) -> None:
        return None


async def _think(stream: Stream, line: Line) -> None:
    """Stream the line's thinking in pieces, word by word, spread over its seconds."""
    words = line.thinking.split(" ")
    pieces = max(1, min(len(words), round(line.seconds / PIECE_SECONDS)))
    step = math.ceil(len(words) / pieces)
    groups = [words[i : i + step] for i in range(0, len(words), step)]
    for n, group in enumerate(groups):
        if line.seconds:
            await asyncio.sleep(line.seconds / len(groups))
        if line.thinking:
            stream.thinking(" ".join(group) + (" " if n + 1 < len(groups) else ""))


def _played(count: int) -> str:
    if count < 2:
        return "the script's one proposal is played" if count else "the script holds no proposal"
    return f"the script's {count} proposals are all played"
