"""The scorer and the preparation with real processes, their environment and their commands."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.lab.environment import link_targets, readable_roots, resolve_command, run_environment, trusted_environment
from core.lab.git.restore import link_inputs
from core.lab.prepare import prepare
from core.lab.sandbox import tiers
from core.lab.scorer import ScoreSpec, Watch, score, self_reported
from core.lab.shim.proctree import process_stat
from core.record.errors import DataNotChosen, ProjectError, ScorerFault
from tests.lab.conftest import needs, until


@pytest.fixture
def scoring(tmp_path: Path) -> Callable[..., ScoreSpec]:
    def build(program: str, **more: Any) -> ScoreSpec:
        (tmp_path / "score.py").write_text("import json, os, sys, time\n" + textwrap.dedent(program))
        return ScoreSpec(
            argv=(sys.executable, "-S", "score.py"), cwd=tmp_path, worktree=tmp_path / "wt", out=tmp_path / "out",
            log=tmp_path / "score.log",
            env={"PATH": os.defpath, "AUTORESEARCH_SEED": "7"}, metric="val_bpb", sandbox=("env", "sandbox 1"), **more,
        )  # fmt: skip

    return build


async def test_a_score_is_returned(scoring: Callable[..., ScoreSpec], tmp_path: Path) -> None:
    spec = scoring("""
        print("looking", json.loads(os.environ["AUTORESEARCH_CAGE"]), os.environ["AUTORESEARCH_WORKTREE"][-2:])
        print("also here", file=sys.stderr)
        print(json.dumps({"metric": 1.5, "probes": {"causal": {"ok": True}}, "tokens": 10, "bytes": 40}))
    """)
    got = await score(spec)
    assert (got.metric, got.rejected) == (1.5, None) and got.probes == {"causal": {"ok": True}}
    text = (tmp_path / "score.log").read_text()
    assert "looking ['env', 'sandbox 1'] wt" in text and "also here" in text


@pytest.mark.parametrize(
    ("line", "metric"),
    [
        ('{"metric": 2}', 2.0), ('{"val_bpb": 0.25, "x": 1}', 0.25), ("val_bpb: 1.25", 1.25), ("val_bpb=3e-2", 0.03),
        ("final val_bpb = -1.5 (best 2)", -1.5), ('{"metric": 1.0}\n\n  \n', 1.0),
    ],
)  # fmt: skip
async def test_valid_answers_are_parsed(scoring: Callable[..., ScoreSpec], line: str, metric: float) -> None:
    assert (await score(scoring(f"print({line!r})"))).metric == metric


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("print('done')", "neither a JSON object"), ("print('my_val_bpb: 3')", "neither a JSON object"),
        ("print('val_bpb: 1,204')", "neither a JSON object"),
        ("print('[1]')", "neither a JSON object"), ("pass", "neither a JSON object"),
        ("print('{\"metric\": true}')", "no number"), ("print('{\"metric\": \"1.5\"}')", "no number"),
        ("print('{\"metric\": 1}'); sys.exit(3)", "ended with code 3"),
        ("print('{\"metric\": 1, \"pending\": true}')", "ended before its probes"),
        ("raise ValueError('weights are gone')", "ValueError: weights are gone"),
    ],
)  # fmt: skip
async def test_scorer_faults_are_reported(scoring: Callable[..., ScoreSpec], program: str, why: str) -> None:
    with pytest.raises(ScorerFault, match=why):
        await score(scoring(program))


async def test_words_of_the_code_under_test_are_in_no_reason(scoring: Callable[..., ScoreSpec], tmp_path: Path) -> None:
    for count in (3, 30):
        program = "print('model: error: row 717 ' * 40 + '\\n', end='')\n" * count + "sys.exit('error: no data')"
        with pytest.raises(ScorerFault) as caught:
            await score(scoring(program))
        assert "no data" in caught.value.what and "717" not in caught.value.what
        assert "row 717" in (tmp_path / "score.log").read_text()


async def test_a_number_that_is_printed_first_is_no_answer(scoring: Callable[..., ScoreSpec]) -> None:
    told: list[str] = []
    watch = Watch(look=lambda pids: None, number=lambda: told.append("number"))
    first = "print('[1]'); print('{\"pending\": 1'); print('{\"metric\": 1, \"pending\": true}')\n"
    got = await score(scoring(first + "print(json.dumps({'rejected': 'not causal'}))"), watch=watch)
    assert (got.metric, got.rejected, told) == (None, "not causal", ["number"])
    await score(scoring('print(\'{"metric": 1, "pending": false}\')'), watch=watch)
    assert told == ["number"]


async def test_rejections_are_returned_with_a_reason(scoring: Callable[..., ScoreSpec]) -> None:
    got = await score(scoring("print(json.dumps({'rejected': 'not causal', 'probes': {'causal': {'ok': False}}}))"))
    assert got.metric is None and got.rejected == "not causal" and got.probes["causal"] == {"ok": False}
    got = await score(scoring("print('{\"metric\": NaN}')"))
    assert got.metric is None and got.rejected and "not a finite number" in got.rejected


async def test_a_hanging_scorer_times_out_and_scoring_can_be_cancelled(
    scoring: Callable[..., ScoreSpec], tmp_path: Path
) -> None:
    program = (
        "import subprocess; p = subprocess.Popen(['sleep', '60']); open('pid', 'w').write(str(p.pid)); time.sleep(60)"
    )
    with pytest.raises(ScorerFault, match=r"more than 0\.6 s"):
        await score(scoring(program, timeout=0.6))
    await _gone(tmp_path / "pid")
    task = asyncio.create_task(score(scoring(program)))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _gone(tmp_path / "pid")


async def test_a_child_holding_the_pipe_does_not_block(scoring: Callable[..., ScoreSpec]) -> None:
    begun = time.monotonic()
    got = await score(scoring("import subprocess; subprocess.Popen(['sleep', '60']); print('{\"metric\": 1}')"))
    assert got.metric == 1 and time.monotonic() - begun < 40


def _take(pid_file: Path) -> int:
    pid = int(pid_file.read_text())
    pid_file.unlink()
    return pid


async def _gone(pid_file: Path) -> None:
    pid = _take(pid_file)
    await until(lambda: (stat := process_stat(pid)) is None or stat.state == "Z")


def test_a_self_reported_metric_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    assert self_reported(log, r"^val_bpb:\s*(\S+)").value is None
    log.write_bytes(b"val_bpb: 3.0\n" + b"x" * 3_000_000 + b"\nval_bpb: 1.25\nval_bpb:\xff\n")
    assert self_reported(log, r"^val_bpb:\s*([\d.]+)").value == 1.25
    log.write_bytes(b"val_bpb: 3.0\n" + b"noise\n" * 1_000_000)
    assert self_reported(log, r"^val_bpb:\s*(\S+)").value == 3.0
    log.write_bytes(b"acc 91.5%\nacc nan\n")
    assert str(self_reported(log, r"^acc (\S+)$").value) == "nan"
    assert self_reported(log, r"\d+\.\d+").value == 91.5
    log.write_text("val_bpb: soon\n")
    found = self_reported(log, r"^val_bpb:\s*(\S+)")
    assert (found.value, found.reason) == (None, r"the match of the pattern ^val_bpb:\s*(\S+) is not a number: soon")
    assert self_reported(log, r"^loss (\S+)").reason == r"the pattern ^loss (\S+) never matched in its output"


def test_a_self_reported_metric_is_found_wherever_it_stands(tmp_path: Path) -> None:
    log, pattern = tmp_path / "output.log", r"^val_loss: (\S+)"
    log.write_text("step 1 of the training\n" * 100_000 + "val_loss: 0.4321\n" + "saving a shard ...\n" * 200_000)
    assert self_reported(log, pattern).value == 0.4321
    log.write_text("val_loss: 0.9\nval_loss: 0.81")  # the run was killed while it wrote 0.81332
    assert self_reported(log, pattern, cut_off=True).value == 0.9


def test_the_metric_survives_a_log_lost_on_a_full_disk(tmp_path: Path) -> None:
    log, pattern = tmp_path / "output.log", r"^loss: (\S+)"
    assert self_reported(log, pattern, "step 1\nloss: 1.5\n").value == 1.5
    log.write_text("loss: 9.0\n")  # the last line counts, and it is in the tail that was kept
    assert self_reported(log, pattern, "loss: 1.5\n").value == 1.5
    # A long tail may begin in the middle of a line: that line is ignored.
    assert self_reported(log, pattern, "loss: 1.5\n" + "step\n" * 1000).value == 9.0


async def prepared(tmp_path: Path, answer: object, before: str = "") -> Any:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    heard: list[str] = []
    argv = [sys.executable, "-S", "-c", f"{before}\nprint('tokenising 50%')\nprint({text!r})"]
    return await prepare(argv, tmp_path, dict(os.environ), heard.append), heard


async def test_prepare_returns_data_and_info(tmp_path: Path) -> None:
    for name in ("train.bin", "val.bin"):
        (tmp_path / name).write_text("x")
    train, val = str(tmp_path / "train.bin"), str(tmp_path / "val.bin")
    got, heard = await prepared(tmp_path, {"train": {"train.bin": train}, "hidden": [val], "info": {"vocab": 8}})
    assert (
        got.train == {"train.bin": train} and got.hidden == (val,) and got.readable == () and got.info == {"vocab": 8}
    )
    assert heard == ["tokenising 50%"]
    bad: list[tuple[object, str]] = [
        ("ready", "not a JSON object"), ("[1]", "not a JSON object"), ({"train": {"a": "train.bin"}}, "absolute path"),
        ({"train": {"a": str(tmp_path / "no")}}, "does not exist"), ({"train": {"a": str(tmp_path)}}, "is not a file"),
        ({"hidden": val}, "must be a list"), ({"train": []}, "must be objects"), ({"readable": [5]}, "absolute path"),
    ]  # fmt: skip
    for answer, why in bad:
        with pytest.raises(ProjectError, match=why):
            await prepared(tmp_path, answer)
    with pytest.raises(ProjectError, match=r"ended with code 1: no corpus\nno corpus"):
        await prepared(tmp_path, {}, "raise SystemExit('no corpus')")
    with pytest.raises(ProjectError, match="could not start"):
        await prepare(["/no/such/thing"], tmp_path, {})


async def test_prepare_asks_which_data(tmp_path: Path) -> None:
    asks = "import json, sys; print('too small', file=sys.stderr); print(json.dumps({'choices': {'a b': 'large'}}))"
    with pytest.raises(DataNotChosen, match=r"ended with code 1: too small\ntoo small$") as caught:
        await prepare([sys.executable, "-c", f"{asks}; sys.exit(1)"], tmp_path, dict(os.environ))
    assert caught.value.choices == {"a b": "large"}


def test_secrets_are_removed_from_the_environment() -> None:
    source = {
        "PATH": "/usr/bin", "LANG": "de_DE.UTF-8", "LC_TIME": "C", "TZ": "UTC",
        "CUDA_HOME": "/opt/cuda", "OMP_NUM_THREADS": "3",
        "ANTHROPIC_API_KEY": "s3cret", "OPENAI_BASE_URL": "s3cret", "AWS_PROFILE": "s3cret", "HF_TOKEN": "s3cret",
        "GITHUB_TOKEN": "s3cret", "CUDA_SECRET": "s3cret", "NVIDIA_API_KEY": "s3cret", "TORCH_TOKEN": "s3cret",
        "DATABASE_PASSWORD": "s3cret", "SSH_AUTH_SOCK": "s3cret", "LC_KEY": "s3cret", "EDITOR": "s3cret",
        "TORCH_INDEX": "https://me:s3cret@host/", "PYTHONPATH": "/s3cret", "HOME": "/s3cret", "LD_PRELOAD": "/s3cret",
    }  # fmt: skip
    env = run_environment(Path("/nowhere"), source)
    assert "s3cret" not in json.dumps(env)
    assert {"LANG", "LC_TIME", "TZ", "CUDA_HOME", "OMP_NUM_THREADS", "PATH"} <= env.keys()


def test_trusted_commands_get_the_home_and_no_secret() -> None:
    source = {
        "PATH": "/usr/bin",
        "HOME": "/h",
        "https_proxy": "http://p:1",
        "HF_TOKEN": "s3cret",
        "OPENAI_API_KEY": "s3cret",
    }
    env = trusted_environment(Path("/nowhere"), source)
    assert env["HOME"] == "/h" and env["https_proxy"] == "http://p:1" and "s3cret" not in json.dumps(env)


def test_a_run_has_a_user_name_also_where_the_system_knows_none(tmp_path: Path) -> None:
    assert run_environment(tmp_path, {"PATH": "/usr/bin", "USER": "someone"})["LOGNAME"] == "someone"
    program = f"""
import os, pathlib
from core.lab import environment
if os.getuid() == 0:
    os.setuid(54321)
os.environ.pop("HOME", None)
env = environment.run_environment(pathlib.Path({str(tmp_path)!r}), {{"PATH": "/usr/bin:/bin"}})
print(env["USER"], env["LOGNAME"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    name = "user54321" if os.getuid() == 0 else getpass.getuser()
    assert done.stdout == f"{name} {name}\n", done.stderr


def _python(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    return folder


def test_a_command_finds_the_python_of_the_project(tmp_path: Path) -> None:
    ours = str(Path(sys.executable).parent)
    venv, active = _python(tmp_path / "project/.venv/bin"), _python(tmp_path / "env/bin")
    source = {"PATH": f"{active}:/usr/bin", "VIRTUAL_ENV": str(active.parent)}
    assert run_environment(tmp_path / "project", source)["PATH"].split(":")[0] == str(venv)
    assert run_environment(tmp_path, source)["PATH"] == source["PATH"]
    bare = run_environment(tmp_path, {"PATH": "/usr/bin"})["PATH"].split(":")
    torch = __import__("importlib.util").util.find_spec("torch") is not None
    assert bare == ([ours, "/usr/bin"] if torch else ["/usr/bin", ours])


def test_the_interpreter_behind_a_launcher_runs_in_the_sandbox(tmp_path: Path) -> None:
    """A `python` on PATH that is a shim (pyenv, asdf) is resolved to the interpreter that it starts."""
    shims, libexec = tmp_path / "tools" / "bin", tmp_path / "libexec"
    tree = tmp_path / "tree"
    for folder in (shims, libexec, tree):
        folder.mkdir(parents=True)
    real = Path(sys.base_prefix, "bin", "python3")
    for script, target in ((shims / "python", libexec / "real"), (libexec / "real", real)):
        script.write_text(f'#!/bin/sh\nexec {target} "$@"\n')
        script.chmod(0o755)
    env = run_environment(tree, {"PATH": f"{shims}:/usr/bin:/bin", "CONDA_PREFIX": str(tmp_path / "tools")})
    argv = resolve_command("python -c 'print(6 * 7)'", env, tree)
    spec = tiers.SandboxSpec(worktree=tree, readable=readable_roots(env, argv[:1]))
    done = subprocess.run(tiers.command(spec, argv), env=env, cwd=tree, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


def test_rustup_and_npm_find_their_parts_in_the_home(tmp_path: Path) -> None:
    """`cargo` of rustup needs the compilers of the home, and nvm's npm lies beside its folder of programs."""
    node, rust = tmp_path / "node" / "bin", tmp_path / ".rustup"
    for folder in (node, node.parent / "lib/node_modules", rust):
        folder.mkdir(parents=True)
    env = run_environment(tmp_path, {"PATH": f"{node}:/usr/bin:/bin", "HOME": str(tmp_path)})
    assert env["RUSTUP_HOME"] == str(rust) and {rust, node.parent / "lib/node_modules"} <= set(readable_roots(env))
    elsewhere = {"PATH": "/usr/bin", "HOME": str(tmp_path), "RUSTUP_HOME": str(node)}
    assert run_environment(tmp_path, elsewhere)["RUSTUP_HOME"] == str(node)
    assert "RUSTUP_HOME" not in run_environment(tmp_path, {"PATH": "/usr/bin", "HOME": str(node)})


def test_the_toolchains_of_other_languages_are_read_without_their_credentials(tmp_path: Path) -> None:
    home, prefix = tmp_path / "home", tmp_path / "home/.nvm/v20"
    for folder in (home / ".cargo/registry", home / ".rustup", home / "go/pkg/mod", prefix / "lib/node_modules/npm"):
        folder.mkdir(parents=True)
    (home / ".cargo" / "credentials.toml").touch()
    (prefix / "bin").mkdir()
    env = run_environment(tmp_path, {"PATH": f"{prefix}/bin:/usr/bin", "HOME": str(home)})
    assert [env[name] for name in ("RUSTUP_HOME", "CARGO_HOME", "GOMODCACHE")] == [
        str(home / place) for place in (".rustup", ".cargo", "go/pkg/mod")
    ]
    roots = readable_roots(env)
    assert {home / ".cargo/registry", home / ".rustup", home / "go/pkg/mod", prefix / "lib/node_modules"} <= set(roots)
    assert home / ".cargo" not in roots
    assert "GOMODCACHE" not in run_environment(tmp_path, {"PATH": "/usr/bin", "HOME": str(tmp_path)})


def test_commands_are_split_into_arguments(tmp_path: Path) -> None:
    env = run_environment(tmp_path)
    found = resolve_command("python -m train --name 'a b'", env, tmp_path)
    assert found[0].endswith("/python") and found[1:] == ["-m", "train", "--name", "a b"]
    (tmp_path / "python3").symlink_to(sys.executable)  # the only name on many systems
    assert resolve_command("python a.py", {"PATH": str(tmp_path)}, tmp_path)[0] == str(tmp_path / "python3")
    for shell in ("python a.py | tee log", "A=1 python a.py", "cd x && ./run", "python a.py > log", "echo $HOME"):
        assert resolve_command(shell, env, tmp_path) == ["/bin/sh", "-c", shell]
    assert resolve_command("python -c 'print(1 > 0)'", env, tmp_path)[2] == "print(1 > 0)"
    for given, made in {
        "python -I train.py": "python -I -B train.py", "python -u -E -m train": "python -u -E -B -m train",
        "python train.py && python3.11 -uI eval.py -E x": "python train.py && python3.11 -uI -B eval.py -E x",
        "python -u train.py -I x": "python -u train.py -I x", "echo python -I x >&2": "echo python -I x >&2",
    }.items():  # fmt: skip
        found = resolve_command(given, env, tmp_path)
        assert (found[2] if found[0] == "/bin/sh" else " ".join(["python", *found[1:]])) == made
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    with pytest.raises(ProjectError, match=r"is not executable(.|\n)*chmod \+x \./run\.sh"):
        resolve_command("./run.sh", env, tmp_path)
    with pytest.raises(ProjectError, match=r"program \./walk\.sh(.|\n)*add the file"):
        resolve_command("./walk.sh", env, tmp_path)
    with pytest.raises(ProjectError, match=r"python -m venv \.venv.*or write run = \"python train.py --x 1\""):
        resolve_command(".venv/bin/python3 train.py --x 1", env, tmp_path)
    (tmp_path / "run.sh").chmod(0o755)
    assert resolve_command("./run.sh x", env, tmp_path) == ["./run.sh", "x"]
    for bad, why in (("nonesuch-trainer --x", "nonesuch-trainer"), ("", "empty"), ("python 'x", "quotes")):
        with pytest.raises(ProjectError, match=why):
            resolve_command(bad, env, tmp_path)


def test_readable_roots_exclude_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    base = home / ".local/share/uv/python/cpython-3.11"
    (base / "bin").mkdir(parents=True)
    (base / "lib/python3.11").mkdir(parents=True)
    (base / "bin/python3.11").touch(0o755)
    (home / ".local/bin").mkdir()
    (home / ".local/bin/python3").symlink_to(base / "bin/python3.11")
    (home / ".local/lib/python3.11").mkdir(parents=True)
    venv = home / "my project/.venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "lib/python3.11").mkdir(parents=True)
    (venv / "bin/python").symlink_to(home / ".local/bin/python3")
    (venv / "pyvenv.cfg").write_text(f"home = {home}/.local/bin\nversion = 3.11\n")
    monkeypatch.setenv("HOME", str(home))
    env = {"PATH": f"{venv}/bin:{home}:{home}/.local/bin:/usr/bin", "PYTHONUSERBASE": f"{home}/.local"}
    roots = readable_roots(env)
    assert {venv, base, home / ".local/lib/python3.11", Path("/usr/bin").resolve()} <= set(roots)
    assert not {home, home / ".local", home / "my project", Path("/"), tmp_path} & set(roots)


@pytest.mark.parametrize("sandbox", ["A", "B"])
def test_data_behind_links_are_readable_in_the_sandbox(tmp_path: Path, sandbox: tiers.Tier) -> None:
    """An input that is a link, and an input with links in it to another disk, are read by a run."""
    disk, project, tree = (tmp_path / name for name in ("disk", "project", "tree"))
    for folder in (disk, project / "data", tree):
        folder.mkdir(parents=True)
    for name in ("a", "b"):
        (disk / name).write_text(name)
    (tmp_path / "mounted").symlink_to(disk)
    (project / "all").symlink_to(tmp_path / "mounted")
    (project / "data" / "b").symlink_to("../../mounted/b")
    (project / "data" / "own").symlink_to("b")
    (project / "data" / "home").symlink_to(Path.home())
    folders = [project / "all", project / "data"]
    assert tmp_path / "mounted" / "b" in link_targets(folders) and Path.home() not in link_targets(folders)
    link_inputs(tree, {path.name: path for path in folders})
    spec = tiers.SandboxSpec(
        worktree=tree, readable=(*(path.resolve() for path in folders), *link_targets(folders)), tier=needs(sandbox)
    )
    argv = tiers.command(spec, ["/bin/cat", "all/a", "data/b", "data/own"])
    done = subprocess.run(argv, cwd=tree, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("abb", 0), done.stderr
