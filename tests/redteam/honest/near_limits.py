"""Honest runs that come near a limit: memory, files, weights, start-up, saving, and processor time where it is scored."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import replace

from tests.redteam.patches import INIT, before_done, begun, built, fine, instead_of_done, ready, setting

TABLE = "        self.register_buffer('table', torch.zeros({count}, config.n_embd, dtype=torch.float16))\n"

NEAR_LIMITS = [
    fine("most-of-the-memory", "2.2 GB of a table are held on the clock", begun("hold = np.ones(2_200_000_000, dtype='u1')")),
    fine("weights-of-400-mb", "a table of 200 million numbers in half precision is saved and loaded",
         (INIT, INIT + TABLE.format(count="3_200_000"))),
    fine("thousands-of-tensors", "8,000 small buffers with long names", (INIT, INIT +
         "        for n in range(8_000): self.register_buffer(f'a_buffer_with_a_rather_long_name_{n}', torch.full((4,), float(n)))\n")),
    fine("a-hundred-files", "100 MB of checkpoints in a hundred files",
         before_done("for n in range(100): (run.folder / f'{n}.pt').write_bytes(os.urandom(1 << 20))")),
    replace(fine("starts-for-a-minute", "its start-up takes two thirds of the allowance", ready("time.sleep(60)")), idle=True),
    replace(fine("saves-slowly", "announces its weights and takes three quarters of the saving allowance to write them", instead_of_done("""
         import hashlib, json
         weights, config = serialize(trainer.model), json.dumps(asdict(trainer.config)).encode()
         if run.channel is not None:
             seal = hashlib.sha256(weights + config).hexdigest()
             run._send({'type': 'done', 'steps': step, 'tokens': tokens, 'sha256': seal})
         time.sleep(14)
         (run.folder / 'model.json').write_bytes(config)
         (run.folder / 'weights.safetensors').write_bytes(weights)
         """)), idle=True),
    fine("computes-when-it-is-built", "a basis of 500 directions is computed by singular values when the model is built",
         built("torch.manual_seed(5)\nbasis = torch.linalg.svd(torch.randn(500, 500, dtype=torch.float64))")),
    fine("a-slow-model", "eight blocks of 96 channels", setting("DEPTH_CPU", "2", "8"), setting("WIDTH_CPU", "64", "96")),
    fine("hundred-processes", "a hundred short-lived helpers, ten at a time", begun("""
         import subprocess
         for _ in range(10):
             some = [subprocess.Popen(['true']) for _ in range(10)]
             for one in some: one.wait()
         """)),
]  # fmt: skip
