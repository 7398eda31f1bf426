"""An attack on the sandbox: a program that a run executes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.record.events import Ended

PRELUDE = """
import array, ctypes, errno, json, os, resource, signal, socket, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
base = os.environ["RED_BASE"]
abstract = "\\0" + os.environ["RED_NAME"]
def call(*args):
    got = libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got
def attempt(what, do):
    try:
        got = do()
    except (OSError, EOFError, ImportError, KeyError, ValueError, IndexError, AttributeError) as error:
        print("refused:", what, error, flush=True)
    else:
        print("STOLEN:", what, repr(got)[:80], flush=True)
def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)
"""


@dataclass(frozen=True, slots=True)
class Escape:
    """A program, how its run has to end, and what must be in its reason; `limits` go to the job.

    `world` names what must be as it was afterwards: see `Host` in test_sandbox_escapes.py. `beside`: the program of a
    run that trains at the same time; `card`: both have what CUDA needs to start; `clock`: once the run has
    printed "up", another run's clock has the processor ("taken"), or another's model is scored, for some seconds.
    `turn`: it starts up beside another run, and its turn comes some seconds after it has printed "up".
    `slow`: left to `make redteam`.
    """

    name: str
    does: str
    program: str
    ended: tuple[Ended, ...] = ("done",)
    because: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Any], str] | None = None
    beside: str = ""
    card: bool = False
    clock: Literal["", "taken", "taken for long", "scored"] = ""
    turn: bool = False
    slow: bool = False
