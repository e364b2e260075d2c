"""A parent that stays beside a process of several, to say why it ended.

JAX ends a process from within C++ when it cannot join the others or when one of them is lost: no
handler of Python runs and the words are JAX's. So the work is done by a child. The parent waits,
hands signals on, and turns such an end into a line and an exit code.
"""

import contextlib
import os
import signal
import socket
import sys
from typing import NoReturn

from pefomed_jax.parallel.guard import die_with
from pefomed_jax.parallel.join import Place

LOST = 76  # exit code: another process of the run is gone; the same command goes on
JOINED = b"joined\n"


class Supervised:
    """Forks on entry to `begin`; the child gets it back, the parent never does."""

    def __init__(self, here: Place, pipe: int):
        self.here, self._pipe = here, pipe

    def joined(self) -> None:
        """Tells the parent that the run is complete."""
        os.write(self._pipe, JOINED)


def begin(here: Place) -> Supervised:
    """Returns in a child that ends when its parent does. Call it before there are threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent, (reads, writes) = os.getpid(), os.pipe()
    child = os.fork()
    if child:
        os.close(writes)
        _watch(child, here, reads)
    os.close(reads)
    os.setpgid(0, 0)  # a terminal's ctrl-C comes through the parent, once
    die_with(parent)()
    # JAX's way to end a process; the stacks of all threads, 90 lines, would hide why
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    return Supervised(here, writes)


def _watch(child: int, here: Place, reads: int) -> NoReturn:
    """Waits for the child and exits as it did, or with what its end means."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    line, code = explained(-code, here, os.read(reads, len(JOINED)) == JOINED)
    with contextlib.suppress(OSError):  # nobody reads any more
        print(f"error: {line}", file=sys.stderr, flush=True)
    os._exit(code)


def explained(number: int, here: Place, joined: bool) -> tuple[str, int]:
    """(line, exit code) of a process that a signal ended."""
    name = signal.Signals(number).name
    if number != signal.SIGABRT:
        why = " (by hand, or because memory ran out)" if number == signal.SIGKILL else ""
        return f"{here.said} was ended by {name}{why}", 128 + number
    if joined:
        return (
            f"{here.said} was ended by JAX, as another process of the run is gone or stands still "
            "(its own output says why; JAX names it above); nothing saved is lost, the same "
            "command goes on",
            LOST,
        )
    return (
        f"{here.said} could not join within {here.join_timeout} seconds: {_reached(here)}",
        1,
    )


def _reached(here: Place) -> str:
    """What can be seen of the coordinator from here."""
    others = "all processes must be started, with the same --coordinator and --num_processes"
    if here.coordinator is None or here.index == 0:
        return f"not every process came; {others}"
    host, port = here.coordinator.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError as error:
        return (
            f"nothing answers at the coordinator {here.coordinator} ({error.strerror or error}): "
            "process 0 was not started there, has given up too, or a firewall is between"
        )
    return f"the coordinator {here.coordinator} answers, but not every process came; {others}"
