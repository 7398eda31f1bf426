"""Entry point of the command line: runs a command, reports its error, returns the exit code

Imports are inside functions, so that `status` does not load the app, nor `--help` the log.
"""

from __future__ import annotations

import gc
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

    # Ten thousand experiments are many objects that stay: the collector's default pace costs 0.3 s at opening.
    gc.set_threshold(50_000, 20, 50)
    _set_missing_home()
    arguments = parser.parse(words)
    return int(arguments.handler(arguments, out))


def _set_missing_home() -> None:
    """HOME is / where the user has none (a container under an unknown uid), as in containers.

    It cannot be written; what needs to write reports it, with AUTORESEARCH_HOME as the hint.
    """
    import os

    if os.path.expanduser("~") == "~":  # noqa: PTH111 - Path's raises
        os.environ["HOME"] = "/"


def _failed(error: Exception, out: Output) -> int:
    from core.record.errors import AutoresearchError

    if isinstance(error, BrokenPipeError):
        return 1  # the reader of the pipe has left: no report
    if isinstance(error, AutoresearchError):
        out.error(str(error))
        return error.exit_code
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        where = f"{error.filename}: " if error.filename else ""
        out.error(f"{where}{error.strerror.lower()}\n  hint: {_hint_of(error)}")
        return 1
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of Path.expanduser
        out.error("the home folder of this ~ is not known\n  hint: write the path in full")
        return 1
    out.error(f"internal error: {type(error).__name__}: {error}\n{_keep_traceback(error)}")
    return 1


def _hint_of(error: OSError) -> str:
    """The hint for an error of the system."""
    import errno

    hints = {
        errno.EACCES: "choose a path that you may read and write, or change its mode",
        errno.EPERM: "choose a path that you may read and write, or change its mode",
        errno.EROFS: "choose a path on a writable disk",
        errno.ENOENT: "create that folder first, or name another",
        errno.ENOTDIR: "name a folder: a part of that path is a file",
        errno.EISDIR: "name a file: that is a folder",
        errno.ENOSPC: "free some space on this disk",
        errno.EDQUOT: "free some space: your quota is used up",
        errno.ENAMETOOLONG: "choose a shorter name",
        errno.EBADF: "it is closed: run the command without >&-",
        errno.EIO: "check the terminal or the disk behind it",
        errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    }
    return hints.get(error.errno or 0, "correct what the system reports, then try again")


def _keep_traceback(error: Exception) -> str:
    """Write the traceback to a file. Returns the hint that names it."""
    import time
    import traceback

    try:
        from core.session.homes import state_home

        folder = state_home() / "crashes"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.txt"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    except Exception:
        return "  hint: none; the details could not be written either"
    return f"  hint: please report it with the details in {path}"


if __name__ == "__main__":
    sys.exit(main())
