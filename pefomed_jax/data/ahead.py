"""Batches made ahead of their use, by threads or by worker processes, in order.

Grain sends the arrays of a worker through shared memory; they are copied out of it here, since who
holds such an array holds an open file with it, and leaves it behind when the program ends.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, parent_process

import grain
import jax
import numpy as np

from pefomed_jax.batch import Batch
from pefomed_jax.errors import UserError

BUFFER = 4  # batches kept ready by threads, and by each worker process
DIED = "Worker process was terminated"  # how grain's message begins


def run(
    make: Callable[[int], tuple[int, Batch]], start: int, stop: int, workers: int
) -> Iterator[tuple[int, Batch]]:
    """make(start), …, make(stop - 1), in order; what `make` raises is raised here.

    Closed (or exhausted), it leaves no worker process. Errors: UserError where one was killed.
    """
    threads = 1 if workers else min(4, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=BUFFER)
    batches = grain.MapDataset.range(stop)[start:].map(make).to_iter_dataset(options)
    if workers:
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(workers, BUFFER), follow)
    iterator = iter(batches)
    try:
        with told(workers):
            for _ in range(start, stop):  # a StopIteration out of `make` is not taken for the end
                k, batch = next(iterator)
                yield k, own(batch) if workers else batch
    finally:
        iterator.close()


def own(batch: Batch) -> Batch:
    """The batch in memory of this process."""
    return jax.tree.map(np.array, batch)


@contextlib.contextmanager
def told(workers: int) -> Iterator[None]:
    """A worker process that was killed is told in a line."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(DIED):
            raise
        code = str(error).partition("exit code ")[2].partition(".")[0]
        raise UserError(
            f"data.workers: one of {workers} worker processes was ended (exit code {code}), for "
            "want of memory perhaps; the same command goes on, with --config.data.workers=0 "
            "without such processes"
        ) from None


def follow(number: int, count: int) -> None:
    """What a worker process does first: it ends with its parent, and only with it.

    ctrl-C and a scheduler's SIGTERM reach it too, but the step that they let end needs its batches.
    """
    del number, count  # of the worker, and of all: grain gives them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)
