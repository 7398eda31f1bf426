"""Survey of a repository for `init`: how it runs, which files hold its code, what it prints, reads and is seeded by"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import tomli

from core.edits.match import line_number
from core.edits.rules import imported
from core.program.printed_numbers import PrintedNumber, printed_numbers

Read = Callable[[str], str]  # text of a file; empty when there is none

_FIRST = ("train", "main", "run", "bench", "benchmark", "experiment", "fit", "finetune", "pretrain", "demo")
_BESIDE = re.compile(r"(?:^|[/_-])(?:tests?|conftest|setup|docs?|conf|prepare|download|sample|generate|plot|utils?"
                     r"|eval|fabfile|noxfile|tasks|version|__init__|configurator|model|vendor|external|ci|build|third[_-]party)"
                     r"(?:[/_.-]|$)")  # fmt: skip
_CODE = (".py", ".js", ".mjs", ".cjs", ".ts", ".c", ".cc", ".cpp", ".rs", ".go", ".jl", ".rb", ".pl", ".lua", ".php")
_SOURCES = (".c", ".cc", ".cpp")
_BENCH = re.compile(r"bench|perf|speed|timing", re.IGNORECASE)
_DATA = re.compile(
    r"(?:^|/)(?:data|dataset|datasets|corpus|corpora|inputs?|assets|weights|models|checkpoints|raw)(?:/|$)", re.I
)
_DATA_FILES = (".csv", ".tsv", ".bin", ".npz", ".npy", ".parquet", ".pkl", ".pt", ".h5", ".txt", ".json", ".jsonl",
               ".zip", ".gz", ".tar", ".arrow", ".safetensors", ".db", ".sqlite")  # fmt: skip
_MADE = re.compile(
    r"(?:^|/)(?:__pycache__|\.?v?env|node_modules|target|build|dist|sessions|wandb|runs|logs?|out|output|outputs|results"
    r"|[^/]*\.egg-info|\.[^/]+|[^/]*\.py[co]|[^/]*\.(?:o|so|a|log))(?:/|$)"
)
# What ends a first session: a pattern of the code, and what to do about it.
_HAZARDS = (
    (r"""^[ \t]*(?:[^#\n]*["']--device["'].*default\s*=\s*|device\s*=\s*)(["']cuda["'])(?!.*\bif\b)""",
     "the device is cuda: without a GPU set it to cpu there, or by its option in `run`"),
    (r"^[^\n]*(\b(?:listen|accept)\s*\(\w+)",
     "it waits for connections, so it does not end by itself: write a command into `run` that starts it, uses it and "
     "ends it"),
    (r"(\.cache\b|expanduser|snapshot_download|from_pretrained|load_dataset|download=True)",
     "this may use files of the home folder or of the network, which a run does not see: keep them in the project, and "
     "name them in `inputs`"),
)  # fmt: skip
# What trains until it is stopped, unless a number of steps is given.
_ENDLESS = re.compile(
    r"""^[^#\n]*(?:["']--((?:max[-_])?(?:steps|iters|iterations|epochs))["'].*default\s*=\s*(?:-1|None)\b"""
    r"""|\bmax_(?:steps|iters|iterations)\s*(?::[^=\n]*)?=\s*(?:-1|None)\s*(?:#.*)?$)""",
    re.MULTILINE,
)
_TOOLS = {"uv.lock": "uv sync", "poetry.lock": "poetry install", "pdm.lock": "pdm install", "pixi.lock": "pixi install",
          "environment.yml": "conda env create"}  # fmt: skip
_CONFIGS = (".yaml", ".yml", ".json", ".toml")
MAX_FILES_READ = 200


@dataclass(frozen=True, slots=True)
class Launch:
    """A way to run the project once."""

    run: str
    edit: tuple[str, ...]
    why: str
    script: str = ""  # the file that is run
    seconds: bool = False  # what it prints is unknown, and its duration can be measured


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, the likeliest first; each with the reason for it."""

    launches: tuple[Launch, ...]
    metrics: tuple[PrintedNumber, ...]
    inputs: Mapping[str, str]  # path -> why
    seed: str  # the option that takes a seed, such as `--seed`
    seed_why: str  # without an option: a remark on the seed that the code fixes, or ""
    notes: tuple[str, ...]
    seconds: tuple[float, str]  # how long the code trains by its own constant, and where that stands; 0: not known
    endless: str  # where the code says that it trains until it is stopped; empty: nowhere


def survey(files: Sequence[str], ignored: Sequence[str], read: Read, gpu: bool = True) -> Survey:
    """Read the project's `files` (in git, or all). `ignored`: files and folders (ending in /) that git
    ignores or does not know."""
    launches = sorted(_launches(files, read, gpu), key=lambda found: -found[0])
    best = launches[0][1] if launches else None
    script = best.script if best else ""
    texts = {path: read(path) for path in _code(files, best, read)[:MAX_FILES_READ]}
    metrics = [number for path, text in texts.items() for number in printed_numbers(path, text)]
    metrics.sort(key=lambda number: -number.weight - 4 * (number.path == script))  # modules print for debugging
    unique: dict[tuple[str, str], PrintedNumber] = {}
    for number in metrics:
        unique.setdefault((number.name, number.pattern), number)
    seed, why = _seed(script, texts)
    return Survey(
        launches=tuple(launch for _, launch in launches),
        metrics=tuple(unique.values()),
        inputs=_inputs(ignored, files, texts),
        seed=seed,
        seed_why=why,
        notes=tuple(_notes(files, ignored, read, best.run if best else "", texts)),
        seconds=_trains_for(texts),
        endless=_endless(texts, best.run if best else ""),
    )


def _code(files: Sequence[str], launch: Launch | None, read: Read) -> list[str]:
    """The script that is run, and the project's own modules that it imports; without a script, benchmarks."""
    if launch is None or not launch.script:
        endings = tuple({PurePosixPath(path).suffix for path in launch.edit} if launch else _CODE)
        return [path for path in files if _BENCH.search(path) and path.endswith(endings)]
    found = [launch.script, *(path for path in launch.edit if path in files and path != launch.script)]
    for path in found:  # grows
        for name in imported(path, read(path)) if path.endswith(".py") else ():
            folder = path.rpartition("/")[0]
            places = (f"{folder}/{name}", name, f"src/{name}")
            own = [
                p for p in files if any(p == f"{x.lstrip('/')}.py" or p.startswith(f"{x.lstrip('/')}/") for x in places)
            ]
            found += [p for p in own if p.endswith(".py") and p not in found][:40]
    return found


def _launches(files: Sequence[str], read: Read, gpu: bool) -> Iterator[tuple[float, Launch]]:
    """(weight, launch) of every way to run that the files suggest."""
    yield from _scripts(files, read, gpu)
    yield from _tests(files)
    yield from _node(files, read)
    yield from _cargo(files, read)
    yield from _make(files, read)
    yield from _cmake(files)
    yield from _shell(files)


def _scripts(files: Sequence[str], read: Read, gpu: bool) -> Iterator[tuple[float, Launch]]:
    scripts = [path for path in files if path.endswith(".py") and path.count("/") <= 2]
    top = [path for path in scripts if "/" not in path and not _BESIDE.search(path)]
    package = _package(files)
    endings = Counter(PurePosixPath(path).suffix for path in files if "/" not in path and path.endswith(_CODE))
    only_one = bool(endings) and endings.most_common(1)[0][0] == ".py" and len(top) == 1
    for path in scripts:
        stem = PurePosixPath(path).stem.lower()
        named = next((i for i, word in enumerate(_FIRST) if stem == word or stem.startswith(f"{word}_")), None)
        text = read(path) if named is not None or path in top or "/" in path else ""
        starts = bool(re.search(r"^if __name__\s*==", text, re.MULTILINE)) or (named is not None and "/" not in path)
        if (_BESIDE.search(path) and named is None) or not (starts or path in top):
            continue
        numbers = printed_numbers(path, text)
        good = sum(1 for number in numbers if number.weight > 2)
        weight = 10.0 - 3 * path.count("/") + (4 - named / 4 if named is not None else 0) + 2 * bool(numbers)
        weight += 4 * (only_one and path in top) + starts + 3 * bool(good) + min(len(text) / 10_000, 1)
        weight -= 3 * (f"{path.rpartition('/')[0]}/__init__.py" in files)
        bench = bool(_BENCH.search(path))
        edit, built = _measured(files, path, text, package) if bench else ((path,), "")
        source = "PYTHONPATH=src " if package.startswith("src/") else "PYTHONPATH=. " if "/" in path else ""
        source = built + source
        only = "the only Python file at the top" if only_one and path in top else f"{path} is a script" + (
            f" that prints {numbers[0].name}" if numbers else "")  # fmt: skip
        yield weight, Launch(f"{source}python {path}", edit, only, path, bench and not numbers)
        for i, line in enumerate(_told(path, read)):
            here = not gpu and re.search(r"\bcpu\b", line)  # the command for a machine such as this
            why = "README.md shows this command" + " for a machine without a GPU" * bool(here)
            configs = [word for word in line.split()[2:] if word in files and word.endswith((".py", *_CONFIGS))]
            more = tuple(word for word in configs if word not in edit)
            yield weight - 0.01 * (i + 1) + bool(here), Launch(f"{source}{line}", edit + more, why, path)


def _measured(files: Sequence[str], bench: str, text: str, package: str) -> tuple[tuple[str, ...], str]:
    """The files that a benchmark measures, never itself where there are others; what is built before it."""
    if package:
        return (f"{package}/**/*.py",), ""
    folder = bench.rpartition("/")[0]
    own = [f"{folder}/{name}.py".lstrip("/") for name in sorted(imported(bench, text))]
    if own := [path for path in own if path in files]:
        return tuple(own), ""
    if "Makefile" in files and (edit := _compiled(files)):
        return edit, "make -s && "
    return (bench,), ""


def _told(script: str, read: Read) -> list[str]:
    """The commands with arguments by which README.md runs a script, in one process and without the network."""
    lines = re.findall(
        rf"^\s*(?:[$>]\s*)?(python3?[ \t]+(?:\./)?{re.escape(script)}[ \t]+\S.*?)\s*$", read("README.md"), re.MULTILINE
    )
    return [line for line in dict.fromkeys(lines) if not re.search(r"[\\&|;<>`#]", line)][:4]


def _tests(files: Sequence[str]) -> Iterator[tuple[float, Launch]]:
    """The benchmarks or tests of a package, timed."""
    package = _package(files)
    for folder in dict.fromkeys(path.partition("/")[0] for path in files if re.search(r"/test_[^/]*\.py$", path)):
        if package and re.search(r"^(?:tests?|bench\w*)$", folder):
            source = "PYTHONPATH=src " if package.startswith("src/") else ""
            weight = 6.0 + 3 * bool(_BENCH.search(folder))
            run = f"{source}python -m pytest -q {folder}"
            yield weight, Launch(run, (f"{package}/**/*.py",), f"the package {package}, and {folder}/", "", True)


def _package(files: Sequence[str]) -> str:
    """The folder of the project's package, `src/name` or `name`, or ""."""
    inits = [
        path for path in files if path.endswith("/__init__.py") and not _BESIDE.search(path.removesuffix("__init__.py"))
    ]
    folders = sorted((path.removesuffix("/__init__.py") for path in inits), key=lambda f: (f.count("/"), f))
    near = [folder for folder in folders if folder.count("/") == folder.startswith("src/")]
    return near[0] if near else ""


def _node(files: Sequence[str], read: Read) -> Iterator[tuple[float, Launch]]:
    if "package.json" not in files:
        return
    try:
        scripts = json.loads(read("package.json")).get("scripts", {})
    except (ValueError, AttributeError):
        return
    roots = [root for root in ("src", "lib") if any(path.startswith(f"{root}/") for path in files)]
    endings = [
        e for e in ("js", "mjs", "ts", "cjs") if any(re.match(rf"(?:{'|'.join(roots)})/.*\.{e}$", p) for p in files)
    ]
    edit = tuple(f"{root}/**/*.{endings[0]}" for root in roots[:1]) if roots and endings else ()
    edit = (
        edit or tuple(path for path in files if "/" not in path and path.endswith(".js") and "config" not in path)[:1]
    )
    for name, line in scripts.items() if isinstance(scripts, dict) else ():
        bench = bool(_BENCH.search(name))
        if not isinstance(line, str) or not (bench or name in ("train", "start", "test", "build")):
            continue
        found = re.match(r"^(?:time\s+)?(node(?:\s+--?[\w=-]+)*\s+([\w./-]+\.[cm]?js)[\w ./=-]*)$", line.strip())
        named = re.findall(r"[\w./-]+\.[cm]?js\b", line)
        script = found[2] if found else next((word for word in named if word.removeprefix("./") in files), "")
        script = script.removeprefix("./")
        run = found[1] if found else f"npm run --silent {name}"
        if bench or name == "train":
            yield 18.0 + bool(found) - (":" in name), Launch(run, edit, f"package.json: scripts.{name}", script, bench)
        else:
            yield 4.0 + (name == "test"), Launch(run, edit, f"package.json: scripts.{name}", script, True)


def _cargo(files: Sequence[str], read: Read) -> Iterator[tuple[float, Launch]]:
    if "Cargo.toml" not in files:
        return
    try:
        manifest = tomli.loads(read("Cargo.toml"))
    except ValueError:
        return
    edit = ("src/**/*.rs",) if any(path.startswith("src/") for path in files) else ("**/*.rs",)
    if benches := [p for p in files if p.startswith("benches/") and p.endswith(".rs")]:
        yield 17.0, Launch("cargo bench --offline", edit, "Cargo.toml, and benches/", benches[0], True)
    if "src/main.rs" in files or manifest.get("bin"):
        yield 15.0, Launch("cargo run --release --offline", edit, "Cargo.toml, and src/main.rs", "src/main.rs", True)
    test = "cargo test --release --offline -q"
    yield 8.0, Launch(f"{test} --no-run && {test}", edit, "Cargo.toml: its tests", "", True)


def _make(files: Sequence[str], read: Read) -> Iterator[tuple[float, Launch]]:
    name = next((n for n in ("Makefile", "makefile", "GNUmakefile") if n in files), None)
    if name is None:
        return
    text = read(name)
    targets = list(dict.fromkeys(re.findall(r"^([A-Za-z][\w.-]*)\s*:(?!=)", text, re.MULTILINE)))
    sources = [path for path in files if path.endswith(_SOURCES)]
    edit = _compiled(files)
    if not edit:
        return
    for target in targets:
        source = next((path for path in sources if PurePosixPath(path).stem == target), "")
        code = read(source) if source else ""
        source = source if re.search(r"\bmain\s*\(", code) else ""
        runs = not source or f"./{target}" in text
        bench = bool(_BENCH.search(target))
        first = "" if target == targets[0] else "make -s && "  # what is built is not part of the time
        if bench and runs:
            yield 17.0, Launch(f"{first}make -s {target}", edit, f"{name}: target {target}", source, True)
        elif source and "\t" in text:
            more = " --bench" if '"--bench"' in code else ""
            numbers = bool(printed_numbers(source, code))
            weight = 11.0 + ("test" in target) + numbers + 4 * bool(more or bench)
            if not (numbers or more or bench or "test" in target) or re.search(r"\b(?:listen|accept)\s*\(", code):
                weight = 5.0  # a program that wants arguments, or a server
            run = f"make -s {target} && ./{target}{more}"
            yield weight, Launch(run, edit, f"{name}: builds {target}", source, True)
        elif target in ("test", "check", "run"):
            yield 9.0, Launch(f"{first}make -s {target}", edit, f"{name}: target {target}", "", True)


def _compiled(files: Sequence[str]) -> tuple[str, ...]:
    """The C or C++ files of the program or library itself, or a glob of them."""
    inner = [
        p for p in files if p.endswith((*_SOURCES, ".h", ".hpp")) and not re.search(r"test|bench|example|fuzz|oom", p)
    ]
    flat = [p for p in inner if "/" not in p and p.endswith(_SOURCES)]
    if flat:
        return (
            tuple(flat)
            if len(flat) <= 4
            else tuple(f"*{end}" for end in sorted({PurePosixPath(p).suffix for p in flat}))
        )
    below = [p for p in inner if "/" in p and not _BESIDE.search(p)]
    usual = [p for p in below if p.startswith(("src/", "lib/", "include/"))] or below
    count = Counter((p.partition("/")[0], PurePosixPath(p).suffix) for p in usual)
    best = max(count, key=lambda kind: (kind[1] in _SOURCES, count[kind]), default=None)
    return (f"{best[0]}/**/*{best[1]}",) if best else ()


def _cmake(files: Sequence[str]) -> Iterator[tuple[float, Launch]]:
    """The tests of a project that CMake builds, timed."""
    if "CMakeLists.txt" in files and (edit := _compiled(files)):
        built = "cmake -S . -B build -DCMAKE_BUILD_TYPE=Release > build.log && cmake --build build >> build.log"
        yield 7.0, Launch(f"{built} && ctest --test-dir build", edit, "CMakeLists.txt, and its tests", "", True)


def _shell(files: Sequence[str]) -> Iterator[tuple[float, Launch]]:
    """A script of the shell at the top that runs tests or a benchmark, timed, with the most frequent kind of code."""
    count = Counter(PurePosixPath(path).suffix for path in files if "/" not in path)
    ending = next((end for end, _ in count.most_common() if end in _CODE), "")
    for path in files:
        if ending and re.fullmatch(r"(?:bench\w*|train|run|tests?|check)\.(?:sh|bash)", path):
            weight = 12.0 + 3 * bool(_BENCH.search(path) or path.startswith("train")) - 2 * (count[ending] < 3)
            yield weight, Launch(f"bash {path}", (f"*{ending}",), f"{path} at the top", path, True)


def _seed(script: str, texts: Mapping[str, str]) -> tuple[str, str]:
    """(option that sets the seed, why). Without an option: where the code fixes its seed, as a remark, or ""."""
    near = {script: texts[script]} if script in texts else {}
    for path, text in near.items():
        if "AUTORESEARCH_SEED" in text:
            return "", ""  # the code reads it itself
        if found := re.search(r"""["'](--(?:[\w-]*[-_])?seed)["']""", text):
            return found[1], f"{path}:{line_number(text, found.start())} has the option {found[1]}"
    for path, text in {**near, **texts}.items():
        if found := re.search(
            r"(?:manual_seed|random\.seed|default_rng|set_seed|seed_everything)\s*\(|^SEED\s*=", text, re.M
        ):
            place = f"{path}:{line_number(text, found.start())}"
            return "", (
                f"{place} sets a seed of its own: read AUTORESEARCH_SEED there, else every run gives one number and no "
                "gain can be told from luck"
            )
    return "", ""


def _inputs(ignored: Sequence[str], files: Sequence[str], texts: Mapping[str, str]) -> dict[str, str]:
    """Data that git does not hold and the code needs, by path."""
    said = "\n".join(texts.values())
    found: dict[str, str] = {}
    for path in ignored:
        plain = path.rstrip("/")
        name = PurePosixPath(plain).name
        if any(plain.startswith(f"{known}/") for known in found):
            continue
        if plain == "node_modules" and "package.json" in files:
            found[plain] = "installed packages, which git ignores"
        elif not _MADE.search(plain) and (_DATA.search(plain) or plain.endswith(_DATA_FILES)) and (
            _DATA.search(path) or re.search(rf"\b{re.escape(name)}\b", said)
        ):  # fmt: skip
            found[plain] = (
                "git does not hold it, and the code reads it" if name in said else "data that git does not hold"
            )
    return found


def _endless(texts: Mapping[str, str], run: str) -> str:
    """Where the code says that it trains until it is stopped, if the command does not say how long."""
    for path, text in texts.items():
        if (found := _ENDLESS.search(text)) and not (found[1] and f"--{found[1]}" in run):
            return f"{path}:{line_number(text, found.start())}"
    return ""


def _trains_for(texts: Mapping[str, str]) -> tuple[float, str]:
    for path, text in texts.items():
        if found := re.search(r"^(?:TIME_BUDGET|TRAIN_SECONDS|MAX_SECONDS)\w*\s*=\s*(\d+)", text, re.MULTILINE):
            return float(found[1]), f"{path}:{line_number(text, found.start())}"
    return 0.0, ""


def _notes(
    files: Sequence[str], ignored: Sequence[str], read: Read, run: str, texts: Mapping[str, str]
) -> Iterator[str]:
    """What `run` should know of the project's environment."""
    if ".gitmodules" in files:
        yield "the repository has submodules: fill them with git submodule update --init"
    yield from _hazards(run, texts)
    if "python" not in run:
        return
    if venv := next((f for f in (".venv/", "venv/", "env/") if f in ignored), None):
        yield f"`python` in a run is that of {venv.rstrip('/')}"
    else:
        tool = next((line for name, line in _TOOLS.items() if name in files), "")
        tool = tool or ("uv sync" if "[tool.uv" in read("pyproject.toml") else "")
        if tool:
            yield f"make the project's environment before the first run: {tool}; `python` is then that of .venv"


def _hazards(run: str, texts: Mapping[str, str]) -> Iterator[str]:
    for pattern, words in _HAZARDS:
        if "the device is cuda" in words and re.search(r"\bcpu\b", run):
            continue
        for path, text in texts.items():
            if found := re.search(pattern, text, re.MULTILINE):
                yield f"{path}:{line_number(text, found.start(1))}: {words}"
                break
