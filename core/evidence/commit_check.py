"""Commits and refs of a session, held against its log"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from core.evidence.section import Section
from core.evidence.stored_log import StoredLog
from core.git import Git, reason
from core.record.errors import GitError
from core.record.state import BASELINE
from core.session.chain import HEAD_REF, TRAILER, ChainHead
from core.session.paths import SessionPaths
from core.text import plural

_TRAILER = re.compile(rf"^{TRAILER}: (\S+)$", re.MULTILINE)
_HEAD_BYTES = 200  # more than the text that names a head has
_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(slots=True)
class SessionRefs:
    """What git holds of a session, read before the log is: the log is always ahead of git. `fault`: why nothing."""

    project: Path
    base: str
    refs: dict[str, str] = field(default_factory=dict)  # below refs/autoresearch/<session>/
    branch: str | None = None
    head: str = ""  # the log's head as it was written down
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Commit:
    tree: str
    parents: tuple[str, ...]
    time: int
    message: str
    intact: bool  # its id is the hash of its content


def read_refs(paths: SessionPaths) -> SessionRefs:
    found = SessionRefs(paths.project, f"refs/autoresearch/{paths.name}/")
    git = Git(paths.project)
    branch = f"refs/heads/{paths.branch}"
    try:
        status, _, error = git.run("rev-parse", "--git-dir")
        if status:
            found.fault = "there is no git repository here" if "not a git repo" in error else reason(error)
            return found
        out = git.text("for-each-ref", "--format=%(objectname) %(refname)", found.base, branch)
        for line in out.splitlines():
            name, _, ref = line.partition(" ")
            if ref == branch:
                found.branch = name
            elif ref.startswith(found.base):
                found.refs[ref.removeprefix(found.base)] = name
        if HEAD_REF in found.refs:
            text = git.run("cat-file", "blob", found.refs[HEAD_REF]).out[:_HEAD_BYTES]
            found.head = text.decode(errors="replace").strip() or "nothing"
    except (GitError, OSError) as error:
        found.fault = getattr(error, "what", str(error))
    return found


def check_commits(found: SessionRefs, log: StoredLog, *, alive: bool) -> Section:
    """Each experiment's ref and commit, the heads that commits name, and the session's branch. Raises GitError."""
    state, section = log.state, Section("git")
    if found.fault or state.session is None:
        return Section.unchecked("git", found.fault or "the log names no session")
    git, start = Git(found.project), state.session.commit
    wanted = [x.commit for x in state.experiments.values() if x.commit] + [start]
    commits = _read(git, wanted + [name for ref, name in found.refs.items() if ref.isdecimal()])
    if commits[start] is None:
        return Section.unchecked("git", f"this repository does not hold {start[:10]}, from which the session began")
    if found.head:
        _check_head(section, log, found.base + HEAD_REF, found.head)
    elif log.chained and state.judged:
        section.notes.append(f"{found.base}{HEAD_REF} is not there: git does not say how far the log had come")
    own, heads = 0, 0
    for number, x in state.experiments.items():
        if x.commit is None or number == BASELINE:
            continue
        own += 1
        busy = number in state.live  # an engine that was killed may not have come to the ref: the next one makes it
        _check_ref(section, found, number, x.commit, there=commits[x.commit] is not None, busy=busy)
        if (commit := commits[x.commit]) is not None:
            _check_commit(section, x.number, x.commit, commit, x.parent_commit)
            heads += _check_trailer(section, log, f"commit {x.commit[:10]} of #{number}", commit.message)
    if (found.head or heads) and not log.chained:
        section.misfit("session.db", "git names heads of its chain, and there is no hash in it: they were removed")
    _check_strangers(section, found, log, commits)
    _check_branch(git, section, found, log, alive=alive)
    named = f", {plural(heads, 'head')} of the log in them" if heads else ""
    section.summary = f"{plural(own, 'commit')} and {'its ref' if own == 1 else 'their refs'}{named}"
    return section


def _check_ref(section: Section, found: SessionRefs, number: int, commit: str, *, there: bool, busy: bool) -> None:
    ref, at = f"{found.base}{number}", found.refs.get(str(number))
    back = f"git update-ref {ref} {commit}" if there else "fetch it from where the session was pushed"
    if at is None and not busy:
        lost = "the ref is gone" if there else "ref and commit are gone"
        section.misfit(ref, f"{lost}: by the log it is at {commit[:10]}", back)
    elif at not in (None, commit) and not busy:
        section.misfit(ref, f"it is at {(at or '')[:10]}, and by the log at {commit[:10]}", back)
    elif at == commit and not there:
        section.misfit(ref, f"its commit {commit[:10]} cannot be read", "git fsck")


def _check_commit(section: Section, number: int, name: str, commit: _Commit, parent: str) -> None:
    where = f"commit {name[:10]} of #{number}"
    if not commit.intact:
        section.misfit(where, "its content does not hash to its name", "git fsck")
    if commit.parents != (parent,):
        section.misfit(where, f"its parent is {', '.join(p[:10] for p in commit.parents)}, by the log {parent[:10]}")


def _check_trailer(section: Section, log: StoredLog, where: str, message: str) -> bool:
    if not (named := _TRAILER.findall(message)):
        return False
    _check_head(section, log, where, named[-1])
    return True


def _check_head(section: Section, log: StoredLog, where: str, text: str) -> None:
    try:
        why = log.misfit_of(ChainHead.parse(text))
    except ValueError:
        why = f"it names {text[:40]!r} as the log's head"
    if why:
        section.misfit(where, why)


def _check_strangers(section: Section, found: SessionRefs, log: StoredLog, commits: dict[str, _Commit | None]) -> None:
    """Refs of experiments that the log does not have: its end was cut off, or an earlier session had this name."""
    session = log.state.session
    for ref, name in found.refs.items():
        number = int(ref) if ref.isdecimal() else 0
        x = log.state.experiments.get(number)
        if not number or (x is not None and x.commit is not None):
            continue
        commit = commits[name]
        began = next((event.time for event in log.events if event.body is session or event.seq == 1), 0.0)
        if commit is not None and commit.time < began - 1:
            section.notes.append(f"{found.base}{ref} is older than this session: of an earlier one of its name")
        else:
            what = "the log knows no such experiment: events were removed, or the ref was added"
            section.misfit(f"{found.base}{ref}", what)


def _check_branch(git: Git, section: Section, found: SessionRefs, log: StoredLog, *, alive: bool) -> None:
    state = log.state
    best = state.best_commit or (state.session.commit if state.session else "")
    branch = state.session.branch if state.session else ""
    behind = alive or state.engine_open  # killed before it moved the branch: the next engine does
    moving = behind and found.branch in {x.commit for x in state.experiments.values()} | {None}
    if found.branch in (None, best) or state.branch_held or moving:
        if found.branch is None and not state.failed_start:
            section.notes.append(f"the branch {branch} is gone; the best is at {found.base}{state.best}"
                                 if state.best else f"the branch {branch} is gone")  # fmt: skip
        return
    at = str(found.branch)
    if git.run("merge-base", "--is-ancestor", best, at).status == 0:
        section.notes.append(f"the branch {branch} has commits of yours after the best {best[:10]}")
    else:
        what = f"it is at {at[:10]}, and the best by the log is #{state.best} at {best[:10]}"
        section.misfit(branch, what, "an engine moves it back when it opens the session; what was there is kept")


def _read(git: Git, names: list[str]) -> dict[str, _Commit | None]:
    """Each commit, or None where it or its tree cannot be read. Two processes, however many there are."""
    wanted = [name for name in dict.fromkeys(names) if _NAME.fullmatch(name)]  # a log that was forged may have any text
    out = git.bytes_(
        "--no-replace-objects", "cat-file", "--batch", stdin="".join(f"{name}\n" for name in wanted).encode()
    )
    found: dict[str, _Commit | None] = dict.fromkeys(names)
    at = 0
    for name in wanted:
        end = out.index(b"\n", at)
        words = out[at:end].split()
        at = end + 1
        if len(words) == 3:
            size = int(words[2])
            if words[1] == b"commit":
                found[name] = _parsed(name, out[at : at + size])
            at += size + 1
    trees = [c.tree for c in found.values() if c is not None]
    asked = "".join(f"{tree}\n" for tree in trees).encode()
    listed = git.text("--no-replace-objects", "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
    there = {line.split()[0] for line in listed.splitlines() if line.endswith(" tree")}
    return {name: c if c is not None and c.tree in there else None for name, c in found.items()}


def _parsed(name: str, content: bytes) -> _Commit:
    header, _, message = content.partition(b"\n\n")
    lines = [line.partition(b" ") for line in header.splitlines()]
    committer = next((rest for key, _, rest in lines if key == b"committer"), b"0 +0000").rsplit(b" ", 2)
    algorithm = hashlib.sha1 if len(name) == 40 else hashlib.sha256
    digest = algorithm(b"commit %d\0" % len(content) + content).hexdigest()
    return _Commit(
        tree=next((rest.decode() for key, _, rest in lines if key == b"tree"), ""),
        parents=tuple(rest.decode() for key, _, rest in lines if key == b"parent"),
        time=int(committer[-2]) if committer[-2].isdigit() else 0,
        message=message.decode("utf-8", "replace"),
        intact=digest == name,
    )
