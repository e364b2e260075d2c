"""What the processes of a run tell each other beside their arrays: small values, failures.

Everything here works as well in a run of one process, where it does next to nothing. Functions that
wait for the others must be called by all processes, in the same order.
"""

import contextlib
import hashlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from pefomed_jax.errors import UserError

PREFIX = "pefomed_jax/"
POLL = 1.0  # seconds between two looks at whether another process has failed
PATIENCE = 24 * 3600 * 1000  # milliseconds; a process that fails or dies ends the wait earlier
FAILED = f"{PREFIX}failed"
_numbers = itertools.count()
_left = threading.Event()
_looking: list[threading.Thread] = []


def several() -> bool:
    """Whether this run has other processes, and they can be spoken with."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def devices() -> int:
    """How many this process drives; JAX gathers what all have only where all have as many."""
    return jax.local_device_count()


def first_says(value: Callable[[], Any]) -> Any:
    """What `value()` is in process 0 (JSON), known to all; only that one calls it."""
    if not several():
        return value()
    key = f"{PREFIX}said/{next(_numbers)}"
    if is_first():
        said = value()
        _client().key_value_set(key, json.dumps(said))
        return said
    return json.loads(_client().blocking_key_value_get(key, PATIENCE))


def wait(where: str) -> None:
    """Returns when all processes are here: before something that they do not reach together."""
    if several():
        _client().wait_at_barrier(f"{PREFIX}{where}/{next(_numbers)}", PATIENCE)


def check_same(values: dict[str, Any]) -> None:
    """Returns when all processes have the same values; names are for the user.

    Raises UserError in a process that has another value than process 0, which ends them all: none
    goes on with what the others do not have, and fails at that instead.
    """
    own = {name: hashlib.sha256(repr(v).encode()).hexdigest() for name, v in values.items()}
    first = first_says(lambda: own)
    if differs := [name for name, digest in own.items() if first[name] != digest]:
        raise UserError(
            f"process {jax.process_index()} has another {', '.join(differs)} than process 0; start "
            "all of them with the same command, on the same files"
        )
    wait("same")


def watch() -> None:
    """Ends this process within seconds after another has said `fail`; call it once, after joining.

    A process that says nothing any more is JAX's to find (`supervise.py`).
    """
    if several():
        _looking.append(threading.Thread(target=_look, args=(_client(),), daemon=True))
        _looking[0].start()


def fail(message: str, code: int) -> None:
    """Tells the others why this process ends with an error; process 0 waits until they know."""
    try:
        told = {"process": jax.process_index(), "message": message, "code": code}
        _client().key_value_set(FAILED, json.dumps(told))
    except jax.errors.JaxRuntimeError:
        pass  # another one was first
    if is_first():
        _last()


def _look(client: Any) -> None:
    while not _left.wait(POLL):
        try:
            told = json.loads(client.key_value_try_get(FAILED))
        except Exception:  # nobody has failed; or nothing can be asked any more
            continue
        if told["process"] != jax.process_index():
            with contextlib.suppress(OSError):  # nobody may be there to read it
                print(
                    f"error: process {told['process']} ended this run: {told['message']}",
                    file=sys.stderr,
                    flush=True,
                )
            if is_first():
                _last()
            os._exit(told["code"])


def _last() -> None:
    """Process 0 leaves behind the others, as what has been said goes with it."""
    time.sleep(3 * POLL)


def _client() -> Any:
    from jax._src import distributed  # no public way to the key-value store yet

    return distributed.global_state.client


def lost(error: BaseException, heartbeat: int) -> None:
    """Where the error may be the end of another process, waits until JAX has found that out.

    It ends this process then, within two heartbeats and a few seconds.
    """
    if isinstance(error, jax.errors.JaxRuntimeError) and "EXHAUSTED" not in str(error):
        time.sleep(2 * heartbeat + 5)


def leave() -> None:
    """Returns when all are through; then the run is over."""
    wait("through")  # still told of a failure
    if jax.distributed.is_initialized():
        _left.set()
        for thread in _looking:  # a thread inside JAX at Python's end aborts the process
            thread.join()
        jax.distributed.shutdown()
