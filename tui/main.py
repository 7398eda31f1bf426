"""`autoresearch-tui`: finds the command's file, runs it, and says what went wrong in words.

Imports stay inside functions: `status` must not pay for the app, nor `--help` for the log.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.cli.output import Output


def main(argv: Sequence[str] | None = None) -> int:
    """The whole command line. Returns the exit code: 0 done, 1 refused or failed, 2 usage, 3 no such session."""
    from tui.cli.output import Output

    out = Output()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv), out)
    except SystemExit as end:  # argparse: 0 after --help, 2 after a usage error
        code = end.code if isinstance(end.code, int) else 2
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = _failed(error, out)
    try:
        out.close()
    except OSError as error:
        code = _failed(error, out)
    return code


def _run(words: list[str], out: Output) -> int:
    from tui.cli import parser

    _settle_home()
    arguments = parser.parse(words)
    return int(arguments.handler(arguments, out))


def _settle_home() -> None:
    """Where no home is known (a container that runs under a bare number), / is it, as containers have it themselves.

    It cannot be written, and what needs to says so, and that AUTORESEARCH_HOME mends it.
    """
    import os

    if os.path.expanduser("~") == "~":  # noqa: PTH111 - Path's raises
        os.environ["HOME"] = "/"


def _failed(error: Exception, out: Output) -> int:
    from core.record.errors import AutoresearchError

    if isinstance(error, BrokenPipeError):
        return 1  # the reader of a pipe has what it wants: nothing to report
    if isinstance(error, AutoresearchError):
        out.error(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        where = f"{error.filename}: " if error.filename else ""
        out.error(f"{where}{error.strerror.lower()}\n  hint: {_hint_of(error)}")
        return 1
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of Path.expanduser
        out.error("whose home folder a ~ means is not known\n  hint: write the path in full")
        return 1
    out.error(f"something went wrong that should not have: {type(error).__name__}: {error}\n{_keep_traceback(error)}")
    return 1


def _hint_of(error: OSError) -> str:
    """What to do when the system refused a file."""
    import errno

    mends = {
        errno.EACCES: "choose a place that you may read and write, or change its mode",
        errno.EPERM: "choose a place that you may read and write, or change its mode",
        errno.EROFS: "choose a place on a disk that can be written",
        errno.ENOENT: "make that folder first, or name another",
        errno.ENOTDIR: "name a folder: a part of that path is a file",
        errno.EISDIR: "name a file: that is a folder",
        errno.ENOSPC: "free some space on this disk",
        errno.EDQUOT: "free some space: your quota is used up",
        errno.ENAMETOOLONG: "choose a shorter name",
        errno.EBADF: "it is closed: run the command without >&-",
        errno.EIO: "look at the terminal or the disk behind it",
        errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    }
    return mends.get(error.errno or 0, "see to what the system says, then try again")


def _keep_traceback(error: Exception) -> str:
    """Write the traceback to a file of its own and return the sentence that says where."""
    import time
    import traceback

    try:
        from core.session.homes import state_home

        folder = state_home() / "crashes"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.txt"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    except Exception:
        return "  hint: none known; the details could not be written either"
    return f"  hint: please report it with the details in {path}"


if __name__ == "__main__":
    sys.exit(main())
