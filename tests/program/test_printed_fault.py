"""The reason in the output of a command that failed: outputs of many tools, in short."""

from __future__ import annotations

import pytest

from core.program.printed_fault import MAX_FAULT, printed_fault, with_fault

TRACE = 'Traceback (most recent call last):\n  File "/w/7/train.py", line 12, in <module>\n    step()\n'
RAISED = f"{TRACE}ValueError: the loss is NaN\n"
WARNED = (
    "/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: 1 leaked object\n  warnings.warn('x')\n"
)
NODE = "    at Object.<anonymous> (/w/7/bench/bench.js:2:3)\n    at load (node:internal/x:1:1)\n\nNode.js v20.20.2\n"
DDP = "".join(f"[rank0]: {line}\n" for line in RAISED.splitlines())

TOLD = {
    "python": (f"step 1\n{RAISED}", "ValueError: the loss is NaN"),
    "npm, no such script": (
        'npm error Missing script: "bench"\nnpm error\nnpm error To see a list of scripts, run:\nnpm error   npm run\n'
        "npm error A complete log of this run can be found in: /h/.npm/_logs/1.log\n",
        'npm: Missing script: "bench"',
    ),
    "npm, no package.json": (
        "npm error code ENOENT\nnpm error enoent Could not read package.json: Error: ENOENT: no such file\n"
        "npm error enoent This is related to npm not being able to find a file.\nnpm error enoent\n"
        "npm error A complete log of this run can be found in: /h/.npm/_logs/1.log\n",
        "npm: Could not read package.json: Error: ENOENT: no such file",
    ),
    "python, warnings behind it": (RAISED + WARNED, "ValueError: the loss is NaN"),
    "python, an error in __del__ behind it": (
        f"{RAISED}Exception ignored in: <function A.__del__ at 0x7>\n{TRACE}KeyError: 'x'\n",
        "ValueError: the loss is NaN",
    ),
    "python, a message of several lines": (
        f"{TRACE}RuntimeError: Error(s) in loading state_dict for GPT:\n\tMissing key(s): wte.\n\tsize mismatch\n",
        "RuntimeError: Error(s) in loading state_dict for GPT: Missing key(s): wte.",
    ),
    "python, without a message": (f"{TRACE}AssertionError\n", "AssertionError (train.py, line 12: step())"),
    "python, chained": (
        f"{TRACE}gaierror: Name or service not known\n\nThe above exception was the direct cause of the following "
        f"exception:\n\n{TRACE}OSError: cannot reach hub\n",
        "OSError: cannot reach hub (caused by gaierror: Name or service not known)",
    ),
    "python, an error while another is handled": (
        f"{TRACE}KeyError: 'k'\n\nDuring handling of the above exception, another exception occurred:\n\n"
        f"{TRACE}ModuleNotFoundError: No module named 'x'\n",
        "ModuleNotFoundError: No module named 'x' (after KeyError: 'k')",
    ),
    "python, syntax": (
        '  File "/w/7/train.py", line 3\n    def f(:\n          ^\nSyntaxError: invalid syntax\n'
        '  File "/w/7/other.py", line 9\n    x y\n      ^\nSyntaxError: another\n',
        "SyntaxError: invalid syntax (train.py, line 3)",
    ),
    "python, in a worker": (
        f"{TRACE}ValueError: Caught ValueError in worker process 0.\nOriginal {TRACE}ValueError: bad row 7\n",
        "ValueError: bad row 7",
    ),
    "python, a group": (
        "  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in <module>\n"
        "  | ExceptionGroup: eg (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | ValueError: one\n",
        "ValueError: one",
    ),
    "python, torchrun": (
        f"{DDP}E1129 failed (exitcode: 1) local_rank: 0\n{TRACE}torch.distributed.elastic.multiprocessing.errors."
        "ChildFailedError:\n====\ntrain.py FAILED\n",
        "ValueError: the loss is NaN",
    ),
    "python, torch": (
        f"{TRACE}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    ),
    "python, a command of its own": (
        f"fatal: not a git repository: /p/.git/worktrees/2\n{TRACE}subprocess.CalledProcessError: Command '['git']' "
        "returned non-zero exit status 128.\n",
        "fatal: not a git repository: /p/.git/worktrees/2",
    ),
    "python, no such file": (
        "/opt/v/bin/python3: can't open file '/w/7/nope.py': [Errno 2] No such file or directory\n",
        "python3: can't open file '/w/7/nope.py': [Errno 2] No such file or directory",
    ),
    "node, syntax": (
        f"/w/7/bench/bench.js:2\nfoo bar\n    ^^^\n\nSyntaxError: Unexpected identifier 'bar'\n{NODE}",
        "SyntaxError: Unexpected identifier 'bar' (bench.js:2)",
    ),
    "node, type": (f"TypeError: x is not a function\n{NODE}", "TypeError: x is not a function (bench.js:2)"),
    "node, module": (
        "node:internal/modules/cjs:1228\n  throw err;\n  ^\n\nError: Cannot find module 'lodash'\nRequire stack:\n"
        f"- /w/7/bench/bench.js\n{NODE.replace('Node.js', '{ code: 1 }' + chr(10) + 'Node.js')}",
        "Error: Cannot find module 'lodash' (bench.js:2)",
    ),
    "gcc": (
        "gcc -O2 a.c\na.c:2:21: warning: unused\na.c:3:5: error: 'x' undeclared\na.c:9:5: error: expected ';'\n"
        "make: *** [Makefile:3: bench] Error 1\n",
        "a.c:3:5: error: 'x' undeclared",
    ),
    "a header": ("a.c:1:10: fatal error: nope.h: No such file or directory\ncompilation terminated.\n",
                 "a.c:1:10: fatal error: nope.h: No such file or directory"),
    "ld": (
        "/usr/bin/ld: /tmp/cc1.o: in function `main':\na.c:(.text+0xa): undefined reference to `foo'\n"
        "collect2: error: ld returned 1 exit status\n",
        "a.c:(.text+0xa): undefined reference to `foo'",
    ),
    "rust": (
        "error[E0425]: cannot find value `y` in this scope\n --> src/main.rs:1:25\n  |\n1 | y\n\n"
        "error: could not compile `t` (bin \"t\") due to 1 previous error\n",
        "error[E0425]: cannot find value `y` in this scope (src/main.rs:1:25)",
    ),
    "rust, panic": (
        "thread 'main' (77) panicked at src/main.rs:1:54:\nindex out of bounds\nnote: run with `RUST_BACKTRACE=1`\n",
        "panicked: index out of bounds (src/main.rs:1:54)",
    ),
    "rust, panic as it was": ("thread 'main' panicked at 'boom', src/main.rs:3:5\nnote: run with `RUST_BACKTRACE=1`\n",
                              "panicked: boom (src/main.rs:3:5)"),
    "cargo, network": (
        "error: failed to get `serde` as a dependency\n\nCaused by:\n  download failed\n\nCaused by:\n  no server\n",
        "error: failed to get `serde` as a dependency (caused by no server)",
    ),
    "go": ("# command-line-arguments\n./main.go:5:2: undefined: x\n", "./main.go:5:2: undefined: x"),
    "go, panic": ("panic: runtime error: index out of range [3]\n\ngoroutine 1 [running]:\nexit status 2\n",
                  "panic: runtime error: index out of range [3]"),
    "java": (
        'Exception in thread "main" java.lang.RuntimeException: wrapped\n\tat Main.main(Main.java:1)\n'
        "Caused by: java.io.IOException: gone\n\t... 1 more\n",
        "java.lang.RuntimeException: wrapped (caused by java.io.IOException: gone)",
    ),
    "c++": ("terminate called after throwing an instance of 'std::runtime_error'\n  what():  boom\n",
            "std::runtime_error: boom"),
    "sanitizer": ("=====\n==7==ERROR: AddressSanitizer: heap-buffer-overflow on 0x6\n    #0 in main\n==7==ABORTING\n",
                  "ERROR: AddressSanitizer: heap-buffer-overflow on 0x6"),
    "make": ("make: *** No rule to make target 'x', needed by 'all'.  Stop.\n",
             "make: No rule to make target 'x', needed by 'all'."),
    "make, silent": ("make: *** [Makefile:2: all] Error 1\n", "make: the rule all failed (Error 1)"),
    "sh": ("start\n/bin/sh: 1: nothere: not found\n", "/bin/sh: 1: nothere: not found"),
    "bash": ("./x.sh: line 2: foo: command not found\n", "./x.sh: line 2: foo: command not found"),
    "denied": ("sh: 1: ./run.sh: Permission denied\n", "sh: 1: ./run.sh: Permission denied"),
    "pytest": (
        f"{TRACE}ValueError: x\n=== short test summary info ===\nFAILED test_x.py::test_a - assert 1 == 2\n"
        "FAILED test_x.py::test_b - ValueError: x\n=== 2 failed in 0.01s ===\n",
        "FAILED test_x.py::test_a - assert 1 == 2",
    ),
    "R": ("Error in f() : \n  object 'y' not found\nExecution halted\n", "Error in f() : object 'y' not found"),
    "julia": ("ERROR: LoadError: UndefVarError: `x` not defined\nStacktrace:\n [1] top-level scope\n",
              "ERROR: LoadError: UndefVarError: `x` not defined"),
    "colours and carriage returns": ("\r 97%|### 80it/s\r\x1b[31mRuntimeError: red\x1b[0m\n", "RuntimeError: red"),
}  # fmt: skip


@pytest.mark.parametrize(("output", "words"), TOLD.values(), ids=TOLD)
def test_the_line_that_says_why(output: str, words: str) -> None:
    fault = printed_fault(output)
    assert fault.told and fault.text == words


@pytest.mark.parametrize(
    "before",
    [
        "",
        "validation error: 0.31\n",
        f"{RAISED}still going on\n" + "step\n" * 60,
        "0 errors, 3 warnings\n",
    ],
)
def test_without_a_known_form_it_is_the_last_line(before: str) -> None:
    fault = printed_fault(f"{before}DATA_ROOT is not set\n\n")
    assert fault.text == "DATA_ROOT is not set" and not fault.told
    assert with_fault("exited with code 1", "DATA_ROOT is not set\n") == "exited with code 1: DATA_ROOT is not set"
    for timed in ("real 1.48\nuser 0.18\nsys 0.03\n", "\nreal\t0m1.480s\nuser\t0m0.180s\nsys\t0m0.030s\n"):
        assert printed_fault(f"{before}DATA_ROOT is not set\n{timed}").text == "DATA_ROOT is not set"  # by `time`


def test_the_last_line_of_a_killed_command_is_no_reason() -> None:
    assert with_fault("was ended by SIGSEGV", "step 3 loss: 0.4\n", by_signal=True) == "was ended by SIGSEGV"
    assert with_fault("was ended by SIGABRT", "double free or corruption\n", by_signal=True).endswith(
        ": double free or corruption"
    )
    assert with_fault("exited with code 2", "\n") == "exited with code 2 and printed nothing"


def test_a_reason_is_one_bounded_line() -> None:
    text = printed_fault(f"{TRACE}ValueError: {'x' * 5000}\nand more\n").text
    assert text.startswith("ValueError: xx") and len(text) <= MAX_FAULT and "\n" not in text
