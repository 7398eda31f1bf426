"""Honest ways to mix the positions of a row: attention kernels, recurrences and memories written by hand."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.patches import BLOCK, EMBED, FULL, HEAD, INIT, MLP_OUT, fine

FAR = "far = ~torch.ones(length, length, dtype=torch.bool, device=x.device).tril()\n            "
WEIGHTS = "s = q @ k.mT / q.size(-1) ** 0.5\n            "

SEQUENCES = [
    fine("attention-in-blocks", "attention over blocks of 16 keys with a running maximum and sum, as in FlashAttention", (FULL, FAR + WEIGHTS + """
            top, mass, y = s.new_full((*s.shape[:3], 1), float('-inf')), 0.0, 0.0
            for a in range(0, length, 16):
                part = s[..., a:a + 16].masked_fill(far[:, a:a + 16], -1e9)
                new = torch.maximum(top, part.amax(-1, keepdim=True))
                w, old = (part - new).exp(), (top - new).exp()
                top, mass, y = new, mass * old + w.sum(-1, keepdim=True), y * old + w @ v[..., a:a + 16, :]
            y = (y / mass).to(v.dtype)""".strip())),
    fine("attention-by-hand", "softmax attention with a gradient of its own, and the keys sorted into pages", (FULL, FAR + WEIGHTS +
         "p = torch.softmax(s.masked_fill(far, -1e30).float(), -1)\n"
         "            order = torch.randperm(length, generator=torch.Generator().manual_seed(length))\n"
         "            y = (p[..., order] @ v[..., order, :].float()).to(v.dtype)")),
    fine("sinks-and-a-window", "a window of 16 tokens and the row's first four, for every position", (FULL, FAR +
         "at = torch.arange(length, device=x.device)\n"
         "            seen = ~far & ((at[:, None] - at < 16) | (at < 4))\n"
         "            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)")),
    fine("sigmoid-attention", "a sigmoid in place of the softmax", (FULL, FAR + WEIGHTS +
         "y = torch.sigmoid(s - math.log(length)).masked_fill(far, 0.0) @ v")),
    fine("differential-attention", "the difference of two attention maps", (FULL, FAR +
         "one, two = (((a @ b.mT) / 4).masked_fill(far, float('-inf')).softmax(-1) for a, b in zip(q.chunk(2, -1), k.chunk(2, -1)))\n"
         "            y = (one - 0.3 * two) @ v")),
    fine("sparse-attention", "each position attends to its eight best keys only", (FULL, FAR + WEIGHTS +
         "s = s.masked_fill(far, float('-inf'))\n"
         "            least = s.topk(min(8, length)).values[..., -1:]\n"
         "            y = s.masked_fill(s < least, float('-inf')).softmax(-1) @ v")),
    fine("keys-compressed", "keys and values are rounded to eight bits by position and channel, as a cache would keep them", (FULL,
         "k, v = (((z / (z.abs().amax(-1, keepdim=True) + 1e-6) * 127).round() / 127 * z.abs().amax(-1, keepdim=True) - z).detach() + z for z in (k, v))\n            " + FULL)),
    fine("nested-rows", "rows go through the MLP as a nested tensor where it is scored", (MLP_OUT,
         "self.c_proj(F.gelu(self.c_fc(x)) if self.training else torch.nested.to_padded_tensor(F.gelu(self.c_fc(torch.nested.nested_tensor(list(x)))), 0.0))")),
    fine("selective-scan", "a state that decays by what is read, position after position, in Python",
         (INIT, INIT + "        self.gates = nn.Linear(config.n_embd, 2 * config.n_embd)\n"),
         (HEAD, """
        decay, write = self.gates(norm(x)).chunk(2, -1)
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(length):
            state = torch.sigmoid(decay[:, t] + 2) * state + torch.tanh(write[:, t])
            states.append(state)
        x = x + 0.3 * torch.stack(states, 1)
""".lstrip("\n") + HEAD)),
    fine("selective-scan-in-logs", "the same by sums of logarithms, which rounds otherwise in every place",
         (INIT, INIT + "        self.gates = nn.Linear(config.n_embd, 2 * config.n_embd)\n"),
         (HEAD, """
        decay, write = self.gates(norm(x)).double().chunk(2, -1)
        falls = F.logsigmoid(decay + 2).cumsum(1)
        x = x + 0.3 * (falls.exp() * (torch.tanh(write) * (-falls).exp()).cumsum(1)).float()
""".lstrip("\n") + HEAD)),
    fine("delta-rule", "a matrix of fast weights for each row that every position corrects", (FULL,
         "b, h, _, d = q.shape\n            memory, said = q.new_zeros(b, h, d, d), []\n            keys = F.normalize(k, dim=-1)\n"
         "            for t in range(length):\n                key, value = keys[:, :, t, :, None], v[:, :, t, None, :]\n"
         "                memory = memory + 0.5 * key @ (value - key.mT @ memory)\n                said.append(q[:, :, t, None, :] @ memory)\n"
         "            y = torch.cat(said, 2)")),
    fine("time-mixing", "weights that fall with the distance by a learned rate for each channel, as in RWKV",
         (INIT, INIT + "        self.falls = nn.Parameter(torch.linspace(-1, 1, config.n_embd))\n"),
         (EMBED, "e = self.embed(tokens)\n        at = torch.arange(length, device=e.device)\n"
          "        w = torch.exp(-(at[:, None] - at).clamp_min(0)[..., None] * F.softplus(self.falls)) * (at[:, None] >= at)[..., None]\n"
          "        x = x0 = norm(torch.einsum('tsc,bsc->btc', w / w.sum(1, keepdim=True), e) + e)")),
    fine("two-scales", "a second, coarser stream: means of four tokens, as far as they are complete",
         (EMBED, "e = self.embed(tokens)\n        whole = F.pad(e, (0, 0, 0, -length % 4)).view(len(e), -1, 4, e.size(-1)).mean(2)\n"
          "        coarse = F.pad(whole, (0, 0, 1, 0)).repeat_interleave(4, 1)[:, 1:length + 1]\n        x = x0 = norm(e + 0.5 * coarse)")),
    fine("product-keys", "a memory of 1,024 values, of which a position reads the best four by two halves of its key",
         (INIT, INIT + "        self.halves = nn.Parameter(torch.randn(2, 32, config.n_embd // 2))\n        self.values = nn.Parameter(0.02 * torch.randn(1024, config.n_embd))\n"),
         (HEAD, """
        one, two = (z @ half.mT for z, half in zip(norm(x).chunk(2, -1), self.halves))
        best = (one[..., :, None] + two[..., None, :]).flatten(-2).topk(4)
        x = x + (best.values.softmax(-1)[..., None] * self.values[best.indices]).sum(-2)
""".lstrip("\n") + HEAD)),
    fine("experts-of-two", "each position takes the best two of eight experts, which run over the positions that chose them only",
         (INIT, INIT + "        self.router = nn.Linear(config.n_embd, 8, bias=False)\n        self.experts = nn.Parameter(0.05 * torch.randn(8, config.n_embd, config.n_embd))\n"),
         (HEAD, """
        weights, chosen = self.router(norm(x)).softmax(-1).topk(2)
        flat, out = norm(x).flatten(0, 1), torch.zeros_like(x).flatten(0, 1)
        for n, expert in enumerate(self.experts):
            where, which = (chosen.flatten(0, 1) == n).nonzero(as_tuple=True)
            out = out.index_add(0, where, (weights.flatten(0, 1)[where, which, None] * F.gelu(flat[where] @ expert)).to(out.dtype)) + 0 * expert.sum()
        x = x + out.view_as(x)
""".lstrip("\n") + HEAD)),
    fine("thinks-longer", "the last block is run again until its output moves little, at most four times, position by position",
         (BLOCK, BLOCK + """            for _ in range(3 * (i == len(self.blocks) - 1)):
                y = norm(block(x, ve, cos, sin, mask))
                x = torch.where((y - norm(x)).norm(dim=-1, keepdim=True) > 0.5, y, x)
""")),
    fine("periodic-activation", "sines in the MLP, which turn small differences into larger ones",
         (MLP_OUT, "self.c_proj(torch.sin(3 * self.c_fc(x)) + F.relu(self.c_fc(x)).square())")),
]  # fmt: skip
