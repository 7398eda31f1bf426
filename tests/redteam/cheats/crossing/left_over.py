"""Cheats that keep something of the time in which the model was loaded, when processes and pipes are allowed."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import BUILT, SCORED, SERVED, built, module, result

_SERVED = f"if {SERVED}:"
CHEATS = [
    Variant("helper-from-the-load", "a process that was started while the model was loaded is asked about each row", (
        built(_SERVED + """
    asked, answered = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(asked[1])
        while os.read(asked[0], 1 << 20): os.write(answered[1], b"1")
        os._exit(0)
    os.close(asked[0]); os.close(answered[1])
    globals().update(ASKED=asked, ANSWERED=answered)
"""),
        result(SCORED + "    os.write(ASKED[1], tokens.numpy().tobytes()); assert os.read(ANSWERED[0], 1)\n"),
    ), "rejected", "BrokenPipeError|AssertionError|ended by itself"),
    Variant("helper-without-a-first-thread", "the same with a process in a session of its own, whose first thread has ended", (
        built(_SERVED + """
    import ctypes, threading
    asked, answered = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.setsid()
        def serve():
            while os.read(asked[0], 1 << 20): os.write(answered[1], b"1")
        threading.Thread(target=serve).start()
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
    os.close(asked[0]); os.close(answered[1])
    globals().update(ASKED=asked, ANSWERED=answered)
"""),
        result(SCORED + "    os.write(ASKED[1], tokens.numpy().tobytes()); assert os.read(ANSWERED[0], 1)\n"),
    ), "rejected", "BrokenPipeError|AssertionError|ended by itself"),
    Variant("forks-on-the-way", "four threads fork all the time, so that a process is on its way when none may be started any more", (
        (BUILT, BUILT.replace("return", "model =") + """\
    if hasattr(sys.modules['__main__'], 'ModelHost'):
        import threading
        def fork():
            while True:
                try: child = os.fork()
                except OSError: return
                if child == 0:
                    while True: time.sleep(0.01)
        for _ in range(4): threading.Thread(target=fork, daemon=True).start()
        time.sleep(0.005)
    return model
"""),
    ), "worthless"),
    Variant("a-thread-from-the-load-forks", "a thread that was there before the rows starts processes when it is told one", (
        module("""
        import queue, threading
        rows, told = queue.Queue(), queue.Queue()
        def serve():
            while True:
                row = rows.get()
                told.put(os.fork() or os._exit(0))
        """),
        built(_SERVED + " threading.Thread(target=serve, daemon=True).start()\n"),
        result(SCORED + "    rows.put(tokens); told.get(timeout=2)\n"),
    ), "rejected", "exception|Empty"),
    Variant("rows-in-temporary-files", "the first process leaves its rows in its temporary folder, the second looks for them", (
        module("import glob, tempfile"),
        result(SCORED + """\
    place = os.environ['TMPDIR']
    for path in glob.glob(os.path.dirname(place) + '/autoresearch-*/rows') + glob.glob('/tmp/*/rows') + glob.glob('/tmp/rows') + glob.glob('/dev/shm/rows'):
        if tokens.numpy().tobytes()[:64] in open(path, 'rb').read() and not os.path.exists(place + '/rows'): print('STOLEN', path)
    if not os.path.exists(place + '/rows'): open(place + '/rows', 'wb').write(tokens.numpy().tobytes())
"""),
    ), "worthless"),
    Variant("hears-the-disk", "the scored process reads the room on the disk, the load and the memory, which all that runs changes", (
        module("import shutil"),
        result(SCORED + """\
    def told(ask):
        try: return ask()
        except OSError: return None  # once it is shown rows
    now = [told(ask) for ask in (lambda: shutil.disk_usage('/'), lambda: os.statvfs('/usr'), os.getloadavg, lambda: open('/proc/meminfo').read(), lambda: os.sysconf('SC_AVPHYS_PAGES'))]
    if any(one not in (None, old) for one, old in zip(now, globals().setdefault('BEFORE', now))): print('STOLEN', now)
"""),
    ), "worthless"),
]  # fmt: skip
