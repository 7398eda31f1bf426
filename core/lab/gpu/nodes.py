"""Device files of the GPUs, and the folder of the driver's library: what a run of a slot may use of both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from core.lab.gpu.cuda_start import FOLDERS, LIBRARY

_PATTERNS = ("dev/nvidia*", "dev/nvidia-caps/*", "dev/dri/*", "dev/kfd", "dev/dxg", "dev/infiniband")
_OF_NVIDIA = ("/dev/nvidia", "/dev/dxg")
_CARD = re.compile(r"nvidia\d+")
_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/dxg")
_NVIDIA_VENDOR = "0x10de"
_CAPABILITIES = Path("/proc/driver/nvidia-caps/mig-minors")
_MAKE_UVM = ("nvidia-modprobe", "-u", "-c", "0")
UVM_HINT = f"as root, of a container on the machine outside: apt install nvidia-modprobe; {' '.join(_MAKE_UVM)}"


def device_nodes(cards: Sequence[str]) -> list[str]:
    """The device files of GPUs that a sandbox gets: of NVIDIA's those that all its cards share and those in `cards`;
    none of NVIDIA's when that is empty.
    """
    found = sorted({str(path) for one in _PATTERNS for path in Path("/").glob(one) if not path.is_symlink()})
    return own_nodes([path for path in found if not _drawn_by_nvidia(path)], cards)


def own_nodes(nodes: Sequence[str], cards: Sequence[str]) -> list[str]:
    """`nodes` without those of NVIDIA's that are neither in `cards` nor shared by all cards."""
    kept = (*cards, *_SHARED) if cards else ()
    return [path for path in nodes if path in kept or not path.startswith(_OF_NVIDIA)]


def starts_cuda(nodes: Sequence[str]) -> bool:
    """Whether CUDA can be started with these device files."""
    return any(path.startswith(_OF_NVIDIA) for path in nodes)


def cards_here(dev: Path = Path("/dev")) -> list[str]:
    """The device files of NVIDIA's cards, whatever its driver says."""
    return sorted(str(path) for path in dev.glob("nvidia*") if _CARD.fullmatch(path.name))


def _drawn_by_nvidia(path: str) -> bool:
    """True for the files of the display interface of NVIDIA's cards, which CUDA does not need."""
    vendor = Path("/sys/class/drm", Path(path).name, "device/vendor")
    try:
        return path.startswith("/dev/dri/") and vendor.read_text().strip() == _NVIDIA_VENDOR
    except OSError:
        return False


# --- slices of a card -------------------------------------------------------------------------------------------------


def slice_nodes(minor: int, part: tuple[int, int] | None = None, table: Path = _CAPABILITIES) -> tuple[str, ...]:
    """The capability files of a card's slices, by the card's minor number: all, or those of `part`, a GPU instance and
    its compute instance. None where the card has no slices.
    """
    try:
        lines = [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return ()
    of_card = f"gpu{minor}/"
    names = [f"{of_card}gi{part[0]}/access", f"{of_card}gi{part[0]}/ci{part[1]}/access"] if part else None
    return tuple(f"/dev/nvidia-caps/nvidia-cap{number}" for name, number in (x for x in lines if len(x) == 2)
                 if (name in names if names else name.startswith(of_card)))  # fmt: skip


# --- the file that a driver makes late --------------------------------------------------------------------------------


@cache
def make_uvm() -> str:
    """Have the driver make /dev/nvidia-uvm, which it lacks until the first program of CUDA has run, and which a run may
    not make. Returns why it is still missing; "" when it is there, or no card is.
    """
    node = Path("/dev/nvidia-uvm")
    if node.exists() or not cards_here():
        return ""
    try:
        done = subprocess.run(_MAKE_UVM, capture_output=True, text=True, timeout=20)
        why = (done.stderr or done.stdout).strip() or f"{_MAKE_UVM[0]} ended with {done.returncode}"
    except FileNotFoundError:
        why = f"{_MAKE_UVM[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    return "" if node.exists() else why.splitlines()[-1]


# --- the driver's library ---------------------------------------------------------------------------------------------


def library_folders(env: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Folders of the driver's library as a program with this environment finds it, and its real folder."""
    named = [Path(entry) for entry in env.get("LD_LIBRARY_PATH", "").split(os.pathsep) if entry]
    found = [folder for folder in (*named, *_cached_folders(), *map(Path, FOLDERS)) if _seen(folder / LIBRARY)]
    return tuple(dict.fromkeys(one for folder in found for one in (folder, (folder / LIBRARY).resolve().parent)))


def _seen(path: Path) -> bool:
    try:
        return path.is_absolute() and path.exists()
    except OSError:
        return False


@cache
def _cached_folders() -> tuple[Path, ...]:
    """Folders of the driver's library in the loader's cache."""
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', os.defpath)}:/sbin:/usr/sbin")
    if program is None:
        return ()
    try:
        text = subprocess.run([program, "-p"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = [line for line in text.splitlines() if line.split()[:1] == [LIBRARY]]
    return tuple(Path(line.rpartition("=> ")[2].strip()).parent for line in lines)
