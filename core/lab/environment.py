"""Environment of runs and trusted commands: variables, the `python` they use, folders they may read.

A variable passes when it is on the allow-list and does not look like a secret. PYTHONPATH does not pass: it would point
from the worktree back to the user's own checkout; a run gets another (`import_origin.py`). HOME, TMPDIR, the seed and
the control channel are added later, by the runner and the shim.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import site
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from core.lab.python.tool_command import ISOLATED_PYTHON, direct_command, toml_line
from core.lab.python.virtual_environment import NAMES, UV_AS_IT_IS, chosen_environment, printed_path, variables
from core.record.errors import ProjectError

_ALLOWED = (
    "PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "USER", "LOGNAME", "SHELL",
    "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", *NAMES,
    "PYTHONHASHSEED", "CUDA_*", "NVIDIA_*", "CUDNN_*", "NCCL_*", "CUBLAS_*", "ROCM_*", "ROCR_*", "HIP_*", "HSA_*",
    "OMP_*", "MKL_*", "OPENBLAS_*", "KMP_*", "GOMP_*", "NUMEXPR_*", "TORCH_*", "PYTORCH_*", "TORCHINDUCTOR_*",
    "TRITON_*", "XLA_*", "JAX_*", "TF_*", "CC", "CXX", "MALLOC_*", "NO_COLOR",
)  # fmt: skip
_ALLOWED_TRUSTED = (
    "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "AUTORESEARCH_HOME", "HF_HOME",
    "HF_ENDPOINT", "NANOTRAIN_DATA",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)  # fmt: skip
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|COOKIE|SESSION|^AUTH|_AUTH|PRIVATE|SIGNATURE|"
    r"^(ANTHROPIC|OPENAI|AWS|AZURE|GOOGLE|GCP|GITHUB|GITLAB|HF|HUGGING|WANDB|SSH|GPG|DOCKER|KUBE|DBUS|XDG_RUNTIME)",
    re.I,
)  # fmt: skip
MACHINE_TORCH = "machine_torch.pth"  # by .ci/setup: names the packages of the environment that .venv takes torch from
_MAX_ENTRIES = 20_000  # of one input folder in which links are looked for
_MAX_TARGETS = 64  # of such links that are made readable one by one
# Homes of the tools of other languages: variable, place in the user's home, and what a run may read of it, which is
# never a file with credentials.
_TOOL_HOMES = (
    ("RUSTUP_HOME", ".rustup", ("",)),
    ("CARGO_HOME", ".cargo", ("registry", "git", "bin")),
    ("GOMODCACHE", "go/pkg/mod", ("",)),
)
WITHOUT_NETWORK = {"CARGO_NET_OFFLINE": "true", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
_URL_WITH_PASSWORD = re.compile(r"://[^/\s]*:[^/\s]*@")
_SHELL_SYNTAX = re.compile(r"[|&;<>$`\\*?~#\n(){}\[\]!]")


def run_environment(project: Path, source: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command that the harness runs for `project`, from `source` (default: the harness's own).

    Its `python` is that of the project's virtual environment (`chosen_environment`), else the harness's own where that
    has torch, else the one on PATH (the harness's own as a last resort). Where that is a launcher (a shim of pyenv,
    asdf or mise, a script of the user's), the interpreter that it starts in `project` stands before it on PATH: a
    launcher needs files of the home, which the sandbox hides.
    """
    source = os.environ if source is None else source
    env = {name: value for name, value in source.items() if _passes(name, value)} | UV_AS_IT_IS
    path, chosen = source.get("PATH") or os.defpath, chosen_environment(project, source)
    if chosen:
        env = {name: value for name, value in env.items() if name not in NAMES} | variables(chosen)
        path = os.pathsep.join(dict.fromkeys([str(chosen / "bin"), *path.split(os.pathsep)]))
    else:
        path = os.pathsep.join(_with_own_python(path))
    real = _behind_launcher(shutil.which("python", path=path) or shutil.which("python3", path=path), project, source)
    env["PATH"] = os.pathsep.join([str(real.parent), path]) if real else path
    env.setdefault("LANG", "C.UTF-8")
    # getpass, torch's compiler and others ask for a name, which a user that only a container knows does not have.
    name = env.get("USER") or env.get("LOGNAME") or _user_name()
    env |= {"USER": env.get("USER") or name, "LOGNAME": env.get("LOGNAME") or name}
    # Output is shown live, and bytecode files would only fill the worktree.
    env.update(PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1")
    base = _user_base(source)
    if base and _seen(Path(base) / "lib"):
        env["PYTHONUSERBASE"] = base  # HOME will be private, and `pip install --user` puts packages under it
    else:
        env["PYTHONNOUSERSITE"] = "1"  # in that HOME no command of a run leaves modules for the next one
    return {**env, **_tool_homes(source)}


def _tool_homes(source: Mapping[str, str]) -> dict[str, str]:
    """Variables that name the toolchains and downloaded packages of other languages, which HOME will not lead to."""
    home = source.get("HOME")
    given = {name: source.get(name) or (home and str(Path(home, place))) for name, place, _ in _TOOL_HOMES}
    return {name: path for name, path in given.items() if path and Path(path).is_absolute() and _seen(Path(path))}


def trusted_environment(project: Path, source: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the trusted commands (`prepare`, `score`), which run outside the sandbox.

    That of `run_environment` with the real home, its caches and the proxy settings; without secrets.
    """
    source = os.environ if source is None else source
    more = {name: source[name] for name in _ALLOWED_TRUSTED if name in source}
    return {**run_environment(project, source), **more}


def _passes(name: str, value: str) -> bool:
    allowed = any(fnmatch.fnmatchcase(name, pattern) for pattern in _ALLOWED)
    return allowed and not _SECRET.search(name) and not _URL_WITH_PASSWORD.search(value)


def _seen(path: Path) -> bool:
    """True for a path that exists and can be looked up; false below a folder of another user."""
    try:
        return path.exists()
    except OSError:
        return False


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user{os.getuid()}"


def _user_base(source: Mapping[str, str]) -> str | None:
    home = source.get("HOME")
    return source.get("PYTHONUSERBASE") or (str(Path(home) / ".local") if home else site.getuserbase())


def _with_own_python(path: str) -> list[str]:
    own = str(Path(sys.executable).parent)
    return [own, path] if importlib.util.find_spec("torch") else [path, own]


def _is_launcher(program: str) -> bool:
    """True for a `python` that is a script, or a link to a program of another name."""
    real = Path(program).resolve()
    try:
        with real.open("rb") as file:
            return file.read(2) == b"#!" or not real.name.startswith(("python", "pypy", "graalpy"))
    except OSError:
        return False


def _behind_launcher(program: str | None, project: Path, source: Mapping[str, str]) -> Path | None:
    """The interpreter that the launcher `program` starts; None for an interpreter, or when none starts."""
    if program is None or not _is_launcher(program):
        return None
    cwd = project if project.is_dir() else Path.cwd()
    real = printed_path([program, "-c", "import sys; print(sys.executable)"], cwd, source)
    return real if real and real.is_file() else None


# It ignores PYTHONDONTWRITEBYTECODE, too: compiled files beside those that experiments may not edit would look like
# modules in their place.
_ISOLATED = re.compile(rf"(?:^|(?<=[;&|(]))\s*(?:[\w./-]*/)?{ISOLATED_PYTHON}")


def resolve_command(command: str, env: Mapping[str, str], cwd: Path) -> list[str]:
    """`command` as argv, with the program's full path; a command with shell syntax as `/bin/sh -c`.

    Raises ProjectError when the program is not found, a quote is not closed, or a tool such as uv would have to install
    something first.
    """
    text = _ISOLATED.sub(r"\g<0> -B", direct_command(command.strip(), env, cwd))
    if not text:
        raise ProjectError("the command is empty", hint="write a command into program.md, such as: python train.py")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ProjectError(f"the command cannot be parsed: {error}", where=text, hint="close the quotes") from None
    if _SHELL_SYNTAX.search(re.sub(r"'[^']*'", "", text)) or re.match(r"\w+=", words[0]):
        return ["/bin/sh", "-c", text]
    return [_program(words[0], text, env.get("PATH", os.defpath), cwd), *words[1:]]


def python_of(command: str, env: Mapping[str, str], project: Path) -> str:
    """The full path of the Python that `command` starts with; "" where it starts with another program.

    Raises ProjectError, as `resolve_command`.
    """
    program = project / resolve_command(command, env, project)[0]
    return str(program) if program.name.startswith("python") else ""


def _program(name: str, command: str, path: str, cwd: Path) -> str:
    """The program that the first word of `command` names. Raises ProjectError."""
    if "/" not in name:
        # Many systems have python3 only, and `python` is what everyone writes.
        if found := shutil.which(name, path=path) or (shutil.which("python3", path=path) if name == "python" else None):
            # An interpreter found behind a launcher stands first on PATH, where it may only be called python3.
            first = shutil.which("python3", path=path.split(os.pathsep)[0])
            return first if name == "python" and first and _is_launcher(found) else found
        hint = f"install {name}, or give its full path; looked in {path}"
        raise ProjectError(f"the command {name!r} is not found", where=command, hint=hint)
    if not (cwd / name).is_file():
        hint = "correct the path in program.md, or add the file"
        if re.search(r"\bbin/python[\d.]*$", name):
            rest = shlex.join(["python", *shlex.split(command)[1:]])
            hint = f"make that environment (python -m venv {PurePath(name).parent.parent}), or write {toml_line(rest)}"
        raise ProjectError(f"the program {name} does not exist", where=command, hint=hint)
    if not os.access(cwd / name, os.X_OK):
        hint = f"chmod +x {name}, and commit; or name its interpreter, such as: sh {name}"
        raise ProjectError(f"{name} is not executable", where=command, hint=hint)
    # Each worktree has its own version of a program of the project, so the name stays relative.
    return name if Path(name).is_absolute() or name.startswith(".") else f"./{name}"


def readable_roots(env: Mapping[str, str], programs: Sequence[str] = ()) -> tuple[Path, ...]:
    """Folders that `programs` must be able to read, also under a hidden home: their Python, the folders on PATH.

    Never a home folder itself, nor a parent of one.
    """
    places: list[Path] = []
    pythons = [shutil.which(name, path=env.get("PATH")) for name in ("python", "python3")]
    for program in (*programs, *pythons, sys.executable):
        if program and Path(program).is_absolute():
            places += _program_roots(Path(program))
    folders = [Path(entry) for entry in env.get("PATH", os.defpath).split(os.pathsep) if entry]
    places += [*folders, *(folder.parent / "lib/node_modules" for folder in folders)]  # npm is there, under nvm too
    named = ("VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH")
    places += [Path(env[name]) for name in named if env.get(name)]
    places += [Path(entry) for entry in env.get("LD_LIBRARY_PATH", "").split(os.pathsep) if entry]
    places += [Path(env[name], part) for name, _, parts in _TOOL_HOMES if env.get(name) for part in parts]
    if env.get("PYTHONUSERBASE"):
        places += sorted(Path(env["PYTHONUSERBASE"], "lib").glob("python3*"))
    narrow = [place for place in places if place.is_absolute() and _seen(place) and not _too_wide(place.resolve())]
    # The sandbox makes the links on the way to a place only for those that it gets by their own name.
    return tuple(dict.fromkeys((*(place.resolve() for place in narrow), *narrow)))


def module_folders(roots: Iterable[Path]) -> list[Path]:
    """Folders with the installed modules of the Pythons among `roots` (see `readable_roots`)."""
    inner = [f"{name}/{kind}-packages" for name in ("lib/python3*", "lib/python3", "") for kind in ("site", "dist")]
    return [folder for root in roots for part in inner for folder in sorted(root.glob(part.lstrip("/")))]


def link_targets(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Where the symbolic links in `folders` lead to that leave their folder: files and folders, or those around them
    when they are many. Never a home folder, nor a parent of one; of a large tree only the first entries are looked at.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        real, seen = folder.resolve(), 0
        for place, inner, names in os.walk(real):
            seen += len(inner) + len(names)
            links = [path for path in (Path(place, name) for name in (*inner, *names)) if path.is_symlink()]
            leaving = [link for link in links if link.exists() and not link.resolve().is_relative_to(real)]
            found |= dict.fromkeys(Path(os.path.normpath(link.parent / link.readlink())) for link in leaving)
            if seen > _MAX_ENTRIES:
                break
    if len(found) > _MAX_TARGETS:
        found = dict.fromkeys(path.parent for path in found)
    return tuple(path for path in found if not _too_wide(path.resolve()))[:_MAX_TARGETS]


def _program_roots(program: Path) -> list[Path]:
    """Prefixes of an interpreter and of the base interpreter of its virtual environment, through all links."""
    roots = []
    for _ in range(16):
        folder, prefix = program.parent, program.parent.parent
        whole = folder.name in ("bin", "Scripts") and not _too_wide(prefix.resolve()) and _is_prefix(prefix)
        roots.append(prefix if whole else program)
        config = prefix / "pyvenv.cfg"
        text = config.read_text(errors="replace") if config.is_file() else ""
        if match := re.search(r"^home\s*=\s*(.+)$", text, re.M):
            home = Path(match[1].strip()).resolve()
            roots.append(home.parent if home.name == "bin" and _is_prefix(home.parent) else home)
        for link in prefix.glob(f"lib/python3*/site-packages/{MACHINE_TORCH}"):
            roots += map(Path, link.read_text().split("\n")[:1])
        if not program.is_symlink():
            break
        program = folder / program.readlink()
    return roots


def _is_prefix(folder: Path) -> bool:
    """True for the folder of one Python installation, which has `lib/python3.x`; never for `~/.local`."""
    return folder.name != ".local" and any((folder / "lib").glob("python3*"))


def _too_wide(place: Path) -> bool:
    try:
        home = Path.home().resolve()
    except RuntimeError:  # no HOME, and a user without an entry in the passwd file
        home = Path("/")
    return place == Path("/") or place == home or place in home.parents or place == home / ".local"
