"""The start of CUDA in each tier, by a false driver that makes the calls of a real one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.lab.sandbox.tiers import Tier, start_cuda

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make a driver's library with")

# A driver's library whose cuInit ends with CODE.
CUDA = r"""
int cuInit(unsigned flags) { return CODE; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &cuInit; return device ? 101 : 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuDevicePrimaryCtxRelease(int device) { return 0; }
int cuGetErrorName(int code, const char **text) { *text = code == 304 ? "CUDA_ERROR_OPERATING_SYSTEM" : "?"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "OS call failed or operation not supported"; return 0; }
"""
Library = Callable[..., None]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Make a driver's library that ends with a code, and put it on the loader's path."""
    folder = tmp_path / "driver of a card"

    def make(code: int) -> None:
        folder.mkdir()
        (folder / "cuda.c").write_text(CUDA)
        build = [
            "gcc",
            f"-DCODE={code}",
            "-shared",
            "-fPIC",
            "-o",
            str(folder / "libcuda.so.1"),
            str(folder / "cuda.c"),
        ]
        subprocess.run(build, check=True, timeout=60)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))

    return make


@pytest.mark.parametrize("scoring", [False, True])
def test_a_driver_that_starts_is_told(library: Library, scoring: bool) -> None:
    library(0)
    found = start_cuda("C", "gpu0", scoring=scoring)
    assert found.ok and found.sentence() == "CUDA starts" and (found.driver, found.devices) == (12040, 1)
    assert found.library.endswith("driver of a card/libcuda.so.1")


def test_a_driver_that_does_not_start_is_told_in_its_words(library: Library) -> None:
    library(304)
    found = start_cuda("C", "gpu0")
    assert (found.code, found.call, found.name) == (304, "cuInit", "CUDA_ERROR_OPERATING_SYSTEM") and not found.ok
    assert "OS call failed or operation not supported" in found.sentence()


def test_without_a_driver_the_loaders_words_are_told(tier: Tier) -> None:
    found = start_cuda(tier, "gpu0", scoring=tier == "B")
    assert found.code is None and "libcuda.so.1" in found.sentence()
