"""Record of device checks in the state folder: what the last one on each card of each machine found"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from typing import Any

from core.record.errors import SessionError
from core.session.disk import read_json, write_json
from core.session.homes import state_home

FILE = "device-checks.json"
MAX_RECORDS = 64


def note_device_check(card: str, report: Mapping[str, Any]) -> str:
    """Keep the report of a check of `card` on this machine. Returns the file; "" where it cannot be written."""
    with contextlib.suppress(OSError, SessionError):
        path = state_home() / FILE
        known = read_json(path)
        known.pop(_key(card), None)
        write_json(path, {**dict(list(known.items())[1 - MAX_RECORDS :]), _key(card): dict(report)})
        return str(path)
    return ""


def last_device_check(cards: tuple[str, ...]) -> dict[str, Any] | None:
    """The newest report of a check of one of `cards` on this machine; None where there is none."""
    with contextlib.suppress(OSError, SessionError):
        known = read_json(state_home() / FILE)
        found = [report for card in cards if isinstance(report := known.get(_key(card)), dict)]
        return max(found, key=lambda report: str(report.get("date", "")), default=None)
    return None


def _key(card: str) -> str:
    return f"{platform.node()} {card}"
