"""Runner of git commands, for the lab, the client, the screen and the command line

It runs on GitPython, imported at the first command since that takes longer than a `status`. Whatever the environment
and the repository's configuration say, a command has no hook, fsmonitor, external diff, textconv, pager, prompt,
terminal or inherited variable that redirects git, fetches nothing, uses no bare repository inside a work tree, the C
locale and the given folder, and ends after a time limit. Configured filters (git-lfs) do run: without them a checkout
lacks the user's files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from core.record.errors import GitError
from core.temporary import own_folder

MAX_SECONDS = 600.0  # of one command, where the caller sets no limit
MAX_REASON_CHARACTERS = 400  # of git's message where it has no fatal line
IDENTITY = {
    "GIT_AUTHOR_NAME": "autoresearch",
    "GIT_AUTHOR_EMAIL": "autoresearch@localhost",
    "GIT_COMMITTER_NAME": "autoresearch",
    "GIT_COMMITTER_EMAIL": "autoresearch@localhost",
}
# Inherited variables that direct a command to another repository, index, object store, configuration or identity, or
# change how it reads paths and what it prints. All others pass: the user's git may work by them only.
_DROPPED = re.compile(
    r"GIT_(DIR|WORK_TREE|IMPLICIT_WORK_TREE|COMMON_DIR|INDEX_(FILE|VERSION)|OBJECT_DIRECTORY|QUARANTINE_PATH|NAMESPACE"
    r"|PREFIX|INTERNAL_SUPER_PREFIX|GRAFT_FILE|SHALLOW_FILE|NO_REPLACE_OBJECTS|REPLACE_REF_BASE|CONFIG"
    r"|CONFIG_PARAMETERS|ATTR_SOURCE|(LITERAL|GLOB|NOGLOB|ICASE)_PATHSPECS|DIFF_OPTS|EXTERNAL_DIFF|PAGER|EDITOR"
    r"|REFLOG_ACTION|(AUTHOR|COMMITTER)_\w+|TRACE\w*)"
)
# No refresh of the user's index, unquoted file names.
_SAFE = (
    "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "safe.bareRepository=explicit",
    "-c", "core.quotePath=false", "-c", "color.ui=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
    "-c", "advice.detachedHead=false", "-c", "credential.interactive=false",
)  # fmt: skip
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")
_NO_PROMPTS = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true", "SSH_ASKPASS_REQUIRE": "force"}
# Nothing is fetched: no object of a partial clone (GIT_NO_LAZY_FETCH is unknown to older versions), no file of git-lfs
# that the user's clone lacks, which is a pointer then as in the user's checkout.
_NO_FETCH = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "", "GIT_LFS_SKIP_SMUDGE": "1"}
_NOT_FETCHED = re.compile(r"could not fetch ([0-9a-f]{40,64}) from promisor remote")
_HALF_MADE = re.compile(r"failed to read \S.*/worktrees/[^/]+/commondir: Success")
_PAUSES = (0.01, 0.05, 0.2, 0.5, 1.0)  # seconds
_FAULT = re.compile(
    r"^fatal:|error\b|not found|denied|cannot|could not|unable to|failed|no space|quota|not allowed", re.IGNORECASE
)
_CONSEQUENCE = re.compile(
    "remote end hung up|Could not reset index file|packet write with format|Could not write client identification"
    "|Could not read from remote|write failure on standard output|\\(null\\)"
)
_DIFF = (
    "diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color",
    "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip


_running: dict[int, Path] = {}  # pid of each running command of this process -> its folder


class GitResult(NamedTuple):
    status: int
    out: bytes
    error: str


class Git:
    """git in one folder. Thread-safe.

    `seconds`: time limit of a command without its own. `hooks`: run the user's hooks and sign, for a commit in the
    user's name. `git_dir`: git's folder of the working tree `folder`, so that git does not look for either: a
    core.worktree of the shared configuration would direct a write to other files.
    """

    def __init__(
        self, folder: Path, *, seconds: float = MAX_SECONDS, hooks: bool = False, git_dir: Path | None = None
    ) -> None:
        self.folder = folder
        self._seconds = seconds
        given = (f"--git-dir={git_dir}", f"--work-tree={folder}") if git_dir else ()
        self._fixed = _NO_PROMPTS if hooks else {**_NO_PROMPTS, **_NO_FETCH}
        self._options = ("-C", str(folder), *given, *_SAFE, *(() if hooks else _NO_HOOKS))

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: bytes | None = None, seconds: float | None = None
    ) -> GitResult:
        """Exit status, standard output and standard error of one command. Raises GitError at the time limit.

        It is given again where it met the record of a worktree that another git was just making: git stops at that
        before it does anything.
        """
        for pause in _PAUSES:
            result = self._once(args, env, stdin, seconds)
            if not (result.status and _HALF_MADE.search(result.error)):
                break
            time.sleep(pause)
        return result

    def _once(
        self, args: tuple[str, ...], env: Mapping[str, str] | None, stdin: bytes | None, seconds: float | None
    ) -> GitResult:
        limit = self._seconds if seconds is None else seconds
        variables = {**self._fixed, **(env or {})}
        dropped = [name for name in os.environ if _DROPPED.fullmatch(name) and name not in variables]
        # GitPython can only add to the environment, and os.environ belongs to the whole process.
        command = ["env", *(word for name in dropped for word in ("-u", name))] if dropped else []
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(tempfile.TemporaryFile()) if stdin is not None else None
            if source is not None and stdin is not None:
                source.write(stdin)
                source.seek(0)
            process = _start([*command, "git", *self._options, *args], source, variables)
            _running[process.pid] = self.folder
            try:
                out, error = process.communicate(timeout=limit)
            except BaseException as fault:
                _kill(process.pid)
                if not isinstance(fault, subprocess.TimeoutExpired):
                    raise
                raise GitError(
                    f"git {_verb(args)} did not end within {limit:g} s",
                    where=str(self.folder), hint="check that the disk responds and that no other git holds a lock",
                ) from None  # fmt: skip
            finally:
                ended = _running.pop(process.pid, None) is None
        if ended:
            raise GitError(f"git {_verb(args)} was ended", where=str(self.folder))
        return GitResult(process.returncode, out, error.decode("utf-8", "replace"))

    def bytes_(self, *args: str, **more: Any) -> bytes:
        """Standard output of a command. Raises GitError with git's message when it fails."""
        status, out, error = self.run(*args, **more)
        if status:
            raise GitError(
                f"git {_verb(args)} failed: {reason(error or out.decode(errors='replace'))}",
                where=str(self.folder),
                hint=self._step(error),
                message=error,
            )
        return out

    def _step(self, error: str) -> str:
        """The step that corrects `error`."""
        here = f"git -C {shlex.quote(str(self.folder))}"
        if lacks := _NOT_FETCHED.search(error):
            return f"this partial clone lacks it; fetch it: {here} cat-file -t {lacks[1]}"
        return f"correct what git reports, until `git status` and `git fsck` succeed in {self.folder}"

    def text(self, *args: str, **more: Any) -> str:
        return self.bytes_(*args, **more).decode("utf-8", "surrogateescape").strip()

    def resolve(self, name: str) -> str | None:
        """The object of a revision, or None."""
        status, out, _ = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        return out.decode().strip() if status == 0 else None

    def diff(self, one: str, other: str, *how: str) -> bytes:
        """The difference between two commits, in the format of `how` (`-p`, `--numstat`, …)."""
        return self.bytes_(*_DIFF, *how, "--end-of-options", one, other)


@contextlib.contextmanager
def own_index() -> Iterator[dict[str, str]]:
    """The environment of commands that share an empty index of their own, instead of the working tree's."""
    with own_folder("index") as folder:
        yield {"GIT_INDEX_FILE": str(Path(folder, "index"))}


def require_git() -> None:
    """Raises GitError where git is not installed."""
    if shutil.which("git") is None:
        raise GitError("git is not installed", hint="install git, for example: apt-get install git")


def end_commands(folder: Path) -> None:
    """Kill this process's running git commands in `folder` and below, with their filters; each raises GitError."""
    for pid, where in list(_running.items()):
        if where.is_relative_to(folder) and _running.pop(pid, None) is not None:
            _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):  # the whole group: a filter would hold the pipes open
        os.killpg(pid, signal.SIGKILL)


def _start(command: list[str], source: Any, variables: Mapping[str, str]) -> Any:
    """Start the process, through GitPython."""
    require_git()
    try:
        import git  # heavy

        return git.Git().execute(command, istream=source, env=variables, as_process=True, start_new_session=True)
    except ImportError as error:  # importing GitPython runs git
        raise GitError(f"git does not work: {reason(str(error))}", hint="try: git --version") from None
    except OSError as error:
        raise GitError(f"could not start git: {error.strerror or error}") from None


def _verb(args: tuple[str, ...]) -> str:
    return next((arg for arg, before in zip(args, ("", *args), strict=False) if arg[:1] != "-" and before != "-c"), "")


def reason(message: str) -> str:
    """Why git failed: the first line of its message that tells a fault, and its last fatal line, which names the file.

    Lines that only tell a consequence are left out where another line is there.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.startswith("hint:")]
    telling = [line for line in lines if _FAULT.search(line)]
    telling = [line for line in telling if not _CONSEQUENCE.search(line)] or telling
    first = telling[:1]
    last = [line for line in telling[1:] if line.startswith(("fatal:", "error:"))][-1:]
    return (
        "; ".join(first + last)[:MAX_REASON_CHARACTERS] or " ".join(lines)[:MAX_REASON_CHARACTERS] or "no reason given"
    )
