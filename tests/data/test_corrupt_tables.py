"""Damaged tables of every data set, and lists that are no readable files."""

import gzip
import os
import pathlib

import pytest

from pefomed_jax.data import sources
from pefomed_jax.errors import UserError

from .lists import FORMS, SPARE, TABLES, N
from .loaded import AT, config_of, load, one_is_bad, refused, rows_with

HEADED = [name for name, form in TABLES.items() if form.header]
PACKED = [name for name, form in TABLES.items() if form.file.endswith("gz")]


@pytest.mark.parametrize("damage", ["byte", "extra", "fewer", "blank"])
@pytest.mark.parametrize("name", TABLES)
def test_damaged_rows(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form = TABLES[name]
    row = form.row(SPARE)
    if damage == "blank":
        row[form.text] = "  "
    if damage == "fewer":
        row.popitem()
    raw = form.cells(row) + (form.mark + "more").encode() * (damage == "extra")
    raw = raw.replace(b"5", b"\xff", 1) if damage == "byte" else raw
    form.write(tmp_path, rows_with(form, raw))
    bad = one_is_bad(form, tmp_path)
    said = {"byte": "not UTF-8", "extra": "cells where there are", "fewer": "cells where there are"}
    assert said.get(damage, "") in bad.problem
    assert bad.field.lower() in map(str.lower, form.row(0))


@pytest.mark.parametrize("name", [name for name, form in TABLES.items() if form.text != "split"])
def test_texts_with_zero_bytes_are_texts(name: str, tmp_path: pathlib.Path) -> None:
    form = TABLES[name]
    form.write(tmp_path, rows_with(form, form.row(SPARE) | {form.text: "a\0b"}))
    cases, bad = load(form, tmp_path)
    assert bad == []
    assert cases[AT].answer == "a\0b"


@pytest.mark.parametrize("name", TABLES)
def test_quotes_that_never_close(name: str, tmp_path: pathlib.Path) -> None:
    """They swallow what follows, which is one bad row that says from where to where."""
    form = TABLES[name]
    row = form.row(SPARE)
    last = [*row][-1]
    form.write(tmp_path, rows_with(form, row | {last: f'"{row[last]}'}))
    cases, bad = load(form, tmp_path)
    if not form.quotes:
        assert (len(cases), bad) == (N + 1, [])
        return
    (only,) = bad
    assert len(cases) == AT
    assert only.row == AT + 1
    assert f"quotes do not match in lines {AT + 2} to {N + 2}" in only.problem


def test_headers_name_their_columns_once(tmp_path: pathlib.Path) -> None:
    for name in HEADED:
        form = TABLES[name]
        head, _, rest = form.raw([form.row(i) for i in range(N)]).partition(b"\n")
        mark = form.mark.encode()
        doubled = b"\n".join(
            line + mark + (form.text.encode() if not i else b"x")
            for i, line in enumerate([head, *rest.splitlines()])
        )
        path = form.write(tmp_path / name, doubled + b"\n")
        said = refused(form, tmp_path / name)
        assert f"{path} has two columns '{form.text}'" in said


@pytest.mark.parametrize("damage", ["renamed", "quote", "byte", "blank", "none", "UTF-16"])
@pytest.mark.parametrize("name", HEADED)
def test_damaged_headers(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form = TABLES[name]
    head, _, rest = form.raw([form.row(i) for i in range(N)]).partition(b"\n")
    made = {
        "renamed": head.replace(form.text.encode(), b"other") + b"\n" + rest,
        "quote": head.replace(form.text.encode(), b'"' + form.text.encode()) + b"\n" + rest,
        "byte": head.replace(form.text.encode(), b"\xe9") + b"\n" + rest,
        "blank": b"\n" + rest,
        "none": b"",
        "UTF-16": (head + b"\n" + rest).decode().encode("utf-16"),
    }[damage]
    path = form.write(tmp_path, made)
    assert str(path) in refused(form, tmp_path)


@pytest.mark.parametrize("name", ["roco 1", "vqa_med"])
def test_lists_without_a_header_in_another_encoding(name: str, tmp_path: pathlib.Path) -> None:
    form = TABLES[name]
    raw = form.raw([form.row(i) for i in range(N)])
    path = form.write(tmp_path / "utf16", raw.decode().encode("utf-16"))
    assert f"{path} is UTF-16" in refused(form, tmp_path / "utf16")
    form.write(tmp_path / "latin", raw.replace(b"1", b"\xe9"))
    cases, bad = load(form, tmp_path / "latin")
    assert (len(cases), [row.row for row in bad]) == (N - 1, [2])


@pytest.mark.parametrize("name", ["folder csv", "folder gz", "clef", "roco 2"])
def test_semicolons_part_cells_too(name: str, tmp_path: pathlib.Path) -> None:
    form = TABLES[name]._replace(mark=";")
    form.write(tmp_path, form.raw([form.row(i) for i in range(N)]))
    cases, bad = load(form, tmp_path)
    assert (len(cases), bad) == (N, [])


def test_semicolons_in_a_table_of_mimic_cxr(tmp_path: pathlib.Path) -> None:
    form = TABLES["mimic"]._replace(mark=";")
    path = form.write(tmp_path, form.raw([form.row(i) for i in range(N)]))
    assert f"{path}: no column 'dicom_id'" in refused(form, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "garbled", "plain"])
@pytest.mark.parametrize("name", PACKED)
def test_damaged_packed_tables(name: str, damage: str, tmp_path: pathlib.Path) -> None:
    form = TABLES[name]
    raw = form.raw([form.row(i) for i in range(N)])
    path = form.write(tmp_path, raw)
    packed = bytearray(gzip.compress(raw))
    packed[20:40] = bytes(20)
    made = {"cut": gzip.compress(raw)[:-12], "garbled": bytes(packed), "plain": raw}[damage]
    path.write_bytes(made)
    said = refused(form, tmp_path)
    assert f"{path} cannot be read" in said
    assert "fetch it again" in said


@pytest.mark.parametrize("name", FORMS)
def test_a_folder_in_the_place_of_a_list(name: str, tmp_path: pathlib.Path) -> None:
    form = FORMS[name]
    path = form.write(tmp_path, b"")
    path.unlink()
    path.mkdir()
    assert str(tmp_path) in refused(form, tmp_path)


@pytest.mark.parametrize("name", FORMS)
def test_a_list_that_may_not_be_read(name: str, tmp_path: pathlib.Path) -> None:
    form = FORMS[name]
    path = form.write(tmp_path, form.raw([form.row(i) for i in range(N)]))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    said = refused(form, tmp_path)
    assert f"{path} cannot be read" in said


LATIN, ZERO = b"fig_0,caf\xe9\n", b"\0" * 300
BESIDE = {  # lists that rows are looked up in
    "roco 1": ("data/train/radiology/dlinks.txt", "data/train/radiology/cuis.txt"),
    "roco 2": ("train_concepts.csv",),
    "clef": ("train_concepts.csv",),
    "mimic": ("mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-chexpert.csv.gz"),
    "mediqa": ("df_userinfo.csv",),
    "vqa_med": ("C1_Modality_train.txt", "All_QA_Pairs_val.txt"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "made", [b"", LATIN, ZERO, b'"', b"\n", bytes(range(256)), b"fig_0\tC\xff"]
)
@pytest.mark.parametrize("name", BESIDE)
def test_damaged_lists_beside_it(
    name: str, made: bytes, packed: bool, tmp_path: pathlib.Path
) -> None:
    """One line names the list, or the rows are there, as cases or not."""
    form = FORMS[name]
    for number, file in enumerate(BESIDE[name]):
        root = tmp_path / str(number)
        form.write(root, form.raw([form.row(i) for i in range(N)]))
        (root / file).write_bytes(gzip.compress(made)[:-4] if packed else made)
        try:
            source = sources.load(config_of(form, root))
        except UserError as error:
            said = str(error)
            assert str(root / file) in said
            continue
        listed = [*source.where.values(), *((row.file, row.row) for row in source.bad_rows)]
        assert sorted(row for path, row in listed if path == form.file) == [*range(1, N + 1)]


def test_reports_by_image_that_come_twice(tmp_path: pathlib.Path) -> None:
    """An object has a key once; Python would take the last report and lose the first."""
    form = FORMS["folder json"]
    twice = b'{"images/0.png": ["a"], "images/1.png": ["b"], "images/0.png": ["c"]}'
    for source in ("pefomed", "folder"):
        path = form.write(tmp_path / source, twice)
        said = refused(form._replace(source=source), tmp_path / source)
        assert f"{path}: key 'images/0.png' stands twice in the object; delete one" in said
