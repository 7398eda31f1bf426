"""A person's own editor on a temporary copy of files, in the app's terminal"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.edits.globs import matches
from core.record.errors import AutoresearchError, UsageError

if TYPE_CHECKING:
    from textual.app import App

USUAL_EDITORS = ("nano", "vim", "vi", "emacs -nw", "micro")
MAX_NAMED_FILES = 20  # on the editor's command line
MAX_FILE_BYTES = 2 * 1024 * 1024


def editor_command(chosen: str, environment: Mapping[str, str]) -> list[str]:
    """The editor's command line: the setting, $VISUAL, $EDITOR, or an installed editor. Raises UsageError."""
    hint = "set $EDITOR, or `editor` in the settings, such as: vim"
    for text in (chosen, environment.get("VISUAL", ""), environment.get("EDITOR", "")):
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"the editor command {text!r} is invalid ({error})", hint=hint) from error
        if words:
            if shutil.which(words[0], path=environment.get("PATH")) is None:
                raise UsageError(f"there is no program {words[0]!r} to edit with", hint=hint)
            return words
    for text in USUAL_EDITORS:
        if shutil.which(text.split()[0], path=environment.get("PATH")):
            return text.split()
    raise UsageError("no editor is installed", hint=hint)


class Editor:
    """Runs one editor at a time in the app's terminal."""

    def __init__(self, app: App[int], environment: Mapping[str, str]) -> None:
        self._app, self._environment = app, environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def busy(self) -> bool:
        return self._process is not None

    async def edit(self, chosen: str, words: Sequence[str], folder: Path) -> None:
        """Open files (or the folder) and wait until the editor ends. Raises UsageError when it fails."""
        command = editor_command(chosen, self._environment)
        with self._suspended():
            try:
                self._process = await asyncio.create_subprocess_exec(*command, *words, cwd=folder)
                code = await self._process.wait()
            except OSError as error:
                raise UsageError(f"{command[0]} could not be started ({error.strerror})") from error
            finally:
                self._process = None
        if code != 0:
            raise UsageError(f"{command[0]} ended with exit code {code}: no change was made")

    def end(self) -> None:
        """Terminate the editor, because the app ends."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    @contextlib.contextmanager
    def _suspended(self) -> Iterator[None]:
        """Give the terminal to the editor: the app paints nothing, and ctrl-c goes to the editor."""
        driver = self._app._driver
        if driver is None or not driver.can_suspend:
            yield
            return
        before = signal.signal(signal.SIGINT, lambda number, frame: None)
        try:
            with self._app.batch_update(), self._app.suspend():
                yield
        finally:
            signal.signal(signal.SIGINT, before)


class EditedCopy:
    """Copies of texts in a temporary folder, before and after an editor changed them: `with EditedCopy(texts)`."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = dict(texts)
        self._holder = tempfile.TemporaryDirectory(prefix="autoresearch-edit-")
        self.folder = Path(self._holder.name)

    def __enter__(self) -> EditedCopy:
        for name, text in self.texts.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.cleanup()

    @property
    def arguments(self) -> list[str]:
        """Names of the files for the editor's command line; of many, their folder."""
        return sorted(self.texts) if 0 < len(self.texts) <= MAX_NAMED_FILES else ["."]

    def changed(self, allowed: Sequence[str] | None = None) -> dict[str, str]:
        """Changed files, and new ones that match `allowed`. Raises UsageError for a file that cannot be used."""
        found: dict[str, str] = {}
        for name, text in self.texts.items():
            path = self.folder / name
            if not path.is_file() or path.is_symlink():
                raise UsageError(f"{name} is gone", hint="to clear a file, empty it; files cannot be deleted or moved")
            new = _read(path, name)
            if new != text:
                found[name] = new
        for path in self.folder.rglob("*") if allowed is not None else ():
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not path.is_symlink() and name not in self.texts and matches(name, allowed or ()):
                found[name] = _read(path, name)
        return found

    def diff(self, changed: Mapping[str, str]) -> str:
        return "".join(unified(name, self.texts.get(name, ""), text) for name, text in sorted(changed.items()))


def unified(name: str, before: str, after: str) -> str:
    """One file's unified diff, with its name as git writes it."""
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=3)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _read(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{name} is larger than {MAX_FILE_BYTES // 2**20} MB")
        with path.open(encoding="utf-8", newline="") as handle:
            return handle.read()
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text") from None
    except OSError as error:
        raise AutoresearchError(f"{name} cannot be read ({error.strerror})") from error
