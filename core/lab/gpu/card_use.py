"""Whether processes use a card: the driver's library or its devices are in their memory."""

from __future__ import annotations

from collections.abc import Iterable

_SIGNS = (b"/libcuda.so", b"/dev/nvidia")  # in the paths of what a process has mapped


def uses_card(pids: Iterable[int]) -> bool:
    """Whether one of these processes uses a card, or may not be looked at. One that has ended does not."""
    return any(map(_uses_card, pids))


def _uses_card(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:  # noqa: PTH123 - twenty times a second
            mapped = file.read()
    except PermissionError:
        return True
    except OSError:
        return False
    return any(sign in mapped for sign in _SIGNS)
