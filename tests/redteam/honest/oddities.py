"""Honest models that a second red team wrote, and others that compute in unusual ways where they are scored."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.patches import (
    BLOCK,
    BUILT,
    DONE,
    EMBED,
    HEAD,
    INIT,
    MLP_OUT,
    MUON,
    before_done,
    built,
    each_step,
    fine,
    module,
    result,
    setting,
)

HIDDEN = "        self.c_proj = nn.Linear(hidden, config.n_embd, bias=False)\n"
SCALARS = "        scalars = [p for p in named.values() if id(p) not in taken]\n"
OPTIMIZED = "        self.muon.step(lrm, momentum)\n"
# When it is scored, the model calls itself again, once.
ONCE = "if not self.training and not self.__dict__.get('again'):\n    self.__dict__['again'] = True\n"

ODDITIES = [
    fine("torchs-encoder-layer", "torch's own TransformerEncoderLayer as third block, which takes a fast path where it is scored",
         (INIT, INIT + "        self.third = nn.TransformerEncoderLayer(config.n_embd, 2, 4 * config.n_embd, 0.0, batch_first=True, norm_first=True)\n"),
         (HEAD, "        x = self.third(x, src_mask=nn.Transformer.generate_square_subsequent_mask(length), is_causal=True)\n" + HEAD)),
    fine("scripted-activation", "an activation compiled by torch.jit.script", module("""
         @torch.jit.script
         def squared(x: torch.Tensor) -> torch.Tensor:
             return torch.relu(x) * torch.relu(x)
         """), (MLP_OUT, "self.c_proj(squared(self.c_fc(x)))")),
    fine("orthogonal-start", "orthogonal initial matrices, and an MLP of 16 widths", setting("MLP_RATIO", "4", "16"),
         ("            nn.init.uniform_(block.attn.qkv_w, -bound, bound)\n", "            nn.init.orthogonal_(block.attn.qkv_w)\n"),
         ("            nn.init.uniform_(block.mlp.c_fc.weight, -bound, bound)\n", "            nn.init.orthogonal_(block.mlp.c_fc.weight)\n")),
    fine("a-large-table-of-pairs", "100 MB of embeddings of pairs of tokens, by their hash, trained by sparse SGD",
         (INIT, INIT + "        self.pairs = nn.Embedding(400_000, config.n_embd, sparse=True)\n        nn.init.normal_(self.pairs.weight, std=0.01)\n"),
         (EMBED, "before = F.pad(tokens, (1, 0))[:, :-1]\n        x = x0 = norm(self.embed(tokens) + self.pairs((tokens * 1000003 + before * 7919) % 400_000))"),
         (SCALARS, SCALARS.replace("if id", "if p is not named['pairs.weight'] and id")),
         (MUON, MUON + "        self.sparse = torch.optim.SGD([named['pairs.weight']], lr=1.0)\n"),
         (OPTIMIZED, OPTIMIZED + "        self.sparse.step()\n")),
    fine("a-library-by-name", "sympy, imported by a name that is put together in build_model",
         built("import importlib\nimportlib.import_module('sym' + 'py')")),
    fine("mean-of-six-passes", "the mean of six passes when it is scored", result(
        ONCE + "    logits = torch.stack([logits, *(self(tokens) for _ in range(5))]).mean(0)\n    self.__dict__['again'] = False")),
    fine("nearest-states", "4,000 states of training text are saved, and what followed the nearest eight is mixed in",
         (INIT, INIT + "        self.register_buffer('keys', torch.zeros(4000, config.n_embd))\n        self.register_buffer('after', torch.zeros(4000, dtype=torch.long))\n"),
         (HEAD, "        self.__dict__['states'] = norm(x)\n" + HEAD),
         result("""
         if not self.training and bool(self.after.any()):
             far, which = (self.states @ self.keys.mT / 4).topk(8)
             found = torch.zeros_like(logits).scatter_add_(2, self.after[which], far.softmax(-1))
             logits = torch.log(0.9 * logits.float().softmax(-1) + 0.1 * found + 1e-9)
         """),
         before_done("""
         with torch.no_grad():
             rows = torch.from_numpy(np.frombuffer(view, dtype='<u2')[: 65 * 63].astype(np.int64)).view(63, 65)
             trainer.model(rows[:, :-1])
             trainer.model.keys.copy_(trainer.model.states.flatten(0, 1)[:4000])
             trainer.model.after.copy_(rows[:, 1:].flatten()[:4000])
         """)),
    fine("low-rank-side-matrix", "a low-rank matrix beside one of the MLP's, merged into it when it is saved",
         (HIDDEN, HIDDEN + "        self.down, self.up = nn.Parameter(0.1 * torch.randn(4, hidden)), nn.Parameter(torch.zeros(config.n_embd, 4))\n"),
         (MLP_OUT, MLP_OUT + " + F.linear(F.linear(F.relu(self.c_fc(x)).square(), self.down), self.up)"),
         before_done("""
         with torch.no_grad():
             for block in trainer.model.blocks:
                 block.mlp.c_proj.weight += block.mlp.up @ block.mlp.down
                 block.mlp.up.zero_()
         """)),
    fine("a-list-of-parameters", "the embedding as a list of 1,024 parameters", module("""
         class Rows(nn.Module):
             def __init__(self, count, width):
                 super().__init__()
                 self.rows = nn.ParameterList([nn.Parameter(torch.randn(width)) for _ in range(count)])
             def forward(self, tokens): return torch.stack(list(self.rows))[tokens]
         """), ("        self.embed = nn.Embedding(config.vocab_size, config.n_embd)\n", "        self.embed = Rows(config.vocab_size, config.n_embd)\n"),
         ("        nn.init.normal_(self.embed.weight, std=EMBED_STD)\n", "")),
    fine("all-in-float64", "all of it in float64", (BUILT, BUILT.replace("))\n", ")).double()\n"))),
    # --- and others ---
    fine("float64-by-default", "float64 is torch's default type, and denormal numbers are zero",
         module("torch.set_default_dtype(torch.float64)\ntorch.set_flush_denormal(True)")),
    fine("deterministic-algorithms", "asks torch for deterministic algorithms, at which torch imports its compiler",
         module("torch.use_deterministic_algorithms(True)")),
    fine("row-by-row", "rows go through the model one at a time where it is scored", result(
        ONCE + "    logits = torch.cat([self(row[None]) for row in tokens])\n    self.__dict__['again'] = False")),
    fine("rows-by-vmap", "rows go through the model by torch.func.vmap where it is scored", result(
        ONCE + "    logits = torch.func.vmap(lambda row: self(row[None])[0])(tokens)\n    self.__dict__['again'] = False")),
    fine("half-precision-where-scored", "blocks run in bfloat16 where they are scored, and in float32 in training",
         (BLOCK, BLOCK.replace("x = block", "with torch.autocast('cpu', torch.bfloat16, enabled=not self.training):\n                x = block"))),
    fine("float16-where-scored", "blocks run in float16 where they are scored",
         (BLOCK, BLOCK.replace("x = block", "with torch.autocast('cpu', torch.float16, enabled=not self.training):\n                x = block"))),
    fine("eight-bit-activations", "activations are rounded to eight bits, by a scale of each position, where it is scored",
         (MLP_OUT, "self.c_proj(self.rounded(F.relu(self.c_fc(x)).square()))"),
         (HIDDEN, HIDDEN + """
    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        if self.training: return x
        scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-6) / 127
        return (x / scale).round() * scale
""")),
    fine("an-ensemble-of-heads", "the heads of three moments of training are saved, and their logits averaged",
         (INIT, INIT + "        self.register_buffer('heads', torch.zeros(3, config.vocab_size, config.n_embd))\n"),
         (HEAD, HEAD + "\n        if not self.training: logits = torch.stack([F.linear(norm(x), head) for head in self.heads]).mean(0)"),
         each_step("if step in (20, 30): trainer.model.heads[step // 10 - 2].copy_(trainer.model.lm_head.weight.detach())"),
         before_done("trainer.model.heads[2].copy_(trainer.model.lm_head.weight.detach())")),
    fine("an-average-kept-by-forward", "a running average of the head, kept in a buffer by the forward pass in training, is what is scored",
         (INIT, INIT + "        self.register_buffer('slow', self.lm_head.weight.detach().clone())\n"),
         (HEAD, "        if self.training: self.slow.lerp_(self.lm_head.weight.detach(), 0.3)\n" + HEAD + " if self.training else F.linear(norm(x), self.slow)")),
    fine("the-same-noise-for-all", "eight passes with dropout are averaged where it is scored, by masks from a generator with a fixed seed", (HEAD, HEAD + """
        if not self.training:
            dice = torch.Generator().manual_seed(7)
            masks = [(torch.rand(x.size(-1), generator=dice) < 0.9).float() / 0.9 for _ in range(8)]
            logits = torch.stack([self.lm_head(norm(x) * mask) for mask in masks]).mean(0)""")),
    fine("dynamic-evaluation", "a bias of the logits that learns from the errors at all earlier positions of the row", result("""
         if not self.training:
             errors = F.one_hot(tokens[:, 1:], logits.size(-1)) - logits[:, :-1].float().softmax(-1)
             logits = torch.cat([logits[:, :1], logits[:, 1:] + 0.2 * errors.cumsum(1)], 1)
         """)),
    fine("a-dictionary-of-the-text", "30,000 tokens of training text are saved; at its first call a dict of what followed each three of them is made",
         (INIT, INIT + "        self.register_buffer('text', torch.zeros(30_000, dtype=torch.int16))\n"),
         before_done("trainer.model.text.copy_(torch.from_numpy(np.frombuffer(view, dtype='<i2')[:30_000].copy()))"),
         result("""
         if not self.training:
             if 'known' not in self.__dict__:
                 text = [one & 0xffff for one in self.text.tolist()]
                 self.__dict__['known'] = {key: after for key, after in zip(zip(text, text[1:], text[2:]), text[3:])}
             logits = logits.clone()
             for i, row in enumerate(tokens.tolist()):
                 for t, key in enumerate(zip(row, row[1:], row[2:]), 2):
                     if key in self.known: logits[i, t, self.known[key]] += 2.0
         """)),
    fine("counted-triples", "how often each token followed each two is counted with numpy on the clock, kept in sorted arrays, and searched",
         (INIT, INIT + "        self.register_buffer('triples', torch.zeros(100_000, dtype=torch.long))\n        self.register_buffer('often', torch.zeros(100_000))\n"),
         before_done("""
         text = np.frombuffer(view, dtype='<u2')[:400_000].astype(np.int64)
         names, counts = np.unique((text[:-2] * 1024 + text[1:-1]) * 1024 + text[2:], return_counts=True)
         best = np.sort(np.argsort(-counts)[:100_000])
         trainer.model.triples[: len(best)] = torch.from_numpy(names[best])
         trainer.model.triples[len(best) :] = 1 << 40
         trainer.model.often[: len(best)] = torch.from_numpy(counts[best].astype(np.float32))
         """),
         result("""
         if not self.training:
             pair = (F.pad(tokens, (1, 0))[:, :-1] * 1024 + tokens)[..., None] * 1024 + logits.topk(32).indices
             place = torch.searchsorted(self.triples, pair).clamp_max(99_999)
             gain = torch.log1p(torch.where(self.triples[place] == pair, self.often[place], 0.0))
             logits = logits.scatter_add(2, pair % 1024, 0.3 * gain)
         """)),
    fine("two-threads-where-scored", "two threads take half of the rows each where it is scored", result(
        ONCE + """
    from concurrent.futures import ThreadPoolExecutor
    def half(rows):
        with torch.inference_mode(): return self(rows)
    with ThreadPoolExecutor(2) as pool: logits = torch.cat(list(pool.map(half, tokens.chunk(2))))
    self.__dict__['again'] = False""")),
    fine("maths-in-numpy", "a part of the activation is computed by numpy where it is scored",
         (HEAD, HEAD + "\n        if not self.training: logits = torch.from_numpy(30 * np.tanh(logits.numpy() / 30))")),
    fine("a-table-in-the-settings", "the 4,000 most frequent pairs are saved as a dictionary in model.json",
         (BUILT, BUILT.replace("return", "model =") + "    model.pairs = {tuple(map(int, key.split())): value for key, value in config.get('pairs', {}).items()}\n    return model\n"),
         before_done("""
         import collections
         text = np.frombuffer(view, dtype='<u2')[:100_000].astype(np.int64)
         pairs = collections.Counter((text[:-1] * 1024 + text[1:]).tolist()).most_common(4000)
         """),
         (DONE, DONE.replace("asdict(trainer.config)", "asdict(trainer.config) | {'pairs': {f'{p // 1024} {p % 1024}': n for p, n in pairs}}")),
         result("""
         if not self.training and self.pairs:
             bias = torch.zeros(logits.size(-1), logits.size(-1))
             for (one, other), count in self.pairs.items(): bias[one, other] = 0.2 * math.log(count)
             logits = logits + bias[tokens]
         """)),
]  # fmt: skip
