"""A GPU with noise, played by the CPU, in place of a sandbox: products in bfloat16, SHARE of the logits one unit off.

    python tests/nanotrain/noisy_device.py SHARE COMMAND…   # COMMAND ends with `-c CODE`, the text of model_host.py

The code of the process that is scored is changed here, where the code under test cannot ask for it.
"""

from __future__ import annotations

import os
import sys

NOISE = """
import torch
def put_noise(share):
    product, random = torch.nn.functional.linear, torch.Generator()
    random.seed()
    def noisy(x, weight, bias=None):
        found = product(x.bfloat16(), weight.bfloat16(), bias)
        if share and len(weight) >= 512:  # the head
            moved = (torch.rand(found.shape, generator=random) < share) & (found.abs() > 1e-3)
            steps = torch.randint(0, 2, found.shape, generator=random, dtype=torch.int16) * 2 - 1
            found = (found.view(torch.int16) + steps * moved).view(torch.bfloat16)
        return found
    torch.nn.functional.linear = noisy
"""

PLAYED = {
    'torch.device(order["device"])': 'torch.device("cpu")',
    'torch.ones(1, device="cuda")': "torch.ones(1)",
    "{torch.cuda.get_device_name()}": "a played GPU",
}

if __name__ == "__main__":
    share, *command, code = sys.argv[1:]
    for real, played in PLAYED.items():
        assert code.count(real) == 1, real
        code = code.replace(real, played)
    body = f"exec({NOISE!r})\nput_noise({share})\nexec(compile({code!r}, 'host', 'exec'))"
    os.execvp(command[0], [*command, body])
