"""Search in files by text, or by a regular expression in a process with limits.

A regular expression can take exponential time, and Python cannot interrupt one: the worker process is killed at its
time limit. `python -I regex_worker.py` reads {"files": {path: text}, "pattern", "limit"} as JSON and answers
{"matches": [[path, line number, line], ...]}, at most `limit` of them, or {"error": reason}.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

MAX_MEMORY = 1 << 30  # bytes of the process's address space
MAX_LINE_CHARACTERS = 240  # of a line in the answer


def find(files: Mapping[str, str], matches: Callable[[str], bool]) -> Iterator[tuple[str, int, str]]:
    """(path, line number from 1, line) of every line that matches."""
    for path in sorted(files):
        for number, line in enumerate(files[path].split("\n"), 1):
            if matches(line):
                yield path, number, line.rstrip()[:MAX_LINE_CHARACTERS]


def containing(text: str) -> Callable[[str], bool]:
    """Whether a line contains `text`; case-sensitive only when `text` has capitals."""
    if text == text.lower():
        return lambda line: text in line.lower()
    return lambda line: text in line


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    request = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    try:
        expression = re.compile(request["pattern"])
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        json.dump({"error": str(error) or type(error).__name__}, sys.stdout)
        return
    matches = find(request["files"], lambda line: expression.search(line) is not None)
    json.dump({"matches": list(islice(matches, request["limit"]))}, sys.stdout)


if __name__ == "__main__":
    main()
