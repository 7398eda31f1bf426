"""What is left out of requests that a server rejects, and the trial that shows which part of it was the reason.

A complaint that names nothing is answered by leaving out one thing after the other. Once the server accepts, all but
the last of them are sent again with the next request; a single one is sent again too, because the complaint may have
had a cause of the moment. Only what is rejected again stays out for good.
"""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any


class Omissions:
    """Those of one request. `whole`: its options as they would be without what was left out for no named reason."""

    def __init__(self, options: Any) -> None:
        self.whole = copy.copy(options)
        self.blind = 0  # things left out without a name
        self._before = copy.copy(options)
        self._last: dict[str, Any] = {}

    def named(self, options: Any) -> None:
        """The server named what it rejects, and that is left out of `options`: for good."""
        self.whole = replace(self.whole, **_changes(self._before, options))
        self._before = copy.copy(options)

    def unnamed(self, options: Any) -> None:
        """One more thing is left out of `options` to see whether it was the reason."""
        self._last = _changes(self._before, options)
        self._before = copy.copy(options)
        self.blind += 1

    def trial(self, accepted: Any) -> tuple[Any, Any]:
        """(options of the next request, those to return to when they are rejected), after `accepted` ones."""
        keep_last = self.blind > 1 or "tools" in self._last  # a conversation in plain text would not try them
        return replace(self.whole, **(self._last if keep_last else {})), copy.copy(accepted)


def _changes(before: Any, after: Any) -> dict[str, Any]:
    return {f.name: getattr(after, f.name) for f in fields(after) if getattr(before, f.name) != getattr(after, f.name)}
