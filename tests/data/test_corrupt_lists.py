"""Damaged lists of JSON of every data set: a case, a bad row, or one line that names the file."""

import json
import pathlib
from typing import Any

import pytest

from .lists import FORMS, LINES, OBJECTS, SPARE, N
from .loaded import load, one_is_bad, refused, rows_with

OBJECT_FORMS = OBJECTS | LINES


@pytest.mark.parametrize("name", FORMS)
def test_a_whole_list_is_read(name: str, tmp_path: pathlib.Path) -> None:
    form = FORMS[name]
    form.write(tmp_path, form.raw([form.row(i) for i in range(N + 1)]))
    cases, bad = load(form, tmp_path)
    assert (len(cases), bad) == (N + 1, [])


HALF, BYTE = "bad \ud800 x", "a\udcff"  # half of a pair, and a bad byte as Python escapes it
VALUES = {
    "half a pair": HALF, "null": None, "an object": {"a": "b"}, "a list": [["a"]], "true": True,
}  # fmt: skip
TEXTS = VALUES | {"blank": " \n", "NaN": float("nan")}
NAMES = VALUES | {
    "blank": " ", "escaped byte": BYTE, "long": "word " * 50_000, "NUL": "a\0.png", "dot": ".",
    "dots": "..", "up": "../../../none.png", "lines": "a\nb.png", "bidi": "a\u202egnp.exe",
}  # fmt: skip


@pytest.mark.parametrize("damage", TEXTS)
@pytest.mark.parametrize("name", OBJECT_FORMS)
def test_damaged_texts_of_json(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form = OBJECT_FORMS[name]
    row = form.row(SPARE) | {form.text: TEXTS[damage]}
    form.write(tmp_path, rows_with(form, row))
    assert one_is_bad(form, tmp_path).field in row


@pytest.mark.parametrize("damage", NAMES)
@pytest.mark.parametrize("name", [name for name, form in OBJECT_FORMS.items() if form.image])
def test_damaged_names_of_images(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form, value = OBJECT_FORMS[name], NAMES[damage]
    row = form.row(SPARE) | {form.image: [value] if form.several else value}
    form.write(tmp_path, rows_with(form, row))
    assert one_is_bad(form, tmp_path).field == form.image


@pytest.mark.parametrize("damage", VALUES)
@pytest.mark.parametrize("name", OBJECT_FORMS)
def test_damaged_ids(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form = OBJECT_FORMS[name]
    form.write(tmp_path, rows_with(form, form.row(SPARE) | {form.id: VALUES[damage]}))
    assert one_is_bad(form, tmp_path).field == form.id


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.id])
def test_ids_that_come_again(name: str, tmp_path: pathlib.Path) -> None:
    """The second of them is bad."""
    form = FORMS[name]
    form.write(tmp_path, rows_with(form, form.row(0)))
    bad = one_is_bad(form, tmp_path)
    assert "row 1" in bad.problem or "already" in bad.problem


@pytest.mark.parametrize("damage", ["missing", "twice"])
@pytest.mark.parametrize("name", OBJECT_FORMS)
def test_damaged_keys(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form = OBJECT_FORMS[name]
    row: Any = form.row(SPARE)
    if damage == "twice":
        row = f'{{"{form.text}": "other", {json.dumps(row)[1:]}'.encode()
    else:
        del row[form.text]
    form.write(tmp_path, rows_with(form, row))
    bad = one_is_bad(form, tmp_path)
    assert bad.field in form.row(0)
    assert ("twice" in bad.problem) == (damage == "twice")


@pytest.mark.parametrize("row", [[1], None, 3, "text", {}, [], True], ids=repr)
@pytest.mark.parametrize("name", OBJECT_FORMS)
def test_rows_that_are_no_objects(name: str, row: Any, tmp_path: pathlib.Path) -> None:
    form = OBJECT_FORMS[name]
    form.write(tmp_path, rows_with(form, row))
    one_is_bad(form, tmp_path)


@pytest.mark.parametrize("name", ["pefomed", "slake", "folder json", "folder jsonl", "mediqa"])
def test_odd_columns_of_a_row(name: str, tmp_path: pathlib.Path) -> None:
    """What is kept beside texts has to be written later as well, whatever it holds."""
    form = FORMS[name]
    column = {"mediqa": "responses", "folder json": "age", "folder jsonl": "age"}.get(
        name, "answer_type"
    )
    row = form.row(SPARE) | {column: HALF}
    if name == "mediqa":
        row = form.row(SPARE)
        row["responses"] = [*row["responses"], row["responses"][0] | {"author_id": HALF}]
    form.write(tmp_path, rows_with(form, row))
    bad = one_is_bad(form, tmp_path)
    assert (bad.field, bad.problem) == (column, "is not UTF-8 text")


DEEP, LONG = b"[" * 200_000, b'{"a": ' + b"1" * 5000 + b"}"
WHOLE = {  # what becomes of the bytes of a JSON file, and what is said of them
    "deep": (lambda raw: DEEP, "within one another"),
    "digits": (lambda raw: b"[" + LONG + b"]", "thousands of digits"),
    "latin": (lambda raw: raw.replace(b"a 1", b"\xe9").replace(b"ear 1", b"\xe9")
              .replace(b"es 1", b"\xe9"), "not UTF-8 at byte"),
    "cut": (lambda raw: raw[:-20], "line "),
    "empty": (lambda raw: b"", "line 1: not JSON"),
    "blank": (lambda raw: b"\0" * 300, "line 1: not JSON"),
    "UTF-16": (lambda raw: raw.decode().encode("utf-16"), "UTF-"),
    "another": (lambda raw: b"3", ""),
    "null": (lambda raw: b"null", ""),
    "twice": (lambda raw: b'{"train": [], "train": []}', "key 'train' stands twice"),
}  # fmt: skip


@pytest.mark.parametrize("damage", WHOLE)
@pytest.mark.parametrize("name", OBJECTS)
def test_damaged_files_of_json(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form, (spoil, message) = FORMS[name], WHOLE[damage]
    raw = form.raw([form.row(i) for i in range(N)])
    assert spoil(raw) != raw
    path = form.write(tmp_path, spoil(raw))
    said = refused(form, tmp_path)
    assert str(path) in said
    assert message in said


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize(
    "line", [DEEP, LONG, b'{"id": "caf\xe9"}', b"\0\0", b"{", b"nul", b'"\\ud800'],
    ids=["deep", "digits", "latin", "NUL", "open", "word", "quote"],
)  # fmt: skip
def test_damaged_lines(name: str, line: bytes, tmp_path: pathlib.Path) -> None:
    form = FORMS[name]
    form.write(tmp_path, rows_with(form, line))
    assert one_is_bad(form, tmp_path).field == "line"


SAME = {
    "BOM": lambda raw: b"\xef\xbb\xbf" + raw,
    "CRLF": lambda raw: raw.replace(b"\n", b"\r\n"),
    "CR": lambda raw: raw.replace(b"\n", b"\r"),
    "all": lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n\r\n"),
    "no end": lambda raw: raw.rstrip(b"\n"),
}


@pytest.mark.parametrize("damage", SAME)
@pytest.mark.parametrize("name", FORMS)
def test_ends_of_lines_and_marks_change_nothing(
    name: str, damage: str, tmp_path: pathlib.Path
) -> None:
    form = FORMS[name]
    raw = form.raw([form.row(i) for i in range(N)])
    form.write(tmp_path / "as it was", raw)
    form.write(tmp_path / "damaged", SAME[damage](raw))
    cases, bad = load(form, tmp_path / "damaged")
    assert (cases, bad) == load(form, tmp_path / "as it was")
    assert len(cases) == N
