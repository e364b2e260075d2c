"""The authors' release of PathVQA: pickles of questions, folders of images."""

import functools
import pathlib
from typing import Any

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, listing, pickles
from pefomed_jax.data.sources.pathvqa import rows
from pefomed_jax.errors import UserError


def lists(root: pathlib.Path) -> dict[str, pathlib.Path | None]:
    """The pickle of each split, if it is there."""
    found: dict[str, pathlib.Path | None] = {}
    for split in rows.LISTS:
        both = (root / "qas" / split / f"{split}_qa.pkl", root / "qas" / f"{split}_vqa.pkl")
        found[split] = next((path for path in both if path.is_file()), None)
    return found


def read(root: pathlib.Path) -> files.ListSource:
    """The source. Errors: UserError where a pickle is missing, damaged, or not plain data."""
    source = files.ListSource("pathvqa", "vqa", str(root))
    images = listing.Listing(root / "images")
    for split, path in lists(root).items():
        if path is None:
            raise UserError(f"data.dir: {root} has no qas/{split}/{split}_qa.pkl; fetch it")
        content = pickles.read(path)
        if not isinstance(content, list):
            raise UserError(f"{path}: a {type(content).__name__} where PathVQA has a list of rows")
        file = path.relative_to(root).as_posix()
        source.add(split, file, content, functools.partial(_pickled, images))
    return source


def _pickled(images: listing.Listing, row: Any, number: int, split: str) -> Case:
    """A row {image, question, answer}, or {img_id, sent, label, question_id, ...} of _vqa.pkl."""
    key = "img_id" if isinstance(row, dict) and "img_id" in row else "image"
    name = files.text(row, key)
    if not (found := images.images(name)):
        problem = f"no image images/{split}/{name}.jpg"
        raise files.RowError(key, problem, "add the file or delete the row")
    # the split's own folder before another's
    image = min(found, key=lambda path: not path.startswith(f"{split}/"))
    if key == "image":
        return rows.case(split, f"row{number}", row, f"images/{image}")
    kind = files.text(row, "question_type") if row.get("question_type") else ""
    return rows.case(split, *_labelled(row), f"images/{image}", kind)


def _labelled(row: Any) -> tuple[str, dict[str, Any]]:
    """(own id, row with question and answer) of a row with its answer as a label."""
    label = files.value(row, "label")
    if not isinstance(label, dict) or len(label) != 1:
        found = f"{len(label)} answers" if isinstance(label, dict) else f"a {type(label).__name__}"
        raise files.RowError("label", f"{found}, not one", "write {answer: 1}")
    plain = {"question": files.text(row, "sent"), "answer": next(iter(label))}
    return files.text(row, "question_id"), plain
