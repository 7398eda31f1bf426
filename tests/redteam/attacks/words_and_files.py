"""Attacks by what a run prints, reports and leaves: numbers, names and files that whoever reads them may stumble over."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.escape import Escape

ATTACKS = [
    Escape("numbers-without-end", "prints and reports steps and losses that no number holds", """
        for words in ("step 99999999999 | loss 1e999", "step 9999999999999999999999 loss -inf", "step -5 loss nan", "step 1e400",
                      "loss 0.0000000000000000000000000000000000000000001", "step \\u0663\\u0664 loss \\u00b2", "step" * 90000):
            print(words, flush=True)
        channel = socket.socket(fileno=int(os.environ["AUTORESEARCH_CONTROL_FD"]))
        for text in (b'{"type": "done", "steps": 1e308, "tokens": -1}', b'{"type": "done", "steps": ' + b"9" * 4000 + b"}",
                     b'{"type": "ready", "params": NaN}', b'{"type": "ready", "params": Infinity}'):
            channel.send(text)
        time.sleep(0.3)
        """, check=lambda host: host.sound_reports()),
    Escape("names-that-nobody-types", "leaves files whose names hold line ends, commands for terminals, half characters and options", """
        for place in (".", os.environ["AUTORESEARCH_RUN_DIR"], os.environ["HOME"], os.environ["TMPDIR"]):
            for name in (b"a\\nb", b"\\x1b[2J", b"\\xff\\xfe", "\\u202egnp.exe".encode(), b"-rf", b" ", b"x" * 255, b"*", b"%s%n", b"\\\\", b"CON"):
                open(os.path.join(os.fsencode(place), name), "w").close()
                os.mkdir(os.path.join(os.fsencode(place), name[:200] + b".d"))
        """, check=lambda host: host.tidy()),
    Escape("git-by-other-names", "leaves folders that a file system may take for git's own, and objects and references of git", """
        for name in (".GIT", ".Git", ".git\\u200c", "GIT~1", ".git ", ".git.", "sub/.git"):
            os.makedirs(name + "/hooks", exist_ok=True)
            write(name + "/config", "[core]\\n\\tfsmonitor = touch " + base + "/pwned\\n\\thooksPath = hooks\\n")
            write(name + "/HEAD", "ref: refs/heads/main\\n")
        write(".gitattributes", "*.py text eol=crlf export-subst merge=evil working-tree-encoding=UTF-16\\n")
        write(".mailmap", "x <x@x>\\n")
        write(".gitignore", "*\\n!model.py\\n")
        """, check=lambda host: host.look_with_git(), slow=True),
    Escape("one-line-without-end", "prints 40 MB without a line end, then half a command for terminals and half a character", """
        for _ in range(40): os.write(1, b"x" * (1 << 20))
        os.write(1, b"\\xe2\\x82 \\x1b]52;c;")
        """, check=lambda host: host.small_log(), slow=True),
    Escape("marks-in-its-words", "prints letters that turn lines round, hide text or look like others, and links for terminals", """
        print("\\u202e\\u2066\\u200b\\U000e0041\\ufeff\\x9b31m \\x1b]8;;http://x\\x07here\\x1b]8;;\\x07 \\x1b]52;c;eA==\\x07\\x1bP+q\\x1b\\\\", flush=True)
        print("\\r\\x08\\x7f\\x0c\\x0b\\x00", flush=True)
        """, check=lambda host: host.small_log(), slow=True),
    Escape("closed-streams", "closes its output, its errors and its channel, and goes on", """
        os.close(int(os.environ["AUTORESEARCH_CONTROL_FD"]))
        os.closerange(0, 3)
        time.sleep(0.3)
        os._exit(0)
        """, check=lambda host: host.nobody_left(), slow=True),
    Escape("one-program-after-another", "executes itself two hundred times, and leaves a child that does the same", """
        count = int(os.environ.get("RED_COUNT", "0"))
        if count == 0 and os.fork() == 0:
            os.setsid()
            while True: os.wait() if os.fork() else os.execv("/bin/true", ["true"])
        if count < 20:
            os.environ["RED_COUNT"] = str(count + 1)
            os.execv(sys.executable, [sys.executable, "-S", __file__])
        """, check=lambda host: host.nobody_left(), slow=True),
    Escape("a-core-of-itself", "crashes with much memory, so that a core file would be left", """
        hold = bytearray(b"x") * (100 << 20)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        os.kill(os.getpid(), signal.SIGQUIT)
        """, ("crashed",), "SIGQUIT", check=lambda host: host.tidy(), slow=True),
    Escape("pipes-in-its-folder", "leaves named pipes and sockets where files are read, so that their reader waits", """
        for place in (".", os.environ["AUTORESEARCH_RUN_DIR"]):
            for name in ("model.json", "weights.safetensors", "model.py", "x"):
                if os.path.exists(place + "/" + name): os.unlink(place + "/" + name)
                os.mkfifo(place + "/" + name)
        attempt("socket", lambda: (socket.socket(socket.AF_UNIX).bind("s"), [][0]))
        """, check=lambda host: host.look_with_git(), slow=True),
]  # fmt: skip
