"""`make setup` on machines with a GPU: simulated are nvidia-smi, uv, and the torch that it installs"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.lab.environment import readable_roots
from core.lab.gpu.torch_build import INDEX, TESTED, FoundTorch, InstalledDriver, TorchCard
from core.lab.gpu.torch_setup import plan
from tests import ROOT
from tests.lab.simulated_torch import environment_with, nvidia_smi

# It makes .venv, writes down what it is asked for, and installs a torch that sees the cards of SEES.
UV = """#!{python}
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.lab.simulated_torch import environment_with
words = sys.argv[1:]
if words[0] == "venv":
    Path(".venv/bin").mkdir(parents=True)
    Path(".venv/bin/python").symlink_to({base!r})
    Path(".venv/pyvenv.cfg").write_text("home = " + os.path.dirname({base!r}))
else:
    asked = words[words.index(".venv/bin/python") + 1:]
    Path("asked").open("a").write(" ".join(asked) + "\\n")
    version = asked[0].removeprefix("torch==")
    if version != asked[0]:
        cuda = {{"130": "13.0", "126": "12.6", "128": "12.8", "cpu": ""}}.get(version[-3:], "13.0")
        environment_with(Path(".venv"), version=version, cuda=cuda, cards=os.environ.get("SEES", ""))
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What .ci/setup needs of this project, and tools beside it."""
    folder, tools = tmp_path / "clone", tmp_path / "tools"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "core").symlink_to(ROOT / "core")
    tools.mkdir()
    base = str(Path(sys.executable).resolve())
    (tools / "python3").symlink_to(base)
    (tools / "uv").write_text(UV.format(python=sys.executable, root=str(ROOT), base=base))
    (tools / "uv").chmod(0o755)
    return folder


def set_up(clone: Path, *first: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The result of `.ci/setup nanotrain` with `first` on PATH. No index answers."""
    path = os.pathsep.join([*map(str, first), str(clone.parent / "tools"), "/usr/bin", "/bin"])
    env = {"PATH": path, "HOME": str(clone.parent), "HTTPS_PROXY": "http://127.0.0.1:9", **variables}
    return subprocess.run(
        ["sh", ".ci/setup", "nanotrain"], cwd=clone, env=env, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_a_machine_gets_the_build_that_its_driver_runs(clone: Path) -> None:
    smi = nvidia_smi(clone.parent, "535.183.01", "NVIDIA A100-SXM4-40GB, 8.0")
    done = set_up(clone, smi, SEES="NVIDIA A100-SXM4-40GB:8.0:")
    assert done.returncode == 0, done.stderr
    assert "NVIDIA A100-SXM4-40GB (sm_80), driver 535.183.01: takes torch" in done.stdout
    assert f"torch {TESTED}+cu126, built for CUDA 12.6, runs on NVIDIA A100" in done.stdout
    asked = (clone / "asked").read_text()
    assert asked == f"torch=={TESTED}+cu126 --index-url {INDEX}/cu126\n-e .[nanotrain]\n"
    again = set_up(clone, smi)
    assert (again.returncode, again.stdout, (clone / "asked").read_text()) == (0, "", asked)


@pytest.mark.slow
def test_a_torch_that_cannot_use_the_card_ends_the_set_up_with_the_command(clone: Path) -> None:
    """An old nvidia-smi does not say the card's capability; torch does, and the command is for it."""
    smi = nvidia_smi(clone.parent, "570.86.15", "NVIDIA GeForce RTX 5090")
    no_code = "CUDA error: no kernel image is available for execution on the device"
    done = set_up(clone, smi, SEES=f"NVIDIA GeForce RTX 5090:12.0:{no_code}")
    assert done.returncode == 1 and no_code in done.stderr and "Traceback" not in done.stderr
    command = f".venv/bin/python -m pip install torch==2.11.0+cu128 --index-url {INDEX}/cu128"
    assert f"hint: {command}\n" in done.stderr.replace("uv pip install --python .venv/bin/python", command[:31])
    assert not (clone / ".venv/.ready").exists()
    environment_with(clone / ".venv", version="2.11.0+cu128", cuda="12.8", cards="NVIDIA GeForce RTX 5090:12.0:")
    mended = set_up(clone, smi)
    assert mended.returncode == 0 and "torch 2.11.0+cu128" in mended.stdout
    assert (clone / "asked").read_text().count("torch==") == 1, "a torch that works is left alone"


@pytest.mark.slow
def test_a_driver_that_no_build_runs_on_is_told_so(clone: Path) -> None:
    done = set_up(clone, nvidia_smi(clone.parent, "440.33.01", "Tesla V100, 7.0"))
    assert done.returncode == 1 and "no build of torch runs on Tesla V100 (sm_70), driver 440.33.01" in done.stderr
    assert "CUDA_VISIBLE_DEVICES= make run" in done.stderr and not (clone / "asked").exists()
    on_cpu = set_up(clone, nvidia_smi(clone.parent, "440.33.01", "Tesla V100, 7.0"), CUDA_VISIBLE_DEVICES="")
    assert on_cpu.returncode == 0
    assert (clone / "asked").read_text() == "-c .ci/constraints-cpu.txt -e .[nanotrain]\n"
    assert set_up(clone, CUDA_VISIBLE_DEVICES="").stdout == ""


PYTHON = """#!/bin/sh
if [ "$2" = venv ]; then set -- "$@" --without-pip; fi
exec "$(dirname "$0")/python" "$@"
"""


@pytest.mark.slow
def test_a_torch_of_the_machine_that_uses_the_card_is_taken(clone: Path) -> None:
    """Also that of a virtual environment, which --system-site-packages does not show; never by uv, which hides it."""
    theirs, pip = clone.parent / "theirs", clone.parent / "tools/pip"
    python = environment_with(theirs, version="2.8.0+cu128", cuda="12.8", cards="NVIDIA H100:9.0:")
    (python.parent / "python3").write_text(PYTHON)
    (python.parent / "python3").chmod(0o755)
    pip.mkdir()
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text("import sys\nprint(*sys.argv[1:], file=open('pip', 'a'))\n")
    smi = nvidia_smi(clone.parent, "570.86.15", "NVIDIA H100 80GB HBM3, 9.0")
    done = set_up(clone, python.parent, smi, PYTHONPATH=str(pip.parent))
    assert done.returncode == 0, done.stderr
    assert "torch 2.8.0+cu128, built for CUDA 12.8, runs on NVIDIA H100 80GB HBM3 (sm_90)" in done.stdout
    assert f".venv takes it from {python.parent / 'python3'}\n" in done.stdout
    installs = [line for line in (clone / "pip").read_text().splitlines() if line.startswith("install")]
    assert len(installs) == 1 and installs[0].endswith("--progress-bar off -e .[nanotrain]"), "no torch is installed"
    own = [str(clone / ".venv/bin/python"), "-c", "import torch; print(torch.__file__)"]
    assert str(theirs) in subprocess.check_output(own, text=True, timeout=60)
    readable = readable_roots({"PATH": "/usr/bin"}, own[:1])
    assert any((theirs / "lib").resolve() in root.parents for root in readable), "a run may read what .venv takes"


@pytest.mark.slow
def test_a_torch_of_the_machine_that_cannot_use_the_card_is_not_taken(clone: Path) -> None:
    theirs = environment_with(clone.parent / "theirs", version="2.13.0", cuda="13.0", trouble="driver too old")
    smi = nvidia_smi(clone.parent, "550.54.15", "NVIDIA L4, 8.9")
    done = set_up(clone, theirs.parent, smi, VIRTUAL_ENV=str(clone.parent / "theirs"), SEES="NVIDIA L4:8.9:")
    assert done.returncode == 0 and "takes it from" not in done.stdout
    assert f"torch=={TESTED}+cu126" in (clone / "asked").read_text()


PIP = """import sys
if "install" in sys.argv:
    print("ERROR: No space left on device")
    sys.exit(1)
"""


@pytest.mark.slow
def test_what_cannot_be_written_ends_the_set_up(clone: Path) -> None:
    assert set_up(clone, CUDA_VISIBLE_DEVICES="").returncode == 0
    (clone / ".venv/.ready").unlink()
    (clone / ".venv/.ready").mkdir()
    done = set_up(clone, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1 and ".venv/.ready cannot be written" in done.stderr and "ready:" not in done.stdout
    log = clone / ".venv/setup.log"
    log.unlink()
    log.mkdir()
    done = set_up(clone, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1 and "hint: clone into a folder of your own" in done.stderr


@pytest.mark.slow
def test_packages_that_are_not_installed_end_the_set_up_also_on_a_full_disk(clone: Path) -> None:
    """Where also no file can be made that says so."""
    assert set_up(clone, CUDA_VISIBLE_DEVICES="").returncode == 0
    (clone / ".venv/.ready").unlink()
    tools, pip = clone.parent / "tools", clone.parent / "modules/pip"
    for name in ("uv", "touch"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
        (tools / name).chmod(0o755)
    pip.mkdir(parents=True)
    (pip / "__init__.py").touch()
    (pip / "__main__.py").write_text(PIP)
    done = set_up(clone, CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(pip.parent))
    assert done.returncode == 1 and "ERROR: No space left" in done.stderr and "could not be installed" in done.stderr


PLANS = {  # driver, capability, torch in .venv, whether the index answers: what is installed first, from where
    ("580.65.06", "9.0", "", True): (f"torch=={TESTED}+cu130", "cu130"),
    ("580.65.06", "9.0", "", False): (f"torch=={TESTED}", None),  # PyPI has this build, and no other
    ("570.86.15", "9.0", "", False): (f"torch=={TESTED}+cu126", "cu126"),
    ("580.65.06", "7.0", "", False): (f"torch=={TESTED}+cu126", "cu126"),
    ("570.86.15", "12.0", f"{TESTED}+cu126", True): ("torch==2.11.0+cu128", "cu128"),
    ("535.183.01", "8.0", TESTED, True): (f"torch=={TESTED}+cu126", "cu126"),
    ("580.65.06", "9.0", f"{TESTED}+cpu", True): (f"torch=={TESTED}+cu130", "cu130"),
    ("", "", "", True): (f"torch=={TESTED}", "cpu"),
    ("", "", "", False): (None, None),
    ("", "", f"{TESTED}+cpu", True): (None, None),
    ("", "", f"{TESTED}+cu130", True): (None, None),
    ("", "", "2.9.0+cpu", True): (f"torch=={TESTED}", "cpu"),
}


@pytest.mark.parametrize(("driver", "capability", "version", "reached"), PLANS)
def test_what_is_installed_before_the_rest(driver: str, capability: str, version: str, reached: bool) -> None:
    """Never PyPI's build for a driver or a card that cannot run it."""
    card = TorchCard("X", tuple(map(int, capability.split(".")))) if driver else None
    cuda = {"+cu130": "13.0", "+cu126": "12.6", "": "13.0"}.get(version.removeprefix(TESTED), "")
    answer = plan(
        InstalledDriver(driver, (card,)) if card else None,
        FoundTorch(version, cuda if version else "", trouble="no"), lambda index: reached,
    )  # fmt: skip
    requirement, index = PLANS[driver, capability, version, reached]
    assert answer.get("requirement") == requirement and answer.get("index") == (f"{INDEX}/{index}" if index else None)
    assert ("tested" in answer) == (not driver and "+cu" not in version)
