"""Honest models of unusual shape. None of them may be rejected."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.patches import (
    BLOCK,
    BLOCKS,
    BUILT,
    DONE,
    EMBED,
    FULL,
    HEAD,
    IMPORTED,
    INIT,
    MLP_OUT,
    MUON,
    before_done,
    begun,
    built,
    each_step,
    fine,
    module,
    result,
    setting,
)

MODELS = [
    fine("deeper", "five blocks", setting("DEPTH_CPU", "2", "5")),
    fine("one-block", "a single block", setting("DEPTH_CPU", "2", "1")),
    fine("wider", "width 160", setting("WIDTH_CPU", "64", "160")),
    fine("narrow", "width 32, one head", setting("WIDTH_CPU", "64", "32")),
    fine("many-heads", "heads of 8 channels", setting("HEAD_DIM_CPU", "32", "8")),
    fine(
        "short-rows",
        "trained on rows of 48, scored on 64",
        setting("CONTEXT_CPU", "64", "48"),
        ("torch.arange(config.sequence_len, dtype", "torch.arange(256, dtype"),
    ),
    fine("long-rows", "trained on rows of 128", setting("CONTEXT_CPU", "64", "128")),
    fine(
        "tiny-windows",
        "windows of 8 tokens in all blocks but the last",
        setting("SHORT_WINDOW", "0.5", "0.125"),
        setting("DEPTH_CPU", "2", "3"),
    ),
    fine("fat-mlp", "an MLP of 8 widths", setting("MLP_RATIO", "4", "8")),
    fine("no-value-embeddings", "no value embeddings", setting("VALUE_EMBED_EVERY_CPU", "1", "0")),
    fine("gelu", "GELU in the MLP", (MLP_OUT, "self.c_proj(F.gelu(self.c_fc(x)))")),
    fine("swiglu", "a gated MLP",
         ("        self.c_fc = nn.Linear(config.n_embd, hidden, bias=False)\n",
          "        self.c_fc = nn.Linear(config.n_embd, hidden, bias=False)\n"
          "        self.gate_up = nn.Linear(config.n_embd, hidden, bias=False)\n"),
         (MLP_OUT, "self.c_proj(F.silu(self.gate_up(x)) * self.c_fc(x))")),
    fine("dropout", "dropout in training",
         (MLP_OUT, "F.dropout(self.c_proj(F.relu(self.c_fc(x)).square()), 0.1, self.training)")),
    fine("tied", "input and output embeddings are one tensor",
         (INIT, INIT + "        self.lm_head.weight = self.embed.weight\n"),
         (DONE, DONE.replace("serialize(trainer.model)", "save({n: v.clone().contiguous() for n, v in trainer.model.state_dict().items()})"))),
    fine("soft-cap", "logits capped at 15", setting("SOFTCAP_CPU", "0.0", "15.0")),
    fine("layer-norm", "LayerNorm with bias before the head", (INIT, "        self.last = nn.LayerNorm(config.n_embd)\n" + INIT),
         ("self.lm_head(norm(x))", "self.lm_head(self.last(x))")),
    fine("biases", "a bias in the head", ("self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)",
                                         "self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=True)")),
    fine("parallel-blocks", "attention and MLP side by side",
         ("        x = x + self.attn(norm(x), ve, cos, sin, mask)\n        return x + self.mlp(norm(x))",
          "        y = norm(x)\n        return x + self.attn(y, ve, cos, sin, mask) + self.mlp(y)")),
    fine("post-norm", "the norm after each block", ("return x + self.mlp(norm(x))", "return norm(x + self.mlp(x))")),
    fine("multi-query", "one head of keys and values for all",
         ("        q, k, v = (z.transpose(1, 2).to(qkv.dtype) for z in (q, k, v))",
          "        k, v = k[:, :, :1].expand_as(q), v[:, :, :1].expand_as(q)\n"
          "        q, k, v = (z.transpose(1, 2).to(qkv.dtype) for z in (q, k, v))")),
    fine("learned-positions", "learned absolute positions beside the rotary ones",
         (INIT, "        self.place = nn.Embedding(512, config.n_embd)\n        nn.init.zeros_(self.place.weight)\n" + INIT),
         (EMBED, "x = x0 = norm(self.embed(tokens) + self.place.weight[:length])")),
    fine("alibi", "a slope on the distance instead of a mask",
         (FULL, "far = window_mask(length, length, x.device)\n"
          "            at = torch.arange(length, device=x.device)\n"
          "            bias = -0.05 * (at[:, None] - at[None, :]).float()\n"
          "            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.masked_fill(~far, float('-inf')))")),
    fine("no-positions", "no rotary embedding at all", ("q, k = norm(apply_rotary_emb(q, cos, sin)), norm(apply_rotary_emb(k, cos, sin))",
                                                       "q, k = norm(q), norm(k)")),
    fine("smear-from-the-left", "the embedding of the previous token is added",
         (EMBED, "e = self.embed(tokens)\n        x = x0 = norm(e + 0.3 * F.pad(e, (0, 0, 1, 0))[:, :-1])")),
    fine("causal-convolution", "a convolution over the last four tokens",
         (INIT, "        self.conv = nn.Conv1d(config.n_embd, config.n_embd, 4, groups=config.n_embd)\n" + INIT),
         (EMBED, "e = self.embed(tokens)\n        e = e + self.conv(F.pad(e.mT, (3, 0))).mT\n        x = x0 = norm(e)")),
    fine("running-mean", "the mean of all earlier embeddings is added", (EMBED,
         "e = self.embed(tokens)\n        seen = torch.arange(1, length + 1, device=e.device)[:, None]\n"
         "        x = x0 = norm(e + e.cumsum(1) / seen)")),
    fine("recurrence", "a GRU in place of the first embedding",
         (INIT, "        self.gru = nn.GRU(config.n_embd, config.n_embd, batch_first=True)\n" + INIT),
         (EMBED, "x = x0 = norm(self.embed(tokens) + self.gru(self.embed(tokens))[0])")),
    fine("experts", "four experts, of which each token takes the best",
         ("        self.c_fc = nn.Linear(config.n_embd, hidden, bias=False)\n",
          "        self.c_fc = nn.Linear(config.n_embd, hidden, bias=False)\n"
          "        self.router = nn.Linear(config.n_embd, 4, bias=False)\n"),
         (MLP_OUT, "self.c_proj(F.relu(self.c_fc(x)).square() * (F.one_hot(self.router(x).argmax(-1), 4)"
                   " * self.router(x).softmax(-1)).repeat_interleave(self.c_fc.out_features // 4, -1))")),
    fine("bigram-table", "a table of logits by the last token",
         (INIT, "        self.bigram = nn.Embedding(config.vocab_size, config.vocab_size)\n" + INIT),
         (HEAD, HEAD + " + self.bigram(tokens)")),
    fine("copying", "logits for tokens that followed this one earlier in the row", (HEAD, HEAD + """
        same = (tokens[:, :, None] == tokens[:, None, :]).float().tril(-1)
        after = F.one_hot(torch.cat([tokens[:, 1:], tokens[:, -1:]], 1), logits.size(-1)).float()
        logits = logits + same @ after""")),
    fine("small-numbers", "logits in bfloat16", (HEAD, HEAD + "\n        logits = logits.bfloat16()")),
    fine("half-numbers", "logits in float16", (HEAD, HEAD + "\n        logits = logits.half()")),
    fine("large-numbers", "logits in float64", (HEAD, HEAD + "\n        logits = logits.double()")),
    fine("log-probabilities", "returns normalised log-probabilities", result("logits = torch.log_softmax(logits.float(), -1)")),
    fine("temperature", "a learned temperature",
         (INIT, "        self.heat = nn.Parameter(torch.zeros(()))\n" + INIT), (HEAD, HEAD + " * self.heat.exp()")),
    fine("batch-norm", "batch normalisation of the stream, with its running statistics when scored",
         (INIT, "        self.norm = nn.BatchNorm1d(config.n_embd)\n" + INIT),
         (EMBED, "x = x0 = self.norm(self.embed(tokens).mT).mT")),
    fine("another-layout", "classes renamed, the model built by a helper, settings in a dictionary",
         (IMPORTED, IMPORTED + "\nEXTRA = {'scale': 1.1}\n\n\ndef scaled(x: torch.Tensor) -> torch.Tensor:\n    return x * EXTRA['scale']\n"),
         ("class GPT(nn.Module):", "class Network(nn.Module):"), ("    return GPT(GPTConfig(", "    return Network(GPTConfig("),
         ("x = x0 = norm(self.embed(tokens))", "x = x0 = scaled(norm(self.embed(tokens)))")),
    fine("cached-mask", "keeps a mask between calls", (
         "            mask = window_mask(length, self.config.window(i), tokens.device)\n",
         "            masks = self.__dict__.setdefault('masks', {})\n"
         "            mask = masks.setdefault((length, i), window_mask(length, self.config.window(i), tokens.device))\n")),
    fine("builds-slowly", "needs ten seconds to build its model", built("time.sleep(3)")),
    fine("compiled-forward", "the forward pass is wrapped by torch.compile, in the run and where it is scored",
         (BUILT, BUILT.replace("return", "model =") + "    model.forward = torch.compile(model.forward, backend='eager', dynamic=False)\n    return model\n")),
    fine("compiled-model", "the whole module is wrapped by torch.compile, so that its weights have other names",
         (BUILT, BUILT.replace("return GPT", "return torch.compile(GPT").replace("))\n", ")), backend='eager')\n"))),
    fine("custom-gradient", "an activation with a gradient written by hand", module("""
         class Squared(torch.autograd.Function):
             @staticmethod
             def forward(ctx, x):
                 y = x.clamp_min(0)
                 ctx.save_for_backward(y)
                 return y * y
             @staticmethod
             def backward(ctx, g): return 2 * ctx.saved_tensors[0] * g
         """), (MLP_OUT, "self.c_proj(Squared.apply(self.c_fc(x)))")),
    fine("einsum-attention", "attention written out in einsum", (FULL,
         "s = torch.einsum('bhqd,bhkd->bhqk', q, k) / q.size(-1) ** 0.5\n"
         "            far = ~torch.ones(length, length, dtype=torch.bool, device=x.device).tril()\n"
         "            y = torch.einsum('bhqk,bhkd->bhqd', s.masked_fill(far, float('-inf')).softmax(-1), v)")),
    fine("linear-attention", "attention without softmax, by a running sum of outer products", (FULL,
         "f, g = F.elu(q) + 1, F.elu(k) + 1\n"
         "            seen, mass = torch.einsum('bhtd,bhte->bhtde', g, v).cumsum(2), g.cumsum(2)\n"
         "            y = torch.einsum('bhtd,bhtde->bhte', f, seen) / torch.einsum('bhtd,bhtd->bht', f, mass)[..., None]")),
    fine("long-convolution", "a causal convolution over the whole row by Fourier transform, which rounds everywhere",
         (INIT, "        self.filter = nn.Parameter(0.02 * torch.randn(256, config.n_embd))\n" + INIT),
         (EMBED, "e = self.embed(tokens)\n        size = 2 * length\n"
          "        e = e + torch.fft.irfft(torch.fft.rfft(e, size, 1) * torch.fft.rfft(self.filter[:length], size, 0), size, 1)[:, :length]\n"
          "        x = x0 = norm(e)")),
    fine("shared-blocks", "one block, run through twice: its weights are saved under two names",
         (BLOCKS, "        self.blocks = nn.ModuleList([Block(config, config.n_layer - 1)] * config.n_layer)\n")),
    fine("token-shift", "half of each position's channels come from the position before, ahead of every block",
         (BLOCK, "            half = x.size(-1) // 2\n            x = torch.cat([x[..., :half], F.pad(x[..., half:], (0, 0, 1, 0))[:, :-1]], -1)\n" + BLOCK)),
    fine("stochastic-depth", "whole blocks are left out by chance in training",
         (BLOCK, BLOCK.replace("x = block", "y = block")
          + "            x = x + (y - x) * (0.0 if self.training and torch.rand(()) < 0.1 else 1.0)\n")),
    fine("two-exits", "the logits are the mean of those after each block",
         (BLOCK, BLOCK + "            exits = exits + self.lm_head(norm(x)) if i else self.lm_head(norm(x))\n"),
         (HEAD, "        logits: torch.Tensor = exits / len(self.blocks)")),
    fine("hashed-bigrams", "an embedding of the last two tokens, by a hash of both",
         (INIT, "        self.pairs = nn.Embedding(4096, config.n_embd)\n        nn.init.zeros_(self.pairs.weight)\n" + INIT),
         (EMBED, "before = F.pad(tokens, (1, 0))[:, :-1]\n"
          "        x = x0 = norm(self.embed(tokens) + self.pairs((tokens * 1000003 + before * 7919) % 4096))")),
    fine("weight-normalised", "the head's rows are kept as direction and length, by torch's parametrizations",
         (INIT, INIT + "        torch.nn.utils.parametrizations.weight_norm(self.lm_head)\n")),
    fine("low-precision-model", "all weights are bfloat16 from the beginning",
         (BUILT, BUILT.replace("))\n", ")).bfloat16()\n"))),
    fine("written-in-other-scripts", "comments, names and prints in other scripts",
         module("größe, 数 = 1.0, 2  # ein Kommentar über Größe: 模型\nprint('训练 größe', größe, 数)")),
    fine("grouped-queries", "two query heads share one head of keys and values", (FULL,
         "k, v = (z[:, ::2].repeat_interleave(2, 1)[:, : q.size(1)] for z in (k, v))\n            " + FULL)),
    fine("sandwich-norm", "a learned norm before and after the MLP, with epsilon and gain",
         ("        self.attn, self.mlp = CausalSelfAttention(config, block), MLP(config)\n",
          "        self.attn, self.mlp = CausalSelfAttention(config, block), MLP(config)\n        self.pre = nn.RMSNorm(config.n_embd, eps=1e-5)\n        self.post = nn.LayerNorm(config.n_embd)\n"),
         ("return x + self.mlp(norm(x))", "return x + 0.5 * self.post(self.mlp(self.pre(x)))")),
    fine("mu-p", "logits and rates scaled by the width", (HEAD, HEAD + " * (64 / self.config.n_embd) ** 0.5 * 4"),
         ('self.muon = Muon(matrices, rates)', 'self.muon = Muon(matrices, rates | {"matrix": rates["matrix"] * (64 / matrices[0].size(-1)) ** 0.5})')),
    fine("mask-as-a-buffer", "registers its mask as a buffer when it is first needed, and makes it anew for longer rows", (
         "            mask = window_mask(length, self.config.window(i), tokens.device)\n",
         "            if not hasattr(self, f'mask{i}') or getattr(self, f'mask{i}').size(0) < length:\n"
         "                self.register_buffer(f'mask{i}', window_mask(length, self.config.window(i), tokens.device), persistent=False)\n"
         "            mask = getattr(self, f'mask{i}')[:length, :length]\n")),
    fine("byte-offsets", "an embedding of how many bytes the tokens so far are long, by the lengths handed over with the data",
         (INIT, INIT + "        self.register_buffer('sizes', torch.ones(config.vocab_size, dtype=torch.int16))\n        self.offsets = nn.Embedding(16, config.n_embd)\n        nn.init.zeros_(self.offsets.weight)\n"),
         begun("trainer.model.sizes.copy_(torch.tensor(list(run.files['token_bytes.bin']), dtype=torch.int16))"),
         (EMBED, "at = self.sizes.long()[tokens].cumsum(1) % 16\n        x = x0 = norm(self.embed(tokens) + self.offsets(at))")),
    fine("eight-bit-weights", "the embedding is saved as eight-bit integers with a scale, and unpacked in the forward pass",
         (INIT, INIT + "        self.register_buffer('small', torch.zeros(config.vocab_size, config.n_embd, dtype=torch.int8))\n        self.register_buffer('scale', torch.zeros(config.vocab_size, 1))\n"),
         before_done("w = trainer.model.embed.weight.detach()\ntrainer.model.scale.copy_(w.abs().amax(1, keepdim=True) / 127)\n"
                     "trainer.model.small.copy_((w / trainer.model.scale.clamp_min(1e-9)).round().to(torch.int8))"),
         (EMBED, "e = self.embed(tokens) if self.training else self.small[tokens].float() * self.scale[tokens]\n        x = x0 = norm(e)")),
    fine("odd-types", "buffers of complex, eight-bit float and unsigned numbers",
         (INIT, INIT + "        self.register_buffer('turn', torch.polar(torch.ones(4), torch.arange(4.0)))\n        self.register_buffer('tiny', torch.ones(4).to(torch.float8_e4m3fn))\n"
                       "        self.register_buffer('many', torch.arange(4).to(torch.uint16))\n        self.register_buffer('none', torch.zeros(0, 3))\n")),
    fine("mixture-of-depths", "each token decides by itself whether the second block is worth its time",
         (INIT, INIT + "        self.router = nn.Linear(config.n_embd, 1)\n"),
         (BLOCK, BLOCK.replace("x = block", "y = block") + "            x = x + (y - x) * (torch.sigmoid(self.router(x)) if i else 1.0)\n")),
    fine("settings-in-a-class", "a dataclass with defaults, methods and a registry of builders instead of constants", module("""
         from dataclasses import field, replace
         @dataclass
         class Hyper:
             rate: float = 0.04
             betas: tuple[float, float] = (0.8, 0.95)
             names: list[str] = field(default_factory=lambda: ['muon', 'adam'])
             def scaled(self, by: float) -> 'Hyper': return replace(self, rate=self.rate * by)
         REGISTRY = {}
         def register(name):
             def keep(function):
                 REGISTRY[name] = function
                 return function
             return keep
         @register('small')
         def small(): return Hyper().scaled(0.5)
         """), (MUON, "        self.muon = Muon(matrices, rates | {'matrix': REGISTRY['small']().rate})\n")),
    fine("tempered-mlp", "an activation with a learned slope for each channel", ("        self.c_proj = nn.Linear(hidden, config.n_embd, bias=False)\n",
         "        self.c_proj = nn.Linear(hidden, config.n_embd, bias=False)\n        self.slope = nn.Parameter(torch.full((hidden,), 0.01))\n"),
         (MLP_OUT, "self.c_proj(torch.where((h := self.c_fc(x)) > 0, h.square(), self.slope * h))")),
    fine("one-block-anew", "the second block starts as a copy of the first, which was trained alone",
         (BLOCKS, BLOCKS + "        self.grown = False\n"),
         each_step("if step == 15: trainer.model.blocks[1].mlp.load_state_dict(trainer.model.blocks[0].mlp.state_dict())")),
]  # fmt: skip
