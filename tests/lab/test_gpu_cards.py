"""The cards that a session may use, by a driver's library made for the test and CUDA_VISIBLE_DEVICES"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.false_driver import FalseDriver
from tests.lab.conftest import answering

# Each question is answered by a fork: a process looks at its driver once.
ANSWER = """
import json, os, sys
from core.lab import device
from core.record.errors import UsageError

def answer(variables, words):
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ.update(variables)
    try:
        slots = device.parse_slots(words) if words else device.default_slots()
        gpus = [slot for slot in slots if slot.startswith("gpu")]
        assert all(device.parse_slots(device.option_of(slot)) == (slot,) for slot in gpus)
        slots = device.shared(slots, int(variables.get("MEMORY", 0)) * 2**30)
        values = [device.slot_environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in slots]
        readings = [reading.name for reading in device.Devices().read()]
        files = [device.cards.device_files(slot) for slot in slots]
        part = device.threads_for(tuple(slots), None)
        threads = [device.slot_environment(slot, part)["OMP_NUM_THREADS"] for slot in slots]
        return [slots, values, readings, device.cards.allowed().left_out, files, threads, device.cores()]
    except UsageError as error:
        return [error.what, error.hint]

for line in sys.stdin:
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        print(json.dumps(answer(*json.loads(line))), flush=True)
        os._exit(0)
"""
Driver = Callable[[dict[str, str], str], Any]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """What a process with this driver answers."""
    made = FalseDriver(tmp_path_factory.mktemp("driver"), "00000000000")
    env = {**os.environ, "LD_LIBRARY_PATH": str(made.folder)}
    with answering([sys.executable, "-c", ANSWER], env) as answer:

        def answered(variables: dict[str, str], words: str) -> Any:
            made.say(f"lost={variables['LOST']}" if "LOST" in variables else "")
            return answer([variables, words])

        yield answered


def asked(driver: Driver, variable: str | None, words: str = "", *, lost: str | None = None) -> Any:
    """[slots, CUDA_VISIBLE_DEVICES of each, readings, what was left out, device files], or [refusal, its hint]."""
    given = {"CUDA_VISIBLE_DEVICES": variable, "LOST": lost}
    return driver({name: value for name, value in given.items() if value is not None}, words)


@pytest.mark.parametrize(
    ("variable", "cards"),
    [
        (None, "0 1 2 3"),
        ("2,0", "2 0"),
        (" 1 , 3", "1 3"),
        ("GPU-cccc0000-3333-0000-0000-000000000003", "2"),
        ("GPU-cc,gpu-dddd", "2 3"),
        ("GPU-dddd,0", "3 0"),
        ("0,0", "0"),
        ("1,GPU-aaaa0000-2222", "1"),
        ("1,-1,0", "1"),
        ("2,9,0", "2"),
        ("2,GPU-aaaa,0", "2"),
        ("2,,0", "2"),
    ],
)
def test_a_session_uses_the_cards_that_cuda_would_see(driver: Driver, variable: str | None, cards: str) -> None:
    slots, values, readings, *_ = asked(driver, variable)
    assert slots == [f"gpu{card}" for card in cards.split()] and values == cards.split()
    assert readings == ["gpu0", "gpu1", "gpu2", "gpu3", "cpu"]


@pytest.mark.parametrize("variable", ["", "-1", "NoDevFiles", "none", "void", "-1,0"])
def test_a_variable_that_allows_no_card_gives_processor_slots_and_says_so(driver: Driver, variable: str) -> None:
    slots, values, _, left_out, *_ = asked(driver, variable)
    assert slots[0] == "cpu0" and set(values) == {""} and f"CUDA_VISIBLE_DEVICES={variable} allows no GPU" in left_out
    what, hint = asked(driver, variable, "gpu")
    assert "allows no GPU" in what and hint == "use --slots cpu:2"


@pytest.mark.parametrize(
    ("variable", "why"),
    [("MIG-ffffffff", "names no slice"),
     ("9", "is the number of no GPU"), ("GPU-aaaa", "fits 2 GPUs"), ("GPU-", "names no GPU"), ("all", "names no GPU"),
     ("GPU-eeee", "names no GPU"), ("1x", "names no GPU"), ("-2", "names no GPU")],
)  # fmt: skip
def test_a_name_of_no_card_is_refused(driver: Driver, variable: str, why: str) -> None:
    what, hint = asked(driver, variable)
    assert why in what and hint.endswith("export CUDA_VISIBLE_DEVICES=0")


def test_what_follows_a_wrong_name_is_left_out_and_said(driver: Driver) -> None:
    left_out = asked(driver, "2,9,0")[3]
    assert left_out == ["9,0 in CUDA_VISIBLE_DEVICES is left out: '9' is the number of no GPU"]


def test_a_slice_of_a_card_is_a_slot_that_keeps_its_name(driver: Driver) -> None:
    name = "MIG-3f2a91bc-0000-5555-0000-000000000005"
    assert asked(driver, name)[:2] == [["gpu-3f2a91bc"], [name]]
    assert asked(driver, "MIG-3f2a91bc,0")[:2] == [["gpu-3f2a91bc", "gpu0"], ["MIG-3f2a91bc", "0"]]


def test_runs_that_say_what_memory_they_need_share_a_card(driver: Driver) -> None:
    assert driver({"MEMORY": "10"}, "gpu:0,2")[:2] == [["gpu0.0", "gpu0.1", "gpu2.0", "gpu2.1"], ["0", "0", "2", "2"]]
    assert driver({"MEMORY": "10"}, "gpu0.1")[0] == ["gpu0.0", "gpu0.1"]
    assert driver({"MEMORY": "10"}, "gpu0.1")[4] == [["/dev/nvidia7"], ["/dev/nvidia7"]]
    assert driver({"MEMORY": "13"}, "gpu:0")[0] == ["gpu0"]
    *_, shared, cores = driver({"MEMORY": "1"}, "gpu:0")
    assert shared == [str(max(1, cores // (16 * 4)))] * 16
    *_, alone, cores = driver({}, "gpu:0")
    assert alone == [str(max(1, cores // 4))]
    assert driver({"MEMORY": "10", "CUDA_VISIBLE_DEVICES": "MIG-3f2a91bc"}, "gpu")[0] == ["gpu-3f2a91bc"]
    what, hint = driver({"MEMORY": "25"}, "gpu:0")
    assert what == "gpu0 has 24.0 GB, and a run needs 25.0 (gpu_memory)" and "lower gpu_memory" in hint


def test_a_slot_has_the_device_file_of_its_card(driver: Driver) -> None:
    files = asked(driver, "2,MIG-3f2a91bc-0000-5555-0000-000000000005")[4]
    assert files == [["/dev/nvidia5"], ["/dev/nvidia4"]]
    assert asked(driver, "")[4][0] == []


def test_slots_outside_the_variable_are_refused(driver: Driver) -> None:
    assert asked(driver, "2,3", "gpu:3")[0] == ["gpu3"]
    what, hint = asked(driver, "2,3", "gpu:0")
    assert what == "a session may not use gpu0, only gpu2, gpu3" and "gpu:0,1" in hint


def test_slots_are_named_as_they_are_shown(driver: Driver) -> None:
    assert asked(driver, None, "gpu0,GPU2")[0] == ["gpu0", "gpu2"]
    assert asked(driver, "MIG-3f2a91bc,0", "gpu-3f2a91bc")[0] == ["gpu-3f2a91bc"]


def test_without_a_card_that_works_nothing_falls_back_to_the_processor(driver: Driver) -> None:
    what, hint = asked(driver, "2", lost="2")
    assert what == "no GPU can be used; gpu2 is left out: GPU is lost" and hint.endswith("--slots cpu:2")
    assert asked(driver, "", lost="2")[0][0] == "cpu0"


def test_a_lost_card_is_left_out_and_the_others_work(driver: Driver) -> None:
    slots, values, readings, left_out, *_ = asked(driver, None, lost="1")
    assert slots == ["gpu0", "gpu2", "gpu3"] and readings == ["gpu0", "gpu2", "gpu3", "cpu"]
    assert values[1].startswith("GPU-cccc"), "CUDA may number the cards that are left"
    assert len(left_out) == 1 and left_out[0].startswith("gpu1 is left out: ")
    assert asked(driver, "1,2", lost="1")[0] == ["gpu2"]
    what, hint = asked(driver, None, "gpu:1", lost="1")
    assert what.startswith("a session may not use gpu1") and hint
