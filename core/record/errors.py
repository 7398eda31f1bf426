"""Errors that reach a person, as one tree

AutoresearchError            what happened, where, and the hint
├── UsageError               arguments of a command line (exit 2)
├── ProgramError             program.md: the line, the reason, the hint
├── SettingsError            config.toml: the same
├── ProjectError             the repository or its files
│   ├── UncommittedChanges   in editable files: run from HEAD, or stop
│   └── DataNotChosen        `prepare` asks which data it shall prepare
├── SessionError             a session's folder or log
│   ├── NoSuchSession        (exit 3)
│   ├── SessionBusy          another engine holds the lock
│   ├── CardsTaken           other sessions use the cards
│   ├── LogCorrupt           session.db cannot be read
│   └── LogTooNew            written by a newer version
├── EngineError              the engine did not start, or does not answer
├── CommandRefused           the engine refused a command
├── EditError                a proposal's edits do not apply (shown to the researcher)
├── ResearcherError          a researcher cannot propose
│   ├── ResearcherMisconfigured   no key, unknown model: a person must correct it
│   ├── ProposalFailed       the answer holds no usable proposal
│   └── ScriptEnded          no more proposals: the session is finished
└── LabError                 git, sandbox, runner or scorer
    ├── GitError             git failed, exceeded its time limit, or is not installed
    │   └── GitConflict      a change does not apply on the new best
    └── ScorerFault          the scorer itself failed
"""

from __future__ import annotations

from collections.abc import Mapping


class AutoresearchError(Exception):
    """An error in three parts: what happened, where, and the hint (the step that corrects it)."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.hint:
            parts.append(f"  hint: {self.hint}")
        return "\n".join(parts)


class UsageError(AutoresearchError):
    exit_code = 2


class ProgramError(AutoresearchError):
    pass


class SettingsError(AutoresearchError):
    pass


class ProjectError(AutoresearchError):
    pass


class UncommittedChanges(ProjectError):
    pass


class DataNotChosen(ProjectError):
    """`choices`: commands to choose from, each with what it does."""

    def __init__(self, what: str, *, choices: Mapping[str, str], where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.choices = choices


class SessionError(AutoresearchError):
    pass


class NoSuchSession(SessionError):
    exit_code = 3


class SessionBusy(SessionError):
    def __init__(self, what: str, *, pid: int, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.pid = pid


class CardsTaken(SessionError):
    pass


class LogCorrupt(SessionError):
    pass


class LogTooNew(SessionError):
    pass


class EngineError(AutoresearchError):
    pass


class CommandRefused(AutoresearchError):
    pass


class EditError(AutoresearchError):
    pass


class ResearcherError(AutoresearchError):
    pass


class ResearcherMisconfigured(ResearcherError):
    pass


class ProposalFailed(ResearcherError):
    pass


class ScriptEnded(ResearcherError):
    pass


class LabError(AutoresearchError):
    pass


class GitError(LabError):
    """`message`: all that git printed on standard error."""

    def __init__(self, what: str, *, where: str = "", hint: str = "", message: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.message = message


class GitConflict(GitError):
    pass


class ScorerFault(LabError):
    pass
