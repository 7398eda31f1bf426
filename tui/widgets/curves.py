"""Loss curves, read from the files that the engine writes beside the log."""

from __future__ import annotations

from core.client import FileTail
from core.session import SessionPaths

KEPT_POINTS = 4000


class Curves:
    """The loss curves of the runs somebody looks at: (seconds, loss) pairs, read as they grow."""

    def __init__(self, paths: SessionPaths) -> None:
        self._paths = paths
        self._known: dict[int, tuple[FileTail, list[tuple[float, float]], list[str]]] = {}

    def poll(self, runs: set[int]) -> None:
        """Read what is new for `runs`, and forget all others."""
        for run in set(self._known) - runs:
            del self._known[run]
        for run in runs:
            if run not in self._known:
                self._known[run] = (FileTail(self._paths.run(run) / "curve.tsv"), [], [""])
            tail, points, partial = self._known[run]
            *lines, partial[0] = (partial[0] + tail.read()).split("\n")
            points += [p for line in lines if (p := _point(line))]
            if len(points) > KEPT_POINTS:
                del points[: len(points) - KEPT_POINTS : 2]

    def of(self, run: int) -> list[tuple[float, float]]:
        return self._known[run][1] if run in self._known else []


def _point(line: str) -> tuple[float, float] | None:
    """`seconds<TAB>step<TAB>loss`, or None for anything else."""
    fields = line.split("\t")
    try:
        x, loss = float(fields[0]), float(fields[-1])
    except (ValueError, IndexError):
        return None
    return (x, loss) if len(fields) >= 2 and abs(loss) < 1e9 else None
