"""program.md's rules on a proposal, with what they need to know of the project's other code."""

from __future__ import annotations

from collections.abc import Mapping

from core.edits.apply import MAX_BYTES
from core.edits.rules import check_rules, imported, modules
from core.engine.session_settings import SessionSettings
from core.engine.startup.setup import Setup

MOST_FILES = 5000  # of a project's Python files that are looked into


class Ruling:
    """Applies the rules that hold now: program.md may change while a session runs."""

    def __init__(self, setup: Setup, settings: SessionSettings) -> None:
        self._setup = setup
        self._settings = settings
        self._known: frozenset[str] | None = None

    def learn(self) -> None:
        """Find out what the project imports, once, where a rule asks for it. Asks git, so not on the event loop."""
        if self._known is None and self._settings.program.rules.freeze_dependencies:
            repo = self._setup.repo
            files = repo.tree(self._setup.commit).files()
            python = [path for path in sorted(files) if path.endswith((".py", ".pyi"))][:MOST_FILES]
            blobs = repo.blobs([files[path].name for path in python], MAX_BYTES)
            texts = {path: blobs.get(files[path].name, b"").decode("utf-8", "replace") for path in python}
            found = {name for path, text in texts.items() for name in imported(path, text)}
            self._known = frozenset(found | modules(python))

    def check(self, before: Mapping[str, str], changed: Mapping[str, str]) -> None:
        """Raises EditError, in words for whoever proposed it."""
        check_rules(self._settings.program.rules, before, changed, self._known or ())
