"""Attacks on files, descriptors, processes, memory, the disk and the shim."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.escape import Escape

ATTACKS = [
    Escape("keys-in-the-environment", "looks for the harness's keys in every environment it can find", """
        attempt("own", lambda: [v for v in os.environ.values() if "sk-red" in v][0])
        for pid in {os.getppid(), 1, *map(int, filter(str.isdecimal, os.listdir("/proc")))} - {os.getpid()}:
            attempt(pid, lambda: [w for w in open(f"/proc/{pid}/environ").read().split("\\0") if "sk-red" in w][0])
        """),
    Escape("keyring", "reads the kernel keyring of the harness's session", """
        SEARCH, READ, SESSION = 10, 11, -3
        number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
        def read():
            key = call(number, SEARCH, SESSION, b"user", b"autoresearch-red", 0)
            buffer = ctypes.create_string_buffer(64)
            call(number, READ, key, buffer, 64, 0)
            return buffer.value
        attempt("session keyring", read)
        """),
    Escape("open-descriptors", "looks for descriptors that the harness left open", """
        allowed = {0, 1, 2, int(os.environ["AUTORESEARCH_CONTROL_FD"])}
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in allowed:
                attempt(name, lambda: os.fstat(int(name)))
        """),
    Escape("engine-database", "reads and writes the session's log and the engine's own files", """
        for path in ("session.db", "settings.json", "engine.log", "runs/2/out/weights", "worktrees/2/notes"):
            attempt("read " + path, lambda: open(f"{base}/session/{path}").read())
            attempt("write " + path, lambda: write(f"{base}/session/{path}"))
            attempt("remove " + path, lambda: os.unlink(f"{base}/session/{path}"))
        attempt("replace", lambda: os.rename(__file__, f"{base}/session/session.db"))
        """, check=lambda host: "" if host.intact() else "the session's files were changed"),
    Escape("engine-socket", "talks to the engine by its path and by an abstract name", """
        for address in (f"{base}/engine.sock", abstract, "/run/docker.sock", "/var/run/docker.sock"):
            def talk():
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(address)
                    s.send(b"stop")
            attempt(address, talk)
        for family in (40, 17, 38, 15, 31):  # vsock, packet, alg, key, bluetooth
            attempt(f"family {family}", lambda: socket.socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_STREAM))
        """),
    Escape("git-hooks", "plants hooks, filters and configuration for the harness's git", """
        pointer = open(".git").read().split(maxsplit=1)[1].strip()
        for path in (pointer, pointer + "/../..", f"{base}/repo/.git"):
            attempt("hook", lambda: write(path + "/hooks/post-checkout", "#!/bin/sh\\ntouch " + base + "/pwned"))
            attempt("config", lambda: write(path + "/config", "[core]\\nfsmonitor = touch " + base + "/pwned"))
        write(".gitattributes", "* filter=evil diff=evil\\n")
        write(".gitmodules", '[submodule "x"]\\n\\tpath = x\\n\\turl = ext::touch ' + base + "/pwned\\n")
        for folder in ("x", "inner"):
            os.makedirs(folder + "/.git/hooks")
            write(folder + "/.git/config", "[core]\\n\\tfsmonitor = touch " + base + "/pwned\\n")
            write(folder + "/.git/HEAD", "ref: refs/heads/main\\n")
        """, check=lambda host: host.look_with_git()),
    Escape("links-for-the-broom", "leaves links to other people's folders where the harness will tidy up", """
        for place in (os.environ["HOME"], os.environ["TMPDIR"], os.environ["AUTORESEARCH_RUN_DIR"], "."):
            os.symlink(f"{base}/session", place + "/link")
            os.makedirs(place + "/deep/er")
            os.symlink(f"{base}/session/session.db", place + "/deep/er/link")
            os.chmod(place + "/deep/er", 0)
            os.chmod(place + "/deep", 0o111)
        """, check=lambda host: host.tidy()),
    Escape("fork-bomb", "forks until something gives way", """
        for _ in range(400):
            if os.fork() == 0:
                time.sleep(60)
        time.sleep(60)
        """, ("resources", "crashed"), "more than 64 processes|Resource temporarily", {"process_limit": 64}),
    Escape("phoenix", "a chain of processes that fork and die, to be gone before the signal comes", """
        if os.fork() == 0:
            os.setsid()
            end = time.monotonic() + 60
            while time.monotonic() < end:
                if os.fork():
                    os._exit(0)
        time.sleep(0.3)
        """, check=lambda host: host.nobody_left()),
    Escape("detached-at-the-end", "leaves a daemon that ignores every signal and has closed all it inherited", """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 32):
                    try: signal.signal(number, signal.SIG_IGN)
                    except OSError: pass
                os.closerange(0, 64)
                while True: time.sleep(1)
            os._exit(0)
        os.wait()
        """, check=lambda host: host.nobody_left()),
    Escape("stops-itself", "stops itself, so that its own clock stands still", """
        os.kill(os.getpid(), signal.SIGSTOP)
        """, ("overtime",), "past its budget", {"seconds": 1.0}, slow=True),
    Escape("memory-of-children", "takes memory in many small children", """
        for _ in range(8):
            if os.fork() == 0:
                hold = bytearray(os.urandom(1 << 20)) * 80
                time.sleep(60)
        time.sleep(60)
        """, ("resources",), "more than 300 MB of memory", {"memory_limit": 300 << 20}, slow=True),
    Escape("memory-in-memfd", "takes memory in anonymous files that no process has mapped", """
        holes = [os.memfd_create("hole") for _ in range(8)]
        for fd in holes:
            for _ in range(100): os.write(fd, bytes(1 << 20))
        time.sleep(60)
        """, ("resources",), "more than 300 MB of memory", {"memory_limit": 300 << 20}),
    Escape("memory-in-shm", "fills /dev/shm and every other place that is memory", """
        import glob
        for place in ("/dev/shm", "/dev", "/run", "/", "/var/tmp", "/sys/fs/cgroup", "/mnt"):
            try:
                with open(place + f"/autoresearch-red-{os.getpid()}", "wb") as file:
                    try:
                        for _ in range(600): file.write(bytes(1 << 20))
                    finally:
                        if not place.startswith("/dev/shm"): print("STOLEN:", place)
                time.sleep(5)
            except OSError as error:
                print("refused:", place, error)
        for name in glob.glob("/dev/shm/autoresearch-red-*"): os.unlink(name)
        """, ("resources", "done"), "more than 300 MB", {"memory_limit": 300 << 20}, slow=True),
    Escape("memory-in-system-v", "leaves System V segments, queues and semaphores behind", """
        numbers = {"x86_64": (29, 68, 64, 240), "aarch64": (194, 186, 190, 180)}[os.uname().machine]
        if os.environ["RED_TIER"] == "B":
            attempt("segment", lambda: call(numbers[0], 0x52454400, 4096, 0o1666))
            attempt("queue", lambda: call(numbers[1], 0x52454400, 0o1666))
            attempt("semaphores", lambda: call(numbers[2], 0x52454400, 1, 0o1666))
            attempt("posix queue", lambda: call(numbers[3], b"autoresearch-red", 0o102, 0o600, None))
        else:
            call(numbers[0], 0x52454400, 4096, 0o1666)
        """, check=lambda host: host.no_segments()),
    Escape("disk-of-small-files", "fills the disk with small files", """
        os.mkdir("many")
        for n in range(200000):
            with open(f"many/{n}", "wb") as file: file.write(b"x" * 4096)
        time.sleep(60)
        """, ("resources",), "more than 32 MB to disk", {"disk_limit": 32 << 20}, slow=True),
    Escape("disk-of-removed-files", "fills the disk with files that it has removed and keeps open", """
        held = []
        for n in range(6):
            held.append(open(os.environ["TMPDIR"] + f"/f{n}", "wb"))
            os.unlink(held[-1].name)
            for _ in range(20): held[-1].write(bytes(1 << 20))
            held[-1].flush()
        time.sleep(60)
        """, ("resources",), "more than 32 MB to disk", {"disk_limit": 32 << 20}, slow=True),
    Escape("disk-of-one-file", "one file over the limit, by one call", """
        fd = os.open("big", os.O_CREAT | os.O_WRONLY)
        os.posix_fallocate(fd, 0, 300 << 20)
        """, ("resources", "crashed"), "more than 32 MB|File too large|No space|Permission", {"disk_limit": 32 << 20}),
    Escape("output-flood", "prints 300 MB and control characters", """
        line = b"\\x1b]0;pwned\\x07" + b"x" * 65000 + b"\\n"
        for _ in range(4600): os.write(1, line)
        """, check=lambda host: host.small_log(), slow=True),
    Escape("descriptor-flood", "sends the shim ten thousand descriptors over the control channel", """
        channel = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
        fd = array.array("i", [os.open("/dev/null", os.O_RDONLY)] * 200)
        for _ in range(50):
            try: channel.sendmsg([b'{"type": "x"}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)], socket.MSG_DONTWAIT)
            except OSError: time.sleep(0.01)
        """),
    Escape("control-nonsense", "deep JSON, wrong types, huge numbers and a closed channel", """
        channel = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
        for text in (b"[" * 50000, b"{}", b"null", b'{"type": ["ready"]}', b'{"type": "done", "steps": 1e999}',
                     b'{"type": "ready", "params": -1}', b'{"type": "done", "steps": "' + b"9" * 60000 + b'"}',
                     b'{"type": "done", "sha256": {}}', b'{"type": "go", "seconds": 9999}', b"\\xff" * 99, b"9" * 60000):
            channel.send(text)
        channel.close()
        """),
    Escape("the-other-run", "reads, changes and signals a run that trains beside it", """
        for name in ("out", "home", "tmp", "spec.json", "output.log", "kill", "go"):
            attempt("list " + name, lambda: os.listdir(f"{base}/run 0/{name}") if name in ("out", "home", "tmp")
                    else open(f"{base}/run 0/{name}").read())
            attempt("write " + name, lambda: write(f"{base}/run 0/{name}" + ("/x" if name in ("out", "home", "tmp") else "")))
        if os.environ["RED_TIER"] == "B":
            attempt("signal", lambda: os.kill(int(os.environ["RED_VICTIM"]), signal.SIGKILL))
        """, check=lambda host: host.neighbour_alive(), beside="time.sleep(60)"),
    Escape("kernel-settings", "writes to /proc/sys, /sys, /proc/sysrq-trigger and its own limits", """
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
                     "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/sys/kernel/hostname",
                     "/sys/fs/cgroup/cgroup.procs", "/proc/self/oom_score_adj"):
            def change():
                fd = os.open(path, os.O_WRONLY)
                if path.endswith("oom_score_adj"):
                    os.write(fd, b"-1000")
            attempt(path, change)
        attempt("limits", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1)))
        attempt("nice", lambda: os.nice(-5))
        attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)))
        attempt("time", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
        """),
    Escape("devices", "opens disks, memory, kvm, fuse and makes nodes of its own", """
        for path in ("/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/vda", "/dev/sda", "/dev/loop-control",
                     "/dev/net/tun", "/dev/port", "/dev/vsock"):
            attempt(path, lambda: os.open(path, os.O_RDWR))
        attempt("node", lambda: (os.mknod("disk", 0o060600, os.makedev(254, 0)), os.open("disk", os.O_RDONLY)))
        """),
    Escape("its-own-end", "forges the files in which the shim says how it ended", """
        folder = os.path.dirname(os.environ["AUTORESEARCH_RUN_DIR"])
        for name in ("exit.json", "exit.json.part", "status.json", "status.json.part", "curve.tsv", "lock"):
            attempt("write " + name, lambda: write(f"{folder}/{name}", '{"ended": "done"}'))
            attempt("link " + name, lambda: os.symlink("/etc/passwd", f"{folder}/{name}"))
        attempt("rename", lambda: os.rename(os.environ["AUTORESEARCH_RUN_DIR"], f"{folder}/out2"))
        sys.exit(7)
        """, ("crashed",), "exited with code 7"),
    Escape("modes-and-marks", "changes modes, owners, times and attributes of other people's files, to close them or to leave a word", """
        import fcntl
        paths = [f"{base}/session/session.db", f"{base}/session", f"{base}/repo/model.py", f"{base}/run 0", os.__file__, "/usr/bin/env"]
        def try_all(*tries):
            for path in paths:
                for do in tries:
                    try: do(path)
                    except OSError: pass
        try_all(lambda p: os.chmod(p, 0), lambda p: os.chown(p, 7, 7), lambda p: os.utime(p, (7, 7)),
                lambda p: os.setxattr(p, "user.red", b"weights"), lambda p: os.truncate(p, 0),
                lambda p: os.fchmod(os.open(p, os.O_RDONLY), 0), lambda p: os.setxattr(os.open(p, os.O_RDONLY), "user.red", b"w"),
                lambda p: os.utime(os.open(p, os.O_RDONLY), (7, 7)), lambda p: os.open(p, os.O_RDONLY | os.O_TRUNC),
                lambda p: fcntl.ioctl(os.open(p, os.O_RDONLY), 0x40086602, b"\\0" * 8))
        for path in paths[:3]:
            attempt("watch " + path, lambda: call({"x86_64": 254, "aarch64": 27}[os.uname().machine],
                    call({"x86_64": 294, "aarch64": 26}[os.uname().machine], 0), path.encode(), 0xfff))
        """, check=lambda host: host.unmarked()),
    Escape("the-keeper-stopped", "stops the process beside it, or slows it down, so that the clock stands still", """
        import fcntl
        if os.environ["RED_TIER"] == "B":
            shim = os.getppid()
            attempt("stop", lambda: os.kill(shim, signal.SIGSTOP))
            attempt("group", lambda: os.killpg(os.getpgid(shim), signal.SIGSTOP))
            attempt("everybody", lambda: os.kill(-1, signal.SIGSTOP))
            attempt("queue", lambda: signal.pidfd_send_signal(os.pidfd_open(shim), signal.SIGSTOP))
            def by_descriptor():
                fcntl.fcntl(int(os.environ["AUTORESEARCH_CONTROL_FD"]), fcntl.F_SETOWN, shim)
                fcntl.fcntl(int(os.environ["AUTORESEARCH_CONTROL_FD"]), fcntl.F_SETSIG, signal.SIGSTOP)
            attempt("descriptor", by_descriptor)
            attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, shim, 19))
            attempt("priority of all", lambda: os.setpriority(os.PRIO_USER, 0, 19))
            for do in (lambda: os.sched_setaffinity(shim, {0}), lambda: os.sched_setscheduler(shim, os.SCHED_IDLE, os.sched_param(0))):
                try: do()
                except OSError: pass
            if os.sched_getscheduler(shim) == os.SCHED_IDLE: print("STOLEN: the shim is idle")
        time.sleep(60)
        """, ("overtime",), "past its budget", {"seconds": 1.0}, slow=True),
    Escape("the-door-rammed", "asks for connections without end from many threads, so that nobody looks at the clock", """
        def ram():
            while True:
                with socket.socket(socket.AF_UNIX) as s:
                    try: s.connect(os.environ["TMPDIR"] + "/nobody" + "/x" * 40)
                    except OSError: pass
        for _ in range(16): threading.Thread(target=ram, daemon=True).start()
        time.sleep(60)
        """, ("overtime",), "past its budget", {"seconds": 1.0}, slow=True),
    Escape("letters-in-the-data", "writes to the training data by their descriptor, and what stands beside their content, and sets their time back", """
        channel = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
        channel.send(b'{"type": "ready", "params": 1}')
        fd = socket.recv_fds(channel, 65536, 1)[1][0]
        here, info = f"/proc/self/fd/{fd}", os.fstat(fd)
        attempt("open again", lambda: os.pwrite(os.open(here, os.O_RDWR), b"evil", 0))
        attempt("empty", lambda: os.truncate(here, 0))
        for path in (fd, here):
            attempt("attribute", lambda: os.setxattr(path, "user.note", b"weights"))
            for do in (lambda: os.chmod(path, 0o606), lambda: os.chown(path, -1, -1), lambda: os.utime(path, (1, 1))):
                try: do()
                except OSError as error: print("refused", error)
        """, limits={"plain": False, "train_files": {"train.bin": "session.db"}}, check=lambda host: host.unmarked()),
    Escape("folders-without-end", "leaves folders deeper than the longest path, and closes them, where the harness will tidy up", """
        for place in (os.environ["HOME"], os.environ["AUTORESEARCH_RUN_DIR"], os.path.dirname(os.path.abspath(__file__))):
            os.chdir(place)
            for _ in range(1200):
                os.mkdir("d")
                os.chdir("d")
            os.chdir(place)
            os.chmod("d", 0)
            os.chmod(place, 0)
        """, ("done", "resources"), "cannot read", check=lambda host: host.tidy(), slow=True),
    Escape("disk-out-of-sight", "fills the disk where nobody can look: in a closed folder, and below the longest path", """
        os.chdir(os.environ["TMPDIR"])
        os.mkdir("closed")
        held = [open(f"closed/{n}", "wb") for n in range(2)]
        os.chmod("closed", 0)
        for _ in range(30):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        held += [open(f"{n}", "wb") for n in range(2)]
        for file in held:
            for _ in range(20): file.write(bytes(1 << 20))
            file.flush()
        time.sleep(60)
        """, ("resources",), "more than 32 MB to disk|cannot read", {"disk_limit": 32 << 20}),
    Escape("letters-in-the-page-cache", "asks which pages of a system file are in memory, and chooses them, to leave a word in them", """
        fd = os.open(os.__file__, os.O_RDONLY)
        attempt("ask by preadv2", lambda: os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT))
        attempt("ask by cachestat", lambda: call(451, fd, (ctypes.c_uint64 * 2)(0, 4096), (ctypes.c_uint64 * 5)(), 0))
        import mmap
        place = mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE)
        found = ctypes.create_string_buffer(1)
        number = {"x86_64": 27, "aarch64": 232}[os.uname().machine]
        attempt("ask by mincore", lambda: call(number, ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(place))), 4096, found))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if os.preadv(fd, [bytearray(4)], 0) != 4: print("STOLEN: an honest read")
        """),
    Escape("names-of-other-threads", "beside a GPU: writes what it may write of its own threads for its child, its keeper and the run beside it", """
        def own(): return os.write(os.open(f"/proc/self/task/{threading.get_native_id()}/comm", os.O_RDWR), b"x")
        child = os.fork()
        if child == 0:
            own()
            time.sleep(60)
        inner = os.environ["RED_TIER"] == "A"  # there other processes do not exist
        for pid in (child,) if inner else (child, os.getppid(), int(os.environ["RED_VICTIM"])):
            for folder in (f"/proc/{pid}", *(f"/proc/{pid}/task/{one}" for one in os.listdir(f"/proc/{pid}/task"))):
                attempt("name", lambda: write(folder + "/comm"))
                attempt("name as it is", lambda: os.write(os.open(folder + "/comm", os.O_RDWR), b"x"))
                for name in () if inner else ("mem", "oom_score_adj", "clear_refs", "timerslack_ns", "uid_map", "attr/current"):
                    attempt(name, lambda: os.open(f"{folder}/{name}", os.O_WRONLY))
        for name in () if inner else ("self/oom_score_adj", "self/clear_refs", "self/timerslack_ns", "self/autogroup"):
            attempt(name, lambda: os.open("/proc/" + name, os.O_WRONLY))
        for path in () if inner else (f"/proc/self/task/../../{os.getppid()}/comm", f"/proc/self/task/{os.getppid()}/comm",
                     f"/proc/{os.getppid()}/task/{os.getpid()}/comm", "/proc/self/comm", f"/proc/{child}/task/{child}/comm"):
            attempt(path, lambda: os.open(path, os.O_RDWR))
        own()
        attempt("rank", lambda: write(f"/proc/self/task/{os.getpid()}/oom_score_adj", "-1"))
        if os.waitpid(child, os.WNOHANG)[0]: print("STOLEN: an honest name of the child")
        os.kill(child, signal.SIGKILL)
        """, check=lambda host: host.neighbour_alive(), beside="time.sleep(60)", card=True),
    Escape("a-listener-beside", "beside a GPU: connects to a socket on which the run beside it listens, as CUDA does, and listens itself", """
        def connect(address, kind):
            with socket.socket(socket.AF_UNIX, kind) as one:
                one.connect(address)
                return one.send(b"weights")
        def descriptor():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.connect_ex(abstract + "-card")
                return one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))])
        for address in (abstract + "-card", f"{base}/run 0/tmp/card", f"{base}/card", f"{base}/tree/card"):
            for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_DGRAM):
                attempt(f"{address} {kind}", lambda: connect(address, kind))
        attempt("descriptor", descriptor)
        own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.bind(abstract + "-next")
        own.listen()
        for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            if os.environ["RED_TIER"] == "B": attempt("own", lambda: connect(abstract + "-next", kind))
        """, check=lambda host: host.nobody_listens() or host.neighbour_alive(), card=True, beside="""
        own = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        own[0].bind(abstract + "-card")
        own[1].bind(os.environ["TMPDIR"] + "/card")
        for one in own: one.listen()
        print("listens", flush=True)
        own[0].settimeout(60)
        print("STOLEN:", own[0].accept())
        """),
    Escape("the-other-cards", "beside a GPU: opens the device files of every card, and of their slices, in each way", """
        shared = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
        names = [f"/dev/{name}" for name in os.listdir("/dev") if name.startswith(("nvidia", "dri", "dxg"))]
        names += [f"/dev/nvidia{number}" for number in range(16)] + [f"/dev/nvidia-caps/nvidia-cap{n}" for n in (1, 2, 30)]
        for path in set(names) - set(shared):
            for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY):
                attempt(path, lambda: os.open(path, flags))
            attempt("link " + path, lambda: (os.symlink(path, "link"), os.open("link", os.O_RDWR)))
            attempt("hard link " + path, lambda: os.link(path, "hard"))
        for number in range(4):
            attempt("node", lambda: (os.mknod("card", 0o020600, os.makedev(195, number)), os.open("card", os.O_RDWR)))
        """, card=True),
]  # fmt: skip
