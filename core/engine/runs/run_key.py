"""Seeds of a session's runs and names of their folders, from which a run cannot tell which one it is"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.record.errors import LabError
from core.session.homes import state_home
from core.session.paths import SessionPaths

KEY_BYTES = 32


def key_file() -> Path:
    """File of the user's secret. No run may read it."""
    return state_home() / "run.key"


@dataclass(frozen=True)
class RunKey:
    """Keyed hashes (HMAC-SHA256) of the numbers of a session's runs.

    The key is a secret of the user: a resumed session has the same seeds, and so has another of the same name and seed
    of program.md, for the same user of the machine. Whoever does not know the key cannot tell the number of a run from
    its seed, nor one seed from all others.
    """

    session: str
    seed_of_session: int

    def seed(self, run: int) -> int:
        """Seed of a run, different for each: 31 bits."""
        return int.from_bytes(self._hash("seed", run)[:4], "big") >> 1

    def name(self, run: int) -> str:
        """Name of a run's folder and of its worktree. It has a letter in front, so that it is no number."""
        return "r" + self._hash("name", run)[:6].hex()

    def audits(self, run: int, one_in: int) -> bool:
        """Whether a run that is hopeless is run to its end all the same: one in so many, and no run can know which."""
        return int.from_bytes(self._hash("audit", run)[:8], "big") % one_in == 0

    def _hash(self, what: str, run: int) -> bytes:
        text = f"{what} {self.seed_of_session} {run} {self.session}"
        return hmac.digest(self._secret, text.encode(), "sha256")

    @cached_property
    def _secret(self) -> bytes:
        """The user's secret, made at its first use."""
        path = key_file()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            new = path.with_name(f"{path.name}.{secrets.token_hex(6)}")
            new.touch(0o600)
            try:
                new.write_bytes(secrets.token_bytes(KEY_BYTES))
                os.link(new, path)  # whole or not at all, also where two engines begin at once
            finally:
                new.unlink()
        return path.read_bytes()


def make_folder(paths: SessionPaths, run: int, name: str) -> None:
    """Create the folder of a run under `name`, and beside it a link that has its number, for people. Idempotent.

    A run knows the path of its own folder only: by it, it cannot tell its number. Raises LabError.
    """
    link = paths.run(run)
    try:
        (link.parent / name).mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(name)
    except OSError as error:
        hint = "free some space on that disk, or correct its permissions"
        raise LabError(f"could not make the run's folder: {error.strerror}", where=str(link), hint=hint) from None
