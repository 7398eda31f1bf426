"""Signing of certificates, with real keys made here: by a file, by git's setting, by the agent; and its faults."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.evidence.section import Section
from core.evidence.signature import check_signature, known_signers, signer
from core.session.paths import SessionPaths, signature_of
from tests.cli.command import run, terminal
from tests.projects import git

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="there is no ssh-keygen")


def new_key(file: Path, passphrase: str = "") -> Path:
    file.parent.mkdir(exist_ok=True, parents=True)
    words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "me", "-f", str(file))
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("SSH_AUTH_SOCK", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    socket = home / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    while not socket.exists():
        assert process.poll() is None
    yield
    process.terminate()
    process.wait()


def said(paths: SessionPaths, number: int = 1) -> tuple[list[str], list[str]]:
    """Misfits and notes on a certificate's signature, by git's signers."""
    section = Section("certificates")
    assert check_signature(section, paths.certificate(number), known_signers(paths.project, None))
    return [m.what for m in section.misfits], section.notes


def allow(project: Path, *keys: Path) -> None:
    file = project / "allowed signers"
    file.write_text("".join(f"{key.name}@example.org {key.with_suffix('.pub').read_text()}" for key in keys))
    git(project, "config", "gpg.ssh.allowedSignersFile", str(file))


def test_a_certificate_is_signed_and_checked(session: SessionPaths, home: Path) -> None:
    mine, other = new_key(home / ".ssh" / "id_ed25519"), new_key(home / "other")
    done = run(session.project, "sign")
    assert done.returncode == 0 and "signed by ED25519 SHA256:" in done.stderr, done.stderr
    file = session.certificate(1)
    assert signature_of(file).stat().st_mode & 0o777 == 0o600
    assert f", signed by {signer(file)}" in run(session.project, "show", "1").stdout
    shown = subprocess.run(["ssh-keygen", "-lf", f"{mine}.pub"], capture_output=True, text=True, check=True).stdout
    assert signer(file).split()[1] in shown
    wrong, notes = said(session)
    assert not wrong and "whose key that is" in notes[0]
    allow(session.project, mine)
    wrong, notes = said(session)
    assert not wrong and "signed by id_ed25519@example.org, ED25519 SHA256:" in notes[0]
    allow(session.project, other)
    wrong, _ = said(session)
    assert "does not name" in wrong[0]
    assert run(session.project, "verify", "--allowed-signers", "allowed signers").returncode == 1
    assert run(session.project, "verify", "--allowed-signers", "nothing").returncode == 1
    allow(session.project, mine, other)
    assert run(session.project, "sign", "1", "--key", str(other)).returncode == 0  # in place of the first
    assert "other@example.org" in said(session)[1][0]
    file.write_bytes(file.read_bytes().replace(b"certified", b"certifieD"))
    assert said(session)[0][0].startswith("the signature does not fit the certificate (ED25519 SHA256:")
    signature_of(file).write_text("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n")
    assert "no key can be read" in said(session)[0][0]


def test_the_key_that_git_signs_with(session: SessionPaths, home: Path, agent: None) -> None:
    key = new_key(home / "elsewhere")
    new_key(home / ".ssh" / "id_ed25519")
    git(session.project, "config", "gpg.format", "ssh")
    git(session.project, "config", "user.signingKey", str(key))
    allow(session.project, key)
    assert run(session.project, "sign").returncode == 0
    assert "elsewhere@" in said(session)[1][0]
    signature_of(session.certificate(1)).unlink()
    git(session.project, "config", "user.signingKey", key.with_suffix(".pub").read_text().strip())
    lost = run(session.project, "sign")
    assert lost.returncode == 1 and "hint: " in lost.stderr and not signature_of(session.certificate(1)).exists()
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    key.unlink()  # the agent has it
    done = run(session.project, "sign")
    assert done.returncode == 0, done.stderr
    assert "elsewhere@" in said(session)[1][0]


def test_a_passphrase_is_asked_for_in_a_terminal_and_nowhere_else(session: SessionPaths, home: Path) -> None:
    key = new_key(home / ".ssh" / "id_ed25519", "open sesame")
    done = run(session.project, "sign", timeout=60, env={"DISPLAY": ":9", "SSH_ASKPASS": "/bin/cat"})
    assert done.returncode == 1 and f"ssh-add {key}" in done.stderr and "Traceback" not in done.stderr
    with terminal(session.project, "sign") as screen:
        screen.wait_for("passphrase")
        screen.type("open sesame\n")
        screen.wait_for("signed by ED25519")
        assert screen.end() == 0


def test_what_is_missing_is_said(session: SessionPaths, home: Path, tmp_path: Path) -> None:
    none = run(session.project, "sign")
    assert none.returncode == 1 and "there is no SSH key to sign with" in none.stderr and "ssh-keygen -t" in none.stderr
    assert "no such key" in run(session.project, "sign", "--key", "nothing").stderr
    exposed = new_key(home / "exposed")
    exposed.chmod(0o644)
    (home / "text").write_text("no key")
    public = exposed.with_suffix(".pub").read_text().strip()
    other_half = "give the agent its other half: ssh-add FILE"
    for key, step in ((exposed, f"chmod 600 {exposed}"), (home / "text", "name the file"), (public, other_half)):
        refused = run(session.project, "sign", "--key", str(key))
        assert refused.returncode == 1 and f"hint: {step}" in refused.stderr
    other = run(session.project, "sign", "2")
    assert other.returncode == 1 and "experiment 2 has no certificate" in other.stderr and "certify 2" in other.stderr
    new_key(home / ".ssh" / "id_ed25519")
    assert run(session.project, "sign").returncode == 0
    (tmp_path / "bin").mkdir()
    for name in ("git", "env"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    bare = {"PATH": str(tmp_path / "bin"), "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
    done = run(session.project, "sign", env=bare)
    assert done.returncode == 1 and "ssh-keygen is not installed" in done.stderr and "hint: install" in done.stderr
    done = run(session.project, "verify", env=bare)
    assert done.returncode == 0 and "not checked: ssh-keygen is not installed" in done.stdout
