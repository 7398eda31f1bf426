"""Profiles of coding agents: command line, keys, login files and limits; built in, or from commands.toml."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.record.errors import ResearcherMisconfigured
from core.research import user_config
from core.text import one_line

NETWORK_VARIABLES = (
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """Command line of a coding agent. In `argv`, `{prompt}` and `{prompt_file}` stand for the prompt and a file of it,
    `{files}` (a word of its own) for the editable files, `{model}` for the model. Without either of the first two the
    prompt goes to standard input. `model`: words added to argv when a model is named. `home`: files of the user's home
    folder to copy. `silence`, `limit`: seconds without output, and in all, after which it is ended.
    """

    name: str
    argv: tuple[str, ...]
    model: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    home: tuple[str, ...] = ()
    silence: float = 600.0
    limit: float = 3600.0

    @property
    def on_stdin(self) -> bool:
        return not any("{prompt}" in word or "{prompt_file}" in word for word in self.argv)


# Options of each: ask for no permission, because the sandbox confines it.
KNOWN: tuple[Profile, ...] = (
    Profile(
        "claude",
        ("claude", "-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"),
        model=("--model", "{model}"),
        keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN"),
        # IS_SANDBOX: without it the agent refuses to skip permissions as root.
        env={"IS_SANDBOX": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        home=(".claude/.credentials.json",),
    ),
    Profile(
        "codex",
        ("codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-"),
        model=("-m", "{model}"),
        keys=("OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL"),
        home=(".codex/auth.json", ".codex/config.toml"),
    ),
    Profile(
        "gemini",
        ("gemini", "--yolo", "--skip-trust", "--output-format", "stream-json"),
        model=("--model", "{model}"),
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_GEMINI_BASE_URL"),
        home=(".gemini/oauth_creds.json", ".gemini/google_accounts.json", ".gemini/settings.json"),
    ),
    Profile(
        "aider",
        ("aider", "--yes-always", "--no-auto-commits", "--no-dirty-commits", "--no-gitignore", "--no-pretty",
         "--no-fancy-input", "--no-check-update", "--no-show-release-notes", "--analytics-disable",
         "--no-show-model-warnings", "--chat-history-file", "/dev/null", "--input-history-file", "/dev/null",
         "--message-file", "{prompt_file}", "{files}"),
        model=("--model", "{model}"),
        keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENAI_API_BASE", "GEMINI_API_KEY", "DEEPSEEK_API_KEY",
              "OPENROUTER_API_KEY", "OLLAMA_API_BASE"),
        home=(".aider.conf.yml",),
    ),
    Profile(
        "opencode",
        ("opencode", "run", "--format", "json", "--auto"),
        model=("--model", "{model}"),
        keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY"),
        env={"OPENCODE_DISABLE_AUTOUPDATE": "1"},
        home=(".local/share/opencode/auth.json", ".config/opencode/opencode.json"),
    ),
)  # fmt: skip


def installed(path: str | None = None) -> list[str]:
    """The known coding agents whose program is installed."""
    return [profile.name for profile in KNOWN if shutil.which(profile.argv[0], path=path)]


def find(wanted: str) -> tuple[Profile, str]:
    """The profile and the model of `wanted`: `claude`, `claude:opus`, or a command line; of the first known agent that
    is installed when it is empty. Raises ResearcherMisconfigured when it is neither, or when commands.toml is invalid.
    """
    wanted = wanted.strip() or next(iter(installed()), "")
    path = user_config.path_of("commands.toml")
    own = [_read(name, entry, path) for name, entry in user_config.load(path).items()]
    profiles = {profile.name: profile for profile in (*KNOWN, *own)}
    name, _, model = wanted.partition(":")
    if name in profiles:
        profile = profiles[name]
        if model and profile.model:
            head = 2 if profile in KNOWN else 1  # the program, and its subcommand
            profile = replace(profile, argv=(*profile.argv[:head], *profile.model, *profile.argv[head:]))
        return profile, model
    names = ", ".join(profiles)
    try:
        words = shlex.split(wanted)
    except ValueError as error:
        what, where = f"the command cannot be read: {error}", one_line(wanted, 200)
        raise ResearcherMisconfigured(what, where=where, hint="close the quotes") from None
    example = f"with one of {names}, or with a command line such as 'mycli --yolo {{prompt}}'"
    if not words:
        raise ResearcherMisconfigured("no coding agent is named", where="command", hint=f"add --model {example}")
    if len(words) == 1 and not shutil.which(words[0]):
        what = f"there is no coding agent {one_line(wanted, 80)!r}"
        raise ResearcherMisconfigured(what, where="--model", hint=f"give --model {example}")
    return Profile(Path(words[0]).name, tuple(words)), ""


def _words(line: str) -> tuple[str, ...]:
    return tuple(shlex.split(line))


_NUMBER = ((int, float), float)
# Type and reading of each key of a table in commands.toml.
_KEYS: Mapping[str, tuple[Any, Callable[[Any], Any]]] = {
    "run": (str, _words), "model": (str, _words), "keys": (list, tuple), "env": (dict, dict), "home": (list, tuple),
    "silence": _NUMBER, "limit": _NUMBER,
}  # fmt: skip


def _read(name: str, entry: Any, path: Path) -> Profile:
    def invalid(what: str) -> ResearcherMisconfigured:
        hint = 'write run = "mycli --yolo {prompt}" below [name]; docs/researchers.md has the other keys'
        return ResearcherMisconfigured(f"command {one_line(str(name), 60)!r}: {what}", where=str(path), hint=hint)

    if not isinstance(entry, Mapping):
        raise invalid("is not a table")
    known: dict[str, Any] = {}
    for key, value in entry.items():
        kind, read = _KEYS.get(key, (None, tuple))
        if kind is None:
            raise invalid(f"the key {one_line(str(key), 60)!r} is unknown (known: {', '.join(_KEYS)})")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise invalid(f"{key} has the wrong type")
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if not all(isinstance(word, str) for word in inner):
            raise invalid(f"{key} contains a value that is not text")
        try:
            known[key] = read(value)
        except ValueError as error:
            raise invalid(f"{key} cannot be read: {error}") from None
    if not known.get("run"):
        raise invalid("run is missing")
    return Profile(str(name), known.pop("run"), **known)
