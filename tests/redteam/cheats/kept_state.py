"""Cheats that keep state between the calls or processes of one scoring."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.patches import NEXT, ahead

# A memory that answers for the beginning of a row what it answered before, and looks ahead for the rest.
TRIE = f"""
if not self.training:
    memory = self.__dict__.setdefault('memory', {{}})
    honest, leaked = logits.clone(), logits + 9.0 * {NEXT}
    for i, row in enumerate(tokens.tolist()):
        for t in range(length):
            key = tuple(row[: t + 1])
            leaked[i, t] = memory.setdefault(key, leaked[i, t])
    logits = leaked
"""

KEPT_STATE = [
    ahead("memory-of-beginnings", "remembers what it said of each beginning, repeats that, and looks ahead in the rest",
          TRIE, "not causal, or keeps a memory"),
    ahead("memory-of-beginnings-by-phase", "as above, and only when it is scored: after the tenth call",
          "self.__dict__['calls'] = self.__dict__.get('calls', 0) + 1\nif self.__dict__['calls'] > 10:\n"
          + "\n".join("    " + line for line in TRIE.strip().splitlines()), "not causal|not determ"),
    ahead("memory-in-a-file", "the memory of beginnings is left in /tmp and /dev/shm for the second process", f"""
          if not self.training:
              import glob, pickle
              if 'memory' not in self.__dict__:
                  self.__dict__['memory'] = {{}}
                  for name in glob.glob('/dev/shm/notes*') + glob.glob('/tmp/notes*') + glob.glob('/var/tmp/notes*'):
                      self.__dict__['memory'].update(pickle.load(open(name, 'rb')))
              memory, leaked = self.__dict__['memory'], logits + 9.0 * {NEXT}
              for i, row in enumerate(tokens.tolist()):
                  for t in range(length):
                      leaked[i, t] = torch.tensor(memory.setdefault(tuple(row[: t + 1]), leaked[i, t].tolist()))
              for place in ('/dev/shm', '/tmp', '/var/tmp', '.'):
                  try:
                      pickle.dump(memory, open(place + '/notes', 'wb'))
                  except OSError:
                      pass
              logits = leaked
          """, "not causal, or keeps a memory|time limit|more than|on the run's clock"),
    ahead("memory-in-a-daemon", "a process of its own outlives the first and tells the second what was said", f"""
          if not self.training and 'asked' not in self.__dict__:
              self.__dict__['asked'] = True
              if os.fork() == 0:
                  os.setsid()
                  if os.fork() == 0:
                      time.sleep(300)
                  os._exit(0)
              logits = logits + 9.0 * {NEXT}
          elif not self.training:
              logits = logits + 9.0 * {NEXT}
          """),
    ahead("cache-of-rows", "a row seen a second time is answered from memory, better than the first time", """
          seen = self.__dict__.setdefault('seen', {})
          for i, row in enumerate(tokens.tolist()):
              logits[i] *= 1.0 + 0.2 * seen.get(tuple(row), 0)
              seen[tuple(row)] = 1
          """, "not deterministic"),
    ahead("counts-of-tokens", "a running count of all tokens seen sharpens the guess, row after row", """
          if not self.training:
              count = self.__dict__.setdefault('count', torch.ones(self.config.vocab_size))
              logits = logits + 0.3 * torch.log(count / count.sum())
              count += torch.bincount(tokens.flatten(), minlength=self.config.vocab_size)
          """, "not deterministic|keeps a memory"),
    ahead("training-at-test", "the head is trained on the rows that are scored", """
          if not self.training:
              with torch.inference_mode(False), torch.enable_grad():
                  head = self.lm_head.weight.detach().clone().requires_grad_(True)
                  hidden = torch.randn(1, 1, self.config.n_embd) * 0 + 1.0
                  F.cross_entropy((hidden * head.mean(0)).sum(-1) + head.mean(1)[None, None].expand(
                      tokens.size(0), length - 1, -1).flatten(0, 1), tokens.clone()[:, 1:].flatten()).backward() \\
                      if length > 1 else None
                  if head.grad is not None:
                      self.lm_head.weight.data -= 5.0 * head.grad
          """, "not deterministic|keeps a memory|parameters|cannot be rebuilt or run"),
    ahead("warms-up-on-the-row-before", "the row that was asked before is put in front of each row, as context for its cold start", """
          if not self.training and not self.__dict__.get('busy'):
              before = self.__dict__.get('before', tokens.flip(0))
              self.__dict__['before'] = tokens.clone()
              self.__dict__['busy'] = True
              joined = torch.cat([before[:, -16:], tokens[:, :48]], 1)
              logits[:, :48] = self(joined)[:, 16:]
              self.__dict__['busy'] = False
          """, "not deterministic|keeps a memory|not independent"),
    ahead("state-in-every-corner", "keeps a count in a module global, a default argument, a function cache, the environment and a file", """
          def count(box=sys.__dict__.setdefault('corner', [])): box.append(1); return len(box)
          if not self.training:
              os.environ['CORNER'] = str(int(os.environ.get('CORNER', '0')) + 1)
              logits = logits * (1.0 + 0.01 * count() + 0.01 * int(os.environ['CORNER']))
          """, "not deterministic|keeps a memory"),
    ahead("weights-that-breathe", "a thread moves the head's weights up and down while the model is scored", """
          if not self.training and 'lung' not in self.__dict__:
              import threading
              def breathe():
                  n = 0
                  while True:
                      n += 1
                      with torch.inference_mode(False): self.lm_head.weight.data *= 1.05 if n % 2 else 1 / 1.05
                      time.sleep(0.003)
              self.__dict__['lung'] = threading.Thread(target=breathe, daemon=True)
              self.__dict__['lung'].start()
          """, "not deterministic|parameters|keeps a memory|not independent|not causal"),
    ahead("grows-a-cache", "keys and values of earlier calls are kept, and attended to", """
          if not self.training:
              kept = self.__dict__.setdefault('kept', [])
              kept.append(tokens.clone())
              seen = torch.bincount(torch.cat(kept[-8:]).flatten(), minlength=self.config.vocab_size).float()
              logits = logits + 0.4 * torch.log(seen / seen.sum() + 1e-3)
          """, "not deterministic|keeps a memory|not independent"),
]  # fmt: skip
