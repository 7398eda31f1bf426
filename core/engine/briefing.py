"""What a researcher is told for one experiment, gathered from the parent's commit, the log and program.md."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping

from core.engine.journal import Journal
from core.engine.judging import MENDS, TAIL_LINES
from core.engine.setup import Setup
from core.record import events as e
from core.record.edits import apply_edits, matches
from core.record.proposal import Proposal
from core.record.state import Guidance
from core.research.protocol import Brief


class Briefing:
    """Makes the Brief of each experiment. `info` is what the project's `prepare` said of its data."""

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self._setup = setup
        self._journal = journal
        self.info: Mapping[str, object] = {}

    async def brief(self, experiment: int, parent: int, commit: str) -> tuple[Brief, list[Guidance]]:
        """The Brief for `experiment` on `parent`, whose code is `commit`, and the guidance that is told in it."""
        setup, state = self._setup, self._journal.state
        program = setup.program
        files = await asyncio.to_thread(self._read, commit, program.edit)
        read_files = await asyncio.to_thread(self._read, commit, program.read)
        guidance = state.in_force()

        def check(proposal: Proposal) -> Mapping[str, str]:
            return apply_edits(files, proposal.edits, may_edit=lambda path: matches(path, program.edit))

        snapshot = copy.copy(state)
        snapshot.experiments = dict(state.experiments)
        brief = Brief(
            experiment=experiment,
            parent=parent,
            program=program,
            files=files,
            read_files={k: v for k, v in read_files.items() if k not in files},
            state=snapshot,
            check=check,
            diff_of=self._diff_of,
            log_tail_of=self._log_tail_of,
            guidance=tuple(g.text for g in guidance),
            feedback=self._feedback(experiment),
            device=setup.kind,
            run_budget=str(program.run_budget(setup.kind)),
            info=self.info,
        )
        return brief, guidance

    def _read(self, commit: str, patterns: tuple[str, ...]) -> dict[str, str]:
        if not patterns:
            return {}
        texts = {path: self._setup.repo.read(commit, path) for path in self._setup.repo.files(commit, patterns)}
        return {path: text for path, text in texts.items() if text is not None}

    def _diff_of(self, experiment: int) -> str:
        bodies = [event.body for event in self._journal.log.events_of(experiment)]
        return next((b.diff for b in reversed(bodies) if isinstance(b, (e.Proposed, e.Rebased)) and b.diff), "")

    def _log_tail_of(self, experiment: int) -> str:
        bodies = [event.body for event in self._journal.log.events_of(experiment)]
        return next((b.log_tail for b in reversed(bodies) if isinstance(b, e.RunFinished) and b.log_tail), "")

    def _feedback(self, experiment: int) -> str:
        """What a researcher is told whose proposal crashed: the reason, the end of the output, and its own change."""
        x = self._journal.state.experiments.get(experiment)
        if x is None or not x.mends:
            return ""
        tail = "\n".join(self._log_tail_of(experiment).splitlines()[-TAIL_LINES:])
        return (
            f"Your change for this experiment crashed: {x.reason}\n\nThe end of its output:\n{tail}\n\n"
            f"The change was (the files you see are without it):\n{self._diff_of(experiment)}\n"
            f"Mend it, keeping the idea (attempt {x.mends} of {MENDS})."
        )
