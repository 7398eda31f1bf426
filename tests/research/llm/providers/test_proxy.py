"""The proxies of the environment: which address is asked through which, and what is said when that fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.record.errors import ResearcherMisconfigured
from core.research import registry
from core.research.llm.providers import proxy
from core.research.llm.providers.anthropic import ClaudeResearcher
from core.research.llm.providers.client import ModelResearcher
from core.research.llm.providers.openai import OpenAIResearcher
from core.research.llm.retry import Backoff
from tests.research.local_server import Handler, LocalServer
from tests.research.openai_server import Server
from tests.research.support import ANSWER, Heard, ready, variables

LOCAL = "http://127.0.0.1:8123/v1"
DEAD = "http://127.0.0.1:9"
NAMES = [form for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for form in (name, name.upper())]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    with variables(*NAMES, "OPENAI_BASE_URL", "OPENAI_API_KEY", XDG_CONFIG_HOME=str(tmp_path), ANTHROPIC_API_KEY="k"):
        yield


@pytest.mark.parametrize(
    ("listed", "address", "direct"),
    [
        ("127.0.0.1", LOCAL, True), ("localhost, 127.0.0.1", LOCAL, True), ("localhost 127.0.0.1", LOCAL, True),
        ("127.0.0.0/8", LOCAL, True), ("10.0.0.0/8", LOCAL, False), ("127.0.0.1:8123", LOCAL, True),
        ("127.0.0.1:11434", LOCAL, False), ("http://127.0.0.1", LOCAL, True), ("127.*", LOCAL, True),
        ("*", LOCAL, True), ("LOCALHOST", "http://localhost/v1", True),
        ("", LOCAL, False), (",", LOCAL, False), ("localhost", LOCAL, False),
        ("[::1]", "http://[::1]:8123/v1", True), ("::1", "http://[::1]:8123/v1", True),
        ("[::1]:8123", "http://[::1]:8123/v1", True), ("[::1]:1", "http://[::1]:8123/v1", False),
        ("fe80::/10", "http://[fe80::5]/v1", True), ("::1", LOCAL, False),
        (".lab.org", "https://gpu.lab.org/v1", True), (".lab.org", "https://lab.org/v1", True),
        ("*.lab.org", "https://gpu.lab.org/v1", True), ("lab.org", "https://gpu.lab.org/v1", True),
        ("lab.org", "https://notlab.org/v1", False), ("gpu.lab.org:443", "https://gpu.lab.org/v1", True),
        ("gpu", "http://gpu:8000/v1", True), ("300.1.1.1/99", LOCAL, False), ("]", LOCAL, False),
    ],
)  # fmt: skip
def test_exempt_hosts_are_asked_directly(listed: str, address: str, direct: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        with variables(ALL_PROXY=DEAD, **{name: listed}):
            assert (proxy.find(address) is None) is direct


def test_the_variable_that_counts() -> None:
    with variables(http_proxy="box:3128", HTTP_PROXY="other:1", ALL_PROXY="socks5://s:1", https_proxy=""):
        http, https = proxy.find(LOCAL), proxy.find("https://api.openai.com")
    assert http and (http.variable, http.url) == ("http_proxy", "http://box:3128")
    assert https and (https.variable, https.url) == ("ALL_PROXY", "socks5://s:1")
    with variables(HTTPS_PROXY="https://box:3128", no_proxy="localhost"):
        assert proxy.find(LOCAL) is None
        other = proxy.find("https://api.openai.com")
    assert other and other.url == "https://box:3128" and other.direct == "export no_proxy=localhost,api.openai.com"


async def test_an_exempt_server_is_asked_whatever_the_proxy() -> None:
    for url in ("socks5://127.0.0.1:9", "127.0.0.1:9", "nonsense://x", "http://["):
        with Server([ANSWER]) as server, variables(ALL_PROXY=url, NO_PROXY="127.0.0.1", OPENAI_BASE_URL=server.url):
            researcher = OpenAIResearcher()
            assert (await researcher.propose(ready("openai").brief(1), Heard())).edits
            await researcher.close()


async def test_a_proxy_of_another_scheme_is_not_made() -> None:
    with Server([ANSWER]) as server, variables(HTTPS_PROXY="nonsense://x", OPENAI_BASE_URL=server.url):
        researcher = OpenAIResearcher()
        assert (await researcher.propose(ready("openai").brief(1), Heard())).edits
        await researcher.close()


@pytest.mark.parametrize("make", [OpenAIResearcher, ClaudeResearcher])
@pytest.mark.parametrize(("url", "words"), [("socks5://127.0.0.1:9", "socksio"), ("nonsense://u:secret@h", "nonsense")])
def test_a_proxy_that_cannot_be_used_is_named(
    url: str, words: str, make: type[ModelResearcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    base = {"OPENAI_BASE_URL": LOCAL, "ANTHROPIC_BASE_URL": LOCAL}
    with variables(ALL_PROXY=url, **base), pytest.raises(ResearcherMisconfigured) as caught:
        make().connect()
    error = caught.value
    with variables(ALL_PROXY=url, **base), pytest.raises(ResearcherMisconfigured, match="ALL_PROXY"):
        registry.create(make.name)  # before there is a session
    assert error.where == "ALL_PROXY" and words in error.what and "secret" not in str(error)
    assert error.hint.endswith(", or export NO_PROXY=127.0.0.1")
    assert ("pip install" in error.hint) is (words == "socksio")


class _Squid(Handler):
    """A proxy that reaches nothing."""

    def do_POST(self) -> None:
        self.send(503, "text/html", b"<html><head><title>Squid</title></head></html>")


async def test_a_proxy_that_does_not_answer_or_refuses_is_named() -> None:
    with LocalServer(_Squid) as squid, variables(OPENAI_BASE_URL="http://model.lab.org/v1"):
        for url, words in ((DEAD, "cannot be reached through"), (squid.url, "Squid.*asked through")):
            heard = Heard()
            with variables(http_proxy=url):
                researcher = OpenAIResearcher("m", backoff=Backoff(base=0.001, cap=0.001))
                heard.wait = _stop  # type: ignore[method-assign]
                with pytest.raises(InterruptedError, match=words) as caught:
                    await researcher.propose(ready("openai").brief(1), heard)
                await researcher.close()
            assert "the proxy in http_proxy (to ask it directly: export NO_PROXY=model.lab.org)" in str(caught.value)


async def _stop(reason: str, seconds: float, attempt: int) -> None:
    raise InterruptedError(reason)


def test_a_missing_file_of_certificates_is_said() -> None:
    with variables(SSL_CERT_FILE="/none.pem", OPENAI_BASE_URL=LOCAL), pytest.raises(ResearcherMisconfigured) as caught:
        OpenAIResearcher().connect()
    assert "SSL_CERT_FILE" in caught.value.hint
