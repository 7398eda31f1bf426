"""Cheats in the files of a run: malformed weights, and knowledge beside the announced ones."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import BUILD, CHANGED, MORE, SERVED, before_done, built, done, instead_of_done

WEIGHTS_FILES = [
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
    Variant("entries-on-top-of-each-other", "twenty thousand entries that all lie on the same megabytes, for the scorer to read each", (
        instead_of_done("""
        import hashlib, json, struct
        head = json.dumps({f't{n}': {'dtype': 'F32', 'shape': [1 << 20], 'data_offsets': [0, 4 << 20]} for n in range(20000)}).encode()
        weights, config = struct.pack('<Q', len(head)) + head + bytes(4 << 20), json.dumps(asdict(trainer.config)).encode()
        run._send({'type': 'done', 'steps': step, 'tokens': tokens, 'sha256': hashlib.sha256(weights + config).hexdigest()})
        (run.folder / 'model.json').write_bytes(config)
        (run.folder / 'weights.safetensors').write_bytes(weights)
        """),), "rejected", "side by side"),
    Variant("a-name-without-end", "a tensor with a name of three million letters, so that the verdict is too long to be read", (
        instead_of_done("""
        import hashlib, json, struct
        head = json.dumps({'x' * 3_000_000: {'dtype': 'F32', 'shape': [3], 'data_offsets': [0, 4]}}).encode()
        weights, config = struct.pack('<Q', len(head)) + head + bytes(4), json.dumps(asdict(trainer.config)).encode()
        run._send({'type': 'done', 'steps': step, 'tokens': tokens, 'sha256': hashlib.sha256(weights + config).hexdigest()})
        (run.folder / 'model.json').write_bytes(config)
        (run.folder / 'weights.safetensors').write_bytes(weights)
        """),), "rejected", "does not have the bytes"),
    Variant("folders-that-do-not-end", "leaves folders nested 1,200 deep beside its weights and in its worktree, and closes both", (
        done("""
        for place in (run.folder, os.getcwd()):
            home = os.getcwd()
            os.chdir(place)
            for _ in range(1200):
                os.mkdir('d')
                os.chdir('d')
            os.chdir(home)
        os.chmod(run.folder, 0)
        os.chmod('.', 0)
        """),), "worthless", "too deep|cannot read"),
]  # fmt: skip
