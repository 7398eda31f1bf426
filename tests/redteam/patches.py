"""Places in train.py where variants put their code, and how they put it there."""

from __future__ import annotations

import textwrap

from tests.redteam.arena import Edit

IMPORTED = "from nanotrain.corpus import PrepareError\n"
BUILD = "    known = {field.name for field in fields(GPTConfig)}\n"
FORWARD = "        length = tokens.size(1)\n        cos, sin ="
RESULT = "torch.tanh(logits.float() / self.config.softcap)\n        return logits\n"
READY = "    clock, view = run.ready(params)\n"
DONE = "    run.done(step, tokens, serialize(trainer.model), asdict(trainer.config))\n"
FULL = "y = F.scaled_dot_product_attention(q, k, v, is_causal=True)"
STEP = "        loss = trainer.step(loader, clock.progress(step))\n"
BLOCK = "            x = block(x, ve, cos, sin, mask)\n"
RETURN = "        return logits\n\n\n# ====="


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
