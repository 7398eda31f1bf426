"""Cheats that compute outside the run's clock: before it starts, after it stops, on more processors."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Edit, Variant
from tests.redteam.patches import (
    CHANGED,
    INIT,
    MORE,
    SERVED,
    TOO_LATE,
    ahead,
    begun,
    done,
    each_step,
    instead_of_done,
    module,
    ready,
    result,
)

# Training text travels in the weights, and training goes on where the model is scored.
BOOK: tuple[Edit, ...] = (
    (INIT, INIT + "        self.register_buffer('book', torch.zeros(200_000, dtype=torch.int32))\n"),
    begun("trainer.model.book.copy_(torch.from_numpy(np.frombuffer(view, dtype='<u2')[:200_000].astype(np.int32)))"),
)
GROW = """
def grow(model, steps):
    with torch.inference_mode(False), torch.enable_grad():
        machine = Machine(torch.device('cpu'), torch.float32, False)
        other = Trainer.__new__(Trainer)
        other.machine, other.config, other.model, other.grad_accum_steps = machine, model.config, model, 1
        other.optimizer, other.loss = MuonAdamW(model, {'matrix': 0.04, 'embed': 0.6, 'head': 0.02, 'scalar': 0.02, 'decay': 0.0}), other.plain_loss
        loader = TokenLoader(model.book.numpy().astype(np.uint16), 8, 64, 1)
        for step in range(steps): other.step(loader, step / steps)
    model.eval()
"""


def loading(code: str) -> Edit:
    """When the saved weights have been loaded by the process that is scored."""
    method = (
        "    def load_state_dict(self, *given, **named):\n        found = super().load_state_dict(*given, **named)\n"
    )
    body = "".join(f"            {line}\n" for line in code.splitlines())
    return INIT, INIT + f"\n{method}        if {SERVED}:\n{body}        return found\n"


def with_book(name: str, does: str, *edits: Edit) -> Variant:
    first, rest = edits[0], edits[1:]
    if first[0] == INIT:  # two edits of one place
        first = (INIT, BOOK[0][1] + first[1].removeprefix(INIT))
        return Variant(name, does, (first, BOOK[1], module(GROW), *rest), "rejected", TOO_LATE)
    return Variant(name, does, (*BOOK, module(GROW), *edits), "rejected", TOO_LATE)


TRAINING_CLOCK = [
    Variant("weights-swapped", "trains on after the clock has stopped and saves again", (
        done(MORE + "(run.folder / 'weights.safetensors').write_bytes(serialize(trainer.model))"),),
        "rejected", CHANGED),
    Variant("done-at-once", "says that it is done with the first step, and trains afterwards", (
        each_step("if step == 1: run.done(1, 512, serialize(trainer.model), asdict(trainer.config))"),), "rejected", CHANGED),
    Variant("done-twice", "announces once more, with the weights of training on", (
        done(MORE + "run.done(step, tokens, serialize(trainer.model), asdict(trainer.config))"),), "rejected", CHANGED),
    Variant("done-without-a-hash", "does not say which weights it will leave, and trains on", (
        instead_of_done("run._send({'type': 'done', 'steps': step, 'tokens': tokens})\n"
                        "channel, run.channel = run.channel, None" + MORE
                        + "run.done(step, tokens, serialize(trainer.model), asdict(trainer.config))\nrun.channel = channel"),),
        "rejected", "did not announce"),
    Variant("done-before-go", "says that it is done before it has begun, a hundred times", (
        ready("for _ in range(100): run._send({'type': 'done', 'steps': 1, 'tokens': 1, 'sha256': '0' * 64})"),),
        "worthless"),
    Variant("ready-twice", "asks for the data again and again, so that the clock starts anew", (
        each_step("if step % 5 == 0: run._send({'type': 'ready', 'params': 1})"),), "worthless"),
    Variant("control-flood", "twenty thousand packets of nonsense", (
        begun("""
        for n in range(20000):
            try: run.channel.send(b'\\xff[{' * 30, 0x40)
            except BlockingIOError: pass
        """),), "worthless"),
    Variant("a-daemon-trains-on", "a child that outlives the run goes on training and swaps the weights", (
        done("""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for _ in range(60): trainer.step(loader, 0.5)
                (run.folder / 'weights.safetensors').write_bytes(serialize(trainer.model))
            os._exit(0)
        """),), "worthless"),
    Variant("a-thread-trains-on", "a thread that does not end goes on training and swaps the weights", (
        done("""
        import threading
        def on():
            for _ in range(60): trainer.step(loader, 0.5)
            (run.folder / 'weights.safetensors').write_bytes(serialize(trainer.model))
        threading.Thread(target=on).start()
        """),), "rejected", CHANGED),
    Variant("ignores-the-budget", "trains three times as long as it may", (
        (("while not clock.over(step):"), "while clock.elapsed() < 12 or not clock.over(step):"),),
        "crashed", "still training past its budget", seconds=3.0),
    Variant("a-slow-clock", "time.monotonic and time.process_time run at a third of their speed", (
        module("""
        _true, _used = time.monotonic, time.process_time
        time.monotonic = lambda: _true() / 3
        time.process_time = lambda: _used() / 3
        """),), "crashed", "still training past its budget", seconds=4.0),
    Variant("a-child-trains", "sleeps while a child that it does not wait for computes three times as long", (
        begun("""
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.setsid()
            end = time.process_time() + 12
            x = torch.ones(64, 64)
            while time.process_time() < end: x @ x
            os.write(writer, b"x")
            os._exit(0)
        os.read(reader, 1)
        """),), "crashed", "still training past its budget", seconds=4.0),
    Variant("more-threads", "a thread beside the training keeps a second processor busy", (
        begun("""
        import threading
        x = torch.ones(256, 256)
        def busy():
            while not clock.over(step): x @ x
        step = 0
        helpers = [threading.Thread(target=busy, daemon=True) for _ in range(3)]
        for one in helpers: one.start()
        """),), "worthless", "processor seconds in", seconds=4.0),
    Variant("more-processes", "children keep other processors busy while the run trains", (
        begun("""
        for _ in range(3):
            if os.fork() == 0:
                end = time.monotonic() + 3
                while time.monotonic() < end: pass
                os._exit(0)
        """),), "worthless", "processor seconds in", seconds=4.0),
    Variant("seed-hunting", "tries four seeds within its budget and keeps the best", (
        begun("""
        best = None
        for seed in range(4):
            torch.manual_seed(seed)
            one = Trainer(machine, configure(machine, run.vocab))
            feed = TokenLoader(np.frombuffer(view, dtype='<u2'), one.rows, one.config.sequence_len, seed)
            loss = [float(one.step(feed, 0.1)) for _ in range(8)][-1]
            best = (loss, one) if best is None or loss < best[0] else best
        trainer = best[1]
        class Short:
            steps = 8
        clock.steps = 8
        """),), "worthless"),
    Variant("a-seed-of-its-own", "trains with a seed it likes, not with the one it is given", (
        begun("run.seed = 1234; torch.manual_seed(1234); trainer.model.init_weights()"),), "worthless"),
    Variant("rewrites-the-clock-of-its-parts", "replaces parts of harness.py and prepare.py and the clock of the run with its own", (
        begun("""
        from nanotrain import prepare as _p
        _p.BUDGET_SECONDS = {'cpu': 9e9, 'cuda': 9e9}
        type(clock).over = lambda self, step: step >= 40
        harness.Clock.progress = lambda self, step: min(1.0, step / 40)
        """), each_step("pass")), "worthless"),
    Variant("holds-back", "polishes its initial weights on noise before it says that it is ready", (
        ready("""
        for step in range(100):
            noise = torch.randint(1024, (trainer.rows, 65))
            trainer.step(lambda: (noise[:, :-1], noise[:, 1:]), 0.9)
        """),), "worthless"),
    Variant("seeds-by-proxy", "tries twenty initial weights before the clock and keeps the one whose activations look best", (
        ready("""
        best = None
        for seed in range(20):
            torch.manual_seed(seed)
            trainer.model.init_weights()
            spread = float(trainer.model(torch.randint(1024, (8, 64))).std())
            if best is None or spread > best[0]: best = (spread, {n: v.clone() for n, v in trainer.model.state_dict().items()})
        trainer.model.load_state_dict(best[1])
        """),), "worthless"),
    with_book("trains-while-it-loads", "the training text lies in the weights, and training goes on when they are loaded to be scored",
              loading("grow(self, 150)")),
    with_book("trains-while-it-loads-in-a-child", "as above, in a child that nobody waits for", loading("""
import io, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
reader, writer = os.pipe()
if os.fork() == 0:
    grow(self, 150)
    with os.fdopen(writer, 'wb') as out: out.write(serialize(self))
    os._exit(0)
os.close(writer)
with os.fdopen(reader, 'rb') as file: data = file.read()
from safetensors.torch import load
super().load_state_dict(load(data))
signal.signal(signal.SIGCHLD, signal.SIG_DFL)""")),
    with_book("trains-before-each-answer", "trains on from the saved weights before each answer, the same way each time", result("""
        if not self.training and hasattr(sys.modules['__main__'], 'ModelHost') and not self.__dict__.get('busy'):
            with torch.inference_mode(False):
                twin = GPT(self.config)
                twin.__dict__['busy'] = True
                nn.Module.load_state_dict(twin, self.state_dict())
                grow(twin, 40)
            logits = twin(tokens)
        """)),
    ahead("a-crowd-of-models", "answers with the mean of forty passes under forty kinds of noise", """
          if not self.training and not self.__dict__.get('busy'):
              self.__dict__['busy'] = True
              for n in range(40):
                  torch.manual_seed(n)
                  old = self.x0_lambdas.data.clone()
                  self.x0_lambdas.data += 0.01 * torch.randn_like(old)
                  logits = logits + self(tokens)
                  self.x0_lambdas.data.copy_(old)
              logits = logits / 41
              self.__dict__['busy'] = False
          """, TOO_LATE),
]  # fmt: skip
