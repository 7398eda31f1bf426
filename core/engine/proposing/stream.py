"""Stream of a researcher's reasoning: a file that screens follow, and its costs and waits as events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from core.clock import now
from core.engine.journal import Journal
from core.record import events as e
from core.record.proposal import Usage

FLUSH_SECONDS = 0.15

Counted = Callable[[float], Awaitable[None]]


class ThinkingStream:
    """The Stream of one experiment. Text is flushed a few times a second, so that calls are cheap."""

    def __init__(self, experiment: int, path: Path, journal: Journal, counted: Counted) -> None:
        """`counted` is awaited between two answers, when the costs of the earlier ones are in the log, with the dollars
        of the latest one: the next costs about as much.
        """
        self._counted = counted
        self._latest = 0.0
        self._experiment = experiment
        self._journal = journal
        self._path = path
        self._file: IO[str] | None = None
        self._kind = ""
        self._pieces: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._facts: asyncio.Queue[e.Body | None] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self.waiting = ""

    async def __aenter__(self) -> ThinkingStream:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = asyncio.create_task(self._write_facts())
        return self

    async def __aexit__(self, *_: object) -> None:
        """All text and events are on disk when this returns, also after an error."""
        self._flush()
        if self._file:
            self._file.close()
        self._facts.put_nowait(None)
        if self._writer:
            await self._writer

    async def _write_facts(self) -> None:
        while (fact := await self._facts.get()) is not None:
            try:
                await self._journal.write(fact)
            finally:
                self._facts.task_done()

    def _append(self, kind: str, text: str, whole: bool = False) -> None:
        if not text:
            return
        if kind != self._kind or whole:
            self._flush()
            self._kind = kind
        self._pieces.append(text)
        if whole:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._pieces:
            return
        line = {"t": round(now(), 2), "k": self._kind, "s": "".join(self._pieces)}
        self._pieces.clear()
        try:
            if self._file is None:
                self._file = self._path.open("a", encoding="utf-8", errors="replace")
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError:
            self._file = None  # a full disk loses the text, never the experiment

    def thinking(self, text: str) -> None:
        self.waiting = ""
        self._append("thinking", text)

    def text(self, text: str) -> None:
        self.waiting = ""
        self._append("text", text)

    def tool(self, text: str) -> None:
        self._append("tool", text, whole=True)

    def note(self, text: str) -> None:
        self._append("note", text, whole=True)

    def warn(self, text: str) -> None:
        self.note(text)
        self._facts.put_nowait(e.Noted("warning", text, self._experiment))

    def usage(self, usage: Usage) -> None:
        self._latest = usage.usd or 0.0
        self._facts.put_nowait(e.Spent(experiment=self._experiment, **asdict(usage)))

    async def before_asking(self) -> None:
        await self._facts.join()
        if self._writer and self._writer.done():
            await self._writer  # raises the fault of the log
        await self._counted(self._latest)
        await asyncio.sleep(0)  # where a cancellation by it takes hold

    def refused(self, attempt: int, reason: str) -> None:
        self.note(f"refused ({attempt}): {reason}")
        self._facts.put_nowait(e.ProposalRefused(self._experiment, attempt, reason))

    async def wait(self, reason: str, seconds: float, attempt: int) -> None:
        self.waiting = reason
        self.note(f"waiting {seconds:.0f} s: {reason} (try {attempt})")
        number = self._experiment
        self._facts.put_nowait(e.ResearcherWaiting(experiment=number, reason=reason, seconds=seconds, attempt=attempt))
        try:
            await asyncio.sleep(seconds)
        finally:
            self.waiting = ""
