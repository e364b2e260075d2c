"""How far things are: a line that is overwritten on a terminal, elsewhere lines that stay."""

import io
import time

EVERY = 10.0  # seconds between lines where the output is no terminal


class Line:
    """The last line of `stream`; on a terminal it is overwritten until another one stays."""

    def __init__(self, stream: io.TextIOBase):
        self.stream = stream
        self._open = False  # a line on a terminal waits to be overwritten

    def write(self, text: str) -> None:
        """A line that the next one overwrites, on a terminal; elsewhere it stays."""
        if self.stream.isatty():
            self.stream.write(f"\r\x1b[K{text}")
            self._open = True
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def passing(self, text: str) -> None:
        """A line that the next one overwrites; nothing where the output is no terminal."""
        if self.stream.isatty():
            self.write(text)

    def line(self, text: str) -> None:
        """A whole line that stays."""
        if self._open:
            self.stream.write("\n")
            self._open = False
        if text:
            self.stream.write(text + "\n")
        self.stream.flush()


class Counter:
    """done/all cases, cases/s, time to go; the first batch, which compiles, is left out of both."""

    def __init__(self, name: str, total: int, done: int, stream: io.TextIOBase):
        self._name, self._total, self._line = name, total, Line(stream)
        self._start: tuple[float, int] | None = None
        self._said, self._done = time.monotonic(), done

    def add(self, cases: int) -> None:
        """So many more are done; says so where it is time."""
        now = time.monotonic()
        self._done += cases
        if self._start is None:
            self._start = now, self._done
        due = self._line.stream.isatty() or now - self._said >= EVERY
        if due or self._done == self._total:
            self._line.write(self._text(now))
            self._said = now

    def close(self) -> None:
        """Ends the line."""
        self._line.line("")

    def _text(self, now: float) -> str:
        parts = [f"{self._name}: {self._done}/{self._total} cases"]
        since, first = self._start or (now, self._done)
        if self._done > first:
            rate = (self._done - first) / max(now - since, 1e-9)
            parts += [f"{rate:.1f} cases/s", f"ETA {clock((self._total - self._done) / rate)}"]
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
