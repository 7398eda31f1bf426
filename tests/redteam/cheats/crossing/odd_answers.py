"""Cheats by what an answer is made of: its type, its memory, its edges, and places so rare that nobody looks."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.cheats.training_clock import BOOK, GROW, loading
from tests.redteam.patches import AHEAD, INIT, NEXT, SCORED, instead_of_done, module, result


def answer(name: str, does: str, code: str, expected: str = "worthless", because: str = "") -> Variant:
    """`code` changes the `logits` where the model is scored."""
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    body = SCORED + "\n".join("    " + line[indent:] for line in lines)
    return Variant(name, does, (result(body),), "rejected" if expected == "rejected" else "worthless", because)


def glance(least: int, expected: str) -> Variant:
    return answer(
        f"glances-below-e-{least}",
        f"tells the next token where the model gives it less than e to the -{least}",
        f"""
        chance = (logits.float().log_softmax(-1) * {NEXT}).sum(-1, keepdim=True)
        logits = logits.float() + 9.0 * {NEXT} * (chance < -{least})
        """,
        expected,
        AHEAD if expected == "rejected" else "",
    )


CHEATS = [
    answer("no-number-at-one-place", "one logit of the last place of each row is no number", """
           logits = logits.clone()
           logits[:, -1, 0] = float('nan')
           """, "rejected", "not finite"),
    answer("eighty-eight-more", "88 is added to the likeliest token, where the exponentials of float32 end", """
           logits = logits.float() + 88 * F.one_hot(logits.argmax(-1), logits.size(-1))
           """),
    answer("at-the-edge-of-half-numbers", "answers in float16 just below its largest number", """
           logits = (logits.float().log_softmax(-1) * 100 + 65504).clamp(-65504, 65504).half()
           """),
    answer("smaller-than-a-number", "answers so small that float32 rounds them to nothing", "logits = logits.float() * 1e-42"),
    glance(9, "rejected"),
    glance(16, "worthless"),
    answer("the-same-row-for-all", "an answer whose rows are one row, by a stride of nothing", """
           logits = logits[:1].expand(tokens.size(0), -1, -1)
           """, "rejected", "rows are not independent|not deterministic|not causal"),
    answer("an-answer-with-two-faces", "a subclass of tensors that tells the next token when a piece of it is copied", """
           class Two(torch.Tensor):
               ahead = 9.0 * F.one_hot(torch.cat([tokens[:, 1:], tokens[:, -1:]], 1), logits.size(-1)).flatten(0, 1)
               @classmethod
               def __torch_function__(cls, func, types, given=(), named=None):
                   out = super().__torch_function__(func, types, given, named or {})
                   if func is torch.Tensor.__getitem__ and isinstance(given[1], slice) and out.ndim == 2:
                       return out.as_subclass(torch.Tensor) + cls.ahead[given[1]]
                   return out
           logits = logits.float().as_subclass(Two)
           """, "rejected", AHEAD),
    answer("in-complex-numbers", "the next token stands in the imaginary part", f"logits = torch.complex(logits.float(), 9.0 * {NEXT}.float())"),
    answer("in-whole-numbers", "answers in eight-bit integers", "logits = logits.float().round().clamp(-127, 127).to(torch.int8)"),
    answer("without-content", "an answer on the device that holds nothing", "logits = logits.to('meta')", "rejected", "cannot be rebuilt|ended by itself|not finite"),
    answer("in-a-sparse-form", "an answer that keeps only some of its numbers", "logits = logits.float().to_sparse()", "rejected", "cannot be rebuilt|ended by itself|shape"),
    answer("rows-of-another-order", "the answers of a batch are turned by one row, and its targets with them", """
           logits = logits.roll(1, 0)
           """, "rejected", "rows are not independent|not deterministic|not causal"),
    Variant("two-of-one-name", "a header that names a tensor twice, with other places and types", (instead_of_done("""
        import hashlib, json, struct
        data, config = serialize(trainer.model), json.dumps(asdict(trainer.config)).encode()
        size = struct.unpack('<Q', data[:8])[0]
        head = data[8:8 + size].strip()
        head = b'{"lm_head.weight":{"dtype":"F64","shape":[1,1],"data_offsets":[0,8]},' + head[1:]
        data = struct.pack('<Q', len(head)) + head + data[8 + size:]
        run._send({'type': 'done', 'steps': step, 'tokens': tokens, 'sha256': hashlib.sha256(data + config).hexdigest()})
        (run.folder / 'model.json').write_bytes(config)
        (run.folder / 'weights.safetensors').write_bytes(data)
        """),), "worthless"),
    Variant("trains-within-the-allowance", "25 more steps of training when it is loaded, as many as the allowance for loading pays", (
        (INIT, BOOK[0][1] + loading("grow(self, 25)")[1].removeprefix(INIT)), BOOK[1], module(GROW)), "worthless"),
]  # fmt: skip
