"""What one part of the check of a session found: whether it fits, what does not, and where"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

Progress = Callable[[str], None]  # is told what is being checked


class Misfit(NamedTuple):
    """Something that does not fit: where, what, and the step that shows more or corrects it."""

    where: str
    what: str
    hint: str = ""


@dataclass(slots=True)
class Section:
    """`ok`: it fits; None: it could not be checked. `summary`: what was checked, in words; `notes`: no misfits."""

    name: str
    summary: str = ""
    checked: bool = True
    misfits: list[Misfit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool | None:
        return False if self.misfits else True if self.checked else None

    def misfit(self, where: str, what: str, hint: str = "") -> None:
        self.misfits.append(Misfit(where, what, hint))

    def advise(self, hint: str) -> None:
        """The step for all misfits so far, with the last of them, unless that has one of its own."""
        if self.misfits and not self.misfits[-1].hint:
            self.misfits[-1] = self.misfits[-1]._replace(hint=hint)

    @classmethod
    def unchecked(cls, name: str, why: str) -> Section:
        return cls(name, why, checked=False)
