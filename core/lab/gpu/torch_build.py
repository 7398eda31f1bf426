"""Torch of a Python on the GPUs of this machine, and the build of torch that their driver runs

.ci/setup asks before anything is installed (torch_setup.py), so this module needs no package.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core import invocation
from core.lab.gpu import cards, nodes
from core.lab.gpu.cards import VARIABLE

Numbers = tuple[int, ...]  # of a version, or of a compute capability

TESTED = "2.13.0"  # also in .ci/constraints-cpu.txt
MINIMUM = (2, 6)
INDEX = "https://download.pytorch.org/whl"
_SMI_SECONDS = 20.0  # beside a card that is lost it may hang
_CARD = "NVIDIA GPU"  # one that is not described
_NVIDIA_SMI = "/usr/lib/wsl/lib/nvidia-smi"  # where PATH has none


@dataclass(frozen=True, slots=True)
class CudaBuild:
    """A build of torch on PyTorch's own index, the oldest driver that runs it, the capabilities that it has code for.

    A driver runs every CUDA of its major version, and every older one (CUDA's minor version compatibility).
    """

    name: str
    torch: str
    driver: str
    oldest: Numbers
    newest: Numbers

    @property
    def requirement(self) -> str:
        """With its local version: no other index can answer with another build."""
        return f"torch=={self.torch}+{self.name}"

    @property
    def index(self) -> str:
        return f"{INDEX}/{self.name}"

    @property
    def cuda(self) -> str:
        """The major version of its CUDA."""
        return self.name[2:4]


# The best first. From RELEASE.md of PyTorch: CUDA 12.8 ends with torch 2.11, CUDA 11.8 with 2.7; CUDA 12.6 has no code
# for Blackwell, CUDA 13 none for cards before Turing. PyPI's torch 2.13.0 is the first.
BUILDS = (
    CudaBuild("cu130", TESTED, "580", (7, 5), (99,)),
    CudaBuild("cu126", TESTED, "525.60.13", (5, 0), (9, 9)),
    CudaBuild("cu128", "2.11.0", "525.60.13", (7, 5), (12, 9)),
    CudaBuild("cu118", "2.7.1", "450.80.02", (5, 0), (9, 9)),
)


@dataclass(frozen=True, slots=True)
class TorchCard:
    """A GPU by its name and compute capability, (): unknown; `trouble` is torch's word when it cannot use it."""

    name: str
    capability: Numbers = ()
    trouble: str = ""

    def __str__(self) -> str:
        return f"{self.name} (sm_{''.join(map(str, self.capability))})" if self.capability else self.name


@dataclass(frozen=True, slots=True)
class InstalledDriver:
    """The NVIDIA driver, and the cards that it counts."""

    version: str
    cards: tuple[TorchCard, ...]

    def __str__(self) -> str:
        return f"{', '.join(dict.fromkeys(map(str, self.cards)))}, driver {self.version}"


@dataclass(frozen=True, slots=True)
class FoundTorch:
    """What a Python's torch says: its version ("": there is none), the CUDA that it is built for ("": none), the
    architectures that it has code for, each card that it sees, its word when it sees none, and Python's version, ():
    that Python gave no answer.
    """

    version: str = ""
    cuda: str = ""
    arches: tuple[str, ...] = ()
    cards: tuple[TorchCard, ...] = ()
    trouble: str = ""
    python: Numbers = (3, 11)

    @property
    def usable(self) -> bool:
        """True when a kernel ran on a card, or would have if others left it some memory."""
        return any(not card.trouble or "out of memory" in card.trouble for card in self.cards)

    @property
    def why(self) -> str:
        """Why it cannot be used; "" when it can."""
        return "" if self.usable else self.trouble or next((card.trouble for card in self.cards), "it sees no GPU")

    @property
    def missing(self) -> bool:
        """True when that Python has no torch at all; one that does not load is not missing."""
        return not self.version and self.trouble == "No module named 'torch'"

    def runs_on(self, driver: InstalledDriver) -> str:
        """The finding in words where it is usable."""
        return f"torch {self.version}, built for CUDA {self.cuda}, runs on {driver}"

    def fits(self, driver: InstalledDriver) -> bool:
        """True when the driver and the cards should be able to run this build: then something else is the matter."""
        runs = any(_runs(driver, build) for build in BUILDS if build.cuda == self.cuda.partition(".")[0])
        codes = [divmod(int(digits[0]), 10) for arch in self.arches if (digits := re.search(r"\d+", arch))]
        cards = [card.capability for card in (*self.cards, *driver.cards) if card.capability]
        # A card runs the code of a smaller minor number than its own, and of no other major one.
        covered = any((major, 0) <= code <= (major, minor) for major, minor in cards for code in codes)
        return runs and (covered or not codes or not cards) and "kernel image" not in self.why


# Printed by the Python that is asked, which may be older than this one. A kernel is started on every card: torch sees
# also those that its build has no code for.
_LOOK = """
import json, sys
sys.path = [path for path in sys.path if path]
found = {"python": list(sys.version_info[:2]), "version": "", "cuda": "", "arches": [], "cards": [], "trouble": ""}
def words(error):
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line.split(" Please update ")[0].split(" Please check ")[0]
try:
    import warnings
    warnings.simplefilter("ignore")
    import torch
    found.update(version=str(torch.__version__), cuda=torch.version.cuda or torch.version.hip or "")
    torch.cuda.init()
    found["arches"] = torch.cuda.get_arch_list()
    for index in range(torch.cuda.device_count()):
        card = {"name": "", "capability": [], "trouble": ""}
        found["cards"].append(card)
        try:
            card.update(name=torch.cuda.get_device_name(index))
            card.update(capability=list(torch.cuda.get_device_capability(index)))
            x = torch.ones(32, 32, device="cuda:%d" % index)
            float((x @ x).sum())
        except Exception as error:
            card["trouble"] = words(error)
except Exception as error:
    found["trouble"] = words(error)
print(json.dumps(found))
"""


def torch_of(python: str, env: Mapping[str, str], seconds: float = 120.0) -> FoundTorch:
    """The torch of `python` in `env`, by a process that starts a small kernel on every card.

    It takes seconds, from a network disk a minute; it is ended after `seconds`.
    """
    try:
        done = subprocess.run([python, "-c", _LOOK], env=dict(env), capture_output=True, text=True, timeout=seconds)
        found = json.loads(done.stdout.strip().rpartition("\n")[2])
        cards = tuple(TorchCard(c["name"], tuple(c["capability"]), c["trouble"]) for c in found["cards"])
        arches, version = tuple(found["arches"]), tuple(found["python"])
        return FoundTorch(found["version"], found["cuda"], arches, cards, found["trouble"], version)
    except subprocess.TimeoutExpired:
        return FoundTorch(trouble=f"it did not load in {seconds:g} s", python=())
    except (OSError, ValueError, KeyError, TypeError):
        return FoundTorch(trouble="that Python ended without an answer", python=())


def installed_driver(proc: Path = Path("/proc/driver/nvidia"), dev: Path = Path("/dev")) -> InstalledDriver | None:
    """The driver by nvidia-smi, else by NVML or its own files; None without one, or when no GPU may be used."""
    if cards.none_wanted():
        return None
    if found := _by_nvidia_smi() or _by_nvml():
        return found
    try:
        version = re.search(r" (\d{3,}\.[\d.]+) ", (proc / "version").read_text(errors="replace"))
    except OSError:
        return None
    # The host's file is seen in a container that got no card.
    count = len(nodes.cards_here(dev))
    return InstalledDriver(version[1], (TorchCard(_CARD),) * count) if version and count else None


def _by_nvidia_smi() -> InstalledDriver | None:
    try:
        for fields in ("driver_version,name,compute_cap", "driver_version,name"):  # older ones do not know compute_cap
            out = _nvidia_smi(f"--query-gpu={fields}", "--format=csv,noheader")
            lines = [[*(part.strip() for part in line.split(",")), "", ""] for line in out.splitlines()]
            if lines := [parts for parts in lines if _numbers(parts[0])]:
                return InstalledDriver(lines[0][0], tuple(TorchCard(p[1] or _CARD, _numbers(p[2])) for p in lines))
        version = re.search(r"Driver Version:\s*([\d.]+)", _nvidia_smi())
    except (OSError, subprocess.SubprocessError):  # it is not there, or hangs
        return None
    return InstalledDriver(version[1], (TorchCard(_CARD),)) if version else None


def _by_nvml() -> InstalledDriver | None:
    """As a container shows it that has the driver's libraries and none of its programs."""
    version = cards.driver_version()
    found = tuple(TorchCard(cards.card_model(gpu) or _CARD, cards.capability(gpu) or ()) for gpu in cards.usable())
    return InstalledDriver(version, found) if version and found else None


def why_no_driver(dev: Path = Path("/dev")) -> str:
    """Where `installed_driver` found none: what of a GPU is here all the same; "" when nothing, or not wanted."""
    if cards.none_wanted():
        return ""
    if shutil.which("nvidia-smi"):
        return "nvidia-smi is here and tells of no GPU"
    files = nodes.cards_here(dev)
    return f"{files[0]} is here, and no driver: neither nvidia-smi nor /proc/driver/nvidia/version" if files else ""


def _nvidia_smi(*options: str) -> str:
    """What it prints; "" when it fails. Raises OSError, and TimeoutExpired."""
    done = subprocess.run(
        [shutil.which("nvidia-smi") or _NVIDIA_SMI, *options], capture_output=True, text=True, timeout=_SMI_SECONDS
    )
    return done.stdout if done.returncode == 0 else ""


def _numbers(text: str) -> Numbers:
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+(\.\d+)*", text) else ()


def fitting_build(driver: InstalledDriver) -> CudaBuild | None:
    """The build that `driver` runs and that has code for most of its cards; None when there is none."""

    def served(build: CudaBuild) -> int:
        return sum(not c.capability or build.oldest <= c.capability <= build.newest for c in driver.cards)

    runs = [build for build in BUILDS if _runs(driver, build)]
    best = max(runs, key=served, default=None)
    return best if best and served(best) else None


def trouble(found: FoundTorch, driver: InstalledDriver, python: str, again: str) -> tuple[str, str] | None:
    """Why `found`, the torch of `python`, cannot use a card of this machine, and the command that puts it right.

    None when it can. `again` is the command that the person gave.
    """
    if found.usable:
        return None
    named = f"torch {found.version}" if found.version else "torch"
    what = f"{named} of {python} cannot use {driver}: {found.why}"
    if not found.python:
        return what, f"look what it says: {shlex.quote(python)} -c 'import torch; torch.cuda.init()'"
    known = tuple(card for card in found.cards if card.capability) or driver.cards
    build = fitting_build(InstalledDriver(driver.version, known))
    if found.fits(driver):
        return (
            what,
            "this build fits the driver: nvidia-smi, then dmesg, show what is wrong with it or the card",
        )
    return what, install(build, python) if build else no_build(driver, again)


def _runs(driver: InstalledDriver, build: CudaBuild) -> bool:
    return _numbers(driver.version) >= _numbers(build.driver)


def no_build(driver: InstalledDriver, again: str) -> str:
    """The hint where no build of torch runs on this driver and its cards."""
    runs = any(_runs(driver, build) for build in BUILDS)
    needs = "another card or driver" if runs else f"a driver from {min(build.driver for build in BUILDS)} on"
    return f"torch from {_dotted(MINIMUM)} on needs {needs}; to train on the CPU: {VARIABLE}= {again}"


def install(build: CudaBuild, python: str) -> str:
    """The command that installs `build` into the environment of `python`."""
    return invocation.install(build.requirement, "--index-url", build.index, python=python)


def is_new_enough(version: str) -> bool:
    """True for torch from MINIMUM on; 2.6.0a0 is before 2.6."""
    release = re.match(r"(\d+)\.(\d+)(?:\.\d+)?(a|b|rc|\.dev)?", version)
    number = (int(release[1]), int(release[2])) if release else (0, 0)
    return number > MINIMUM or (number == MINIMUM and not (release and release[3]))


def _dotted(numbers: Numbers) -> str:
    return ".".join(map(str, numbers))
