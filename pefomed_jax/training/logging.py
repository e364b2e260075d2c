"""What a run says: one progress line, metrics.jsonl, TensorBoard events, loss.png.

metrics.jsonl holds only what an uninterrupted run would hold, bit by bit: no times. Speeds go to
the progress line and to TensorBoard.
"""

import contextlib
import io
import json
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

from tensorboardX import SummaryWriter

from pefomed_jax.training import folder as run_folder
from pefomed_jax.training.figure import draw_loss
from pefomed_jax.training.progress import Line, clock

SLOW_DATA = 0.05  # share of the time from which waiting for data is told
REDRAW_SECONDS = 30.0  # a figure takes about as long as a step of the tiny model
Row = dict[str, Any]


class Log:
    """The log of one run of `steps` steps, going on after `step`; a line every `every` steps."""

    def __init__(self, folder: pathlib.Path, step: int, steps: int, every: int):
        self.folder, self.steps, self.every = folder, steps, every
        self.rows = run_folder.cut_rows(folder / "metrics.jsonl", step)
        self._file = self._opened()
        self._board = _rebuild_board(folder / "tensorboard", self.rows)
        self._progress = Progress(steps, sys.stdout)
        self._drawn = 0.0

    def step(
        self,
        row: Row,
        flops: float | None = None,
        peak: float | None = None,
        compiled: bool = False,
    ) -> None:
        """Records a finished step: `row` has `step`, `loss`, `lr`, `tokens`, ...

        flops: useful floating-point operations of the step; peak: FLOP/s of all devices. A step
        that `compiled` is left out of the speeds.
        """
        self.rows.append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        _add(self._board, row)
        if compiled:
            self._progress.restart()
        else:
            self._progress.add(row["tokens"], flops)
        if row["step"] % self.every == 0 or row["step"] == self.steps:
            for name, value in self._progress.show(row, peak).items():
                self._board.add_scalar(f"speed/{name}", value, row["step"])
            if time.monotonic() - self._drawn > REDRAW_SECONDS:
                self.draw()

    def keep(self) -> None:
        """Makes sure of the rows so far, as a checkpoint is about to rely on them.

        A bucket that is mounted as a folder takes a file over only when it is closed.
        """
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = self._opened()

    def _opened(self) -> io.TextIOWrapper:
        return (self.folder / "metrics.jsonl").open("a", encoding="utf-8")

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        self._progress.line(text)

    def overwrite(self, text: str) -> None:
        """A passing line; on a terminal only."""
        self._progress.passing(text)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside, an evaluation or a checkpoint, does not count in the speeds."""
        start = time.monotonic()
        yield
        self._progress.skip(time.monotonic() - start)

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches; how long each is waited for counts towards the share `data_wait`."""
        while True:
            start = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._progress.wait(time.monotonic() - start)
            yield batch

    def draw(self) -> None:
        """Refreshes loss.png."""
        draw_loss(self.rows, self.folder / "loss.png")
        self._drawn = time.monotonic()

    def close(self) -> None:
        """Draws once more and closes the files."""
        if self.rows:
            self.draw()
        self._progress.line("")
        self._file.close()
        self._board.close()


class Silent:
    """A `Log` that says and writes nothing: of all processes but the first."""

    def __init__(self, *_: Any):
        self.rows: list[Row] = []

    def step(self, *_: Any) -> None:
        """Records nothing."""

    say = overwrite = draw = keep = close = step

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Counts nothing."""
        yield

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches."""
        return batches


class Progress(Line):
    """One line: step, loss, learning rate, useful tokens/s, MFU, time to go."""

    def __init__(self, steps: int, stream: io.TextIOBase):
        super().__init__(stream)
        self.steps = steps
        self.restart()

    def restart(self) -> None:
        """Forgets the current window."""
        self._since, self._steps, self._tokens, self._flops = time.monotonic(), 0, 0, 0.0
        self._waited = 0.0

    def skip(self, seconds: float) -> None:
        """Takes so many seconds out of the current window."""
        self._since += seconds

    def wait(self, seconds: float) -> None:
        """Counts seconds in which the next batch was not there yet."""
        self._waited += seconds

    def add(self, tokens: int, flops: float | None) -> None:
        """Counts a step."""
        self._steps += 1
        self._tokens += tokens
        self._flops += flops or 0.0

    def show(self, row: Row, peak: float | None) -> dict[str, float]:
        """Prints the line and returns the speeds of the window since the last one."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        parts = [
            f"step {row['step']:>{len(str(self.steps))}}/{self.steps}",
            f"loss {row['loss']:.4f}",
            f"lr {row['lr']:.2e}",
        ]
        speeds: dict[str, float] = {}
        if self._steps:
            speeds = {"step_s": seconds / self._steps, "tokens_per_s": self._tokens / seconds}
            speeds["data_wait"] = min(self._waited / seconds, 1.0)
            parts.append(f"{speeds['tokens_per_s']:,.0f} tok/s")
            if speeds["data_wait"] > SLOW_DATA:
                parts.append(f"{speeds['data_wait']:.0%} waiting for data")
        if peak and self._flops:
            speeds["mfu"] = self._flops / seconds / peak
            parts.append(f"MFU {100 * speeds['mfu']:.1f} %")
        if speeds:
            parts.append(f"ETA {clock((self.steps - row['step']) * speeds['step_s'])}")
        self.write("  ".join(parts))
        self.restart()
        return speeds


def _rebuild_board(folder: pathlib.Path, rows: list[Row]) -> SummaryWriter:
    """Event files cannot be cut, so they are written again from the rows that are kept."""
    shutil.rmtree(folder, ignore_errors=True)
    board = SummaryWriter(str(folder))
    for row in rows:
        _add(board, row)
    return board


def _add(board: SummaryWriter, row: Row) -> None:
    for name, value in row.items():
        if name != "step":
            group = "val" if name.startswith("val_") else "train"
            board.add_scalar(f"{group}/{name.removeprefix('val_')}", value, row["step"])
