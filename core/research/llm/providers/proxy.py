"""The proxy that this shell's environment names for an address, and the hosts that are exempt from it.

Lower-case variables precede upper-case ones, and that of the address's scheme precedes ALL_PROXY, as for curl.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import ipaddress
import os
import urllib.parse
from dataclasses import dataclass

from core import invocation
from core.record.errors import ResearcherMisconfigured

_KINDS = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, the variable that names it, and what to type so that the address is asked directly."""

    variable: str
    url: str
    direct: str

    def __str__(self) -> str:
        return f" through the proxy in {self.variable} (to ask it directly: {self.direct})"


def usable(address: str) -> Proxy | None:
    """As `find`. Raises ResearcherMisconfigured for a proxy of an unknown kind, or of SOCKS without its package."""
    through = find(address)
    kind = through.url.partition("://")[0].lower() if through else ""
    if through and kind not in _KINDS:
        hint = f"give it an address that begins with http:// or socks5://, or {through.direct}"
        raise ResearcherMisconfigured(f"there is no proxy of the kind {kind}://", where=through.variable, hint=hint)
    if through and kind.startswith("socks") and importlib.util.find_spec("socksio") is None:
        hint = f"install it with: {invocation.install('socksio')}, or {through.direct}"
        what = "a SOCKS proxy needs the package socksio, which is not installed"
        raise ResearcherMisconfigured(what, where=through.variable, hint=hint)
    return through


def find(address: str) -> Proxy | None:
    """The proxy for an address; None when it is asked directly."""
    parts = urllib.parse.urlsplit(address)
    host = parts.hostname or ""
    exempting = _first("no_proxy")
    listed = os.environ.get(exempting, "").replace(",", " ").split()
    if any(_covers(entry.lower(), host, parts.port or _PORTS.get(parts.scheme)) for entry in listed):
        return None
    for kind in (parts.scheme, "all"):
        variable = _first(f"{kind}_proxy")
        if value := os.environ.get(variable, "").strip():
            direct = f"export {exempting}={','.join([*listed, host])}"
            return Proxy(variable, value if "://" in value else f"http://{value}", direct)
    return None


def _first(name: str) -> str:
    """The variable that counts: the one in lower case where it is set."""
    return name if name in os.environ else name.upper()


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY is the host, a domain above it, a network or a pattern; with a port, only that."""
    entry = entry.partition("://")[2] or entry
    name, colon, rest = entry.rpartition(":")
    if colon and rest.isdecimal() and (":" not in name or name.endswith("]")):
        if int(rest) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix(".")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.replace("]", ""), strict=False)
    except ValueError:
        bare = entry.removeprefix("*.")
        return bool(bare) and (host == bare or host.endswith(f".{bare}") or fnmatch.fnmatchcase(host, bare))
