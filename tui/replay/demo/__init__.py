"""Demo recording, a session of nanotrain; `make demo` records and packs it again."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path

from core.record.errors import SessionError
from core.session.homes import cache_home
from core.session.paths import SessionPaths

ARCHIVE = Path(__file__).with_name("demo.tar.xz")
PROJECT, NAME = "nanotrain", "demo"
SPEED = 10.0  # recorded seconds in each second; the recording has six minutes


def unpack_demo() -> SessionPaths | None:
    """Unpack the demo's session into the cache, once; None when it is not installed. Raises SessionError."""
    if not ARCHIVE.is_file():
        return None
    digest = hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()[:12]
    paths = SessionPaths(cache_home() / f"demo-{digest}" / PROJECT, NAME)
    if paths.database.is_file():
        return paths
    folder = paths.project.parent
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".demo-"))
        try:
            with tarfile.open(ARCHIVE) as archive:
                # The filter refuses unsafe members. Python 3.11.4 has it, 3.11.2 (Debian 12) does not.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(made)
            if not folder.exists():
                made.replace(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except (OSError, tarfile.TarError) as error:
        raise SessionError(
            f"could not unpack the demo ({error})", where=str(folder), hint="free disk space, or repair that folder"
        ) from error
    return paths
