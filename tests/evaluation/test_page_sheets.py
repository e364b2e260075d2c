"""scores.csv and cases.csv: complete, and harmless in a spreadsheet."""

import csv
import io

import pages
import pytest

from pefomed_jax.evaluation.page import sheets


def read(text):
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text[1:])))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-no finding", "'-no finding"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("a=1", "a=1"),
        ("", ""),
        (None, ""),
        (True, "true"),
        (-0.25, "-0.25"),
        (1 / 3, repr(1 / 3)),
        (7, "7"),
        (["a", "ü"], '["a", "ü"]'),
        ("a\0b", "a\ufffdb"),
    ],
)
def test_cells(value, cell):
    assert sheets.cell(value) == cell


def test_long_cells_are_cut():
    cell = sheets.cell("x" * 10_000_000)
    assert len(cell) < 32_767
    assert cell.endswith(" … [10000000 characters]")


def test_cases_have_one_row_each():
    rows = pages.vqa_cases()
    rows[5] |= {"prediction": "=cmd|' /C calc'!A0", "note": 'a,"b"\nc'}
    rows[6] |= {"reference": ["yes", "yeah"], "=evil": 1}
    made = pages.evaluate(rows)
    text = sheets.cases(made.cases)
    found = read(text)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert list(found[0])[:5] == ["id", "match", "exact_match", "token_f1", "open_recall"]
    assert found[5]["prediction"] == "'=cmd|' /C calc'!A0"
    assert found[5]["note"] == 'a,"b"\nc'
    assert found[6]["reference"] == '["yes", "yeah"]'
    assert found[1]["prediction"] == pages.HOSTILE
    assert "'=evil" in found[0]
    assert not [c for row in found for c in row.values() if c.startswith(("=", "+", "@"))]
    for row, case in zip(found, made.cases, strict=True):
        assert row["match"] == str(case["match"]).lower()
        assert float(row["token_f1"]) == case["token_f1"]
        assert row["open_recall"] == ("" if case["open_recall"] is None else row["open_recall"])


def test_every_score_is_in_the_long_table():
    rows = pages.vqa_cases()
    others = [{**row, "prediction": "no", "image": "x"} for row in rows]
    made = pages.compared(rows, others).results
    made["skipped"] = {"meteor": "no Java"}
    found = read(sheets.scores(made))
    assert list(found[0]) == list(sheets.SCORES)
    assert {(row["protocol"], row["split"]) for row in found} == {("pefomed", "test")}
    at = {(r["part"], r["field"], r["group"], r["score"]): r for r in found}
    assert len(at) == len(found)
    for part in ("test", "test_shuffled"):
        for name, value in made[part].items():
            row = at[part, "", "", name]
            low, high = made["intervals"][part][name]
            assert (float(row["value"]), row["n_cases"]) == (value, "120")
            assert (float(row["low"]), float(row["high"])) == (low, high)
        assert at[part, "", "", "n_empty"]["value"] == str(made["counts"][part]["n_empty"])
    for field, table in made["groups"].items():
        for group, values in table.items():
            row = at["test", field, group, "token_f1"]
            assert float(row["value"]) == values["token_f1"]
            assert row["n_cases"] == str(values["n_cases"])
    difference = at["difference", "", "", "exact_match"]
    assert float(difference["p"]) == made["comparison"]["scores"]["exact_match"]["p"]
    assert at["test", "", "", "meteor"]["note"] == "skipped: no Java"
    assert at["test", "", "", "meteor"]["value"] == ""


def test_without_cases():
    made = pages.evaluate([], split=None)
    assert sheets.cases(made.cases) == "\ufeff\n"
    assert {row["score"] for row in read(sheets.scores(made.results))} == {
        *("n_cases", "n_empty", "n_cut")
    }
