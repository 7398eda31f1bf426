"""Whether a server has read the whole prompt: the tokens that it counted, compared with what was sent to it.

Some servers drop the beginning of what exceeds their context, without a word. A word is at least one token for every
tokenizer, so that a count below the number of words (a run without blanks or signs is one, whatever its script) means
that some were not read; so does a count that stays while the conversation grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LEAST_TOKENS = 500  # of a prompt: below that a count is taken for a placeholder
LEAST_WORDS = 20  # by which a conversation must have grown
BLOCK = 1024  # of which contexts are multiples, but for a few tokens
SLACK = 4
SHARE = 0.9  # of the words, below which a count is too low
LEAST_CONTEXT = 8_000  # tokens, below which rules, tools, files and answers have no room
# Where servers say what they read, after the list of models: Ollama, llama.cpp, LM Studio.
DECLARED_AT = ("/api/ps", "/props", "/api/v0/models")
ANSWER_TOKENS = 8_000  # for which a context should have room
_WORD = re.compile(r"[^\W\d_]+")
_NOT_READ = ("tools", "model", "type", "role", "id", "tool_call_id", "tool_use_id", "signature", "encrypted_content",
             "reasoning_content", "thinking")  # fmt: skip
_ALL = "Ollama: OLLAMA_CONTEXT_LENGTH={n}, llama.cpp: -c {n}, vLLM: --max-model-len {n}, LM Studio: its context length"
# The setting of each server, and what tells it: a port of its own, or the beginning of its fingerprint.
_SETTINGS = (
    ("OLLAMA_CONTEXT_LENGTH={n} ollama serve, or num_ctx in the Modelfile", ":11434", r"fp_ollama"),
    ("llama-server -c {n}", "", r"b\d+-"),
    ("lms load MODEL --context-length {n}", ":1234", ""),
    ("vllm serve --max-model-len {n}", "", r"vllm"),
)  # fmt: skip


@dataclass(slots=True)
class ContextWindow:
    """What a server reads of the prompts sent to it. `trouble`: how it cuts them, with the hint; empty while it does
    not. `short`: whether a brief leaves out what can be looked up.
    """

    trouble: str = ""
    hint: str = ""
    short: bool = False
    _limit: int = 0  # tokens, once it is known to cut
    _most: int = 0  # tokens of any prompt
    _words: int = 0  # of the request before, in the same conversation
    _read: int = 0
    _tools: bool = False

    def new_conversation(self) -> None:
        self._words = self._read = 0

    def shorten(self, *, any_left: bool) -> bool:
        """Whether briefs can be made short, and were not; they are from now on."""
        was, self.short = self.short, True
        return any_left and not was

    def check(
        self, request: Mapping[str, Any], read: int, written: int, *, cut: bool, endpoint: str, fingerprint: str
    ) -> bool:
        """Whether it is new that the server cuts the prompt, or the answer (`cut`) for want of context."""
        known = self.trouble
        if read > self._limit + SLACK:  # also when somebody has raised it
            self.trouble, self.hint, self._limit = "", "", 0
        if what := self._cut(request, read, written, cut):
            self.hint = advice(endpoint, fingerprint, request)
            self.trouble = self.trouble or f"{what}, so it cuts what it is sent; {self.hint}"
            self.short = True
        return bool(self.trouble) and not known

    def _cut(self, request: Mapping[str, Any], read: int, written: int, cut: bool) -> str:
        words, characters = _size(request)
        if self._tools != bool(request.get("tools")):
            self.new_conversation()
            self._tools = bool(request.get("tools"))
        grown, before = words - self._words, self._read
        self._words, self._read = words, read
        known, self._most = self._most, max(self._most, read)
        if read < LEAST_TOKENS or read * 2 < known:  # a placeholder, or without what came from a cache
            return ""
        total = read + written
        if cut and _is_limit(total) and not _is_limit(written):
            self._limit = total
            return f"the server's context was full at {total:,} tokens ({read:,} read, {written:,} written)"
        if read < words * SHARE:
            self._limit = self._most
            return f"the server has read only {read:,} tokens of a prompt of about {max(words, characters // 4):,}"
        if before and grown >= LEAST_WORDS and ((_is_limit(read) and read == before) or before // 2 <= read < before):
            self._limit = self._most
            return f"the server has read {read:,} tokens, and {before:,} of the same prompt when it was shorter"
        return ""


def declared(body: Any, model: str) -> int:
    """The tokens that a server says it reads for a model, in its list of models or its state; 0 when it does not."""
    listed = next((body[key] for key in ("data", "models") if isinstance(_map(body).get(key), list)), [body])
    named = [one for one in map(_map, listed) if model in (one.get("id"), one.get("name"), one.get("model"))]
    one = next(iter(named), _map(body))
    for part in (one, _map(one.get("default_generation_settings")), _map(one.get("meta"))):
        for key in ("loaded_context_length", "max_model_len", "context_length", "n_ctx"):
            if isinstance(tokens := part.get(key), int) and tokens > 0:
                return tokens
    return 0


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def advice(endpoint: str, fingerprint: str, request: Mapping[str, Any]) -> str:
    """The setting by which the server reads such a request whole."""
    wanted, n = _size(request)[1] // 3 + ANSWER_TOKENS, 16 * BLOCK
    while n < wanted:
        n *= 2
    for setting, port, mark in _SETTINGS:
        if (mark and re.match(mark, fingerprint)) or (port and port in endpoint):
            return f"give it a longer context: {setting.format(n=n)}"
    return f"give it a longer context ({_ALL.format(n=n)})"


def _is_limit(tokens: int) -> bool:
    return tokens > SLACK and (tokens + SLACK) % BLOCK <= 2 * SLACK


def _size(request: Mapping[str, Any]) -> tuple[int, int]:
    """(words, characters) of the texts of a request, without its tools, which not every model is shown."""
    texts = list(_texts(request))
    return sum(len(_WORD.findall(text)) for text in texts), sum(map(len, texts))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _NOT_READ:
                yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
