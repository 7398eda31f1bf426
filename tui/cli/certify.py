"""The commands `certify` and `reproduce`, which wait for the result, and `sign`"""

from __future__ import annotations

import sys
from argparse import Namespace

from core import invocation
from core.record import commands
from core.record import events as e
from core.record.errors import CommandRefused, EngineError, SessionError
from core.session.disk import read_json
from core.session.lock import engine_alive
from core.session.options import EngineOptions
from core.session.paths import SessionPaths, signature_of
from core.stats.eligible import certifiable, reproducible
from core.views import sentence
from tui.cli.command import EXPERIMENT, JSON, PROJECT, SESSION, argument, command, experiment_number, flag
from tui.cli.output import Output
from tui.cli.session_names import session_of

Outcome = e.Certified | e.Reproduced
BEST = argument("experiment", metavar="EXPERIMENT", type=experiment_number, nargs="?", help="default: the best")
KEY = argument(
    "--key", metavar="FILE",
    help="an SSH key; the public half is enough where the agent holds the other\n"
    "(default: the one git signs with by gpg.format ssh, else the first of ~/.ssh)",
)  # fmt: skip


@command(
    "certify", SESSION, JSON, BEST, flag("--sign", help="sign the certificate with your SSH key, as `sign` does"), KEY,
    PROJECT,
    help="Test an experiment (default: the best) against the baseline on fresh seeds, the two run side by side, until\n"
    "a one-sided sequential test has decided. Writes a certificate to sessions/NAME/certificates/.\n"
    "Exit 0: the gain is certified; 1: it is not. Works on a running session too.",
    examples=("certify", "certify 12", "certify 12 --sign"),
)  # fmt: skip
def certify(arguments: Namespace, out: Output) -> int:
    from core.evidence.signature import default_key

    number, paths = arguments.experiment, session_of(arguments)
    key = arguments.key or (default_key(paths.project) if arguments.sign else "")  # before hours of runs
    only_task = "certify" if number is None else f"certify:{number}"
    outcome = _carry_out(paths, commands.Certify(number), only_task, out, arguments.json)
    if isinstance(outcome, e.Certified) and outcome.file:
        _tell_head(paths, outcome.experiment, out)
        if key:
            _sign(paths, outcome.experiment, key, out)
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


@command(
    "sign", SESSION, BEST, KEY, PROJECT,
    help="Sign the certificate of an experiment with your own SSH key (ssh-keygen -Y sign -n autoresearch-tui). The\n"
    "signature is written beside it, as N.json.sig; `verify` checks it, and so does ssh-keygen. In a terminal you may\n"
    "be asked for the key's passphrase; elsewhere the agent signs, or a key without a passphrase.",
    examples=("sign", "sign 12 --key ~/.ssh/id_ed25519"),
)  # fmt: skip
def sign(arguments: Namespace, out: Output) -> int:
    from core.client import read_state
    from core.evidence.signature import default_key

    paths = session_of(arguments)
    number = read_state(paths).best if arguments.experiment is None else arguments.experiment
    if not paths.certificate(number).is_file():
        line = invocation.call("certify", str(number), "--session", paths.name, "--sign", project=paths.project)
        raise SessionError(f"experiment {number} has no certificate", where=paths.name, hint=f"make one: {line}")
    _sign(paths, number, arguments.key or default_key(paths.project), out)
    return 0


def _sign(paths: SessionPaths, number: int, key: str, out: Output) -> None:
    from core.evidence import signature

    certificate = paths.certificate(number)
    who = signature.sign(certificate, key, terminal=sys.stdin.isatty() and sys.stderr.isatty())
    out.say(f"signed by {who}: {signature_of(certificate)}")


def _tell_head(paths: SessionPaths, number: int, out: Output) -> None:
    """The head of the log that a certificate names, by which others can check the log later."""
    named = read_json(paths.certificate(number)).get("log")
    if isinstance(named, dict):
        line = invocation.call("verify", paths.name, project=paths.project)
        out.say(f"it names the log's head {named.get('events')}:{named.get('head')}; check all of it with: {line}")


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
