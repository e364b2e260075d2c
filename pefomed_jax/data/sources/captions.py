"""What sets of captioned figures share: images by name, folders listed once; tables of ID and text.

Their releases leave the suffix off an image's ID, name columns anew every year, and change from
tabs to commas.
"""

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import tables, texts
from pefomed_jax.data.sources.files import Broken, RowError
from pefomed_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
DEPTH = 4  # folders that are looked into under a root
IDS = ("id", "image_id", "image", "name", "filename", "file_name")  # in small letters
CAPTIONS, CUIS = ("caption", "captions"), ("cuis", "cui")
DELIMITERS = "\t,|;"


class Table(NamedTuple):
    """A table with a column that names images, and one of texts; both as its header writes them."""

    path: pathlib.Path
    delimiter: str
    id: str
    text: str
    quotes: bool

    def rows(self) -> Iterator[dict[str, str] | Broken]:
        """Its rows by column."""
        return tables.read(self.path, (self.id, self.text), self.delimiter, quotes=self.quotes)


def table(path: pathlib.Path, wanted: tuple[str, ...]) -> Table:
    """The form of a table, seen from its header. `wanted`: names of the column of texts.

    Errors: UserError where it has no such column, or none that names images.
    """
    line = next(tables.lines(path), "").strip()
    for delimiter in DELIMITERS:
        names = {
            cell.strip().strip('"').lower(): cell.strip().strip('"')
            for cell in line.split(delimiter)
        }
        found = [next((names[w] for w in words if w in names), "") for words in (IDS, wanted)]
        if all(found):
            return Table(path, delimiter, *found, _is_quoted(path, delimiter))
    raise UserError(
        f"{path}: no columns {IDS[0]} and {wanted[0]} in its first line "
        f"'{texts.one_line(line[:80])}'; add a header"
    )


def _is_quoted(path: pathlib.Path, delimiter: str) -> bool:
    """Whether quotes hold cells together; in a table without, a caption may begin with one."""
    if delimiter != "\t":
        return True
    last = [line.rstrip("\r\n").rpartition(delimiter)[2] for line in tables.lines(path)]
    opened = [cell for cell in last if cell.startswith('"')]
    return sum(len(cell) > 1 and cell.endswith('"') for cell in opened) * 2 > len(opened)


def concepts(path: pathlib.Path) -> dict[str, str]:
    """UMLS concepts by image, as 'C0040405;C0000726'; {} where there is no such list.

    Says how many of its rows are not readable: these images go without.
    """
    if not path.is_file():
        return {}
    form = table(path, CUIS)
    rows = list(form.rows())
    if broken := [row for row in rows if isinstance(row, Broken)]:
        print(f"{path}: {len(broken)} rows are not readable; the first: {broken[0].problem}")
    return {row[form.id].strip(): row[form.text].strip() for row in rows if isinstance(row, dict)}


def folders(root: pathlib.Path, depth: int = DEPTH) -> Iterator[tuple[pathlib.Path, list[str]]]:
    """Every folder from the root down, in the order of names, with the names of its files.

    Linked folders are followed. Errors: UserError for a folder that may not be read.
    """
    try:
        with os.scandir(root) as entries:
            inside = sorted((entry.name, entry.is_dir()) for entry in entries)
    except PermissionError:
        raise UserError(f"{root} may not be read; give yourself the right to") from None
    yield root, [name for name, is_folder in inside if not is_folder]
    for name, is_folder in inside:
        if is_folder and depth and not name.startswith("."):
            yield from folders(root / name, depth - 1)


class Images:
    """The images of some folders by name, with or without suffix; paths relative to a root."""

    def __init__(
        self, root: pathlib.Path, listed: Iterable[tuple[pathlib.Path, list[str]]], place: str
    ):
        """`place`: where they were looked for, in words."""
        self.place = place
        self._found: dict[str, str] = {}
        self._twice: dict[str, str] = {}
        for folder, names in listed:
            inside = folder.relative_to(root).as_posix()
            for name in names:
                if (stem := _stem(name)) != name:
                    path = name if inside == "." else f"{inside}/{name}"
                    kept = self._found.setdefault(stem, path)
                    if kept != path:
                        self._twice[stem] = path

    def __contains__(self, name: str) -> bool:
        return _stem(name) in self._found

    def __len__(self) -> int:
        return len(self._found)

    def find(self, name: str, field: str) -> str:
        """The path of an image, or RowError. Errors: UserError where two files have its name."""
        stem = _stem(name)
        if stem in self._twice:
            raise UserError(
                f"{self._found[stem]} and {self._twice[stem]} are both the image {name}; "
                f"move one of them out of {self.place}"
            )
        if stem not in self._found:
            raise RowError(field, f"no image {name} in {self.place}", "fetch it or delete the row")
        return self._found[stem]


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def case(split: str, name: str, image: str, caption: str, **fields: Any) -> Case:
    """A figure with its caption; fields that are not known, '' or None, are left out."""
    known = {key: value for key, value in fields.items() if value not in ("", None)}
    return Case(f"{split}-{name}", (image,), "", caption, split, {"layout": "caption", **known})
