"""Certificates of a session: their bytes, runs, figures, seal and signature, held against its log"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.evidence.section import Section
from core.evidence.signature import Signers, check_signature
from core.evidence.stored_log import StoredLog
from core.record import events as e
from core.record.events import Event
from core.record.sample import mean
from core.record.state import BASELINE, Run
from core.session.chain import ChainHead
from core.session.log import MISREAD
from core.session.paths import SessionPaths
from core.stats.certify import certificate_test
from core.text import plural

_FIELDS = ("experiment", "commit", "seed", "metric", "budget", "seconds", "steps", "slot")  # of a run
_AGAIN = "certify the experiment again"
_TEST = ("gain", "low", "high", "z", "bound", "p", "pairs", "decision")  # of the test


def check_certificates(paths: SessionPaths, log: StoredLog, signers: Signers) -> Section:
    """Every certificate that the log or the folder has."""
    last = {event.body.experiment: event for event in log.events
            if isinstance(event.body, e.Certified) and event.body.file}  # fmt: skip
    folder = paths.certificate(0).parent
    files = {file.stem: file for file in sorted(folder.glob("*.json"))}
    section, signed = Section("certificates"), 0
    for number, event in last.items():
        file = files.pop(str(number), None)
        if file is None:
            section.misfit(str(paths.certificate(number)), "the certificate is gone", _AGAIN)
            continue
        _check(section, log, event, file)
        signed += check_signature(section, file, signers)
    for file in files.values():
        section.misfit(str(file), "the log knows no such certificate", _AGAIN)
    words = f"; {signed} signed" if signed else ""
    section.summary = f"{plural(len(last), 'certificate')}{words}" if last or files else "none was made"
    return section


def _check(section: Section, log: StoredLog, event: Event, file: Path) -> None:
    assert isinstance(event.body, e.Certified)
    if not file.is_file():
        return section.misfit(str(file), "it is no file", _AGAIN)
    try:
        data = file.read_bytes()
        told = json.loads(data)
        faults = [*_of_file(event.body, data), *_faults(told, log, event)]
    except (OSError, *MISREAD) as error:
        faults = [f"it cannot be read ({error})"]
    for fault in dict.fromkeys(faults):
        section.misfit(str(file), fault)
    if faults:
        section.advise(_AGAIN)


def _of_file(event: e.Certified, data: bytes) -> list[str]:
    if event.sha256 and hashlib.sha256(data).hexdigest() != event.sha256:
        return ["its bytes are not those that the log has the hash of"]
    return []


def _faults(told: Mapping[str, Any], log: StoredLog, event: Event) -> list[str]:
    """What in a certificate is not what the log says. Raises what a certificate of another shape causes."""
    body, state = event.body, log.state
    assert isinstance(body, e.Certified) and state.session is not None
    x = state.experiments[body.experiment]
    plain = {
        "session": state.session.session, "experiment": x.number, "commit": x.commit, "branch": state.session.branch,
        "baseline_commit": state.session.commit, "metric": asdict(state.metric), "outcome": body.outcome,
        "self_reported": state.metric.self_reported,
    }  # fmt: skip
    found = [_differs(name, told.get(name), value) for name, value in plain.items() if told.get(name) != value]
    test = told["test"]
    for name in ("gain", "low", "high", "z", "p"):
        if not _close(test.get(name), getattr(body, name)) and getattr(body, name) is not None:
            found.append(_differs(name, test.get(name), getattr(body, name)))
    begun = next(
        (o for o in reversed(log.events) if o.seq < event.seq and isinstance(o.body, e.CertificationStarted)
         and o.body.experiment == x.number), None,
    )  # fmt: skip
    if begun is None:
        return [*found, "the log has no beginning of this certification"]
    runs = _runs(log, begun.seq, event.seq, x.number)
    found += _of_runs(told["runs"], runs)
    found += _of_test(told, begun, runs, log, x.number)
    found += _of_conditions(told, log, event, {r.run for r in runs})
    head = told.get("log")
    if head and (why := log.misfit_of(ChainHead.parse(f"{head['events']}:{head['head']}"))):
        found.append(f"the head of the log that it names: {why}")
    return found


def _runs(log: StoredLog, first: int, last: int, number: int) -> list[Run]:
    """The runs of a certification that gave a result, between its first and its last event."""
    within = {o.body.run for o in log.events if first < o.seq < last and isinstance(o.body, e.RunStarted)
              and o.body.kind == "certify"}  # fmt: skip
    both = [*log.state.experiments[BASELINE].runs, *log.state.experiments[number].runs]
    return sorted((r for r in both if r.run in within and r.metric is not None), key=lambda r: r.run)


def _of_runs(told: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> list[str]:
    by_number = {r.run: r for r in runs}
    found = [f"run {row['run']}: the log has no such run of this test" for row in told if row["run"] not in by_number]
    found += [f"run {n}: it is left out" for n in by_number.keys() - {row["run"] for row in told}]
    for row in told:
        if (run := by_number.get(row["run"])) is not None:
            for name in _FIELDS:
                if not _close(row.get(name), getattr(run, name)):
                    found.append(f"run {run.run}: {_differs(name, row.get(name), getattr(run, name))}")
    return found


def _of_test(told: Mapping[str, Any], begun: Event, runs: Sequence[Run], log: StoredLog, number: int) -> list[str]:
    """The figures, computed again from the runs in the log."""
    start, test, metric = begun.body, told["test"], log.state.metric
    assert isinstance(start, e.CertificationStarted)
    arms = [[r.metric for r in runs if r.experiment == n and r.metric is not None] for n in (BASELINE, number)]
    if not all(arms):
        return ["the log has no runs of both arms"]
    found = [_differs("planned", told["planned"], start.planned)] if told["planned"] != start.planned else []
    if start.expected is None or start.sigma is None or told["versions"].get("autoresearch-tui") != _version(log):
        gain = metric.gain(mean(arms[0]), mean(arms[1]))
        return found + ([] if _close(test["gain"], gain) else [_differs("gain", test["gain"], gain)])
    for name, value in (("sigma", start.sigma), ("expected", start.expected)):
        if not _close(told[name], value):
            found.append(_differs(name, told[name], value))
    again = asdict(certificate_test(metric, arms[0], arms[1], start.planned, expected=start.expected,
                                    sigma=start.sigma, df=start.df))  # fmt: skip
    again["decision"] = "refuted" if again["decision"] == "continue" else again["decision"]
    stated = {**test, "decision": told["outcome"]}
    return found + [
        _differs(name, stated.get(name), again[name], "its runs give")
        for name in _TEST
        if not _close(stated.get(name), again[name])
    ]


def _version(log: StoredLog) -> str:
    """Of the program: figures of another version may follow another rule."""
    return next((o.body.versions.get("autoresearch-tui", "") for o in reversed(log.events)
                 if isinstance(o.body, e.EngineStarted)), "")  # fmt: skip


def _of_conditions(told: Mapping[str, Any], log: StoredLog, event: Event, runs: set[int]) -> list[str]:
    """Seal, device and versions of the program, the scorer and the libraries under which the runs were made."""
    before = [o.body for o in log.events if o.seq < event.seq]
    found = []
    seal = next((b.seal for b in reversed(before) if isinstance(b, e.Preparing) and b.seal), "")
    if seal and told["sealed_sha256"] != seal:
        found.append("the hash of what is sealed is not that of the log")
    engine = next((b for b in reversed(before) if isinstance(b, e.EngineStarted)), None)
    if engine is not None and not engine.device.endswith(str(told["hardware"])):
        found.append(_differs("hardware", told["hardware"], engine.device))
    versions: dict[str, str] = dict(engine.versions) if engine is not None else {}
    for body in before:
        if isinstance(body, e.RunFinished) and body.run in runs:
            versions |= {str(k): str(v) for k, v in dict(body.device.get("versions") or {}).items()}
    for name, value in versions.items():
        if told["versions"].get(name) != value:
            found.append(_differs(f"version of {name}", told["versions"].get(name), value))
    return found


def _differs(name: str, told: object, known: object, by: str = "the log says") -> str:
    return f"{name.replace('_', ' ')} is {told}, {by} {known}"


def _close(one: object, other: object) -> bool:
    """Equal; numbers to rounding, and a certificate has null for a number that is not finite."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(other, float) and not math.isfinite(other):
        return one is None
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
    return one == other
