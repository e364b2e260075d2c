"""SLAKE 1.0 (Liu et al., ISBI 2021, arXiv:2102.09542), English and Chinese questions.

As distributed: train.json, validate.json (validation.json on Hugging Face), test.json and
imgs/xmlabN/source.jpg, in config.data.dir or in a folder Slake1.0 inside it. PeFoMed's JSON lists
are read as well.

`config.data.slake.language`: en, zh or all; the rows of the other are counted and left out. The
set's content_type is the field question_type. Splits are by image. Known defects: one English
training question (qid 1622) has no answer.
"""

import functools
import pathlib
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, folders, pefomed
from pefomed_jax.errors import UserError

LISTS = {
    "train": ("train.json",),
    "val": ("validate.json", "validation.json"),
    "test": ("test.json",),
}
LANGUAGES = ("en", "zh")
FOLDERS = ("imgs", "images")
FIELDS = ("qid", "img_id", "answer_type", "q_lang", "location", "modality", "base_type", "triple")


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: a list is missing or is another set's, the images are not there."""
    given = files.folder_of(config, "slake")
    if pefomed.holds(given):
        return pefomed.read("slake", given, config)
    root = folders.inner(given, lambda path: (path / "train.json").is_file()) or given
    lists = {split: _list(root, names) for split, names in LISTS.items()}
    _check_images(root)
    source = files.ListSource("slake", "vqa", str(root))
    find = functools.cache(functools.partial(_image, root))
    for split, path in lists.items():
        rows = _rows(path)
        keep = functools.partial(_is_in, config.data.slake.language)
        source.add(split, path.name, rows, functools.partial(_case, find), keep)
        _say(config.data.slake.language, split, sum(map(keep, rows)), len(rows))
    return source


def _list(root: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise UserError(
        f"data.dir: {root} has no {' or '.join(names)}; set --config.data.dir to the folder of"
        " SLAKE's train.json, validate.json, test.json and imgs/"
    )


def _check_images(root: pathlib.Path) -> None:
    if any((root / folder).is_dir() for folder in FOLDERS):
        return
    packed = root / "imgs.zip"
    remedy = f"unpack {packed} there" if packed.is_file() else "fetch SLAKE's imgs.zip"
    raise UserError(f"data.dir: {root} has no folder {' or '.join(FOLDERS)}; {remedy}")


def _rows(path: pathlib.Path) -> list[Any]:
    rows = files.read_json(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: a {type(rows).__name__} where SLAKE has a list of questions")
    if rows and not any(isinstance(row, dict) and "img_name" in row for row in rows):
        raise UserError(
            f"{path}: no row has 'img_name', so it is no list of SLAKE; name its folder"
        )
    return rows


def _is_in(language: str, row: Any) -> bool:
    """Whether a row is asked for; one of no known language is kept, for `_case` refuses it."""
    own = row.get("q_lang") if isinstance(row, dict) else None
    return language == "all" or own not in LANGUAGES or own == language


def _say(language: str, split: str, kept: int, total: int) -> None:
    if language != "all":
        print(f"slake: {kept} of {total} {split} rows are in language {language}")


def _image(root: pathlib.Path, name: str) -> str:
    return files.find_image(root, name, FOLDERS, "img_name")


def _case(find: Any, row: Any, number: int, split: str) -> Case:
    if (language := files.text(row, "q_lang")) not in LANGUAGES:
        raise files.RowError("q_lang", f"'{language}' is no language of SLAKE", "write en or zh")
    question, answer = files.text(row, "question"), files.text(row, "answer")
    image = find(files.text(row, "img_name"))
    fields = files.own_fields(row, FIELDS)
    if row.get("content_type"):
        fields["question_type"] = files.text(row, "content_type")
    name = f"{split}-{files.text(row, 'qid')}"
    return Case(name, (image,), question, answer, split, fields)
