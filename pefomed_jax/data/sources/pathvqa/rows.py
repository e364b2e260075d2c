"""What the releases of PathVQA share: the names of splits, and a row as a case."""

from typing import Any

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files

LISTS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


def case(split: str, own: str, row: Any, image: str, question_type: str = "") -> Case:
    """A row with question and answer; `own`: its id without the split. Errors: RowError."""
    question, answer = files.text(row, "question"), files.text(row, "answer")
    closed = answer.lower().rstrip(".") in ("yes", "no")
    fields = {"answer_type": "CLOSED" if closed else "OPEN"}
    if question_type:
        fields["question_type"] = question_type
    return Case(f"{split}-{own}", (image,), question, answer, split, fields)
