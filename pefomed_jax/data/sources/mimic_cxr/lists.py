"""The tables of MIMIC-CXR-JPG: which images make a case, of which split, with which labels."""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pefomed_jax.data.sources import tables
from pefomed_jax.data.sources.files import Broken

SPLITS = {"train": "train", "validate": "val", "test": "test"}
FRONTAL, LATERAL = ("PA", "AP"), ("LATERAL", "LL")  # ViewPosition, the preferred first
ORDER = FRONTAL + LATERAL
WANTED = {"frontal": FRONTAL, "frontals": FRONTAL, "lateral": LATERAL}
EACH = ("frontals", "any")  # every image a case of its own
NUMBER = re.compile(r"[1-9]\d{7}")  # of a patient or study
IMAGE = re.compile(r"\w[\w.-]*")


class Unit(NamedTuple):
    """What becomes a case, if its report has the text that is wanted."""

    split: str
    patient: str
    study: str
    images: tuple[str, ...]  # dicom_id
    views: tuple[str, ...]  # ViewPosition, '' where it is not known


@dataclasses.dataclass
class Counts:
    """What the choice of views makes of the studies of a split."""

    images: int = 0
    used: int = 0
    studies: int = 0
    without: int = 0  # studies without an image of these views
    cut: int = 0  # studies with more images than are taken
    absent: int = 0  # studies whose folder is not there


@dataclasses.dataclass(slots=True)
class _Study:
    split: str
    patient: str
    number: str
    images: list[tuple[int, str]]  # (row, dicom_id)


def views(path: pathlib.Path) -> dict[str, str]:
    """dicom_id -> ViewPosition, '' where the table leaves it out."""
    rows = tables.read(path, ("dicom_id", "ViewPosition"))
    return {
        row["dicom_id"]: sys.intern(row["ViewPosition"].strip())
        for row in rows
        if not isinstance(row, Broken)  # a row of the split list then misses it
    }


def units(
    path: pathlib.Path,
    chosen: str,
    most: int,
    view_of: dict[str, str],
    there: Callable[[str, str], bool],
) -> tuple[list[Unit | Broken | None], dict[str, Counts]]:
    """One entry for each row of the split list, None where an image is no case of its own.

    `chosen`: config.data.mimic_cxr.views; `most`: images of a study in a case; `there`: whether
    (patient, study) are to be used. A case stands at the row of its first image.
    """
    rows: list[Unit | Broken | None] = []
    studies = _studies(path, rows, view_of if chosen in WANTED else None)
    counts = {split: Counts() for split in SPLITS.values()}
    for study in studies.values():
        count = counts[study.split]
        if not there(study.patient, study.number):
            count.absent += 1
            continue
        groups = _groups(study.images, chosen, view_of)
        count.studies += 1
        count.images += len(study.images)
        count.without += not groups
        for group in groups:
            count.cut += len(group) > most
            names = tuple(name for _, name in group[:most])
            count.used += len(names)
            known = tuple(view_of.get(name, "") for name in names)
            rows[group[0][0]] = Unit(study.split, study.patient, study.number, names, known)
    return rows, counts


def _groups(
    images: list[tuple[int, str]], chosen: str, view_of: dict[str, str]
) -> list[list[tuple[int, str]]]:
    """The images of each case of a study. Of several the first by view, then by dicom_id."""
    ranked = sorted(images, key=lambda image: (_rank(view_of.get(image[1])), image[1]))
    wanted = WANTED.get(chosen)
    if wanted:
        ranked = [image for image in ranked if view_of.get(image[1]) in wanted]
    if chosen in EACH:
        return [[image] for image in ranked]
    if chosen == "study":
        return [_both_first(ranked, view_of)]
    return [ranked[:1]] if ranked else []


def _rank(view: str | None) -> int:
    return ORDER.index(view) if view in ORDER else len(ORDER)


def _both_first(ranked: list[tuple[int, str]], view_of: dict[str, str]) -> list[tuple[int, str]]:
    """The best frontal, the best lateral, then the rest."""
    lateral = next((i for i in ranked if view_of.get(i[1]) in LATERAL), None)
    if lateral is None or lateral == ranked[0]:
        return ranked
    return [ranked[0], lateral, *(image for image in ranked[1:] if image != lateral)]


def _studies(
    path: pathlib.Path, rows: list[Unit | Broken | None], view_of: dict[str, str] | None
) -> dict[str, _Study]:
    """The studies in the order of the list; a bad row goes into `rows`, for others None."""
    studies: dict[str, _Study] = {}
    seen: set[str] = set()
    for row in tables.read(path, ("dicom_id", "study_id", "subject_id", "split")):
        bad = row if isinstance(row, Broken) else _problem(row, studies, seen, view_of)
        if bad is None and not isinstance(row, Broken):
            number, image = row["study_id"].strip(), row["dicom_id"].strip()
            new = _Study(SPLITS[row["split"].strip()], row["subject_id"].strip(), number, [])
            studies.setdefault(number, new).images.append((len(rows), image))
            seen.add(image)
        rows.append(bad)
    return studies


def _problem(
    row: dict[str, str],
    studies: dict[str, _Study],
    seen: set[str],
    view_of: dict[str, str] | None,
) -> Broken | None:
    again = "fetch the list again"
    image, study, patient, split = (
        row[key].strip() for key in ("dicom_id", "study_id", "subject_id", "split")
    )
    if split not in SPLITS:
        return Broken("split", f"'{split}' is none of {', '.join(SPLITS)}", again)
    for field, number in (("study_id", study), ("subject_id", patient)):
        if not NUMBER.fullmatch(number):
            return Broken(field, f"'{number}' is no number of eight digits", again)
    if not IMAGE.fullmatch(image):
        return Broken("dicom_id", f"'{image}' is no name of an image", again)
    if image in seen:
        return Broken("dicom_id", f"{image} is listed already", "delete one of the rows")
    if view_of is not None and image not in view_of:
        remedy = "fetch the metadata again, or set --config.data.mimic_cxr.views=any"
        return Broken("dicom_id", f"{image} is not in the metadata, so its view is unknown", remedy)
    known = studies.get(study)
    if known and (known.split, known.patient) != (SPLITS[split], patient):
        return Broken("study_id", f"{study} is of another split or patient before", again)
    return None


def labels(path: pathlib.Path) -> tuple[dict[str, dict[str, int]], int]:
    """study -> {label: 1 present, 0 absent, -1 uncertain}; and how many rows cannot be read.

    What a report does not mention has no entry. Equal sets of labels are one object: there are far
    fewer than studies.
    """
    same: dict[tuple[str, ...], dict[str, int]] = {}
    found: dict[str, dict[str, int]] = {}
    broken = 0
    for row in tables.read(path, ("subject_id", "study_id")):
        if isinstance(row, Broken):
            broken += 1
            continue
        study = row.pop("study_id").strip()
        row.pop("subject_id")
        cells = tuple(row.values())
        if cells not in same:
            same[cells] = _mentioned(row.items())
        found[study] = same[cells]
    return found, broken


def _mentioned(cells: Iterable[tuple[str, str]]) -> dict[str, int]:
    found = {}
    for label, cell in cells:
        try:
            found[label] = int(float(cell))
        except (ValueError, OverflowError):  # blank: the report does not mention it
            continue
    return found
