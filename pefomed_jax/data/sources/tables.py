"""Rows of CSV, TSV and JSON-lines files, plain or gzipped, each bad row kept in its place."""

import csv
import gzip
import io
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

from pefomed_jax.data.sources import texts
from pefomed_jax.data.sources.files import Broken, parsed
from pefomed_jax.errors import UserError

Found = dict[str, str] | Broken
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # what such a file begins with

csv.field_size_limit(1 << 24)  # bytes: a report may be long


def read(
    path: pathlib.Path,
    columns: Sequence[str] = (),
    delimiter: str = ",",
    header: bool = True,
    quotes: bool = True,
) -> Iterator[Found]:
    """The rows of a table by column, in order, one at a time.

    With a header its names count, whatever their order, and `columns` have to be among them;
    without, `columns` name the cells. A row of another number of cells, with quotes that do not
    match, or that is not UTF-8, comes as `Broken`; blank lines are no rows. Errors: UserError where
    the file is missing, or has no header or not these columns.
    """
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines(path), delimiter=delimiter, quoting=quoting, strict=True)
    names = list(columns)
    if header:
        names = heads(reader, path)
        if twice := [name for name in columns if names.count(name) > 1]:
            raise UserError(f"{path} has two columns '{twice[0]}'; rename one")
        if missing := [name for name in columns if name not in names]:
            there = texts.one_line(", ".join(names)) or "none, the file is empty"
            raise UserError(
                f"{path}: no column '{missing[0]}' (columns: {there}); add or rename it"
            )
    for cells in _rows(reader):
        yield cells if isinstance(cells, Broken) else _by_name(cells, names)


def heads(reader: Any, path: pathlib.Path) -> list[str]:
    """The names of the columns. Errors: UserError where the first line is none of a table."""
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UserError(f"{path}, line 1: quotes do not match ({error}); double them") from None
    if not all(map(texts.is_text, names)):
        raise UserError(f"{path}, line 1: is not UTF-8; save the file as UTF-8")
    return names


def _rows(reader: Any) -> Iterator[list[str] | Broken]:
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"lines {first} to {reader.line_num}" if reader.line_num > first else "the row"
            yield Broken("line", f"quotes do not match in {where} ({error})", "double the quotes")
            continue
        if any(cell.strip() for cell in cells):
            yield cells


def _by_name(cells: list[str], names: list[str]) -> Found:
    for i, cell in enumerate(cells):
        if not texts.is_text(cell):
            return Broken(names[min(i, len(names) - 1)], "is not UTF-8", "save the file as UTF-8")
    if len(cells) != len(names):
        problem = f"{len(cells)} cells where there are {len(names)} columns"
        return Broken(names[min(len(cells), len(names) - 1)], problem, "quote or add a cell")
    return dict(zip(names, cells, strict=True))


def read_jsonl(path: pathlib.Path) -> Iterator[Any]:
    """The objects of a JSON-lines file; a line that is no JSON, or no UTF-8, comes as `Broken`."""
    for line in lines(path):
        if not texts.is_text(line):
            yield Broken("line", "is not UTF-8", "save the file as UTF-8")
        elif line.strip():
            try:
                yield parsed(line)
            except ValueError as error:
                yield Broken("line", f"is not JSON ({error})", "repair or delete the line")


def lines(path: pathlib.Path) -> Iterator[str]:
    """Lines as text, whatever their ends, without a mark of byte order; bad bytes are escaped."""
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] in UTF_16:
                raise UserError(f"{path} is UTF-16 (Excel's Unicode text); save it as UTF-8")
            packed = cast(BinaryIO, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw)
            # closed here: what is dropped half read would warn
            with io.TextIOWrapper(packed, "utf-8-sig", "surrogateescape", newline="") as text:
                yield from text
    except FileNotFoundError:
        raise UserError(f"there is no {path}; fetch it, or correct --config.data.dir") from None
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); see to its rights") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch it again") from None
