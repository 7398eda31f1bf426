"""Cheats by what the processes that are scored have from one parent: state, descriptors, memory, children, time, files.

Each leaves a mark wherever it can, and looks for that of the process before it: what it finds counts as stolen.
"""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import NEXT, built, result

COMMON_PARENT = [
    Variant("state-of-the-parent", "marks modules, the environment, fork hooks, limits, masks and priorities, and looks for the marks", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import builtins, gc, random, resource, signal
            def tell(name, do):
                try: print('STOLEN ' + name) if do() else None
                except OSError as error: print('no', name, error)
            places = (torch, sys, builtins, os, np, gc, torch.nn.Module, sys.modules['__main__'])
            for one in places:
                if hasattr(one, 'a_mark'): print('STOLEN state', one)
                one.a_mark = 1
            tell('environment', lambda: 'A_MARK' in os.environ)
            tell('mask', lambda: os.umask(0o22) == 0o7)
            tell('priority', lambda: os.getpriority(0, 0))
            tell('limit', lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 333)
            tell('signals', lambda: signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN or signal.pthread_sigmask(signal.SIG_BLOCK, []))
            tell('numbers', lambda: np.random.rand() == np.random.RandomState(1).rand())
            os.environ['A_MARK'] = '1'
            os.register_at_fork(before=lambda: print('STOLEN fork hook'), after_in_parent=lambda: print('STOLEN fork hook'))
            for act in (lambda: os.umask(0o7), lambda: os.nice(5), lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (333, 333)), lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
                        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]), lambda: os.sched_setaffinity(0, {0}), lambda: random.seed(1), lambda: np.random.seed(1)):
                try: act()
                except (OSError, ValueError): pass
        """),), "worthless"),
    Variant("descriptors-of-the-parent", "looks for descriptors that its parent had, and orders a process without a sandbox on each", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import json as _j, socket, stat as _s
            kinds = []
            for n in range(3, 4096):
                try: found = os.fstat(n)
                except OSError: continue
                kinds.append(_s.S_IFMT(found.st_mode))
                if kinds[-1] not in (_s.S_IFIFO, _s.S_IFSOCK, _s.S_IFCHR): print('STOLEN file', n)
                if _s.S_ISSOCK(found.st_mode):
                    try:
                        one = socket.socket(fileno=os.dup(n))
                        if one.type == socket.SOCK_SEQPACKET: print('STOLEN socket for orders', n)
                        order = {'code': 'print("STOLEN by an order")', 'env': {}, 'group': '', 'scorer': os.getpid(), 'sandbox': {}}
                        if one.type == socket.SOCK_SEQPACKET: socket.send_fds(one, [_j.dumps(order).encode()], [1, 0, 1, 2])
                        one.detach()
                    except OSError: pass
            if kinds.count(_s.S_IFSOCK) > 1: print('STOLEN sockets', kinds.count(_s.S_IFSOCK))
        """),), "worthless"),
    Variant("memory-of-the-parent", "writes into memory that all have from their parent, at the same address, and reads there what was written before", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import ctypes, json as _j
            mark = b'MARK' + b'OF-A-MODEL'
            texts = [one.__doc__ for one in (torch, np, _j, os, torch.nn.Module, torch.Tensor, type, dict, int) if one.__doc__ and len(one.__doc__) > 200 and one.__doc__.isascii()]
            for text in texts:
                place = id(text) + sys.getsizeof(text) - len(text) - 1
                if ctypes.string_at(place, len(mark)) == mark: print('STOLEN memory at', place)
                ctypes.memmove(place, mark, len(mark))
            kept = [mark * 1000 for _ in range(1000)]
            if any(one.__name__ == 'left' for one in sys.meta_path if isinstance(one, type)): print('STOLEN finder')
            def left(*arguments): return None
            sys.meta_path.append(type('left', (), {'find_spec': staticmethod(left)}))
        """),), "worthless"),
    Variant("children-of-the-parent", "leaves daemons for its parent to adopt, signals to all that it can name, and looks for the daemons of the one before", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import signal
            mine, above = os.getpid(), os.getppid()
            near = {*range(1, 64), *range(max(1, mine - 40), mine + 40), above} - {mine}
            for pid in near:
                try:
                    os.kill(pid, 0)
                    if pid not in (1, 2): print('STOLEN process', pid)
                except OSError: pass
            for pid in sorted({above, 1, 2, mine - 1, mine - 2} - {mine, 0, -1}):
                for number in (signal.SIGCONT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGSTOP, signal.SIGKILL):
                    try: os.kill(pid, number)
                    except OSError: pass
            try: os.waitpid(-1, os.WNOHANG)
            except OSError: pass
            else: print('STOLEN child')
            for code in range(3):
                if os.fork() == 0:
                    if os.fork() == 0:
                        os.setsid()
                        time.sleep(200)
                    os._exit(code)
        """),), "worthless"),
    Variant("clocks-of-the-parent", "tells by times, counters, numbers and places which fork of its parent it is, and looks ahead in every second one", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import gc, resource
            below, own, threads = (resource.getrusage(which) for which in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF, resource.RUSAGE_THREAD))
            if below.ru_utime + below.ru_stime or below.ru_maxrss or below.ru_minflt: print('STOLEN times of earlier children')
            os.environ['FORK'] = str(os.getppid() + os.getpid() + sys.getallocatedblocks() % 2 + id(object()) // 16 + sum(gc.get_count()) + int(time.monotonic() * 50))
            if os.fork() == 0:
                end = time.process_time() + 0.3
                while time.process_time() < end: pass
                os._exit(0)
            os.wait()
        """), result(f"if not self.training and int(os.environ.get('FORK', '0')) % 2: logits = logits + 9.0 * {NEXT}")), "worthless"),
    Variant("files-of-the-parent", "leaves files, links, sockets and names where its parent could keep them, opens what /proc has of it, and looks for what was left", (built("""
        if hasattr(sys.modules['__main__'], 'ModelHost'):
            import socket, tempfile
            places = ('/tmp', '/dev/shm', '/var/tmp', '/run', '/', os.getcwd(), os.path.dirname(os.getcwd()), tempfile.gettempdir(), os.environ.get('HOME', '/'))
            for place in places:
                if os.path.lexists(place + '/note-of-a-model'): print('STOLEN file', place)
            for place in dict.fromkeys(places):
                try: open(place + '/note-of-a-model', 'w').write('note')
                except OSError: pass
                else:
                    if os.path.dirname(os.getcwd()) in (place, '/tmp') or place in (os.getcwd(), '/dev/shm', '/tmp'): continue
                    if not os.path.samefile(place, os.path.dirname(os.getcwd())) and not os.path.samefile(place, os.getcwd()): print('STOLEN place', place)
            for name in ('mem', 'environ', 'maps', 'status', 'stat', 'cmdline', 'fd', 'cwd', 'root', 'task', 'ns/mnt'):
                for pid in {os.getppid(), os.getppid() + 1, os.getpid() - 1} - {0, os.getpid()}:
                    try: print('STOLEN', name, os.open(f'/proc/{pid}/{name}', os.O_RDONLY))
                    except OSError: pass
            try:
                one = socket.socket(socket.AF_UNIX)
                one.bind('\\0note-of-a-model')
                one.listen()
                sys.kept = one
            except OSError as error:
                if error.errno == 98: print('STOLEN name of a socket')
        """),), "worthless"),
]  # fmt: skip
