"""Changes after which the loss curve of a run says little of its end beside that of the code before the change"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

# In the words of a changed line, split at `_` and capitals. What changes the printed loss itself, the course of the
# learning rate, or what is saved in the end is never compared.
_NEVER = re.compile(
    r"sched|warm_?down|cool|anneal|cosin|final_lr|min_lr|lr_(?:min|final|mult|decay)|decay_(?:step|start|frac|ratio|iter|from)"
    r"|vocab|tokeni[sz]|loss|entrop|smooth|perplex|dropout|averag|augment|mixup|cutout|curricul|context|seq_len"
    r"|sequence_len|block_size|epoch|print|(?<![a-z])(?:nll|ema|swa|log|drop)(?![a-z])"
)
# What shows only once the learning rate falls.
_LATE = re.compile(r"batch|warm_?up|accum|micro_|rows|decay|regulari[sz]|noise|(?<![a-z])wd(?![a-z])")
_NEVER_KINDS, _LATE_KINDS = ("schedule", "data"), ("regularization",)


def comparable_from(kind: str, diff: str, decay: float) -> float:
    """Share of a run's time from which its curve may be held against that of its parent; infinite: never.

    `kind` of the hypothesis, `diff` of the change, `decay`: share of the time after which the learning rate falls.
    """
    lines = list(_changed(diff))
    if not lines or kind in _NEVER_KINDS or any(_NEVER.search(line) for line in lines):
        return math.inf
    return decay if kind in _LATE_KINDS or any(_LATE.search(line) for line in lines) else 0.0


def _changed(diff: str) -> Iterator[str]:
    """The code of the lines that a unified diff adds or removes, in lower case, words joined by `_`."""
    for line in diff.splitlines():
        if line[:1] in "+-" and line and not line.startswith(("+++ ", "--- ")):
            code = re.split(r"\s#|//", line[1:], maxsplit=1)[0]
            yield re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code).lower()
