"""The numbers that the control finds in the code that people write, and its edits of them."""

from __future__ import annotations

import json

import pytest
import tomli

from core.edits.apply import apply_edits
from core.edits.python_syntax import parsed
from core.record.errors import ResearcherMisconfigured
from core.research.control.constants import check_tunable, edits_for, find_constants, rounded

OPTIONS = """\
import argparse
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-l", "--learning-rate", type=float, default=5e-4, help="step size")
    parser.add_argument("--hidden", default=64)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=3407)
    parser.add_argument("--name", default="x")
    parser.add_argument("--bias", action="store_true", default=False)
"""
FIELDS = """\
from dataclasses import dataclass, field
from enum import Enum
class Color(Enum):
    RED = 3
@dataclass
class Config:
    lr: float = 0.1
    layers: int = field(default=4)
    betas: tuple = (0.9, 0.95)
    seed: int = 1
"""
STATE = """\
learning_rate = 6e-4  # max learning rate
max_iters = 600000
eval_interval = 2000
best_val_loss = 1e9
depth = 3
width: int = 48
while True:
    depth += 1
def scale():
    global width
    width = 2
local = 5
def f():
    local = 6
"""


@pytest.mark.parametrize(
    ("path", "text", "keys"),
    [
        ("train.py", STATE, ["learning_rate", "local"]),
        ("train.py", "if __name__ == '__main__':\n    rate = 0.1\n", ["rate"]),
        ("train.py", "def main():\n    rate = 0.1\n    n = 1\n    n += 1\n", ["rate"]),
        ("train.py", "params = {'lr': 0.1, 'tree': {'num_leaves': 31}, 'metric': 'l2'}\n",
         ["params.lr", "tree.num_leaves"]),
        ("train.py", "fit({'lr': 0.1}, dict(depth=3), verbose=2)\n", ["lr", "depth"]),
        ("train.py", "zoo = {'s': {'n': 3}, 'm': {'n': 4}, 'l': {'n': 5}}\nRATE = 0.1\n", ["RATE"]),
        ("train.py", "opt = SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)\n",
         ["SGD.lr", "SGD.momentum"]),
        ("train.py", "c.learning_rate = 3e-4\nself.width = 3\n", ["c.learning_rate"]),
        ("train.py", OPTIONS, ["learning-rate", "hidden", "bias"]),
        ("train.py", "flags.DEFINE_float('lr', 0.1, 'rate')\n", ["lr"]),
        ("train.py", "@click.option('--lr', default=0.1)\ndef main(lr): ...\n", ["lr"]),
        ("train.py", FIELDS, ["Config.lr", "Config.layers", "Config.betas[0]", "Config.betas[1]"]),
        ("train.py", "LR = 0.1\nclass C:\n    lr: float = 0.5\n    wd: float = 0.1\n", ["LR", "C.wd"]),
        ("train.py", "\ufeffLR = 0.1\nWD = 0.2\n", ["LR", "WD"]),
        ("train.py", "LR = 0.1\r\nwd = 0.2  # decay\r\n", ["LR", "wd"]),
        # Python 2, and a version to come: lines are read
        ("train.py", "print 'hello'\nLR = 0.1  # step\nopts = {'depth': 3, 'name': 'x'}\n", ["LR", "depth"]),
        ("train.py", "\ufefflr: float = 0.1\nmatch! x:\n    pass\nclass C:\n    wd: float = 0.2\n", ["lr", "wd"]),
        ("train.py", "print 1\np.add_argument('--lr', type=float, default=0.1)\n", ["lr"]),
        ("c.yaml", "# lr: 3\nmodel:\n  depth: 3  # blocks\n  bias: false\nopt: {lr: 1e-3, name: adam}\nseed: 4\n",
         ["model.depth", "model.bias", "lr"]),
        ("c.yml", "a:\n  lr: 0.1\nb:\n- lr: 0.2\n  rate: 0.3\n", ["a.lr", "b.lr", "b.rate"]),
        ("c.json", json.dumps({"lr": 0.1, "opt": {"depth": 3}, "name": "lr: 3"}, indent=2), ["lr", "opt.depth"]),
        ("c.json", json.dumps({"lr": 0.1, "depth": 3, "on": True}), ["lr", "depth", "on"]),
        ("c.toml", "lr = 0.1  # step\nname = 'x'\n[model]\ndepth = 3\nbig = 10_000\n",
         ["lr", "model.depth", "model.big"]),
        ("c.ini", "[train]\nrate = 0.5 ; half\n; depth = 4\n", ["train.rate"]),
        ("bench.c", "#define BLOCK_BYTES 4096\n#define WAYS 8 /* of the cache */\nstatic const double decay = 0.5f;\n",
         ["WAYS", "decay"]),
        ("bench.js", "const maxDepth = 5; // levels\nlet i = 3;\n", ["maxDepth"]),
        ("lib.rs", "pub const FANOUT: usize = 12;\n", ["FANOUT"]),
        ("notes.txt", "LR = 0.1\n", []),
    ],
)  # fmt: skip
def test_numbers_that_people_write(path: str, text: str, keys: list[str]) -> None:
    found = find_constants({path: text})
    assert sorted(found) == sorted(keys)
    lines = text.split("\n")
    for constant in found.values():
        assert lines[constant.line - 1][constant.start : constant.end] == constant.source
        value = not constant.value if isinstance(constant.value, bool) else rounded(constant, constant.value * 2)
        new = apply_edits({path: text}, edits_for({path: text}, found, {constant.key: value}), may_edit=lambda _: True)
        assert find_constants(new)[constant.key].value == value
        assert new[path].startswith("\ufeff") == text.startswith("\ufeff")
        assert new[path].count("\r\n") == text.count("\r\n")
        changed = [pair for pair in zip(lines, new[path].split("\n"), strict=True) if pair[0] != pair[1]]
        assert len(changed) == 1


def test_written_values_are_read_as_the_same_value_by_other_readers() -> None:
    files = {"c.json": '{"lr": 0.1, "on": false}', "c.toml": "rate = 1\ngain = 0.1\n", "c.yaml": "decay: 0.1\n"}
    found = find_constants(files)
    new = {"lr": 1e-5, "on": True, "rate": 3, "gain": 2e-6, "decay": 2e-5}
    texts = apply_edits(files, edits_for(files, found, new), may_edit=lambda _: True)
    assert json.loads(texts["c.json"]) == {"lr": 1e-5, "on": True}
    assert tomli.loads(texts["c.toml"]) == {"rate": 3, "gain": 2e-6}
    assert texts["c.yaml"] == "decay: 2.0e-05\n"  # YAML 1.1 takes 2e-05 for a text


def test_what_the_command_sets_is_not_turned() -> None:
    assert set(find_constants({"train.py": OPTIONS}, command="python train.py --learning-rate=0.1 --bias")) == {
        "hidden"
    }
    with pytest.raises(ResearcherMisconfigured) as caught:
        check_tunable({"train.py": "lr = 0.1\n"}, command="python train.py --lr 0.2")
    assert caught.value.where == "train.py"


def test_a_byte_order_mark_is_no_part_of_the_code() -> None:
    assert parsed("\ufeffx = 1\n").body and find_constants({"a.py": "\ufeffLR = 0.1\n"})["LR"].start == 6
