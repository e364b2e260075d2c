"""ImageCLEFmedical Caption, the caption prediction task of one year: figures with captions.

A year's folder as its archives unpack: lists with "caption" in their name, each of one split, and
folders of images with any names. What the lists are called and look like changes by year:

    2021    Training_Set_Captions.csv, Validation_Set_Captions.csv; images synpic….jpg
    2022    …ImageCLEFmedCaption_2022_caption_prediction_train.csv: tabs, ID and caption
    2023    ImageCLEFmedical_Caption_2023_caption_prediction_train_labels.csv: tabs, ID and caption
    2024/5  train_captions.csv: commas, ID and Caption
    2026    captions.csv of train and valid together, told apart by the IDs

The delimiter is seen from the header, and an ID is an image's name, with or without its suffix.
The split is in the list's name, or in the ID (…_train_000001), or in the name of its folder.
Concepts of the concept detection task beside them become the field `cuis`. Captions of the test
images are not distributed, so there is mostly no test split; `data.clef.test=valid` makes the
validation images one, and validation is set aside from the training images. The years overlap (all
but 2021 are of PubMed Central, as ROCO is): read one at a time. 2019 and 2020 had no captions. The
data come with the task's agreement (imageclef.org); overviews: CEUR-WS Vol-2936 (2021), Vol-3180
(2022), Vol-3497 (2023), Vol-3740 (2024).
"""

import pathlib
import re
from typing import NamedTuple

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import captions, files, pefomed
from pefomed_jax.errors import UserError

TASK = re.compile(r"imageclefmed(ical)?_?caption_?(20\d\d)?", re.I)  # no word on what a list holds
WORD = re.compile(r"(?<![a-z])(train|valid|val|dev|test)", re.I)
IN_ID = re.compile(r"_(train|valid|test)(?=_)", re.I)
SPLIT = {"train": "train", "valid": "val", "val": "val", "dev": "val", "test": "test"}
SCORE_VALID = (
    "--config.data.clef.test=valid scores the validation images, and training images are set aside "
    "to validate with"
)
ENDS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: no list of captions in the folder, or two of one split; no images."""
    root = files.folder_of(config, "clef")
    if pefomed.holds(root):
        return pefomed.read("clef", root, config)
    if not root.is_dir():
        raise UserError(f"data.dir: {root} is a file; name the folder that it lies in")
    tree = list(captions.folders(root))
    lists, scored = _lists(root, tree), config.data.clef.test == "valid"
    if scored and "test" in lists:
        raise UserError(
            f"data.clef.test=valid: {lists['test']} has the test captions; leave it out"
        )
    source = files.ListSource("clef", "caption", str(root))
    _read(source, tree, lists, scored)
    if not source.cases("train") and not source.bad_rows:
        raise UserError(f"{next(iter(lists.values()))}: no row is of a training image")
    if not source.cases("test"):
        print(f"clef: no captions of test images, so no test split; {SCORE_VALID}")
    return source


def _read(
    source: files.ListSource,
    tree: list[tuple[pathlib.Path, list[str]]],
    lists: dict[str, pathlib.Path],
    scored: bool,
) -> None:
    root = pathlib.Path(source.root)
    images = captions.Images(root, tree, str(root))
    if not images:
        raise UserError(f"data.dir: {root} has captions but no images; unpack their archives there")
    for split, path in lists.items():
        form, listed = captions.table(path, captions.CAPTIONS), path.relative_to(root)
        inside = _word(listed.parent.name)
        read = _Reader(images, _cuis(tree, split), form, split, inside, scored)
        source.add(split or "train", listed.as_posix(), form.rows(), read)


def _lists(
    root: pathlib.Path, tree: list[tuple[pathlib.Path, list[str]]]
) -> dict[str, pathlib.Path]:
    """The lists of captions by split, '' for one that its rows split; see the module."""
    found: dict[str, pathlib.Path] = {}
    for path in (folder / name for folder, names in tree for name in names):
        if not _holds(path.name, ("caption",)):
            continue
        split = _word(TASK.sub("", path.name))
        if split in found:
            raise UserError(
                f"{found[split]} and {path} both list captions"
                f"{f' of the split {split}' * bool(split)}; keep one, or name the folder of one "
                "year as --config.data.dir"
            )
        found[split] = path
    if "" in found and len(found) > 1:
        raise UserError(f"{found['']} has no train, valid or test in its name; rename or remove it")
    if not found.keys() & {"train", ""}:
        raise UserError(
            f"data.dir: no training captions in {root}; looked for a .csv, .tsv or .txt file with "
            "'caption' and 'train' in its name (concepts alone are another task)"
        )
    return found


def _holds(name: str, words: tuple[str, ...]) -> bool:
    """Whether a table is named after what one of these words says."""
    rest = TASK.sub("", name).lower()
    return (
        rest.endswith(ENDS)
        and any(word in rest for word in words)
        and ("caption" in words or "caption" not in rest)
    )


def _word(name: str) -> str:
    """The split that a name says, '' for none."""
    found = WORD.search(name)
    return SPLIT[found[1].lower()] if found else ""


def _cuis(tree: list[tuple[pathlib.Path, list[str]]], split: str) -> dict[str, str]:
    """The concepts of a split, where their list is there; curated ones are in it as well."""
    for path in (folder / name for folder, names in tree for name in names):
        if _holds(path.name, ("concept",)) and "manual" not in path.name:
            rest = TASK.sub("", path.name)
            if _word(rest) == split and (split or path.stem == "concepts"):
                return captions.concepts(path)
    return {}


class _Reader(NamedTuple):
    """Reads the rows of one list."""

    images: captions.Images
    cuis: dict[str, str]
    form: captions.Table
    split: str  # '': the IDs tell it
    otherwise: str  # where an ID does not
    scored: bool  # validation cases are the test split

    def __call__(self, row: dict[str, str], number: int, split: str) -> Case:
        """The case of a row, of the split it belongs to."""
        name, caption = files.text(row, self.form.id), files.text(row, self.form.text)
        found = IN_ID.search(name)
        split = self.split or (SPLIT[found[1].lower()] if found else self.otherwise)
        if not split:
            problem = f"{name} tells no split"
            raise files.RowError(self.form.id, problem, "name the list after its split")
        split = "test" if self.scored and split == "val" else split
        image = self.images.find(name, self.form.id)
        return captions.case(split, name, image, caption, cuis=self.cuis.get(name, ""))
