"""VQA-RAD (Lau et al., Scientific Data 2018, doi:10.1038/sdata.2018.251) in its two layouts.

`data_RAD`, as MEVF, QCR and PeFoMed read it: trainset.json, testset.json, images/. Its training
list also holds framed rewordings, about a fifth of them of test questions, which flatters scores;
the public file keeps those out.
The public file of the release: `VQA_RAD Dataset Public.json`, images in `VQA_RAD Image Folder`
(or images/); the phrase_type of a row says its split, so it has to be there and known.
`config.data.dir` names the folder, or that public file where both layouts lie together.
The set has no validation split, and its test questions share images with the training ones.
"""

import functools
import pathlib
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files
from pefomed_jax.errors import UserError

LISTS = {"train": "trainset.json", "test": "testset.json"}
PUBLIC = "VQA_RAD Dataset Public.json"
FOLDERS = ("images", "VQA_RAD Image Folder")
SPLIT_OF = {  # of a phrase_type of the public file
    "freeform": "train",
    "para": "train",
    "test_freeform": "test",
    "test_para": "test",
}
FIELDS = ("qid", "answer_type", "question_type", "phrase_type", "image_organ")


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: neither layout is in config.data.dir."""
    path = files.folder_of(config, "vqa_rad")
    root = path if path.is_dir() else path.parent
    source = files.ListSource("vqa_rad", "vqa", str(root))
    read = functools.partial(_case, root)
    if path.is_dir() and all((root / name).is_file() for name in LISTS.values()):
        for split, name in LISTS.items():
            source.add(split, name, _rows(root / name), read)
        return source
    public = root / PUBLIC if path.is_dir() else path
    if not public.is_file():
        raise UserError(
            f"data.dir: {root} holds neither {LISTS['train']} and {LISTS['test']} nor '{PUBLIC}';"
            " set --config.data.dir to a folder that does"
        )
    rows = _rows(public)
    read = functools.partial(_public_case, root)
    for split in LISTS:
        source.add(split, public.name, rows, read, lambda row, s=split: _split(row) == s)
    return source


def _split(row: Any) -> str:
    """The split of a public row; 'train' where none can be told: `_public_case` refuses those."""
    phrase = row.get("phrase_type") if isinstance(row, dict) else None
    return SPLIT_OF.get(str(phrase).strip(), "train")


def _public_case(root: pathlib.Path, row: Any, number: int, split: str) -> Case:
    phrase = files.text(row, "phrase_type")
    if phrase not in SPLIT_OF:
        remedy = f"write one of {', '.join(SPLIT_OF)}"
        raise files.RowError("phrase_type", f"'{phrase}' tells no split", remedy)
    files.text(row, "answer_type")
    return _case(root, row, number, split)


def _rows(path: pathlib.Path) -> list[Any]:
    rows = files.read_json(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: a {type(rows).__name__} where VQA-RAD has a list of questions")
    return rows


def _case(root: pathlib.Path, row: Any, number: int, split: str) -> Case:
    question, answer = files.text(row, "question"), files.text(row, "answer")
    image = files.find_image(root, files.text(row, "image_name"), FOLDERS, "image_name")
    name = f"{split}-{files.own_id(row, 'qid', number)}"
    return Case(name, (image,), question, answer, split, files.own_fields(row, FIELDS))
