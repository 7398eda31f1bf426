"""Whether a metric is a time or a speed: by its name, and by the words and the unit beside its number."""

from __future__ import annotations

import re

from core.program.printed_metric import unit_of

_UNIT = (
    r"(?:s|secs?|seconds?|ms|msecs?|millis(?:econds?)?|us|µs|usecs?|micros(?:econds?)?|ns|nsecs?|nanos(?:econds?)?"
    r"|mins|minutes?|h|hours?)\b"
)
# Something per time, as `tok/s` and `rounds per second`, or time per something, as `s/it`.
_RATE = re.compile(rf"[a-z%]+\s?/\s?{_UNIT}|(?:[a-z%]+\s)?per\s{_UNIT}|{_UNIT}\s?/\s?[a-z]+|fps\b", re.I)
_TIME_UNIT = re.compile(_UNIT, re.I)
_NAMES = re.compile(
    r"time|seconds|secs|sec|millis|milliseconds|ms|msec|us|usec|micros|microseconds|ns|nsec|nanoseconds"
    r"|minutes|hours|latency|duration|elapsed|runtime|walltime|wallclock|throughput|bandwidth|fps"
    r"|framerate|qps|rps|tps|ips|iops|ops|tokps|speed|speedup|[mgk]bps|[gt]flops|mfu"
)
# What may follow such a word: a statistic of it, or its unit.
_BESIDE = re.compile(
    r"a|avg|average|best|in|mean|median|min|minimum|max|maximum|total|sum|p50|p9\d|worst|wall|cpu|gpu"
    r"|clock|real|user|sys|s|secs?|seconds|[mun]s|minutes|hours"
)
# Numbers of another kind, of which a time is only a circumstance.
_QUALITY = re.compile(
    r"loss|acc|accuracy|err|errors?|scores?|rewards?|returns?|auc|f1|bleu|rouge|ppl|perplexity|bp[bc]|mse"
    r"|mae|rmse|mape|nll|mrr|map|ndcg|ssim|psnr|iou|dice|recall|precision|r2|corr|correlation|likelihood"
    r"|[wc]er|kl|elbo|fid|regret"
)
_COUNTED = re.compile(r"counts?|numbers?|num|n|survival|survived|alive|simulated|sim")


def timed(name: str, pattern: str | None = None) -> bool:
    """Whether a metric is measured by a clock, so that what else runs on the machine changes it.

    `pattern`: the regular expression that finds its number; the unit behind the number tells more than the name.
    """
    if pattern is not None and _unit_behind(pattern):
        return True
    words = re.findall(r"[a-zµ]+\d*|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    if words[1:2] == ["to"] and _NAMES.fullmatch(words[0]):
        return True
    if any(map(_QUALITY.fullmatch, words)):
        return False
    if _RATE.search(re.sub(r"[_\W]*\bper[_\W]+|_per_", " per ", name).replace("_", " ")):
        return True
    if not any(map(_COUNTED.fullmatch, words)) and any(_is_time(words, i) for i in range(len(words))):
        return True
    return pattern is not None and timed(_label(pattern))


def timed_unit(printed: str) -> bool:
    """Whether a printed number has the unit of a time or a speed: `980.3 ms`, `3:25`, `1204 tok/s`."""
    unit = unit_of(printed)
    return unit == "min" or bool(_TIME_UNIT.fullmatch(unit) or _RATE.fullmatch(unit))


def _is_time(words: list[str], at: int) -> bool:
    """Whether the word is a time, and is followed only by what it may be a part of."""
    if not _NAMES.fullmatch(words[at]) and not (words[at] == "s" and at):
        return False
    for word in words[at + 1 :]:
        if word in ("per", "to", "for", "of"):
            return True
        if not _BESIDE.fullmatch(word):
            return False
    return True


def _unit_behind(pattern: str) -> bool:
    after = re.sub(r"^(?:\\s[*+?]?|\[ ?\]|\s|\?)*", "", pattern.rpartition(")")[2])
    return bool(_TIME_UNIT.match(after) or _RATE.match(after))


def _label(pattern: str) -> str:
    """The word before the group of a pattern, such as `elapsed` in `elapsed: (.+)`."""
    before = re.sub(r"\\[a-zA-Z][*+?]?|\\", " ", pattern.rpartition("(")[0])
    found = re.findall(r"[A-Za-zµ_/]+", before)
    return found[-1] if found else ""
