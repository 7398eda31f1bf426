"""The researcher's notebook: a small Markdown file that is kept as long as the session.

It is not an event, because it is rewritten as a whole. The user may edit `sessions/<name>/notebook.md` at any time.
"""

from __future__ import annotations

from pathlib import Path

from core.record.errors import EditError
from core.session.disk import replace_file
from core.text import clean

MAX_CHARACTERS = 4_000  # of the whole notebook: every prompt contains it


class Notebook:
    """Bounded text at `path`; without a path it is kept in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._text = ""

    def read(self) -> str:
        """The notes, cut to MAX_CHARACTERS (the user may have made the file longer); empty when there are none."""
        if self._path is None:
            return self._text
        try:
            with self._path.open("rb") as file:
                raw = file.read(4 * MAX_CHARACTERS)
        except OSError:
            return ""
        return clean(raw.decode("utf-8", "replace"))[:MAX_CHARACTERS].strip()

    def add(self, text: str) -> str:
        """Append `text`; returns the whole notebook. Raises EditError when it would become too long."""
        before, new = self.read(), clean(text).strip()
        if not new:
            raise EditError("the note is empty", hint="give the text to add")
        return self._write(f"{before}\n{new}" if before else new, f" ({len(before):,} are used)")

    def replace(self, text: str) -> str:
        """Replace the whole notebook; empty text empties it. Raises EditError when it is too long."""
        return self._write(clean(text).strip(), "")

    def _write(self, text: str, used: str) -> str:
        if len(text) > MAX_CHARACTERS:
            what = f"the notebook would have {len(text):,} characters; the limit is {MAX_CHARACTERS:,}{used}"
            hint = 'rewrite all of it shorter with the action "replace": keep what still guides a choice'
            raise EditError(what, hint=hint)
        self._text = text
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(self._path, (text + "\n" if text else "").encode(), durable=True)
            except OSError as error:
                raise EditError(f"could not write the notebook ({error.strerror})", hint="continue without") from error
        return text
