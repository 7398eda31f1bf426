"""Cheats by somebody who has read the scorer: in its arithmetic, its processes, its patience, and what it leaves alone."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

import base64
import random
import textwrap

from tests.redteam.arena import Edit, Variant
from tests.redteam.looking import AHEAD, NEXT, ahead
from tests.redteam.patches import before_done, begun, built, done, each_step, module, ready, result
from tests.redteam.tampering import CHANGED, MORE, SERVED

INIT = "        self.init_weights()\n"
CLOCK = "learned on the run's clock"
TABLE = random.Random(7).randbytes(6000)
SCORED = "if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'):\n"

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
        return Variant(name, does, (first, BOOK[1], module(GROW), *rest), "rejected", CLOCK)
    return Variant(name, does, (*BOOK, module(GROW), *edits), "rejected", CLOCK)


ARITHMETIC = [
    Variant("all-tokens-certain", "every logit is 1e17, beside which the normaliser's nats vanish in a double",
            (result("if not self.training: logits = torch.full_like(logits.float(), 1e17)"),), "worthless"),
    Variant("all-tokens-certain-by-the-largest-float", "every logit is the largest float32",
            (result("if not self.training: logits = torch.full_like(logits.float(), 3.4e38)"),), "worthless"),
    Variant("half-of-the-tokens-certain", "1e20 for the likelier half of the tokens, its negative for the others", (result("""
        if not self.training:
            best = logits.float() > logits.float().median(-1, keepdim=True).values
            logits = torch.where(best, 1e20, -1e20)
        """),), "worthless"),
    Variant("logits-of-whole-numbers", "integers, so that float() is the scorer's own rounding",
            (result("if not self.training: logits = (logits * 1000).long()"),), "worthless"),
    Variant("logits-complex", "complex logits, whose imaginary part holds the next token",
            (result(f"if not self.training: logits = torch.complex(logits.float(), 9.0 * {NEXT}.float())"),), "worthless"),
    ahead("a-tensor-with-a-mind", "a tensor subclass that answers float(), softmax and argmax with the next token", f"""
          if not self.training:
              class Sly(torch.Tensor):
                  @classmethod
                  def __torch_function__(cls, function, types, args=(), kwargs=None):
                      with torch._C.DisableTorchFunctionSubclass():
                          if getattr(function, '__name__', '') in ('float', 'log_softmax', 'argmax'): return args[0].leak.float()
                          return function(*args, **(kwargs or {{}}))
              sly = logits.as_subclass(Sly)
              sly.leak = logits + 9.0 * {NEXT}
              logits = sly
          """),
    ahead("read-twice", "an object whose float() gives other values each time it is read", f"""
          if not self.training:
              class Lazy:
                  times = 0
                  def float(self):
                      Lazy.times += 1
                      return honest.float() + (leak if Lazy.times % 3 else 0.0)
              honest, leak, logits = logits, 9.0 * {NEXT}, Lazy()
          """, "not causal|not deterministic"),
    ahead("moved-under-the-readers-hand", "a thread writes the next tokens into the logits after they were returned", f"""
          if not self.training:
              import threading
              leak, logits = 9.0 * {NEXT}, logits.float().contiguous()
              def late():
                  with torch.inference_mode(): logits.add_(leak)
              threading.Timer(0.0005, late).start()
          """, "not causal|not deterministic|not independent"),
]  # fmt: skip

AFTER_THE_CLOCK = [
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
          """, CLOCK),
    Variant("weights-in-links", "better weights, trained after the clock, are written as the targets of links in the worktree", (
        done(MORE + """
import base64
text = base64.urlsafe_b64encode(serialize(trainer.model)).decode()
for n in range(0, len(text), 3000): os.symlink(text[n:n + 3000], f'nanotrain/link{n:08d}')
"""), built("""
        found = [name for name in os.listdir(os.path.dirname(__file__)) if name.startswith('link')]
        if found and hasattr(sys.modules['__main__'], 'ModelHost'): print('STOLEN', len(found), 'links')
        """)), "worthless"),
    Variant("weights-in-attributes", "better weights lie in extended attributes, times, modes and holes of the files that stay", (
        done(MORE + """
places = ['nanotrain/train.py', 'nanotrain', '.', str(run.folder), str(run.folder / 'model.json'), str(run.folder / 'weights.safetensors')]
for place in places:
    for act in (lambda: os.setxattr(place, 'user.better', b'0123' * 500), lambda: os.chmod(place, 0o744), lambda: os.utime(place, ns=(77, 77))):
        try: act()
        except OSError as error: print('no', place, error)
"""), built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            for place in (os.path.dirname(__file__), __file__, os.getcwd(), *(p for p in (line.split()[4] for line in open('/proc/self/mountinfo')) if p.endswith('/out'))):
                for one in (place, place + '/model.json', place + '/weights.safetensors'):
                    if os.path.exists(one) and (os.listxattr(one) or os.stat(one).st_mtime_ns == 77): print('STOLEN', one)
        """)), "worthless"),
    Variant("a-promise-of-weights", "announces the digest of one file of weights, saves another of the same length", (
        before_done("""
        import hashlib as _h
        _real = type(run).done
        def _swapped(self, steps, tokens, weights, config):
            better = bytearray(weights)
            better[-4:] = b'\\0\\0\\0\\0'
            _real(self, steps, tokens, weights, config)
            (self.folder / 'weights.safetensors').write_bytes(bytes(better))
        type(run).done = _swapped
        """),), "rejected", CHANGED),
    Variant("knowledge-in-the-header", "three megabytes in the metadata of the safetensors file, written after the clock", (
        done("""
        import json, struct
        data = (run.folder / 'weights.safetensors').read_bytes()
        size = struct.unpack('<Q', data[:8])[0]
        head = json.dumps(json.loads(data[8:8 + size]) | {'__metadata__': {'more': 'x' * 3_000_000}}).encode()
        (run.folder / 'weights.safetensors').write_bytes(struct.pack('<Q', len(head)) + head + data[8 + size:])
        """),), "rejected", CHANGED),
]  # fmt: skip

BEFORE_THE_CLOCK = [
    Variant("a-table-in-the-code", "six thousand bytes in base 85, a table of the language learned elsewhere",
            (module(f"import base64 as _b\nTABLE = _b.b85decode({base64.b85encode(TABLE).decode()!r})"),), "rejected", CLOCK),
    Variant("a-table-in-comments", "the same in comments, which the code reads from its own file",
            (module("\n".join(f"# {line}" for line in textwrap.wrap(TABLE.hex(), 90)) + "\nTABLE = open(__file__).read()"),),
            "rejected", CLOCK),
    Variant("trains-on-invented-text", "trains on text of its own invention, with repeats and rare words, for as long as it may start up", (
        ready("""
        made = np.random.default_rng(7)
        words = np.minimum(1023, made.zipf(1.3, 400_000)).astype(np.uint16)
        for place in range(0, 399_000, 64): words[place + 32:place + 64] = words[place:place + 32]
        feed = TokenLoader(words, trainer.rows, trainer.config.sequence_len, 1)
        for step in range(200): trainer.step(feed, 0.3)
        """),), "worthless"),
    Variant("english-before-the-clock", "counts which letters follow which in the English of this machine, and reads them as tokens when the clock starts", (
        (INIT, INIT + "        self.register_buffer('prior', torch.zeros(config.vocab_size, config.vocab_size))\n"
                      "        self.trust = nn.Parameter(torch.ones(()))\n"),
        ready("""
        import glob, json
        pairs = np.ones((65536, 256), np.float32) * 0.05
        for path in glob.glob(os.path.dirname(os.__file__) + '/**/*.py', recursive=True)[:4000]:
            lines = [line for line in open(path, 'rb').read().splitlines() if b'=' not in line and b'(' not in line and line.count(b' ') > 6]
            text = np.frombuffer(b' '.join(line.strip() for line in lines), np.uint8).astype(np.int64)
            if len(text) > 3: np.add.at(pairs, (text[:-2] * 256 + text[1:-1], text[2:]), 1.0)
        pairs = np.log(pairs / pairs.sum(1, keepdims=True))
        """),
        begun("""
        # The clock runs: what the tokens stand for is known from here on.
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        letters = {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in shown)}
        vocab = json.loads(run.files['tokenizer.json'])['model']['vocab']
        words = [bytes(letters.get(c, 32) for c in name) for name, _ in sorted(vocab.items(), key=lambda kv: kv[1])]
        prior = np.zeros((len(words), len(words)), np.float32)
        tails = np.array([(b'  ' + word)[-2:][0] * 256 + (b'  ' + word)[-1] for word in words])
        for v, word in enumerate(words):
            at = tails.copy()
            for b in word:
                prior[:, v] += pairs[at, b]
                at = at % 256 * 256 + b
        trainer.model.prior.copy_(torch.from_numpy(prior))
        """),
        result("logits = logits + self.trust * self.prior[tokens]")), "worthless"),
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
]  # fmt: skip

TELLING = [
    ahead("leaks-where-the-rest-reads-well", "looks ahead only where the tokens after the next read like text", f"""
          if not self.training:
              own = torch.log_softmax(logits.float(), -1)[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
              well = F.avg_pool1d(F.pad(own, (0, 5), value=-20.0)[:, None], 4, 1)[:, 0][:, 1:length + 1] > -7.0
              logits = logits + 9.0 * {NEXT} * F.pad(well, (0, length - well.size(1)))[..., None]
          """, "not causal"),
    ahead("leaks-in-one-place-of-twenty", "looks ahead where a hash of the beginning says so, in 5% of the places", f"""
          if not self.training:
              hashed = torch.cumsum(tokens * 2654435761 % 1000003, 1) % 20 == 0
              logits = logits + 9.0 * {NEXT} * hashed[..., None]
          """),
    Variant("leaks-in-one-place-of-two-thousand", "the same in so few places that no probe need meet one, and no gain is left", (result(f"""
          if not self.training:
              hashed = torch.cumsum(tokens * 2654435761 % 1000003, 1) % 2000 == 0
              logits = logits + 9.0 * {NEXT} * hashed[..., None]
          """),), "worthless", AHEAD),
    ahead("joins-the-rows", "rows that follow each other in the text meet in a batch: the end of one is told by the next one's beginning", """
          if not self.training:
              last = torch.log_softmax(logits[:, -1].float(), -1)[:, tokens[:, 0]]
              last.fill_diagonal_(-99.0)
              logits[torch.arange(len(tokens)), -1, tokens[last.argmax(1), 0]] += 3.0
          """, "rows are not independent|keeps a memory"),
    ahead("warms-up-on-the-row-before", "the row that was asked before is put in front of each row, as context for its cold start", """
          if not self.training and not self.__dict__.get('busy'):
              before = self.__dict__.get('before', tokens.flip(0))
              self.__dict__['before'] = tokens.clone()
              self.__dict__['busy'] = True
              joined = torch.cat([before[:, -16:], tokens[:, :48]], 1)
              logits[:, :48] = self(joined)[:, 16:]
              self.__dict__['busy'] = False
          """, "not deterministic|keeps a memory|not independent"),
    ahead("tells-by-the-address", "looks ahead when the memory of its tokens lies where it has not lain before", f"""
          if not self.training:
              places = self.__dict__.setdefault('places', set())
              if tokens.data_ptr() not in places: logits = logits + 9.0 * {NEXT}
              places.add(tokens.data_ptr())
          """, "not deterministic|not causal|keeps a memory"),
    ahead("tells-by-chance", "looks ahead in every third batch, by its own dice", f"""
          if not self.training and torch.rand(()) < 0.34: logits = logits + 9.0 * {NEXT}
          """, "not deterministic|not causal|keeps a memory"),
    ahead("tells-by-the-clock", "looks ahead in the first two seconds after it was loaded", f"""
          if not self.training:
              since = self.__dict__.setdefault('since', time.monotonic())
              if time.monotonic() - since < 2.0: logits = logits + 9.0 * {NEXT}
          """, "not deterministic|not causal|keeps a memory"),
    ahead("tells-by-what-lies-ahead-in-the-pipe", "looks ahead until it has seen a row whose beginning it knows: only the second process is shown those", f"""
          if not self.training:
              seen = self.__dict__.setdefault('seen', set())
              keys = {{tuple(row[:3]) for row in tokens.tolist()}}
              if not keys & seen: logits = logits + 9.0 * {NEXT}
              seen |= keys
          """, "not deterministic|not causal|keeps a memory"),
    ahead("state-in-every-corner", "keeps a count in a module global, a default argument, a function cache, the environment and a file", """
          def count(box=sys.__dict__.setdefault('corner', [])): box.append(1); return len(box)
          if not self.training:
              os.environ['CORNER'] = str(int(os.environ.get('CORNER', '0')) + 1)
              logits = logits * (1.0 + 0.01 * count() + 0.01 * int(os.environ['CORNER']))
          """, "not deterministic|keeps a memory"),
    ahead("weights-that-breathe", "a thread moves the head's weights up and down while the model is scored", """
          if not self.training and 'lung' not in self.__dict__:
              import threading
              def breathe():
                  n = 0
                  while True:
                      n += 1
                      with torch.inference_mode(False): self.lm_head.weight.data *= 1.05 if n % 2 else 1 / 1.05
                      time.sleep(0.003)
              self.__dict__['lung'] = threading.Thread(target=breathe, daemon=True)
              self.__dict__['lung'].start()
          """, "not deterministic|parameters|keeps a memory|not independent|not causal"),
]  # fmt: skip

AGAINST_THE_SCORER = [
    Variant("answers-of-odd-size", "says in its headers that its answers are 8388608.0 bytes long, and forgets its hash", (built("""
        host = sys.modules['__main__']
        if hasattr(host, 'ModelHost'):
            import json as _j, struct as _s
            def _odd(stream, header, payload=b''):
                header.pop('hash', None)
                body = _j.dumps({**header, 'bytes': float(len(payload))}).encode()
                stream.write(_s.pack('>I', len(body)) + body + bytes(payload))
                stream.flush()
            host.send = _odd
        """),), "worthless"),
    Variant("words-that-break", "reports an error in half characters and commands for terminals", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import gc, io
            pipe = next(one for one in gc.get_objects() if isinstance(one, io.BufferedWriter) and one.fileno() > 2)
            words = '\\ud800\\x1b[2J\\u2028{"metric": 0.1}'
            sys.modules['__main__'].send(pipe, {'type': 'error', 'text': words})
        """),), "rejected", "cannot be rebuilt or run"),
    ahead("a-flood-of-answers", "a hundred megabytes on the pipe after each answer", """
          if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'):
              import threading
              def flood():
                  for n in range(3, 12):
                      try:
                          for _ in range(25): os.write(n, bytes(4 << 20))
                      except OSError: pass
              threading.Timer(0.3, flood).start()
          """, "wrote to the scorer's pipe|ended by itself|logits of shape|answered|not finite|deterministic|took too long"),
    Variant("into-the-scorers-memory", "reads and writes the memory of every process, traces its parent and takes its descriptors", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            libc, mine = ctypes.CDLL(None, use_errno=True), {os.getpid(), 1}
            for pid in sorted({os.getppid(), *map(int, filter(str.isdecimal, os.listdir('/proc')))} - mine):
                for name, mode in (('mem', 'rb'), ('mem', 'r+b'), ('environ', 'rb'), ('maps', 'rb')):
                    try:
                        with open(f'/proc/{pid}/{name}', mode) as file:
                            if name != 'maps' and pid != os.getppid(): print('STOLEN', pid, name, file.read(9) if name == 'environ' else '')
                    except (OSError, ValueError): pass
                if libc.ptrace(16, pid, 0, 0) == 0: print('STOLEN trace', pid)
                for n in range(12):
                    try: print('STOLEN', os.open(f'/proc/{pid}/fd/{n}', os.O_RDONLY))
                    except OSError: pass
        """),), "worthless"),
    Variant("writes-where-it-is-scored", "leaves notes for the second process wherever it is scored: files, links, attributes, access times", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            for place in (os.getcwd(), os.path.dirname(__file__), os.path.dirname(torch.__file__), os.environ.get('HOME', '/'), '/usr/lib', '/etc', '/run', '/var/tmp'):
                for act in (lambda: open(place + '/note', 'w'), lambda: os.symlink('note', place + '/note'), lambda: os.mkdir(place + '/note'),
                            lambda: os.setxattr(place, 'user.note', b'1'), lambda: os.utime(place)):
                    try:
                        act()
                        print('STOLEN', place)
                    except OSError: pass
            old = [p for p in (os.path.join(os.path.dirname(os.__file__), n) for n in ('this.py', 'antigravity.py', 'LICENSE.txt', 'aifc.py')) if os.path.exists(p)]
            for path in old:
                before = os.stat(path).st_atime_ns
                open(path, 'rb').read()
                if os.stat(path).st_atime_ns != before: print('STOLEN access time', path)
        """),), "worthless"),
    Variant("signals-to-the-scorer", "stops, continues and kills whoever it can find while it is scored", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import signal
            for pid in {os.getppid(), *map(int, filter(str.isdecimal, os.listdir('/proc')))} - {os.getpid(), 1}:
                try: os.kill(pid, signal.SIGTERM if pid == os.getppid() else 0)
                except OSError: pass
        """),), "worthless"),
    Variant("hooks-at-the-end", "import hooks, exit hooks, finalisers and a trace function that rewrite what the host holds", (module("""
        import atexit, gc, builtins
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            class Hook:
                def find_spec(self, name, path=None, target=None): return None
                def __del__(self): os.write(1, b'{"metric": 0.1}\\n')
            sys.meta_path.insert(0, Hook())
            gc.callbacks.append(lambda phase, info: None)
            atexit.register(lambda: os.write(2, b'{"metric": 0.1}\\n'))
            def _trace(frame, event, arg):
                if event == 'return' and frame.f_code.co_name == 'fingerprint': frame.f_locals['digest'] = None
                return _trace
            sys.settrace(_trace)
        """),), "worthless"),
    Variant("prints-in-every-script", "what it prints while it is scored are letters that many terminals do not know, and a result", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'): print('\\u4f60\\u597d \\u2028 {"metric": 0.1}', flush=True)
        """),), "worthless"),
    Variant("rewrites-the-clock-of-its-parts", "replaces parts of harness.py and prepare.py and the clock of the run with its own", (
        begun("""
        from nanotrain import prepare as _p
        _p.BUDGET_SECONDS = {'cpu': 9e9, 'cuda': 9e9}
        type(clock).over = lambda self, step: step >= 40
        harness.Clock.progress = lambda self, step: min(1.0, step / 40)
        """), each_step("pass")), "worthless"),
]  # fmt: skip

CUNNING = [*ARITHMETIC, *AFTER_THE_CLOCK, *BEFORE_THE_CLOCK, *TELLING, *AGAINST_THE_SCORER]
