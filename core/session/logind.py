"""Setting of systemd-logind that kills a user's processes at logout"""

from __future__ import annotations

from pathlib import Path


def kills_user_processes() -> bool:
    """Whether logind kills the processes of a user who logs out (KillUserProcesses)."""
    if not Path("/run/systemd/system").is_dir():
        return False
    files = [Path("/etc/systemd/logind.conf"), *sorted(Path("/etc/systemd/logind.conf.d").glob("*.conf"))]
    setting = "no"
    for file in files:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition("=")
            if key.strip() == "KillUserProcesses":
                setting = value.strip().lower()
    return setting in ("yes", "true", "1", "on")
