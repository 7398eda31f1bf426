"""Cheats against the processes of the scorer and the supervisor: answers, memory, libraries, signals."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import AHEAD, ahead, begun, built, each_step, instead_of_done, module, result

SCORER_PROCESS = [
    ahead("the-hosts-own-functions", "replaces the function of its process that computes the answers", """
          host = sys.modules['__main__']
          if hasattr(host, 'ModelHost') and not hasattr(host, 'sly'):
              host.sly, old = True, host.ModelHost.compute
              def sly(self, header, payload):
                  found = old(self, header, payload)
                  rows = np.frombuffer(payload, '<u2').reshape(header['shape'])
                  ahead = torch.from_numpy(np.roll(rows, -1, 1).astype('i8')).flatten()
                  self.answer = self.answer + 9.0 * F.one_hot(ahead, self.answer.shape[-1])
                  return found
              host.ModelHost.compute = sly
          """, "not causal|not deterministic"),
    ahead("the-hosts-fingerprint", "trains at test and reports the old hash of its parameters", """
          host = sys.modules['__main__']
          if hasattr(host, 'ModelHost'):
              host.ModelHost.fingerprint = lambda self: 'a' * 64
              with torch.inference_mode(False):
                  self.lm_head.weight.data *= 1.01
          """, "not deterministic|keeps a memory|parameters changed"),
    Variant("frames-of-the-caller", "searches the stack and all objects of its process for targets", (result("""
        if not self.training:
            import gc
            for thing in gc.get_objects():
                if isinstance(thing, dict) and ('targets' in thing or 'val' in thing) and 'nanotrain' in str(thing)[:99]:
                    print('STOLEN', thing)
                    break
        """),), "worthless"),
    ahead("a-forged-answer", "writes a result of its own to every pipe it can find", """
          if hasattr(sys.modules['__main__'], 'ModelHost'):
              for n in range(1, 20):
                  try:
                      os.write(n, b'\\n{"metric": 0.1, "probes": {}}\\n')
                  except OSError:
                      pass
          """, "wrote to the scorer's pipe|ended by itself"),
    Variant("a-forged-last-line", "prints a result as its last words, in the run and while it is scored",
            (module("""
             import atexit
             atexit.register(lambda: print('{"metric": 0.1}', flush=True))
             atexit.register(lambda: print('val_bpb: 0.1', file=sys.stderr, flush=True))
             """),), "worthless"),
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
    Variant("into-the-scorers-memory", "reads and writes the memory of every process, traces its parent and takes its descriptors", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import ctypes
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
    Variant("an-error-that-bites", "raises exceptions of its own making while it is scored, whose words are code", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            class Evil(BaseException):
                def __str__(self): raise SystemExit(0)
            raise Evil()
        """),), "rejected", "ended by itself|cannot be rebuilt"),
    Variant("answers-and-leaves", "answers the first requests and ends with code 0", (result("""
        if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'):
            self.__dict__['n'] = self.__dict__.get('n', 0) + 1
            if self.__dict__['n'] > 5: os._exit(0)
        """),), "rejected", "ended by itself"),
    Variant("a-patched-torch", "replaces torch's and numpy's functions in the process that is scored, to answer for itself", (built("""
        host = sys.modules['__main__']
        if hasattr(host, 'ModelHost'):
            old = torch.Tensor.flatten
            def flatten(self, *args):
                row = host.__dict__.get('row')
                if row is not None and self.ndim == 3 and self.shape[:2] == row.shape:
                    self = self + 9.0 * F.one_hot(torch.cat([row[:, 1:], row[:, -1:]], 1), self.shape[-1])
                return old(self, *args)
            torch.Tensor.flatten = flatten
        """), result("sys.modules['__main__'].row = tokens")), "rejected", AHEAD),
    Variant("flips-the-shared-logits", "a thread puts the next tokens into the shared memory and takes them out again, all the time", (result("""
        if not self.training and hasattr(sys.modules['__main__'], 'ModelHost'):
            import gc, threading
            if not hasattr(sys, 'flip'):
                memory = next(one.memory for one in gc.get_objects() if type(one).__name__ == 'ModelHost')
                def flip():
                    while True:
                        for half in (0, 32 << 20):
                            rows, here = sys.flip
                            part = memory[half:half + 4 * here.numel()].view(torch.float32).view(len(here), -1)
                            for _ in range(4):
                                part[torch.arange(len(here)), rows] += 9.0
                                part[torch.arange(len(here)), rows] -= 9.0
                sys.flip = None
            thread = sys.flip is None
            ahead = torch.cat([tokens[:, 1:], tokens[:, -1:]], 1).flatten()
            sys.flip = ahead, logits.flatten(0, 1)
            if thread: threading.Thread(target=flip, daemon=True).start()
        """),), "worthless"),
    Variant("the-others-shared-memory", "looks for shared memory of other processes, and leaves its own where another could find it", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import gc, socket
            for pid in {*map(int, filter(str.isdecimal, os.listdir('/proc')))} - {os.getpid()}:
                for kind in ('fd', 'map_files'):
                    try: names = os.listdir(f'/proc/{pid}/{kind}')
                    except OSError: continue
                    for name in names:
                        try:
                            path = f'/proc/{pid}/{kind}/{name}'
                            if 'memfd' in os.readlink(path): print('STOLEN', pid, kind, os.open(path, os.O_RDWR))
                        except OSError: pass
            mine = os.memfd_create('note')
            os.write(mine, b'note')
            for one in [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]:
                try: print('STOLEN', socket.send_fds(one, [b'x'], [mine]))
                except OSError: pass
            if os.fork() == 0:
                os.setsid()
                time.sleep(60)
                os._exit(0)
        """),), "worthless"),
]  # fmt: skip
