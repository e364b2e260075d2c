"""PeFoMed's own files: lists of answers, files for its judge, and annotations with the references.

[{"qid": 7, "answer": "left lung"}, ...]                        answers; needs annotations
{"7": {"question", "ground_truth", "generated_answer", "answer_type", "question_type"}, ...}
[{"image_path", "ground_truth", "generated_report"}, ...]
annotations: [{"qid", "image_name", "question", "answer", ...}], [{"image_path", "report"}],
             [{"image", "caption"}], {"PATH.jpg": ["report", ...]}
"""

import pathlib
from collections.abc import Iterable
from typing import Any

from pefomed_jax.errors import UserError

Place = tuple[str, Any]  # FILE:LINE or FILE[INDEX], and the row

# our name: what else it is called, in the order in which they are looked for
IDS = ("id", "qid", "question_id", "image_id", "image_path", "image")
PREDICTIONS = ("prediction", "generated_answer", "generated_report", "answer", "caption")
REFERENCES = ("reference", "ground_truth")
ANNOTATED = ("reference", "ground_truth", "answer", "report", "caption")
OTHERS = {"prompt": ("question",), "image": ("image_name", "image_path")}


def predictions(
    found: Any, path: pathlib.Path, known: dict[str, dict[str, Any]] | None
) -> list[Place]:
    """The rows of one JSON value under our names; `known` holds references by id."""
    rows = [(where, _renamed(row, "prediction", PREDICTIONS)) for where, row in _rows(found, path)]
    if known is not None:
        return join(rows, known)
    rows = [(where, _renamed(row, "reference", REFERENCES)) for where, row in rows]
    for where, row in rows:
        if isinstance(row, dict) and "prediction" in row and "reference" not in row:
            raise UserError(
                f"{where} has no reference; add the annotations: --references=FILE.json"
            )
    return rows


def references(found: Any, path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Annotated cases by id: `reference` and the fields beside it."""
    return by_id(_rows(found, path), path)


def by_id(rows: Iterable[Place], path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Rows of annotations by their id. Raises UserError for one without id or reference."""
    made: dict[str, dict[str, Any]] = {}
    for where, row in rows:
        row = _renamed(row, "reference", ANNOTATED)
        row = _renamed(row, "id", IDS)
        if not isinstance(row, dict) or not {"id", "reference"} <= row.keys():
            raise UserError(f"{where} has no id (qid) or no reference (answer, report); add it")
        row["id"] = str(row["id"])
        if made.setdefault(row["id"], row) != row:
            raise UserError(f"{where}: id '{row['id']}' is there twice; keep one of the two")
    if not made:
        raise UserError(f"{path} holds no case; write the annotations of the predictions")
    return made


def join(rows: Iterable[Place], known: dict[str, dict[str, Any]]) -> list[Place]:
    """Rows with the reference and the fields that stand under their id; a row's own fields win."""
    made = []
    for where, row in rows:
        row = _renamed(row, "id", IDS)
        if isinstance(row, dict) and "id" in row:
            if str(row["id"]) not in known:
                raise UserError(f"{where}: id '{row['id']}' is not among the references; add it")
            annotated = known[str(row["id"])]
            row = {**annotated, **row, "reference": annotated["reference"]}
        made.append((where, row))
    return made


def check_complete(have: set[str], known: dict[str, dict[str, Any]], path: pathlib.Path) -> None:
    """Raises UserError where annotated cases have no prediction: the score would be of fewer."""
    if missing := [name for name in known if name not in have]:
        named = ", ".join(missing[:3])
        raise UserError(
            f"{path} has no prediction for {len(missing)} of {len(known)} annotated cases "
            f"({named}{', ...' if len(missing) > 3 else ''}); predict them, or take them out of "
            "--references"
        )


def _rows(found: Any, path: pathlib.Path) -> list[Place]:
    """(place, row) of a list, or of an object of rows by id or of reports by image."""
    if isinstance(found, list):
        rows = [(f"{path}[{i}]", row) for i, row in enumerate(found)]
    elif isinstance(found, dict):
        if "prediction" in found:
            rows = [(str(path), found)]
        else:
            rows = [(f"{path}['{name}']", _keyed(name, row)) for name, row in found.items()]
    else:
        raise UserError(f"{path} is neither a list nor an object of cases; see docs/evaluation.md")
    return [(where, _own(row)) for where, row in rows]


def _keyed(name: str, row: Any) -> Any:
    if isinstance(row, dict):
        return {"id": name, **row}
    return {"id": name, "reference": row[0] if isinstance(row, list) and row else row}


def _own(row: Any) -> Any:
    row = _renamed(row, "id", IDS, keep=True)
    for name, others in OTHERS.items():
        row = _renamed(row, name, others, keep=True)
    return row


def _renamed(row: Any, name: str, others: tuple[str, ...], keep: bool = False) -> Any:
    """The row with the first of `others` under `name`, where `name` is not there yet."""
    if not isinstance(row, dict) or name in row:
        return row
    other = next((o for o in others if o in row), None)
    if other is None:
        return row
    return {name: row[other], **{k: v for k, v in row.items() if keep or k != other}}
