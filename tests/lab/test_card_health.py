"""What the driver says of cards that are lost, of a driver that was reloaded, and of one that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.lab.gpu.card_health import speaks_of_device, speaks_of_memory
from tests.false_driver import FalseDriver

CODE = """
import sys
from pathlib import Path
from core.lab.device import Devices
from core.lab.gpu import cards
from core.lab.gpu.card_health import ask_driver

say, devices = Path(sys.argv[1]).write_text, Devices()
first = devices.read()
assert [reading.name for reading in first] == ["gpu0", "gpu1", "gpu2", "gpu3", "cpu"]
assert devices.read(("gpu2.1",))[0].name == "gpu2" and len(devices.read(("gpu-3f2a91bc",))) == 2
assert first[0].throttle == "power cap" and "Simulated" in devices.describe(("gpu1",))
say("generation=1")
assert ask_driver("gpu1").trouble == ""
assert devices.read()[1].memory_used is None and devices.read()[1].memory_used is not None
say("generation=1 lost=1")
assert ask_driver("gpu1").trouble == "the driver says: GPU is lost" and ask_driver("gpu0").trouble == ""
cards.refresh()
third = cards.gpus()[2].uuid
assert cards.visible("gpu2") == third and cards.usable()[1].index == 2
say("generation=1 count=1")
cards.refresh()
assert [(gpu.index, gpu.trouble) for gpu in cards.gpus()][2] == (2, "the driver does not list it")
assert cards.visible("gpu2") == third and ask_driver("gpu2").trouble and not ask_driver("gpu0").trouble
say("driver=18")
assert "version mismatch" in ask_driver("gpu0").trouble
cards.refresh()
assert len(cards.gpus()) == 4 and not cards.usable() and devices.read()[0].name == "cpu"
say("generation=1")
cards.refresh()
assert [reading.name for reading in devices.read()] == [reading.name for reading in first]
"""


def test_cards_keep_their_numbers_whatever_happens_to_the_driver(tmp_path: Path) -> None:
    driver = FalseDriver(tmp_path / "driver")
    env = {**os.environ, "LD_LIBRARY_PATH": str(driver.folder)}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-c", CODE, str(driver.state)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "CUDA driver version is insufficient for CUDA runtime version",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "all CUDA-capable devices are busy or unavailable",
        "The NVIDIA driver on your system is too old (found version 11040)",
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment",
        "RuntimeError: Found no NVIDIA driver on your system",
        "uncorrectable ECC error encountered",
        "unspecified launch failure",
        "NVRM: Xid (PCI:0000:00:1e): 79, pid=1, GPU has fallen off the bus.",
        "Unable to determine the device handle: GPU is lost",
        "device not ready",
        "error: this run was given a GPU, and torch 2.13.0 cannot use it: it sees no GPU",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
    ],
)
def test_words_about_a_device(words: str) -> None:
    assert speaks_of_device(words) and speaks_of_memory(words) == ("RESOURCE" in words)
    assert not speaks_of_device("IndexError: list index out of range in secc.py; a cudgel")
