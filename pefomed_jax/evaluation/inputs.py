"""Predictions from files: strict, so that no case is scored that was not meant, and none is lost.

One JSON object a line (JSONL) with `id`, `prediction` and `reference`, as `launch/predict.py` and a
run write it; or one JSON value of PeFoMed's (`foreign`).
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation import foreign

NEEDED = ("id", "prediction", "reference")
_BLANK = object()  # a line without anything, which the JSON value null is not


class Predictions(NamedTuple):
    """The rows of a file in its order, and what was passed over in it."""

    path: pathlib.Path
    rows: list[dict[str, Any]]  # id, prediction: str; reference: str or list of str; fields
    n_blank: int = 0  # lines without anything
    n_repeated: int = 0  # rows that are in the file twice, to the letter (PeFoMed's lists only)


def read(
    path: str | os.PathLike[str], references: str | os.PathLike[str] | None = None
) -> Predictions:
    """All cases of a file; `references` is a file of annotations that holds them by id.

    Raises UserError that names file and line for whatever is not a case with a unique `id`, a
    `prediction` (empty is one) and a `reference` (text, or a list of texts).
    """
    path = pathlib.Path(path)
    known = None if references is None else _references(pathlib.Path(references))
    data = content(path)
    if path.suffix == ".json" or data.lstrip()[:1] == b"[":
        found = foreign.predictions(value(data, str(path)), path, known)
        (rows, repeated), blank = _without_repeated(found), 0
    else:
        lines = list(_lines(data, path))
        rows, repeated = [line for line in lines if line[1] is not _BLANK], 0
        blank = len(lines) - len(rows)
        if known is not None:
            rows = foreign.join(rows, known)
    made = [(where, _case(row, where)) for where, row in rows]
    if not made:
        raise UserError(f"{path} holds no case; write one JSON object a line")
    _unique(made)
    if known is not None:
        foreign.check_complete({row["id"] for _, row in made}, known, path)
    return Predictions(path, [row for _, row in made], blank, repeated)


def _references(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    data = content(path)
    if path.suffix == ".json" or data.lstrip()[:1] == b"[":
        return foreign.references(value(data, str(path)), path)
    rows = [(where, row) for where, row in _lines(data, path) if row is not _BLANK]
    return foreign.by_id(rows, path)


def content(path: pathlib.Path) -> bytes:
    """The bytes of a file without a byte order mark. Raises UserError where there is none."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.glob("*.json*")])
        raise UserError(f"there is no file '{path}'{near}") from None
    except IsADirectoryError:
        raise UserError(f"'{path}' is a folder; name the file in it: {path}/FILE.jsonl") from None


def _lines(data: bytes, path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """(FILE:LINE, value) of every line; _BLANK for a blank one."""
    lines = data.split(b"\n")
    if not lines[-1].strip():
        lines.pop()  # what ends the last line begins no other
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        yield where, value(line, where) if line.strip() else _BLANK


def value(data: bytes, where: str) -> Any:
    """The JSON value of some text. Raises UserError that begins with `where`."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_Constant)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not UTF-8 (byte {error.start}); save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        way = "; one JSON object a line, or name a file of one JSON value .json"
        raise UserError(f"{where} is no JSON ({error.msg}, character {error.colno}){way}") from None
    except _Twice as error:
        raise UserError(f"{where} {error}; keep one of them") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deep; a case is one flat object") from None


class _Twice(Exception):
    pass


class _Constant(str):
    """NaN and its like, which Python writes, until the field that holds it is known."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"has '{next(n for n in names if names.count(n) > 1)}' twice in one object")
    return made


def _case(row: Any, where: str) -> dict[str, Any]:
    """The row with its id, prediction and reference as text."""
    if not isinstance(row, dict):
        raise UserError(f"{where} is no JSON object but {_kind(row)}; write {{...}} a line")
    for name, held in row.items():
        _check_value(name, held, where)
    for name in NEEDED:
        if name not in row:
            have = ", ".join(list(row)[:8]) or "nothing"
            raise UserError(f"{where} has no '{name}' (it has {have}); add it or rename its field")
    answer = _text(row["prediction"], "prediction", where, 'an empty answer is ""')
    case_id = _text(row["id"], "id", where, "give each case a name")
    if not case_id.strip():
        raise UserError(f"{where}: 'id' is empty; give each case a name")
    cut = row.get("cut", False)
    if cut is not None and not isinstance(cut, bool):
        raise UserError(f"{where}: 'cut' is {_kind(cut)}; write true or false")
    return {**row, "id": case_id, "prediction": answer, "reference": _reference(row, where)}


def _reference(row: dict[str, Any], where: str) -> str | list[str]:
    way = "write a text or a list of texts"
    held = row["reference"]
    if not isinstance(held, list):
        return _text(held, "reference", where, way)
    if not held:
        raise UserError(f"{where}: 'reference' is an empty list; {way}")
    return [_text(text, "reference", where, way) for text in held]


def _text(held: Any, name: str, where: str, way: str) -> str:
    if isinstance(held, int) and not isinstance(held, bool):
        return str(held)  # PeFoMed's lists hold numbers as numbers
    if not isinstance(held, str):
        raise UserError(f"{where}: '{name}' is {_kind(held)}, no text; {way}")
    return held


def _check_value(name: str, held: Any, where: str) -> None:
    """Raises UserError for what JSON cannot hold, anywhere inside a field."""
    if isinstance(held, dict | list):
        for inner in held.values() if isinstance(held, dict) else held:
            _check_value(name, inner, where)
    elif isinstance(held, _Constant) or (isinstance(held, float) and not math.isfinite(held)):
        raise UserError(f"{where}: '{name}' holds {held}, which is no JSON; write text or null")
    elif isinstance(held, str) and not held.isascii():
        try:
            held.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(
                f"{where}: '{name}' holds half of a surrogate pair; write the whole character"
            ) from None


def _kind(held: Any) -> str:
    if held is None:
        return "null"
    names = {bool: "true or false", dict: "an object", list: "a list", float: "a fraction"}
    return names.get(type(held), "a number" if isinstance(held, int) else "a text")


def _unique(rows: list[tuple[str, dict[str, Any]]]) -> None:
    first: dict[str, str] = {}
    for where, row in rows:
        if (earlier := first.setdefault(row["id"], where)) != where:
            raise UserError(f"{where}: id '{row['id']}' is that of {earlier}; keep one of the two")


def _without_repeated(rows: list[foreign.Place]) -> tuple[list[foreign.Place], int]:
    """Rows that are there twice to the letter once: samplers pad the last batch with them."""
    kept: dict[str, foreign.Place] = {}
    for where, row in rows:
        kept.setdefault(json.dumps(row, sort_keys=True, default=str), (where, row))
    return list(kept.values()), len(rows) - len(kept)
