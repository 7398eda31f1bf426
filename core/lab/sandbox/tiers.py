"""Sandbox tiers: probe, choice of the best one, and the command line that starts a process in it.

A  bubblewrap: separate namespaces; paths that are not mounted do not exist.
B  Landlock, seccomp, no capabilities: paths that are not granted cannot be opened (`core/lab/sandbox/landlock.py`).
C  no sandbox: only the limits that the shim enforces.

A tier is used only after a probe in it has been refused all forbidden accesses. See docs/sandbox.md.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.lab import container
from core.lab.gpu import cards, nodes, slices
from core.lab.sandbox import machine_state
from core.lab.sandbox.card_start import START_SECONDS, CudaStart, start_argv, start_environment, supervised_start
from core.lab.shim.daemonize import bare_python
from core.record.errors import LabError, UsageError
from core.temporary import own_folder

Tier = Literal["A", "B", "C"]
TIERS: tuple[Tier, ...] = ("A", "B", "C")
Tried = tuple[tuple[Tier, bool, str], ...]  # of each tier: whether it works, and why

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/sys")
# Hidden within SYSTEM: root can read them, and in a container the user is often root.
SECRETS = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssh", "/etc/ssl/private",
           "/etc/sudoers", "/etc/sudoers.d", "/etc/krb5.keytab", "/etc/kubernetes",
           "/sys/fs/cgroup")  # fmt: skip
KERNEL_SETTINGS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi")
# What a run needs nothing of, and every other process changes.
_COUNTERS = (
    *("/proc/locks", "/proc/softirqs", "/proc/interrupts", "/proc/schedstat", "/proc/sched_debug", "/proc/timer_list"),
    *("/proc/slabinfo", "/proc/vmallocinfo", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/pagetypeinfo", "/proc/keys"),
    *("/proc/key-users", "/proc/kcore", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/kallsyms"),
    *("/proc/latency_stats", "/proc/pressure", "/proc/sysvipc", "/sys/kernel/slab", "/sys/kernel/debug"),
    *(f"/proc/sys/fs/{name}" for name in ("aio-nr", "dentry-state", "file-nr", "inode-nr", "inode-state")),
    *("/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/pty/nr", "/proc/sys/kernel/random", "/proc/sys/fs/quota"),
)
# Read by honest programs, which see them as they were at the start of the sandbox.
_AT_START = ("/proc/stat", "/proc/meminfo", "/proc/loadavg", "/proc/vmstat", "/proc/diskstats")
# All that a process which runs a model for scoring can read of the kernel, and of /proc what is its own (tier B).
_SCORING_FILES = tuple(f"/sys/devices/system/cpu/{name}" for name in ("kernel_max", "online", "possible", "present"))
_OWN_FILES = ("auxv", "cgroup", "cmdline", "comm", "environ", "limits", "maps", "stat", "statm", "status")
_NETWORK_FILES = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")

_CONTAINED = {"contained": True, "supervised": True}  # RULES of `landlock.py` in tier A
_FIRST_FD = 3  # of the files that bubblewrap reads; a shell knows numbers up to 9
_SECOND_PROBE_SECONDS = 1.0  # after the first
_INSTALLATION = ("bin", "lib", "lib64", "include", "share", "etc", "pyvenv.cfg")  # of a Python prefix

NOTES: dict[Tier, str] = {
    "A": "covers files, network, processes and sockets; not covered: flaws of the kernel and of the GPU driver",
    "B": "covers files, network, other processes and their sockets; not covered: /dev/shm and process names are "
    "shared, the worktree's .git file is restored only after a run",
    "C": "NOT a sandbox: only time, memory, process and disk limits; the code under test can read and change "
    "whatever you can, and reach the network",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """Paths and resources of a command in the sandbox; apart from them it can access only the system's.

    `worktree` is writable except its `.git`, unless `read_only`: then a model is scored, by one process that may do
    only what a model on the processor needs, unless it may have `processes` or needs one of `cards`. `hidden` overrides
    all other paths. `tmp` is mounted as /tmp where the tier can do that. Of NVIDIA's device files only those in `cards`
    and those that all its cards share can be used; none when it is empty.
    """

    worktree: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    network: bool = False
    read_only: bool = False
    processes: bool = False
    tmp: Path | None = None
    shm_bytes: int | None = None
    supervised: bool = False  # the shim decides local connects and signals, where the tier supports that
    cards: tuple[str, ...] = ()
    tier: Tier | None = None  # None: the best that works here

    @property
    def one_model(self) -> bool:
        """Whether it is for one process that runs a model on the processor for scoring."""
        return self.read_only and not self.processes and not self.cards


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """Result of the probe: the tier used, a note on what it does not cover, and (name, ok, reason) of every tier.

    `no_cuda`: why CUDA does not start on this machine's card, not even outside the sandbox; "" when it does, or
    without a card.
    """

    tier: Tier
    note: str
    tiers: Tried
    no_cuda: str = ""

    @property
    def without_cuda(self) -> tuple[Tier, ...]:
        """The tiers that would work here if CUDA started in them."""
        return tuple(tier for tier, ok, why in self.tiers if not ok and "CUDA does not start" in why)


def probe(*, cuda: bool = True) -> SandboxReport:
    """What the probe in each tier has found (about 0.1 s, once per process). With `cuda` and a card it ends with starts
    of CUDA, which runs in CPU slots do not need.
    """
    tiers, no_cuda = _try_cards() if cuda else (_try_tiers(), "")
    best = next(tier for tier, ok, _ in tiers if ok)
    return SandboxReport(best, NOTES[best], tiers, no_cuda)


def failure(tier: Tier) -> str:
    """Why a tier that worked does not work any more, or "": the probe is made anew (about 0.05 s), and once more before
    that is believed. Without CUDA.
    """
    why = ""
    for wait in (0.0, _SECOND_PROBE_SECONDS):
        time.sleep(wait)
        try:
            ok, why = _run_probe(tier)
        except (OSError, subprocess.TimeoutExpired):  # of this process: nothing follows for the sandbox
            return ""
        if ok:
            return ""
    return why


def no_tier_hint(report: SandboxReport) -> str:
    """What to do where no sandbox works."""
    ways = ["install bubblewrap (apt install bubblewrap)"] if shutil.which("bwrap") is None else []
    if report.without_cuda:
        ways.append("train on the processor with: --slots cpu:2")
    consent = "if that is what you want, consent with: --set sandbox.limits_only=true"
    return "; ".join([*ways, f"or, {consent}" if ways else consent])


def tier_of(spec: SandboxSpec) -> Tier:
    """The tier that the spec names, or the best that works here."""
    return spec.tier or probe(cuda=bool(spec.cards)).tier


def command(spec: SandboxSpec, argv: Sequence[str] = ()) -> list[str]:
    """The command line that starts `argv` in the sandbox; without `argv`, its prefix (AUTORESEARCH_CAGE)."""
    tier = tier_of(spec)
    restricted = bare_python("core.lab.sandbox.landlock")
    if tier == "A":
        asked = [*restricted, repr(_CONTAINED)] if spec.supervised else []
        return [*asked, *_bubblewrap(spec), "--", *argv]
    if tier == "B":
        return [*restricted, repr(_rules(spec)), *argv]
    return list(argv)


def entry(spec: SandboxSpec) -> dict[str, object]:
    """How a process that is forked, not started, enters the sandbox of one model (`core/lab/template/entry.py`)."""
    tier = tier_of(spec)
    if tier == "A":
        program = _program(spec)
        return {"prefix": command(spec), "filter": str(program) if program.exists() else ""}
    return {"rules": _rules(spec)} if tier == "B" else {}


def own_folders(spec: SandboxSpec) -> list[str]:
    """The folders that a process in the sandbox may write, as it names them."""
    return [*_writable(spec), "/dev/shm", *(["/tmp"] if tier_of(spec) == "A" else [])]


# --- tier A -----------------------------------------------------------------------------------------------------------


def _bubblewrap(spec: SandboxSpec) -> list[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise LabError("bubblewrap is not installed", hint="apt-get install bubblewrap")
    bare = spec.one_model
    seccomp = _program(spec)
    given = [path for path in (["/proc/cpuinfo"] if bare else _AT_START) if Path(path).exists()]
    made_up = machine_state.files() if bare else {}
    args = ["--seccomp", "9"] if seccomp.exists() else []
    args += ["--unshare-user", "--unshare-pid", "--unshare-ipc",
             "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session",
             "--cap-drop", "ALL"]  # fmt: skip
    if not spec.network:
        # The machine's own name may stand for an address that does not exist here.
        args += ["--unshare-net", "--hostname", "localhost"]
    if _can_disable_userns(bwrap):
        args.append("--disable-userns")
    args += [*([] if bare else ["--proc", "/proc"]), "--dev", "/dev"]
    # Root in the sandbox has root's uid, which is all that the kernel's settings require.
    for path in _existing([] if bare else KERNEL_SETTINGS):
        args += ["--ro-bind", path, path]
    for path in _existing([] if bare else _COUNTERS):
        args += _cover(path)
    for number, path in enumerate([*given, *made_up]):
        args += ["--ro-bind-data", str(_FIRST_FD + number), path]
    size = ["--size", str(spec.shm_bytes or container.memory_total() // 8)]  # files there use memory
    args += [*size, "--tmpfs", "/dev/shm"]
    for path in _existing([*(path for path in SYSTEM if path != "/sys"), *_SCORING_FILES] if bare else SYSTEM):
        # /bin and others are links into /usr on a merged system: keep them links.
        link = Path(path).is_symlink()
        args += ["--symlink", str(Path(path).readlink()), path] if link else ["--ro-bind", path, path]
    for path in nodes.device_nodes(spec.cards):
        args += ["--dev-bind", path, path]
    args += ["--remount-ro", "/dev"]
    args += ["--bind", str(spec.tmp), "/tmp"] if spec.tmp else [*size, "--tmpfs", "/tmp"]
    binds = [("--ro-bind", path) for path in _readable(spec)] + [("--bind", path) for path in _writable(spec)]
    # Outer folders first: a later mount would cover an inner one.
    for how, path in sorted(binds, key=lambda bind: len(Path(bind[1]).parts)):
        args += [how, path, path]
    args += _links(spec, [path for _, path in binds])
    git = spec.worktree / ".git"
    if not spec.read_only and git.exists():
        args += ["--ro-bind", str(git), str(git)]
    for path in _hidden(spec):
        args += _cover(path)
    # The parents of the mounts are in memory: without this, writes there would succeed.
    args += ["--remount-ro", "/"]
    # bubblewrap takes the filter and what files are to hold as open descriptors, and a command line cannot hold one.
    opened = [(9, str(seccomp))] if seccomp.exists() else []
    opened += [(_FIRST_FD + number, path) for number, path in enumerate(given)]
    words = [*(path for _, path in opened), *made_up.values()]
    script = " ".join(f'{number}<"${place}"' for place, (number, _) in enumerate(opened, start=1))
    for number in range(len(made_up)):
        script += f"\nexec {_FIRST_FD + len(given) + number}<<END\n${{{len(opened) + number + 1}}}\nEND"
    script = f'exec {script}\nshift {len(words)}; exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *words, bwrap, *args]


def _program(spec: SandboxSpec) -> Path:
    """The compiled filter on system calls."""
    kind = "one_model" if spec.one_model else "scoring" if spec.read_only else "bubblewrap"
    return Path(__file__).with_name(f"{kind}.{os.uname().machine}.bpf")


def _cover(path: str) -> list[str]:
    """Put nothing in the place of a file or folder."""
    return ["--tmpfs", path, "--remount-ro", path] if Path(path).is_dir() else ["--ro-bind", "/dev/null", path]


def _links(spec: SandboxSpec, mounted: Sequence[str]) -> list[str]:
    """The symbolic links on the way to the readable paths, such as uv's `cpython-3.12` to `cpython-3.12.5`."""
    links: dict[Path, Path] = {}
    for path in _installed(spec):
        for _ in range(16):
            link = next((part for part in (*reversed(path.parents), path) if part.is_symlink()), None)
            if link is None or any(link.is_relative_to(place) for place in (*SYSTEM, *mounted)):
                break
            links[link] = link.readlink()
            path = Path(os.path.normpath(link.parent / links[link] / path.relative_to(link)))
    return [word for link, target in links.items() for word in ("--symlink", str(target), str(link))]


@functools.cache
def _can_disable_userns(bwrap: str) -> bool:
    """True when this bubblewrap (0.8 or newer) can forbid more user namespaces, a common part of kernel exploits."""
    return b"--disable-userns" in subprocess.run([bwrap, "--help"], capture_output=True, timeout=20).stdout


# --- tier B -----------------------------------------------------------------------------------------------------------


def _rules(spec: SandboxSpec) -> dict[str, object]:
    """RULES of `landlock.py`."""
    # A model that is scored does not need /dev/shm, and could pass data there to the next process.
    shared = [] if spec.read_only else ["/dev/shm"]
    devices = nodes.device_nodes(spec.cards)
    kernel = ["/proc/cpuinfo", *_SCORING_FILES] if spec.one_model else ["/proc", "/sys"]
    system = _existing([*(path for path in SYSTEM if path != "/sys"), *kernel])
    return {
        "contained": False,
        "scoring": spec.read_only,
        "one_model": spec.one_model,
        "read": [*system, *_readable(spec)],
        "own": [f"/proc/self/{name}" for name in _OWN_FILES] if spec.one_model else [],
        "write": _writable(spec),
        "devices": ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", *shared, *devices],
        "hidden": _hidden(spec),
        "network": spec.network,
        "supervised": spec.supervised,
        "scratch": spec.read_only,
        "made_up": machine_state.files() if spec.one_model else {},
        "cuda": nodes.starts_cuda(devices),
    }


# --- both -------------------------------------------------------------------------------------------------------------


def _existing(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if os.path.lexists(path)]


def _installed(spec: SandboxSpec) -> tuple[Path, ...]:
    return (*spec.readable, *(nodes.library_folders() if spec.cards else ()))


def _readable(spec: SandboxSpec) -> list[str]:
    paths = [spec.worktree] if spec.read_only else []
    for root in _installed(spec):
        # A virtual environment in the project's own folder must not make the sessions there readable.
        around = root != spec.worktree and spec.worktree.is_relative_to(root)
        paths += [root / name for name in _INSTALLATION] if around else [root]
    if spec.network:
        paths += map(Path, _NETWORK_FILES)
    return _real(paths)


def _writable(spec: SandboxSpec) -> list[str]:
    return _real([*([] if spec.read_only else [spec.worktree]), *spec.writable, *([spec.tmp] if spec.tmp else [])])


def _hidden(spec: SandboxSpec) -> list[str]:
    """Real paths of the hidden ones that exist: a link hides its target."""
    return _real((*map(Path, SECRETS), *spec.hidden))


def _real(paths: Iterable[Path]) -> list[str]:
    """Real paths of those that exist. One that the harness cannot look up counts as missing: a run cannot either."""
    found: dict[str, None] = {}
    for path in paths:
        try:
            found[str(path.resolve(strict=True))] = None
        except OSError:
            continue
    return list(found)


def start_cuda(tier: Tier, slot: str, *, scoring: bool = False) -> CudaStart:
    """Start CUDA on the card of `slot` in a tier (C: outside the sandbox), with the rights of a run there or of a
    process that runs a model for scoring. Ends after 30 s at the latest.
    """
    with own_folder("probe") as name:
        base = Path(name).resolve()
        (tmp := base / "tmp").mkdir()
        (tree := base / "tree").mkdir()
        own = {"read_only": True} if scoring else {"tmp": tmp, "supervised": True}
        spec = SandboxSpec(worktree=tree, readable=(Path(sys.prefix), Path(sys.base_prefix)), tier=tier,
                           cards=slices.slot_files(slot), **own)  # fmt: skip
        inside = "/tmp" if tier == "A" else str(tmp)
        env = {**start_environment(slot), "TMPDIR": inside, "HOME": inside}
        return supervised_start(command(spec, start_argv()), env, tmp, cwd=tree, name=inside)


# --- the probe --------------------------------------------------------------------------------------------------------

_PROBE = """
import os, socket, sys
tree, secret, outside = sys.argv[1:4]
def refused(what, do):
    try:
        do()
    except OSError:
        return
    sys.exit("it allows to " + what)
open(tree + "/ok", "w").write("x")
assert open(os.path.dirname(secret) + "/open").read() == "text"
refused("read a hidden file", lambda: open(secret).read())
refused("write outside", lambda: open(outside + "/escaped", "w"))
refused("list another folder", lambda: os.listdir(outside))
def connect():
    s = socket.socket()
    s.settimeout(1)
    s.connect(("127.0.0.1", int(sys.argv[4])))
refused("use the network", connect)
refused("change the kernel's settings", lambda: open("/proc/sys/kernel/core_pattern", "a"))
refused("read another process", lambda: open("/proc/%s/environ" % sys.argv[5]).read())
"""


def _try_tier(tier: Tier) -> tuple[bool, str]:
    try:
        return _run_probe(tier)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)


def _run_probe(tier: Tier) -> tuple[bool, str]:
    """Raises OSError or TimeoutExpired."""
    if tier == "C":
        return True, "always available"
    if tier == "A" and shutil.which("bwrap") is None:
        return False, "bubblewrap (bwrap) is not installed"
    import socket

    with own_folder("probe") as name, socket.create_server(("127.0.0.1", 0)) as s:
        base = Path(name).resolve()
        for folder in ("tree", "outside", "tmp", "data"):
            (base / folder).mkdir()
        secret = base / "data" / "secret"
        for path in (secret, base / "data" / "open"):
            path.write_text("text")
        spec = SandboxSpec(worktree=base / "tree", hidden=(secret,), tmp=base / "tmp", tier=tier,
                        readable=(base / "data", Path(sys.prefix), Path(sys.base_prefix)))  # fmt: skip
        argv = [sys.executable, "-I", "-S", "-c", _PROBE, str(base / "tree"), str(secret), str(base / "outside"),
                str(s.getsockname()[1]), str(os.getpid())]  # fmt: skip
        done = subprocess.run(command(spec, argv), capture_output=True, text=True, timeout=20, cwd=base / "tree",
                              env={"PATH": os.defpath})  # fmt: skip
    if done.returncode == 0:
        return True, "works here"
    lines = done.stderr.strip().splitlines()
    return False, lines[-1] if lines else f"ended with {done.returncode}"


@functools.cache
def _try_tiers() -> Tried:
    return tuple((tier, *_try_tier(tier)) for tier in TIERS)


@functools.cache
def _try_cards() -> tuple[Tried, str]:
    """The result of the probe with that of starting CUDA in each tier, on the first card on which it starts outside the
    sandbox. Where there is none, the machine is at fault and the tiers stay as they are: why is the second value.
    """
    why_not = ""
    for slot in _cards():
        nodes.make_uvm()
        outside = start_cuda("C", slot)
        if outside.ok:
            return tuple(_with_card(tier, ok, why, slot) for tier, ok, why in _try_tiers()), ""
        why_not = why_not or outside.sentence()
        if outside.seconds >= START_SECONDS:  # the next one may hang, too
            break
    return _try_tiers(), why_not


def _cards() -> list[str]:
    """The GPU slots that this process may use, the card with the least used memory first."""
    try:
        slots = cards.allowed().slots
    except UsageError:  # told by whoever asks for the slots
        return []
    return sorted(slots, key=lambda slot: (cards.memory_of(slot) or (0,))[0])


def _with_card(tier: Tier, ok: bool, why: str, slot: str) -> tuple[Tier, bool, str]:
    """The result of the probe of one tier with that of starting CUDA there, as a run and as a scoring process."""
    if tier == "C" or not ok:
        return tier, ok, why
    for scoring in (False, True):
        if not (start := start_cuda(tier, slot, scoring=scoring)).ok:
            return tier, False, f"{'in scoring' if scoring else 'in runs'} {start.sentence()}"
    return tier, True, f"{why}, CUDA starts in runs and in scoring"
