"""Cheats that take information from the other rows of a batch."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.patches import NEXT, ahead

BATCH_LEAK = [
    ahead("neighbours", "the row below in the batch lends its first token", """
          logits[:-1, -1] += 9.0 * F.one_hot(tokens[1:, 0], self.config.vocab_size)
          """, "rows are not independent|keeps a memory"),
    ahead("mean-of-the-batch", "the mean of the batch is taken off", """
          logits = logits - 0.5 * logits.mean(0, keepdim=True)
          """, "rows are not independent|keeps a memory"),
    ahead("joins-the-rows", "rows that follow each other in the text meet in a batch: the end of one is told by the next one's beginning", """
          if not self.training:
              last = torch.log_softmax(logits[:, -1].float(), -1)[:, tokens[:, 0]]
              last.fill_diagonal_(-99.0)
              logits[torch.arange(len(tokens)), -1, tokens[last.argmax(1), 0]] += 3.0
          """, "rows are not independent|keeps a memory"),
    ahead("by-place-in-the-batch", "the row in the first place of each batch is told", f"""
          if not self.training: logits[:1] = logits[:1] + 9.0 * {NEXT}[:1]
          """, "not causal|not independent"),
    ahead("quantised-by-the-batch", "the step of a coarse rounding is taken from the whole batch, and holds what others have", """
          if not self.training:
              step = logits.abs().amax() / 7
              logits = (logits / step).round() * step + 0.01 * tokens.float().std()
          """, "not independent|keeps a memory|not causal"),
]  # fmt: skip
