"""What sources that read lists of files share: JSON rows, images in place, bad rows set aside."""

import dataclasses
import difflib
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import reading
from pefomed_jax.data.levels import Window
from pefomed_jax.data.sources import texts
from pefomed_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: where it stands, what is wrong and what to do about it.

    It quotes what it found, so its texts are made lines that can be written and shown.
    """

    file: str
    row: int  # counted from 1
    field: str
    problem: str
    remedy: str

    def __post_init__(self) -> None:
        for name in ("file", "field", "problem", "remedy"):
            object.__setattr__(self, name, texts.one_line(getattr(self, name)))

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
                if not keep(row):
                    continue
                if isinstance(row, Broken):
                    raise RowError(*row)
                case = _fit(read(row, number, split))
                if case.id in self.where:
                    other, first = self.where[case.id]
                    where = "" if other == file else f"{other}, "
                    raise RowError(
                        "id", f"{case.id} is {where}row {first} already", "number it anew"
                    )
            except RowError as error:
                self.bad_rows.append(BadRow(file, number, *error.args))
            else:
                self.where[case.id] = (file, number)
                self._cases.setdefault(case.split, []).append(case)


def _fit(case: Case) -> Case:
    """The case, where every text of it can be written. Raises RowError."""
    named = {"id": case.id, "image": case.images, "question": case.question, "answer": case.answer}
    for field, value in (*named.items(), *case.fields.items()):
        if problem := texts.unfit(field) or texts.unfit(value):
            raise RowError(field, problem, "write it anew, or rename the file that has the name")
    return case


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file, see `parsed`. Errors: UserError, with the line where it ends."""
    try:
        content = parsed(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); repair or fetch the file again"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}; repair or fetch the file again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); see to its rights") from None
    if isinstance(content, Broken):
        problem = texts.one_line(f"key '{content.field}' {content.problem}")
        raise UserError(f"{path}: {problem}; {content.remedy}")
    return content


def parsed(line: str) -> Any:
    """JSON as Python, an object with a key twice as `Broken`: one of both would be lost.

    Errors: ValueError, also for what Python cannot hold.
    """
    try:
        return json.loads(line, object_pairs_hook=_single)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("lists or objects within one another without end") from None
    except ValueError:
        raise ValueError("a number of thousands of digits") from None


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Broken:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))
    return Broken(twice, "stands twice in the object", "delete one of them")


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
    if not texts.is_text(found):
        raise RowError(key, "is not UTF-8 text", "write it anew")
    if not found:
        raise RowError(key, "empty", "fill it in or delete the row")
    return found


def own_id(row: Any, key: str, number: int) -> str:
    """The text under a key, or the number of the row where no such key is."""
    return text(row, key) if key in row else f"row{number}"


def find_image(root: pathlib.Path, name: str, folders: tuple[str, ...], field: str) -> str:
    """The path of an image relative to `root`, from the first folder that has it, or RowError."""
    for folder in folders:
        if os.path.isfile(reading.place(root / folder / name)[0]):
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
