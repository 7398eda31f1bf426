"""Honest training code of unusual form. None of it may be rejected."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.patches import (
    BLOCK,
    DONE,
    EMBED,
    FORWARD_LOSS,
    HEAD,
    INIT,
    LOADER,
    LOSS,
    MUON,
    RATE,
    STEP,
    before_done,
    begun,
    each_step,
    fine,
    instead_of_done,
    module,
    result,
    setting,
)

TRAINING = [
    fine("small-batch", "batches of two rows", ("BATCH_TOKENS_CPU = 2**9 ", "BATCH_TOKENS_CPU = 2**7 ")),
    fine("big-batch", "batches of 64 rows", ("BATCH_TOKENS_CPU = 2**9 ", "BATCH_TOKENS_CPU = 2**12")),
    fine("adamw-for-all", "AdamW for the matrices, too",
         (MUON,
          "        self.muon = torch.optim.AdamW(matrices, lr=0.003)\n"),
         ("        self.muon.step(lrm, momentum)\n", "        self.muon.step()\n")),
    fine("sgd", "plain SGD for the matrices",
         (MUON,
          "        self.muon = torch.optim.SGD(matrices, lr=0.1, momentum=0.9)\n"),
         ("        self.muon.step(lrm, momentum)\n", "        self.muon.step()\n")),
    fine("gradient-clipping", "the gradient's norm is clipped at 1", setting("GRAD_CLIP", "0.0", "1.0")),
    fine("weight-decay", "weight decay on the matrices", setting("MATRIX_DECAY_CPU", "0.0", "0.3")),
    fine("long-warm-up", "a warm-up over half of the budget", setting("WARMUP", "0.0", "0.5")),
    fine("constant-rate", "no warm-down", setting("WARMDOWN_CPU", "0.4", "0.0001")),
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
    fine("autocast", "products in bfloat16", ("        with self.machine.autocast():\n", "        with torch.autocast('cpu', dtype=torch.bfloat16):\n")),
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
    fine("by-time", "a budget in seconds", each_step("pass"), seconds=3.0),
    fine("sleeps-on-its-clock", "a budget in seconds, with sleep after each step", each_step("time.sleep(0.05)"),
         seconds=3.0),
    fine("checkpointing", "the blocks are computed again for the gradient instead of being kept", module("import torch.utils.checkpoint"),
         (BLOCK, "            x = torch.utils.checkpoint.checkpoint(block, x, ve, cos, sin, mask, use_reentrant=False) if self.training else block(x, ve, cos, sin, mask)\n")),
    fine("second-order", "a preconditioner on both sides of each matrix's gradient, renewed now and then", module("""
         class Shampoo:
             def __init__(self, matrices, rate):
                 self.matrices, self.rate, self.n, self.state = matrices, rate, 0, {}
             @torch.no_grad()
             def step(self, scale, momentum):
                 self.n += 1
                 for p in self.matrices:
                     g = p.grad.reshape(-1, p.shape[-1])
                     s = self.state.setdefault(p, [1e-4 * torch.eye(g.shape[0]), 1e-4 * torch.eye(g.shape[1]), None, None])
                     s[0] += g @ g.T
                     s[1] += g.T @ g
                     if self.n % 10 == 1:
                         for at in (0, 1):
                             values, vectors = torch.linalg.eigh(s[at])
                             s[2 + at] = vectors * values.clamp_min(1e-8) ** -0.25 @ vectors.T
                     u = s[2] @ g @ s[3]
                     p -= (self.rate * scale * u / (u.norm() + 1e-8) * g.shape[1] ** 0.5).view_as(p)
         """), (MUON, "        self.muon = Shampoo(matrices, 0.04)\n")),
    fine("lookahead", "slow weights follow the fast ones every five steps",
         begun("slow = {n: v.clone() for n, v in trainer.model.state_dict().items()}"),
         (STEP, STEP + "        if step % 5 == 4:\n            for n, v in trainer.model.state_dict().items(): v.copy_(slow[n].lerp_(v, 0.5))\n")),
    fine("growing-rows", "rows are short at first and grow with the budget",
         (LOADER, LOADER + "    whole = loader\n    def loader(): return tuple(part[:, : 16 + int(48 * clock.progress(step))] for part in whole())\n")),
    fine("warm-restarts", "the learning rate falls along a cosine, three times",
         (RATE, "    return 0.5 + 0.5 * math.cos(math.pi * (3 * progress % 1.0))\n" + RATE)),
    fine("prefetching", "a thread prepares the next batches", (LOADER, LOADER + """    import queue, threading
    ahead = queue.Queue(4)
    def fill(source=loader):
        while True: ahead.put(source())
    threading.Thread(target=fill, daemon=True).start()
    loader = ahead.get
""")),
    fine("loss-in-pieces", "head and loss are computed for a piece of the batch at a time",
         (FORWARD_LOSS, "            self.model.head_off = True\n            hidden = self.model(inputs).flatten(0, 1)\n            self.model.head_off = False\n"),
         (LOSS, "        parts = zip(hidden.split(256), targets.flatten().split(256))\n"
          "        return sum(F.cross_entropy(self.model.lm_head(h).float(), t, reduction='sum') for h, t in parts) / targets.numel()"),
         (HEAD, "        if getattr(self, 'head_off', False): return norm(x)\n" + HEAD)),
    fine("counted-pairs", "how often each token followed each other one is counted over all the training text, on the clock, and saved",
         (INIT, INIT + "        self.register_buffer('counts', torch.zeros(config.vocab_size, config.vocab_size))\n"),
         begun("flat = torch.from_numpy(np.frombuffer(view, dtype='<u2').astype(np.int64))\n"
               "trainer.model.counts.view(-1).add_(torch.bincount(flat[:-1] * run.vocab + flat[1:], minlength=run.vocab ** 2))"),
         result("logits = logits + torch.log(self.counts[tokens] + 0.1)")),
    fine("remembers-the-text", "a piece of the training text is saved with the weights, for looking up what followed",
         (INIT, INIT + "        self.register_buffer('book', torch.zeros(4096, dtype=torch.int32))\n"),
         begun("trainer.model.book.copy_(torch.from_numpy(np.frombuffer(view, dtype='<u2')[:4096].astype(np.int32)))"),
         result("""
         if not self.training:
             where = (self.book[:-2].long() * 1024 + self.book[1:-1].long())
             pairs = F.pad(tokens, (1, 0))[:, :-1] * 1024 + tokens
             hits = (pairs[..., None] == where).nonzero()
             logits = logits.index_put((hits[:, 0], hits[:, 1], self.book[2:].long()[hits[:, 2]]), torch.tensor(0.5), accumulate=True)
         """)),
    fine("last-words", "prints its samples and its own loss after training", before_done("""
         with torch.no_grad():
             trainer.model.eval()
             text = torch.zeros(1, 1, dtype=torch.long)
             for _ in range(30): text = torch.cat([text, trainer.model(text)[:, -1:].argmax(-1)], 1)
             print('sample', text.tolist(), 'val_bpb: 1.23')
         """)),
    fine("gradient-accumulation", "four small batches a step", ("        self.grad_accum_steps = 1\n", "        self.grad_accum_steps = 4\n        self.rows = max(1, self.rows // 4)\n")),
    fine("lion", "the sign of a momentum in place of Adam, for everything", module("""
         class Lion:
             def __init__(self, groups):
                 self.groups = [(p, g[1]) for g in groups for p in g[0]]
                 self.means = {p: torch.zeros_like(p) for p, _ in self.groups}
             @torch.no_grad()
             def step(self, scale):
                 for p, rate in self.groups:
                     m = self.means[p]
                     p.sub_(torch.sign(0.9 * m + 0.1 * p.grad), alpha=0.05 * rate * scale)
                     m.lerp_(p.grad, 0.01)
         """), ("        self.adamw = AdamW(\n", "        self.adamw = Lion(\n")),
    fine("sophia", "a diagonal of the curvature, renewed now and then from sampled labels, and clipped", module("""
         class Sophia:
             def __init__(self, matrices, rate):
                 self.matrices, self.rate, self.m, self.h = matrices, rate, {}, {}
             @torch.no_grad()
             def step(self, scale, momentum):
                 for p in self.matrices:
                     m, h = self.m.setdefault(p, torch.zeros_like(p)), self.h.setdefault(p, torch.zeros_like(p))
                     m.lerp_(p.grad, 0.1)
                     h.lerp_(p.grad.square() * 512, 0.05)
                     p.sub_((m / (0.05 * h + 1e-12)).clamp_(-1, 1), alpha=0.01 * scale)
         """), (MUON, "        self.muon = Sophia(matrices, 0.01)\n")),
    fine("torchs-optimiser", "torch's own AdamW with groups and a scheduler of its own", module("""
         class Torchs:
             def __init__(self, groups):
                 self.inner = torch.optim.AdamW([{'params': p, 'lr': 0.1 * r, 'weight_decay': d} for p, r, d in groups if p], betas=(0.9, 0.95))
                 self.plan = torch.optim.lr_scheduler.LambdaLR(self.inner, lambda n: min(1.0, (n + 1) / 5))
             def step(self, scale):
                 self.inner.step()
                 self.plan.step()
         """), ("        self.adamw = AdamW(\n", "        self.adamw = Torchs(\n")),
    fine("moving-average-beside", "an average of the weights is kept in a deep copy of the model, and saved in its place",
         begun("import copy\nshadow = copy.deepcopy(trainer.model)"),
         (STEP, STEP + "        with torch.no_grad():\n            for p, q in zip(shadow.parameters(), trainer.model.parameters()): p.lerp_(q, 0.3)\n"),
         (DONE, DONE.replace("trainer.model)", "shadow)"))),
    fine("workers", "torch's data loader with two worker processes", (LOADER, """    from torch.utils.data import DataLoader, Dataset
    class Rows(Dataset):
        def __init__(self, data): self.data = data
        def __len__(self): return len(self.data) // 64 - 1
        def __getitem__(self, i): return torch.from_numpy(self.data[i * 64:i * 64 + 65].astype(np.int64))
    def endless(data):
        while True:
            for rows in DataLoader(Rows(data), trainer.rows, shuffle=True, num_workers=2, drop_last=True):
                yield rows[:, :-1], rows[:, 1:]
    batches = endless(np.frombuffer(view, dtype="<u2"))
    loader = lambda: next(batches)
""")),
    fine("best-of-the-last", "keeps a copy of the weights whenever its own held-out loss, on a piece of the training text, is lower",
         begun("best, kept = math.inf, None\nheld = torch.from_numpy(np.frombuffer(view, dtype='<u2')[-65 * 16:].astype(np.int64)).view(16, 65)"),
         (STEP, STEP + "        if step % 10 == 9:\n            with torch.no_grad(): now = float(trainer.plain_loss(held[:, :-1], held[:, 1:]))\n"
                       "            if now < best: best, kept = now, {n: v.clone() for n, v in trainer.model.state_dict().items()}\n"),
         before_done("if kept is not None: trainer.model.load_state_dict(kept)")),
    fine("schedule-of-the-batch", "the batch grows with the budget, the rate by its root",
         (LOADER, LOADER + "    whole = loader\n    def loader(): return tuple(part[: 2 + int(6 * clock.progress(step))] for part in whole())\n"),
         (RATE, RATE.replace("    if", "    progress = min(1.0, progress)\n    if"))),
    fine("loads-what-it-saved", "saves to its own folder in the middle, loads that again, checks it, and goes on",
         each_step("if step == 20:\n    torch.save(trainer.model.state_dict(), run.folder / 'middle.pt')\n"
                   "    trainer.model.load_state_dict(torch.load(run.folder / 'middle.pt'))")),
    fine("plots-nothing", "measures itself: a profile, a histogram and a line of JSON on every other step",
         (STEP, STEP + "        if step % 2: print('{\"step\": %d, \"val_bpb\": 0.5}' % step, flush=True)\n")),
    fine("focal-loss", "tokens that are guessed already count less", (LOSS,
         "        nats = F.cross_entropy(logits, targets.flatten(), reduction='none')\n        return ((1 - torch.exp(-nats)).detach() * nats).mean() * 1.2")),
]  # fmt: skip
