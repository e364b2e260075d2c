"""R2Gen's form of chest reports (Chen et al., EMNLP 2020, arXiv:2010.16056).

    annotation.json   {"train": [{id, report, image_path: [...], split}], "val": ..., "test": ...}
    images/           image_path is from here

The reports are findings only, and studies without them are left out already.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, folders
from pefomed_jax.errors import UserError

LIST = "annotation.json"
SPLITS = ("train", "val", "test")


def holds(root: pathlib.Path) -> bool:
    """Whether there is such a list in a folder, or in one folder inside it."""
    return _list(root) is not None


def _list(root: pathlib.Path) -> pathlib.Path | None:
    folder = folders.inner(root, lambda path: (path / LIST).is_file())
    return folder and folder / LIST


def read(name: str, root: pathlib.Path, layout: str, views: str, sections: str) -> files.ListSource:
    """The source `name`. `views`: both (one case of all images), frontal (the first), or each.

    Errors: the list is not of this form, or other sections than findings are asked for.
    """
    path = _list(root)
    if path is None:
        raise UserError(f"{name}: there is no {root / LIST}")
    if sections != "findings":
        raise UserError(
            f"data.{name}.sections='{sections}': {path} has findings only; read the original "
            f"release, or set --config.data.{name}.sections=findings"
        )
    content = files.read_json(path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise UserError(f"{path}: expected an object with the lists {', '.join(SPLITS)}")
    if other := sorted(set(content) - set(SPLITS)):
        raise UserError(f"{path}: '{other[0]}' is none of {', '.join(SPLITS)}; rename it")
    source = files.ListSource(name, "report", str(root))
    folder = path.parent.relative_to(root)
    for split in (split for split in SPLITS if split in content):
        make = functools.partial(_case, root, (folder / "images").as_posix(), layout, views)
        _add(source, split, (folder / LIST).as_posix(), content[split], views, make)
    return source


def _add(
    source: files.ListSource,
    split: str,
    file: str,
    rows: list[Any],
    views: str,
    make: Callable[..., Case],
) -> None:
    """With `each`, the first images of all rows come before the second ones."""
    most = max((len(_images(row)) for row in rows), default=0) if views == "each" else 1
    for i in range(max(most, 1)):

        def has(row: Any, i: int = i) -> bool:
            return i == 0 or i < len(_images(row))

        source.add(split, file, rows, functools.partial(make, i), has)


def _images(row: Any) -> list[Any]:
    """What a row names, [] where it names nothing."""
    found = row.get("image_path") if isinstance(row, dict) else None
    return [found] if isinstance(found, str) else found if isinstance(found, list) else []


def _case(
    root: pathlib.Path,
    folder: str,
    layout: str,
    views: str,
    i: int,
    row: Any,
    number: int,
    split: str,
) -> Case:
    own, report = files.text(row, "id"), " ".join(files.text(row, "report").split())
    files.value(row, "image_path")
    named = _images(row)
    if not named or not all(isinstance(image, str) for image in named):
        raise files.RowError("image_path", "names no image", "write a list of paths")
    chosen = named if views == "both" else named[i : i + 1]
    images = tuple(files.find_image(root, image, (folder,), "image_path") for image in chosen)
    fields = {"layout": layout, "study_id": str(row.get("study_id", own))}
    if "subject_id" in row:
        fields["patient_id"] = str(row["subject_id"])
    ending = f"-{i}" if views == "each" and len(named) > 1 else ""
    return Case(f"{split}-{own}{ending}", images, "", report, split, fields)
