"""A person's own editor on a temporary copy: the app steps aside, and the engine's word is still listened to."""

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

from core.edits.apply import matches
from core.record.errors import AutoresearchError, UsageError

if TYPE_CHECKING:
    from textual.app import App

USUAL = ("nano", "vim", "vi", "emacs -nw", "micro")
MOST_FILES = 20  # given to the editor by name; of more, their folder
LARGEST = 2 * 1024 * 1024  # bytes


def editor_command(chosen: str, environment: Mapping[str, str]) -> list[str]:
    """The words that start the editor: the setting, $VISUAL, $EDITOR, or what is there. Raises UsageError."""
    hint = "set $EDITOR, or `editor` in the settings, such as: vim"
    for text in (chosen, environment.get("VISUAL", ""), environment.get("EDITOR", "")):
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"the editor {text!r} cannot be read ({error})", hint=hint) from error
        if words:
            if shutil.which(words[0], path=environment.get("PATH")) is None:
                raise UsageError(f"there is no program {words[0]!r} to edit with", hint=hint)
            return words
    for text in USUAL:
        if shutil.which(text.split()[0], path=environment.get("PATH")):
            return text.split()
    raise UsageError("there is no editor here", hint=hint)


class Editor:
    """Runs one editor at a time in the app's terminal."""

    def __init__(self, app: App[int], environment: Mapping[str, str]) -> None:
        self._app = app
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def busy(self) -> bool:
        return self._process is not None

    async def edit(self, chosen: str, words: Sequence[str], folder: Path) -> None:
        """Open files (or the folder) and wait for the editor's end. Raises UsageError when it fails."""
        command = editor_command(chosen, self._environment)
        with self._aside():
            try:
                self._process = await asyncio.create_subprocess_exec(*command, *words, cwd=folder)
                code = await self._process.wait()
            except OSError as error:
                raise UsageError(f"{command[0]} could not be started ({error.strerror})") from error
            finally:
                self._process = None
        if code != 0:
            raise UsageError(f"{command[0]} ended with {code}: nothing was taken over")

    def end(self) -> None:
        """The app must go: the editor with it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """The terminal is the editor's; nothing is painted, and ctrl-c is the editor's too."""
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


class Copy:
    """Texts in a temporary folder of their own, as they were and as they are after an editor: `with Copy(texts)`."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._before = dict(texts)
        self._holder = tempfile.TemporaryDirectory(prefix="autoresearch-edit-")
        self.folder = Path(self._holder.name)

    def __enter__(self) -> Copy:
        for name, text in self._before.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.cleanup()

    @property
    def words(self) -> list[str]:
        """What to give the editor."""
        return sorted(self._before) if 0 < len(self._before) <= MOST_FILES else ["."]

    def changed(self, allowed: Sequence[str] | None = None) -> dict[str, str]:
        """Files whose text differs, new ones that match `allowed` too. Raises UsageError for what cannot be taken."""
        found: dict[str, str] = {}
        for name, text in self._before.items():
            path = self.folder / name
            if not path.is_file() or path.is_symlink():
                raise UsageError(
                    f"{name} is gone", hint="empty a file that should hold nothing; files stay where they are"
                )
            new = _read(path, name)
            if new != text:
                found[name] = new
        for path in self.folder.rglob("*") if allowed is not None else ():
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not path.is_symlink() and name not in self._before and matches(name, allowed or ()):
                found[name] = _read(path, name)
        return found

    def diff(self, changed: Mapping[str, str]) -> str:
        """A unified diff of what changed."""
        return "".join(unified(name, self._before.get(name, ""), text) for name, text in sorted(changed.items()))


def unified(name: str, before: str, after: str) -> str:
    """One file's unified diff, with its name as git writes it."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}", n=3
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _read(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{name} is larger than {LARGEST // 2**20} MB")
        with path.open(encoding="utf-8", newline="") as handle:
            return handle.read()
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no UTF-8 text") from None
    except OSError as error:
        raise AutoresearchError(f"{name} cannot be read ({error.strerror})") from error
