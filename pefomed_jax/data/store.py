"""Equal arrays by name in one file: made once, read in place by every process.

`<path>.bin` holds them one after the other, `<path>.jsonl` a line for each: its name, and the stamp
of what it was made from. A line is written after its array, so a kill loses what has no line only.
"""

import functools
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from pefomed_jax.data import cache
from pefomed_jax.errors import UserError

Make = Callable[[Sequence[str]], np.ndarray]  # names -> [n, *shape]
SPARE = 1 << 30  # bytes that a full disk keeps


class Store:
    """Arrays of one shape and dtype; travels to worker processes, which map the file anew."""

    def __init__(self, path: pathlib.Path, shape: tuple[int, ...], dtype: Any):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self._rows: dict[str, int] = {}

    @property
    def record(self) -> int:
        """Bytes of one array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, name: str) -> np.ndarray:
        """The array of a name, read only."""
        raw = self._mapped[self._rows[name]]
        return raw.view(self.dtype).reshape(self.shape)

    @functools.cached_property
    def _mapped(self) -> np.ndarray:
        shape = (1 + max(self._rows.values()), self.record)
        return np.memmap(self._file(".bin"), np.uint8, "r", shape=shape)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_mapped"}

    def fill(self, wanted: Mapping[str, str], make: Make, at_once: int, said: str) -> int:
        """Makes what is not there yet of the wanted names (with their stamps); returns how many.

        Errors: UserError where the disk has no room for all of them.
        """
        with cache.locked(self.path), cache.told(self.path):
            known = self._read()
            names = [name for name in wanted if known.get(name, ("",))[0] != wanted[name]]
            self._check_room(len(names), said)
            if names:
                size = len(names) * self.record / 1e9
                print(
                    f"data.cache: {len(names)} {said}, {size:.2f} GB, go to {self.path}.bin",
                    flush=True,
                )
            first = len(self._lines())
            with tqdm(total=len(names), desc=said, delay=1, disable=None) as bar:
                self._write(enumerate(names, first), wanted, make, at_once, bar)
            known = self._read()
        self._rows = {name: known[name][1] for name in wanted}
        vars(self).pop("_mapped", None)
        return len(names)

    def _write(
        self,
        numbered: Iterator[tuple[int, str]],
        wanted: Mapping[str, str],
        make: Make,
        at_once: int,
        bar: tqdm,
    ) -> None:
        with open(self._file(".bin"), "ab") as data, open(self._file(".jsonl"), "a") as lines:
            while some := list(itertools.islice(numbered, at_once)):
                values = np.ascontiguousarray(make([name for _, name in some]), self.dtype)
                data.truncate(some[0][0] * self.record)  # what a kill left without a line
                data.write(values.tobytes())
                data.flush()
                os.fsync(data.fileno())
                rows = ([name, wanted[name]] for _, name in some)
                lines.write("".join(json.dumps(row) + "\n" for row in rows))
                lines.flush()
                bar.update(len(some))

    def _read(self) -> dict[str, tuple[str, int]]:
        """(stamp, number) by name; of a name that was made again the last one."""
        return {name: (stamp, i) for i, (name, stamp) in enumerate(self._lines())}

    def _lines(self) -> list[tuple[str, str]]:
        """The (name, stamp) of every array; a half-written last line is cut off."""
        path, data = self._file(".jsonl"), self._file(".bin")
        if not path.exists():
            return []
        text = path.read_bytes()
        kept = text[: text.rfind(b"\n") + 1]
        lines = [tuple(json.loads(line)) for line in kept.splitlines()]
        if not data.exists() or data.stat().st_size < len(lines) * self.record:
            kept, lines = b"", []  # somebody took the arrays away
        if len(kept) < len(text):
            os.truncate(path, len(kept))
        return lines

    def _check_room(self, n: int, said: str) -> None:
        need, free = n * self.record, shutil.disk_usage(self.path.parent).free
        if n and need + SPARE > free:
            raise UserError(
                f"data.cache: {said} take {need / 1e9:.1f} GB in {self.path.parent}, where "
                f"{free / 1e9:.1f} GB are free; set --config.data.cache to a larger disk, or leave "
                "this cache off"
            )

    def _file(self, suffix: str) -> pathlib.Path:
        return self.path.with_name(self.path.name + suffix)
