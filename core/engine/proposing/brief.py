"""The Brief of an experiment: the parent's files, the history, guidance, and the check of a proposal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from core.edits.apply import MAX_BYTES, apply_edits, clean_path, is_path
from core.edits.globs import matches
from core.edits.rules import check_rules, imported, modules
from core.engine.proposing.agent_workspace import EngineWorkspace
from core.engine.proposing.novelty import Novelty
from core.engine.runs.workplace import Workplace
from core.engine.startup.setup import EnginePart
from core.engine.verdict import MAX_REPAIRS, MAX_TAIL_LINES
from core.lab.git.tree_hash import CommitTree
from core.record import events as e
from core.record.errors import EditError
from core.record.proposal import Proposal
from core.record.state import Experiment, Guidance, State
from core.research.llm.history import alike
from core.research.notebook import Notebook
from core.research.protocol import Brief
from core.research.reading.arxiv import Arxiv
from core.research.reading.papers import Library
from core.session.homes import cache_home

MAX_CURVE_BYTES = 1_000_000  # of a run's curve that are read, from its end
MAX_PYTHON_FILES = 5000  # of a project that are searched for its imports


@dataclass(eq=False)
class Briefing(EnginePart):
    """Makes the Brief of each experiment."""

    place: Workplace

    def __post_init__(self) -> None:
        self._novelty = Novelty(self.repo)
        self._imports: frozenset[str] | None = None  # of the project, where a rule asks for them
        self._notebook = Notebook(self.paths.notebook)
        papers = self.setup.project / "papers"
        self._papers = Library(papers, self.paths.folder / "papers.db", Arxiv(cache_home() / "arxiv"))
        self._texts: dict[str, str | None] = {}  # object name -> text, of the last brief; None: not to be shown
        self._gathering = threading.Lock()  # several thoughts may begin, and check their proposals, at once
        self._considered: dict[int, _Considered] = {}  # what was checked last, by experiment, until it is committed

    async def brief(
        self,
        experiment: int,
        parent: int,
        commit: str,
        *,
        question: bool = True,
        beside: Collection[int] = (),
        held: Collection[int] = (),
    ) -> tuple[Brief, list[Guidance]]:
        """The Brief for `experiment` on `parent`, whose code is `commit`, and the guidance in it. `beside`: the other
        experiments that are being thought about; `held`: guidance for one experiment that one of them has.

        Without `question` (a person's own experiment) a hypothesis that was tested before is accepted.
        """
        setup, program = self.setup, self.program
        snapshot = self.state.copy()
        files = await asyncio.to_thread(self._gather, commit, program.edit, program.read)
        repairs = experiment in snapshot.experiments and snapshot.experiments[experiment].repairs > 0
        again = repairs or (experiment in snapshot.experiments and snapshot.experiments[experiment].returns > 0)
        queued = [g for g in snapshot.in_force(held) if not (g.idea and again)]  # a repair keeps its own idea
        brief = Brief(
            experiment=experiment,
            parent=parent,
            program=program,
            files=files.editable,
            read_files=files.read_only,
            state=snapshot,
            check=self._check(
                files, experiment, question=question and self.settings.researcher.can_repair, mind=question
            ),
            diff_of=self._diff_of,
            log_tail_of=self._log_tail_of,
            guidance=tuple(g.text for g in queued if not g.idea),
            feedback=self._feedback(experiment),
            device=setup.kind,
            run_budget=program.run_budget(setup.kind).words,
            info=self.place.prepared.info,
            ideas=tuple(g.text for g in queued if g.idea),
            rationale_of=self._rationale_of,
            curve_of=self._curve_of,
            notebook=self._notebook,
            workspaces=EngineWorkspace(setup, self.settings, self.place, experiment, commit),
            papers=self._papers,
            thinking={n: self._considered[n].hypothesis if n in self._considered else "" for n in beside},
        )
        return brief, queued

    # --- the check of a proposal ---

    def _check(
        self, files: _Files, experiment: int, *, question: bool, mind: bool
    ) -> Callable[[Proposal], Mapping[str, str]]:
        """The Brief's `check`: applies a proposal, and refuses what has run before. A hypothesis that was tested before
        is refused once, when the researcher can answer; proposed again, it is accepted. `mind`: other minds are
        told of it.
        """
        program, questioned = self.program, not question

        def check(proposal: Proposal) -> Mapping[str, str]:
            nonlocal questioned
            for edit in proposal.edits:
                if clean_path(edit.path) in files.unreadable:
                    raise EditError("is not UTF-8 text, or too large, and cannot be edited", where=edit.path)
                if clean_path(edit.path) in files.outside:
                    raise EditError("lies outside the sparse checkout, and no run has it", where=edit.path)
            changed = apply_edits(files.editable, proposal.edits, may_edit=lambda path: matches(path, program.edit))
            files.tree.refuse_links(changed)
            check_rules(self.program.rules, files.editable, changed, self._imports or ())
            considered = _Considered(proposal.hypothesis, files.tree.hash_with(changed))
            with self._gathering:
                state = self._learn()
                self._novelty.refuse_repeat(considered.tree, experiment, state)
                beside = self._considered_by_another(considered, experiment) if mind else ""
                if mind:
                    self._considered[experiment] = considered
            if not questioned:
                questioned = True
                if asked := self._novelty.question(proposal.hypothesis, experiment, state) or beside:
                    other = "propose something else; or propose it again, with what is different now in its rationale"
                    raise EditError(asked, hint=other)
            return changed

        return check

    def _considered_by_another(self, proposal: _Considered, experiment: int) -> str:
        """The experiment for which another mind proposes nearly the same now, in words; "" when none does. Raises
        EditError when the files are the same.
        """
        for number, other in list(self._considered.items()):
            if number == experiment:
                continue
            if other.tree == proposal.tree:
                what = f"this is about to run already: the files would be exactly those of experiment {number}"
                raise EditError(what, hint="propose another change; it costs nothing")
            if alike(other.hypothesis, proposal.hypothesis):
                return f"experiment {number}, which is being proposed now, is to test nearly the same hypothesis"
        return ""

    def forget(self, experiment: int) -> None:
        """The thought about `experiment` has ended."""
        self._considered.pop(experiment, None)

    def refuse_repeat(self, experiment: int, commit: str) -> None:
        """Raises EditError when the files of `commit` have run already, or are about to. Runs git."""
        with self._gathering:
            state = self._learn()
        self._novelty.refuse_repeat(self.repo.trees([commit]).get(commit, commit), experiment, state)

    # --- its contents ---

    def _gather(self, commit: str, edit: tuple[str, ...], read: tuple[str, ...]) -> _Files:
        """The parent's files. Runs git."""
        with self._gathering:
            self._find_imports()
            return self._files_of(commit, edit, read)

    def _learn(self) -> State:
        """Take in what is new in the session: also what other minds have proposed since the brief. Runs git."""
        state = replace(self.state, experiments=self.state.experiments.copy())
        self._novelty.learn(state)
        return state

    def _files_of(self, commit: str, edit: tuple[str, ...], read: tuple[str, ...]) -> _Files:
        tree = self.repo.tree(commit)
        outside = self.repo.outside_sparse()
        entries = {path: entry for path, entry in tree.files().items() if path not in outside and is_path(path)}
        wanted = {path: entries[path].sha for path in entries if matches(path, edit) or matches(path, read)}
        missing = [name for name in wanted.values() if name not in self._texts]
        blobs = self.repo.blobs(missing, MAX_BYTES)
        new = {name: _text(blobs.get(name)) for name in missing}
        self._texts = {name: new[name] if name in new else self._texts[name] for name in wanted.values()}
        texts = {path: self._texts[name] for path, name in wanted.items()}
        readable = {path: text for path, text in texts.items() if text is not None}
        editable = {path: text for path, text in readable.items() if matches(path, edit)}
        read_only = {path: text for path, text in readable.items() if path not in editable}
        unreadable = frozenset(texts.keys() - readable.keys())
        return _Files(tree=tree, editable=editable, read_only=read_only, unreadable=unreadable, outside=outside)

    def _find_imports(self) -> None:
        """Find what the project imports, once, when dependencies are frozen. Runs git."""
        if self._imports is None and self.program.rules.freeze_dependencies:
            repo = self.repo
            files = repo.tree(self.setup.commit).files()
            python = [path for path in sorted(files) if path.endswith((".py", ".pyi"))][:MAX_PYTHON_FILES]
            blobs = repo.blobs([files[path].sha for path in python], MAX_BYTES)
            texts = {path: blobs.get(files[path].sha, b"").decode("utf-8", "replace") for path in python}
            found = {name for path, text in texts.items() for name in imported(path, text)}
            self._imports = frozenset(found | modules(python))

    def _events(self, experiment: int) -> Iterator[e.Body]:
        """Events of one experiment, newest first."""
        return reversed([event.body for event in self.journal.log.events_of(experiment)])

    def _diff_of(self, experiment: int) -> str:
        events = self._events(experiment)
        return next((b.diff for b in events if isinstance(b, (e.Proposed, e.Rebased)) and b.diff), "")

    def _log_tail_of(self, experiment: int) -> str:
        x = self.state.experiments.get(experiment)
        of_others = {r.run for r in x.runs if r.kind == "reference"} if x else set()
        ended = [b for b in self._events(experiment) if isinstance(b, e.RunFinished) and b.run not in of_others]
        return next((b.log_tail for b in ended if b.log_tail), "")

    def _rationale_of(self, experiment: int) -> str:
        return next((b.rationale for b in self._events(experiment) if isinstance(b, e.Proposed)), "")

    def _curve_of(self, experiment: int) -> Sequence[tuple[float, float]]:
        x = self.state.experiments.get(experiment)
        if x is None or not x.runs:
            return ()
        try:
            with (self.paths.run(x.runs[-1].run) / "curve.tsv").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - MAX_CURVE_BYTES))
                lines = file.read(MAX_CURVE_BYTES).decode("ascii", "replace").splitlines()
        except OSError:
            return ()
        points = []
        for fields in (line.split("\t") for line in lines):
            try:
                points.append((float(fields[1]), float(fields[2])))
            except (ValueError, IndexError):
                continue  # cut off at the beginning, or still being written at the end
        return points

    def _returned(self, x: Experiment) -> bool:
        """Whether it was the queue, and not a run, from which `x` went back to the researcher last."""
        if not x.returns:
            return False
        back = (b for b in self._events(x.number) if isinstance(b, (e.ProposalReturned, e.RepairAsked)))
        return isinstance(next(back, None), e.ProposalReturned)

    def _feedback(self, experiment: int) -> str:
        """For a crashed proposal, and one that no longer applies: the reason and the change; else ""."""
        x = self.state.experiments.get(experiment)
        if x is not None and self._returned(x):
            if not self.settings.researcher.can_repair:
                return ""  # its change was not refused, and may be made again
            return (
                f"Your change for this experiment waited for its run, and cannot run any more: {x.reason}\n\n"
                f"The change was (the files you see are without it):\n{self._diff_of(experiment)}\n"
                "Make it again on these files if it is still worth a run, or propose another experiment."
            )
        if x is None or not x.repairs:
            return ""
        tail = "\n".join(self._log_tail_of(experiment).splitlines()[-MAX_TAIL_LINES:])
        return (
            f"Your change for this experiment crashed: {x.reason}\n\nThe end of its output:\n{tail}\n\n"
            f"The change was (the files you see are without it):\n{self._diff_of(experiment)}\n"
            f"Repair it, and keep the idea (attempt {x.repairs} of {MAX_REPAIRS})."
        )


@dataclass(frozen=True, slots=True)
class _Considered:
    """A proposal that a researcher has in mind: its hypothesis, and the tree that its files would have."""

    hypothesis: str
    tree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """A commit's files that a researcher sees: path -> text. One whose name cannot be written is not among them.

    `unreadable`: those that are no text, or too large. `outside`: those outside the user's sparse checkout.
    """

    tree: CommitTree
    editable: Mapping[str, str]
    read_only: Mapping[str, str]
    unreadable: frozenset[str]
    outside: frozenset[str]


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
