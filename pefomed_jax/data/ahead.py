"""Batches made ahead of their use, by threads or by worker processes, in order.

A worker sends its batches as bytes. Grain would send arrays through shared memory, of which a
container often has little, and of which whatever is not freed in time outlives the program.
"""

import contextlib
import dataclasses
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, parent_process

import grain

from pefomed_jax.batch import Batch
from pefomed_jax.errors import UserError

BUFFER = 4  # batches kept ready by threads, and by each worker process
DIED = "Worker process was terminated"  # how grain's message begins
Make = Callable[[int], tuple[int, Batch]]


def run(make: Make, start: int, stop: int, workers: int) -> Iterator[tuple[int, Batch]]:
    """make(start), …, make(stop - 1), in order; what `make` raises is raised here.

    Closed (or exhausted), it leaves no worker process. Errors: UserError where one was killed.
    """
    threads = 1 if workers else min(4, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=BUFFER)
    numbers = grain.MapDataset.range(stop)[start:]
    batches = numbers.map(_Sent(make) if workers else make).to_iter_dataset(options)
    if workers:
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(workers, BUFFER), follow)
    iterator = iter(batches)
    try:
        with told(workers):
            for _ in range(start, stop):  # a StopIteration out of `make` is not taken for the end
                made = next(iterator)
                yield pickle.loads(made) if workers else made
    finally:
        iterator.close()


@dataclasses.dataclass(frozen=True)
class _Sent:
    """What a worker sends of batch k."""

    make: Make

    def __call__(self, k: int) -> bytes:
        return pickle.dumps(self.make(k), pickle.HIGHEST_PROTOCOL)


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
