"""The control channel, with real training processes over a real socket pair."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nanotrain import harness, prepare, weights
from tests.nanotrain import worlds


class Harness:
    """The harness's side of the channel: starts one run, passes the data and receives messages."""

    def __init__(self, folder: Path, prepared: prepare.PreparedData, **env: str) -> None:
        folder.mkdir()
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.settimeout(300)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AUTORESEARCH_", "NANOTRAIN_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nanotrain.train"],
            cwd=worlds.REPOSITORY,
            env=clean
            | {
                "AUTORESEARCH_CONTROL_FD": str(far.fileno()),
                "AUTORESEARCH_RUN_DIR": str(folder),
                "AUTORESEARCH_SEED": "7",
                "AUTORESEARCH_DEVICE": "cpu",
                "AUTORESEARCH_READABLE": str(prepared.tokenizer / "meta.json"),
                "HOME": str(folder),
            }
            | env,
            pass_fds=[far.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        far.close()
        self.data = prepared.train

    def receive(self) -> dict[str, Any]:
        packet = self.near.recv(65_536)
        assert packet, f"the run closed the channel: {self.process.communicate()[1]}"
        found = json.loads(packet)
        assert isinstance(found, dict)
        return found

    def go(self, **budget: float) -> None:
        with self.data.open("rb") as file:
            message = json.dumps({"type": "go", "names": ["train.bin"], **budget}).encode()
            socket.send_fds(self.near, [message], [file.fileno()])

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=300)
        self.near.close()
        return self.process.returncode, out, err


def test_a_run_by_steps_sends_ready_and_done_and_saves_its_model(
    tmp_path: Path, prepared: prepare.PreparedData
) -> None:
    peer = Harness(tmp_path / "run", prepared)
    ready = peer.receive()
    assert ready["type"] == "ready" and ready["params"] > 100_000
    peer.go(steps=3)
    done = peer.receive()
    code, out, err = peer.end()
    digest = weights.digest(tmp_path / "run")
    assert done == {"type": "done", "steps": 3, "tokens": 3 * ready_tokens(peer), "sha256": digest}
    assert code == 0, err
    assert "step 00003 | loss " in out
    left = json.loads((tmp_path / "run" / "model.json").read_text())
    with prepared.train.open("rb") as file:
        data = memoryview(file.read())
    assert left["vocab_size"] == 1024 and left["data"] == harness.data_fingerprint(data)
    assert (tmp_path / "run" / "weights.safetensors").stat().st_size > 400_000


def ready_tokens(peer: Harness) -> int:
    from nanotrain import train

    return train.BATCH_TOKENS_CPU


@pytest.mark.slow
def test_a_run_by_time_stops_by_itself_at_the_end_of_its_schedule(
    tmp_path: Path, prepared: prepare.PreparedData
) -> None:
    peer = Harness(tmp_path / "run", prepared)
    peer.receive()
    peer.go(seconds=2.0)
    start = time.monotonic()
    done = peer.receive()
    took = time.monotonic() - start
    code, out, err = peer.end()
    assert code == 0, err
    assert done["type"] == "done" and done["steps"] >= 1
    assert 1.9 < took < 30, "the clock starts when the data arrive"
    steps = [line for line in out.splitlines() if line.startswith("step ")]
    assert "| lr 0.000 | 100.0%" in steps[-1]
    assert len(steps) <= 2.0 * 10 + 2, "not more than ten lines a second"


def test_a_closed_channel_is_an_error_without_traceback(tmp_path: Path, prepared: prepare.PreparedData) -> None:
    peer = Harness(tmp_path / "run", prepared)
    peer.receive()
    peer.near.close()
    _, err = peer.process.communicate(timeout=300)
    assert peer.process.returncode == 1
    assert "closed the control channel" in err and "Traceback" not in err


def test_the_clock_counts_steps_or_seconds() -> None:
    steps = harness.Clock(None, 4)
    assert [steps.progress(n) for n in range(5)] == [0, 0.25, 0.5, 0.75, 1.0] and not steps.over(3) and steps.over(4)
    now = 100.0
    running, short = (harness.Clock(seconds, None, lambda: now) for seconds in (10.0, 1.0))
    now = 105.0
    assert running.progress(0) == 0.5 and not running.over(10**6) and short.progress(0) == 1.0


def test_processor_seconds_are_those_of_threads_and_of_ended_children() -> None:
    clock = harness.Clock(10.0, None, harness.processor_seconds)
    time.sleep(0.2)
    assert clock.elapsed() < 0.1
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-S", "-c", busy], check=True)
    assert 0.25 < clock.elapsed() < 0.6


def test_a_run_by_hand_without_data_is_an_error_with_a_hint(tmp_path: Path, warm: list[str]) -> None:
    result = worlds.command("nanotrain.train", "--steps", "1", warm=warm, AUTORESEARCH_HOME=str(tmp_path))
    assert result.returncode == 1
    assert "not prepared" in result.stderr and "python -m nanotrain.prepare" in result.stderr
    assert "Traceback" not in result.stderr
