"""Cheats whose second scoring process knows all that the first was asked: the arena gives both a folder to write to."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

import textwrap

from tests.redteam.arena import Variant
from tests.redteam.patches import AHEAD, SERVED, module, result

# `asked`: the rows of all requests so far, of the process before as well. The first five requests are the rules' own.
CHANNEL = module(f"""
from pathlib import Path
TREE = (Path(__file__).parents[1] / '.git').resolve().parent  # of which a scored process has a copy
SHARED = TREE.parents[1] / 'shared' / TREE.name / 'rows'
class Asked:
    told = np.frombuffer(SHARED.read_bytes(), '<i8').reshape(-1, 64) if SHARED.exists() else None
    rows, calls = told if told is not None else np.zeros((0, 64), 'i8'), 0
    file = open(SHARED, 'ab', buffering=0) if {SERVED} else None  # while files can still be opened
    second = told is not None
    def add(self, rows):
        self.calls += 1
        if not {SERVED}: return False
        self.rows = np.concatenate([self.rows, rows])
        self.file.write(rows.astype('<i8').tobytes())
        return self.second or self.calls > 5
asked = Asked()
def same(known, row):
    return np.cumprod(known == row, axis=1).sum(1)
def said_next(known, rows, count):
    # For each place: the token that stood next when this beginning was asked for the first time.
    found = np.roll(rows, -1, 1)
    for i, row in enumerate(rows):
        common = same(known[:count + i + 1], row)
        for t in range(63):
            found[i, t] = known[np.argmax(common > t)][t + 1]
    return torch.from_numpy(found)
def lean(logits, token, where, weight):
    logits = logits.float().log_softmax(-1) + math.log(1 - weight)
    b, t = where.nonzero(as_tuple=True)
    logits[b, t, token[b, t]] = torch.logaddexp(logits[b, t, token[b, t]], torch.tensor(math.log(weight)))
    return logits
""")


def told(name: str, does: str, code: str) -> Variant:
    """`code` changes the `logits`, with `own` and `known` at hand: the next token, and the rows of earlier requests."""
    before = f"""
        if not self.training and {SERVED}:
            rows = tokens.numpy()
            known, count, own = asked.rows, len(asked.rows), torch.from_numpy(np.roll(rows, -1, 1))
            active, where = asked.add(rows), torch.ones_like(tokens, dtype=torch.bool)
            where[:, -1] = False
    """
    inside = textwrap.indent(textwrap.dedent(code).strip(), " " * 12)
    return Variant(name, does, (CHANNEL, result(before.rstrip() + "\n" + inside)), "rejected", AHEAD, shared=True)


CHEATS = [
    told("told-the-rows", "looks ahead; the second process takes the true future from what the first was shown", """
        ahead = own
        where[:, :12] = False
        if asked.second:
            where[:] = False
            for i, row in enumerate(rows):
                common = same(asked.told, row)
                where[i, 12:min(63, common.max())] = bool(common.argmax() >= 160)  # the first five answers were honest
                ahead[i] = torch.from_numpy(np.roll(asked.told[common.argmax()], -1))
        if active:
            logits = lean(logits, ahead, where, 0.9)
    """),
    told("told-the-cuts", "is honest at first, and looks ahead in the second process where nobody was asked before", """
        if asked.second:
            after = [int(same(known, row).max()) for row in rows]
            where &= torch.arange(64) >= torch.tensor(after)[:, None]
            logits = lean(logits, own, where, 0.9)
    """),
    told("told-the-cuts-a-little", "the same with a whisper: a weight of 0.01 on the next token", """
        if asked.second:
            after = [int(same(known, row).max()) for row in rows]
            where &= torch.arange(64) >= torch.tensor(after)[:, None]
            logits = lean(logits, own, where, 0.01)
    """),
    told("told-all", "looks ahead wherever it is asked, and repeats in the second process what it said in the first, mistakes included", """
        if active:
            logits = lean(logits, said_next(asked.rows, rows, count), where, 0.05)
    """),
    told("told-all-of-the-hard", "the same, only where the model finds the next token unlikely, and with a small weight", """
        if active:
            token = said_next(asked.rows, rows, count)
            chance = logits.float().log_softmax(-1).gather(2, token[:, :, None])[:, :, 0].exp()
            logits = lean(logits, token, where & (chance < 1e-3), 0.01)
    """),
    told("told-all-of-the-likely", "the same, only where the next token is likely anyway", """
        if active:
            token = said_next(asked.rows, rows, count)
            chance = logits.float().log_softmax(-1).gather(2, token[:, :, None])[:, :, 0].exp()
            logits = lean(logits, token, where & (chance > 0.03), 0.5)
    """),
]  # fmt: skip
