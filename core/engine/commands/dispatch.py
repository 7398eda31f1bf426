"""Dispatch of a person's requests: each is accepted with a sentence, or refused with the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

from core.engine.journal import Journal
from core.record.commands import Command, Reply
from core.record.errors import CommandRefused

Handlers = Mapping[type, Callable[[Any], Awaitable[str]]]  # a command's type -> what carries it out


class LoopControl(Protocol):
    """The operations of the loop that commands need."""

    def carry(self, number: int) -> None: ...

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None: ...

    async def skip(self, number: int) -> None: ...

    async def stop(self, reason: str, *, now: bool) -> int: ...


async def dispatch(journal: Journal, handlers: Handlers, command: Command) -> Reply:
    """Hand the command to its handler. Raises CommandRefused, or the AutoresearchError of the handler."""
    if trouble := journal.held_up():
        hint = "free some space: the engine then continues by itself, and nothing is lost"
        raise CommandRefused(trouble, hint=hint)
    handler = handlers.get(type(command))
    if handler is None:
        raise CommandRefused("this engine does not do that", hint="stop it and start it again with this version")
    return Reply(True, await handler(command))
