"""Prior of sigma from earlier sessions of the project (docs/decisions.md)."""

from __future__ import annotations

from dataclasses import asdict, replace

from core.program.program import Program, parse
from core.record import events as e
from core.record.errors import AutoresearchError
from core.record.state import State
from core.session.choice import read_head
from core.session.lock import engine_alive
from core.session.options import EngineOptions, load_options, overrides_of
from core.session.paths import SessionPaths, list_sessions
from core.stats.noise import Noise

MAX_SESSIONS = 20  # that are searched


def with_prior(
    started: e.SessionStarted, paths: SessionPaths, program: Program, slots: tuple[str, ...], device: str
) -> e.SessionStarted:
    """`started` with the sigma of the project's newest ended session that measured the same: metric, run command and
    budget, and device. Sessions whose log cannot be read are skipped.
    """
    for other in list_sessions(paths.project)[:MAX_SESSIONS]:
        if other.name == paths.name or engine_alive(other):
            continue
        state = read_head(other)
        if state is None or state.noise is None or not _same(state, started, slots, device):
            continue
        if not _same_command(other, state, program):
            continue
        prior = Noise(**asdict(state.noise)).as_prior()
        if prior is None:
            return started  # its runs agreed to the last digit, which says nothing about new code
        return replace(started, prior_sigma=prior.sigma, prior_df=prior.df, prior_from=other.name)
    return started


def _same_command(other: SessionPaths, state: State, program: Program) -> bool:
    """Whether the other session's numbers came from the same command, read or scored in the same way."""
    try:
        before = parse(state.program, overrides_of(load_options(other) or EngineOptions()))
    except AutoresearchError:
        return False
    return all(getattr(before, name) == getattr(program, name) for name in ("run", "pattern", "score"))


def _same(state: State, started: e.SessionStarted, slots: tuple[str, ...], device: str) -> bool:
    session, engine = state.session, state.engine
    if session is None or engine is None or state.state not in ("finished", "stopped"):
        return False
    measured = ("metric", "direction", "self_reported", "run_budget", "edit", "timed", "threads")
    return (
        all(getattr(session, name) == getattr(started, name) for name in measured)
        and engine.device.partition(": ")[2] == device
        and bool(engine.slots)
        and engine.slots[0][:3] == slots[0][:3]
    )
