"""Seeds and names of runs: nothing in them tells the number of the run."""

from __future__ import annotations

import re
import stat
from itertools import pairwise
from pathlib import Path

from core.engine.runs.run_key import KEY_BYTES, RunKey, key_file, make_folder
from core.session.paths import SessionPaths
from tests.engine.support import engine, wait_end
from tests.projects import PROGRAM, make_project, write_script

# A run that says all that it can find out about itself.
CURIOUS = """\
import json, os, pathlib, platform
here = pathlib.Path(os.environ["AUTORESEARCH_RUN_DIR"])
places = {name: sorted(os.listdir(name)) for name in (".", os.environ["HOME"], os.environ["TMPDIR"], here)}
mounts = sorted(line.split()[4] for line in open("/proc/self/mountinfo"))
files = [pathlib.Path(name).read_text() for name in (".git", "/proc/self/cmdline")]
known = [dict(os.environ), os.getcwd(), platform.node(), mounts, {str(k): v for k, v in places.items()}, files]
print(json.dumps(known, sort_keys=True))
print(f"loss: {1 + int(os.environ['AUTORESEARCH_SEED']) / 2**40:.12f}")
"""


def test_seeds_are_the_same_again_and_tell_nothing(state_folder: Path) -> None:
    key = RunKey("s", 1)
    seeds = [key.seed(run) for run in range(1, 2001)]
    assert seeds == [RunKey("s", 1).seed(run) for run in range(1, 2001)], "a resumed session has other seeds"
    assert len(set(seeds)) == 2000 and all(0 <= seed < 2**31 for seed in seeds)
    assert abs(sum(a < b for a, b in pairwise(seeds)) - 1000) < 100, "they grow with the run"
    assert not set(seeds) & {RunKey(name, seed).seed(run) for name, seed in (("t", 1), ("s", 2)) for run in range(99)}
    names = [key.name(run) for run in range(2000)]
    assert len(set(names)) == 2000 and not any(name.isdecimal() for name in names)
    # Another user's secret gives others.
    key_file().unlink()
    assert not set(seeds) & {RunKey("s", 1).seed(run) for run in range(1, 100)}
    assert len(key_file().read_bytes()) == KEY_BYTES and stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert [path.name for path in key_file().parent.glob("run.key*")] == ["run.key"]


def test_a_runs_folder_is_found_by_its_number_and_known_by_another_name(tmp_path: Path) -> None:
    paths = SessionPaths(tmp_path, "s")
    paths.run(1).mkdir(parents=True)  # of an older session
    for _ in range(2):
        make_folder(paths, 7, "rabc")
    assert paths.run(7).resolve().name == "rabc" == paths.worktree(7).name
    assert paths.run(1).resolve().name == "1" == paths.worktree(1).name


def test_a_run_cannot_tell_which_one_it_is(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", train=CURIOUS, program=PROGRAM)
    script = write_script(tmp_path / "s.jsonl", [])
    with engine(project, researcher="scripted", script=str(script), slots="cpu:1") as paths:
        state = wait_end(paths)
    runs = [run for run in state.experiments[0].runs if run.metric is not None]
    assert len(runs) == 3, state.reason
    said = set()
    for run in runs:
        text = (paths.run(run.run) / "output.log").read_text().split("\n")[0]
        name = paths.run(run.run).resolve().name
        assert str(run.seed) in text and name in text
        text = text.replace(str(run.seed), "SEED").replace(name, "NAME")
        text = re.sub(r"\.git/worktrees/r[0-9a-f]+", ".git/worktrees/NAME", text)
        assert f"/{run.run}/" not in text and f'/{run.run}"' not in text
        said.add(text)
    assert len(said) == 1, said
