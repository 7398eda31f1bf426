"""The checked content of a program.md, its keys, and what may change while a session runs"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from core import invocation
from core.edits.globs import matches
from core.edits.rules import Rules, defines
from core.program import toml_reader
from core.program.timed_metric import timed
from core.program.toml_reader import CONTROL, NAME, Reader, kind
from core.record.budget import RunBudget, RunClock, SessionBudget, parse_run_budget
from core.record.errors import ProgramError, ProjectError
from core.record.metric import Metric
from core.stats.decide import Policy

DEVICES = ("cuda", "cpu")
DEFAULT_RUN_BUDGET = "5m"
KEYS: toml_reader.Keys = {
    "": ("edit", "read", "inputs", "run", "prepare", "score", "score_hidden", "approve", "seed",
         "metric", "budget", "slots", "ahead", "checks", "rules", "decide", "prune", "sandbox"),
    "metric": ("name", "direction", "pattern"),
    "budget": ("run", "hours", "experiments", "usd", "device_usd_per_hour", "startup", "saving", "limit", "check",
               "at_limit", "clock"),
    "slots": ("threads", "gpu_memory"),
    "ahead": ("queue", "minds"),
    "checks": None,
    "rules": ("max_diff_lines", "forbid", "require", "freeze_dependencies"),
    "decide": ("keep", "baseline", "repeats", "min_effect", "simplicity", "quarantine", "alpha", "beta", "refresh"),
    "prune": ("on", "audit", "decay"),
    "sandbox": ("network", "memory_gb", "limits_only"),
}  # fmt: skip
_PATTERN = "write for example pattern = '^accuracy: (\\S+)' (single quotes keep the backslashes)"
EXAMPLES: Mapping[str, str] = {
    "edit": 'write the files the researcher may change: edit = ["train.py"]',
    "read": 'write read = ["README.md"]',
    "inputs": 'write inputs = ["data"]',
    "run": 'write the command that trains once: run = "python train.py"',
    "score": 'write score = "python score.py"',
    "prepare": 'write prepare = "python prepare.py" or { cuda = "python prepare.py --all", cpu = "python prepare.py" }',
    "metric": 'write a line [metric], and below it name = "loss", direction = "min" and pattern = \'^loss: (\\S+)\'',
    "metric.name": 'write below [metric]: name = "loss" and direction = "min"',
    "metric.direction": 'write direction = "min" (lower is better) or direction = "max"',
    "metric.pattern": _PATTERN,
    "budget.run": 'write run = "5m", "400 steps" or { cuda = "5m", cpu = "20s" }',
    "budget.at_limit": 'write at_limit = "score" (the last number printed counts) or at_limit = "crash"',
    "budget.clock": 'write clock = "cpu" (processor seconds of a run in a CPU slot) or clock = "wall"',
    "budget.hours": "write hours = 48",
    "budget.experiments": "write experiments = 700",
    "budget.usd": "write usd = 25.0",
    "budget.device_usd_per_hour": "write device_usd_per_hour = 2.5 (of one card, or of the processors)",
    "score_hidden": 'write score_hidden = "python score.py --hidden"',
    "rules.max_diff_lines": "write max_diff_lines = 40 (lines added and removed)",
    "rules.forbid": "write forbid = ['torch\\.compile'] (regular expressions, in single quotes)",
    "rules.require": 'write require = ["train.py:main", "train.py:GPT.forward"]',
    "rules.freeze_dependencies": "write freeze_dependencies = true",
    "decide.keep": "write keep = 3.0 (sigmas of gain that are kept at once)",
    "decide.repeats": "write repeats = 3 (maximum of extra runs for a smaller gain)",
    "decide.min_effect": "write min_effect = 0.001 (the smallest gain to keep, in the metric's unit)",
    "decide.simplicity": "write simplicity = 1.0 (sigmas by which a result from fewer lines may be worse)",
    "decide.quarantine": "write quarantine = 10.0 (sigmas of gain that are repeated before they count)",
    "decide.alpha": "write alpha = 0.2 (kept when the probability of no gain is at most this)",
    "decide.beta": "write beta = 0.3 (discarded when that probability is at least this)",
    "decide.refresh": "write refresh = 24 (the best runs again after so many candidates; 0: never)",
    "decide.baseline": "write baseline = 3 (runs of the baseline)",
    "prune.on": "write on = false (every run goes to its end)",
    "prune.audit": "write audit = 20 (one hopeless run in so many is run to its end)",
    "prune.decay": "write decay = 0.6 (share of a run's time after which its learning rate falls)",
    "sandbox.memory_gb": "write memory_gb = 8",
    "slots.threads": "write threads = 8 (of one run)",
    "slots.gpu_memory": 'write gpu_memory = "10 GB" (of one run, its scoring included)',
    "ahead.queue": "write queue = 3 (proposals that wait for a slot)",
    "ahead.minds": "write minds = 4 (proposals that are made at once, at most)",
    "seed": "write seed = 1",
}
_MORE_IS_BETTER = re.compile(r"acc|reward|score|auc|\bf1|bleu|mfu|throughput|per_sec", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """[prune]: whether hopeless runs are stopped early, one in how many of them is run to its end to see whether it was
    one, and the share of a run's time after which the learning rate falls.
    """

    on: bool = True
    audit: int = 20
    decay: float = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A checked program.md. Paths are relative to its folder; patterns are globs (`core.edits.globs.matches`)."""

    edit: tuple[str, ...]
    run: str
    metric: Metric
    text: str  # the whole file
    prose: str  # after the front matter
    read: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()  # untracked files or folders (data) linked read-only into every worktree
    prepares: Mapping[str, str] = field(default_factory=dict)  # the command before the first run, by device
    score: str | None = None
    score_hidden: str | None = None  # the scorer on the hidden slice, for kept experiments
    pattern: str | None = None  # regular expression with one group (re.MULTILINE), without `score`
    run_budgets: Mapping[str, RunBudget] = field(default_factory=dict)  # by device: "cuda", "cpu"
    budget: SessionBudget = field(default_factory=SessionBudget)
    startup_seconds: Mapping[str, float] = field(default_factory=lambda: {"cpu": 120.0, "cuda": 300.0})
    saving_seconds: float = 60.0
    limit_seconds: float = 1800.0  # of a run with a step budget
    clock: RunClock | None = None  # of a time budget in a CPU slot; None: by the kind of project
    scored_at_limit: bool = False  # what a run without a scorer has printed at its time budget counts
    checks: Mapping[str, str] = field(default_factory=dict)
    check_seconds: float = 120.0
    rules: Rules = field(default_factory=Rules)
    network: bool = False
    limits_only: bool = False  # consent to run without a sandbox, with limits on time, memory, processes and disk only
    memory_gb: float | None = None  # per run; None: a share of the machine
    gpu_memory: int | None = None  # bytes of a GPU that one run needs: a card has as many slots as fit; None: one
    threads: int | None = None  # of one run; None: all cores for the only CPU slot, one for each of several
    queue: int | None = None  # proposals that wait for a slot; None: one more than there are slots
    minds: int | None = None  # proposals that are made at once, at most; None: by the kind of researcher
    policy: Policy = field(default_factory=Policy)
    baseline_runs: int = 3
    prune: Pruning = field(default_factory=Pruning)
    approve: bool = False  # each proposal waits for a person
    seed: int = 1

    @property
    def timed(self) -> bool:
        """Whether the metric is a time or a speed, by its name and pattern."""
        return timed(self.metric.name, self.pattern)

    def prepare(self, device: str) -> str | None:
        """The command before the first run of a session on `device` ("cpu" or "cuda")."""
        return self.prepares.get(device)

    def run_budget(self, device: str) -> RunBudget:
        """The budget of one run on `device` ("cpu" or "cuda")."""
        budget = self.run_budgets.get(device) or next(iter(self.run_budgets.values()))
        asks_for_data = self.score is not None and self.prepare(device) is not None
        clock = self.clock or ("cpu" if asks_for_data else "wall")
        return replace(budget, clock=clock) if device == "cpu" and budget.seconds is not None else budget


def find_project(start: Path) -> Path:
    """The folder of program.md: `start` or one above it, up to the top of the git repository. Raises ProjectError."""
    folder = start.expanduser().absolute()
    if folder.name == NAME and folder.is_file():
        folder = folder.parent
    if folder.is_file():
        raise ProjectError("this is a file", where=str(start), hint="give the folder of a program.md")
    if not folder.is_dir():
        raise ProjectError("there is no such folder", where=str(start), hint="give the folder of a program.md")
    folder = folder.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / NAME).is_file():
            return candidate
        if (candidate / ".git").exists():
            break
    raise ProjectError(
        "there is no program.md in this folder or above it in this repository",
        where=str(folder),
        hint=f"write one with: {invocation.call('init', project=folder)}; or a complete project with: "
        + invocation.call("init", "DIR", "--template", "nanotrain"),
    )


def load(path: Path, overrides: Sequence[str] = ()) -> Program:
    """Read and check a program.md. `overrides`: the KEY=VALUE of `--set`. Raises ProgramError, UsageError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ProgramError(
            f"cannot be read ({error.strerror})",
            where=str(path),
            hint=f"write one with: {invocation.call('init', project=path.parent)}",
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ProgramError(
            f"byte {raw[error.start]:#04x} is not UTF-8", where=f"{NAME}:{line}", hint="save the file as UTF-8"
        ) from error
    return parse(text, overrides)


def parse(text: str, overrides: Sequence[str] = ()) -> Program:
    """Check the text of a program.md. Raises ProgramError, or UsageError for an invalid override."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    front, prose = toml_reader.split(text)
    reader = Reader(front, KEYS, EXAMPLES)
    for override in overrides:
        reader.override(override)
    reader.check_keys()
    edit, run = _paths(reader, "edit"), reader.required("run")
    if not edit:
        reader.refuse("edit", f"`edit` is {'missing' if reader.get('edit') is None else 'empty'}")
    metric, score, pattern = _metric(reader)
    budget = SessionBudget(
        reader.number("budget.hours"),
        reader.integer("budget.experiments", 1),
        reader.number("budget.usd"),
        reader.number("budget.device_usd_per_hour"),
    )
    given = {
        "startup_seconds": _startup(reader),
        "saving_seconds": _duration(reader, "budget.saving"),
        "limit_seconds": _duration(reader, "budget.limit"),
        "check_seconds": _duration(reader, "budget.check"),
        "baseline_runs": reader.integer("decide.baseline", 1, 100),
        "seed": reader.integer("seed", 0, 2**31 - 1),
    }
    return Program(
        edit=edit, run=run, metric=metric, text=text, prose=prose, score=score, pattern=pattern, budget=budget,
        read=_paths(reader, "read"),
        inputs=_paths(reader, "inputs"),
        prepares=_prepares(reader),
        score_hidden=reader.text("score_hidden"),
        run_budgets=(run_budgets := _run_budgets(reader)),
        clock=_clock(reader, run_budgets),
        scored_at_limit=_scored_at_limit(reader, run_budgets),
        checks={name: reader.required(f"checks.{name}") for name in reader.table("checks")},
        rules=_rules(reader, edit),
        network=reader.flag("sandbox.network"),
        limits_only=reader.flag("sandbox.limits_only"),
        memory_gb=reader.number("sandbox.memory_gb"),
        threads=reader.integer("slots.threads", 1, 1024),
        queue=reader.integer("ahead.queue", 1, 1000),
        minds=reader.integer("ahead.minds", 1, 100),
        gpu_memory=_gpu_memory(reader),
        approve=reader.flag("approve"),
        policy=_policy(reader),
        prune=_pruning(reader),
        **{key: value for key, value in given.items() if value is not None},  # type: ignore[arg-type]
    )  # fmt: skip


def _gpu_memory(reader: Reader) -> int | None:
    """[slots] gpu_memory in bytes: `"10 GB"`, `"512 MB"`. Raises ProgramError."""
    text = reader.text("slots.gpu_memory")
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|MB|GiB|MiB)", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * (2**30 if found[2][0] in "gG" else 2**20)) if found else 0
    if size < 2**20:
        reader.refuse("slots.gpu_memory", f"{text!r} is no amount of memory")
    return size


def _rules(reader: Reader, edit: tuple[str, ...]) -> Rules:
    """[rules]. Raises ProgramError for a rule that cannot be checked."""
    forbid, require = _texts(reader, "rules.forbid"), _texts(reader, "rules.require")
    for pattern in forbid:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            reader.refuse("rules.forbid", f"{pattern!r} is not a regular expression ({error})")
    for entry in require:
        path, colon, name = entry.partition(":")
        if not colon or not all(part.isidentifier() for part in name.split(".")):
            reader.refuse("rules.require", f"{entry!r} is not FILE:NAME")
        if not matches(path, edit):
            reader.refuse("rules.require", f"{path!r} is not among the editable files and cannot change")
    return Rules(reader.integer("rules.max_diff_lines", 1), forbid, require, reader.flag("rules.freeze_dependencies"))


def _texts(reader: Reader, key: str) -> tuple[str, ...]:
    value = reader.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        reader.refuse(key, f"`{key}` is {kind(value)}, not a list of texts")
    return tuple(value)


def check_required(program: Program, read: Callable[[str], str | None]) -> None:
    """Refuse `rules.require` entries that the code does not meet. `read`: text of a file, None when it is missing.

    Raises ProgramError.
    """
    for entry in program.rules.require:
        path, _, name = entry.partition(":")
        text = read(path)
        if text is None or not defines(path, text, name):
            what = "there is no such file" if text is None else f"`{name}` is not defined there"
            front, _ = toml_reader.split(program.text)
            Reader(front, KEYS, EXAMPLES).refuse("rules.require", f"{entry!r}: {what}")


# Settings on which results depend: other values need another session.
FIXED: Mapping[str, str] = {
    "run": "run", "metric": "[metric]", "pattern": "[metric] pattern", "score": "score", "score_hidden": "score_hidden",
    "prepares": "prepare", "inputs": "inputs", "run_budgets": "[budget] run", "scored_at_limit": "[budget] at_limit",
    "clock": "[budget] clock",
    "baseline_runs": "[decide] baseline",
    "network": "[sandbox] network", "limits_only": "[sandbox] limits_only", "memory_gb": "[sandbox] memory_gb",
    "threads": "[slots] threads", "gpu_memory": "[slots] gpu_memory", "seed": "seed",
}  # fmt: skip


def changed_basis(old: Program, new: Program) -> list[str]:
    """The keys of FIXED in which the two differ."""
    return [word for name, word in FIXED.items() if getattr(old, name) != getattr(new, name)]


def check_change(old: Program, new: Program) -> None:
    """Refuse an edited program.md that a running session cannot use. Raises ProgramError."""
    if changed := changed_basis(old, new):
        raise ProgramError(
            f"{', '.join(changed)} cannot change in a running session: results would no longer be comparable",
            where=NAME, hint="start a new session, or restore the old value",
        )  # fmt: skip


def _policy(reader: Reader) -> Policy:
    """[decide]: the parameters of the decision rule."""
    given = {
        "keep": reader.number("decide.keep", zero=True),
        "quarantine": reader.number("decide.quarantine"),
        "repeats": reader.integer("decide.repeats", 0, 100),
        "min_effect": reader.number("decide.min_effect", zero=True),
        "simplicity": reader.number("decide.simplicity", zero=True),
        "alpha": reader.number("decide.alpha"),
        "beta": reader.number("decide.beta"),
        "refresh": reader.integer("decide.refresh", 0, 10_000),
    }
    for key in ("alpha", "beta"):
        value = given[key]
        if value is not None and not 0 < value < 1:
            reader.refuse(f"decide.{key}", f"`decide.{key}` is {value:g}, not a probability between 0 and 1")
    return Policy(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def _pruning(reader: Reader) -> Pruning:
    """[prune]. Raises ProgramError."""
    decay = reader.number("prune.decay", zero=True)
    if decay is not None and decay > 1:
        reader.refuse("prune.decay", f"`prune.decay` is {decay:g}, not a share between 0 and 1")
    given = {"audit": reader.integer("prune.audit", 1, 1000), "decay": decay}
    known = {key: value for key, value in given.items() if value is not None}
    return Pruning(on=reader.get("prune.on") is None or reader.flag("prune.on"), **known)  # type: ignore[arg-type]


def _paths(reader: Reader, key: str) -> tuple[str, ...]:
    value = reader.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        reader.refuse(key, f"`{key}` is {kind(value)}, not a list of paths")
    paths = tuple(dict.fromkeys(_path(reader, key, path) for path in value))
    if key == "edit" and matches(NAME, paths):
        reader.refuse(key, f"`edit` covers {NAME} itself", f"{NAME} is never editable: give the code files")
    return paths


def _path(reader: Reader, key: str, path: str) -> str:
    bare = path.removeprefix("!")
    parts = bare.split("/")
    shown = kind(path).removeprefix("the text ")
    if not bare.strip() or CONTROL.search(path):
        reader.refuse(key, f"{shown} in `{key}` is not a path", "give a file, or a glob such as src/**/*.py")
    if bare.startswith(("/", "~")) or "\\" in path or ".." in parts:
        hint, name = "give a path relative to program.md, without ..", Path(bare).name
        if key == "inputs" and name not in ("", "..", "~") and "\\" not in path:
            place = bare if bare.startswith("~") and not re.search(r"\s", bare) else shlex.quote(bare)
            hint = f'link it into the project: ln -s {place} {shlex.quote(name)}; then write inputs = ["{name}"]'
        reader.refuse(key, f"{shown} in `{key}` is outside the project", hint)
    if key == "inputs" and not bare.strip("./"):
        reader.refuse(key, f"{shown} in `{key}` is the whole project", "name the folders with the data")
    if ".git" in parts or parts[0] == "sessions":
        reader.refuse(key, f"{shown} in `{key}` belongs to git or the harness", "give files of your own code")
    return path.removeprefix("./")


def _metric(reader: Reader) -> tuple[Metric, str | None, str | None]:
    """The metric, and either the score command or the pattern."""
    if reader.get("metric") is None:
        reader.refuse("metric", "[metric] is missing")
    name = reader.required("metric.name")
    if len(name) > 40:
        reader.refuse("metric.name", f"{name[:20]!r}… is too long for a metric's name", "use at most 40 characters")
    direction = reader.text("metric.direction")
    if direction is None and _MORE_IS_BETTER.search(name):
        reader.refuse("metric.direction", f"`metric.direction` is missing: is a higher {name} better, or a lower one?")
    if direction not in (None, "min", "max"):
        reader.refuse("metric.direction", f"{direction!r} is not a direction")
    score, pattern = reader.text("score"), reader.get("metric.pattern")
    if score is not None and pattern is not None:
        reader.refuse("metric.pattern", "`score` and `pattern` are both given", "remove one of them")
    if score is None and pattern is None:
        reader.refuse("metric", "neither `score` nor `metric.pattern` is given: one must give the metric", _PATTERN)
    if pattern is not None:
        _check_pattern(reader, pattern)
    return Metric(name, "max" if direction == "max" else "min", score is None), score, pattern


def _check_pattern(reader: Reader, pattern: object) -> None:
    if not isinstance(pattern, str) or not pattern:
        reader.refuse("metric.pattern", f"`pattern` is {kind(pattern)}, not a regular expression")
    try:
        groups = re.compile(pattern, re.MULTILINE).groups
    except (re.error, OverflowError, RecursionError) as error:
        reader.refuse("metric.pattern", f"the pattern is not a regular expression ({error})")
    if groups != 1:
        reader.refuse("metric.pattern", f"the pattern has {groups} groups and needs exactly one, around the number")


def _duration(reader: Reader, key: str) -> float | None:
    value = reader.get(key)
    return None if value is None else reader.seconds(key, value)


def _per_device(reader: Reader, key: str) -> Mapping[str, object]:
    """A value for all devices, or a table by device. Empty when the key is not there."""
    value = reader.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        return dict.fromkeys(DEVICES, value)
    if not value:
        reader.refuse(key, f"`{key}` is empty")
    for device in value:
        if device not in DEVICES:
            reader.refuse(f"{key}.{device}", f"{kind(device)} is not a device", "write cuda or cpu")
    return value


def _startup(reader: Reader) -> Mapping[str, float] | None:
    given = {d: reader.seconds("budget.startup", v) for d, v in _per_device(reader, "budget.startup").items()}
    return {"cpu": 120.0, "cuda": 300.0, **given} if given else None


def _prepares(reader: Reader) -> Mapping[str, str]:
    """`prepare` by device; a device that a table leaves out has none."""
    if not isinstance(reader.get("prepare"), dict):
        command = reader.text("prepare")
        return dict.fromkeys(DEVICES, command) if command else {}
    return {device: reader.required(f"prepare.{device}") for device in _per_device(reader, "prepare")}


def _run_budgets(reader: Reader) -> Mapping[str, RunBudget]:
    given = _per_device(reader, "budget.run") or dict.fromkeys(DEVICES, DEFAULT_RUN_BUDGET)
    found: dict[str, RunBudget] = {}
    for device, value in given.items():
        if not isinstance(value, str):
            reader.refuse("budget.run", f"`budget.run` is {kind(value)}, not a time or steps in quotes")
        try:
            found[device] = parse_run_budget(value)
        except ValueError as error:
            reader.refuse("budget.run", str(error))
        if (found[device].seconds or 0.0) > 1e8 or (found[device].steps or 0) > 10**12:
            reader.refuse("budget.run", f"{value!r} is longer than three years")
    return found


def _clock(reader: Reader, budgets: Mapping[str, RunBudget]) -> RunClock | None:
    """[budget] clock. Raises ProgramError where no budget on the CPU is a time."""
    given = reader.text("budget.clock")
    if given is None:
        return None
    if given not in ("cpu", "wall"):
        reader.refuse("budget.clock", f"{given!r} is not a clock")
    if all(budget.seconds is None for budget in budgets.values()):
        reader.refuse("budget.clock", "`clock` needs a time budget, and `budget.run` is in steps",
                      'remove clock, or write run = "20s"')  # fmt: skip
    return "cpu" if given == "cpu" else "wall"


def _scored_at_limit(reader: Reader, budgets: Mapping[str, RunBudget]) -> bool:
    """[budget] at_limit. Raises ProgramError where there is no printed number or no time that it could be about."""
    given = reader.text("budget.at_limit")
    if given not in (None, "score", "crash"):
        reader.refuse("budget.at_limit", f"{given!r} is not what happens at the time budget")
    if given == "score" and reader.get("score") is not None:
        what = '`at_limit = "score"` is for runs that print their metric, and `score` is given'
        reader.refuse("budget.at_limit", what, "remove at_limit")
    if given == "score" and any(budget.seconds is None for budget in budgets.values()):
        reader.refuse("budget.at_limit", '`at_limit = "score"` needs a time budget, and `budget.run` is in steps',
                      'remove at_limit, or write run = "5m"')  # fmt: skip
    return given == "score"


def check_files(
    program: Program, project: Path, tracked: Collection[str] | None = None, outside: Collection[str] = ()
) -> None:
    """Refuse `edit` and `read` entries that match no file, files to edit that cannot be, and missing `inputs`. Raises
    ProgramError.

    `tracked`: the files in git, relative to `project`; None: all files of the folder. `outside`: files in git that a
    sparse checkout lacks.
    """
    files = list(project_files(project)) if tracked is None else tracked
    for key, patterns in (("edit", program.edit), ("read", program.read)):
        for pattern in patterns:
            if pattern.startswith("!") or any(matches(path, (pattern,)) for path in files):
                continue
            if lacking := next((path for path in outside if matches(path, (pattern,))), None):
                what = f"in `{key}` is outside your sparse checkout: {lacking} is in git, and no run has it"
                folder, _, name = lacking.rpartition("/")
                hint = f"git sparse-checkout add {shlex.quote(folder or name)}"
            elif (project / pattern).is_file():
                what, hint = "is not in git", f"commit it: git add {pattern} && git commit"
            else:
                what, hint = f"in `{key}` matches no file", "correct the path, or create and commit the file"
            _refuse_file(program, key, pattern, what, hint)
    for path in files:  # of many that a pattern matches, one that cannot be edited keeps nobody from the rest
        if path in program.edit and path.endswith(".py") and not _is_utf8(project / path):
            hint = "convert it, take its coding line out, and commit it: iconv -f LATIN1 -t UTF-8"
            _refuse_file(program, "edit", path, "is not UTF-8 text and cannot be edited", hint)
    for path in program.inputs:
        if not (project / path).exists():
            _refuse_file(program, "inputs", path, "in `inputs` does not exist", "add the data, or correct the path")


def _is_utf8(path: Path) -> bool:
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError:
        return False
    except OSError:
        pass
    return True


def _refuse_file(program: Program, key: str, path: str, what: str, hint: str) -> NoReturn:
    front, _ = toml_reader.split(program.text)
    reader = Reader(front, KEYS, EXAMPLES)
    given = reader.get(key)
    if not isinstance(given, list) or path not in [str(p).removeprefix("./") for p in given]:
        raise ProgramError(f"{path!r} {what}", where=f"--set {key}", hint=hint)
    reader.refuse(key, f"{path!r} {what}", hint)


def project_files(project: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(project):
        folders[:] = [f for f in folders if f not in (".git", "sessions", "__pycache__", ".venv", "node_modules")]
        yield from (os.path.relpath(os.path.join(folder, name), project) for name in names)  # noqa: PTH118
