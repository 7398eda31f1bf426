"""Finding of an examination: what was looked at, whether it is ready, and the hint where it is not."""

from __future__ import annotations

from dataclasses import dataclass

from core.record.errors import AutoresearchError


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one examination. `ok` None: a remark."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""


def failed(name: str, error: AutoresearchError) -> Finding:
    return Finding(name, False, f"{error.where}: {error.what}" if error.where else error.what, error.hint)
