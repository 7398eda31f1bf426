"""Places in train.py where variants put their code, the edits that put it there, and the common kinds of variant."""

from __future__ import annotations

import textwrap

from tests.redteam.arena import Edit, Variant

IMPORTED = "from nanotrain.corpus import PrepareError\n"
BUILD = "    known = {field.name for field in fields(GPTConfig)}\n"
FORWARD = "        length = tokens.size(1)\n        cos, sin ="
RESULT = "torch.tanh(logits.float() / self.config.softcap)\n        return logits\n"
READY = "    clock, view = run.ready(params)\n"
DONE = "    run.done(step, tokens, serialize(trainer.model), asdict(trainer.config))\n"
FULL = "y = F.scaled_dot_product_attention(q, k, v, is_causal=True)"
STEP = "        since.append(trainer.step(loader, clock.progress(step)))\n"
BLOCK = "            x = block(x, ve, cos, sin, mask)\n"
NEXT = "F.one_hot(torch.cat([tokens[:, 1:], tokens[:, -1:]], 1), self.config.vocab_size)"  # the very next token
SERVED = "hasattr(sys.modules['__main__'], 'ModelHost')"  # true in the processes that are scored
EMBED = "x = x0 = norm(self.embed(tokens))"
MLP_OUT = "self.c_proj(F.relu(self.c_fc(x)).square())"
LOSS = "        return InPlaceCrossEntropy.apply(logits, targets.flatten())"
INIT = "        self.init_weights()\n"
HEAD = "        logits: torch.Tensor = self.lm_head(norm(x))"
RATE = "    if progress < WARMUP:\n"
BLOCKS = "        self.blocks = nn.ModuleList([Block(config, i) for i in range(config.n_layer)])\n"
MUON = "        self.muon = Muon(matrices, rates)\n"
LOADER = '    loader = trainer.loader(np.frombuffer(view, dtype="<u2"), run.seed)\n'
BUILT = "    return GPT(GPTConfig(**{name: value for name, value in config.items() if name in known}))\n"
FORWARD_LOSS = "            logits = self.model(inputs).float().flatten(0, 1)\n"
RETURN = "        return logits\n\n\n# ====="
# Goes on training when the clock has stopped: `loader` and `trainer` are at hand.
MORE = """
for _ in range(60):
    trainer.step(loader, 0.5)
"""
SCORED = "if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'):\n"

# Reasons of rejection.
AHEAD = "not causal"
CHANGED = "the weights were changed after the clock had stopped"
TOO_LATE = "learned on the run's clock"


def _code(code: str, indent: int) -> str:
    return textwrap.indent(textwrap.dedent(code).strip("\n") + "\n", " " * indent)


def module(code: str) -> Edit:
    """At the top of the module: runs in the run and in the processes that are scored."""
    return IMPORTED, IMPORTED + "\n" + _code(code, 0)


def built(code: str) -> Edit:
    """At the beginning of build_model(config)."""
    return BUILD, _code(code, 4) + BUILD


def result(code: str) -> Edit:
    """On the `logits` (B, T, V) of the model, with `tokens` at hand, before they are returned."""
    return RESULT, RESULT.replace("        return logits\n", _code(code, 8) + "        return logits\n")


def ready(code: str) -> Edit:
    """Just before the run asks for its data."""
    return READY, _code(code, 4) + READY


def begun(code: str) -> Edit:
    """Just after the data have come."""
    return READY, READY + _code(code, 4)


def before_done(code: str) -> Edit:
    """When training has ended and before the run says so."""
    return DONE, _code(code, 4) + DONE


def done(code: str) -> Edit:
    """After the weights were announced and saved."""
    return DONE, DONE + _code(code, 4)


def instead_of_done(code: str) -> Edit:
    return DONE, _code(code, 4)


def each_step(code: str) -> Edit:
    return STEP, _code(code, 8) + STEP


def setting(name: str, old: str, new: str) -> Edit:
    """A constant of act 1."""
    return f"\n{name} = {old}", f"\n{name} = {new}"


def attempts(*lines: str) -> Edit:
    """Each expression is tried in the run; what it yields counts as stolen."""
    code = "\n".join(
        f"try:\n    print('STOLEN', repr({line})[:60])\nexcept Exception as e:\n    print('no', e)" for line in lines
    )
    return begun(code)


def ahead(name: str, does: str, code: str, because: str = AHEAD) -> Variant:
    return Variant(name, does, (result(code),), "rejected", because)


def fine(name: str, does: str, *edits: Edit, seconds: float | None = None) -> Variant:
    return Variant(name, does, edits, "scored", seconds=seconds)
