"""The start of CUDA in each tier, by a false driver that makes the calls of a real one, on a machine with its files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tests
from core.engine.doctor import cuda_findings
from core.lab.sandbox.card_start import supervised_start
from core.lab.sandbox.tiers import TIERS, SandboxReport, Tier
from tests.false_driver import FalseDriver
from tests.lab.conftest import answering, needs
from tests.lab.sandbox.test_missing_features import box, needs_namespaces, own_dev

# The files of four cards, and of slices of one; /dev/shm as in a container of docker's.
CARDS = own_dev("""
mkdir shm nvidia-caps
for name in nvidiactl nvidia-uvm nvidia-uvm-tools nvidia-modeset nvidia4 nvidia5 nvidia6 nvidia7 \
            nvidia-caps/nvidia-cap1 nvidia-caps/nvidia-cap30; do touch $name; done
mount -t tmpfs -o size=64m none shm
""")
# Questions, one a line, each answered by a fork: a process looks at its driver once.
ANSWER = """
import json, os, subprocess, sys
import pynvml
from dataclasses import asdict
from pathlib import Path
from core.lab.sandbox import tiers
for line in sys.stdin:
    expression, env, changes = json.loads(line)
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    os.environ.update(env)
    if changes:
        made = tiers.command
        def command(*args):
            words = made(*args)
            for old, new in changes:  # a whole word, or a part of the rules of tier B
                words = [new if word == old else word.replace(old, new) if word[:1] == "{" else word for word in words]
            return words
        tiers.command = command
    print(json.dumps(eval(expression)), flush=True)
    os._exit(0)
"""
# Which device files of GPUs a process in a tier can open, also by a name or a node of its own making.
OPENED = """
import os, sys
for path in [f"/dev/{name}" for name in sorted(os.listdir("/dev")) if name.startswith("nvidia")]:
    inner = [f"{path}/{name}" for name in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
    for one in inner:
        for name in (one, f"/proc/self/root{one}", f"/proc/{os.getppid()}/root{one}"):
            try: os.close(os.open(name, os.O_RDWR))
            except OSError: continue
            print(one)
            break
"""
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> FalseDriver:
    """The driver's libraries, in a folder that no loader knows; that of CUDA makes the calls of a start."""
    driver = FalseDriver(tmp_path_factory.mktemp("driver") / "of cards")
    source = Path(tests.__file__).with_name("starting_cuda.c")
    build = ["gcc", "-shared", "-fPIC", "-o", str(driver.folder / "libcuda.so.1"), str(source), "-lpthread"]
    subprocess.run(build, check=True, timeout=60)
    return driver


@pytest.fixture(scope="module")
def ask(driver: FalseDriver) -> Iterator[Ask]:
    """What a process with this driver answers on a machine with the cards' files."""
    with machine(CARDS, driver.folder) as answered:
        yield answered


@contextmanager
def machine(setting: str, libraries: Path) -> Iterator[Ask]:
    needs_namespaces()
    env = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    with answering(box(setting, sys.executable, "-c", ANSWER), env) as answer:
        yield lambda expression, changes=(), **env: answer([expression, env, changes])


def started(ask: Ask, tier: Tier, *, scoring: bool, slot: str = "gpu1", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = ask(f"asdict(tiers.start_cuda({tier!r}, {slot!r}, scoring={scoring}))", **more)
    return found


@pytest.mark.parametrize("scoring", [False, True])
def test_cuda_starts_with_the_files_of_its_own_card_only(ask: Ask, tier: Tier, scoring: bool) -> None:
    found = started(ask, tier, scoring=scoring)
    assert (found["code"], found["devices"], found["driver"]) == (0, 1, 12040), found
    assert found["library"].endswith("of cards/libcuda.so.1")


def test_cuda_starts_in_a_child_of_a_run(ask: Ask, driver: FalseDriver, tier: Tier) -> None:
    """A run's command may be a script, or a launcher that starts the training as its child."""
    script = driver.folder / "launcher"
    script.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    script.chmod(0o755)
    launched = [(sys.executable, str(script))]
    found = started(ask, tier, scoring=False, changes=launched)
    assert found["code"] == 0, found
    if tier == "B":  # nobody answers for a process that scores, so it names its own threads only
        found = started(ask, tier, scoring=True, changes=launched)
        assert found["code"] == 304 and found["refused"] == ["write /proc/self/task/TID/comm: EACCES"], found


@pytest.mark.parametrize("slot", ["gpu1", "cpu0"])
@pytest.mark.parametrize("scoring", [False, True])
def test_no_file_of_another_card_can_be_opened(ask: Ask, tier: Tier, slot: str, scoring: bool, tmp_path: Path) -> None:
    spec = f"tiers.SandboxSpec(worktree=Path({str(tmp_path)!r}), readable=(Path(sys.prefix), Path(sys.base_prefix)),"
    spec += f"tier={tier!r}, cards=tiers.slices.slot_files({slot!r}), read_only={scoring})"
    argv = f"tiers.command({spec}, [sys.executable, '-I', '-S', '-c', {OPENED!r}])"
    opened = ask(f"subprocess.run({argv}, stdout=-1, text=True, cwd={str(tmp_path)!r}, check=True).stdout.split()")
    own = ["/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia6", "/dev/nvidiactl"]
    assert opened == (own if slot == "gpu1" else [])


@pytest.mark.parametrize("scoring", [False, True])
@pytest.mark.parametrize(
    ("calls", "grant", "refused"),
    [
        ("c", ("'cuda': True", "'cuda': False"), "write /proc/self/task/TID/comm: EACCES"),
        ("l", ("'cuda': True", "'cuda': False"), "listen on a local packet socket: EPERM"),
        ("s", ("'cuda': True", "'cuda': False"), "connect to the pipe of the multi-process service: EPERM"),
        ("d", ("'/dev/nvidiactl'", "'/dev/none'"), "open /dev/nvidiactl: EACCES"),
        ("d", ("'/dev/nvidia-uvm'", "'/dev/none'"), "open /dev/nvidia-uvm: EACCES"),
        ("d", ("'/dev/nvidia6'", "'/dev/none'"), "open the card's device file: EACCES"),
    ],
)
def test_cuda_does_not_start_in_tier_b_without_each_grant(
    ask: Ask, scoring: bool, calls: str, grant: tuple[str, str], refused: str
) -> None:
    needs("B")
    assert started(ask, "B", scoring=scoring, NVIDIA_CALLS=calls)["code"] == 0
    found = started(ask, "B", scoring=scoring, changes=[grant], NVIDIA_CALLS=calls)
    assert found["call"] == "cuInit" and found["code"] in (100, 304) and refused in found["refused"], found


@pytest.mark.parametrize("scoring", [False, True])
@pytest.mark.parametrize("node", ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia6"])
def test_cuda_does_not_start_in_tier_a_without_each_device_file(ask: Ask, scoring: bool, node: str) -> None:
    needs("A")
    found = started(ask, "A", scoring=scoring, changes=[(node, "/dev/null")])
    assert found["call"] == "cuInit" and found["code"] in (100, 304), found


@pytest.mark.parametrize(
    ("place", "setting"),
    [
        ("/run/opengl-driver/lib", "mount -t tmpfs none /run && mkdir /run/opengl-driver && ln -s {} {place}"),
        (
            "/usr/lib/wsl/lib",
            "rm -r /dev/nvidia*; touch /dev/dxg; mount -t overlay none -o lowerdir={}/over:/usr/lib /usr/lib",
        ),
        ("/var/lib/driver", "mount -t tmpfs none /var/lib && mkdir /var/lib/driver && cp {}/lib* {place}"),
    ],
)
def test_the_drivers_library_is_readable_wherever_it_is(
    driver: FalseDriver, place: str, setting: str, tmp_path: Path
) -> None:
    """NixOS, WSL2, and a folder that is nowhere else."""
    libraries = tmp_path / "libraries"
    shutil.copytree(driver.folder, libraries)
    shutil.copytree(driver.folder, libraries / "over" / "wsl" / "lib")
    settings = CARDS + setting.replace("{place}", place).replace("{}", str(libraries))
    with machine(settings, Path(place)) as ask:
        found = {tier: started(ask, needs(tier), scoring=tier == "B") for tier in TIERS[:2]}
        assert {tier: one["code"] for tier, one in found.items()} == {"A": 0, "B": 0}, found
        if not place.startswith("/usr"):
            without = started(ask, "B", scoring=True, changes=[(str(libraries), "/usr"), (place, "/usr")])
            assert without["code"] is None and "libcuda.so.1" in without["words"], without


STATE = "[tiers.probe().tier, tiers.probe().tiers, tiers.probe().no_cuda]"


def test_a_tier_that_starts_cuda_works_and_says_so(ask: Ask) -> None:
    tier, tiers, no_cuda = ask(STATE)
    works = [why for name, ok, why in tiers if ok and name != "C"]
    assert works and set(works) == {"works here, CUDA starts in runs and in scoring"} and no_cuda == ""
    assert tier == next(name for name, ok, _ in tiers if ok)


def test_a_tier_that_breaks_the_card_does_not_work(ask: Ask, driver: FalseDriver) -> None:
    """The driver needs a file that can be read outside the sandbox only."""
    needed = driver.folder.parent / "needed"
    needed.touch()
    tier, tiers, no_cuda = ask(STATE, NVIDIA_NEEDS=str(needed))
    assert ask("tiers.probe(cuda=False).tier", NVIDIA_NEEDS=str(needed)) != "C", "runs in CPU slots need no card"
    assert tier == "C" and no_cuda == ""
    for name, ok, why in tiers:
        assert ok == (name == "C")
        assert ok or why.startswith(
            "in runs CUDA does not start: cuInit: error 304 CUDA_ERROR_OPERATING_SYSTEM (OS call"
        )


def test_a_machine_without_a_sandbox_is_asked_outside_of_it(ask: Ask) -> None:
    """As in gVisor: neither Landlock nor namespaces."""
    state = "[tiers.SandboxReport, setattr(tiers, '_try_tier', lambda tier: (tier == 'C', 'none'))] and " + STATE
    assert ask(state) == ["C", [["A", False, "none"], ["B", False, "none"], ["C", True, "none"]], ""]
    assert ask(state, NVIDIA_CODE="304")[2].startswith("CUDA does not start: cuInit: error 304")


def test_a_machine_that_breaks_the_card_keeps_its_tiers(ask: Ask) -> None:
    """NVML sees the card, and CUDA starts nowhere."""
    tier, tiers, no_cuda = ask(STATE, NVIDIA_CODE="999")
    assert tier != "C" and [why for name, ok, why in tiers if name == tier] == ["works here"]
    assert no_cuda == "CUDA does not start: cuInit: error 999 CUDA_ERROR (no CUDA-capable device is detected)"


def test_one_card_on_which_cuda_does_not_start_leaves_the_tiers_to_the_others(ask: Ask) -> None:
    """As one whose memory somebody else has filled."""
    _, tiers, no_cuda = ask(STATE, NVIDIA_CODE="2", NVIDIA_ONLY="0")
    assert no_cuda == "" and "works here, CUDA starts in runs and in scoring" in [why for _, _, why in tiers]


def test_without_a_usable_card_the_probe_does_not_start_cuda(ask: Ask) -> None:
    _, tiers, no_cuda = ask(STATE, NVIDIA_CODE="304", CUDA_VISIBLE_DEVICES="")
    assert no_cuda == "" and "works here" in [why for _, _, why in tiers]


def test_cards_that_the_management_library_does_not_show_are_told(ask: Ask, driver: FalseDriver) -> None:
    """As in a container that has the library of CUDA only, or after an update of the driver without a restart."""
    driver.say("driver=9")
    try:
        slots, left_out = ask("[tiers.cards.allowed().slots, tiers.cards.allowed().left_out]")
        _, tiers, no_cuda = ask(STATE, NVIDIA_CODE="304")
    finally:
        driver.say("")
    assert slots == [] and len(left_out) == 1 and "nvidia-smi" in left_out[0], left_out
    assert left_out[0].startswith(
        "/dev/nvidia4, /dev/nvidia5, /dev/nvidia6, /dev/nvidia7: not used, since the driver's"
    )
    assert "Driver Not Loaded" in left_out[0]
    assert no_cuda == "" and "works here" in [why for _, _, why in tiers]


def test_the_files_of_cards_without_a_driver_are_told(tmp_path: Path) -> None:
    with machine(CARDS, tmp_path) as ask:
        slots, left_out = ask("[tiers.cards.allowed().slots, tiers.cards.allowed().left_out]")
        _, tiers, no_cuda = ask(STATE)
    assert slots == [] and "NVML Shared Library Not Found" in left_out[0] and no_cuda == ""
    assert "works here" in [why for _, _, why in tiers]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("", "nvidia-modprobe is not installed"),
        ("echo no such module >&2; exit 1", "no such module"),
        ("exit 3", "nvidia-modprobe ended with 3"),
        ('test "$*" = "-u -c 0" && touch /dev/nvidia-uvm', ""),
    ],
)
def test_the_file_that_a_driver_makes_late_is_made(
    driver: FalseDriver, tmp_path: Path, program: str, said: str
) -> None:
    if program:
        (tmp_path / "nvidia-modprobe").write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{program}\n")
        (tmp_path / "nvidia-modprobe").chmod(0o755)
    with machine(f"{CARDS}\nrm /dev/nvidia-uvm", driver.folder) as ask:
        assert ask("tiers.nodes.make_uvm()", PATH=str(tmp_path)) == said
        assert ask("os.path.exists('/dev/nvidia-uvm')") == (not said)


def test_a_slice_gets_its_own_capability_files(driver: FalseDriver) -> None:
    table = "config 1\\ngpu4/gi1/access 30\\ngpu4/gi1/ci0/access 31\\ngpu4/gi2/access 39\\ngpu6/gi1/access 300\\n"
    settings = f"mount -t tmpfs none /proc/driver && mkdir /proc/driver/nvidia-caps && printf '{table}'"
    with machine(f"{CARDS}{settings} >/proc/driver/nvidia-caps/mig-minors", driver.folder) as ask:
        part = "MIG-3f2a91bc-0000-5555"
        files = ask("tiers.slices.slot_files('gpu-3f2a91bc')", CUDA_VISIBLE_DEVICES=part)
        assert files == ["/dev/nvidia4", "/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"]
        assert len(ask("tiers.slices.slot_files('gpu3')")) == 4, "CUDA takes a slice of a card that has some"
        assert ask("tiers.slices.slot_files('gpu2')") == ["/dev/nvidia5"]
        assert ask("tiers.slices.slot_files('cpu0')") == []


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("echo begun; sleep 60", "the driver gave no answer within 0.3 s"),
        ("echo begun; exec >/dev/null 2>&1; sleep 60", "the driver gave no answer within 0.3 s"),
        ("echo '{\"code\": 0'; kill -SEGV $$", 'the start of CUDA was ended by signal 11; {"code": 0'),
        ("echo no python >&2; exit 3", "the start of CUDA ended with 3; no python"),
    ],
)
def test_a_start_without_an_answer_ends_in_time(tmp_path: Path, program: str, words: str) -> None:
    seconds = 0.3 if "sleep" in program else 30.0
    found = supervised_start(["sh", "-c", program], {}, tmp_path, cwd=tmp_path, name=str(tmp_path), seconds=seconds)
    assert (found.code, found.words) == (None, words) and found.sentence() == f"CUDA does not start: {words}"


def test_doctor_tells_in_which_tiers_cuda_starts() -> None:
    works: tuple[tuple[Tier, bool, str], ...] = (
        ("A", False, "no bubblewrap"),
        ("B", True, "works here, CUDA"),
    )
    (told,) = cuda_findings(SandboxReport("B", "", (*works, ("C", True, "always available"))), ("gpu0",))
    assert told.ok and told.detail == "tier A: no bubblewrap; tier B: works here, CUDA"
    none = SandboxReport("C", "", (("A", False, "no bubblewrap"), ("C", True, "always available")))
    (told,) = cuda_findings(none, ("gpu0",))
    assert told.ok is None and told.detail == "CUDA starts outside the sandbox; tier A: no bubblewrap"
    broken = SandboxReport("C", "", (("B", False, "in runs CUDA does not start"), ("C", True, "always available")))
    (told,) = cuda_findings(broken, ("gpu0",))
    assert told.ok is False and "limits_only=true" in told.hint and "tier B: in runs" in told.detail
    (told,) = cuda_findings(SandboxReport("A", "", works, "CUDA does not start: cuInit: error 999"), ("gpu0",))
    assert told.ok is False and told.detail.endswith("outside the sandbox either") and told.hint == "nvidia-smi"
    assert cuda_findings(broken, ("cpu0",)) == []
