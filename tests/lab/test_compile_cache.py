"""Compile caches: each run has a private one, seeded by unchanged code; no run can write to that of another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.lab import compile_cache
from core.lab.runner import RunSpec
from core.lab.sandbox.tiers import Tier
from tests.lab.conftest import Make, run, until

COMPILE = """
for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
    place = os.environ[name] + "/kernel"
    print(name, open(place).read() if os.path.exists(place) else "cold")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    open(place, "w").write("WORD")
"""


def said(spec: RunSpec) -> set[str]:
    return {line.split()[1] for line in (spec.folder / "output.log").read_text().splitlines()}


async def test_the_compile_cache_of_a_run_is_private(job: Make, tier: Tier, tmp_path: Path) -> None:
    seeds = compile_cache.BaselineCache(tmp_path / "seed")
    unchanged = job(COMPILE.replace("WORD", "unchanged"), sandbox=tier, keep_cache=True)
    seeds.offer(unchanged.folder)
    assert seeds.path() is None, "it has not run yet"
    await run(unchanged)
    assert said(unchanged) == {"cold"}
    seed = seeds.path()
    assert seed == tmp_path / "seed" and not (unchanged.folder / compile_cache.NAME).exists()

    planting = (
        COMPILE.replace("WORD", "planted")
        + f"""
place = {str(seed)!r}
for name in ("inductor", "triton", "cuda"):
    try: open(f"{{place}}/{{name}}/kernel", "w").write("planted")
    except OSError: continue
    print("x STOLEN")
"""
    )
    spec = job(planting, sandbox=tier, cache=seed)
    await run(spec)
    assert said(spec) == {"unchanged"}
    await until(lambda: not (spec.folder / compile_cache.NAME).exists())
    again = job(COMPILE.replace("WORD", "again"), sandbox=tier, cache=seed)
    await run(again)
    assert said(again) == {"unchanged"}, "what another run put into its cache"


async def test_only_a_completed_run_provides_the_cache_seed(job: Make, tmp_path: Path) -> None:
    seeds = compile_cache.BaselineCache(tmp_path / "seed")
    for program in (COMPILE + "\nraise SystemExit(3)", ""):
        spec = job(program, keep_cache=True)
        seeds.offer(spec.folder)
        await run(spec)
        assert seeds.path() is None and not (spec.folder / compile_cache.NAME).exists()
    for word in ("1", "2"):
        spec = job(COMPILE.replace("WORD", word), keep_cache=True)
        seeds.offer(spec.folder)
        await run(spec)
    assert seeds.path() and (tmp_path / "seed" / "triton" / "kernel").read_text() == "1"
    assert not (spec.folder / compile_cache.NAME).exists(), "one is enough"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a run a group of its own")
async def test_shared_memory_of_a_run_is_removed(job: Make, tier: Tier) -> None:
    program = """
    name = "/dev/shm/autoresearch-test-left"
    print("before", os.path.exists(name))
    open(name, "w").write("weights")
    os.makedirs(name + "-folder/deep", exist_ok=True)
    open(name + "-folder/deep/more", "w").write("weights")
    for group in (0, 1) if TIER == "B" else ():
        try: os.chown(name, -1, group)
        except OSError: continue
        print("STOLEN", group)
    """
    spec = job(program.replace("TIER", repr(tier)), sandbox=tier)
    await run(spec)
    assert (spec.folder / "output.log").read_text() == "before False\n"
    await until(lambda: not list(Path("/dev/shm").glob("autoresearch-test-left*")))
