"""Cheats that exhaust the scorer's time, memory or processes."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import replace

from tests.redteam.arena import Variant
from tests.redteam.patches import ahead, result

SCORER_RESOURCES = [
    replace(ahead("minutes-to-score", "a model that needs minutes to score", "if not self.training: time.sleep(9)", "too long"),
            idle=True),
    ahead("forks-while-scored", "a fork bomb in the forward pass", """
          if not self.training:
              for _ in range(200):
                  if os.fork() == 0: time.sleep(60)
          """, "PermissionError|more than 64 processes|of memory while it was scored"),
    ahead("memory-while-scored", "takes all the memory there is in the forward pass", """
          if not self.training:
              hold = self.__dict__.setdefault('hold', [])
              for _ in range(4000): hold.append(torch.ones(1 << 22))
          """, "of memory while it was scored|DefaultCPUAllocator"),
    ahead("memory-in-files-while-scored", "takes memory in files that no process has mapped, in the forward pass", """
          if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'):
              for _ in range(1000): os.write(os.memfd_create('x'), bytes(16 << 20))
          """, "PermissionError|of memory while it was scored"),
    ahead("a-flood-of-answers", "a hundred megabytes on the pipe after each answer", """
          if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'):
              import threading
              def flood():
                  for n in range(3, 12):
                      try:
                          for _ in range(25): os.write(n, bytes(4 << 20))
                      except OSError: pass
              threading.Timer(0.3, flood).start()
          """, "wrote to the scorer's pipe|ended by itself|logits of another shape|answered|not finite|deterministic|took too long"),
    Variant("sleeps-when-asked", "sleeps instead of computing, so that the scorer's whole time runs out", (result("""
        if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'): time.sleep(30)
        """),), "rejected", "took too long", idle=True),
]  # fmt: skip
