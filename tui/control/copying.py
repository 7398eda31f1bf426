"""Copying a commit or a diff to the clipboard: of the terminal, of tmux, and a file"""

from __future__ import annotations

import asyncio
import os

from tui.host import Host
from tui.terminal.escape_codes import Clipboard


def copy_commit(host: Host) -> None:
    if (shown := host.view.subject) and shown.commit:
        host.start(_copy(host, shown.commit, f"{shown.commit[:12]}, the commit of #{shown.number}"))


def copy_diff(host: Host) -> None:
    if shown := host.view.subject:
        diff = host.view.details(shown.number).diff
        host.start(_copy(host, diff, f"the diff of #{shown.number}, {len(diff.splitlines())} lines"))


async def _copy(host: Host, text: str, what: str) -> None:
    host.to_clipboard(text)
    file = await asyncio.to_thread(Clipboard(host.to_terminal, os.environ).copy, text)
    where = f"   (also in {file})" if file else ""
    host.tell(f"{host.look.glyph('ok')} copied {what}{where}", "good")
