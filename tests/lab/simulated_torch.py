"""Stand-ins for a GPU machine: an nvidia-smi, and a Python whose torch sees the cards that a test names"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

TORCH = """
__version__ = {version!r}
_cards = [line.split(":") for line in {cards!r}.split(";") if line]


class version:
    cuda, hip = {cuda!r} or None, None


class cuda:
    @staticmethod
    def init():
        if {trouble!r}:
            raise RuntimeError({trouble!r})

    @staticmethod
    def get_arch_list():
        return {arches!r}.split()

    @staticmethod
    def device_count():
        return len(_cards)

    @staticmethod
    def get_device_name(index):
        return _cards[index][0]

    @staticmethod
    def get_device_capability(index):
        return tuple(map(int, _cards[index][1].split(".")))


class Ones:
    def __matmul__(self, other):
        return self

    def sum(self):
        return 1.0


def ones(*size, device):
    trouble = ":".join(_cards[int(device.partition(":")[2])][2:])
    if trouble:
        raise RuntimeError(trouble + "\\nCUDA kernel errors might be reported later.")
    return Ones()
"""


def environment_with(
    folder: Path, *, version: str, cuda: str = "", arches: str = "", cards: str = "", trouble: str = "",
    metadata: Sequence[str] = (),
) -> Path:  # fmt: skip
    """The Python of an environment in `folder` with such a torch, and with the names of other packages.

    `cards`: NAME:CAPABILITY:TROUBLE of each, between semicolons.
    """
    packages = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (packages / "torch").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(packages / "torch/__pycache__", ignore_errors=True)  # its times may be those of the text before
    (packages / "torch/__init__.py").write_text(
        TORCH.format(version=version, cuda=cuda, arches=arches, cards=cards, trouble=trouble)
    )
    for name, number in {"torch": version, **dict.fromkeys(metadata, "9.9")}.items():
        (packages / f"{name}-{number}.dist-info").mkdir(exist_ok=True)
        (packages / f"{name}-{number}.dist-info/METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        )
    (folder / "bin").mkdir(exist_ok=True)
    python, base = folder / "bin/python", Path(sys.base_prefix, "bin")
    if not python.exists():
        python.symlink_to(Path(sys.executable).resolve())
        (folder / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n")
    return python


def nvidia_smi(folder: Path, driver: str, *cards: str) -> Path:
    """A folder with an nvidia-smi of that driver; `cards`: "NAME, CAPABILITY", or "NAME" for an old one."""
    (folder / "smi").mkdir(exist_ok=True)
    lines = "\n".join(f"{driver}, {card}" for card in cards)
    old = not any("," in card for card in cards)
    refused = 'case "$*" in *compute_cap*) echo "not a valid field to query"; exit 2;; esac\n'
    (folder / "smi/nvidia-smi").write_text(f"#!/bin/sh\n{refused if old else ''}cat <<'END'\n{lines}\nEND\n")
    (folder / "smi/nvidia-smi").chmod(0o755)
    return folder / "smi"
