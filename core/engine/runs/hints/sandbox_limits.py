"""Hints for what a run may not do, or not have so much of: network, git, places to write, memory, processes, devices"""

from __future__ import annotations

import re
import shlex

from core.engine.runs.hints.known import WRITABLE, Crash, Known

_NETWORK = re.compile(
    r"name resolution|name or service not known|getaddrinfo|nodename nor servname|\bENOTFOUND|EAI_AGAIN|network is unr"
    r"|ENETUNREACH|could not resolve|couldn't resolve|NameResolutionError|Max retries exceeded|urlopen error"
    r"|ConnectionError|ConnectionRefused|connection refused|ECONNREFUSED|dial tcp|failed to (?:fetch|download)"
    r"|(?:cannot|couldn't|could not|failed to|unable to) (?:connect|reach)|connection error|ConnectTimeout"
    r"|SSL connection|download failed|failed to get `|error: no matching package",
    re.IGNORECASE,
)
_OWN_NAME = re.compile(r"gethostname|getfqdn|os\.hostname|MASTER_ADDR|localhost")
_SOCKET = re.compile(r"(?:socket|bind|listen|asyncio|MASTER_PORT)[\s\S]*(?:Permission|not permitted)|EACCES.*listen")
_REFUSED = re.compile(r"not permitted|PermissionError|EPERM|not implemented|ENOSYS", re.IGNORECASE)
_LOCK = re.compile(r"flock|lockf|fcntl\.fcntl|F_SETLK|filelock|portalocker|(?:could not|cannot) lock", re.IGNORECASE)
_WATCH = re.compile(r"inotify|watchdog|watchfiles|chokidar", re.IGNORECASE)
_ASYNC_IO = re.compile(r"io_setup|libaio|async_io|io_uring", re.IGNORECASE)
_GIT = re.compile(r"not a git repository|InvalidGitRepository|dubious ownership|fatal: .*\.git\b")
_OWN_REPOSITORY = (
    'export GIT_DIR="$TMPDIR/.git"; git init -q && git -c user.name=run -c user.email=run commit -qm run --allow-empty'
)
_SCM = re.compile(r"setuptools[_-]scm|hatch[_-]vcs")
_READ_ONLY = re.compile(r"read-only file ?system|EROFS", re.IGNORECASE)
_DENIED = re.compile(r"PermissionError: .*'(/[^']+)'|EACCES: permission denied, \w+ '([^']+)'")
_NOT_EXECUTABLE = re.compile(
    r"(?:^|[\s:])(?:\./)?([\w./-]+): Permission denied|PermissionError: \[Errno 13\].*: '(?:\./)?([\w./-]+)'"
)
_SHM = re.compile(r"shared memory|/dev/shm|shm_open|bus error|SIGBUS", re.IGNORECASE)
_FULL = re.compile(
    r"No space left on device|ENOSPC|Disk quota exceeded|more than \d+ MB to disk|file of more than \d+ MB"
)
_THREADS = re.compile(
    r"can't start new thread|Resource temporarily unavailable|pthread_create|EAGAIN|fork: retry|thread creation failed"
    r"|failed to spawn thread|more than \d+ processes|Cannot fork|unable to create (?:native )?thread|WouldBlock"
)
_MEMORY = re.compile(
    r"MemoryError|bad_alloc|Cannot allocate memory|ENOMEM|[Oo]ut of memory|OutOfMemoryError|heap out of memory"
    r"|used more than \d+ MB of memory|lack of memory|Unable to allocate|memory allocation of \d+ bytes failed"
)
_GPU_MEMORY = re.compile(
    r"CUDA (?:error: )?out of memory|CUDA_ERROR_OUT_OF_MEMORY|HIP out of memory|cudaMalloc|CUDNN_STATUS_ALLOC"
)
_NO_GPU = re.compile(
    r"No CUDA GPUs are available|Found no NVIDIA driver|not compiled with CUDA|no CUDA-capable device"
    r"|torch\.cuda\.is_available\(\) is False|CUDA driver version is insufficient|no kernel image is available"
)
_INPUT = re.compile(r"EOFError|EOF when reading a line|stdin is not a (?:tty|terminal)|not a tty|no tty present")
_NO_USER = re.compile(r"getpwuid|uid not found|getlogin|whoami: cannot find")
_NO_SCREEN = re.compile(r"no display name|cannot connect to X|could not connect to display|\$DISPLAY|TclError|qt\.qpa")
_ACCOUNT = re.compile(r"wandb.*(?:api_key|api key|login|no-tty)|api_key not configured", re.IGNORECASE)
_CARGO, _GO = re.compile(r"\bcargo\b"), re.compile(r"\bgo (?:run|build|test)\b")
_NPM, _PROJECT_TOOL = re.compile(r"\bnpm |\bnpx "), re.compile(r"^(uv|poetry|pdm|pipenv) ")
_SYNC = {"uv": "uv sync", "poetry": "poetry install", "pdm": "pdm install", "pipenv": "pipenv install"}
_HIDES = re.compile(r"2>\s*/dev/null|&>\s*/dev/null|>\s*/dev/null 2>&1|>&\s*/dev/null")
_NOTHING = re.compile(r"and printed nothing$")
_OPEN = "write network = true below [sandbox] in program.md"


def git_in_a_run(crash: Crash, known: Known) -> str:
    if not _GIT.search(crash.reason):
        return ""
    if _SCM.search(crash.last):
        return f"runs see no git repository: {known.write_variables({'SETUPTOOLS_SCM_PRETEND_VERSION': '0'})}"
    return (
        "runs see no git repository: let the code do without a commit (Python: except CalledProcessError), or "
        f"{known.write_command(f'{_OWN_REPOSITORY} && {known.command}')}, which gives each run an empty one"
    )


def network(crash: Crash, known: Known) -> str:
    """For a host that cannot be reached."""
    if known.network or known.key == "prepare" or known.key == "score" or not _NETWORK.search(crash.last):
        return ""
    here = shlex.quote(str(known.project))
    if _OWN_NAME.search(crash.last) and not re.search(r"https?://", crash.last):
        return f"runs have no network, and a host name is not found: use 127.0.0.1, or {_OPEN}"
    if _CARGO.search(known.command):
        vendor = "mkdir -p .cargo && cargo vendor > .cargo/config.toml && git add -f .cargo vendor Cargo.lock"
        return f"runs have no network and no ~/.cargo: cd {here} && {vendor} && git commit -m vendor"
    if _GO.search(known.command):
        return f"runs have no network: cd {here} && go mod vendor && git add -f vendor && git commit -m vendor"
    if _NPM.search(known.command) and (known.project / "package.json").is_file():
        return f"runs have no network: `npm --prefix {here} install`, then {known.write_inputs('node_modules')}"
    if tool := _PROJECT_TOOL.match(known.command):
        python = known.project / ".venv" / "bin" / "python"
        if python.exists():
            return f"runs have no network: {known.write_python(str(python))}"
        return f"runs have no network: `cd {here} && {_SYNC[tool[1]]}`, then {known.write_python('python')}"
    return f"runs have no network: fetch it before or in `prepare`, and name its folder in `inputs`; or {_OPEN}"


def writing(crash: Crash, known: Known) -> str:
    """For a place that a run cannot write to."""
    denied = _DENIED.search(crash.reason)
    path = (denied[1] or denied[2]) if denied else ""
    if not _READ_ONLY.search(crash.reason) and not (path and known.outside(path) and not path.startswith("/dev")):
        return ""
    return WRITABLE


def executable(crash: Crash, known: Known) -> str:
    """For a program of the project that may not be executed."""
    found = _NOT_EXECUTABLE.search(crash.reason)
    name = known.inside(found[1] or found[2]) if found else None
    if name is None or name not in known.tracked:
        return ""
    here = shlex.quote(str(known.project))
    return f"git -C {here} update-index --chmod=+x {shlex.quote(name)} && git -C {here} commit -m executable"


def room(crash: Crash, known: Known) -> str:
    """For shared memory, disk, processes, memory of the machine and of the GPU."""
    text = crash.last
    if _GPU_MEMORY.search(text):
        return "the GPU's memory is used up: a smaller batch or model, or see with nvidia-smi who else uses that card"
    if _NO_GPU.search(text):
        if not any(slot.startswith("gpu") for slot in known.slots):
            return "this session's slots are processors, and its runs see no GPU: set the device to cpu"
        used = known.interpreter or "python"
        return f"see what this says: {used} -c 'import torch; print(torch.version.cuda, torch.cuda.is_available())'"
    if _SHM.search(crash.reason) or ("worker" in text and _SHM.search(text)):
        return "there is too little shared memory: num_workers=0, a smaller batch, or docker run --shm-size=2g"
    if _THREADS.search(text):
        few = known.write_variables({"OMP_NUM_THREADS": "1"}) if "OMP_NUM_THREADS" not in known.command else ""
        return "a run may have 256 processes and threads of few cores: fewer workers" + (f", or {few}" if few else "")
    if _FULL.search(crash.reason):
        return (
            "see what is full with df -h, and free some space; a run may write 20 GB, its /tmp and /dev/shm use memory"
        )
    if "heap out of memory" in text and "node" in known.command and "max-old-space" not in known.command:
        return known.write_command(re.sub(r"\bnode\b", "node --max-old-space-size=8192", known.command, count=1))
    if _MEMORY.search(text):
        return "write memory_gb = 16 (or what a run needs) below [sandbox] in program.md, or start with fewer --slots"
    return ""


def shared_state(crash: Crash, known: Known) -> str:
    """For what is refused since other processes could read it: locks outside, news of files, asynchronous I/O."""
    if known.tier == "C" or not _REFUSED.search(crash.last):
        return ""
    if _WATCH.search(crash.last):
        return "runs get no news of files (inotify): look at them now and then (watchdog: PollingObserver)"
    if _LOCK.search(crash.last):
        return "a run locks only files that it can write: put the lock file into its folder, $HOME or $TMPDIR"
    if _ASYNC_IO.search(crash.last):
        return "runs have no kernel asynchronous I/O: read and write from threads instead"
    return ""


def surroundings(crash: Crash, known: Known) -> str:
    """For a terminal, a screen, a user's name, sockets and accounts."""
    text = crash.last
    if _ACCOUNT.search(text) and "WANDB_MODE" not in known.command:
        return f"runs get no keys: {known.write_variables({'WANDB_MODE': 'offline'})}"
    if _INPUT.search(crash.reason):
        return "a run has no terminal to ask: give the answer as an option, or in the code"
    if _NO_USER.search(text) and "USER=" not in known.command:
        return f"the user has no name here: {known.write_variables({'USER': 'run', 'LOGNAME': 'run'})}"
    if _NO_SCREEN.search(crash.reason) and "MPLBACKEND" not in known.command:
        return f"a run has no screen: {known.write_variables({'MPLBACKEND': 'Agg', 'QT_QPA_PLATFORM': 'offscreen'})}"
    if _SOCKET.search(text) and known.tier == "B":
        return "sandbox tier B refuses sockets: install bubblewrap (apt install bubblewrap), or use num_workers=0"
    return ""


def silence(crash: Crash, known: Known) -> str:
    """For a command that printed no reason."""
    if not _NOTHING.search(crash.reason):
        return ""
    if hides := _HIDES.search(known.command):
        return f"`{hides[0]}` hides the reason: {known.write_command(known.command.replace(hides[0], '').strip())}"
    return f"see what it does by hand: cd {shlex.quote(str(known.project))} && {known.command}"
