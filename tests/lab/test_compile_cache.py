"""Compile caches: each run has a private one, seeded by unchanged code; no run can write to that of another."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest

from core.lab import compile_cache
from core.lab.runner import RunSpec
from core.lab.sandbox.tiers import Tier
from core.lab.shim import kept_cache
from tests.lab.conftest import Make, run, until

COMPILE = """
for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
    place = os.environ[name] + "/kernel"
    print(name, open(place).read() if os.path.exists(place) else "cold")
    os.makedirs(os.path.dirname(place), exist_ok=True)
    open(place, "w").write("WORD")
"""
TRAIN = """
ready()
done()
"""


def said(spec: RunSpec) -> set[str]:
    return {line.split()[1] for line in (spec.folder / "output.log").read_text().splitlines()}


async def test_the_compile_cache_of_a_run_is_private(job: Make, tier: Tier, tmp_path: Path) -> None:
    seeds = compile_cache.BaselineCache(tmp_path / "seed")
    learned = """
    ready()
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
        open(os.environ[name] + "/kernel", "a").write("weights")
        open(os.environ[name] + "/weights", "w").write("weights")
    done()
    """
    text = COMPILE.replace("WORD", "unchanged") + textwrap.dedent(learned)
    unchanged = job(text, channel=True, sandbox=tier, keep_cache=True)
    seeds.offer(unchanged.folder)
    assert seeds.path() is None, "it has not run yet"
    await run(unchanged)
    assert said(unchanged) == {"cold"}
    seed = seeds.path()
    assert seed and seed.parent == tmp_path / "seed" and not (unchanged.folder / kept_cache.NAME).exists()
    files = {str(path.relative_to(seed)): path.read_text() for path in seed.glob("*/*")}
    assert files == dict.fromkeys(("inductor/kernel", "triton/kernel", "cuda/kernel"), "unchanged"), "before its data"

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
    for program, more in (
        (COMPILE + TRAIN + "raise SystemExit(3)", {"channel": True}),
        (TRAIN, {"channel": True}),
        (COMPILE, {"plain": False}),
    ):
        spec = job(program, keep_cache=True, **more)
        seeds.offer(spec.folder)
        await run(spec)
        assert seeds.path() is None and not (spec.folder / kept_cache.NAME).exists()
    for word in ("1", "2"):
        spec = job(COMPILE.replace("WORD", word) + TRAIN, channel=True, keep_cache=True)
        seeds.offer(spec.folder)
        await run(spec)
    seed = seeds.path()
    assert seed and (seed / "triton" / "kernel").read_text() == "1"
    assert not (spec.folder / kept_cache.NAME).exists(), "one is enough"


async def test_what_a_plain_command_compiled_is_kept_at_its_end(job: Make, tmp_path: Path) -> None:
    seeds = compile_cache.BaselineCache(tmp_path / "seed")
    spec = job(COMPILE.replace("WORD", "plain"), keep_cache=True)
    seeds.offer(spec.folder)
    await run(spec)
    seed = seeds.path()
    assert seed and (seed / "triton" / "kernel").read_text() == "plain"


def finished(run: Path) -> Path:
    """The folder of a run that ended well, with a cache."""
    (run / "compiled" / "triton" / "KEY").mkdir(parents=True)
    (run / "compiled" / "triton" / "KEY" / "kernel.cubin").write_bytes(b"x")
    (run / "exit.json").write_text('{"ended": "done"}')
    return run


def test_a_kernel_of_triton_is_found_in_a_copy(tmp_path: Path) -> None:
    run = finished(tmp_path / "1")
    place = run / "compiled" / "triton" / "KEY"
    group = {"child_paths": {"kernel.cubin": str(place / "kernel.cubin")}}
    (place / "__grp__kernel.json").write_text(json.dumps(group))
    (place / "__grp__broken.json").write_text("{")
    (place / "__grp__other.json").write_text("{}")
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(group))
    (place / "__grp__link.json").symlink_to(outside)
    seeds = compile_cache.BaselineCache(tmp_path / "seed")
    seeds.offer(run)
    compile_cache.create(tmp_path / "copy", seeds.path())
    copy = tmp_path / "copy" / "triton" / "KEY"
    children = json.loads((copy / "__grp__kernel.json").read_text())["child_paths"]
    assert children == {"kernel.cubin": str(copy / "kernel.cubin")} and Path(children["kernel.cubin"]).exists()
    assert (copy / "__grp__broken.json").read_text() == "{"
    assert (copy / "__grp__other.json").read_text() == "{}" and json.loads(outside.read_text()) == group


def test_a_cache_serves_one_card_and_version_only(tmp_path: Path) -> None:
    seeds = compile_cache.BaselineCache(tmp_path / "seed")
    seeds.offer(finished(tmp_path / "1"), "torch 2.13 H100")
    assert seeds.path("torch 2.11 H100") is None and seeds.path("torch 2.13 T4") is None and not seeds.trouble
    assert seeds.path("torch 2.13 H100")


def test_a_cache_that_cannot_be_used_is_left_aside(tmp_path: Path) -> None:
    seeds = compile_cache.BaselineCache(tmp_path / "seed")
    seeds.offer(finished(tmp_path / "1"))
    seed = seeds.path()
    assert seed
    seed.rename(tmp_path / "elsewhere")
    seed.symlink_to(tmp_path / "elsewhere")
    assert seeds.path() is None and seeds.trouble == f"{seed} belongs to somebody else"
    seed.unlink()
    assert seeds.path() is None and not seeds.trouble, "none is no trouble"
    (tmp_path / "file").touch()
    blocked = compile_cache.BaselineCache(tmp_path / "file")
    blocked.offer(finished(tmp_path / "2"))
    assert blocked.path() is None and "file" in blocked.trouble


def test_a_large_cache_delays_no_start(tmp_path: Path) -> None:
    (cache := tmp_path / "cache").mkdir()
    (cache / "small").touch()
    kept_cache.keep(str(cache), str(tmp_path))
    assert not (tmp_path / "compiled").exists(), "nothing to keep"
    (cache / "small").write_text("x")
    with (cache / "large").open("wb") as file:
        file.truncate(400 << 20)
    kept_cache.keep(str(cache), str(tmp_path))
    assert not (tmp_path / "compiled").exists()


def test_what_a_run_makes_in_its_cache_leads_nowhere(tmp_path: Path) -> None:
    """The shim copies it, which can read more than the run."""
    (cache := tmp_path / "cache" / "triton").mkdir(parents=True)
    (secret := tmp_path / "secret").mkdir()
    (secret / "rows").write_text("rows")
    (cache / "kernel").write_text("code")
    (cache / "kernel").chmod(0o755)
    (cache / "file").symlink_to(secret / "rows")
    (cache / "folder").symlink_to(secret)
    os.mkfifo(cache / "pipe")
    kept_cache.keep(str(cache.parent), str(tmp_path))
    kept = [path for path in (tmp_path / "compiled").rglob("*") if not path.is_dir()]
    assert kept == [tmp_path / "compiled" / "triton" / "kernel"] and kept[0].read_text() == "code"
    assert kept[0].stat().st_mode & 0o777 == 0o700


def test_a_run_starts_without_the_files_that_cannot_be_copied(tmp_path: Path) -> None:
    source = finished(tmp_path / "1") / "compiled"
    os.mkfifo(source / "triton" / "KEY" / "pipe")
    compile_cache.create(tmp_path / "copy", source)
    assert list((tmp_path / "copy").iterdir()) == []


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
