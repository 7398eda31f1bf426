"""Tools of a language model: look-ups in files, experiments and papers, the notebook, and `propose`.

Results are data, fenced and bounded. A tool changes nothing but the notebook: edits come only from `propose`, which
goes through every check, so text in a file, a paper or a run's output cannot change what is edited, kept or sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from core.record.errors import EditError
from core.record.events import VERDICTS
from core.record.proposal import KINDS, kind_of
from core.research.llm import lookup
from core.research.protocol import Brief, Stream
from core.research.quoting import bounded, fenced
from core.research.reading import code_files, papers
from core.research.reading.arxiv import ArxivEntry
from core.text import one_line, plural

MAX_RESULT = 16_000  # characters of one tool's answer


def _tool(name: str, description: str, required: tuple[str, ...] = (), **properties: Any) -> Mapping[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": description, "input_schema": schema}


def _text(description: str, *choices: str) -> dict[str, Any]:
    return {"type": "string", "description": description, **({"enum": list(choices)} if choices else {})}


def _whole(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


READ_FILE = _tool(
    "read_file", "Lines of an editable or read-only file, numbered (the numbers are not part of it).", ("path",),
    path=_text("As shown in the list of files."), first=_whole("First line, from 1."), last=_whole("Last line."),
)  # fmt: skip
SEARCH_CODE = _tool(
    "search_code", "Lines of the editable and read-only files that contain a text, or match a regular expression.",
    ("text",),
    text=_text("The text to search for, within a line."),
    regex={"type": "boolean", "description": "Whether `text` is a regular expression."},
    path=_text("Only in this file or folder."),
)  # fmt: skip
LIST_EXPERIMENTS = _tool(
    "list_experiments", "Earlier experiments of this session, one line each, by filter.", (),
    verdict=_text("Only with this verdict.", *VERDICTS), kind=_text("Only of this kind of change.", *KINDS),
    text=_text("Only whose hypothesis contains this text."), file=_text("Only that changed this file."),
    sort=_text("Order: newest first (default), oldest first, or best metric first.", *lookup.ORDERS),
    limit=_whole(f"How many, at most {lookup.MAX_LISTED}."),
)  # fmt: skip
READ_EXPERIMENT = _tool(
    "read_experiment",
    "One earlier experiment: hypothesis, reasoning, diff, runs, loss curve, verdict with its reason, end of a crash.",
    ("experiment",),
    experiment=_whole("Its number."),
)  # fmt: skip
NOTES = _tool(
    "notes",
    "Your own notebook, which is kept as long as the session and shown with every request. Keep in it what should "
    "guide later choices: what was learned, ideas not yet tried, what to combine. Rewrite it when it is out of date.",
    ("action",),
    action=_text("The operation.", "read", "add", "replace"),
    text=_text("The text to add, or to replace all of it with."),
)  # fmt: skip
SEARCH_PAPERS = _tool(
    "search_papers", "Papers about a topic: the full text of the project's own folder, and arXiv's catalogue.",
    ("query",),
    query=_text("A few technical keywords."),
    where=_text("Where to search; both by default.", "local", "arxiv", "both"),
    limit=_whole(f"How many from each, at most {papers.MAX_HITS}."),
)  # fmt: skip
READ_PAPER = _tool(
    "read_paper", "One page of a paper: of the project's folder, or of arXiv (page 0: its abstract).", ("paper",),
    paper=_text("As named by search_papers: a file, or arxiv:2401.00001."), page=_whole("From 1."),
)  # fmt: skip
GIVE_UP = _tool(
    "give_up",
    "Drop the idea you are working on, when it cannot be made to work. You are then asked for another one.",
    ("reason",),
    reason=_text("Why, in one sentence: it goes on record."),
)  # fmt: skip
_EDIT = {
    "path": _text("As shown in the list of editable files."),
    "search": _text("Exact text that occurs once in the file."),
    "replace": _text("The text that replaces it."),
    "content": _text("The whole file, instead of search and replace."),
}
PROPOSE = _tool(
    "propose", "Hand over one experiment: the hypothesis and the edits of the code that test it. Call it once.",
    ("hypothesis", "rationale", "expected", "kind", "edits"),
    hypothesis=_text("One sentence: what changes, why it should help, and by how much."),
    rationale=_text("The reasoning in a few sentences: evidence from the history, what would refute it."),
    expected={"type": "number", "description": "Expected signed change of the metric, such as -0.01."},
    kind={"type": "string", "enum": list(KINDS)},
    ideas={
        "type": "array", "items": {"type": "string"}, "maxItems": 3,
        "description": "Other ideas worth an experiment of their own: listed as open until they are tried.",
    },
    edits={"type": "array", "minItems": 1, "items": {"type": "object", "properties": _EDIT, "required": ["path"]}},
)  # fmt: skip
NO_PROPOSAL = (
    "That was no proposal: nothing runs until you call the tool `propose`. Call it now, once, with your best idea."
)

TOOLS: tuple[Mapping[str, Any], ...] = (
    READ_FILE, SEARCH_CODE, LIST_EXPERIMENTS, READ_EXPERIMENT, SEARCH_PAPERS, READ_PAPER, NOTES, GIVE_UP, PROPOSE,
)  # fmt: skip

NAMES = frozenset(str(tool["name"]) for tool in TOOLS)


def name_of(written: str) -> str:
    """The tool that a model means, without what servers and templates leave around its name: control tokens, a
    namespace, a number, a repetition. A name of no tool comes back in characters that every server accepts.
    """
    plain = written.lower().replace("-", "_")
    words = [word for part in re.split(r"[^a-z0-9_]+", plain) for word in (part, *part.split("__")) if word]
    meant = {name for word in words for name in NAMES if word and word.replace(name, "") == ""}
    if len(meant) == 1:
        return meant.pop()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", written).strip("_")[:64] or "unnamed"


def no_such_tool(name: str) -> EditError:
    known = ", ".join(str(tool["name"]) for tool in TOOLS)
    return EditError(f"there is no tool {one_line(name, 60)!r}", hint=f"the tools: {known}")


class Toolbox:
    """The tools of one proposal, but for `propose` and `give_up`, which the conversation answers itself."""

    def __init__(self, brief: Brief) -> None:
        self._brief = brief
        self._tools: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[tuple[str, str]]]] = {
            "read_file": self._read_file, "search_code": self._search_code, "notes": self._notes,
            "list_experiments": self._list_experiments, "read_experiment": self._read_experiment,
            "search_papers": self._search_papers, "read_paper": self._read_paper,
        }  # fmt: skip

    async def call(self, name: str, input: Mapping[str, Any], stream: Stream) -> str:
        """Result of one tool as fenced text, bounded; a summary in one line goes to `stream`. Raises EditError,
        worded for the model: unknown tool, invalid input, or nothing found.
        """
        tool = self._tools.get(name)
        if tool is None:
            stream.tool(f"{one_line(name, 60)}: there is no such tool")
            raise no_such_tool(name)
        try:
            if not isinstance(input, Mapping):
                raise EditError("the tool's input is not a JSON object", hint=f"call {name} again")
            summary, answer = await tool(input)
        except EditError as error:
            stream.tool(f"{name}: {one_line(error.what, 200)}")
            raise
        stream.tool(f"{name} {summary}")
        return answer

    async def _read_file(self, input: Mapping[str, Any]) -> tuple[str, str]:
        first, last = whole(input, "first", 1) or 1, whole(input, "last", 1)
        path, lines, part = code_files.read_lines(self._brief.readable(), text(input, "path"), first, last)
        access = "editable" if path in self._brief.files else "read-only"
        shown = bounded(lines, MAX_RESULT, code=True)
        return f"{path}, {part}", fenced("file", shown, path=path, part=part, access=access)

    async def _search_code(self, input: Mapping[str, Any]) -> tuple[str, str]:
        wanted, regex = text(input, "text"), flag(input, "regex")
        files = self._brief.readable()
        places, more = await code_files.search(files, wanted, regex=regex, path=text(input, "path", ""))
        count = f"{'more than ' * more}{plural(len(places), 'line')}"
        lines = "\n".join(f"{path}:{number}: {line}" for path, number, line in places) or "nothing found"
        quote = "/" if regex else '"'
        answer = fenced("found", bounded(lines, MAX_RESULT, code=True), count=count)
        return f"{quote}{one_line(wanted, 80)}{quote}: {count}", answer

    async def _list_experiments(self, input: Mapping[str, Any]) -> tuple[str, str]:
        kind = input.get("kind")
        named = {"kind": kind_of(kind) or kind} if isinstance(kind, str) else input
        chosen = lookup.Filter(
            verdict=choice(input, "verdict", VERDICTS), kind=choice(named, "kind", KINDS), text=text(input, "text", ""),
            file=text(input, "file", ""), sort=choice(input, "sort", lookup.ORDERS) or lookup.ORDERS[0],
            limit=min(lookup.MAX_LISTED, whole(input, "limit", 1) or lookup.MAX_LISTED),
        )  # fmt: skip
        lines, total = lookup.listed(self._brief.state, chosen)
        count = f"{len(lines)} of {plural(total, 'experiment')}"
        answer = fenced("experiments", bounded("\n".join(lines) or "none matches", MAX_RESULT), count=count)
        return f"{chosen.summary()}: {count}", answer

    async def _read_experiment(self, input: Mapping[str, Any]) -> tuple[str, str]:
        number = whole(input, "experiment", 0)
        if number is None:
            raise EditError('"experiment" is missing', hint="give the experiment's number")
        answer = bounded(lookup.in_full(self._brief, number), MAX_RESULT)
        return f"#{number}", fenced("experiment", answer, number=number)

    async def _search_papers(self, input: Mapping[str, Any]) -> tuple[str, str]:
        query, library = text(input, "query"), self._library()
        where = choice(input, "where", ("local", "arxiv", "both")) or "both"
        limit = min(papers.MAX_HITS, whole(input, "limit", 1) or papers.MAX_HITS)
        lines: list[str] = []
        count = 0
        if where != "arxiv":
            hits, remarks = await library.search(query, limit)
            lines += [f"{one_line(h.name)} ({one_line(h.title)}), page {h.page}: {h.excerpt}" for h in hits]
            lines += [f"({one_line(remark)})" for remark in remarks]
            count += len(hits)
        if where != "local":
            try:
                entries, age = await library.arxiv.search(query, limit)
                lines += [_entry_line(entry) for entry in entries] + ([f"({age})"] if age else [])
                count += len(entries)
            except EditError as error:
                if where == "arxiv":
                    raise
                lines.append(f"({error.what})")
        answer = fenced("found", bounded("\n\n".join(lines) or "nothing found", MAX_RESULT), query=query)
        return f'"{one_line(query, 80)}" ({where}): {plural(count, "place")}', answer

    async def _read_paper(self, input: Mapping[str, Any]) -> tuple[str, str]:
        name, number, library = text(input, "paper"), whole(input, "page", 0), self._library()
        if number == 0:
            entry = await library.abstract(name)
            answer = fenced("paper", _entry_line(entry, whole=True), name=f"arxiv:{entry.id}")
            return f"arxiv:{entry.id}, abstract", answer
        page = await library.page(name, number or 1)
        rest = f" (and {page.unread} beyond the limit)" if page.unread else ""
        part = f"page {page.number} of {page.total}{rest}"
        answer = fenced("paper", bounded(page.text, MAX_RESULT), name=page.name, title=page.title, part=part)
        return f"{one_line(page.name, 100)}, {part}", answer

    def _library(self) -> papers.Library:
        if self._brief.papers is None:
            raise EditError("this session has no papers", hint="continue without")
        return self._brief.papers

    async def _notes(self, input: Mapping[str, Any]) -> tuple[str, str]:
        action, notebook = choice(input, "action", ("read", "add", "replace")), self._brief.notebook
        if action is None:
            raise EditError('"action" is missing', hint="give read, add or replace")
        if action == "read":
            summary, notes = "read", notebook.read()
        else:
            new = text(input, "text")
            summary = f"{action}: {one_line(new, 160)}"
            notes = notebook.add(new) if action == "add" else notebook.replace(new)
        return summary, fenced("notebook", notes or "(empty)", characters=len(notes))


def _entry_line(entry: ArxivEntry, whole: bool = False) -> str:
    """One arXiv paper: name, date, title, authors, and the abstract, cut unless `whole`."""
    authors = ", ".join(one_line(a) for a in entry.authors[:4]) + (" and others" if len(entry.authors) > 4 else "")
    abstract = one_line(entry.abstract, 0 if whole else 500)
    return f"arxiv:{entry.id} ({entry.published[:10]}) {one_line(entry.title)} — {authors}: {abstract}"


# --- a tool's input -------------------------------------------------------------------------------


def text(input: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A string; `default` when it is missing. Raises EditError."""
    value = input.get(name)
    if value is None:
        if default is None:
            raise EditError(f'"{name}" is missing', hint="give it as text")
        return default
    if not isinstance(value, str):
        raise EditError(f'"{name}" is {type(value).__name__}, not text', hint="give it as text")
    return value


def whole(input: Mapping[str, Any], name: str, least: int) -> int | None:
    """A whole number of at least `least`, also written as text; None when it is missing. Raises EditError."""
    value = input.get(name)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not number.is_integer() or number < least:
        raise EditError(f'"{name}" is not a whole number of at least {least}', hint="give a whole number")
    return int(number)


def flag(input: Mapping[str, Any], name: str) -> bool:
    """True or false; false when it is missing. Raises EditError."""
    value = input.get(name)
    if value in (None, True, False, "true", "false"):
        return value in (True, "true")
    raise EditError(f'"{name}" is neither true nor false', hint="give true or false")


def choice(input: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    """One of `choices`; None when it is missing. Raises EditError."""
    value = input.get(name)
    if value is None or value == "":
        return None
    if value not in choices:
        raise EditError(f'"{name}" is {one_line(str(value), 60)!r}', hint=f"choose one of: {', '.join(choices)}")
    return str(value)
