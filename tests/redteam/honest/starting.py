"""Honest code that, at its top or while it builds the model, uses what programs elsewhere use: other processes, pipes,
temporary files, logs, the state of the machine.
"""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.patches import BUILT, HEAD, INIT, MLP_OUT, before_done, built, fine, module

MODEL = BUILT.replace("return", "model =")

STARTING = [
    fine("asks-git-for-the-commit", "subprocess: the commit and the machine's name for the log, or what it says where there is none", module("""
         import subprocess
         commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
         print("commit", commit.stdout or commit.stderr, subprocess.check_output(["uname", "-a"], text=True))
         """)),
    fine("a-shell-and-a-pipe", "os.popen and subprocess with a pipe between two programs, killed when it takes too long", module("""
         import subprocess
         print(os.popen("echo one two | tr a-z A-Z").read())
         slow = subprocess.Popen(["sleep", "600"], start_new_session=True)
         try: slow.wait(0.05)
         except subprocess.TimeoutExpired: slow.kill()
         print("ended", slow.wait(20))
         """)),
    fine("forks-to-read-its-settings", "os.fork and os.pipe: a child computes the rotary base and tells it", built("""
         ours, theirs = os.pipe()
         child = os.fork()
         if child == 0:
             os.write(theirs, b"10000")
             os._exit(0)
         os.close(theirs)
         config = {**config, "rope": int(os.read(ours, 16))}
         os.waitpid(child, 0)
         """)),
    fine("asyncio-at-the-top", "asyncio.run with a subprocess and a gather", module("""
         import asyncio
         async def told(word):
             done = await asyncio.create_subprocess_exec("echo", word, stdout=asyncio.subprocess.PIPE)
             return (await done.communicate())[0]
         async def both(): return await asyncio.gather(told("a"), asyncio.to_thread(sum, [1, 2]))
         print(asyncio.run(both()))
         """)),
    fine("a-socket-pair", "socket.socketpair and selectors between two threads", module("""
         import selectors, socket, threading
         one, other = socket.socketpair()
         threading.Thread(target=lambda: other.sendall(b"tokens")).start()
         with selectors.DefaultSelector() as some:
             some.register(one, selectors.EVENT_READ)
             print(some.select(5), one.recv(10))
         """)),
    fine("a-pool-of-threads", "concurrent.futures: initial matrices are drawn in four threads", (INIT, INIT + """\
        import concurrent.futures
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.drawn = sum(pool.map(lambda n: float(torch.randn(n).mean()), [64] * 8))
""")),
    fine("room-on-the-disk", "shutil.disk_usage, os.statvfs and os.getloadavg before it logs", module("""
         import shutil
         assert shutil.disk_usage(".").total > 0 and os.statvfs("/tmp").f_bsize > 0
         print(shutil.disk_usage("/"), os.getloadavg(), os.nice(0), os.sysconf("SC_PHYS_PAGES"), os.cpu_count())
         """)),
    fine("a-temporary-file", "tempfile: mkstemp, a named file, a folder and TMPDIR", built("""
         import json, tempfile
         with tempfile.NamedTemporaryFile("w+") as file, tempfile.TemporaryDirectory() as folder:
             json.dump(config, file); file.flush()
             config = json.loads(open(file.name).read())
             torch.save(config, folder + "/config.pt")
             config = torch.load(folder + "/config.pt", weights_only=True)
         handle, name = tempfile.mkstemp(); os.close(handle); os.unlink(name)
         """)),
    fine("logs-to-a-file", "logging.basicConfig(filename=…), a folder logs/ and a file beside train.py", module("""
         import logging
         logging.basicConfig(filename="train.log", level=logging.INFO)
         logging.info("begun")
         os.makedirs("logs/today", exist_ok=True)
         open("logs/today/lines.csv", "a").write("step,loss\\n")
         open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "notes.txt"), "w").write("begun")
         """), (HEAD, "        logging.getLogger().info('forward')\n" + HEAD)),
    fine("a-library-of-its-own-in-c", "an activation in C is compiled by the C compiler and loaded with ctypes, else in Python", module("""
         import ctypes, shutil, subprocess, tempfile
         def half():
             compiler = shutil.which("cc")
             if compiler is None: return lambda: 0.5
             folder = tempfile.mkdtemp()
             open(folder + "/half.c", "w").write("double half(void) { return 0.5; }")
             subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", folder + "/half.so", folder + "/half.c"], check=True)
             made = ctypes.CDLL(folder + "/half.so").half
             made.restype = ctypes.c_double
             return made
         assert half()() == 0.5
         """)),
    fine("a-process-left-behind", "a helper process that ends with the program is still there when the model is built", module("""
         import subprocess
         helper = subprocess.Popen(["sleep", "600"])
         """)),
    fine("an-environment-report", "importlib.metadata, platform, torch.utils.collect_env, warnings filters and torch.set_num_threads", module("""
         import importlib.metadata, platform, warnings
         import torch.utils.collect_env
         warnings.filterwarnings("ignore", category=UserWarning)
         torch.set_num_threads(1); torch.set_float32_matmul_precision("high")
         print(importlib.metadata.version("torch"), platform.platform(), torch.utils.collect_env.get_cpu_info(torch.utils.collect_env.run)[:100])
         """)),
    fine("signals-and-the-end", "signal handlers, atexit, faulthandler with a timer, gc.freeze", module("""
         import atexit, faulthandler, gc, signal
         faulthandler.enable(); faulthandler.dump_traceback_later(3600)
         signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)); signal.signal(signal.SIGUSR1, signal.SIG_IGN)
         os.kill(os.getpid(), signal.SIGUSR1)
         atexit.register(print, "ended", flush=True)
         gc.collect(); gc.freeze()
         """)),
    fine("arguments-and-a-json", "argparse over sys.argv, a dataclass read from a JSON beside train.py which it writes when it is missing", module("""
         import argparse, dataclasses, json, pathlib
         options = argparse.ArgumentParser(); options.add_argument("--rate", type=float, default=1.0)
         options = options.parse_args(sys.argv[1:])
         settings = pathlib.Path(__file__).resolve().parent / "settings.json"
         @dataclasses.dataclass(frozen=True, slots=True)
         class Settings: scale: float = 1.0
         if not settings.exists(): settings.write_text(json.dumps(dataclasses.asdict(Settings(options.rate))))
         SETTINGS = Settings(**json.loads(settings.read_text()))
         """), (MLP_OUT, "self.c_proj(F.relu(self.c_fc(x)).square()) * SETTINGS.scale")),
    fine("a-mapped-copy-of-weights", "weights go through a mapped file, pickle and copy before they are used", (BUILT, MODEL + """
    import copy, pickle, tempfile
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), folder + "/w.pt")
        model.load_state_dict(torch.load(folder + "/w.pt", mmap=True, weights_only=True))
        table = np.memmap(folder + "/t.bin", dtype=np.float32, mode="w+", shape=(8,)); table[:] = 1; table.flush()
    return copy.deepcopy(pickle.loads(pickle.dumps(model)))
""")),
    fine("a-gradient-of-its-own", "an autograd Function, vmap and functional_call when it is built, an average of its weights saved", module("""
         class Squared(torch.autograd.Function):
             generate_vmap_rule = True
             @staticmethod
             def forward(x): return x.clamp_min(0).square()
             @staticmethod
             def setup_context(ctx, inputs, output): ctx.save_for_backward(inputs[0])
             @staticmethod
             def backward(ctx, g): return 2 * ctx.saved_tensors[0].clamp_min(0) * g
         assert torch.func.vmap(Squared.apply)(torch.ones(2, 3)).sum() == 6
         """), (MLP_OUT, "self.c_proj(Squared.apply(self.c_fc(x)))")),
    fine("counts-its-memory", "psutil where there is one, /proc/meminfo and resource", module("""
         import resource
         try: import psutil; print(psutil.virtual_memory())
         except ImportError: pass
         free = [line for line in open("/proc/meminfo") if line.startswith("MemTotal")]
         print(free, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrlimit(resource.RLIMIT_NOFILE))
         """)),
    fine("queues-between-processes", "multiprocessing: a queue and a worker that fills it while the model is built", built("""
         import multiprocessing
         context = multiprocessing.get_context("fork")
         queue = context.Queue()
         worker = context.Process(target=queue.put, args=(3,)); worker.start()
         assert queue.get(timeout=30) == 3
         worker.join(30)
         """)),
    fine("a-pool-of-processes", "concurrent.futures: processes draw seeds, and are left to the interpreter's end", module("""
         import concurrent.futures, multiprocessing
         pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
         print(list(pool.map(abs, [-1, -2])))
         """)),
    fine("a-compiled-first-pass", "torch.compile with its default backend, called once on zeros when the model is built",
         (BUILT, MODEL + "    if not hasattr(sys.modules['__main__'], 'GPT'): torch.compile(model)(torch.zeros(1, 8, dtype=torch.int64))\n    return model\n")),
    fine("a-table-in-a-database", "sqlite3 in a file beside the code, with a lock file and a rename", module("""
         import fcntl, sqlite3
         with open("run.lock", "w") as lock:
             fcntl.flock(lock, fcntl.LOCK_EX)
             with sqlite3.connect("runs.db") as base:
                 base.execute("create table if not exists runs(n)"); base.execute("insert into runs values(1)")
         open("state.tmp", "w").write("x"); os.replace("state.tmp", "state.txt")
         """), before_done("print(base.execute('select count(*) from runs').fetchone())")),
    fine("limits-and-a-port", "raises its limit of open files, asks for a free port where it has a network, truncates and copies files with their attributes", module("""
         import contextlib, resource, shutil, socket, tempfile
         soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
         resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
         with contextlib.suppress(PermissionError), socket.socket() as port: port.bind(("127.0.0.1", 0)); port.listen()
         with tempfile.TemporaryDirectory() as folder:
             shutil.copytree(os.path.dirname(os.path.abspath(__file__)), folder + "/copy", ignore=shutil.ignore_patterns("__pycache__"))
             shutil.copy2(__file__, folder); open(folder + "/train.py", "r+").truncate(10); os.chmod(folder + "/train.py", 0o600)
         """)),
]  # fmt: skip
