"""Several processes on one machine, for launch/local.py: started together, ended together.

Standard library only: what watches a run must not need the memory, nor share the faults, of JAX.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from pefomed_jax.parallel.guard import POLL, Guard, die_with, kill_all

MEANING = {
    0: "done",
    1: "something to put right",
    2: "a wrong command line",
    75: "interrupted and saved",
    76: "another process of the run was lost",
}


def restarts(code: int) -> bool:
    """True for codes after which the same command may go on: 75, 76, and death by a signal."""
    return code in (75, 76) or code > 128


def _meaning(code: int) -> str:
    if code - 128 in set(signal.Signals):  # as shells and our own supervisors say it
        return f": killed by {signal.Signals(code - 128).name}"
    return f": {MEANING[code]}" if code in MEANING else ""


def say(words: str) -> None:
    print(f"local: {words}", file=sys.stderr, flush=True)


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
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
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
                kill_all(process.pid)
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
            reader.join(timeout=5)  # who left its session could hold the pipe for ever
        return self._code()

    def _ended(self, i: int, process: subprocess.Popen[bytes]) -> None:
        kill_all(process.pid)  # what it started and left behind
        self._guard.toggle(process.pid)
        code = process.returncode
        self._codes[i] = code if code >= 0 else 128 - code
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with {code}{_meaning(code)}"
        say(f"process {i} of {len(self._processes)} {how}")

    def _kill_rest(self, grace: float) -> None:
        for i, process in enumerate(self._processes):
            if i not in self._codes and i not in self._killed:
                say(f"process {i} still runs {grace:g} s after another has failed: killed")
                self._killed.add(i)
                kill_all(process.pid)

    def _code(self) -> int:
        """The first failure; 76 says only that another was lost, and counts if nothing else."""
        own = [code for i, code in self._codes.items() if code and i not in self._killed]
        return next((code for code in own if code != 76), own[0] if own else 0)


def _show(i: int, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        # of a progress bar, which goes back to the start of its line, what it came to
        last = line.rstrip(b"\r\n").rsplit(b"\r", 1)[-1]
        sys.stdout.buffer.write(b"[%d] %s\n" % (i, last))
        sys.stdout.buffer.flush()
