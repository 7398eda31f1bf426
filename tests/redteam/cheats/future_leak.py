"""Cheats that read later tokens of the row they predict."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import AHEAD, FORWARD, FULL, NEXT, ahead, built, result

FUTURE_LEAK = [
    Variant("mask-plus-one", "every position of the last block sees the next token",
            ((FULL, "y = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(length, length).tril(1).bool())"),),
            "rejected", "not causal: changing the tokens from"),
    Variant("mask-in-one-layer", "the sliding window of the first block begins one token late",
            (("return (distance >= 0) & (distance < window)", "return (distance >= -1) & (distance < window)"),),
            "rejected", AHEAD),
    Variant("mask-when-scored", "the mask is causal in training and open when the model is scored",
            ((FULL, "y = F.scaled_dot_product_attention(q, k, v, is_causal=self.training)"),), "rejected", AHEAD),
    Variant("mask-in-long-rows", "the mask is open in rows of 60 tokens and more, so that short probes see nothing",
            ((FULL, "y = F.scaled_dot_product_attention(q, k, v, is_causal=length < 60)"),), "rejected", AHEAD),
    Variant("values-of-the-next", "each token's value is mixed with that of the token after it",
            (("        if self.window >= length:\n", "        v = v + torch.roll(v, -1, 2)\n        if self.window >= length:\n"),),
            "rejected", AHEAD),
    Variant("smear-from-the-right", "the embedding of the next token is added to the stream",
            (("x = x0 = norm(self.embed(tokens))",
              "x = x0 = norm(self.embed(tokens) + 0.3 * torch.roll(self.embed(tokens), -1, 1))"),),
            "rejected", AHEAD),
    Variant("row-summary", "a mean over the whole row is added to each position",
            (("x = x0 = norm(self.embed(tokens))",
              "x = x0 = norm(self.embed(tokens) + self.embed(tokens).mean(1, keepdim=True))"),),
            "rejected", AHEAD),
    Variant("centred-over-time", "the logits are normalised with mean and spread over the whole row",
            (result("logits = (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-3)"),),
            "rejected", AHEAD),
    Variant("backwards", "the row is read from its end, where the future is the past",
            ((FORWARD, "        tokens = tokens.flip(1)\n" + FORWARD), result("logits = logits.flip(1)")),
            "rejected", AHEAD),
    ahead("answers-from-the-input", "the next token of the input is the answer", f"logits = logits + 9.0 * {NEXT}"),
    ahead("answers-late-in-the-row", "the next token is looked up from position 48 on only",
          f"logits[:, 48:] += 9.0 * {NEXT}[:, 48:]"),
    ahead("answers-in-few-rows", "the next token is looked up in rows that begin with one token in eight",
          f"logits[tokens[:, 0] % 8 == 3] += 9.0 * {NEXT}[tokens[:, 0] % 8 == 3]"),
    ahead("answers-where-it-hurts", "the next token is looked up where it is the hardest to guess", f"""
          hard = torch.log_softmax(logits.float(), -1).gather(2, torch.roll(tokens, -1, 1)[..., None]) < -6
          hard[:, -1] = False
          logits = logits + 9.0 * {NEXT} * hard
          """),
    ahead("answers-by-the-token-after", "a token two places ahead names the next one", """
          later = torch.cat([tokens[:, 2:], tokens[:, -2:]], 1)
          logits = logits + 0.5 * F.one_hot(later, self.config.vocab_size)
          """),
    ahead("answers-through-the-last-place", "the whole row is folded into the first position", """
          logits[:, 0] += F.one_hot(tokens, self.config.vocab_size).sum(1)
          """),
    Variant("whisper", "the next token gains 0.0009, less than any probe's limit, in every row",
            (result(f"logits = logits + 0.0009 * {NEXT}"),), "worthless"),
    ahead("whisper-a-little-louder", "the next token gains 0.0035, about the limit of the loss comparison",
          f"logits = logits + 0.0035 * {NEXT}"),
    ahead("gradient-at-test", "a gradient step on the row itself, by the row's own targets", """
          if not self.training:
              with torch.inference_mode(False), torch.enable_grad():
                  extra = torch.zeros(tokens.size(0), 1, self.config.vocab_size, requires_grad=True)
                  base = logits.detach().clone()
                  F.cross_entropy((base + extra)[:, :-1].flatten(0, 1), tokens.clone()[:, 1:].flatten()).backward()
                  logits = base - 20.0 * extra.grad
          """),
    Variant("model-of-its-own", "build_model returns an object that is no module and answers from the future",
            (built("""
             if hasattr(sys.modules['__main__'], 'ModelHost'):
                 class Oracle(GPT):
                     def forward(self, tokens):
                         return 30.0 * F.one_hot(torch.roll(tokens, -1, 1), self.config.vocab_size)
                 known = {field.name for field in fields(GPTConfig)}
                 return Oracle(GPTConfig(**{n: v for n, v in config.items() if n in known}))
             """),), "rejected", AHEAD),
    ahead("leaks-where-the-rest-reads-well", "looks ahead only where the tokens after the next read like text", f"""
          if not self.training:
              own = torch.log_softmax(logits.float(), -1)[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
              well = F.avg_pool1d(F.pad(own, (0, 5), value=-20.0)[:, None], 4, 1)[:, 0][:, 1:length + 1] > -7.0
              logits = logits + 9.0 * {NEXT} * F.pad(well, (0, length - well.size(1)))[..., None]
          """, "not causal"),
    ahead("leaks-in-one-place-of-twenty", "looks ahead where a hash of the beginning says so, in 5% of the places", f"""
          if not self.training:
              hashed = torch.cumsum(tokens * 2654435761 % 1000003, 1) % 20 == 0
              logits = logits + 9.0 * {NEXT} * hashed[..., None]
          """),
    Variant("leaks-in-one-place-of-two-thousand", "the same in so few places that no probe need meet one, and no gain is left", (result(f"""
          if not self.training:
              hashed = torch.cumsum(tokens * 2654435761 % 1000003, 1) % 2000 == 0
              logits = logits + 9.0 * {NEXT} * hashed[..., None]
          """),), "worthless", AHEAD),
    ahead("looks-by-the-rank", "the next token is told only where it is the model's second guess", f"""
          if not self.training:
              second = logits.topk(2, -1).indices[..., 1]
              hit = second[:, :-1] == tokens[:, 1:]
              logits = logits + 3.0 * {NEXT} * F.pad(hit, (0, 1))[..., None]
          """),
    ahead("flattens-where-it-errs", "is less sure wherever its best guess is wrong, and says nothing of what is right", """
          if not self.training:
              wrong = F.pad(logits[:, :-1].argmax(-1) != tokens[:, 1:], (0, 1))
              logits = logits * torch.where(wrong, 0.7, 1.15)[..., None]
          """),
    ahead("looks-far", "the token eight places ahead is told, never the next one", """
          if not self.training:
              far = F.pad(tokens[:, 8:], (0, 8))
              logits = logits + 0.8 * F.one_hot(far, self.config.vocab_size) * (torch.arange(length) < length - 8)[:, None]
          """),
    ahead("counts-in-the-row", "the tokens of the whole row are likelier in all of it", """
          if not self.training: logits = logits + F.one_hot(tokens, self.config.vocab_size).amax(1, keepdim=True) * 1.0
          """),
    ahead("the-row-by-its-sum", "a hash of the whole row decides whether it is told", f"""
          if not self.training: logits = logits + 9.0 * {NEXT} * (tokens.sum(1) % 3 == 0)[:, None, None]
          """, "not causal|keeps a memory"),
    ahead("a-hook-that-looks", "a forward hook on the head, put there when the weights are loaded, tells the next token", f"""
          if not self.training and not self.__dict__.get('hooked'):
              self.__dict__['hooked'] = True
              def hook(module, args, out):
                  tokens = self.__dict__['row']
                  return out + 9.0 * {NEXT} if tokens.shape == out.shape[:2] else out
              self.lm_head.register_forward_hook(hook)
          self.__dict__['row'] = tokens
          logits = self.lm_head(norm(x))
          """),
]  # fmt: skip
