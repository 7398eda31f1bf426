"""Finding text in files, in a process of its own where the pattern is a regular expression.

A regular expression can take longer than the universe is old, and Python cannot stop one: the search is made by a
child process that is ended when its time is over. `python -I finder.py` reads {"files": {path: text}, "pattern",
"limit"} as JSON and answers {"places": [[path, line number, line], ...]}, at most `limit` of them, or {"wrong": why}.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

MEMORY = 1 << 30  # bytes of the child's address space
LINE = 240  # characters of a line that are shown


def found(files: Mapping[str, str], matches: Callable[[str], bool]) -> Iterator[tuple[str, int, str]]:
    """(path, line number from 1, line) of every line for which `matches` holds."""
    for path in sorted(files):
        for number, line in enumerate(files[path].split("\n"), 1):
            if matches(line):
                yield path, number, line.rstrip()[:LINE]


def containing(text: str) -> Callable[[str], bool]:
    """Whether a line holds `text`; letter case counts only when `text` has capitals."""
    if text == text.lower():
        return lambda line: text in line.lower()
    return lambda line: text in line


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    asked = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    try:
        expression = re.compile(asked["pattern"])
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        json.dump({"wrong": str(error) or type(error).__name__}, sys.stdout)
        return
    places = found(asked["files"], lambda line: expression.search(line) is not None)
    json.dump({"places": list(islice(places, asked["limit"]))}, sys.stdout)


if __name__ == "__main__":
    main()
