"""The researcher's own notebook: a small Markdown file beside the log that lasts as long as the session.

It is a file and no event, because it is text that is rewritten as a whole: the log keeps what happened, the notebook
what the researcher makes of it. A person may read and edit `sessions/<name>/notebook.md` at any time.
"""

from __future__ import annotations

from pathlib import Path

from core.record.errors import EditError
from core.session.disk import replace_file
from core.text import clean

LIMIT = 4_000  # characters of the whole notebook: it stands in every prompt


class Notebook:
    """Bounded text at `path`; without one it is kept in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._text = ""

    def read(self) -> str:
        """The notes, at most LIMIT characters (a file that a person has let grow is cut); empty when there are none."""
        if self._path is None:
            return self._text
        try:
            with self._path.open("rb") as file:
                raw = file.read(4 * LIMIT)
        except OSError:
            return ""
        return clean(raw.decode("utf-8", "replace"))[:LIMIT].strip()

    def add(self, text: str) -> str:
        """Write `text` below what stands there; returns all of it. Raises EditError when it would grow too long."""
        before, new = self.read(), clean(text).strip()
        if not new:
            raise EditError("there is nothing to note: the text is empty")
        return self._write(f"{before}\n{new}" if before else new, f" ({len(before):,} characters stand there)")

    def replace(self, text: str) -> str:
        """Put `text` in place of everything; empty text empties it. Raises EditError when it is too long."""
        return self._write(clean(text).strip(), "")

    def _write(self, text: str, there: str) -> str:
        if len(text) > LIMIT:
            raise EditError(
                f"the notebook would hold {len(text):,} characters, and takes {LIMIT:,}{there}",
                hint='rewrite all of it shorter with the action "replace": keep what still guides a choice',
            )
        self._text = text
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(self._path, (text + "\n" if text else "").encode(), durable=True)
            except OSError as error:
                raise EditError(f"the notebook could not be written ({error.strerror}); go on without it") from error
        return text
