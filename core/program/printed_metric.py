"""The metric that a run prints: what a pattern found in the output, read as a number or refused with what was found.

A number is read whole or not at all. Forms that are read: `0.4321`, `4.3e-05`, `1,204,331`, `12_000.5`, `0,4321`,
`1.234,5`, `1 204,5`, `−0.5`, `tensor(0.43)`, `1.2M`, `1/3`, a number with its unit: `980.3 ms`, `93.5%`, and a
duration, in seconds: `1m20.5s`, `0:03:25`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from core.text import toml_text

_GAPS = "'’\u00a0\u202f\u2009"  # between thousands, beside the comma and the low line
_SIGN, _EXPONENT = r"[-+−]", r"(?:[eEdD][-+−]?\d+)?"
_RUN = re.compile(rf"(?:(?<![\w.)-]){_SIGN})?(?:\d+(?:[.,_{_GAPS}]\d+)*|\.\d+){_EXPONENT}")
_PIECE = re.compile(rf"[^,{_GAPS}]+")
_UNIT = r"[A-Za-zµμ%]+(?:/[A-Za-z]+)?|/\d+"
_WITH_UNIT = re.compile(rf"({_SIGN}?[\d.,_{_GAPS}]*\d\.?{_EXPONENT})\s*({_UNIT})?")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d*)?")
_WRAPPER = re.compile(r"^(?:tensor|array|Array|(?:np\.|numpy\.)?float\d+)\(")
_TIME_AFTER = re.compile(r":\d\d(?!\d)")
_MORE_AFTER = re.compile(  # letters between digits, powers, fractions
    r"[A-Za-zµμ]+\d[\d.]*[A-Za-z]*|\s?[×x*]\s?10\s?(?:\^|\*\*|[⁻⁰¹²³⁴-⁹])|(?:\^|\*\*)[-+]?\d+|[⁻⁰¹²³⁴-⁹]+|\s?[¼-¾⅐-⅞]"
)
_SPACED = re.compile(r"(?<![\w.,])([-+−]?[1-9]\d{0,2})((?: \d{3})+)(?![\d%:/_])((?:[.,]\d+)?)")
_DURATION = re.compile(
    r"(?<![\w.,:])(?=\d)(?:(\d+)\s?(?:hours?|hrs?|h)(?![a-z])\s?)?(?:(\d+)\s?(?:minutes?|mins?|m)(?![a-z])\s?)?"
    r"(?:(\d+(?:[.,]\d+)?)\s?(?:seconds?|secs?|s)(?![a-z]))?"
)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d\d(?:\.\d+)?)")
_UNIT_AFTER = re.compile(rf"([^\S\n]?)({_UNIT})")
_KNOWN_UNIT = re.compile(r"[num]?s|min|[hdx%]|percent|[kKMGT]?(?:i?B|bits?|bytes?)?|[kMG]?Hz|[KMGTP]?FLOPS")
_SAME = {"µs": "us", "μs": "us", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "mins": "min", "hr": "h",
         "minute": "min", "minutes": "min", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d"}  # fmt: skip
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TIMES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_LEFT_OUT = re.compile(r"^\[\.\.\. (\d+) MB of output left out here \.\.\.\]$", re.M)
_SHOWN = 100  # characters of a line
_NEAR = 1000  # characters of a line to either side of a number that are looked at


@dataclass(frozen=True, slots=True)
class Printed:
    """The metric in an output: its value, or the reason why there is none. `text`: as printed, with its unit;
    `matches`: how often the pattern matched; `line`: the line of the last match.
    """

    value: float | None
    reason: str = ""
    text: str = ""
    matches: int = 0
    line: str = ""


@dataclass(frozen=True, slots=True)
class _Number:
    value: float
    unit: str = ""
    decimal_comma: bool = False


def read_metric(output: str, pattern: str, *, like: str = "", advise: bool = True) -> Printed:
    """The last match of `pattern` in `output`: its group, or the whole match, as a number.

    `^` and `$` match at every line. Refused are a match that stops or begins inside a number, matches on lines with
    different words, and a unit or a meaning of the comma other than in `like`, the text of an earlier run.
    `advise`: a reason ends with the pattern that would work, where one is known.
    """
    found = list(re.compile(pattern, re.M).finditer(output))
    if not found:
        return Printed(None, _never_matched(output, pattern) if advise else "never matched")
    last = found[-1]
    group = 1 if last.re.groups else 0
    start, end = (max(0, place) for place in last.span(group))
    text, line = output[start:end], _line(output, start)
    number = _number(text, like)
    if reason := _cut(output, pattern, start, end) or _several(output, pattern, found, group):
        pass
    elif number is None:
        reason = f"the match of the pattern {pattern} is not a number: {_short(text)}"
    else:
        unit = number.unit or _unit_after(output, end)
        shown = _short(text if number.unit else f"{text.strip()} {unit}")
        number = _as_in(_Number(number.value, unit, number.decimal_comma), like)
        reason = _unlike(number, shown, like)
        return Printed(None if reason else number.value, reason, shown, len(found), line)
    return Printed(None, reason + (_advice(output, pattern, like) if advise else ""), "", len(found), line)


def unit_of(printed: str) -> str:
    """The unit of a number as `Printed.text` has it, of a duration `s`; "" without one."""
    number = _number(printed)
    return number.unit if number else ""


# --- a number ---


def _number(text: str, like: str = "") -> _Number | None:
    """A text that is one number, perhaps with its unit; None when it is not. In doubt, a comma means what it means in
    `like`, else thousands.
    """
    if re.match(r"\s*[<>][^<>]*$", text):
        return None  # a bound
    bare = _WRAPPER.sub("", text.strip().strip("\"'()[]{},;:=*<>|`")).rstrip(".")
    if re.fullmatch(r"[-+]?(?:nan|inf(?:inity)?)", bare, re.IGNORECASE):
        return _Number(float(bare))
    if (seconds := _duration(bare)) is not None:
        return _Number(seconds, "s")
    if spaced := _SPACED.match(bare):
        bare = spaced[0].replace(" ", "") + bare[spaced.end() :]
    match = _WITH_UNIT.fullmatch(bare)
    if match is None:
        return None
    earlier = _number(like) if like else None
    value = _value(match[1], in_doubt_decimal=earlier is not None and earlier.decimal_comma)
    if value is None:
        return None
    unit = _canonical(match[2] or "")
    if unit.startswith("/"):
        return _Number(value[0] / int(unit[1:]), unit) if int(unit[1:]) else None
    # A multiplier belongs to the number when the pattern takes it.
    return _Number(value[0] * _TIMES.get(unit, 1.0), "" if unit in _TIMES else unit, value[1])


def _duration(text: str) -> float | None:
    """Seconds of `3:25`, `0:03:25.5`, `1m20s` or `1 h 20 min`; None for what has one part only."""
    found = _CLOCK.fullmatch(text) or _DURATION.fullmatch(text)
    if found is None or not _several_parts(found):
        return None
    hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _several_parts(duration: re.Match[str]) -> bool:
    return sum(part is not None for part in duration.groups()) > 1


def _value(number: str, *, in_doubt_decimal: bool = False) -> tuple[float, bool] | None:
    """The value, and whether a comma is its decimal point; None for digits and separators that are no number."""
    body = re.sub(f"[{_GAPS}_]", "", number.replace("−", "-")).replace("d", "e").replace("D", "e")
    if re.search(f"[{_GAPS}]", number) and not re.match(rf"{_SIGN}?\d{{1,3}}(?:[{_GAPS}]\d{{3}})+(?!\d)", number):
        return None
    digits = re.split("[eE]", body.lstrip("+-"))[0]
    decimal = False
    if "," in digits:
        thousands = _THOUSANDS.fullmatch(digits) is not None
        doubtful = thousands and digits.count(",") == 1 and "." not in digits
        if thousands and not (doubtful and in_doubt_decimal):
            body = body.replace(",", "")
        elif re.fullmatch(r"\d+,\d+|\d{1,3}(?:\.\d{3})+,\d+", digits):
            body, decimal = body.replace(".", "").replace(",", "."), True
        else:
            return None
    elif digits.count(".") > 1:
        if not re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+", digits):
            return None
        body = body.replace(".", "")
    try:
        return float(body) + 0.0, decimal  # -0.0 is 0
    except ValueError:
        return None


def _numbers(line: str) -> Iterator[tuple[int, int]]:
    """Where the numbers of a line stand. Digits with commas that are no number together are several: `10,0.5`."""
    for run in _RUN.finditer(line):
        if _value(run[0]) is not None:
            yield run.span()
        else:
            yield from ((run.start() + p.start(), run.start() + p.end()) for p in _PIECE.finditer(run[0]))


def _cut(output: str, pattern: str, start: int, end: int) -> str:
    """What is wrong with a group at `start`, `end` that has a part of a number only; "" when nothing is."""
    first, before, after = _begin(output, start), *_around(pattern)
    line, taken = _line(output, start), output[start:end].strip()
    if _duration(taken) is not None:
        return ""
    for longer in (*filter(_several_parts, _DURATION.finditer(line)), *_SPACED.finditer(line)):
        left, right = longer.start() + first, longer.end() + first
        head, tail = output[left:start], output[end:right]
        if longer.re is _SPACED:  # a pattern that spells out the space means columns
            head = "" if re.search(r"(?: |\\s|\])[+*]?$", before) else head
            tail = "" if re.match(r" |\\s|\[", after) else tail
        elif re.fullmatch(r"(?:0+\s?[a-z]+\s?)+", head):
            head = ""  # no minutes before the seconds
        if right > start and left < end and (head or re.search(r"\d", tail)):
            return f"the pattern {pattern} takes {_short(taken)} out of {_short(longer[0])}"
    for left, right in _numbers(line):
        left, right = left + first, right + first
        if right <= start or left >= end:
            continue
        head, tail, whole = output[left:start], output[end:right], output[left:right]
        rest = output[right : right + 24].partition("\n")[0]
        # A separator that the pattern itself spells out, as in a table with commas, is no part of the number.
        if head == "+" or (head and head[-1] in ",_'" and before.endswith(head[-1])):
            head = ""
        if not tail and right >= end and (tail := _continued(rest, after)):
            whole += tail
        elif not before.endswith(":") and re.search(r"\d:$", output[first:left]) and re.match(r"\d\d(?!\d)", whole):
            head, whole = ":", output[output.rfind(":", 0, left) - 1 : left] + whole  # minutes before the seconds
        elif tail and tail[0] in ",_'" and after.startswith(tail[0]):
            tail = ""
        if head or tail:
            return f"the pattern {pattern} takes {_short(output[start:end])} out of {_short(whole)}"
    return ""


def _continued(rest: str, after: str) -> str:
    """The part of a number behind its digits: the rest of `1m20s`, `1:20`, `4.3 × 10^-5`; "" when there is none."""
    found = _MORE_AFTER.match(rest)
    if found is None and not after.startswith(":"):
        found = _TIME_AFTER.match(rest)
    return found[0] if found else ""


def _unit_after(output: str, end: int) -> str:
    """The unit behind a number: letters without a space between, or a known unit; "" when there is none."""
    match = _UNIT_AFTER.match(output, end)
    if match is None:
        return ""
    unit = _canonical(match[2])
    return unit if not match[1] or "/" in unit or _KNOWN_UNIT.fullmatch(unit) else ""


def _canonical(unit: str) -> str:
    first, slash, second = unit.partition("/")
    return _SAME.get(first, first) + slash + _SAME.get(second, second)


def _as_in(number: _Number, like: str) -> _Number:
    """A time in the unit that an earlier run printed: many programs choose it by size."""
    earlier = _number(like) if like else None
    unit = _unit_of(earlier, like) if earlier else ""
    if number.unit == unit or number.unit not in _SECONDS or unit not in _SECONDS:
        return number
    return _Number(number.value * _SECONDS[number.unit] / _SECONDS[unit], unit, number.decimal_comma)


def _unit_of(earlier: _Number, like: str) -> str:
    return earlier.unit or _unit_after(like, len(like.split()[0]))


def _unlike(number: _Number, shown: str, like: str) -> str:
    """How a number differs in unit or comma from `like`, the text of an earlier run."""
    earlier = _number(like) if like else None
    if earlier is None:
        return ""
    if number.unit != _unit_of(earlier, like):
        return f"the unit changed: this run printed {shown}, the baseline {like}; print one unit always"
    if number.decimal_comma and "," in like and not earlier.decimal_comma:
        return f"the comma changed its meaning: this run printed {shown}, the baseline {like}; print a decimal point"
    return ""


# --- the matches and their lines ---


def _several(output: str, pattern: str, found: list[re.Match[str]], group: int) -> str:
    """What is wrong when lines of different words match with different numbers: `train loss: 1`, `val loss: 2`."""
    first: dict[str, re.Match[str]] = {}
    for match in (*found[:1000], *found[1000:][-5000:]):
        start = max(0, match.start(group))
        first.setdefault(_words(output[_begin(output, start) : start]), match)
    others = [m for m in first.values() if m[group] != found[-1][group]] if len(first) > 1 else []
    if not others and len(found) > 1 and found[-2][group] != found[-1][group]:
        between = output[found[-2].end(group) : found[-1].start(group)]
        others = [] if re.search(r"[^\W\d]|\n", between) else [found[-2]]  # columns, without a word between
    if not others:
        return ""
    start = max(0, found[-1].start(group))
    here, there = _line(output, start), _line(output, max(0, others[-1].start(group)))
    if here == there:
        return f"the pattern {pattern} matches several numbers of one line: {_short(here)}"
    return f"the pattern {pattern} matches different lines: {_short(there)} and {_short(here)}"


def _words(prefix: str) -> str:
    """The last three words before a number, without those that hold digits and without what a progress bar writes."""
    return " ".join(re.findall(r"[^\W\d]+", re.sub(r"\S*(?:\d|it/s|s/it|ETA)\S*", " ", prefix[-200:]))[-3:])


def _advice(output: str, pattern: str, like: str) -> str:
    """The pattern that works on this output, as a line of program.md; "" when none is known."""
    before = _around(pattern)[0]
    if not before.strip("^"):
        return ""
    line = _line(output, list(re.compile(pattern, re.M).finditer(output))[-1].start())
    short = re.sub(r"\.\*(?!\?)", ".*?", before)
    spaced = r"([-+]?\d+(?:\s\d{3})*(?:[.,]\d+)?)"
    ways = (rf"{before}(\S+)", rf"{short}([-+]?\.?\d\S*)", _anchored(line, before), f"{before}(.+)", before + spaced)
    for candidate in ways:
        usable = candidate != pattern and _compiles(candidate)
        if usable and read_metric(output, candidate, like=like, advise=False).value is not None:
            return f"; write pattern = {toml_text(candidate, pattern=True)}"
    return ""


def _anchored(line: str, before: str) -> str:
    """A pattern for the whole line up to its last place that fits `before`."""
    places = [m.end() for m in re.finditer(before, line)] if _compiles(before) else []
    words = re.split(r"(\S*\d\S*)", line[: places[-1]]) if places else []
    return "^" + "".join(r"\S+" if n % 2 else re.escape(w).replace(r"\ ", " ") for n, w in enumerate(words)) + r"(\S+)"


def _never_matched(output: str, pattern: str) -> str:
    """Which part was searched, and the nearest line: one that the pattern matches without `^` or in another form."""
    left_out = _LEFT_OUT.search(output)
    where = f"its output, of which {left_out[1]} MB in the middle were not kept" if left_out else "its output"
    told = f"the pattern {pattern} never matched in {where}"
    if not output.strip():
        return f"{told}: it printed nothing"
    loose = pattern.removeprefix("^").removesuffix("$")
    whole = rf"{_around(pattern)[0]}(\S+)"
    ways = {loose: "without ^ or $", f"(?i){loose}": "in capitals or small letters", whole: "in another form"}
    for candidate, how in ways.items():
        if _compiles(candidate) and (found := list(re.compile(candidate, re.M).finditer(output))):
            nearest = _short(_line(output, found[-1].start()))
            works = read_metric(output, candidate, advise=False).value is not None
            advice = f"; write pattern = {toml_text(candidate, pattern=True)}" if works else ""
            return f"{told}; {how} it matches: {nearest}{advice}"
    wanted = set(re.findall(r"[A-Za-z_]{2,}", re.sub(r"\\.|\[[^\]]*\]|\(\?P?<?\w*>?", " ", pattern)))
    best, most = "", 0
    for line in output.splitlines():
        if (hits := sum(word.lower() in line.lower() for word in wanted)) and hits >= most:
            best, most = line, hits
    return f"{told}; the nearest line is: {_short(best)}" if best else told


def _around(pattern: str) -> tuple[str, str]:
    """The parts of a pattern before and behind its group; a pattern without a group is all group."""
    depth, begin = 0, None
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?P<\w+>|\?)?|\)", pattern, re.S):
        if token[0].startswith("("):
            depth += 1
            if begin is None and token[0] != "(?":
                begin, level = token.start(), depth
        elif token[0] == ")":
            if begin is not None and depth == level:
                return pattern[:begin], pattern[token.end() :]
            depth -= 1
    return "", ""


def _line(output: str, at: int) -> str:
    end = output.find("\n", at, at + _NEAR)
    return output[_begin(output, at) : end if end >= 0 else at + _NEAR]


def _begin(output: str, at: int) -> int:
    """The begin of the line around `at`; of a very long line, a place not far before."""
    furthest = max(0, at - _NEAR)
    return max(furthest, output.rfind("\n", furthest, at) + 1)


def _short(text: str) -> str:
    """A text on one line; of a long one the end, where the number is."""
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"


def _compiles(pattern: str) -> bool:
    try:
        return re.compile(pattern, re.M) is not None
    except re.error:
        return False
