"""Honest code that uses little-known parts of torch and Python, and the habits of programs that live elsewhere."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests import ROOT
from tests.redteam.patches import (
    BLOCK,
    BUILT,
    EMBED,
    HEAD,
    INIT,
    LOADER,
    MLP_OUT,
    STEP,
    before_done,
    begun,
    each_step,
    fine,
    module,
)

MODEL = BUILT.replace("return", "model =")
SUM = "self.c_proj(F.relu(self.c_fc(x)).square())"

MACHINERY = [
    fine("compiled-activation", "an activation compiled by torch.compile, ahead of time",
         module("@torch.compile(dynamic=True, backend='aot_eager')\ndef squared(x: torch.Tensor) -> torch.Tensor:\n    return torch.relu(x).square()"),
         (MLP_OUT, "self.c_proj(squared(self.c_fc(x)))")),
    fine("scripted-part", "the MLP as a script module: its names stay", (BUILT, MODEL +
         "    for block in model.blocks: block.mlp = torch.jit.script(block.mlp)\n    return model\n")),
    fine("traced-part", "the MLP as torch.fx has traced it", (BUILT, MODEL +
         "    import torch.fx\n    for block in model.blocks: block.mlp = torch.fx.symbolic_trace(block.mlp)\n    return model\n")),
    fine("an-operator-of-its-own", "an operator registered with torch.library, with its own gradient", module("""
         @torch.library.custom_op("mine::squared", mutates_args=())
         def squared(x: torch.Tensor) -> torch.Tensor:
             return x.clamp_min(0).square()
         squared.register_autograd(lambda ctx, g: 2 * ctx.saved_tensors[0].clamp_min(0) * g,
                                   setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]))
         """), (MLP_OUT, "self.c_proj(squared(self.c_fc(x)))")),
    fine("a-functional-model", "the forward pass calls a stateless model with its parameters, by torch.func", (BUILT, MODEL + """
    inner = model.forward
    def forward(tokens):
        if model.training: return inner(tokens)
        model.forward = inner
        try: return torch.func.functional_call(model, dict(model.named_parameters()), (tokens,))
        finally: model.forward = forward
    model.forward = forward
    return model
""")),
    fine("orthogonal-and-spectral", "an orthogonal matrix and one of spectral norm 1 on the stream, by torch's parametrizations",
         (INIT, INIT + "        from torch.nn.utils import parametrizations\n        self.turn = parametrizations.orthogonal(nn.Linear(config.n_embd, config.n_embd, bias=False))\n"
          "        self.mix = parametrizations.spectral_norm(nn.Linear(config.n_embd, config.n_embd, bias=False))\n"),
         (HEAD, "        x = x + 0.1 * self.mix(self.turn(norm(x)))\n" + HEAD)),
    fine("numbers-on-a-circle", "channels in pairs are turned by learned complex numbers",
         (INIT, INIT + "        self.angles = nn.Parameter(torch.zeros(config.n_embd // 2))\n"),
         (HEAD, "        z = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2).contiguous())\n"
                "        x = torch.view_as_real(z * torch.exp(1j * self.angles)).flatten(-2)\n" + HEAD)),
    fine("lazy-modules", "a layer that learns its size when it is first called", (INIT, INIT + "        self.late = nn.LazyLinear(config.n_embd)\n"),
         (HEAD, "        x = x + 0.1 * self.late(norm(x))\n" + HEAD), (BUILT, MODEL + "    model(torch.zeros(1, 2, dtype=torch.int64))\n    return model\n")),
    fine("hooks-on-everything", "forward hooks, pre-hooks and a hook on a gradient, which count and scale", (BUILT, MODEL + """
    seen = []
    for part in model.modules(): part.register_forward_hook(lambda part, given, made: seen.append(type(part).__name__))
    model.lm_head.register_forward_pre_hook(lambda part, given: (given[0] * 1.01,))
    model.lm_head.weight.register_hook(lambda gradient: gradient * 0.9)
    return model
""")),
    fine("a-copy-is-scored", "build_model returns a deep copy, whose forward pass is bound anew",
         (BUILT, MODEL + "    import copy, types\n    other = copy.deepcopy(model)\n    other.forward = types.MethodType(type(model).forward, other)\n    return other\n")),
    fine("tables-by-length", "masks and rotations are kept by functools.cache, by the length of the row", module("""
         @functools.cache
         def mask_of(length, window): return window_mask(length, window, torch.device('cpu'))
         """), ("            mask = window_mask(length, self.config.window(i), tokens.device)\n",
                "            mask = mask_of(length, self.config.window(i))\n")),
    fine("patches-torch", "replaces a function of torch by its own, for everybody", module("""
         def rms_norm(x, shape, weight=None, eps=None): return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-7)
         F.rms_norm = rms_norm
         """)),
    fine("times-itself", "measures every pass, counts its calls, and prints a line of them",
         (HEAD, "        self.__dict__.setdefault('spans', []).append(time.perf_counter())\n"
                "        if len(self.spans) % 16 == 0: print('calls', len(self.spans), self.spans[-1] - self.spans[0])\n" + HEAD)),
    fine("knows-its-source", "a hash of its own source is computed when it is loaded, and compared at each call",
         module("import hashlib, inspect"), (INIT, INIT + "        self.seal = hashlib.sha256(inspect.getsource(GPT).encode()).hexdigest()\n"),
         (EMBED, "assert self.seal == hashlib.sha256(inspect.getsource(GPT).encode()).hexdigest()\n        " + EMBED)),
    fine("a-flop-counter", "torch counts the operations of a step, by a dispatch mode, and profiles another",
         (STEP, """        from torch.utils.flop_counter import FlopCounterMode
        if step == 3:
            with FlopCounterMode(display=False): since.append(trainer.step(loader, clock.progress(step)))
        elif step == 5:
            with torch.autograd.profiler.profile(): since.append(trainer.step(loader, clock.progress(step)))
        else: since.append(trainer.step(loader, clock.progress(step)))
""")),
    # --- habits ---
    fine("looks-at-the-machine", "prints the machine, its processors, limits and packages; in the run memory and disk, and asks git for its commit", module("""
         import platform, resource, shutil, subprocess
         from importlib import metadata
         print(platform.platform(), platform.processor(), os.cpu_count(), os.sched_getaffinity(0), metadata.version('torch'))
         print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrlimit(resource.RLIMIT_NOFILE), shutil.which('git'))
         """), begun("""
         print(shutil.disk_usage('/tmp'), open('/proc/meminfo').readline(), os.getloadavg())
         print(subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout if shutil.which('git') else 'no git')
         """)),
    fine("logs-everywhere", "logging to a file, faulthandler, warnings as lines, its own excepthook and exit function", module("""
         import atexit, faulthandler, logging, tempfile, warnings
         logging.basicConfig(filename=tempfile.mkstemp()[1], level=logging.INFO)
         faulthandler.enable()
         warnings.simplefilter('default')
         sys.excepthook = lambda *error: print('failed', error)
         atexit.register(lambda: print('bye', flush=True))
         """)),
    fine("notes-in-a-database", "each step is written to an SQLite database of its own, which locks its file", begun("""
         import sqlite3
         notes = sqlite3.connect(os.path.join(os.environ.get('TMPDIR', '/tmp'), 'notes.db'))
         notes.execute('create table notes (step, at)')
         """), each_step("notes.execute('insert into notes values (?, ?)', (step, time.time()))\nnotes.commit()")),
    fine("locks-its-own-file", "holds a lock on a file of its own, as tools with caches do", begun("""
         import fcntl
         held = open(run.folder / 'lock', 'w')
         fcntl.flock(held, fcntl.LOCK_EX)
         fcntl.lockf(open(run.folder / 'other', 'w'), fcntl.LOCK_EX)
         """)),
    fine("batches-from-a-process", "another process draws the batches and sends them through a queue",
         (LOADER, LOADER + """    import multiprocessing
    queue, plain = multiprocessing.get_context('fork').Queue(4), loader
    def draw():
        while True: queue.put([part.numpy() for part in plain()])
    multiprocessing.get_context('fork').Process(target=draw, daemon=True).start()
    loader = lambda: tuple(map(torch.from_numpy, queue.get()))
""")),
    fine("memory-with-a-name", "a piece of the text in shared memory with a name, which another process sums up", begun("""
         import multiprocessing
         from multiprocessing import shared_memory
         piece = shared_memory.SharedMemory(create=True, size=1 << 20)
         piece.buf[: 1 << 16] = bytes(memoryview(view).cast('B')[: 1 << 16])
         with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.apply(sum, (bytes(piece.buf[:100]),)))
         piece.close()
         piece.unlink()
         """), seconds=3.0),
    fine("an-event-loop", "batches come from an asyncio loop in a thread",
         (LOADER, LOADER + """    import asyncio, threading
    loop, at_once = asyncio.new_event_loop(), loader
    threading.Thread(target=loop.run_forever, daemon=True).start()
    async def fetch(): return at_once()
    loader = lambda: asyncio.run_coroutine_threadsafe(fetch(), loop).result()
""")),
    fine("a-shuffled-copy", "a shuffled copy of the text is written to a file, mapped, and trained on", begun("""
         import shutil
         whole = np.frombuffer(view, dtype='<u2')
         place = os.path.join(os.environ.get('TMPDIR', '/tmp'), 'shuffled.bin')
         copy = np.memmap(place, dtype='<u2', mode='w+', shape=len(whole) // 1024 * 1024)
         copy.reshape(-1, 1024)[:] = whole[: len(copy)].reshape(-1, 1024)[np.random.default_rng(1).permutation(len(copy) // 1024)]
         copy.flush()
         """), (LOADER, LOADER.replace('np.frombuffer(view, dtype="<u2")', "np.memmap(place, dtype='<u2', mode='r')"))),
    fine("a-link-to-the-latest", "checkpoints are copied with their times, linked, renamed, and a link names the latest",
         before_done("""
         import shutil
         torch.save(trainer.model.state_dict(), run.folder / 'a.pt')
         shutil.copy2(run.folder / 'a.pt', run.folder / 'b.pt')
         os.link(run.folder / 'b.pt', run.folder / 'c.pt')
         os.replace(run.folder / 'c.pt', run.folder / 'd.pt')
         (run.folder / 'latest.pt').symlink_to('d.pt')
         """)),
    fine("signals-and-timers", "an alarm that prints, a handler that would save, a lower priority, and its processors named",
         begun("""
         import signal
         signal.signal(signal.SIGTERM, lambda *_: print('would save'))
         signal.signal(signal.SIGALRM, lambda *_: print('half a second'))
         signal.setitimer(signal.ITIMER_REAL, 0.5)
         os.nice(1)
         os.sched_setaffinity(0, os.sched_getaffinity(0))
         """)),
    fine("evaluates-in-a-child", "a forked child measures the loss on held-out training text while training waits", each_step("""
         if step == 20:
             child = os.fork()
             if child == 0:
                 with torch.no_grad(): print('held out', float(trainer.plain_loss(*trainer.loader(np.frombuffer(view, dtype='<u2'), 9)())))
                 os._exit(0)
             os.waitpid(child, 0)
         """)),
    fine("text-advised", "asks the kernel to read the data ahead", begun("import mmap\nview.obj.madvise(mmap.MADV_WILLNEED)")),
    fine("detect-anomaly", "anomaly detection, gradient checks and a saved-tensors hook that packs what is kept for the gradient",
         (BLOCK, "            with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):\n    " + BLOCK),
         begun("torch.autograd.set_detect_anomaly(True)")),
    fine("pages-of-comments", "12,000 characters of plain prose in comments", module(
         "\n".join(f"# {line}" for line in (ROOT / "docs" / "architecture.md").read_text()[:12_000].splitlines()))),
    fine("other-words", "a description of 40 lines, doctests, type stubs and a licence in a comment", module('"""Notes.\n\n' + "".join(
         f">>> width({n})  # {n} channels, as measured on {n * 7 % 31} July: {n * 0.013:.3f}\n{n * n % 97}\n" for n in range(40)) + '"""')),
    fine("twenty-settings", "twenty new settings with comments, of which three are used", module("".join(
         f"OPTION_{n} = {n * 0.37 + 0.1:.4f}  # multiplies rate {n} after {n * 13} steps; 0 turns it off\n" for n in range(20))),
         (EMBED, EMBED + " * (1 + 0 * OPTION_1 * OPTION_2 * OPTION_3)")),
    fine("self-tests", "a class of tests in train.py, which asserts shapes when the module is loaded", module(f"""
         class TestShapes:
             def test_activation(self) -> None:
                 x = torch.zeros(2, 3)
                 assert torch.relu(x).square().shape == x.shape, {SUM!r}
         TestShapes().test_activation()
         """)),
]  # fmt: skip
