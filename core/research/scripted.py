"""Researcher `scripted`: plays a file of proposals, one JSON object per line.

Beside the fields of a proposal a line may have `thinking` (text to stream), `seconds` (duration) and `usage`
(`{"input_tokens", "output_tokens", "cached_tokens", "usd"}`, to be charged). Empty lines and lines that start with
`//` are skipped. The whole file is checked before the first proposal, so a mistake in line 9 is reported at once.
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
from core.research.protocol import Brief, Researcher, Stream
from core.text import plural

NAME = "scripted"
INDEX_KEY = "script"  # key in a proposal's `extra`: the index of its line among the proposals, from 0
PIECE_SECONDS = 0.1  # between two pieces of streamed thinking
HINT = 'each line is one JSON object: {"hypothesis", "edits": [{"path", "search", "replace"}], …}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptLine:
    """One line of a script. `number` counts from 1; `seconds`: how long the researcher takes for it."""

    number: int
    proposal: Proposal
    thinking: str
    seconds: float
    usage: Usage | None


def read_script(path: Path) -> tuple[ScriptLine, ...]:
    """Every proposal of a script. Raises ResearcherMisconfigured with file and line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        what, hint = f"the script cannot be read: {reason}", "give a readable file with --script"
        raise ResearcherMisconfigured(what, where=str(path), hint=hint) from None
    return tuple(
        _parse(raw, number, f"{path}:{number}")
        for number, raw in enumerate(text.split("\n"), 1)
        if raw.strip() and not raw.lstrip().startswith("//")
    )


def _parse(raw: str, number: int, where: str) -> ScriptLine:
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ResearcherMisconfigured(f"the line is not JSON: {error}", where=where, hint=HINT) from None
    try:
        proposal = proposal_from_plain(plain)
    except AutoresearchError as error:
        raise ResearcherMisconfigured(error.what, where=where, hint=error.hint or HINT) from None
    thinking, seconds = plain.get("thinking", ""), plain.get("seconds", 0.0)
    if not isinstance(thinking, str):
        raise ResearcherMisconfigured('"thinking" is not text', where=where, hint=HINT)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ResearcherMisconfigured('"seconds" is not a number of seconds', where=where, hint=HINT)
    usage = _usage(plain.get("usage"), where)
    return ScriptLine(number=number, proposal=proposal, thinking=thinking, seconds=float(seconds), usage=usage)


def _usage(plain: object, where: str) -> Usage | None:
    if plain is None:
        return None
    names = ("input_tokens", "output_tokens", "cached_tokens", "usd")
    given: Mapping[str, Any] = plain if isinstance(plain, Mapping) else {"": plain}
    if not all(k in names and isinstance(v, int | float | None) and not isinstance(v, bool) for k, v in given.items()):
        hint = f"give any of {', '.join(names)} as a number"
        raise ResearcherMisconfigured('"usage" is not valid', where=where, hint=hint)
    tokens, usd = {name: int(given.get(name) or 0) for name in names[:3]}, given.get("usd")
    return Usage(**tokens, usd=None if usd is None else float(usd))


def script_index(state: State, experiment: int) -> int:
    """Index (from 0) of the script's proposal for `experiment`, the same before and after a resume.

    A proposal belongs to one experiment for good; the log says to which, once it is proposed. Other scripted
    experiments without a proposal in the log take the first free one each, in order of number, when they have a
    verdict (skipped or refused while they were thinking) or a smaller number without a verdict (they are thinking
    now); `abandoned` ones do not count, because they never got their proposal. The first one still free is ours. So an
    experiment that a crash interrupted is not proposed twice.
    """
    others = [x for n, x in sorted(state.experiments.items()) if n != experiment and x.researcher == NAME]
    used = {x.extra[INDEX_KEY] for x in others if INDEX_KEY in x.extra}
    for x in others:
        pending = x.verdict is None and x.number < experiment and not x.hypothesis
        if x.number != BASELINE and INDEX_KEY not in x.extra and (pending or x.verdict not in (None, "abandoned")):
            used.add(_first_free(used))
    return _first_free(used)


def _first_free(used: set[object]) -> int:
    return next(n for n in range(len(used) + 1) if n not in used)


class ScriptedResearcher(Researcher):
    """Plays the proposals of `path` in order; ScriptEnded after the last."""

    name = NAME
    can_revise = False  # a script has one answer

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: tuple[ScriptLine, ...] | None = None
        self._index_of: dict[int, int] = {}  # experiment -> index of its line

    def check(self) -> int:
        """Read the script; the number of its proposals. Raises ResearcherMisconfigured with file and line."""
        self._lines = read_script(self.path)
        return len(self._lines)

    def ended(self, state: State, experiment: int) -> str | None:
        count = self.check() if self._lines is None else len(self._lines)
        return None if script_index(state, experiment) < count else _played(count)

    async def propose(self, brief: Brief, stream: Stream) -> Proposal:
        """The next proposal, even if it does not apply. Raises ProposalFailed when asked again after a refusal."""
        if self._lines is None:
            await asyncio.to_thread(self.check)
        lines = self._lines or ()
        index = self._reserve(brief)
        if index >= len(lines):
            raise ScriptEnded(_played(len(lines)), where=str(self.path))
        line = lines[index]
        if brief.feedback:  # a script has no other answer
            raise ProposalFailed(brief.feedback, where=f"{self.path}:{line.number}", hint="correct this line")
        await _think(stream, line)
        if line.usage:
            stream.usage(line.usage)
        return replace(line.proposal, extra={**line.proposal.extra, INDEX_KEY: index})

    def _reserve(self, brief: Brief) -> int:
        """Index of this experiment's line: the same when asked again, else the first that is not reserved."""
        if brief.experiment not in self._index_of:
            index = script_index(brief.state, brief.experiment)
            while index in self._index_of.values():
                index += 1  # two experiments think at once, and the log has neither yet
            self._index_of[brief.experiment] = index
        return self._index_of[brief.experiment]


async def _think(stream: Stream, line: ScriptLine) -> None:
    """Stream the line's thinking in groups of words, spread over its seconds."""
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
    return f"the script has ended after {plural(count, 'proposal')}" if count else "the script has no proposal"
