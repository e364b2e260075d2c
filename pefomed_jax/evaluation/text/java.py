"""A program of another language that answers a line with a line, and whatever can happen to it."""

import atexit
import collections
import contextlib
import pathlib
import queue
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

FIRST = 600.0  # seconds until the first answer: tables of many megabytes are read before
NEXT = 120.0  # seconds for each further one


class JavaError(Exception):
    """Why the program gave no answers: one line for a person."""


class Java:
    """A running program. Its errors are read as they come, so that it never waits for a reader."""

    def __init__(self, command: Sequence[str], folder: pathlib.Path, name: str):
        self.name = name
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        try:
            self._process = subprocess.Popen(command, cwd=folder, **pipes)
        except OSError as error:
            raise JavaError(f"{name} did not start ({error.strerror}): {command[0]}") from None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # None: no more
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        self._answered = False  # whether it ever did
        self._readers = [
            self._start(self._read_answers, self._process.stdout),
            self._start(self._read_errors, self._process.stderr),
        ]
        atexit.register(self.close)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def ask(self, lines: Sequence[str]) -> list[str]:
        """The answer to each line. Raises JavaError, after which the program has ended."""
        writer = self._start(self._write, lines)  # beside the reading, so that no pipe fills up
        try:
            answers = [self._next(i) for i in range(len(lines))]
        except JavaError:
            self.close()
            raise
        writer.join()
        return answers

    def _next(self, i: int) -> str:
        seconds = NEXT if self._answered else FIRST
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise JavaError(
                f"{self.name} gave no answer to case {i + 1} in {seconds:g} s"
            ) from None
        if answer is None:
            raise JavaError(self._why(i))
        self._answered = True
        return answer

    def _why(self, i: int) -> str:
        """How the program ended, with the first of its last words."""
        self._process.wait()
        for reader in self._readers:
            reader.join()
        said = next((line.strip() for line in self._said if line.strip()), "it said nothing")
        code = self._process.returncode
        return f"{self.name} ended at case {i + 1} with {code}: {said[:200]}"

    def close(self) -> None:
        """Ends the program."""
        atexit.unregister(self.close)
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdout, self._process.stderr, self._process.stdin):
            with contextlib.suppress(BrokenPipeError, ValueError):
                pipe.close()  # what was not written yet has no reader any more

    def _start(self, work, *args) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        thread.start()
        return thread

    def _write(self, lines: Sequence[str]) -> None:
        try:
            for line in lines:
                self._process.stdin.write(line.encode("utf-8", "replace") + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # the program has ended, which its reader sees

    def _read_answers(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._answers.put(line.decode("utf-8", "replace").rstrip("\r\n"))
        self._answers.put(None)

    def _read_errors(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self._said.append(line.decode("utf-8", "replace").rstrip())
