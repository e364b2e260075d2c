"""Scores of parts of the cases: by answer type, question type, organ or any other field."""

from collections.abc import Mapping, Sequence
from typing import Any

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation.measure import Measure

Row = Mapping[str, Any]
Table = dict[str, dict[str, float | int | None]]  # {value: {n_cases, score: value}}

# fields that are tried without being asked for, when they have 2 to MOST values
USUAL = (
    *("answer_type", "question_type", "organ", "image_organ", "modality", "location"),
    *("content_type", "base_type", "phrase_type", "q_lang", "view", "split", "source", "task"),
)
MOST = 20
MOST_ASKED = 200
NONE = "(none)"  # the cases without the field


def tables(
    rows: Sequence[Row], measure: Measure | None, fields: Sequence[str] | None
) -> dict[str, Table]:
    """{field: {value: {"n_cases": n, score: value or None}}}, larger groups first.

    `fields` None: those of USUAL that have few values. A case with a list of values is in each of
    their groups. Raises UserError for a field that no row has, or of more than MOST_ASKED values.
    """
    if measure is None:
        return {}
    if fields is None:
        members = {name: members_of(rows, name) for name in USUAL if any(name in r for r in rows)}
        members = {name: groups for name, groups in members.items() if 2 <= len(groups) <= MOST}
    else:
        members = {name: _asked(rows, name) for name in fields}
    return {name: _table(measure, groups) for name, groups in members.items()}


def _asked(rows: Sequence[Row], name: str) -> dict[str, list[int]]:
    known = dict.fromkeys(key for row in rows for key in row)
    if name not in known:
        raise UserError(
            f"--group_by: no case has a field '{name}'{nearest(name, known)}; "
            f"there are {', '.join(known)}"
        )
    groups = members_of(rows, name)
    if len(groups) > MOST_ASKED:
        raise UserError(
            f"--group_by: '{name}' has {len(groups)} values; name a field of {MOST_ASKED} or fewer"
        )
    return groups


def members_of(rows: Sequence[Row], name: str) -> dict[str, list[int]]:
    """The rows of each value of a field, larger groups first."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        held = row.get(name)
        several = held if isinstance(held, list | tuple) else [held]
        for value in dict.fromkeys(_name(v) for v in several) or [NONE]:
            groups.setdefault(value, []).append(i)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def _name(value: Any) -> str:
    return NONE if value is None or value == "" else str(value)


def _table(measure: Measure, groups: Mapping[str, list[int]]) -> Table:
    made: Table = {}
    for value, members in groups.items():
        scores = {
            name: None if score != score else score
            for name, score in measure.scores(members).items()
            if not name.startswith("exact_match_")
        }
        made[value] = {"n_cases": len(members), **scores}
    return made
