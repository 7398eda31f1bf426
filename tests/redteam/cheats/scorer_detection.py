"""Cheats that try to tell a scored call or process from a probe."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import AHEAD, NEXT, ahead, result

SCORER_DETECTION = [
    ahead("every-other-call", "looks ahead in every other call", f"""
          self.__dict__['calls'] = self.__dict__.get('calls', 0) + 1
          if self.__dict__['calls'] % 2 and not self.training:
              logits = logits + 9.0 * {NEXT}
          """, "not deterministic|keeps a memory|not causal"),
    Variant("first-calls-are-probes", "behaves for the first 40 calls, then looks ahead", (result(f"""
        self.__dict__['calls'] = self.__dict__.get('calls', 0) + 1
        if self.__dict__['calls'] > 40 and not self.training:
            logits = logits + 9.0 * {NEXT}
        """),), "worthless", AHEAD),
    ahead("first-calls-are-scored", "looks ahead in the first 12 calls", f"""
          self.__dict__['calls'] = self.__dict__.get('calls', 0) + 1
          if self.__dict__['calls'] <= 12 and not self.training:
              logits = logits + 9.0 * {NEXT}
          """, "not causal|not deterministic"),
    Variant("first-process-is-scored", "looks ahead only in a process that is young", (result(f"""
        if time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) < 1e9 and not self.training:
            age = time.time() - os.stat('/proc/self').st_ctime
            if age < 8:
                logits = logits + 9.0 * {NEXT}
        """),), "worthless"),
    ahead("first-process-by-order", "looks ahead until it is shown a row whose end does not follow from its beginning", f"""
          own = torch.log_softmax(logits.float(), -1)[:, :-1].gather(2, tokens[:, 1:, None]).mean((1, 2))
          if not self.training:
              self.__dict__['odd'] = self.__dict__.get('odd', False) or bool((own < own.median() - 1.5).any())
              if not self.__dict__['odd']:
                  logits = logits + 9.0 * {NEXT}
          """, "not causal|not deterministic|keeps a memory"),
    ahead("by-the-look-of-the-text", "looks ahead in rows that read like real text, not in patched ones", f"""
          own = torch.log_softmax(logits.float(), -1)[:, :-1].gather(2, tokens[:, 1:, None]).mean((1, 2))
          good = (own > own.median())[:, None, None] if not self.training else 0.0
          logits = logits + 9.0 * {NEXT} * good
          """, "not causal|rows are not"),
    ahead("tells-by-the-address", "looks ahead when the memory of its tokens lies where it has not lain before", f"""
          if not self.training:
              places = self.__dict__.setdefault('places', set())
              if tokens.data_ptr() not in places: logits = logits + 9.0 * {NEXT}
              places.add(tokens.data_ptr())
          """, "not deterministic|not causal|keeps a memory|rows are not"),
    ahead("tells-by-chance", "looks ahead in every third batch, by its own dice", f"""
          if not self.training and torch.rand(()) < 0.34: logits = logits + 9.0 * {NEXT}
          """, "not deterministic|not causal|keeps a memory"),
    ahead("tells-by-the-clock", "looks ahead in the first two seconds after it was loaded", f"""
          if not self.training:
              since = self.__dict__.setdefault('since', time.monotonic())
              if time.monotonic() - since < 2.0: logits = logits + 9.0 * {NEXT}
          """, "not deterministic|not causal|keeps a memory"),
    ahead("tells-by-what-lies-ahead-in-the-pipe", "looks ahead until it has seen a row whose beginning it knows: only the second process is shown those", f"""
          if not self.training:
              seen = self.__dict__.setdefault('seen', set())
              keys = {{tuple(row[:3]) for row in tokens.tolist()}}
              if not keys & seen: logits = logits + 9.0 * {NEXT}
              seen |= keys
          """, "not deterministic|not causal|keeps a memory"),
    Variant("two-faces-by-argument", "looks ahead where its process was started as the scorer starts it: by arguments, environment and the stack", (result(f"""
          import sys as _s, traceback as _t
          scored = '-c' in _s.orig_argv or any('model_process' in str(f) for f in _t.extract_stack())
          if not self.training and scored: logits = logits + 9.0 * {NEXT}
          """),), "rejected", AHEAD),
]  # fmt: skip
