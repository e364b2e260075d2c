"""Finds the tables of a folder, and reads one as rows by column whatever its format."""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from pefomed_jax.data.sources import files, tables, texts
from pefomed_jax.errors import UserError

SPLITS_OF = {  # the names that a split goes by
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "validate", "dev", "valset"),
    "test": ("test", "testing", "testset"),
}
SPLITS = {name: split for split, names in SPLITS_OF.items() for name in names}
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".csv.gz", ".tsv.gz", ".jsonl.gz")
WHOLE = "metadata"
NONE = "-"  # the user's word for: take no table, no column
DELIMITERS = ",;\t"
SEEN = 100  # rows of JSON that tell the columns


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: `rows()` reads it anew from its start."""

    path: pathlib.Path
    columns: tuple[str, ...]
    rows: Callable[[], Iterator[Any]]


def find(root: pathlib.Path, named: str) -> dict[str, pathlib.Path]:
    """{split: table}, or {'': table} for one of all splits; {} where there is none.

    `named`: the user's choice, '-' for none. Prints the tables that are not read. Errors: `named`
    is not there, several to choose from, two of one split.
    """
    if named == NONE:
        return {}
    if named:
        if not (path := root / named).is_file():
            raise UserError(f"data.folder.table: no file {path}; name a table from {root}")
        return {"": path}
    there = [path for path in sorted(root.iterdir()) if path.is_file() and _stem(path)]
    found = _of_splits(root, there)
    if not found or ("train" not in found and len(found) < len(there)):
        whole = [path for path in there if _stem(path) == WHOLE] or there
        if len(whole) > 1:
            names = ", ".join(path.name for path in whole)
            raise UserError(
                f"folder: {root} holds several tables ({names}); "
                "name one: --config.data.folder.table=FILE"
            )
        found = {"": whole[0]} if whole else {}
    if left := [path.name for path in there if path not in found.values()]:
        shown = texts.one_line(", ".join(left))
        print(f"folder: not read: {shown} (--config.data.folder.table=FILE reads one)")
    return found


def _stem(path: pathlib.Path) -> str:
    """The name of a table without its ending, lower case; '' for another file."""
    name = path.name.lower()
    ending = next((end for end in ENDINGS if name.endswith(end)), "")
    return name.removesuffix(ending) if ending and not name.startswith(".") else ""


def _of_splits(root: pathlib.Path, there: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """The table of each split: train.csv, or train/metadata.csv."""
    inside = [path for path in sorted(root.iterdir()) if path.name.lower() in SPLITS]
    deep = [p for d in inside if d.is_dir() for p in sorted(d.iterdir()) if _stem(p) == WHOLE]
    named = [(SPLITS.get(_stem(path)), path) for path in there]
    named += [(SPLITS[path.parent.name.lower()], path) for path in deep]
    found: dict[str, pathlib.Path] = {}
    for split, path in named:
        if split in found:
            raise UserError(f"{found[split]} and {path} are the same split: keep one")
        if split:
            found[split] = path
    return {split: found[split] for split in SPLITS_OF if split in found}


def is_object_of_reports(path: pathlib.Path) -> bool:
    """Whether it is PeFoMed's JSON object of image -> [report, ...]."""
    if path.suffix.lower() != ".json":
        return False
    content = files.read_json(path)
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(v, list) and all(isinstance(t, str) for t in v) for v in content.values())


def read(path: pathlib.Path) -> Table:
    """Opens a table. Errors: not text, no header, JSON that is no list of objects."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".json"):
        content = _objects(path)
        return Table(path, _keys(content), lambda: iter(content))
    if name.endswith(".jsonl"):
        return Table(path, _keys(tables.read_jsonl(path)), lambda: tables.read_jsonl(path))
    if not name.endswith((".csv", ".tsv", ".txt")):
        raise UserError(f"{path} is no table that can be read; save it as one of {ENDINGS}")
    delimiter, columns = _header(path)
    return Table(path, columns, lambda: tables.read(path, (), delimiter))


def _header(path: pathlib.Path) -> tuple[str, tuple[str, ...]]:
    """What parts the cells, and the columns: the delimiter that makes the most of the header."""
    marks = "\t" if ".tsv" in path.name.lower() else DELIMITERS
    found, problem = {}, UserError(f"{path} has no header; write the names of the columns")
    for mark in marks:
        try:
            reader = csv.reader(tables.lines(path), delimiter=mark, strict=True)
            found[mark] = tables.heads(reader, path)
        except UserError as error:  # quotes may match with another mark
            problem = error
    if not found:
        raise problem
    delimiter = max(found, key=lambda mark: len(found[mark]))  # the first of equals
    if not found[delimiter]:
        raise UserError(f"{path} has no header in its first line; write the names of the columns")
    return delimiter, tuple(found[delimiter])


def _objects(path: pathlib.Path) -> list[Any]:
    """A JSON list, or the only list in an object: {"data": [...]}."""
    content = files.read_json(path)
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        kind = type(content).__name__
        raise UserError(f"{path}: a {kind}; expected a list of objects, one a row")
    return content


def _keys(rows: Any) -> tuple[str, ...]:
    first = (row for row, _ in zip(rows, range(SEEN), strict=False))
    return tuple(dict.fromkeys(key for row in first if isinstance(row, dict) for key in row))
