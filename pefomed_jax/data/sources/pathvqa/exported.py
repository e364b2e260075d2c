"""PathVQA exported to JSON lists and folders of JPEG files, one file a question or a picture."""

import functools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, listing
from pefomed_jax.data.sources.pathvqa import rows
from pefomed_jax.errors import UserError


def lists(root: pathlib.Path) -> dict[str, pathlib.Path | None]:
    """The list of each split, if it is there."""
    paths = {split: [root / f"{w}.json" for w in words] for split, words in rows.LISTS.items()}
    return {split: next((p for p in some if p.is_file()), None) for split, some in paths.items()}


def read(root: pathlib.Path) -> files.ListSource:
    """The source. Errors: UserError where test.json is missing, or a list is another set's."""
    source = files.ListSource("pathvqa", "vqa", str(root))
    images = listing.Listing(root)
    for split, path in lists(root).items():
        if path is None and split == "test":
            raise UserError(f"data.dir: {root} has no test.json; fetch it")
        if path is not None:
            content = _content(path)
            case = functools.partial(_case, images.paths, _again(content))
            source.add(split, path.name, content, case)
    return source


def _content(path: pathlib.Path) -> list[Any]:
    content = files.read_json(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: a {type(content).__name__} where PathVQA has a list of questions")
    if content and not any(_path(row) for row in content):
        raise UserError(f"{path}: no row has 'image_path', so it is no list of PathVQA")
    return content


def _path(row: Any) -> str:
    name = row.get("image_path") if isinstance(row, dict) else None
    return name.replace("\\", "/") if isinstance(name, str) else ""


def _again(content: Sequence[Any]) -> dict[int, int]:
    """The row that names a row's image again where the names' counter starts over, both from 1.

    {} where it does not: every row has a name of its own, the numbers rise, fall once, and most
    names before the fall come again after it.
    """
    paths = [_path(row) for row in content]
    numbers = [re.search(r"(\d+)\.\w+$", path) for path in paths]
    counted = [int(match[1]) for match in numbers if match]
    falls = [i for i in range(1, len(counted)) if counted[i] <= counted[i - 1]]
    if len(counted) < len(content) or len(falls) != 1:
        return {}
    start = falls[0]
    later = {path: row for row, path in enumerate(paths[start:], start + 1)}
    again = {row: later[path] for row, path in enumerate(paths[:start], 1) if path in later}
    # two rows of one image may follow each other; a counter that starts over goes far back
    return again if len(again) > 1 and 2 * len(again) >= start else {}


def _case(images: set[str], again: dict[int, int], row: Any, number: int, split: str) -> Case:
    files.text(row, "image_path")
    path = pathlib.PurePosixPath(_path(row)).as_posix()
    if path not in images:
        raise files.RowError("image_path", f"no image {path}", "add the file or delete the row")
    if number in again:
        problem = f"{path} is the picture of row {again[number]}: the names start over"
        remedy = f"delete rows 1 to {max(again)}, they are another split's questions"
        raise files.RowError("image_path", problem, remedy)
    kind = row.get("question_type")
    return rows.case(
        split, f"row{number}", row, path, kind.strip() if isinstance(kind, str) else ""
    )
