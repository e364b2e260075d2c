"""Reads a row of a table by the columns taken, and finds its images."""

import ast
import os
import pathlib
import posixpath
import re
from typing import Any

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files
from pefomed_jax.data.sources.folder.table import SPLITS
from pefomed_jax.data.sources.listing import Listing

PARTED = re.compile(r"\s*[;|]\s*")
SHORT = 100  # characters of another column that are kept as a field
FIELDS = {"patient": "patient_id", "study": "study_id"}  # what a role is called among the fields


class Reader:
    """Turns rows into cases of `source`; `folder` is where the table lies."""

    def __init__(
        self,
        source: files.ListSource,
        folder: pathlib.Path,
        taken: dict[str, str],
        listing: Listing,
    ):
        self.source, self.taken, self.listing = source, taken, listing
        self.root = pathlib.Path(source.root).absolute()
        self.places = [folder.absolute(), folder.absolute() / "images", self.root]
        self.inside = [
            place.relative_to(self.root).as_posix()
            for place in self.places
            if place.is_relative_to(self.root)
        ]

    def case(self, row: Any, number: int, split: str) -> Case:
        """One row, in the split that its column names. Errors: RowError, see `files`."""
        if column := self.taken.get("split"):
            split = _split(row, column)
        question = files.text(row, self.taken["question"]) if "question" in self.taken else ""
        answer = files.text(row, self.taken["answer"])
        images = self._images(row)
        fields = {FIELDS.get(k, k): _cell(row, self.taken[k]) for k in _MARKS if k in self.taken}
        fields = {key: value for key, value in fields.items() if value}
        others = {k: v for k, v in row.items() if k not in self.taken.values() and _is_short(v)}
        name = f"{split}-{self._own_id(row, number)}"
        if name in self.source.where:
            self._taken_id(name)
        return Case(name, images, question, answer, split, others | fields)

    def _own_id(self, row: Any, number: int) -> str:
        return files.text(row, self.taken["id"]) if "id" in self.taken else f"row{number}"

    def _taken_id(self, name: str) -> None:
        file, first = self.source.where[name]
        remedy = "number it anew, or by row: --config.data.folder.id=-"
        raise files.RowError(self.taken.get("id", "id"), f"{name} is {file} row {first}", remedy)

    def _images(self, row: Any) -> tuple[str, ...]:
        column = self.taken["image"]
        cell = files.value(row, column)
        if isinstance(cell, list):
            names = [files.text({column: name}, column) for name in cell]
            if not names:
                raise files.RowError(column, "an empty list", "name an image or delete the row")
            return tuple(self._image(name, column) for name in names)
        whole = files.text(row, column)
        if found := self._look(whole):
            return (found,)
        if not (names := _several(whole)):
            raise files.RowError(column, f"'{whole}' names no image", "name one or delete the row")
        return tuple(self._image(name, column) for name in names)

    def _image(self, name: str, column: str) -> str:
        if found := self._look(name):
            return found
        several = self.listing.images(_base(name))
        if len(several) > 1:
            shown = ", ".join(several[:3])
            raise files.RowError(column, f"{name} is at {shown}", "write the path of one")
        places = ", ".join(map(str, dict.fromkeys(self.places)))
        raise files.RowError(
            column,
            f"no image {name} in {places}, nor by name in the folders of {self.root}",
            "add the file, correct the path or delete the row",
        )

    def _look(self, name: str) -> str:
        """Where an image is, or a frame of it; '' for nowhere, or several."""
        if found := self._file(name):
            return found
        file, mark, frame = name.rpartition("#")
        found = self._file(file) if mark and frame.isdecimal() else ""
        return f"{found}#{frame}" if found else ""

    def _file(self, name: str) -> str:
        """A file, from the root where it is inside."""
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            for place in self.inside:
                path = posixpath.normpath(posixpath.join(place, written))
                if path in self.listing.paths:
                    return path
            if found := self._unlisted(written):
                return found
        if PARTED.search(name.replace("\\", "/").rpartition("/")[0]):
            return ""  # several paths: the last one's base name is not all of them
        named = self.listing.images(_base(name))
        return named[0] if len(named) == 1 else ""

    def _unlisted(self, name: str) -> str:
        """A file that the listing of the root does not have: outside, or hidden."""
        all_inside = len(self.inside) == len(self.places)
        if all_inside and not name.startswith("/") and "/." not in f"/{name}":
            return ""
        for place in self.places:
            path = pathlib.Path(os.path.normpath(place / name))
            if os.path.isfile(path):
                inside = path.is_relative_to(self.root)
                return (path.relative_to(self.root) if inside else path).as_posix()
        return ""


_MARKS = ("patient", "study", "answer_type", "question_type")


def _split(row: Any, column: str) -> str:
    word = files.text(row, column)
    if word.lower() not in SPLITS:
        remedy = "write train, val or test, or take none: --config.data.folder.split=-"
        raise files.RowError(column, f"'{word}' tells no split", remedy)
    return SPLITS[word.lower()]


def _several(cell: str) -> list[str]:
    """The names in a cell: a list as JSON or Python writes it, or parted by ; or |."""
    if cell.startswith("[") and cell.endswith("]"):
        try:
            found = ast.literal_eval(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # brackets without end
            found = None
        if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
            return [name.strip() for name in found]
    return [name for name in PARTED.split(cell) if name]


def _base(name: str) -> str:
    return pathlib.PurePosixPath(name.replace("\\", "/")).name


def _cell(row: Any, column: str) -> str:
    """A cell as text, '' where it is missing or empty; numbers through pandas lose their .0."""
    found = row.get(column) if isinstance(row, dict) else None
    if found is None or found != found:
        return ""
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    return str(found).strip()


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= SHORT
    return isinstance(value, int | float) and value == value
