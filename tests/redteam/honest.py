"""Honest code that looks unusual. None of it may be rejected; a crash is a crash."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Edit, Variant
from tests.redteam.patches import (
    DONE,
    FULL,
    IMPORTED,
    STEP,
    before_done,
    begun,
    built,
    each_step,
    instead_of_done,
    module,
    result,
    setting,
)

EMBED = "x = x0 = norm(self.embed(tokens))"
MLP_OUT = "self.c_proj(F.relu(self.c_fc(x)).square())"
LOSS = "        return InPlaceCrossEntropy.apply(logits, targets.flatten())"
INIT = "        self.init_weights()\n"
HEAD = "        logits: torch.Tensor = self.lm_head(norm(x))"


def fine(name: str, does: str, *edits: Edit, seconds: float | None = None) -> Variant:
    return Variant(name, does, edits, "scored", seconds=seconds)


SIZES = [
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
    fine("small-batch", "batches of two rows", ("BATCH_TOKENS_CPU = 2**9 ", "BATCH_TOKENS_CPU = 2**7 ")),
    fine("big-batch", "batches of 64 rows", ("BATCH_TOKENS_CPU = 2**9 ", "BATCH_TOKENS_CPU = 2**12")),
]

MODELS = [
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
    fine("large-numbers", "logits in float64", (HEAD, HEAD + "\n        logits = logits.double()")),
    fine("log-probabilities", "returns normalised log-probabilities", result("logits = torch.log_softmax(logits.float(), -1)")),
    fine("temperature", "a learned temperature",
         (INIT, "        self.heat = nn.Parameter(torch.zeros(()))\n" + INIT), (HEAD, HEAD + " * self.heat.exp()")),
    fine("batch-norm", "batch normalisation of the stream, with its running statistics when scored",
         (INIT, "        self.norm = nn.BatchNorm1d(config.n_embd)\n" + INIT),
         (EMBED, "x = x0 = self.norm(self.embed(tokens).mT).mT")),
]  # fmt: skip

TRAINING = [
    fine("adamw-for-all", "AdamW for the matrices, too",
         ("        self.muon = Muon(matrices, rates[\"matrix\"], rates[\"decay\"])\n",
          "        self.muon = torch.optim.AdamW(matrices, lr=0.003)\n"),
         ("        self.muon.step(lrm, momentum)\n", "        self.muon.step()\n")),
    fine("sgd", "plain SGD for the matrices",
         ("        self.muon = Muon(matrices, rates[\"matrix\"], rates[\"decay\"])\n",
          "        self.muon = torch.optim.SGD(matrices, lr=0.1, momentum=0.9)\n"),
         ("        self.muon.step(lrm, momentum)\n", "        self.muon.step()\n")),
    fine("gradient-clipping", "the gradient's norm is clipped at 1", setting("GRAD_CLIP", "0.0", "1.0")),
    fine("weight-decay", "weight decay on the matrices", setting("MATRIX_DECAY_CPU", "0.0", "0.3")),
    fine("long-warm-up", "a warm-up over half of the budget", setting("WARMUP", "0.0", "0.5")),
    fine("constant-rate", "no warm-down", setting("WARMDOWN", "0.4", "0.0001")),
    fine("huge-rate", "a learning rate ten times as high", setting("MATRIX_LR_CPU", "0.04", "0.4")),
    fine("label-smoothing", "label smoothing in training",
         (LOSS, "        return F.cross_entropy(logits, targets.flatten(), label_smoothing=0.1)")),
    fine("z-loss", "a penalty on the normaliser", (LOSS, "        return F.cross_entropy(logits, targets.flatten()) + 1e-4 * logits.logsumexp(-1).square().mean()")),
    fine("two-tokens-ahead", "a second head learns the token after the next, in training only",
         (INIT, "        self.second = nn.Linear(config.n_embd, config.vocab_size, bias=False)\n" + INIT),
         (HEAD, "        self.far = self.second(norm(x)) if self.training else None\n" + HEAD),
         (LOSS, "        far = F.cross_entropy(self.model.far[:, :-1].flatten(0, 1).float(), targets[:, 1:].flatten())\n"
                "        return F.cross_entropy(logits, targets.flatten()) + 0.3 * far")),
    fine("byte-weighted-loss", "long tokens count more, by the lengths that are handed over with the data",
         begun("global SIZES\nSIZES = torch.tensor(list(run.files['token_bytes.bin']), dtype=torch.float32) + 0.5"),
         (LOSS, "        w = SIZES[targets.flatten()] if 'SIZES' in globals() else 1.0\n"
                "        return (w * F.cross_entropy(logits, targets.flatten(), reduction='none')).mean() / 3")),
    fine("masked-inputs", "a tenth of the inputs is replaced by chance in training",
         (EMBED, "if self.training: tokens = torch.where(torch.rand(tokens.shape) < 0.1, 0, tokens)\n        " + EMBED)),
    fine("average-of-weights", "the mean of the weights along the way is saved",
         begun("mean = {n: v.clone() for n, v in trainer.model.state_dict().items()}"),
         (STEP, STEP + "        for n, v in trainer.model.state_dict().items(): mean[n].lerp_(v, 0.2)\n"),
         before_done("trainer.model.load_state_dict(mean)")),
    fine("half-precision-weights", "weights saved in bfloat16",
         (DONE, DONE.replace("serialize(trainer.model)", "save({n: v.bfloat16().contiguous() for n, v in trainer.model.state_dict().items()})"))),
    fine("autocast", "products in bfloat16", ("enabled=self.dtype != torch.float32)", "enabled=True)"),
         ("dtype=self.dtype, enabled", "dtype=torch.bfloat16, enabled")),
    fine("fewer-steps", "stops after a quarter of its budget", (STEP, "        if step >= 10: break\n" + STEP)),
    fine("slow-steps", "a step takes 0.2 s longer", each_step("time.sleep(0.2 if step < 10 else 0.0)")),
    fine("resampled-data", "rows are drawn with replacement",
         ("            self.order = np.concatenate([self.order, self.random.permutation(starts)])",
          "            self.order = np.concatenate([self.order, self.random.choice(starts, len(starts))])")),
    fine("another-init", "normal initial weights, nothing zero",
         (INIT, INIT + "        for p in self.parameters():\n            if p.ndim > 1: nn.init.normal_(p, std=0.05)\n")),
    fine("frozen-embedding", "the embedding is not trained",
         (INIT, INIT + "        self.frozen = self.embed.weight.detach().clone()\n"),
         (EMBED, "x = x0 = norm(self.embed(tokens).detach() + 0.0 * self.embed(tokens))")),
    fine("own-files", "keeps notes, a plot's numbers and a checkpoint in the run's folder",
         (STEP, STEP + "        (run.folder / 'notes.txt').open('a').write(f'{step}\\n')\n"),
         before_done("(run.folder / 'checkpoint.pt').write_bytes(b'x' * 1000)\n"
                     "(run.folder / 'plots').mkdir()\n(run.folder / 'plots' / 'a.csv').write_text('1,2')")),
    fine("talkative", "prints colours, progress bars and half a megabyte", module("print('\\x1b[31mhello\\x1b[2J', '=' * 500_000)")),
    fine("saved-by-hand", "writes its own exchange: serialises, hashes and announces by itself",
         instead_of_done("""
             import hashlib, json
             weights, config = serialize(trainer.model), json.dumps(asdict(trainer.config)).encode()
             if run.channel is not None:
                 seal = hashlib.sha256(weights + config).hexdigest()
                 run._send({'type': 'done', 'steps': step, 'tokens': tokens, 'sha256': seal})
             (run.folder / 'model.json').write_bytes(config)
             (run.folder / 'weights.safetensors').write_bytes(weights)
             """)),
    fine("another-layout", "classes renamed, the model built by a helper, settings in a dictionary",
         (IMPORTED, IMPORTED + "\nEXTRA = {'scale': 1.1}\n\n\ndef scaled(x: torch.Tensor) -> torch.Tensor:\n    return x * EXTRA['scale']\n"),
         ("class GPT(nn.Module):", "class Network(nn.Module):"), ("    return GPT(GPTConfig(", "    return Network(GPTConfig("),
         ("x = x0 = norm(self.embed(tokens))", "x = x0 = scaled(norm(self.embed(tokens)))")),
    fine("cached-mask", "keeps a mask between calls", (
         "            mask = window_mask(length, self.config.window(i), tokens.device)\n",
         "            masks = self.__dict__.setdefault('masks', {})\n"
         "            mask = masks.setdefault((length, i), window_mask(length, self.config.window(i), tokens.device))\n")),
    fine("builds-slowly", "needs ten seconds to build its model", built("time.sleep(3)")),
    fine("by-time", "a budget in seconds", each_step("pass"), seconds=3.0),
]  # fmt: skip

CRASHES = [
    Variant("crash", "an exception in the middle of training", (each_step("if step == 20: raise RuntimeError('boom')"),),
            "crashed", "exited with code 1: RuntimeError: boom"),
    Variant("diverges", "the loss becomes NaN", (each_step("if step == 20: trainer.model.lm_head.weight.data *= float('nan')"),),
            "crashed", "training has diverged"),
    Variant("out-of-memory", "takes more memory than it may", (each_step("hold = torch.ones(1 << 30)"),),
            "crashed", "used more than 3072 MB|memory"),
    Variant("exits", "exits without a word in mid-run", (each_step("if step == 9: sys.exit(3)"),), "crashed", "code 3"),
    Variant("segfault", "reads where there is nothing", (each_step("if step == 9: ctypes.string_at(0)"),), "crashed", "SIGSEGV"),
]  # fmt: skip

HONEST = [*SIZES, *MODELS, *TRAINING, *CRASHES]
