"""Tables in parquet files with the images inside, as Hugging Face distributes sets.

An image is named by its file and row, `data/train-00000-of-00007.parquet#123` (rows from 1). The
texts are read at once; of the images, each thread keeps the group of rows that it read last.
"""

import bisect
import dataclasses
import importlib
import pathlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import reading
from pefomed_jax.data.sources import files
from pefomed_jax.errors import UserError

SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.parquet")
_kept = threading.local()  # of a thread: the key of a group of rows, and its images


@dataclasses.dataclass
class ParquetSource(files.ListSource):
    """Cases from parquet files; `groups` holds the first row of each group of rows by file."""

    groups: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    def path(self, case: Case, number: int = 0) -> pathlib.Path:
        """The parquet file that an image is in."""
        return pathlib.Path(self.root) / case.images[number].rpartition("#")[0]

    def image(self, case: Case, number: int = 0) -> Image.Image:
        """An image of a case, as stored. Errors: ImageError."""
        name = case.images[number].replace("#", ", row ")  # "#" would name a frame
        with reading.told(name):
            content = self.content(case, number)
        return reading.from_bytes(content, name, self.window)

    def content(self, case: Case, number: int = 0) -> bytes:
        """The bytes of an image, as published. Errors: ValueError where the cell has none."""
        file, _, row = case.images[number].rpartition("#")
        index = int(row) - 1
        group = bisect.bisect_right(self.groups[file], index) - 1
        cells = _group(pathlib.Path(self.root) / file, group)
        cell = cells[index - self.groups[file][group]].as_py()
        if not cell or not cell["bytes"]:
            raise ValueError("no bytes in column 'image'")
        return cell["bytes"]

    def add_files(
        self,
        split: str,
        paths: Sequence[pathlib.Path],
        columns: Sequence[str],
        read: Callable[[Any, int, str], Case],
    ) -> None:
        """Adds the rows of files, in order; `read` gets (row of `columns`, its number, file).

        The number counts over all the files, the row also has 'image', its name.
        Errors: UserError without pyarrow, where a file is missing, damaged or lacks a column.
        """
        _check_shards(paths)
        first = 0
        for path in paths:
            file = path.relative_to(self.root).as_posix()
            table = _open(path, ("image", *columns))
            sizes = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
            self.groups[file] = [sum(sizes[:i]) for i in range(len(sizes))]
            self.add(split, file, _rows(table, path, file, columns), _offset(read, first))
            first += sum(sizes)
            table.close()


def _offset(read: Callable[[Any, int, str], Case], first: int) -> Callable[[Any, int, str], Case]:
    return lambda row, number, split: read(row, first + number, split)


def _library() -> Any:
    """pyarrow.parquet. Errors: UserError where it is not installed."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError("parquet files need the package pyarrow: pip install pyarrow") from None


def _open(path: pathlib.Path, columns: Sequence[str]) -> Any:
    library = _library()
    try:
        table = library.ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these
        said = " ".join(str(error).split())
        raise UserError(
            f"{path} is cut short or no parquet file ({said}); fetch it again"
            " (with git: git lfs pull)"
        ) from None
    there = table.schema_arrow.names
    if missing := [name for name in columns if name not in there]:
        raise UserError(f"{path}: no column '{missing[0]}', only {', '.join(there)}")
    kind = table.schema_arrow.field("image").type
    if "bytes" not in [kind.field(i).name for i in range(kind.num_fields)]:
        raise UserError(f"{path}: column 'image' is {kind}; expected a struct with 'bytes'")
    return table


def _rows(
    table: Any, path: pathlib.Path, file: str, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        for batch in table.iter_batches(columns=list(columns), use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield {"image": f"{file}#{number}", **row}
    except (OSError, ValueError) as error:
        if isinstance(error, files.RowError | UserError):
            raise
        raise UserError(f"{path} is damaged after row {number} ({error}); fetch it again") from None


def _group(path: pathlib.Path, group: int) -> Any:
    """The image cells of a group of rows, kept until the thread asks for another."""
    key = (str(path), path.stat().st_mtime_ns, group)
    if getattr(_kept, "key", None) != key:
        _kept.key = _kept.cells = None  # the old group goes before the new one comes
        with _library().ParquetFile(path) as table:
            # no threads of its own: it is read in forked processes
            cells = table.read_row_group(group, columns=["image"], use_threads=False)
        _kept.key, _kept.cells = key, cells.column(0)
    return _kept.cells


def _check_shards(paths: Sequence[pathlib.Path]) -> None:
    """Errors: UserError where a name says '-of-00007' and one of the seven is not there."""
    there = {path.name for path in paths}
    for path in paths:
        if match := SHARD.fullmatch(path.name):
            stem, digits, total = match[1], len(match[2]), match[3]
            wanted = [f"{stem}-{i:0{digits}}-of-{total}.parquet" for i in range(int(total))]
            if missing := [name for name in wanted if name not in there]:
                raise UserError(
                    f"{path.parent}: {missing[0]} is missing ({len(wanted) - len(missing)} of"
                    f" {len(wanted)} files are there); fetch it"
                )
