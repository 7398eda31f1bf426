"""Escapes from the sandbox: each is attempted in each tier of this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.lab.environment import readable_roots, run_environment
from core.lab.runner import RunResult, RunSpec, start
from core.lab.sandbox import landlock
from core.lab.sandbox.tiers import NOTES, SandboxSpec, Tier, command, probe
from tests.lab.conftest import marked, needs, until

Make = Callable[..., RunSpec]

TRY = """
import ctypes, mmap, os, shutil, signal, socket, subprocess, sys
def attempt(name, do):
    try:
        got = do()
    except (OSError, EOFError, ImportError) as error:
        print(f"{name}: refused ({error})")
    else:
        print(f"{name}: ALLOWED {got!r}")
"""


class Host:
    """The surroundings of a sandbox: home with keys, engine's socket, another worktree, hidden data, repository."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.worktree = base / "trees" / "1"
        self.other = base / "trees" / "2"
        self.home = base / "home"
        self.data = base / "site-packages" / "corpus"
        self.git = base / "repo.git"
        for folder in (self.worktree, self.other, self.home / ".ssh", self.data, self.git, base / "tmp", base / "out"):
            folder.mkdir(parents=True)
        (self.worktree / ".git").write_text(f"gitdir: {self.git}\n")
        (self.other / "notes").write_text("other")
        (self.home / ".ssh" / "id").write_text("PRIVATE")
        (self.git / "config").write_text("[core]")
        self.hidden = self.data / "validation.txt"
        self.hidden.write_text("VALIDATION")
        (self.data / "train.txt").write_text("TRAINING")
        (self.data / "deep").mkdir()
        (self.data / "deep" / "more.txt").write_text("MORE")
        self.secret_folder = self.data / "secret"
        self.secret_folder.mkdir()
        (self.secret_folder / "x").write_text("SECRET")
        self.env = run_environment(base)

    def spec(self, tier: Tier, **more: Any) -> SandboxSpec:
        readable = (*readable_roots(self.env), self.base / "site-packages")
        return SandboxSpec(worktree=self.worktree, writable=(self.base / "out",), readable=readable,
        tmp=self.base / "tmp",
                        hidden=(self.hidden, self.secret_folder), tier=tier, **more)  # fmt: skip

    def run(self, spec: SandboxSpec, program: str, *args: object, card: bool = False) -> dict[str, str]:
        """The outcome of each attempt by name. `card`: as if there were a card."""
        text = TRY + textwrap.dedent(program)
        argv = command(spec, [sys.executable, "-S", "-c", text, *map(str, args)])
        if card:
            argv = [word.replace("'cuda': False", "'cuda': True") for word in argv]
        done = subprocess.run(argv, cwd=self.worktree, env={**self.env, "HOME": str(self.home)}, capture_output=True,
                              text=True, timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@pytest.fixture
def host() -> Iterator[Host]:
    # Not under /tmp: a sandbox of tier A has a private /tmp, and a write "outside" would only reach that.
    with tempfile.TemporaryDirectory(prefix="autoresearch-test-", dir="/var/tmp") as base:
        yield Host(Path(base).resolve() / "ya rd 🚀")


@pytest.fixture
def server(host: Host) -> Iterator[tuple[str, int]]:
    """A Unix socket and a TCP port that accept every connection: (path, port)."""
    path = f"/tmp/autoresearch-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as inet:
        unix.bind(path)
        unix.listen()
        yield path, inet.getsockname()[1]
    Path(path).unlink()


def test_files_outside_the_run_are_inaccessible(host: Host, tier: Tier) -> None:
    got = host.run(
        host.spec(tier),
        """
        base = sys.argv[1]
        def write(path):
            with open(path, "w") as file: file.write("x")
        for place in ("trees/1/new", "out/new", "tmp/new"):
            attempt("good " + place, lambda: write(f"{base}/{place}"))
        attempt("good mkdir", lambda: os.mkdir("d") or write("d/f") or os.rename("d/f", "g"))
        attempt("good read", lambda: open(f"{base}/site-packages/corpus/train.txt").read())
        attempt("good deep read", lambda: open(f"{base}/site-packages/corpus/deep/more.txt").read())
        attempt("good list", lambda: os.listdir(f"{base}/site-packages/corpus"))
        attempt("good null", lambda: write("/dev/null"))
        attempt("good random", lambda: open("/dev/urandom", "rb").read(4))
        attempt("good shm", lambda: write("/dev/shm/autoresearch-test") or os.unlink("/dev/shm/autoresearch-test"))
        attempt("good exec", lambda: subprocess.check_output(["/bin/sh", "-c", "cat /proc/self/stat"]))
        hidden = f"{base}/site-packages/corpus/validation.txt"
        attempt("bad hidden", lambda: open(hidden).read())
        attempt("bad hidden folder", lambda: open(f"{base}/site-packages/corpus/secret/x").read())
        attempt("bad hidden link", lambda: os.symlink(hidden, "l") or open("l").read())
        attempt("bad hidden hard link", lambda: os.link(hidden, "h") or open("h").read())
        attempt("bad hidden moved", lambda: os.rename(f"{base}/site-packages/corpus", "c"))
        attempt("bad home", lambda: open(f"{base}/home/.ssh/id").read())
        attempt("bad home list", lambda: os.listdir(f"{base}/home"))
        attempt("bad home write", lambda: write(f"{base}/home/x"))
        attempt("bad other worktree", lambda: open(f"{base}/trees/2/notes").read())
        attempt("bad repository", lambda: open(f"{base}/repo.git/config").read())
        attempt("bad repository write", lambda: write(f"{base}/repo.git/hook"))
        attempt("bad beside", lambda: write(f"{base}/x"))
        attempt("bad data write", lambda: write(f"{base}/site-packages/corpus/train.txt"))
        attempt("bad data truncate", lambda: os.truncate(f"{base}/site-packages/corpus/train.txt", 0))
        attempt("bad python write", lambda: write(os.path.dirname(os.__file__) + "/sitecustomize.py"))
        attempt("bad etc", lambda: write("/etc/autoresearch-test"))
        attempt("bad shadow", lambda: open("/etc/shadow").read() or 1 / 0)
        attempt("bad usr", lambda: write("/usr/autoresearch-test"))
        attempt("bad root", lambda: os.listdir("/root/.ssh") if os.path.exists("/root/.ssh") else open("/root/x"))
        attempt("bad disk", lambda: open("/dev/vda", "rb").read(1))
        attempt("bad var", lambda: os.listdir("/var/log"))
        """,
        host.base,
    )
    wrong = {k: v for k, v in got.items() if v.startswith("ALLOWED") != k.startswith("good")}
    assert wrong == {} and len(got) == 32
    assert (host.data / "train.txt").read_text() == "TRAINING"
    assert not Path("/etc/autoresearch-test").exists()


def test_the_network_is_unreachable(host: Host, tier: Tier, server: tuple[str, int]) -> None:
    program = """
    path, port = sys.argv[1], int(sys.argv[2])
    def connect(family, kind, address):
        with socket.socket(family, kind) as s:
            s.settimeout(2)
            s.connect(address)
    attempt("inet", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)))
    def datagram():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"x", ("8.8.8.8", 53))
    attempt("datagram", datagram)
    attempt("unix", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, path))
    def pair():
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        a.sendto(b"x", path)
    attempt("pair", pair)
    def good():
        a, b = socket.socketpair()
        a.send(b"x")
        return b.recv(1)
    attempt("good", good)
    """
    got = host.run(host.spec(tier), program, *server)
    assert {name for name, became in got.items() if became.startswith("ALLOWED")} == {"good"}, got
    got = host.run(host.spec(tier, network=True), program, *server)
    assert got["inet"].startswith("ALLOWED"), got


def test_the_processes_of_a_run_reach_each_other_in_tier_a_by_the_host_name(host: Host) -> None:
    """As torch.distributed and Ray do. The machine's own name may stand for an address outside."""
    program = """
    def own():
        with socket.create_server((socket.gethostname(), 0)) as s, socket.create_connection(s.getsockname()):
            return socket.gethostbyname(socket.gethostname())
    attempt("good", own)
    """
    assert host.run(host.spec(needs("A")), program) == {"good": "ALLOWED '127.0.0.1'"}


def test_other_processes_are_inaccessible(host: Host, tier: Tier) -> None:
    with subprocess.Popen(["sleep", "60"], env={"KEY": "sk-secret"}) as victim:
        got = host.run(
            host.spec(tier),
            """
            pid = int(sys.argv[1])
            libc = ctypes.CDLL(None, use_errno=True)
            def call(name, *args):
                if getattr(libc, name)(*args) < 0:
                    raise OSError(ctypes.get_errno(), name)
            def same():  # in a private PID namespace the number may belong to another process
                if open(f"/proc/{pid}/comm").read() != "sleep\\n": raise OSError("not there")
            attempt("signal", lambda: same() or os.kill(pid, signal.SIGKILL))
            attempt("all processes", lambda: same() or os.kill(-1, 0))
            attempt("environment", lambda: same() or open(f"/proc/{pid}/environ").read())
            attempt("memory", lambda: same() or open(f"/proc/{pid}/mem", "rb").read(1))
            attempt("root", lambda: same() or os.listdir(f"/proc/{pid}/root/"))
            attempt("ptrace", lambda: same() or call("ptrace", 16, pid, 0, 0))
            attempt("read memory", lambda: same() or call("process_vm_readv", pid, None, 0, None, 0, 0))
            import resource
            attempt("limits", lambda: same() or resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0)))
            """,
            victim.pid,
        )
        alive = victim.poll() is None
        victim.kill()
    allowed = {name for name, became in got.items() if became.startswith("ALLOWED")}
    # `kill(-1, 0)` reaches the sandbox's own processes at most.
    expected = {"all processes"}
    assert allowed <= expected and alive, got


def test_privileges_cannot_be_gained(host: Host, tier: Tier) -> None:
    got = host.run(
        host.spec(tier),
        """
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, *args):
            if getattr(libc, name)(*args) < 0:
                raise OSError(ctypes.get_errno(), name)
        attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
        attempt("chroot", lambda: os.chroot("."))
        attempt("namespace", lambda: call("unshare", 0x00020000))
        attempt("user namespace", lambda: call("unshare", 0x10000000))
        attempt("hostname", lambda: call("sethostname", b"x", 1))
        attempt("chown", lambda: os.chown(".", 1, 1) or os.mknod("node", 0o20600, os.makedev(1, 3)))
        def caps():
            text = open("/proc/self/status").read()
            if "CapEff:\\t0000000000000000" in text and "NoNewPrivs:\\t1" in text: raise OSError("none")
        attempt("capabilities", caps)
        child = subprocess.check_output(["/bin/cat", "/proc/self/status"], text=True)
        attempt("after exec", lambda: "CapEff:\\t0000000000000000" in child or 1 / 0)
        """,
    )
    allowed = {name for name, became in got.items() if became.startswith("ALLOWED")}
    if tier == "A" and "--disable-userns" not in command(host.spec(tier)):
        allowed.discard("user namespace")  # bubblewrap before 0.8
    assert allowed == {"after exec"}, got


@pytest.mark.parametrize("scoring", [False, True])
def test_what_a_driver_of_cuda_does_when_it_starts_is_allowed(host: Host, tier: Tier, scoring: bool) -> None:
    """The calls that end with error 304 when they are refused, from the first thread and from another."""
    program = """
    import threading
    def name(text):
        task = f"/proc/self/task/{threading.get_native_id()}/comm"
        with open(os.open(task, os.O_RDWR | os.O_TRUNC), "wb", buffering=0) as file:
            file.write(text.encode())
        return open(task).read().strip()
    def listen():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as one:
            one.bind(f"\\0cuda-uvmfd-{os.stat('/proc/self/ns/pid').st_ino}-{os.getpid()}")
            one.listen(1)
    attempt("name", lambda: name("driver"))
    attempt("listen", listen)
    other = threading.Thread(target=lambda: attempt("thread", lambda: name("other")))
    other.start()
    other.join()
    attempt("kernel", lambda: open("/proc/sys/kernel/core_pattern", "a"))
    attempt("parent", lambda: open(f"/proc/{sys.argv[1]}/comm", "w"))
    attempt("connect", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect("/run/udev/control"))
    """
    spec = host.spec(tier, read_only=scoring, processes=True)
    got = host.run(spec, program, os.getpid(), card=True)
    assert {name for name, became in got.items() if became.startswith("ALLOWED")} == {"name", "listen", "thread"}, got


def test_scoring_is_read_only(host: Host, tier: Tier) -> None:
    spec = SandboxSpec(worktree=host.worktree, readable=(*readable_roots(host.env), host.base / "out"),
    hidden=(host.hidden,),
                    read_only=True, tier=tier)  # fmt: skip
    (host.worktree / "model.py").write_text("x = 1\n")
    (host.base / "out" / "weights").write_text("W")
    got = host.run(
        spec,
        """
        base = sys.argv[1]
        attempt("model", lambda: open("model.py").read())
        attempt("weights", lambda: open(f"{base}/out/weights").read())
        attempt("write", lambda: open("model.py", "w"))
        attempt("write weights", lambda: open(f"{base}/out/weights", "w"))
        attempt("new", lambda: open(f"{base}/out/new", "w"))
        """,
        host.base,
    )
    assert {name for name, became in got.items() if became.startswith("ALLOWED")} == {"model", "weights"}, got
    assert json.loads(json.dumps(command(spec))) == command(spec)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("tier", ["A", "B"])
def test_the_sandbox_works_for_an_unprivileged_user(tmp_path: Path, tier: Tier) -> None:
    needs(tier)
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("there is no system Python that every user may run")
    # The home of root is closed to others: a copy of the lab in a folder that every user may read.
    base = Path("/tmp") / f"autoresearch-nobody-{os.getpid()}"
    try:
        shutil.copytree(Path(landlock.__file__).parents[2], base / "core", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["chmod", "-R", "a+rX", str(base)], check=True)
        program = f"import sys; sys.path.insert(0, {str(base)!r})\n"
        program += f"from core.lab.sandbox.tiers import probe; print({{t: ok for t, ok, _ in probe().tiers}}[{tier!r}])"
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", program],
                              capture_output=True, text=True, cwd="/")  # fmt: skip
        assert done.stdout == "True\n", done.stdout + done.stderr
    finally:
        shutil.rmtree(base)


async def finished(spec: RunSpec) -> RunResult:
    return await (await start(spec)).wait()


async def test_a_whole_run_completes_in_the_sandbox(job: Make, tier: Tier, tmp_path: Path) -> None:
    program = """
    message, fds = ready()
    print(os.read(fds[0], 100).decode())
    open(os.environ["AUTORESEARCH_RUN_DIR"] + "/weights", "w").write("w")
    open(os.environ["HOME"] + "/h", "w").write("h")
    import tempfile
    tempfile.TemporaryFile().write(b"t")
    folder = os.path.dirname(os.environ["AUTORESEARCH_RUN_DIR"])
    for name in ("exit.json", "status.json", "kill", "output.log", "lock", "spec.json"):
        try: open(f"{folder}/{name}", "w").write("forged")
        except OSError: continue
    try: print(open(os.path.dirname(folder) + "/train.bin").read())
    except OSError: print("train closed")
    done(steps=1)
    """
    spec = job(program, channel=True, sandbox=tier)
    result = await finished(spec)
    assert result.ended == "done", result
    assert (spec.folder / "output.log").read_text() == "training data\ntrain closed\n"
    assert not (spec.folder / "kill").exists() and json.loads((spec.folder / "spec.json").read_text())
    assert (spec.out / "weights").read_text() == "w"


async def test_all_processes_of_a_sandboxed_run_are_ended(job: Make, tier: Tier) -> None:
    program = """
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True: time.sleep(1)
            os._exit(0)
    print("up", flush=True)
    while True: time.sleep(1)
    """
    spec = job(program, sandbox=tier)
    one = await start(spec)
    await until(lambda: "up" in (spec.folder / "output.log").read_text())
    result = await one.kill("enough")
    assert result.ended == "killed"
    assert marked(spec) == []


async def test_the_git_file_of_the_worktree_is_restored(job: Make, tier: Tier) -> None:
    program = """
    try:
        os.unlink(".git"); os.mkdir(".git"); open(".git/config", "w").write("[core]")
    except OSError:
        print("kept")
    """
    spec = job(program, sandbox=tier)
    (spec.cwd / ".git").write_text("gitdir: /somewhere\n")
    await finished(spec)
    assert (spec.cwd / ".git").read_text() == "gitdir: /somewhere\n"


def test_a_virtual_environment_around_the_worktree_does_not_expose_it(host: Host, tier: Tier) -> None:
    (host.base / "lib").mkdir()
    (host.base / "lib" / "module").write_text("m")
    got = host.run(
        SandboxSpec(worktree=host.worktree, readable=(*readable_roots(host.env), host.base), tier=tier),
        """
        attempt("library", lambda: open(sys.argv[1] + "/lib/module").read())
        attempt("other", lambda: open(sys.argv[1] + "/trees/2/notes").read())
        """,
        host.base,
    )
    assert got["library"].startswith("ALLOWED") and got["other"].startswith("refused"), got


def test_the_report_names_the_tier_and_its_limits() -> None:
    report = probe()
    ok = {tier: works for tier, works, _ in report.tiers}
    assert ok["C"] and report.tier == next(t for t in ("A", "B", "C") if ok[t])
    assert report.note == NOTES[report.tier] and all(why for _, _, why in report.tiers)
    assert "not covered" in NOTES["A"] and "NOT a sandbox" in NOTES["C"]
    assert command(SandboxSpec(worktree=Path("/"), tier="C"), ["x"]) == ["x"]


def test_readable_paths_exclude_exactly_the_hidden_ones(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/b/d", "a/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/link").symlink_to("b/c")
    root = str(tmp_path)
    listed, granted = landlock.carve(root, [f"{root}/a/b/c"])
    assert sorted(listed) == [root, f"{root}/a", f"{root}/a/b"]
    assert sorted(granted) == [f"{root}/a/b/d", f"{root}/a/e"]
    assert landlock.carve(root, [f"{root}x"]) == ([], [root])
    assert landlock.carve(root, [root]) == ([], [])
    assert landlock.carve(f"{root}/a/b", [root]) == ([], [])
