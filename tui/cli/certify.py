"""The commands `certify` and `reproduce`: they wait for the result"""

from __future__ import annotations

from argparse import Namespace

from core.record import commands
from core.record import events as e
from core.record.errors import CommandRefused, EngineError
from core.session.lock import engine_alive
from core.session.options import EngineOptions
from core.session.paths import SessionPaths
from core.stats.eligible import certifiable, reproducible
from core.views import sentence
from tui.cli.command import EXPERIMENT, JSON, PROJECT, SESSION, argument, command, experiment_number
from tui.cli.output import Output
from tui.cli.session_names import session_of

Outcome = e.Certified | e.Reproduced


@command(
    "certify", SESSION, JSON,
    argument("experiment", metavar="EXPERIMENT", type=experiment_number, nargs="?", help="default: the best"), PROJECT,
    help="Test an experiment (default: the best) against the baseline on fresh seeds, the two run side by side, until\n"
    "a one-sided sequential test has decided. Writes a certificate to sessions/NAME/certificates/.\n"
    "Exit 0: the gain is certified; 1: it is not. Works on a running session too.",
    examples=("certify", "certify 12"),
)  # fmt: skip
def certify(arguments: Namespace, out: Output) -> int:
    number = arguments.experiment
    only_task = "certify" if number is None else f"certify:{number}"
    outcome = _carry_out(session_of(arguments), commands.Certify(number), only_task, out, arguments.json)
    return 0 if isinstance(outcome, e.Certified) and outcome.outcome == "certified" else 1


@command(
    "reproduce", SESSION, JSON, EXPERIMENT, PROJECT,
    help="Run an experiment again from its commit, with its recorded seed and budget, and report whether the result\n"
    "is within the noise (exit 0) or not (1).",
    examples=("reproduce 12",),
)  # fmt: skip
def reproduce(arguments: Namespace, out: Output) -> int:
    number = arguments.experiment
    outcome = _carry_out(session_of(arguments), commands.Reproduce(number), f"reproduce:{number}", out, arguments.json)
    return 0 if isinstance(outcome, e.Reproduced) and outcome.within_noise else 1


def _carry_out(
    paths: SessionPaths, command: commands.Certify | commands.Reproduce, only_task: str, out: Output, as_json: bool
) -> Outcome:
    """Raises CommandRefused when the engine refuses, EngineError when it ends without a result."""
    from core.client import follow, read_state, request, start_engine
    from core.record import wire

    state = read_state(paths)
    if engine_alive(paths):
        reply = request(paths, command)
        if not reply.accepted:
            raise CommandRefused(reply.message)
        out.say(reply.message)
    else:
        # Refuse before an engine is started.
        if isinstance(command, commands.Certify):
            certifiable(state, command.experiment)
        else:
            reproducible(state, command.experiment)
        start_engine(paths, EngineOptions(only_task=only_task))
    kind = e.Certified if isinstance(command, commands.Certify) else e.Reproduced
    for event in follow(paths, state.seq):
        words = None if as_json else sentence(event, state.metric)
        if words and isinstance(event.body, (e.CertificationStarted, e.RunFinished, e.Certified, e.Reproduced)):
            out.line(words)
        # Without a number any experiment matches: the best may have changed since the request.
        if isinstance(event.body, kind) and command.experiment in (None, event.body.experiment):
            if as_json:
                out.json(wire.event_to_plain(event))
            return event.body
    raise EngineError(f"the engine ended without a result: {read_state(paths).reason}", where=str(paths.engine_log))
