"""Search of experiments by words and `field:value` terms

warm-up                      this text in number, verdict, kind, hypothesis, reason or files
"warm up"                    a phrase
verdict:kept,provisional     one of several; the beginning of a value is enough
kind:optimizer researcher:claude model:opus file:train.py parent:12 commit:3fa9
is:best is:certified is:live is:pinned is:forked
metric<0.98  change<-0.002  seconds>30  runs>=2  usd>0.1
-kind:schedule               not
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from core.record.proposal import american, kind_of
from core.record.state import BASELINE, Experiment, State

Passes = Callable[[Experiment], bool]

_WORD = re.compile(r'-?(?:[a-z_]+:)?"[^"]*"?|\S+')
_COMPARED = re.compile(r"^([a-z_]+)(<=|>=|<|>|=)(-?[−\d.][\d.eE+-]*)$")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "=": operator.eq,
}  # fmt: skip
_NUMBERS: dict[str, Callable[[Experiment], float | None]] = {
    "metric": lambda x: x.metric,
    "change": lambda x: x.delta if x.number != BASELINE else None,
    "delta": lambda x: x.delta if x.number != BASELINE else None,
    "expected": lambda x: x.expected,
    "seconds": lambda x: x.run_seconds,
    "runs": lambda x: len(x.runs),
    "usd": lambda x: x.usd,
    "tokens": lambda x: x.input_tokens + x.output_tokens,
    "lines": lambda x: x.lines,
    "number": lambda x: x.number,
}
_TEXTS: dict[str, Callable[[Experiment], tuple[str, ...]]] = {
    "verdict": lambda x: (x.verdict or x.phase,) if x.number != BASELINE else ("baseline",),
    "kind": lambda x: (x.kind,),
    "researcher": lambda x: (x.researcher,),
    "model": lambda x: (x.model or "",),
    "commit": lambda x: (x.commit or "",),
    "parent": lambda x: (str(x.parent),),
    "slot": lambda x: tuple(run.slot for run in x.runs),
    "ended": lambda x: tuple(run.ended or "" for run in x.runs),
}


def search(text: str, state: State) -> Passes:
    """A test for experiments that match every term of `text`. An unknown field is plain text."""
    tests = [test for word in _WORD.findall(text.lower()) if (test := _test(word, state)) is not None]
    return lambda x: all(test(x) for test in tests)


def _test(word: str, state: State) -> Passes | None:
    if word.startswith("-") and len(word) > 1 and not _COMPARED.match(word):
        wanted = _test(word[1:], state)
        return None if wanted is None else lambda x: not wanted(x)
    compared = _COMPARED.match(word)
    if compared and compared[1] in _NUMBERS:
        return _number(compared[1], compared[2], compared[3])
    name, colon, value = word.partition(":")
    if colon and name in ("file", "is", *_TEXTS):
        values = [v for v in value.strip('"').split(",") if v]
        return _field(name, values, state) if values else None  # half typed: `verdict:`
    plain = word.strip('"')
    kind = american(plain)
    return (lambda x: plain in searched_text(x) or kind in x.kind) if plain else None


def _number(name: str, sign: str, digits: str) -> Passes | None:
    read, compare = _NUMBERS[name], _SIGNS[sign]
    try:
        limit = float(digits.replace("−", "-"))
    except ValueError:
        return None  # half typed: `metric<-`
    return lambda x: (value := read(x)) is not None and compare(value, limit)


def _field(name: str, values: list[str], state: State) -> Passes:
    if name == "is":
        return lambda x: any(_is(x, value, state) for value in values)
    if name == "file":
        return lambda x: any(value in path.lower() for path in x.files for value in values)
    read = _TEXTS[name]
    if name == "parent":
        return lambda x: x.number != BASELINE and str(x.parent) in values
    if name == "kind":
        values = [kind_of(value) or american(value) for value in values]
    return lambda x: any(found.lower().startswith(value) for found in read(x) for value in values)


def _is(x: Experiment, word: str, state: State) -> bool:
    if "certified".startswith(word):
        return x.certified == "certified"
    if "best".startswith(word):
        return x.number == state.best and state.best_metric is not None
    if "live".startswith(word):
        return x.number in state.live and x.number != BASELINE
    if "pinned".startswith(word):
        return x.number in state.pinned
    if "forked".startswith(word):
        return x.number == state.base
    return False


def searched_text(x: Experiment) -> str:
    """Text of an experiment that plain words are searched in, in lower case."""
    return f"#{x.number} {x.verdict or x.phase} {x.kind} {x.hypothesis} {x.reason} {' '.join(x.files)}".lower()
