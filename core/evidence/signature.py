"""Signatures of certificates by a person's SSH key, made and checked with `ssh-keygen -Y`, as git does for commits"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from core.evidence.section import Section
from core.git import Git
from core.record.errors import GitError, SessionError
from core.session.chain import SHORT
from core.session.disk import read_json, replace_file
from core.session.paths import signature_of
from core.temporary import own_folder
from core.text import one_line

NAMESPACE = "autoresearch-tui"
KEYS = ("id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa")  # below ~/.ssh, the first that is there
_MOST_BYTES = 1 << 16  # of a signature: one of a large RSA key has 3 kB
_SECONDS = 60.0  # without a terminal: nobody answers a question
_OPEN = "others can read that file"
_NAME_ONE = "name the file of an SSH key with --key FILE"
_AGAIN = "sign the certificate again"
_INSTALL = "install OpenSSH 8.2 or newer, for example: apt-get install openssh-client"


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys that are known: a file as ssh-keygen(1) describes under ALLOWED SIGNERS. None: nobody's is."""

    file: Path | None = None


NOBODY = Signers()


def sign(certificate: Path, key: str, *, terminal: bool) -> str:
    """Sign a certificate beside it. Returns who signed, in words. `key`: a file, or a public key that the agent holds.

    `terminal`: a person can type a passphrase; without it nothing is asked. Raises SessionError.
    """
    program = _ssh_keygen()
    with _key_file(key) as file, own_folder("sign") as folder:
        copy = Path(
            folder, certificate.name
        )  # ssh-keygen asks before it replaces a signature, and does not beside this
        copy.write_bytes(certificate.read_bytes())
        done = _run([program, "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(file), str(copy)], terminal=terminal)
        signature = signature_of(copy).read_bytes() if signature_of(copy).is_file() else b""
    if done.returncode or not signature:
        said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
        why = re.sub(r"^Enter [^:]*: ", "", said[-1]) if said else "see above" if terminal else "it gives no reason"
        why = _OPEN if any("too open" in line for line in said) else why
        raise SessionError(
            f"ssh-keygen did not sign ({why})", where=one_line(key, 80), hint=_step_for(key, why, terminal=terminal)
        )
    replace_file(signature_of(certificate), signature)
    return signer(certificate)


def _step_for(key: str, why: str, *, terminal: bool) -> str:
    """What helps where a key did not sign."""
    if why == _OPEN:
        return f"chmod 600 {shlex.quote(key)}"
    if "load public key" in why:
        return _NAME_ONE
    if _in_words(key):
        return "give the agent its other half: ssh-add FILE"
    return f"ssh-keygen -y -f {shlex.quote(key)}" if terminal else f"ssh-add {shlex.quote(key)}, or use a terminal"


def default_key(project: Path) -> str:
    """The key that git signs with (user.signingKey, where gpg.format is ssh), else the first of ~/.ssh.

    Raises SessionError where there is neither.
    """
    if _configured(project, "gpg.format") == "ssh" and (key := _configured(project, "user.signingKey")):
        return key
    folder = Path.home() / ".ssh"
    for name in KEYS:
        for file in (folder / name, folder / f"{name}.pub"):
            if file.is_file():
                return str(file)
    raise SessionError(
        "there is no SSH key to sign with", where=str(folder),
        hint="name one with --key FILE, or make one: ssh-keygen -t ed25519",
    )  # fmt: skip


def known_signers(project: Path, asked: str | None) -> Signers:
    """The file that was asked for, or git's gpg.ssh.allowedSignersFile. Raises SessionError for one that is missing."""
    named = asked or _configured(project, "gpg.ssh.allowedSignersFile", path=True)
    if not named:
        return NOBODY
    file = Path(os.path.expanduser(named))  # noqa: PTH111 - Path's raises where there is no home
    if not file.is_file():
        if not asked:
            return NOBODY
        raise SessionError("there is no such file of allowed signers", where=str(file), hint="name another file")
    return Signers(file.absolute())


def signer(certificate: Path) -> str:
    """Type and fingerprint of the key in a certificate's signature, unchecked; "" without one that can be read."""
    try:
        lines = _stored(certificate).decode("ascii", "replace").splitlines()
        blob = base64.b64decode("".join(line for line in lines if not line.startswith("-----")), validate=True)
        key = _string(blob, 10)  # after the magic and the version
        kind = _string(key, 0).decode("ascii", "replace").removeprefix("ssh-").partition("@")[0].removeprefix("sk-ssh-")
    except (OSError, ValueError):
        return ""
    if blob[:6] != b"SSHSIG" or not kind.isprintable():
        return ""
    fingerprint = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return f"{kind.upper()} SHA256:{fingerprint}"


def _stored(certificate: Path) -> bytes:
    """The file of a certificate's signature; empty where it is none: a pipe or a device, or far too large."""
    file = signature_of(certificate)
    return file.read_bytes() if file.is_file() and file.stat().st_size <= _MOST_BYTES else b""


def marks(certificate: Path) -> str:
    """What a certificate that is there says of the log, and who signed it, unchecked; "" when it is not there."""
    told = read_json(certificate)
    if not told:
        return ""
    log = told.get("log")
    named = isinstance(log, dict) and f"{log.get('events')}:{str(log.get('head'))[:SHORT]}"
    who = signer(certificate)
    return f"{f'log {named}' if named else 'names no log'}, {f'signed by {who}' if who else 'not signed'}"


def check_signature(section: Section, certificate: Path, signers: Signers) -> bool:
    """Whether it is signed. A signature that does not fit is a misfit, one of a key that nobody knows a note."""
    file = signature_of(certificate)
    if not file.exists():
        return False
    if not _stored(certificate):
        section.misfit(str(file), "it is no signature", _AGAIN)
        return False
    try:
        program = _ssh_keygen()
    except SessionError as error:
        section.notes.append(f"{file}: not checked: {error.what}")
        return True
    who, names = signer(certificate), ""
    if signers.file is not None:
        names = _ask(program, certificate, "find-principals", "-f", str(signers.file)) or ""
    if names:
        allowed = ("-f", str(signers.file), "-I", names.splitlines()[0])
        good = _ask(program, certificate, "verify", *allowed) is not None
    else:
        good = _ask(program, certificate, "check-novalidate") is not None
    if not good:
        section.misfit(
            str(file), f"the signature does not fit the certificate ({who or 'no key can be read in it'})", _AGAIN
        )
    elif not names and signers.file is not None:
        section.misfit(str(file), f"signed by {who}, whom {signers.file} does not name",
                       "add that key to the file, if it is one that you trust")  # fmt: skip
    else:
        unknown = "; whose key that is, an allowed signers file says (--allowed-signers FILE)"
        section.notes.append(f"{certificate}: signed by {names.splitlines()[0] + ', ' if names else ''}{who}"
                             f"{'' if names else unknown}")  # fmt: skip
    return True


def _ask(program: str, certificate: Path, what: str, *more: str) -> str | None:
    """What ssh-keygen answers about a signature; None when it refuses."""
    command = [program, "-Y", what, "-n", NAMESPACE, "-s", str(signature_of(certificate)), *more]
    try:
        with certificate.open("rb") as source:
            done = _run(command, source)
    except (OSError, SessionError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _run(
    command: list[str], source: IO[bytes] | None = None, *, terminal: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Without a terminal it has none of its own either, and no window asks: it fails at once."""
    quiet = {} if terminal else {"SSH_ASKPASS_REQUIRE": "never"}
    given = source if source is not None else None if terminal else subprocess.DEVNULL
    try:
        return subprocess.run(
            command, stdin=given, stdout=subprocess.PIPE, stderr=None if terminal else subprocess.PIPE,
            env={**os.environ, **quiet}, start_new_session=not terminal, timeout=None if terminal else _SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SessionError(f"ssh-keygen did not end within {_SECONDS:g} s", hint="sign in a terminal") from None
    except OSError as error:
        raise SessionError(f"ssh-keygen could not be started ({error.strerror})", hint=_INSTALL) from None


def _ssh_keygen() -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SessionError("ssh-keygen is not installed, and signatures need it", hint=_INSTALL)
    return program


def _in_words(key: str) -> bool:
    """Whether it is a public key itself and not the name of a file."""
    return key.startswith(("key::", "ssh-", "ecdsa-", "sk-"))


@contextmanager
def _key_file(key: str) -> Iterator[Path]:
    """The file of a key: as it was named, or a temporary one for a public key in words, as git allows."""
    if _in_words(key):
        with own_folder("key") as folder:
            file = Path(folder, "key.pub")
            file.write_text(f"{key.removeprefix('key::')}\n")
            yield file
        return
    file = Path(os.path.expanduser(key))  # noqa: PTH111 - Path's raises where there is no home
    if not file.is_file():
        raise SessionError("there is no such key", where=str(file), hint=_NAME_ONE)
    yield file


def _configured(project: Path, name: str, *, path: bool = False) -> str:
    try:
        how = ("--type=path",) if path else ()
        return Git(project).run("config", *how, "--get", name).out.decode(errors="replace").strip()
    except (GitError, OSError):
        return ""


def _string(data: bytes, at: int) -> bytes:
    """A string of SSH's wire format: its length in 4 bytes, then its bytes. Raises ValueError."""
    if len(data) < at + 4:
        raise ValueError("too short")
    size = int.from_bytes(data[at : at + 4], "big")
    if len(data) < at + 4 + size:
        raise ValueError("too short")
    return data[at + 4 : at + 4 + size]
