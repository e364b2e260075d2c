"""Cases of sets whose lists take long to read, kept as they were read (`data.cache`).

A set is read anew where its settings, or a list or folder in it, is another one, down to where a
folder holds over a hundred others. Below that nothing is looked at: who edits a report of MIMIC-CXR
in place removes the index.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax import whole
from pefomed_jax.batch import Case
from pefomed_jax.data import cache
from pefomed_jax.data.sources import files

SLOW = 5.0  # seconds of reading that are worth keeping
MANY = 100  # folders beside one another: patients, not parts of a release
DEPTH = 6  # of the folders whose lists are looked at
FORM = 2  # of what is kept; another one is not read
LISTS = {".csv", ".gz", ".json", ".jsonl", ".parquet", ".pkl", ".tsv", ".txt", ".xml", ".zip"}

Read = Callable[[ConfigDict], Any]
Stamp = tuple[str, int, int]


def of(name: str, config: ConfigDict, read: Read) -> Any:
    """`read(config)`, or what it gave the last time, what it printed included."""
    _, place = files.place_of(config, name)
    root = pathlib.Path(place).expanduser().resolve()
    if not place or not root.is_dir():
        return read(config)
    own = config.data[name].to_dict()
    outside = [_stamp(root / value) for value in own.values() if isinstance(value, str) and value]
    key = cache.key(FORM, name, str(root), config.task, own, outside, _stamps(root))
    path = cache.folder(config.data.cache, "index") / f"{name}-{key}.jsonl"
    with cache.locked(path):
        if (kept := _load(path)) is not None:
            return kept
        start, said = time.perf_counter(), io.StringIO()
        with contextlib.redirect_stdout(_Tee(sys.stdout, said)):
            source = read(config)
        if type(source) is files.ListSource and time.perf_counter() - start >= SLOW:
            with cache.told(path):
                whole.write_lines(path, _lines(source, said.getvalue()))
    return source


class _Tee(io.TextIOBase):
    """Prints, and remembers what was printed."""

    def __init__(self, *streams: io.TextIOBase):
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


def _stamps(root: pathlib.Path) -> list[Stamp]:
    """Those of the lists and of the folders."""
    found = []
    for folder, inside, names in os.walk(root):
        place = pathlib.Path(folder)
        depth = len(place.relative_to(root).parts)
        if depth >= DEPTH or len(inside) > MANY:
            inside.clear()
        inside.sort()
        lists = [name for name in names if pathlib.PurePath(name).suffix.lower() in LISTS]
        for path in [place, *(place / name for name in sorted(lists))]:
            found.append(_stamp(path))
    return found


def _stamp(path: pathlib.Path) -> Stamp:
    """Name, time of change, and size of what is no folder; zeros where nothing is."""
    with contextlib.suppress(OSError):
        stat = path.stat()
        return str(path), stat.st_mtime_ns, 0 if path.is_dir() else stat.st_size
    return str(path), 0, 0


def _lines(source: files.ListSource, said: str) -> Iterator[str]:
    head = {"name": source.name, "task": source.task, "root": source.root, "said": said}
    yield json.dumps(head | {"splits": source.splits})
    yield json.dumps([dataclasses.asdict(row) for row in source.bad_rows])
    for split in source.splits:
        for case in source.cases(split):
            yield json.dumps([*vars(case).values(), *source.where[case.id]])


def _load(path: pathlib.Path) -> files.ListSource | None:
    """What is kept; None where nothing is, or it is damaged."""
    try:
        return _read(path)
    except (FileNotFoundError, ValueError, StopIteration):
        return None


def _read(path: pathlib.Path) -> files.ListSource:
    with path.open(encoding="utf-8") as lines:
        head = json.loads(next(lines))
        bad = [files.BadRow(**row) for row in json.loads(next(lines))]
        source = files.ListSource(head["name"], head["task"], head["root"], bad_rows=bad)
        cases: dict[str, list[Case]] = {split: [] for split in head["splits"]}
        for line in lines:
            own_id, images, *text, split, fields, file, row = json.loads(line)
            cases[split].append(Case(own_id, tuple(images), *text, split, fields))
            source.where[own_id] = (file, row)
    source.take(cases)
    print(head["said"], end="")
    return source
