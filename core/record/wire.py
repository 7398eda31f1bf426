"""Events, commands and messages as JSON, for disk and socket alike.

A value is written with its class's snake-case name under "type" and its fields beside it; the names that differ from
those in the code are in two tables below. Decoding an unknown type raises ValueError.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from core.ordered import Ordered
from core.record import commands, events
from core.record.events import Event
from core.record.pulse import Pulse
from core.record.state import Experiment

PROTOCOL = 2
# Names on disk and socket that differ from those in the code: of types, and of a type's fields.
_TYPE_NAMES: Mapping[type, str] = {events.RepairAsked: "mend_asked"}
_FIELD_NAMES: Mapping[type, Mapping[str, str]] = {
    events.Judged: {
        "best_claim": "leader", "best_claim_runs": "leader_runs", "best_claim_results": "leader_results",
    },
    Experiment: {"repairs": "mends"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of a client. `since`: number of the last event that it has."""

    protocol: int
    since: int
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    protocol: int
    session: str
    pid: int
    seq: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    seq: int


@dataclass(frozen=True, slots=True)
class Resync:
    """The client was too slow for its queue: it reads the log from event `since` on."""

    since: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The engine ends, for `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    id: int
    command: commands.Command


@dataclass(frozen=True, slots=True)
class Response:
    id: int
    reply: commands.Reply


Message = Hello | Welcome | CaughtUp | Resync | Goodbye | Request | Response | Event | Pulse


@cache
def type_name(cls: type) -> str:
    """Name of a type on disk and socket: `RunStarted` is `run_started`."""
    return _TYPE_NAMES.get(cls) or re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@cache
def _names(cls: type) -> tuple[tuple[str, str], ...]:
    """Per field of `cls`: its name in the code, and on disk and socket."""
    renamed = _FIELD_NAMES.get(cls, {})
    return tuple((f.name, renamed.get(f.name, f.name)) for f in fields(cls))


_BODIES: dict[str, type] = {type_name(c): c for c in typing.get_args(events.Body)}
_COMMANDS: dict[str, type] = {type_name(c): c for c in typing.get_args(commands.Command)}
_MESSAGES: dict[str, type] = {type_name(c): c for c in typing.get_args(Message) if c is not Event}
_TAGGED: frozenset[type] = frozenset([*_BODIES.values(), *_COMMANDS.values(), *_MESSAGES.values()])
_PLAIN: frozenset[type] = frozenset([str, int, float, bool, type(None)])
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as `json` takes them. A member of a union carries its type."""
    cls = type(value)
    if cls in _PLAIN:  # most values: an engine writes its State with every event
        return value
    if is_dataclass(cls):
        plain = {written: to_plain(getattr(value, name)) for name, written in _names(cls)}
        return {"type": type_name(cls), **plain} if cls in _TAGGED else plain
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, frozenset):
        return sorted(to_plain(v) for v in value)
    return value


Converter = Callable[[Any], Any]


@cache
def _shape(cls: type) -> tuple[tuple[str, str, Converter | None, bool], ...]:
    """Per field of `cls`: its two names, how its value is built (None: as it is), and whether it may be missing."""
    hints = typing.get_type_hints(cls)
    optional = {f.name for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING}
    return tuple((name, written, _converter(hints[name]), name in optional) for name, written in _names(cls))


def from_plain(cls: type, plain: Mapping[str, Any]) -> Any:
    """Build `cls` from plain JSON. Unknown fields (of a newer writer) are ignored; a missing one raises ValueError."""
    values: dict[str, Any] = {}
    for name, written, convert, optional in _shape(cls):
        if written in plain:
            value = plain[written]
            values[name] = value if convert is None or value is None else convert(value)
        elif not optional:
            raise ValueError(f"{type_name(cls)} without its field {written!r}")
    return cls(**values)


def _converter(hint: Any) -> Converter | None:
    """How a JSON value becomes one of type `hint`; None: as it is. Made once a field: a session has thousands."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        inner = _converter(args[0])
        return tuple if inner is None else lambda value: tuple(inner(v) for v in value)
    if origin is frozenset:
        return frozenset
    if origin is Ordered:
        of_record = _converter(args[0])
        return lambda value: Ordered({int(k): v if of_record is None else of_record(v) for k, v in value.items()})
    if origin is dict:
        key, of_value = args[0], _converter(args[1])
        return lambda value: {key(k): v if of_value is None else of_value(v) for k, v in value.items()}
    if origin in (typing.Union, types.UnionType):
        members = [m for m in args if m is not type(None)]
        classes = {type_name(m): m for m in members if isinstance(m, type) and is_dataclass(m)}
        if len(members) == 1:
            return _converter(members[0])
        return (lambda value: decode_tagged(value, classes)) if classes else None
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda value: from_plain(hint, value)
    return None


def decode_tagged(plain: Mapping[str, Any], known: Mapping[str, type]) -> Any:
    """Build the class named by `plain["type"]`. Raises ValueError when it is not among `known`."""
    name = plain.get("type")
    cls = known.get(str(name))
    if cls is None:
        raise ValueError(f"unknown type {name!r}")
    return from_plain(cls, plain)


def event_to_plain(event: Event) -> dict[str, Any]:
    return {"seq": event.seq, "time": event.time, **to_plain(event.body)}


def event_from_plain(plain: Mapping[str, Any]) -> Event:
    """Raises ValueError for an unknown event."""
    return Event(int(plain["seq"]), float(plain["time"]), decode_tagged(plain, _BODIES))


def dumps(value: Any) -> str:
    """One line of JSON. Non-finite floats become null, so that every reader can parse the line."""
    try:
        line = _ENCODER.encode(value)
        line.encode()
    except ValueError:  # a non-finite float, or a lone surrogate, which readers refuse
        line = _ENCODER.encode(_finite(value))
    return line


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def encode_event(event: Event) -> str:
    return dumps(event_to_plain(event))


def decode_event(line: str) -> Event:
    return event_from_plain(json.loads(line))


def encode_message(message: Message) -> bytes:
    """One message as one line, for the socket."""
    plain = {"type": "event", "event": event_to_plain(message)} if isinstance(message, Event) else to_plain(message)
    return dumps(plain).encode() + b"\n"


def decode_message(line: bytes) -> Message:
    """Raises ValueError for a line that is no message of this protocol."""
    plain = json.loads(line)
    if not isinstance(plain, dict):
        raise ValueError("a message is a JSON object")
    if plain.get("type") == "event":
        return event_from_plain(plain["event"])
    message: Message = decode_tagged(plain, _MESSAGES)
    return message
