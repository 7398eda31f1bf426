"""Hands `python -P -m core.engine serve …` to the server of warm_engine.py, which forks an engine from itself

Python imports this module at its start where PYTHONPATH names this folder. The process stays until the engine has
ended, and ends with its exit code; the engine ends with it.
"""

import os
import sys

_SERVER = os.environ.get("TESTS_WARM_ENGINE")  # address of its socket


def _hand_over(address: str) -> int:
    """Pass on the arguments, the environment and all open files. Returns the engine's exit code."""
    import socket

    with os.scandir("/proc/self/fd") as entries:
        streams = [int(entry.name) for entry in entries]
    streams = [number for number in streams if _is_open(number)]  # without the one that listed them
    variables = [f"{name}={value}" for name, value in os.environ.items()]
    parts = (",".join(map(str, streams)), "\0".join(sys.orig_argv[5:]), "\0".join(variables))
    request = "\0\0".join(parts).encode(errors="surrogateescape")
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(address)
        socket.send_fds(link, [len(request).to_bytes(4, "big")], streams)
        link.sendall(request)
        for stream in streams:  # their other ends see the end of the engine, not of this process
            os.close(stream)
        return int.from_bytes(link.recv(1) or b"\xff", "big")


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# A fork finds the libraries that the server finds: one with libraries of its own starts by itself.
_OWN_LIBRARIES = "LD_LIBRARY_PATH" in os.environ

if _SERVER and not _OWN_LIBRARIES and sys.orig_argv[1:5] == ["-P", "-m", "core.engine", "serve"]:
    os._exit(_hand_over(_SERVER))
