"""Machines without user namespaces, /dev/shm, any sandbox, or a place to write, each simulated in a namespace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.engine.device_check.machine_facts import LOW_SHARED_MEMORY, shared_memory
from tests.end_to_end.screen import COMMAND
from tests.projects import make_project, own_home, rate, write_script

# In a private user namespace the test may change settings that are shared outside it.
NO_NAMESPACES = "echo 0 > /proc/sys/user/max_user_namespaces"


def own_dev(more: str = "") -> str:
    """A shell fragment: /dev has the usual files, and what `more` makes in its folder."""
    return f"""
mkdir /tmp/dev$$ && mount -t tmpfs none /tmp/dev$$ && cd /tmp/dev$$
for name in null zero full random urandom tty; do touch $name && mount --bind /dev/$name $name; done
ln -s /proc/self/fd fd{more}
mount --move . /dev || mount --rbind . /dev
cd / && rmdir /tmp/dev$$ 2>/dev/null
"""


NO_SHM = f"{own_dev()}test ! -e /dev/shm"
# A kernel without Landlock for the processes that this program starts.
NO_LANDLOCK = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
code = [(0x20, 0, 0, 0), *[(0x15, 0, 1, n) if k == 0 else (0x06, 0, 0, 0x00050000 | 38)
                            for n in (444, 445, 446) for k in (0, 1)], (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *op) for op in code))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(header)), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
TRY = """
import asyncio, json, sys, tempfile
from pathlib import Path
from core.lab.sandbox.tiers import SandboxSpec, probe
from core.lab.environment import readable_roots, resolve_command, run_environment
from core.lab.runner import RunSpec, start
async def go(tier, base):
    tree = base / "tree"
    tree.mkdir(exist_ok=True)
    (tree / "job.py").write_text(PROGRAM)
    env = run_environment(tree)
    argv = tuple(resolve_command("python -S job.py", env, tree))
    spec = RunSpec(run=1, folder=base / tier, argv=argv, cwd=tree, env=env,
                   sandbox=SandboxSpec(worktree=tree, readable=readable_roots(env, argv[:1]), tier=tier),
                   plain=True, seconds=30.0)
    result = await (await start(spec)).wait()
    return [result.ended, result.log_tail]
PROGRAM = sys.argv[1]
tiers = {tier: (ok, why) for tier, ok, why in probe().tiers}
with tempfile.TemporaryDirectory(dir="/var/tmp") as base:
    runs = {tier: asyncio.run(go(tier, Path(base))) for tier, (ok, _) in tiers.items() if ok}
print(json.dumps({"tiers": tiers, "runs": runs}))
"""


def box(setting: str, *command: str) -> list[str]:
    """Run `command` on a machine prepared by `setting`, a shell fragment."""
    return ["unshare", "--map-root-user", "--mount", "/bin/sh", "-c", f'{setting}\nexec "$@"', "box", *command]


def needs_namespaces() -> None:
    if subprocess.run(box("true", "true"), capture_output=True, check=False).returncode:
        pytest.skip("there are no user namespaces to make another machine in")


@pytest.fixture(autouse=True)
def _can_restrict_machine() -> None:
    needs_namespaces()


def tried(setting: str, program: str) -> dict[str, dict[str, list[object]]]:
    done = subprocess.run(box(setting, sys.executable, "-c", TRY, program), capture_output=True, text=True, timeout=300,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[object]]] = json.loads(done.stdout)
    return found


def test_a_machine_without_user_namespaces_uses_tier_b() -> None:
    found = tried(NO_NAMESPACES, "print('trained')")
    assert found["tiers"]["A"][0] is False and found["tiers"]["A"][1], "and it says why"
    if not found["tiers"]["B"][0]:
        pytest.skip("this kernel has no Landlock")
    assert found["runs"]["B"] == ["done", "trained\n"]


def test_a_machine_without_shared_memory_runs_jobs() -> None:
    """Tier A has a private /dev/shm. In tier B a job that needs it gets an error; other jobs work."""
    program = """
import multiprocessing, os
try: multiprocessing.Queue(); print("queue")
except OSError as error: print("no queue:", error)
print("trained")
"""
    found = tried(NO_SHM, program)
    expected = {"A": "queue\ntrained\n", "B": "trained\n", "C": "trained\n"}
    for tier, (ended, tail) in found["runs"].items():
        assert ended == "done" and str(tail).endswith(expected[tier]), (tier, tail)
    if "B" in found["runs"]:
        assert "no queue" in str(found["runs"]["B"][1])


def test_a_machine_with_little_shared_memory_runs_jobs() -> None:
    """64 MB, as in a container of docker's. Tier A has its own; in tier B a job is told that there is no more."""
    program = """
import os
with open("/dev/shm/large", "w+b") as file:
    try: os.posix_fallocate(file.fileno(), 0, 80 << 20); print("enough")
    except OSError as error: print(error.strerror)
os.unlink("/dev/shm/large")
print("trained")
"""
    found = tried("mount -t tmpfs -o size=64m none /dev/shm", program)
    expected = {"A": "enough\ntrained\n", "B": "No space left on device\ntrained\n"}
    for tier, (ended, tail) in found["runs"].items():
        assert ended == "done" and (tier == "C" or tail == expected[tier]), (tier, tail)


def test_doctor_reports_small_shared_memory(tmp_path: Path) -> None:
    assert shared_memory("A", tmp_path / "none") == []
    (missing,) = shared_memory("B", tmp_path / "none")
    assert "data loader workers will fail" in missing.detail and "--shm-size" in missing.hint
    small = tmp_path / "small"
    small.mkdir()
    size = f"mount -t tmpfs -o size={LOW_SHARED_MEMORY >> 1} none '{small}'"
    program = "import sys; from pathlib import Path; from core.engine.device_check.machine_facts import shared_memory\n"
    program += "print(shared_memory('B', Path(sys.argv[1])))"
    done = subprocess.run(
        box(size, sys.executable, "-c", program, str(small)), capture_output=True, text=True, check=True
    )
    assert "has 128 MB, shared by all" in done.stdout


@pytest.mark.slow
def test_a_machine_without_any_sandbox_needs_consent(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.9")])
    words = ("run", "--headless", "--researcher", "scripted", "--script", str(script), "--slots", "cpu:1")
    command = (sys.executable, "-c", NO_LANDLOCK, COMMAND, *words)
    env = own_home(tmp_path)

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        there = box(NO_NAMESPACES, *command, *more)
        return subprocess.run(there, cwd=project, env=env, capture_output=True, text=True, timeout=300, check=False)

    refused = run()
    assert refused.returncode == 1, refused.stdout + refused.stderr
    said = refused.stdout + refused.stderr
    assert "no sandbox works here" in said and "--set sandbox.limits_only=true" in said and "Traceback" not in said
    assert not (project / "sessions").exists(), "a refusal leaves nothing behind"
    consented = run("--set", "sandbox.limits_only=true")
    assert consented.returncode == 0, consented.stdout + consented.stderr
    assert "sandbox C" in consented.stdout and "discarded" in consented.stdout


@pytest.mark.slow
def test_a_session_on_a_full_tmp_and_a_start_in_a_home_for_reading_only(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p")
    script = write_script(tmp_path / "s.jsonl", [rate("0.5", "0.9")])
    env = {**own_home(tmp_path), "HOME": "/mnt/home", "AUTORESEARCH_HOME": ""}
    full = f"mount --bind '{tmp_path}' /mnt && mount -t tmpfs -o size=1m none /tmp && ! cat /dev/zero > /tmp/filler"
    words = ("run", "--headless", "--researcher", "scripted", "--script", f"/mnt/{script.name}", "--slots", "cpu:1")

    def run(setting: str) -> subprocess.CompletedProcess[str]:
        there = box(f"{{ {setting}; }} 2>/dev/null; cd /mnt/{project.name}", COMMAND, *words)
        return subprocess.run(there, cwd="/", env=env, capture_output=True, text=True, timeout=300, check=False)

    done = run(full)
    assert done.returncode == 0 and "discarded" in done.stdout, done.stdout + done.stderr
    (tmp_path / "home/.local").rename(tmp_path / "state")
    refused = run(f"{full}; mount -t tmpfs none /mnt/home && mount -o remount,ro /mnt/home")
    said = refused.stdout + refused.stderr
    assert refused.returncode == 1 and "Traceback" not in said
    assert "ead-only file system" in said and "hint: set AUTORESEARCH_HOME to a writable folder" in said
