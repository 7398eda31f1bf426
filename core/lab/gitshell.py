"""git commands as the lab runs them: no hooks, nothing inherited, one way of failing."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.record.errors import LabError, ProjectError

IDENTITY = {
    "GIT_AUTHOR_NAME": "autoresearch",
    "GIT_AUTHOR_EMAIL": "autoresearch@localhost",
    "GIT_COMMITTER_NAME": "autoresearch",
    "GIT_COMMITTER_EMAIL": "autoresearch@localhost",
}
# What a caller may say about git without turning our commands to another repository, index or identity.
_KEPT_VARIABLES = {
    "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
}  # fmt: skip
# No hook, no fsmonitor daemon, no refresh of the user's index, and file names as they are.
_SAFE = (
    "--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
    "-c", "core.quotePath=false", "-c", "gc.auto=0", "-c", "advice.detachedHead=false",
)  # fmt: skip


class GitShell:
    """Runs git at the top of one checkout (through GitPython's `Repo.git`)."""

    def __init__(self, git: Any, root: Path) -> None:
        self._git = git
        self.root = root

    def resolve(self, name: str) -> str | None:
        status, out, _ = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        return out.decode().strip() if status == 0 else None

    def text(self, *args: str, env: Mapping[str, str] | None = None) -> str:
        return self.bytes_(*args, env=env).decode("utf-8", "surrogateescape").strip()

    def bytes_(self, *args: str, env: Mapping[str, str] | None = None, stdin: bytes | None = None) -> bytes:
        status, out, error = self.run(*args, env=env, stdin=stdin)
        if status:
            verb = next(arg for arg in args if not arg.startswith("-"))
            raise LabError(
                f"git {verb} failed: {last_line(error)}",
                where=str(self.root),
                mend=f"mend what git says there, until `git status` and `git fsck` in {self.root} are content",
            )
        return out

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: bytes | None = None
    ) -> tuple[int, bytes, str]:
        """Exit status, standard output and standard error of one git command, run at the top of the checkout."""
        with tempfile.TemporaryFile() as source:
            source.write(stdin or b"")
            source.seek(0)
            status, out, error = self._git.execute(
                ["git", *_SAFE, *args],
                istream=source, env=dict(env or {}), with_extended_output=True, with_exceptions=False,
                stdout_as_string=False, strip_newline_in_stdout=False,
            )  # fmt: skip
        return int(status), bytes(out), str(error)


def scrub_environment() -> None:
    """Drop inherited GIT_* variables from this process: a GIT_DIR left by a hook would turn us to another repository.

    GitPython passes os.environ on and can only add to it, so this is the one place to do it.
    """
    for name in [n for n in os.environ if n.startswith("GIT_") and not n.startswith("GIT_PYTHON_")]:
        if name not in _KEPT_VARIABLES:
            del os.environ[name]


def cannot_open(project: Path, stderr: str) -> ProjectError:
    text = stderr.strip()
    if "dubious ownership" in text:
        match = re.search(r"repository at '([^']+)'", text)
        place = match[1] if match else str(project)
        return ProjectError(
            "the git repository belongs to another user, and git will not use it",
            where=place, mend=f"git config --global --add safe.directory '{place}'",
        )  # fmt: skip
    broken = next((place for place in (project, *project.parents) if (place / ".git" / "objects").is_dir()), None)
    if "not a git repository" in text and broken is not None:
        return ProjectError(
            "git does not know the repository here for one: its HEAD or configuration is broken",
            where=str(broken / ".git"),
            mend="put .git/HEAD right (it holds a line such as `ref: refs/heads/main`), or clone again",
        )
    if "not a git repository" in text:
        return ProjectError(
            "this is not a git repository: every experiment is a commit, so there must be one",
            where=str(project), mend="git init && git add -A && git commit -m 'first'",
        )  # fmt: skip
    if "must be run in a work tree" in text:
        return ProjectError("this folder is git's own", where=str(project), mend="start in the project's folder")
    said = last_line(text.removeprefix("stderr:").strip())
    return ProjectError(
        f"git cannot open the repository: {said}",
        where=str(project), mend=f"mend what git says, until it is content with: git -C '{project}' status",
    )  # fmt: skip


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().strip("'").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
