"""A program of another language that answers each case with a line, and all that can happen."""

import pathlib
from collections.abc import Sequence

from pefomed_jax.evaluation.program import Program

FIRST = 600.0  # seconds until the first answer: tables of many megabytes are read before
NEXT = 120.0  # seconds for each further one


class JavaError(Exception):
    """Why the program gave no answers: one line for a person."""


class Java:
    """A running program."""

    def __init__(self, command: Sequence[str], folder: pathlib.Path, name: str):
        self.name, self._answered = name, False
        try:
            self._program = Program(command, cwd=folder)
        except OSError as error:
            raise JavaError(f"{name} did not start ({error.strerror}): {command[0]}") from None

    @property
    def running(self) -> bool:
        return self._program.running

    def ask(self, lines: Sequence[str]) -> list[str]:
        """The answer to each line. Raises JavaError, after which the program has ended."""
        self._program.send(lines)
        try:
            return [self._next(i) for i in range(len(lines))]
        except JavaError:
            self.close()
            raise

    def _next(self, i: int) -> str:
        seconds = NEXT if self._answered else FIRST
        try:
            answer = self._program.receive(seconds)
        except TimeoutError:
            raise JavaError(
                f"{self.name} gave no answer to case {i + 1} in {seconds:g} s"
            ) from None
        if answer is None:
            code, said = self._program.code(), self._program.said() or ["it said nothing"]
            raise JavaError(f"{self.name} ended at case {i + 1} with {code}: {said[0][:200]}")
        self._answered = True
        return answer.rstrip()

    def close(self) -> None:
        """Ends the program."""
        self._program.close()
