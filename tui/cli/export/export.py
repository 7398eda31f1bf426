"""The commands `export` (files for other programs) and `report` (an HTML page)"""

from __future__ import annotations

import errno
import os
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from core import views
from core.record import wire
from core.record.errors import UsageError
from core.record.events import Event
from core.record.state import State
from core.session.disk import replace_file
from core.session.lock import engine_alive
from core.session.paths import SessionPaths
from tui.cli.command import NAME, PROJECT, argument, command
from tui.cli.look import reasoning
from tui.cli.output import Output
from tui.cli.session_names import session_of


@command(
    "export", NAME,
    argument("--results", metavar="FILE.tsv", help="commit, metric, memory_gb, status, description"),
    argument("--plot", metavar="FILE.png", help="the progress chart (.png or .svg)"),
    argument("--json", metavar="FILE", help="status and every experiment with its diff"), PROJECT,
    help="Write a session's results to files: karpathy's five columns, the chart, or everything as JSON.",
    examples=("export --results results.tsv --plot progress.png", "export nov23 --json nov23.json"),
    note="A FILE of - is standard output (--results and --json).",
)  # fmt: skip
def export(arguments: Namespace, out: Output) -> int:
    from core.client import read_state

    if not (arguments.results or arguments.plot or arguments.json):
        hint = "name a file: --results results.tsv, --plot progress.png, --json session.json"
        raise UsageError("no file to export to", hint=hint)
    if arguments.plot and Path(arguments.plot).suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"{arguments.plot!r} is neither .png nor .svg", hint="write --plot progress.png")
    paths = session_of(arguments)
    state = read_state(paths)
    if arguments.results:
        write(arguments.results, views.results_tsv(state), out)
    if arguments.plot:
        from tui.cli.export import plot

        shapes = plot.shapes(views.chart(state))
        svg = Path(arguments.plot).suffix.lower() == ".svg"
        write(arguments.plot, plot.to_svg(shapes) if svg else plot.to_png(shapes), out)
    if arguments.json:
        write(arguments.json, wire.dumps(whole(paths, state)) + "\n", out)
    return 0


def whole(paths: SessionPaths, state: State) -> dict[str, Any]:
    """The status of a session and each experiment as `show --json` has it, in order of number."""
    by_experiment = events_by_experiment(paths)
    alive = engine_alive(paths)
    numbers = sorted(state.experiments)
    shown = [views.show(state, n, by_experiment.get(n, []), reasoning(paths, n)) for n in numbers]
    return {"status": views.status(state, alive, time.time() if alive else state.time), "experiments": shown}


def events_by_experiment(paths: SessionPaths) -> dict[int, list[Event]]:
    """The events of each experiment, by its number, from one pass over the log."""
    from core.client import read_events

    found: dict[int, list[Event]] = {}
    for event in read_events(paths):
        number = getattr(event.body, "experiment", None)
        if isinstance(number, int):
            found.setdefault(number, []).append(event)
    return found


def write(name: str, content: str | bytes, out: Output) -> None:
    """Replace a file atomically; `-` prints. Raises OSError when it cannot be written."""
    if name == "-" and isinstance(content, str):
        out.write(out.safe_json(content) if content.startswith("{") else content)
        return
    path = Path(name).expanduser()
    data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    mask = os.umask(0)
    os.umask(mask)
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe
            path.write_bytes(data)
            return
        replace_file(path, data, mode=0o666 & ~mask)
    except OSError as error:
        error.filename = str(path)  # the system names no file when a write fails
        raise
    out.say(f"wrote {path} ({len(data):,} bytes)")


@command(
    "report", NAME,
    argument("-o", "--output", metavar="FILE.html", required=True, help="the page to write"), PROJECT,
    help="Write one self-contained HTML page: summary, chart, table, and the diffs of the kept experiments.",
    examples=("report -o nov23.html",),
)  # fmt: skip
def report(arguments: Namespace, out: Output) -> int:
    from core.client import read_head, read_state
    from tui.cli.export.html_page import page

    paths = session_of(arguments)
    head = read_head(paths)  # before the rest, of which it is then the beginning
    write(arguments.output, page(paths, read_state(paths), events_by_experiment(paths), head), out)
    return 0
