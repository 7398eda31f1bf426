"""Cheats in the values, shape and type of the returned logits."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import NEXT, ahead, result

RETURNED_LOGITS = [
    ahead("logits-nan", "logits that are not numbers", "if not self.training: logits = logits / 0 * 0", "not finite"),
    ahead("logits-infinite", "infinite logits for the likely tokens", """
          if not self.training:
              logits = torch.where(logits > 3, torch.inf, logits)
          """, "not finite"),
    Variant("logits-huge", "logits times 1e30, to win by overflow",
            (result("if not self.training: logits = logits.float() * 1e30"),), "worthless"),
    Variant("logits-unnormalised", "log-probabilities above zero: everything is certain",
            (result("if not self.training: logits = torch.log_softmax(logits.float(), -1) + 50"),), "worthless"),
    Variant("logits-offset", "a constant offset of 1e6 on all logits, to lose the digits of the normaliser",
            (result("if not self.training: logits = logits.float() + 1e6"),), "worthless"),
    ahead("logits-of-more-tokens", "a vocabulary with more tokens than there are",
          "if not self.training: logits = F.pad(logits, (0, 8))", "logits of another shape"),
    ahead("logits-of-fewer-places", "the last, hardest positions are left out",
          "if not self.training and length > 8: logits = logits[:, :-4]", "logits of another shape"),
    ahead("logits-and-a-loss", "returns its own loss beside the logits",
          "if not self.training: return logits, torch.zeros(())", "cannot be rebuilt or run"),
    ahead("logits-empty", "returns a tensor that claims a shape it has not", """
          if not self.training:
              class Liar(torch.Tensor):
                  @property
                  def shape(self): return torch.Size([32, 64, 1024])
              logits = torch.zeros(1).as_subclass(Liar)
          """, "logits of another shape|cannot be rebuilt or run|wrote to|took too long|ended by itself"),
    Variant("all-tokens-certain", "every logit is 1e17, beside which the normaliser's nats vanish in a double",
            (result("if not self.training: logits = torch.full_like(logits.float(), 1e17)"),), "worthless"),
    Variant("all-tokens-certain-by-the-largest-float", "every logit is the largest float32",
            (result("if not self.training: logits = torch.full_like(logits.float(), 3.4e38)"),), "worthless"),
    Variant("half-of-the-tokens-certain", "1e20 for the likelier half of the tokens, its negative for the others", (result("""
        if not self.training:
            best = logits.float() > logits.float().median(-1, keepdim=True).values
            logits = torch.where(best, 1e20, -1e20)
        """),), "worthless"),
    Variant("logits-of-whole-numbers", "integers, so that float() is the scorer's own rounding",
            (result("if not self.training: logits = (logits * 1000).long()"),), "worthless"),
    Variant("logits-complex", "complex logits, whose imaginary part holds the next token",
            (result(f"if not self.training: logits = torch.complex(logits.float(), 9.0 * {NEXT}.float())"),), "worthless"),
    ahead("a-tensor-with-a-mind", "a tensor subclass that answers float(), flatten() and softmax with the next token", f"""
          if not self.training:
              class Sly(torch.Tensor):
                  @classmethod
                  def __torch_function__(cls, function, types, args=(), kwargs=None):
                      with torch._C.DisableTorchFunctionSubclass():
                          if (name := getattr(function, '__name__', '')) in ('float', 'flatten', 'log_softmax'):
                              return getattr(args[0].leak, name)(*args[1:])
                          return function(*args, **(kwargs or {{}}))
              sly = logits.as_subclass(Sly)
              sly.leak = logits + 9.0 * {NEXT}
              logits = sly
          """),
    ahead("read-twice", "an object whose float() gives other values each time it is read", f"""
          if not self.training:
              class Lazy:
                  times = 0
                  def float(self):
                      Lazy.times += 1
                      return honest.float() + (leak if Lazy.times % 3 else 0.0)
              honest, leak, logits = logits, 9.0 * {NEXT}, Lazy()
          """, "not causal|not deterministic"),
    ahead("moved-under-the-readers-hand", "a thread writes the next tokens into the logits after they were returned", f"""
          if not self.training:
              import threading
              leak, logits = 9.0 * {NEXT}, logits.float().contiguous()
              def late():
                  with torch.inference_mode(): logits.add_(leak)
              threading.Timer(0.0005, late).start()
          """, "not causal|not deterministic|not independent"),
]  # fmt: skip
