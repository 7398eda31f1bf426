"""The reason of a crash that a command printed: the one line of its output that says why it failed

Known are Python, Node, C and C++ (compilers, linkers, aborts, sanitizers), Rust, Go, Java, make, shells, pytest, R and
Julia. Any other output gives its last line with the word error, fatal or the like, else its last line. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from core.text import clean, one_line

MAX_FAULT = 300  # characters of a sentence
_MAX_LINES = 4000
_MAX_LINE = 2000  # characters of a line that are looked at
_RECENT = 40  # lines; a traceback with more lines after it was printed by code that went on
_NEAR_THE_END = 15  # lines in which a mere word such as `error` counts

_SURE, _LIKELY, _WRAPPED = 3, 2, 1  # _WRAPPED tells that another program failed, and not why


@dataclass(frozen=True, slots=True)
class PrintedFault:
    """What an output says about its failure. `text`: one line, "" for an empty output; `told`: it is marked as a fault,
    and not merely the last line.
    """

    text: str
    told: bool


@dataclass(frozen=True, slots=True)
class _Found:
    rank: int
    at: int  # number of its line
    text: str


def printed_fault(output: str) -> PrintedFault:
    """The line of `output` that says why the command failed, with the file and line where it names them."""
    lines = [_PREFIX.sub("", line[:_MAX_LINE].rstrip()) for line in clean(output).splitlines()[-_MAX_LINES:]]
    found = [fault for find in _FINDERS for fault in find(lines)]
    if found:
        best = max(found, key=lambda fault: (fault.rank, fault.at))
        return PrintedFault(one_line(best.text, MAX_FAULT), True)
    useful = [line for line in lines if line.strip() and not _NOISE.search(line)]
    return PrintedFault(one_line((useful or [line for line in lines if line.strip()] or [""])[-1], MAX_FAULT), False)


def with_fault(end: str, output: str, *, by_signal: bool = False) -> str:
    """How a command ended, with what its output says about that. The last line of a command that was ended by a signal
    is no reason, unless it is marked as a fault.
    """
    fault = printed_fault(output)
    if not fault.text:
        return f"{end}, and printed nothing" if by_signal else f"{end} and printed nothing"
    return f"{end}: {fault.text}" if fault.told or not by_signal else end


_PREFIX = re.compile(r"^(?:\[(?:rank|default)\d+\]:(?:\[\w+\]:)?\s?)")  # of torchrun
_NOISE = re.compile(
    r"^\s*(?:Node\.js v\d|Execution halted|note: run with `RUST_BACKTRACE|exit status \d+$|[\^~|\s]+$|[{}\])]+[;,]?$"
    r"|compilation terminated\.|For more information about|\(Use `node --trace|warnings\.warn\(|hint: |wandb: "
    r"|Exception ignored in|error: could not compile|error: aborting due|npm (?:ERR!|error)|make(?:\[\d+\])?: \*\*\*"
    r"|at \S+ \(|=+ .* in [\d.]+s.* =+$|(?:real|user|sys)\s+(?:\d+m)?[\d.]+s?$)"
    r"|^\S+:\d+: \w*Warning: |\(core dumped\)$"
)


def _after(lines: Sequence[str], at: int) -> str:
    """The next line that is not empty."""
    return next((line.strip() for line in lines[at + 1 : at + 4] if line.strip()), "")


def _whole(lines: Sequence[str], at: int, text: str = "") -> str:
    """A line, with the next one where it ends with a colon: the message follows there."""
    text = text or lines[at].strip()
    return f"{text} {_after(lines, at)}" if text.endswith(":") else text


def _name(path: str) -> str:
    """A path as a person would name the file; worktrees of runs have long ones."""
    return path.rpartition("/")[2] if path.startswith("/") else path.removeprefix("./")


# --- Python ---

_TRACEBACK = re.compile(r"^(.*?)(?:Original )?Traceback \(most recent call last\):$")
_FRAME = re.compile(r'^\W*File "(.+?)", line (\d+)')
_RAISED = re.compile(r"^[\w.]*\w(?::\s.*|:)?$")
_NOT_UNDERSTOOD = ("SyntaxError", "IndentationError", "TabError")
_PARSED = re.compile(rf"^(?:{'|'.join(_NOT_UNDERSTOOD)}): ")
_ANOTHER_PROGRAM = re.compile(r"(?:CalledProcess|ChildFailed)Error|Process(?:Raised|Exited)Exception")
_CHAINS = (
    ("During handling of the above exception", "after"), ("The above exception was the direct cause", "caused by"),
)  # fmt: skip
_IN_GROUP = re.compile(r"^\s+\| ([\w.]+(?:Error|Exception|Warning|Exit|Interrupt)\b.*)")
_OWN_WORDS = 190  # characters of an exception's own message, when its cause follows


def _python(lines: Sequence[str]) -> Iterator[_Found]:
    """The last exception, with the first one of its chain."""
    root, last = "", -1
    for at, line in enumerate(lines):
        header = _TRACEBACK.match(line)
        if header is None or (at and "Exception ignored" in lines[at - 1]):
            continue
        end = _raised_at(lines, at, len(header[1]) - len(header[1].lstrip()))
        if end is None:
            continue
        chain = next((word for line in lines[last + 1 : at] for start, word in _CHAINS if line.startswith(start)), "")
        text = _exception(lines, at, end)
        root, last = (root if chain and last >= 0 else text), end
        if len(lines) - end > _RECENT:
            continue
        message = root.partition(": ")[2]
        if message and message not in text and root not in text:
            text = f"{one_line(text, _OWN_WORDS)} ({chain} {root})"
        yield _Found(_WRAPPED if _ANOTHER_PROGRAM.search(text) else _SURE, end, text)
    yield from _unparsed(lines)


def _raised_at(lines: Sequence[str], header: int, indent: int) -> int | None:
    """The line of the exception below the frames of a traceback."""
    if lines[header].lstrip().startswith("+"):  # of a group: the first exception in it
        return next((at for at in range(header, len(lines)) if _IN_GROUP.match(lines[at])), None)
    for at in range(header + 1, len(lines)):
        line = lines[at]
        if not line.strip() or len(line) - len(line.lstrip()) > indent:
            continue
        return at if _RAISED.match(line.strip()) else None
    return None


def _exception(lines: Sequence[str], header: int, at: int) -> str:
    text = _whole(lines, at).removeprefix("| ")
    kind = text.partition(":")[0]
    frames = [(n, found) for n in range(header, at) if (found := _FRAME.match(lines[n]))]
    if not frames:
        return text
    number, frame = frames[-1]
    if kind in _NOT_UNDERSTOOD:
        return f"{text} ({_name(frame[1])}, line {frame[2]})"
    if text == kind and number + 1 < at:  # it has no message: the code says what it was
        return f"{kind} ({_name(frame[1])}, line {frame[2]}: {lines[number + 1].strip()})"
    return text


def _unparsed(lines: Sequence[str]) -> Iterator[_Found]:
    """The first syntax error that came without a traceback, as Python prints those of the file that it starts."""
    for at, line in enumerate(lines):
        before = [found for n in range(max(0, at - 4), at) if (found := _FRAME.match(lines[n]))]
        if before and _PARSED.match(line):
            yield _Found(_SURE, at, f"{line.strip()} ({_name(before[-1][1])}, line {before[-1][2]})")
            return


# --- Node ---

_THROWN = re.compile(
    r"^(?:Uncaught )?(?:error: )?(?:Uncaught (?:\(in promise\) )?)?(\w*(?:Error|Exception)(?: \[\w+\])?: .*)"
)
_SCRIPT = re.compile(r"^(?:file://)?(\S+\.[cm]?[jt]sx?):(\d+)$")
_CALLED = re.compile(r"^\s+at .*?(?:\(|\s)(?:file://)?(/[^\s():]+\.[cm]?[jt]sx?):(\d+)")


def _node(lines: Sequence[str]) -> Iterator[_Found]:
    if not any(line.startswith(("Node.js v", "    at ", "      at ")) for line in lines):
        return
    for at, line in enumerate(lines):
        thrown = _THROWN.match(line)
        traced = next((n for n in range(at + 1, min(at + 12, len(lines))) if lines[n].lstrip().startswith("at ")), None)
        if thrown is None or (traced is None and not any(more.startswith("Node.js v") for more in lines[at:])):
            continue
        places = [found for n in range(max(0, at - 8), at) if (found := _SCRIPT.match(lines[n]))]
        calls = [found for more in lines[at + 1 : at + 20] if (found := _CALLED.match(more))]
        place = next((p for p in (*places[-1:], *calls) if not p[1].startswith("node:")), None)
        where = f" ({_name(place[1])}:{place[2]})" if place else ""
        yield _Found(_SURE, at, thrown[1] + where)


# --- compilers and linkers: the first error is the reason, the others often follow from it ---

_COMPILED = re.compile(r"^(?:ERROR: )?(\S+?)(?::\d+(?::\d+)?|\(\d+(?:,\s?\d+)?\)):? ?(?:fatal )?error\b.*")
_DRIVER = re.compile(r"^(?!collect2|make)[\w./+-]+: (?:fatal )?error: (?!linker command failed|ld returned)")
_LINKED = re.compile(r"undefined reference to|cannot find -l|multiple definition of|undefined symbol: ")
_RUST = re.compile(r"^error(?:\[E\d+\])?: (?!could not compile|aborting due|process didn't exit|test failed)")
_GO = re.compile(r"^\S+\.go:\d+:\d+: ")
_BUILD = re.compile(r"^CMake Error\b.*:$|^go: \S+: ")


def _compilers(lines: Sequence[str]) -> Iterator[_Found]:
    patterns = (_COMPILED, _DRIVER, _RUST, _GO, _BUILD)
    errors = [n for n, line in enumerate(lines) if any(pattern.search(line) for pattern in patterns)]
    errors = errors or [n for n, line in enumerate(lines) if _LINKED.search(line)]
    if not errors:
        return
    at = errors[0]
    text = _whole(lines, at)
    place = re.match(r"^\s*--> (\S+)", lines[at + 1]) if _RUST.match(text) and at + 1 < len(lines) else None
    causes = [_after(lines, n) for n in range(at, len(lines)) if lines[n] == "Caused by:"]
    why = f" (caused by {causes[-1]})" if causes else ""
    rank = _SURE if len(lines) - errors[-1] <= _RECENT * 3 else _LIKELY
    yield _Found(rank, errors[-1], text + (f" ({place[1]})" if place else "") + why)


# --- programs that abort: the last one is the reason ---

_PANIC = re.compile(r"^thread '.*?' (?:\(\d+\) )?panicked at (?:'(.*)', (\S+)|(\S+?):$)")
_JAVA = re.compile(r'^Exception in thread "[^"]*" (.+)|^(Error: (?:Could not|Main method|Unable to) .+)')
_WHAT = re.compile(r"^\s*what\(\):\s*(.+)")
_ABORTS = re.compile(
    r"^panic: |^fatal error: all goroutines|Assertion .*failed|^(?:malloc|free|realloc|munmap_chunk)\(\): "
    r"|double free or|^\*\*\* stack smashing|ERROR: \w+Sanitizer: |: runtime error: "
    r"|^F(?:ATAL ERROR|atal Python error): |^(?:ERROR|Error): LoadError: |^Error in "
    r"|^PHP Fatal error: |^Can't locate |^\S+: (?:fatal|FATAL): "
)


def _aborts(lines: Sequence[str]) -> Iterator[_Found]:
    for at, line in enumerate(lines):
        if panic := _PANIC.match(line):
            message, place = (panic[1], panic[2]) if panic[2] else (_after(lines, at), panic[3])
            yield _Found(_SURE, at, f"panicked: {message} ({_name(place)})")
        elif java := _JAVA.match(line):
            below = [n for n in range(at, len(lines)) if lines[n].startswith("Caused by: ")]
            why = f" ({lines[below[-1]][0].lower()}{lines[below[-1]][1:].replace(':', '', 1)})" if below else ""
            yield _Found(_SURE, below[-1] if below else at, (java[1] or java[2]) + why)
        elif line.startswith("terminate called after throwing"):
            kind = re.search(r"'(.+)'", line)
            what = _WHAT.match(lines[at + 1]) if at + 1 < len(lines) else None
            yield _Found(_SURE, at, ": ".join(part[1] for part in (kind, what) if part) or line)
        elif _ABORTS.search(line):
            text = _whole(lines, at, re.sub(r"^==\d+==", "", line.strip()))
            yield _Found(_SURE, at, f"{text} {_after(lines, at)}" if text.endswith(" :") else text)


# --- tests, shells, make ---

_TESTED = re.compile(r"^(?:FAILED|ERROR) \S+(?: - .*)?$")
_SHELL = re.compile(
    r"^(?:\S*/)?(?:\w*sh|\S+\.sh|env|timeout|nohup|nice|xargs)(?:\[\d+\])?: (?:line )?(?:\d+: )?\S.*"
    r"(?:not found|Permission denied|[Nn]o such file or directory|cannot execute|can't open|Syntax error|syntax error"
    r"|unexpected|parameter not set|unbound variable|Segmentation fault|Killed|Aborted|cannot open|Is a directory)"
)
_NPM = re.compile(
    r"^npm (?:ERR!|error) (?:enoent |network )?"
    r"((?:Missing script: |Could not read package|could not determine exec|request to ).*)"
)
_NO_RULE = re.compile(r"^make(?:\[\d+\])?: \*\*\* (?!\[)(.+?)\s*Stop\.$|^(\S+:\d+: \*\*\* .+?)\s*Stop\.$")
_RULE = re.compile(r"^make(?:\[\d+\])?: \*\*\* \[(?:\S+:\d+: )?([^\]]+)\] (Error \d+|\w.*)")


def _tools(lines: Sequence[str]) -> Iterator[_Found]:
    summary = next((n for n, line in enumerate(lines) if "short test summary info" in line), None)
    if summary is not None:
        failed = [n for n in range(summary, len(lines)) if _TESTED.match(lines[n])]
        yield from (_Found(_SURE, len(lines), lines[n]) for n in failed[:1])
    rule = False
    for at, line in enumerate(lines):
        if _SHELL.match(line):
            yield _Found(_LIKELY, at, line)
        elif npm := _NPM.match(line):
            yield _Found(_SURE, at, f"npm: {npm[1]}")
        elif missing := _NO_RULE.match(line):
            yield _Found(_SURE, at, f"make: {missing[1] or missing[2]}")
        elif (failed_rule := _RULE.match(line)) and not rule:
            rule = True  # the innermost
            yield _Found(_WRAPPED, at, f"make: the rule {failed_rule[1]} failed ({failed_rule[2]})")


# --- any other output ---

_WORD = re.compile(
    r"\b(?:[Ee]rror|ERROR|panicked|[Ff]atal|FATAL|[Ee]xception|[Aa]bort(?:ed|ing)|[Ff]ailed|FAILED|[Cc]annot|[Cc]an't"
    r"|[Cc]ould not|[Nn]ot found|[Dd]enied|[Nn]o such|[Uu]nable to|[Nn]o module named|[Kk]illed)\b"
    r"|\w(?:Error|Exception): "
)
_FATAL = re.compile(r"^(?:fatal|FATAL|ERROR|error): ")
_MEASURED = re.compile(r"(?:errors?|failed|killed)\W{0,3}[-+]?[\d.]|\b(?:0|no) (?:errors?|failed)\b", re.I)


def _worded(lines: Sequence[str]) -> Iterator[_Found]:
    for at, line in enumerate(lines):
        near = len(lines) - at <= _NEAR_THE_END and _WORD.search(line) and not _ANOTHER_PROGRAM.search(line)
        if (near or _FATAL.match(line)) and not _MEASURED.search(line) and not _NOISE.search(line):
            yield _Found(_LIKELY, at, _whole(lines, at, re.sub(r"^/\S*/(\S+: )", r"\1", line.strip())))


_FINDERS: tuple[Callable[[Sequence[str]], Iterator[_Found]], ...] = (
    _python, _node, _compilers, _aborts, _tools, _worded,
)  # fmt: skip
