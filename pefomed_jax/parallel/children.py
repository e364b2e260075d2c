"""Several processes on one machine, for launch/local.py: started together, ended together.

Standard library only: what watches a run must not need the memory, nor share the faults, of JAX.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

MEANING = {
    0: "done",
    1: "something to put right",
    2: "a wrong command line",
    75: "interrupted and saved",
    76: "another process of the run was lost",
}
PR_SET_PDEATHSIG = 1  # of prctl(2): Linux only; elsewhere the Guard does it alone
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
POLL = 0.05  # seconds


def restarts(code: int) -> bool:
    """True for codes after which the same command may go on: 75, 76, and death by a signal."""
    return code in (75, 76) or code > 128


def say(words: str) -> None:
    print(f"local: {words}", file=sys.stderr, flush=True)


class Guard:
    """A process that waits for this one to end, however it does, and kills what is left of it.

    The kernel's signal at a parent's death reaches the children alone; their children (workers
    that read images) are reached by their process groups, which are written to the guard's pipe.
    """

    def __init__(self) -> None:
        read, self._write = os.pipe()
        if os.fork() == 0:
            os.close(self._write)
            os.setsid()  # neither ctrl-C nor a kill of our process group reaches it
            for number in STOPS:
                signal.signal(number, signal.SIG_IGN)
            groups: set[int] = set()
            with open(read) as lines:
                for line in lines:  # until the other end is closed: by us, or by our death
                    groups ^= {int(line)}
            for group in groups:
                kill_group(group)
            os._exit(0)
        os.close(read)

    def toggle(self, group: int) -> None:
        """Named once when it starts, a second time when it has ended."""
        os.write(self._write, b"%d\n" % group)


def kill_group(group: int) -> None:
    """SIGKILL to a process and those that it started, as far as they are there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: nothing but a zombie
        os.killpg(group, signal.SIGKILL)


class Round:
    """All processes of the run, from one start to the end of the last of them."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._processes: list[subprocess.Popen[bytes]] = []
        self._readers: list[threading.Thread] = []
        self._codes: dict[int, int] = {}  # in the order in which they ended
        self._killed: set[int] = set()  # by us, which says nothing about what went wrong

    def start(self, program: Sequence[str], added: Sequence[dict[str, str]]) -> None:
        """One process for each of the environments in `added` (on top of this one's)."""
        for more in added:
            process = subprocess.Popen(
                program,
                env=os.environ | more,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=_die_with(os.getpid()),
            )
            self._guard.toggle(process.pid)
            self._processes.append(process)
        # only now: a fork is safe as long as there are no threads
        for i, process in enumerate(self._processes):
            self._readers.append(threading.Thread(target=_show, args=(i, process), daemon=True))
            self._readers[-1].start()

    def send(self, number: int) -> None:
        """A signal to every process that runs; to its workers SIGKILL alone, as it saves first."""
        for process in self._processes:
            if number == signal.SIGKILL:
                kill_group(process.pid)
            else:
                process.send_signal(number)  # none to one that has ended

    def wait(self, grace: float) -> int:
        """The code of the run, once no process is left.

        Seconds of `grace` after the first failure the others are killed.
        """
        failed = None
        while len(self._codes) < len(self._processes):
            for i, process in enumerate(self._processes):
                if i not in self._codes and process.poll() is not None:
                    self._ended(i, process)
            if failed is None and any(self._codes.values()):
                failed = time.monotonic()
            if failed is not None and time.monotonic() > failed + grace:
                self._kill_rest(grace)
            time.sleep(POLL)
        for reader in self._readers:
            reader.join(timeout=5)  # who left its group could hold the pipe for ever
        return self._code()

    def _ended(self, i: int, process: subprocess.Popen[bytes]) -> None:
        kill_group(process.pid)  # what it started and left behind
        self._guard.toggle(process.pid)
        code = process.returncode
        self._codes[i] = code if code >= 0 else 128 - code
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with {code}" + (f": {MEANING[code]}" if code in MEANING else "")
        say(f"process {i} of {len(self._processes)} {how}")

    def _kill_rest(self, grace: float) -> None:
        for i, process in enumerate(self._processes):
            if i not in self._codes and i not in self._killed:
                say(f"process {i} still runs {grace:g} s after another has failed: killed")
                self._killed.add(i)
                kill_group(process.pid)

    def _code(self) -> int:
        """The first failure; 76 says only that another was lost, and counts if nothing else."""
        own = [code for i, code in self._codes.items() if code and i not in self._killed]
        return next((code for code in own if code != 76), own[0] if own else 0)


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def before_exec() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before we could ask
                os._exit(1)

    return before_exec


def _show(i: int, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        # of a progress bar, which goes back to the start of its line, what it came to
        last = line.rstrip(b"\r\n").rsplit(b"\r", 1)[-1]
        sys.stdout.buffer.write(b"[%d] %s\n" % (i, last))
        sys.stdout.buffer.flush()
