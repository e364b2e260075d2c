"""A program in a process of its own that answers lines with lines, never waited on without end."""

import collections
import contextlib
import os
import pathlib
import queue
import signal
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import TextIOWrapper
from typing import Any

KEPT = 20  # last lines of its errors
GRACE_S = 5.0  # in which an ended process gives its last words


class Program:
    """A running program; it ends with this object, or with ours.

    Its errors are read as they come, so that it never waits for a reader. `after` is called when it
    has ended. Errors: OSError where it does not start.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: pathlib.Path | None = None,
        env: Mapping[str, str] | None = None,
        after: Callable[[], Any] = lambda: None,
    ):
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # ctrl-C reaches it through `_end`, not as a traceback
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # None: no more
        self._said: collections.deque[str] = collections.deque(maxlen=KEPT)
        self._errors = _thread(_read, self._process.stderr, self._said.append)
        readers = [_thread(_read, self._process.stdout, self._lines.put, True), self._errors]
        self._finalizer = weakref.finalize(self, _end, self._process, readers, after)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, lines: Iterable[str]) -> None:
        """Hands lines over beside whatever follows: a pipe holds little, and a program may hang."""
        _thread(_write, self._process.stdin, lines)

    def receive(self, seconds: float) -> str | None:
        """Its next line, None where it has ended. Errors: TimeoutError."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None

    def said(self) -> list[str]:
        """The last lines of its errors that are not blank."""
        return [" ".join(line.split()) for line in list(self._said)]

    def code(self) -> int | None:
        """Its exit code once all it said is read; None where it does not end."""
        self._errors.join(timeout=GRACE_S)
        try:
            return self._process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Ends the process; again: nothing."""
        self._finalizer()


def _thread(work: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


def _read(stream: TextIOWrapper, put: Callable[[Any], None], ends: bool = False) -> None:
    with contextlib.suppress(ValueError):  # closed meanwhile
        for line in filter(str.strip, stream):
            put(line)
    if ends:
        put(None)


def _write(stream: TextIOWrapper, lines: Iterable[str]) -> None:
    with contextlib.suppress(OSError, ValueError):  # gone: the reader finds out why
        for line in lines:
            stream.write(line + "\n")
        stream.flush()


def _end(
    process: subprocess.Popen[str], readers: Sequence[threading.Thread], after: Callable[[], Any]
) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and what it has started
    process.wait()
    for reader in readers:
        reader.join(timeout=GRACE_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):  # what was never sent cannot be flushed
            stream.close()
    after()
