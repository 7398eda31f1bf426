"""Text to tokens, a batch of pieces at a time, in this process or in one process for each processor.

The processes get batches through pipes and need no shared memory, semaphores or temporary files.
"""

from __future__ import annotations

import array
import contextlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nanotrain.corpus import PrepareError

Batch = list[tuple[str, str, bool]]  # (slice, text, fresh) of corpus.split()
Encoded = dict[str, tuple[bytes, int]]  # slice -> its tokens (little-endian uint16), the bytes of text they stand for
BATCH_PIECES = 128  # half a megabyte of text
MAX_PROCESSES = 32  # one process reads the text for all
MIN_BYTES_PER_PROCESS = 8_000_000  # for less text another process does not pay
CONTAINER_LIMITS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))  # of control groups 2 and 1


class Encoder:
    """The tokenizer in a folder, and the bytes of text of each of its tokens."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # a text that holds the letters of a special token is text
        self.lengths = (folder / "token_bytes.bin").read_bytes()

    def encode(self, batch: Batch) -> Encoded:
        """The tokens of each slice; BOS, token 0, stands before a piece that does not continue the one before."""
        import numpy as np

        tokens = {name: array.array("H") for name in dict.fromkeys(name for name, _, _ in batch)}
        texts = [piece for _, piece, _ in batch]
        encoded = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for (name, _, fresh), found in zip(batch, encoded, strict=True):
            if fresh:
                tokens[name].append(0)
            tokens[name].extend(found.ids)
        lengths = np.frombuffer(self.lengths, dtype=np.uint8)
        covered = {name: int(lengths[np.frombuffer(ids, dtype=np.uint16)].sum()) for name, ids in tokens.items()}
        if sys.byteorder == "big":
            for ids in tokens.values():
                ids.byteswap()
        return {name: (ids.tobytes(), covered[name]) for name, ids in tokens.items()}


def cores() -> int:
    """Processors that this process may use: its affinity, and the quota of its container."""
    usable = len(os.sched_getaffinity(0))
    for names in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            quota, period = " ".join(Path("/sys/fs/cgroup", name).read_text() for name in names).split()
            usable = min(usable, max(1, int(quota) // int(period))) if int(quota) > 0 else usable
    return usable


def batches(pieces: Iterator[tuple[str, str, bool]]) -> Iterator[Batch]:
    """Lists of BATCH_PIECES pieces; the last one may be shorter."""
    while batch := list(islice(pieces, BATCH_PIECES)):
        yield batch


def encode_all(
    work: Iterable[Batch], text_bytes: int, tokenizer: Path, processes: int | None = None
) -> Generator[tuple[Batch, Encoded], None, None]:
    """Each batch with its tokens, in order. `tokenizer`: the folder of its files.

    `processes` 0: none but this one; None: as many as pay for `text_bytes` of text. Raises PrepareError when one of the
    processes ends.
    """
    if processes is None:
        processes = min(cores(), text_bytes // MIN_BYTES_PER_PROCESS, MAX_PROCESSES)
    if processes < 1:
        encoder = Encoder(tokenizer)
        yield from ((batch, encoder.encode(batch)) for batch in work)
        return
    idle: SimpleQueue[Connection] = SimpleQueue()
    context = multiprocessing.get_context("spawn")
    started, threads = [], ThreadPoolExecutor(processes)
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, tokenizer), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
            idle.put(ours)
        waiting: deque[tuple[Batch, Future[Encoded]]] = deque()
        for batch in work:
            waiting.append((batch, threads.submit(_ask, idle, batch)))
            if len(waiting) > 2 * processes:
                first, answer = waiting.popleft()
                yield first, answer.result()
        for first, answer in waiting:
            yield first, answer.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process, ours in started:
            process.kill()
            process.join()
            ours.close()


def _ask(idle: SimpleQueue[Connection], batch: Batch) -> Encoded:
    connection = idle.get()
    try:
        connection.send(batch)
        answer: Encoded | str = connection.recv()
    except (EOFError, OSError) as error:
        what = "a process that tokenizes has ended, perhaps for want of memory"
        raise PrepareError(what, "run the same command again: it goes on where it was") from error
    finally:
        idle.put(connection)
    if isinstance(answer, str):
        raise PrepareError(f"the tokenizer failed: {answer}", "report this error and the corpus")
    return answer


def serve(connection: Connection, tokenizer: Path) -> None:
    """Encode what comes until the other end is closed. The main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # control-c goes to the whole group: the one that asks ends this one
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with contextlib.suppress(EOFError, OSError):
        encoder = Encoder(tokenizer)
        while True:
            batch = connection.recv()
            try:
                answer: Encoded | str = encoder.encode(batch)
            except Exception as error:  # whatever a tokenizer raises is told by the process that asks
                answer = f"{type(error).__name__}: {error}"
            connection.send(answer)
