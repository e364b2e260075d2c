"""That no process outlives the one that started it, however that one ends.

Standard library only: what watches a run must not need the memory, nor share the faults, of JAX.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

PR_SET_PDEATHSIG = 1  # of prctl(2): Linux only; elsewhere the Guard does it alone
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
POLL = 0.05  # seconds


class Guard:
    """A process that waits for this one to end, however it does, and kills what is left of it.

    The kernel's signal at a parent's death reaches the children alone; what they have started
    (workers that read images) is found by their sessions, which are written to the guard's pipe.
    """

    def __init__(self) -> None:
        read, self._write = os.pipe()
        if os.fork() == 0:
            os.close(self._write)
            os.setsid()  # neither ctrl-C nor a kill of our process group reaches it
            for number in STOPS:
                signal.signal(number, signal.SIG_IGN)
            sessions: set[int] = set()
            with open(read) as lines:
                for line in lines:  # until the other end is closed: by us, or by our death
                    sessions ^= {int(line)}
            for session in sessions:
                kill_all(session)
            os._exit(0)
        os.close(read)

    def toggle(self, session: int) -> None:
        """Named once when it starts, a second time when it has ended."""
        os.write(self._write, b"%d\n" % session)


def kill_all(leader: int) -> None:
    """SIGKILL to the leader of a session and to all in it: its children, their children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone; macOS: but a zombie
        os.killpg(leader, signal.SIGKILL)
    for _ in range(5):  # until those are gone, too, that were being forked
        if not (found := [pid for pid, session in _running() if session == leader]):
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL)


def _running() -> Iterator[tuple[int, int]]:
    """(process, its session), of all that run; nothing where the system has no /proc."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = path.read_text().rpartition(")")[2].split()
            if state != "Z":
                yield int(path.parent.name), int(session)


def die_with(parent: int) -> Callable[[], None]:
    """What a child does before its program begins: it is to end with its parent."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def before_exec() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before we could ask
                os._exit(1)

    return before_exec
