"""`python -P -m core.engine serve|doctor|try|prepare`: started by a client, never imported by one."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from functools import partial
from pathlib import Path

from core.session.options import options_from


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="core.engine")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("--project", type=Path, required=True)
    serve.add_argument("--session", required=True)
    serve.add_argument("--options", default="{}")
    serve.add_argument("--ready-fd", type=int, required=True)
    doctor = commands.add_parser("doctor")
    doctor.add_argument("--json", action="store_true")
    doctor.add_argument("--quick", action="store_true")
    doctor.add_argument("--device", action="store_true")
    doctor.add_argument("--options", default="{}")
    doctor.add_argument("--seconds", type=float)
    doctor.add_argument("project", nargs="?", type=Path, default=Path())
    trial = commands.add_parser("try")
    trial.add_argument("--options", default="{}")
    trial.add_argument("--seconds", type=float)
    trial.add_argument("--full", action="store_true")
    trial.add_argument("project", type=Path)
    data = commands.add_parser("prepare")
    data.add_argument("--options", default="{}")
    data.add_argument("--chosen")
    data.add_argument("project", type=Path)
    asked = parser.parse_args(argv)
    options = options_from(json.loads(asked.options))
    if asked.command == "try":
        from core.engine.trial.trial import TrialRequest, try_program
        from core.engine.trial.trial_process import serve_report

        project = asked.project.resolve()
        request = TrialRequest(project=project, options=options, seconds=asked.seconds, full=asked.full)
        return serve_report(partial(try_program, request))
    if asked.command == "doctor" and asked.device:
        from core.engine.device_check.device_check import CheckRequest, check_device
        from core.engine.trial.trial_process import serve_report

        check = CheckRequest(project=asked.project.resolve(), options=options, seconds=asked.seconds)
        return serve_report(partial(check_device, check))
    if asked.command == "prepare":
        from core.engine.startup.project_data import prepare_data
        from core.engine.trial.trial_process import serve_report

        return serve_report(partial(prepare_data, asked.project.resolve(), options, asked.chosen))
    if asked.command == "doctor":
        from core.engine.doctor import examine

        return _print(json.dumps(examine(asked.project.resolve(), quick=asked.quick)))
    from core.engine.daemon import serve as run

    return run(asked.project, asked.session, options, asked.ready_fd)


def _print(text: str) -> int:
    """Write `text` to standard output. Where that fails: one report on standard error, exit code 1."""
    try:
        if sys.stdout is None:  # closed by the caller; number 1 may belong to another file now
            raise OSError("it is closed")
        with open(1, "w", encoding="utf-8", closefd=False) as output:
            output.write(text)
    except OSError as error:
        report = f"core.engine: standard output: {(error.strerror or str(error)).lower()}\n"
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                os.write(2, report.encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
