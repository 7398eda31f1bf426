"""The coding agents that are known by name, as data. A person's own stand in `commands.toml` beside the prices.

[mycli]
run = "mycli --yolo --message-file {prompt_file}"
keys = ["MY_API_KEY"]          # variables it needs, from the environment or from keys.toml
home = [".mycli/login.json"]   # files of the home folder it needs, copied into a private one
env = { MYCLI_MODE = "headless" }
silence = 600                  # seconds without output, after which it is ended
limit = 3600                   # seconds at all
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs
import tomli

from core.record.errors import ResearcherMisconfigured
from core.text import one_line

FILE_NAME = "commands.toml"
PROXIES = (
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """How a coding agent is started. In `argv`, `{prompt}` and `{prompt_file}` stand for the prompt and a file of it,
    `{files}` (a word of its own) for the editable files, `{model}` for the model. Without either of the first two the
    prompt comes on standard input. `model`: what is added to argv when a model is named.
    """

    name: str
    argv: tuple[str, ...]
    model: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    home: tuple[str, ...] = ()
    install: str = ""
    silence: float = 600.0
    limit: float = 3600.0

    @property
    def on_stdin(self) -> bool:
        return not any("{prompt}" in word or "{prompt_file}" in word for word in self.argv)


# Every one of them is told to ask for no permission: the sandbox is what holds it, not its own good will.
KNOWN: tuple[Profile, ...] = (
    Profile(
        "claude",
        ("claude", "-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"),
        model=("--model", "{model}"),
        keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN"),
        # IS_SANDBOX: or it refuses to skip permissions as root.
        env={"IS_SANDBOX": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        home=(".claude/.credentials.json",),
        install="npm install -g @anthropic-ai/claude-code",
    ),
    Profile(
        "codex",
        ("codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-"),
        model=("-m", "{model}"),
        keys=("OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL"),
        home=(".codex/auth.json", ".codex/config.toml"),
        install="npm install -g @openai/codex",
    ),
    Profile(
        "gemini",
        ("gemini", "--yolo", "--skip-trust", "--output-format", "stream-json"),
        model=("--model", "{model}"),
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_GEMINI_BASE_URL"),
        home=(".gemini/oauth_creds.json", ".gemini/google_accounts.json", ".gemini/settings.json"),
        install="npm install -g @google/gemini-cli",
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
        install="pipx install aider-chat",
    ),
    Profile(
        "opencode",
        ("opencode", "run", "--format", "json", "--auto"),
        model=("--model", "{model}"),
        keys=("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY"),
        env={"OPENCODE_DISABLE_AUTOUPDATE": "1"},
        home=(".local/share/opencode/auth.json", ".config/opencode/opencode.json"),
        install="npm install -g opencode-ai",
    ),
)  # fmt: skip


def user_file() -> Path:
    return platformdirs.user_config_path("autoresearch-tui") / FILE_NAME


def installed(path: str | None = None) -> list[str]:
    """The known coding agents whose program is there."""
    return [profile.name for profile in KNOWN if shutil.which(profile.argv[0], path=path)]


def find(wanted: str) -> tuple[Profile, str]:
    """The profile and the model that `wanted` means: `claude`, `claude:opus`, or a command line of one's own. When
    nothing is said, the first of the known ones that is installed.

    Raises ResearcherMisconfigured when it is neither, or when the person's own profiles are not right.
    """
    wanted = wanted.strip() or next(iter(installed()), "")
    profiles = {profile.name: profile for profile in (*KNOWN, *_own())}
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
        raise ResearcherMisconfigured(
            f"the command cannot be read: {error}", where=one_line(wanted, 200), hint="close the quotes"
        ) from None
    if not words:
        raise ResearcherMisconfigured(
            "which coding agent is not said", where="command",
            hint=f"add --model with one of {names}, or with a command line such as 'mycli --yolo {{prompt}}'",
        )  # fmt: skip
    if len(words) == 1 and not shutil.which(words[0]):
        raise ResearcherMisconfigured(
            f"there is no coding agent {one_line(wanted, 80)!r}", where="--model",
            hint=f"name one of {names}, or give a command line such as 'mycli --yolo {{prompt}}'",
        )  # fmt: skip
    return Profile(Path(words[0]).name, tuple(words)), ""


def _own() -> list[Profile]:
    path = user_file()
    try:
        data = tomli.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise ResearcherMisconfigured(
            f"the commands cannot be read: {error}", where=str(path), hint="correct the file, or remove it"
        ) from None
    return [_read(name, entry, path) for name, entry in data.items()]


def _read(name: str, entry: Any, path: Path) -> Profile:
    def wrong(what: str) -> ResearcherMisconfigured:
        hint = 'write run = "mycli --yolo {prompt}" below [name]; docs/researchers.md has the other keys'
        return ResearcherMisconfigured(f"command {one_line(str(name), 60)!r}: {what}", where=str(path), hint=hint)

    if not isinstance(entry, Mapping):
        raise wrong("is no table")
    number = (int, float)
    kinds: dict[str, Any] = {
        "run": str, "model": str, "keys": list, "env": dict, "home": list, "silence": number, "limit": number,
    }  # fmt: skip
    for key, value in entry.items():
        if key not in kinds:
            raise wrong(f"the key {one_line(str(key), 60)!r} is unknown (known: {', '.join(kinds)})")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise wrong(f"{key} is not right")
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if not all(isinstance(word, str) for word in inner):
            raise wrong(f"{key} holds something that is no text")
    try:
        argv = tuple(shlex.split(entry.get("run", "")))
    except ValueError as error:
        raise wrong(f"run cannot be read: {error}") from None
    if not argv:
        raise wrong("run is missing")
    base = Profile(
        str(name), argv, tuple(shlex.split(entry.get("model", ""))), tuple(entry.get("keys", ())), entry.get("env", {}),
        tuple(entry.get("home", ())),
    )  # fmt: skip
    return replace(base, silence=float(entry.get("silence", base.silence)), limit=float(entry.get("limit", base.limit)))
