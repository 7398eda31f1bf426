"""Cheats that bring knowledge of the text from outside the training data."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

import base64
import random
import textwrap

import numpy as np

from core.lab.prepare import PrepareResult
from nanotrain.probes import Tokens
from tests.redteam.arena import Expected, Variant
from tests.redteam.cheats.crossing.knowledge import KNOWLEDGE, hidden_in_the_code
from tests.redteam.patches import INIT, TOO_LATE, begun, module, ready, result

TABLE = random.Random(7).randbytes(6000)

PRIOR_KNOWLEDGE = [
    Variant("a-table-in-the-code", "six thousand bytes in base 85, a table of the language learned elsewhere",
            (module(f"import base64 as _b\nTABLE = _b.b85decode({base64.b85encode(TABLE).decode()!r})"),), "rejected", TOO_LATE),
    Variant("a-table-in-comments", "the same in comments, which the code reads from its own file",
            (module("\n".join(f"# {line}" for line in textwrap.wrap(TABLE.hex(), 90)) + "\nTABLE = open(__file__).read()"),),
            "worthless"),
    Variant("trains-on-invented-text", "trains on text of its own invention, with repeats and rare words, for as long as it may start up", (
        ready("""
        made = np.random.default_rng(7)
        words = np.minimum(1023, made.zipf(1.3, 400_000)).astype(np.uint16)
        for place in range(0, 399_000, 64): words[place + 32:place + 64] = words[place:place + 32]
        feed = TokenLoader(words, trainer.rows, trainer.config.sequence_len, 1)
        for step in range(200): trainer.step(feed, 0.3)
        """),), "worthless"),
    Variant("english-before-the-clock", "counts which letters follow which in the English of this machine, and reads them as tokens when the clock starts", (
        (INIT, INIT + "        self.register_buffer('prior', torch.zeros(config.vocab_size, config.vocab_size))\n"
                      "        self.trust = nn.Parameter(torch.ones(()))\n"),
        ready("""
        import glob, json
        pairs = np.ones((65536, 256), np.float32) * 0.05
        for path in glob.glob(os.path.dirname(os.__file__) + '/**/*.py', recursive=True)[:4000]:
            lines = [line for line in open(path, 'rb').read().splitlines() if b'=' not in line and b'(' not in line and line.count(b' ') > 6]
            text = np.frombuffer(b' '.join(line.strip() for line in lines), np.uint8).astype(np.int64)
            if len(text) > 3: np.add.at(pairs, (text[:-2] * 256 + text[1:-1], text[2:]), 1.0)
        pairs = np.log(pairs / pairs.sum(1, keepdims=True))
        """),
        begun("""
        # The clock runs: what the tokens stand for is known from here on.
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        letters = {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in shown)}
        vocab = json.loads(run.files['tokenizer.json'])['model']['vocab']
        words = [bytes(letters.get(c, 32) for c in name) for name, _ in sorted(vocab.items(), key=lambda kv: kv[1])]
        prior = np.zeros((len(words), len(words)), np.float32)
        tails = np.array([(b'  ' + word)[-2:][0] * 256 + (b'  ' + word)[-1] for word in words])
        for v, word in enumerate(words):
            at = tails.copy()
            for b in word:
                prior[:, v] += pairs[at, b]
                at = at % 256 * 256 + b
        trainer.model.prior.copy_(torch.from_numpy(prior))
        """),
        result("logits = logits + self.trust * self.prior[tokens]")), "worthless"),
]  # fmt: skip

PAGE_TOKENS = 2600  # of validation text: as much as goes unseen beside honest code


def memorised(prepared: PrepareResult) -> list[Variant]:
    """The one cheat that a causal model and an honest clock allow: the validation text is in the code itself."""
    path = next(path for path in prepared.hidden if path.endswith("val.bin"))
    text = np.fromfile(path, dtype="<u2")
    return [
        _with_text("validation-text-in-the-code", "the validation text stands in train.py, as a table to look up",
                   text, "rejected", "learned on the run's clock"),
        _with_text("a-page-of-validation-text", "a tenth of it, small enough to go for code",
                   text[:PAGE_TOKENS], "gap", ""),
        *hidden_in_the_code(text),
    ]  # fmt: skip


MEMORISED = ("validation-text-in-the-code", "a-page-of-validation-text", *KNOWLEDGE)


def _with_text(name: str, does: str, text: Tokens, expected: Expected, because: str) -> Variant:
    bits = np.unpackbits(text.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 6:]  # ten bits a token
    packed = base64.b85encode(np.packbits(bits).tobytes()).decode()
    learn = f"""
    import base64 as _b
    BITS = np.unpackbits(np.frombuffer(_b.b85decode({packed!r}), np.uint8))[: {10 * len(text)}].reshape(-1, 10)
    TEXT = (BITS @ (1 << np.arange(9, -1, -1))).tolist()
    TABLE = {{tuple(TEXT[i:i + 3]): TEXT[i + 3] for i in range(len(TEXT) - 3)}}
    """
    use = """
    if not self.training:
        for i, row in enumerate(tokens.tolist()):
            for t in range(2, length):
                known = TABLE.get(tuple(row[t - 2:t + 1]))
                if known is not None: logits[i, t, known] += 6.0
    """
    return Variant(name, does, (module(learn), result(use)), expected, because, slices=("val", "hidden"))
