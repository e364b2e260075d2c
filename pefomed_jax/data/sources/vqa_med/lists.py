"""The lists of VQA-Med under a folder: which year and split each is, categories, answers."""

import pathlib
import re
from typing import NamedTuple

from pefomed_jax.data.reading import SUFFIXES
from pefomed_jax.data.sources import files, tables
from pefomed_jax.data.sources.listing import Listing
from pefomed_jax.errors import UserError

PAIRS, ASKED = ("image", "question", "answer"), ("image", "question")
LISTS = {  # names without - and _, in small letters: (year, split, columns)
    "allqapairstrain.txt": ("2019", "train", PAIRS),
    "allqapairsval.txt": ("2019", "val", PAIRS),
    "vqamed2019testquestionswrefanswers.txt": (
        "2019", "test", ("image", "category", "question", "answer")
    ),
    "vqanswering2020trainqapairs.txt": ("2020", "train", PAIRS),
    "vqanswering2020valqapairs.txt": ("2020", "val", PAIRS),
    "vqamed2020task1vqansweringtestquestions.txt": ("2020", "test", ASKED),
    "vqamed2021vqansweringtask1newvalidationset.txt": ("2021", "val", PAIRS),
    "task1vqa2021testsetquestions.txt": ("2021", "test", ASKED),
}  # fmt: skip
CATEGORY = re.compile(r"c[1-4](modality|plane|organ|abnormality)(train|val)\.txt")
TRAINING = "All_QA_Pairs_train.txt (2019) and VQAnswering_2020_Train_QA_pairs.txt (2020)"


class Found(NamedTuple):
    """What config.data.dir holds: the paths of lists by their names as LISTS has them."""

    root: pathlib.Path
    files: Listing
    lists: dict[str, str]


class Answers(NamedTuple):
    """Reference answers by image, of a list that is kept apart from its questions."""

    file: str
    texts: dict[str, list[str]]
    rows: dict[str, int]  # of an image, from 1


def _plain(path: str) -> str:
    return re.sub(r"[-_ ]", "", path.rpartition("/")[2].lower())


def find(root: pathlib.Path) -> Found:
    """The lists below a folder. Errors: UserError where one is there twice, and see `_check`."""
    there = Listing(root)
    lists: dict[str, str] = {}
    for path in sorted(path for path in there.paths if path.lower().endswith(".txt")):
        if (key := _plain(path)) in lists and (key in LISTS or CATEGORY.fullmatch(key)):
            raise UserError(f"data.dir: {root} holds {lists[key]} and {path}: keep one of them")
        lists[key] = path
    _check(root, lists, there)
    return Found(root, there, lists)


def _check(root: pathlib.Path, lists: dict[str, str], there: Listing) -> None:
    """Errors: UserError where there is no training list, no image, or no answers."""
    if not any(LISTS[key][1] == "train" for key in lists if key in LISTS):
        others = [lists[key] for key in LISTS if key in lists]
        held = f"only {', '.join(others)}" if others else "none of VQA-Med"
        raise UserError(
            f"data.dir: {root} holds no training list, {held}; looked for {TRAINING};"
            " 2021 trains on that of 2020: lay it beside"
        )
    if not any(pathlib.PurePath(path).suffix.lower() in SUFFIXES for path in there.paths):
        packed = sorted(path for path in there.paths if path.lower().endswith(".zip"))
        remedy = f"unpack {', '.join(packed)}" if packed else "unpack the images there"
        raise UserError(f"data.dir: {root} holds no images; {remedy}")
    bare = lists.get("vqamed2019testquestions.txt")  # what was given out before the challenge
    if bare and "vqamed2019testquestionswrefanswers.txt" not in lists:
        raise _no_answers(root / bare, "VQAMed2019_Test_Questions_w_Ref_Answers.txt")


def _no_answers(asked: pathlib.Path, wanted: str) -> UserError:
    return UserError(f"{asked} has no answers: no {wanted}; fetch it, or remove the questions")


def categories(found: Found, split: str) -> dict[tuple[str, str], str]:
    """The category of (image, question) of a split of 2019."""
    kinds: dict[tuple[str, str], str] = {}
    for key, path in found.lists.items():
        if (match := CATEGORY.fullmatch(key)) and match[2] == split:
            for row in tables.read(found.root / path, PAIRS, "|", header=False, quotes=False):
                if isinstance(row, dict):  # the list of all rows tells of broken ones
                    kinds[row["image"].strip(), row["question"].strip()] = match[1]
    return kinds


def answers(source: files.ListSource, found: Found, key: str) -> Answers:
    """The reference answers to a list of questions; rows that are none become bad rows."""
    path = found.lists.get(key.replace("questions", "referenceanswers"))
    if path is None:
        asked = found.root / found.lists[key]
        raise _no_answers(asked, asked.name.replace("Questions", "ReferenceAnswers"))
    known = Answers(path, {}, {})
    # of any number of cells, so a row is one cell here
    rows = tables.read(found.root / path, ("answer",), "\x1f", header=False, quotes=False)
    for number, row in enumerate(rows, 1):
        try:
            if isinstance(row, files.Broken):
                raise files.RowError(*row)
            _take(known, row["answer"], number)
        except files.RowError as error:
            source.bad_rows.append(files.BadRow(path, number, *error.args))
    return known


def _take(answers: Answers, line: str, number: int) -> None:
    image, *cells = (_unquoted(cell.strip()) for cell in line.split("|"))
    if not any(cells):
        raise files.RowError("answer", f"{image} has none", "write image|answer")
    if first := answers.rows.get(image):
        raise files.RowError("image", f"{image} has row {first} already", "delete one of the rows")
    answers.rows[image] = number
    answers.texts[image] = [cell for cell in cells if cell]


def _unquoted(cell: str) -> str:
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1].replace('""', '"').strip() if quoted else cell
