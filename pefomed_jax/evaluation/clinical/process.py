"""A worker script in another interpreter: JSON lines over pipes, watched and never waited on
without end.
"""

import collections
import contextlib
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

from tqdm import tqdm

from pefomed_jax.errors import UserError

_KEPT = 5  # last lines of stderr that an error shows
_FIND = (
    "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
)
_PROBE_S = 120
_GRACE_S = 5


def environment(python: str) -> dict[str, str]:
    """The worker's environment: no download behind one's back, no path of another interpreter."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    other = os.path.abspath(python) != os.path.abspath(sys.executable)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (other and name in ("PYTHONPATH", "PYTHONHOME"))
    }
    return kept | offline | {"TOKENIZERS_PARALLELISM": "false", "PYTHONIOENCODING": "utf-8"}


def missing(python: str, modules: Sequence[str]) -> list[str]:
    """Which top-level modules an interpreter lacks. Raises UserError for what is no interpreter."""
    if shutil.which(python) is None:
        raise UserError(f"there is no interpreter '{python}'; correct its path")
    command = [python, "-c", _FIND, *modules]
    try:
        ran = subprocess.run(
            command, env=environment(python), capture_output=True, text=True, timeout=_PROBE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"'{python}' does not run ({error}); name a Python interpreter") from None
    if ran.returncode:
        said = " ".join(ran.stderr.split())[-200:]
        raise UserError(f"'{python}' does not run as Python ({said}); name a Python interpreter")
    return ran.stdout.split()


class Worker:
    """A running worker; it ends with this object."""

    def __init__(self, name: str, python: str, script: pathlib.Path, timeout: float) -> None:
        self._name, self._timeout = name, timeout
        folder = tempfile.mkdtemp(prefix=f"{name}-")
        self._process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(python) | {"TMPDIR": folder},
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # ctrl-C reaches it through `_end`, not as a traceback
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._said: collections.deque[str] = collections.deque(maxlen=_KEPT)
        readers = [
            threading.Thread(target=_read, args=(self._process.stdout, self._lines.put, True)),
            threading.Thread(target=_read, args=(self._process.stderr, self._said.append, False)),
        ]
        for reader in readers:
            reader.daemon = True
            reader.start()
        self._errors = readers[1]
        self._finalizer = weakref.finalize(self, _end, self._process, readers, folder)

    def start(self, settings: dict[str, Any]) -> dict[str, str]:
        """Hands over the settings; versions of what the worker uses, once it has its weights.

        Raises UserError where it does not come up, or finds the weights unfit.
        """
        self._send(settings)
        answer = self._answer("while it loaded its weights")
        if "error" in answer:
            self.close()
            raise UserError(answer["error"])
        return answer["ready"]

    def ask(self, items: Sequence[Any]) -> list[Any]:
        """One result an item, in order, with a bar on a terminal. Raises UserError where the worker
        dies or falls silent.
        """
        self._send({"items": list(items)})
        found, start = [], time.perf_counter()
        with tqdm(total=len(items), desc=self._name, file=sys.stderr, disable=None) as bar:
            for i in range(len(items)):
                found.append(self._answer(f"at text {i + 1} of {len(items)}")["result"])
                bar.update()
        seconds = time.perf_counter() - start
        print(f"{self._name}: {len(items)} texts in {seconds:.1f} s", file=sys.stderr, flush=True)
        return found

    def close(self) -> None:
        """Ends the process; again: nothing."""
        self._finalizer()

    def _send(self, message: dict[str, Any]) -> None:
        # in a thread: a pipe holds little, and a worker that hangs would hold this one up
        threading.Thread(target=_write, args=(self._process.stdin, message), daemon=True).start()

    def _answer(self, when: str) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self._timeout)
        except queue.Empty:
            self.close()
            raise UserError(
                f"its worker said nothing for {self._timeout:g} s {when}{self._tail()}; give it "
                f"more time with --metric_options={self._name}.timeout=SECONDS"
            ) from None
        if line is None:
            self._errors.join(timeout=_GRACE_S)
            code = self._code()
            self.close()
            raise UserError(f"its worker ended with {code} {when}{self._tail()}")
        try:
            return json.loads(line)
        except ValueError:
            raise UserError(f"its worker wrote what is no JSON {when}: {line[:200]!r}") from None

    def _code(self) -> str:
        try:
            return f"code {self._process.wait(timeout=_GRACE_S)}"
        except subprocess.TimeoutExpired:
            return "no word"

    def _tail(self) -> str:
        said = " / ".join(" ".join(line.split()) for line in list(self._said))
        return f" (it last said: {said})" if said else ""


def _read(stream: TextIOWrapper, put: Any, ends: bool) -> None:
    with contextlib.suppress(ValueError):  # closed meanwhile
        for line in filter(str.strip, stream):
            put(line)
    if ends:
        put(None)


def _write(stream: TextIOWrapper, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, ValueError):  # gone: the reader finds out why
        stream.write(json.dumps(message) + "\n")
        stream.flush()


def _end(process: subprocess.Popen[str], readers: Sequence[threading.Thread], folder: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and what it has started
    process.wait()
    for reader in readers:
        reader.join(timeout=_GRACE_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):  # what was never sent cannot be flushed
            stream.close()
    shutil.rmtree(folder, ignore_errors=True)
