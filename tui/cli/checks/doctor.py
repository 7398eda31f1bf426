"""The command `doctor`: reports what is ready and gives a hint for what is not"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from core.record.errors import EngineError, ProjectError, UsageError
from tui.cli.checks.device_check import check_device, show_finding
from tui.cli.command import JSON, PROJECT_FOLDER, argument, command, flag, positive_number
from tui.cli.output import Output

DOCTOR_TIMEOUT = 120.0  # seconds: a sandbox probe on a busy machine is slow


@command(
    "doctor", JSON, PROJECT_FOLDER, flag("--quick", help="without a worktree and the first seconds of the run"),
    flag("--device", help="check the card instead, in about three minutes: driver and torch, a start of CUDA in each\n"
         "sandbox tier, and a run of 30 seconds with its times, speed, memory, compiles, probes and score"),
    argument("--slots", metavar="gpu:1|cpu:1", help="with --device: the slot to check (default: the first card)"),
    argument("--seconds", metavar="N", type=positive_number, help="with --device: seconds of training (default: 30)"),
    argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
             help="with --device: override a key of program.md"),
    help="Report what is ready here and what is not: git, program.md, devices, sandbox, researchers, disk; one\n"
    "worktree, the first seconds of the run in it, and one request to the researcher's server; each with its hint.\n"
    "Nothing stays in the repository. Exits 0 when nothing essential is missing.",
    examples=("doctor", "doctor --device", "doctor --device --slots cpu:1"),
)  # fmt: skip
def doctor(arguments: Namespace, out: Output) -> int:
    from core.program.program import find_project

    wanted = Path(arguments.directory).expanduser() if arguments.directory else Path()
    try:
        project = find_project(wanted)
    except ProjectError:
        project = wanted.absolute()  # doctor itself says that program.md is missing
    if arguments.device:
        return check_device(project, arguments, out)
    if arguments.slots or arguments.seconds or arguments.overrides:
        raise UsageError("--slots, --seconds and --set belong to the check of a device", hint="add --device")
    waits = out.tty and not arguments.json
    if waits:
        steps = "the machine" if arguments.quick else "the machine, one worktree, the first seconds of the run"
        out.write(out.paint(f"examining {steps} …"[: out.width - 1], "dim"))
        out.flush()
    try:
        report = _examine(project, quick=arguments.quick)
    finally:
        if waits:
            out.write("\r\x1b[K")
    failed = [f for f in report["findings"] if f["ok"] is False]
    if arguments.json:
        out.json(report)
        return 1 if failed else 0
    for finding in report["findings"]:
        show_finding(finding, out)
    out.line()
    out.line("ready" if not failed else f"not ready: {', '.join(str(f['name']) for f in failed)}")
    return 1 if failed else 0


def _examine(project: Path, *, quick: bool) -> dict[str, Any]:
    words = [sys.executable, "-P", "-m", "core.engine", "doctor", "--json", *["--quick"] * quick, str(project)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=DOCTOR_TIMEOUT, check=False)
        report = json.loads(done.stdout.rpartition("\n")[2] or done.stdout)
    except subprocess.TimeoutExpired:
        raise EngineError(f"doctor did not end within {DOCTOR_TIMEOUT:g} s") from None
    except (OSError, ValueError) as error:
        said = done.stderr.strip().splitlines() if "done" in locals() else []
        raise EngineError(f"doctor failed ({said[-1] if said else error})") from error
    return dict(report)
