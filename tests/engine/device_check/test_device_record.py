"""The record of device checks, and what `doctor` makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.engine.device_check import device_check
from core.engine.device_check.card_facts import CardFacts
from core.session.device_record import last_device_check, note_device_check


def report(date: str, *oks: bool | None) -> dict[str, Any]:
    findings = [{"name": f"f{i}", "ok": ok, "detail": "", "hint": ""} for i, ok in enumerate(oks)]
    return {"date": date, "version": "0.1.0", "driver": "550.54 (CUDA 12.4)", "card": {"name": "NVIDIA H100"},
            "steps": [{"step": "machine", "findings": findings}]}  # fmt: skip


def test_the_newest_check_of_a_card_is_kept_by_card(state_folder: Path) -> None:
    assert last_device_check(("GPU-1",)) is None
    for date in ("2026-11-01T10:00:00+00:00", "2026-11-02T10:00:00+00:00"):
        assert note_device_check("GPU-1", report(date)) == str(state_folder / "device-checks.json")
    note_device_check("GPU-2", report("2026-11-03T10:00:00+00:00"))
    newest = last_device_check(("GPU-1", "GPU-2"))
    assert newest is not None and newest["date"].startswith("2026-11-03")
    only = last_device_check(("GPU-1",))
    assert only is not None and only["date"].startswith("2026-11-02")
    (state_folder / "device-checks.json").write_text("[not json")
    assert last_device_check(("GPU-1",)) is None


def test_doctor_says_when_the_check_was_run_and_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = CardFacts(name="NVIDIA H100", uuid="GPU-1")
    monkeypatch.setattr(device_check, "facts_of", lambda slot: card if slot.startswith("gpu") else None)
    monkeypatch.setattr("core.lab.device.driver", lambda: "550.54 (CUDA 12.4)")
    assert device_check.device_check_finding(tmp_path, ("cpu0", "cpu1")) == []
    (never,) = device_check.device_check_finding(tmp_path, ("gpu0",))
    assert (never.ok, never.detail) == (None, "never run here") and never.hint.endswith("--device")
    note_device_check("GPU-1", report("2026-11-02T10:00:00+00:00", True, None))
    (well,) = device_check.device_check_finding(tmp_path, ("gpu0",))
    assert well.ok is True and well.detail.startswith("2026-11-02, version 0.1.0, on NVIDIA H100: all well, 1 remark")
    note_device_check("GPU-1", report("2026-11-02T10:00:00+00:00", True, False))
    (bad,) = device_check.device_check_finding(tmp_path, ("gpu0",))
    assert bad.ok is None and bad.detail.endswith("not ready: f1") and bad.hint
    monkeypatch.setattr("core.lab.device.driver", lambda: "580.65 (CUDA 13.0)")
    (other,) = device_check.device_check_finding(tmp_path, ("gpu0",))
    assert other.ok is None and "with another driver, 550.54 (CUDA 12.4)" in other.detail and other.hint
