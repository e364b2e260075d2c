"""Which column of a table holds what: named by the user, or guessed from its name."""

import collections
import re

from ml_collections import ConfigDict

from pefomed_jax.data.sources import texts
from pefomed_jax.data.sources.folder.table import NONE, Table
from pefomed_jax.data.sources.options import COLUMNS
from pefomed_jax.errors import UserError, nearest

IMAGES = ("image", "images", "imagepath", "imagepaths", "imagefile", "imagename", "filename")
IMAGES += ("filepath", "file", "path", "img", "imgpath", "imgname", "imageid")
NAMES = {  # of a column in lower case without _, -, blanks; the first that is there is taken
    "image": IMAGES,
    "question": ("question", "query"),
    "answer": ("answer",),
    "id": ("id", "qid", "caseid", "questionid", "uid"),
    "split": ("split", "subset", "partition"),
    "patient": ("patientid", "patient", "subjectid", "subject"),
    "study": ("studyid", "study", "encounterid"),
    "answer_type": ("answertype",),
    "question_type": ("questiontype",),
}
TEXTS = ("report", "findings", "caption", "text", "answer")
TEXTS_OF = {  # of a task, instead of NAMES["answer"]
    "vqa": NAMES["answer"],
    "caption": ("caption", *(name for name in TEXTS if name != "caption")),
    "mrg": TEXTS,
}


def take(table: Table, task: str, named: ConfigDict, asks_split: bool) -> dict[str, str]:
    """{role: column}; `question` for vqa alone. Errors: a column that is missing, or there twice.

    `asks_split`: whether the table is of all splits.
    """
    idle = {"question"} if task != "vqa" else set()
    idle |= set() if asks_split else {"split"}
    guesses = NAMES | {"answer": TEXTS_OF[task]}
    taken = {}
    for role in NAMES:
        own = named[role] if role in COLUMNS else ""
        if role in idle or own == NONE:
            continue
        if column := _named(table, role, own) if own else _guessed(table, guesses[role]):
            taken[role] = column
    _whole(table, task, taken)
    return taken


def said(taken: dict[str, str]) -> str:
    """'image=filename, answer=report', for the line that the user reads."""
    return ", ".join(f"{role}={column}" for role, column in taken.items())


def _named(table: Table, role: str, column: str) -> str:
    if column not in table.columns:
        near = nearest(column, table.columns)
        raise UserError(
            f"data.folder.{role}: {table.path} has no column '{column}'{near}; "
            f"there are {_shown(table)}"
        )
    return column


def _guessed(table: Table, names: tuple[str, ...]) -> str:
    plain = {re.sub(r"[\W_]", "", column.lower()): column for column in reversed(table.columns)}
    return next((plain[name] for name in names if name in plain), "")


def _whole(table: Table, task: str, taken: dict[str, str]) -> None:
    """Errors: a column that the task needs is not known, or one stands twice in the header."""
    what = {"image": "image", "question": "question", "answer": "answer"}
    if task != "vqa":
        what = {"image": "image", "answer": "report or caption"}
    for role, meaning in what.items():
        if role not in taken:
            raise UserError(
                f"folder: {table.path}: which column holds the {meaning}? There are "
                f"{_shown(table)}; name it: --config.data.folder.{role}=COLUMN"
            )
    twice = [name for name, n in collections.Counter(table.columns).items() if n > 1]
    for column in taken.values():
        if column in twice:
            raise UserError(f"folder: {table.path} has two columns '{column}'; rename one")


def _shown(table: Table) -> str:
    shown = texts.one_line(", ".join(column or "''" for column in table.columns))
    return shown or "none, the table has no row"
