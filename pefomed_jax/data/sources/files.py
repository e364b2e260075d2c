"""What sources that read lists of files share: JSON rows, images in place, bad rows set aside."""

import dataclasses
import difflib
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import reading
from pefomed_jax.data.levels import Window
from pefomed_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: where it stands, what is wrong and what to do about it."""

    file: str
    row: int  # counted from 1
    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}, field '{self.field}': {self.problem}; {self.remedy}"


class RowError(ValueError):
    """Raised while one row is read: (field, problem, remedy)."""


class Broken(NamedTuple):
    """Stands in the place of a row that its file's format does not allow."""

    field: str
    problem: str
    remedy: str


@dataclasses.dataclass
class ListSource:
    """Cases read from lists under `root`; images are opened where they lie.

    `where` holds (file, row) by case id; `bad_rows` what could not be read.
    """

    name: str
    task: str
    root: str
    window: Window = "auto"  # of DICOM files, see data/dicom.py
    where: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)
    _cases: dict[str, list[Case]] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._cases)

    def cases(self, split: str) -> list[Case]:
        """The readable cases of 'train', 'val' or 'test'; [] for a split that the set has not."""
        return self._cases.get(split, [])

    def take(self, cases: dict[str, list[Case]]) -> None:
        """Takes over cases by split that were read before; `where` is the caller's."""
        self._cases = cases

    def path(self, case: Case, number: int = 0) -> pathlib.Path:
        """An image file of a case."""
        return pathlib.Path(self.root) / case.images[number]

    def image(self, case: Case, number: int = 0) -> Image.Image:
        """An image of a case, as stored; of a DICOM file as `window` shows it."""
        return reading.opened(self.path(case, number), self.window)

    def content(self, case: Case, number: int = 0) -> bytes:
        """The bytes of an image, as they were published."""
        return self.path(case, number).read_bytes()

    def add(
        self,
        split: str,
        file: str,
        rows: Iterable[Any],
        read: Callable[[Any, int, str], Case],
        keep: Callable[[Any], bool] = lambda row: True,
    ) -> None:
        """Reads the rows to keep with `read(row, number, split)`; a RowError sets a row aside.

        A list of several splits is read at once: a case joins the split that it names.
        """
        self._cases.setdefault(split, [])
        for number, row in enumerate(rows, 1):
            try:
                if isinstance(row, Broken):
                    raise RowError(*row)
                if not keep(row):
                    continue
                case = read(row, number, split)
                if case.id in self.where:
                    first = self.where[case.id][1]
                    raise RowError("qid", f"{case.id} is row {first} already", "number it anew")
            except RowError as error:
                self.bad_rows.append(BadRow(file, number, *error.args))
            else:
                self.where[case.id] = (file, number)
                self._cases.setdefault(case.split, []).append(case)


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file. Errors: one line that says where it stops being JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); repair or fetch the file again"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def value(row: Any, key: str) -> Any:
    """row[key]; a RowError that names the nearest key where it is missing."""
    if not isinstance(row, dict):
        raise RowError(key, f"the row is a {type(row).__name__}", "make it an object with keys")
    if key not in row:
        close = difflib.get_close_matches(
            key, [k for k in row if isinstance(k, str)], n=1, cutoff=0.8
        )
        remedy = f"rename '{close[0]}' to '{key}'" if close else f"add '{key}'"
        raise RowError(key, f"no such key, only {', '.join(map(repr, row))}", remedy)
    return row[key]


def text(row: Any, key: str) -> str:
    """A non-empty text; numbers count as text."""
    found = value(row, key)
    if isinstance(found, bool) or not isinstance(found, str | int | float | None):
        raise RowError(key, f"a {type(found).__name__}, not text", "write it as a string")
    empty = found is None or found != found  # NaN: what pandas writes for an empty cell
    found = "" if empty else str(found).strip()
    if not found:
        raise RowError(key, "empty", "fill it in or delete the row")
    return found


def find_image(root: pathlib.Path, name: str, folders: tuple[str, ...], field: str) -> str:
    """The path of an image relative to `root`, from the first folder that has it, or RowError."""
    for folder in folders:
        if reading.place(root / folder / name)[0].is_file():
            return (pathlib.Path(folder) / name).as_posix()
    tried = " nor ".join(str(root / folder / name) for folder in folders)
    raise RowError(field, f"no image {tried}", "add the file or delete the row")


def place_of(config: ConfigDict, name: str) -> tuple[str, str]:
    """The config field that says where a set lies, and the path: data.<name>.dir, or data.dir.

    In a mixture, data.dir holds a folder of each name.
    """
    own, common = config.data[name].dir, config.data.dir
    mixed = "+" in config.data.source
    if own or not mixed:
        return (f"data.{name}.dir", own) if own else ("data.dir", common)
    return f"data.{name}.dir", str(pathlib.Path(common) / name) if common else ""


def folder_of(config: ConfigDict, name: str) -> pathlib.Path:
    """Where a set lies, see `place_of`. Errors: the field is empty, or there is no such folder."""
    field, place = place_of(config, name)
    if not place:
        raise UserError(f"{name} reads files of yours: set --config.{field}=FOLDER")
    path = pathlib.Path(place).expanduser()
    if not path.exists():
        raise UserError(f"{field}: no folder {path}; set --config.{field} to where {name} lies")
    return path


def own_fields(row: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The columns of a row that are there, texts without the trailing blanks some have."""
    present = {key: row[key] for key in keys if key in row}
    return {key: v.strip() if isinstance(v, str) else v for key, v in present.items()}
