"""`python -P -m core.engine serve|doctor`: started by a client, never imported by one."""

from __future__ import annotations

import argparse
import json
import sys
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
    doctor.add_argument("project", nargs="?", type=Path, default=Path())
    asked = parser.parse_args(argv)
    if asked.command == "doctor":
        from core.engine.doctor import examine

        json.dump(examine(asked.project.resolve()), sys.stdout)
        return 0
    from core.engine.daemon import serve as run

    return run(asked.project, asked.session, options_from(json.loads(asked.options)), asked.ready_fd)


if __name__ == "__main__":
    sys.exit(main())
