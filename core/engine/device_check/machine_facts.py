"""First step of a device check: driver, torch, compiler, memory and folders; each fault with the command for it"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from core import invocation
from core.engine.device_check.card_facts import CardFacts
from core.engine.device_check.run_python import RunPython
from core.engine.finding import Finding
from core.lab import container, device
from core.lab.gpu import cards, nodes, torch_build
from core.lab.gpu.torch_build import FoundTorch
from core.lab.sandbox import tiers
from core.record.errors import SessionError
from core.session.homes import cache_home, state_home

LOW_SHARED_MEMORY = 256 * 2**20  # bytes
LOW_MEMORY = 12 * 2**30  # of the machine: torch and its compile workers take 8 to 10 GB
LOW_TMP, NO_TMP = 2**30, 64 * 2**20
BUSY_SHARE = 0.1  # of a card's memory in use before a run starts
DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg")


def no_card(project: Path) -> Finding:
    """What keeps a session from using a card here, and what to type."""
    without = invocation.call("doctor", "--device", "--slots", "cpu:1", project=project)
    if cards.gpus():
        said = "; ".join(cards.allowed().left_out) or "no card can be used"
        return Finding("driver", False, said, f"unset CUDA_VISIBLE_DEVICES; or check the processor with: {without}")
    said = f"no GPU driver answers (NVML: {cards.driver_trouble() or 'it counts no card'})"
    there = [path for path in DEVICE_FILES if Path(path).exists()]
    if "mismatch" in said.lower():
        hint = "the driver was replaced while it was loaded: restart the machine, or this container"
    elif there:
        said += f", though {there[0]} is there"
        hint = "make nvidia-smi work first: the container has the device but not the driver's libraries"
    else:
        hint = "make nvidia-smi work first (a container needs: docker run --gpus all)"
    return Finding("driver", False, said, f"{hint}; or check the processor with: {without}")


def driver_finding(card: CardFacts) -> Finding:
    """Driver and card, and whether the file is there through which CUDA reaches it."""
    memory = f", {card.total / 2**30:.0f} GB" if card.total else ""
    kind = f", compute capability {card.capability[0]}.{card.capability[1]}" if card.capability else ""
    said = f"{device.driver() or 'version not known'}; {card.name}{memory}{kind}"
    if missing := nodes.make_uvm():
        return Finding(
            "driver", False, f"{said}; /dev/nvidia-uvm, which CUDA needs, is missing: {missing}", nodes.UVM_HINT
        )
    return Finding("driver", True, said)


def torch_finding(torch: FoundTorch | None, python: RunPython | str, card: CardFacts | None, again: str) -> Finding:
    """What the torch of the run's Python can do with the driver and the card. `again`: the command that asks this."""
    if torch is None or isinstance(python, str):
        return Finding("torch", None, f"not known: {python}")
    driver = torch_build.installed_driver() if card else None
    if torch.missing:
        build = torch_build.fitting_build(driver) if driver else None
        way = torch_build.install(build, python.executable) if build else ""
        hint = way or invocation.install("torch", python=python.executable)
        return Finding("torch", None, f"Python {python.version} has none ({python.executable})", hint)
    built = f"built for CUDA {torch.cuda}" if torch.cuda else "built for the CPU only"
    said = f"{torch.version or 'torch'} in Python {python.version}, {built}"
    if card is None:
        return Finding("torch", True, said) if torch.version else Finding("torch", None, f"{said}: {torch.trouble}")
    if driver is None:
        return Finding("torch", True if torch.usable else None, f"{said}: {torch.why or 'it can use the card'}")
    if wrong := torch_build.trouble(torch, driver, python.executable, again):
        return Finding("torch", False, f"{wrong[0]}; it is {built}", wrong[1])
    return Finding("torch", True, f"{said}; a kernel of it ran on the card")


def compiler_finding(python: RunPython | str, env: Mapping[str, str], *, cuda: bool) -> Finding:
    """What torch.compile needs beside torch: a compiler, Python.h, and Triton on a card."""
    path = env.get("PATH", os.defpath)
    names = (env.get("CC", ""), "gcc", "cc", "clang")
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), "")
    lacking: dict[str, str] = {} if found else {"no compiler": "apt-get install -y gcc"}
    if not isinstance(python, str):
        version = ".".join(python.version.split(".")[:2])
        lacking |= {} if python.headers else {"no Python.h": f"apt-get install -y python{version}-dev"}
        if cuda and not python.triton:
            lacking["no Triton"] = invocation.install("triton", python=python.executable)
    if lacking:
        said = f"{', '.join(lacking)}: without torch.compile runs are three times slower and need more memory"
        return Finding("compiler", None, said, " && ".join(lacking.values()))
    more = "" if isinstance(python, str) else ", Python.h" + (f", Triton {python.triton}" if python.triton else "")
    return Finding("compiler", True, found + more)


def memory_findings(card: CardFacts | None, tier: tiers.Tier) -> list[Finding]:
    """Memory of the machine and of the card, and who holds it; shared memory."""
    total = container.memory_total()
    said = f"{total / 2**30:.0f} GB, {(total - container.memory_used()) / 2**30:.0f} GB of it free"
    found = [Finding("memory", True, said)]
    if card is not None and total < LOW_MEMORY:
        what = f"{said}: torch and its compile workers take 8 to 10 GB"
        found = [Finding("memory", None, what, "export TORCHINDUCTOR_COMPILE_THREADS=2")]
    if card is not None:
        found.append(_card_memory(card))
    return found + shared_memory(tier)


def _card_memory(card: CardFacts) -> Finding:
    if card.total is None or card.free is None:
        return Finding("card memory", None, "the driver does not say how much is free")
    said = f"{card.free / 2**30:.1f} of {card.total / 2**30:.1f} GB are free"
    who = f"; it is used by {', '.join(card.holders)}" if card.holders else ""
    if card.total - card.free < BUSY_SHARE * card.total:
        return Finding("card memory", True, said + who)
    who = who or "; the driver does not say who holds the rest (another container, or another user)"
    return Finding(
        "card memory", None, said + who, "nvidia-smi   (then end that process, or choose another card with --slots)"
    )


def shared_memory(tier: tiers.Tier, place: Path = Path("/dev/shm")) -> list[Finding]:
    """A remark where data loader workers may lack shared memory; in tier A every run has its own."""
    if tier == "A":
        return []
    hint = "docker run --shm-size=2g (or mount a tmpfs there), install bubblewrap, or use num_workers=0"
    try:
        size = shutil.disk_usage(place).total
    except OSError:
        size = 0
    if not os.access(place, os.W_OK):
        return [Finding("shared memory", None, f"no {place} that can be written: data loader workers will fail", hint)]
    if size < LOW_SHARED_MEMORY:
        detail = f"{place} has {size >> 20} MB, shared by all: data loader workers may run out of it"
        return [Finding("shared memory", None, detail, hint)]
    return []


def folder_findings(project: Path) -> list[Finding]:
    """Whether the folders of state, caches, temporary files and runs can be written, and have room."""
    found = []
    try:
        places = {"state": (state_home(), "AUTORESEARCH_HOME"), "caches": (cache_home(), "AUTORESEARCH_HOME")}
    except SessionError as error:
        return [Finding("folders", False, f"{error.where}: {error.what}", error.hint)]
    places |= {"temporary files": (Path(tempfile.gettempdir()), "TMPDIR"), "runs": (project / "sessions", "")}
    for what, (place, variable) in places.items():
        way = f"export {variable}=/a/folder/that/you/can/write" if variable else "work in a copy that you can write"
        if trouble := _unwritable(place):
            found.append(Finding("folders", False, f"{what}: {place}: {trouble}", way))
            continue
        free = shutil.disk_usage(_nearest(place)).free
        if free < LOW_TMP:
            full = f"{what}: {place} has {free >> 20} MB free: compiling and saving may fail"
            found.append(Finding("folders", None if free > NO_TMP else False, full, f"free some space; or {way}"))
    well = f"{', '.join(places)} can be written; each run has a compile cache of its own"
    return found or [Finding("folders", True, well)]


def _nearest(place: Path) -> Path:
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _unwritable(place: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=_nearest(place)) as file:
            file.write(b"x" * 4096)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
