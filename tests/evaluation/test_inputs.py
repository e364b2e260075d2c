"""Files of predictions: what is read, and one clear line for what is not a case."""

import json

import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import inputs

CASE = {"id": "a", "prediction": "Yes", "reference": "yes"}


def file(folder, data, name="p.jsonl"):
    path = folder / name
    if not isinstance(data, bytes):
        data = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in data).encode()
    path.write_bytes(data)
    return path


def test_rows_and_their_fields(tmp_path):
    rows = [
        {**CASE, "organ": "Lung", "cut": True, "scores": [1, 2.5]},
        {"id": 7, "prediction": "", "reference": ["ja", "Größe 😀"]},
        {"id": "c", "prediction": 3, "reference": 2},
    ]
    found = inputs.read(file(tmp_path, rows))
    assert found.rows[0] == rows[0]
    assert found.rows[1] == {"id": "7", "prediction": "", "reference": ["ja", "Größe 😀"]}
    assert (found.rows[2]["prediction"], found.rows[2]["reference"]) == ("3", "2")
    assert (found.n_blank, found.n_repeated) == (0, 0)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_byte_order_mark_and_windows_lines(tmp_path, end):
    lines = [json.dumps({**CASE, "id": i, "prediction": "é\r\n"}).encode() for i in "ab"]
    found = inputs.read(file(tmp_path, b"\xef\xbb\xbf" + b"\r\n".join(lines) + end))
    assert [row["id"] for row in found.rows] == ["a", "b"]
    assert found.rows[0]["prediction"] == "é\r\n"
    assert found.n_blank == 0


def test_blank_lines_are_counted(tmp_path):
    found = inputs.read(file(tmp_path, ["", CASE, "  ", {**CASE, "id": "b"}, ""]))
    assert (len(found.rows), found.n_blank) == (2, 2)


def test_line_separators_inside_texts_do_not_end_a_line(tmp_path):
    text = "a\u2028b\x85c"
    line = json.dumps({**CASE, "prediction": text}, ensure_ascii=False)
    assert inputs.read(file(tmp_path, [line])).rows[0]["prediction"] == text


def test_ten_megabytes_in_one_answer(tmp_path):
    text = "lung ü " * 1_300_000
    (row,) = inputs.read(file(tmp_path, [{**CASE, "prediction": text}])).rows
    assert row["prediction"] == text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"p.jsonl:2 is no JSON \(.*one JSON object a line"),
        ("[1]", r"p.jsonl:2 is no JSON object but a list"),
        ("3", r"p.jsonl:2 is no JSON object but a number"),
        ('"x"', r"p.jsonl:2 is no JSON object but a text"),
        ("null", r"p.jsonl:2 is no JSON object but null"),
        ('{"id": "b", "prediction": "x"}', r"p.jsonl:2 has no 'reference' \(it has id, prediction"),
        ('{"id": "b", "reference": "x"}', r"p.jsonl:2 has no 'prediction'"),
        ('{"prediction": "b", "reference": "x"}', r"p.jsonl:2 has no 'id'"),
        ("{}", r"p.jsonl:2 has no 'id' \(it has nothing\)"),
        ('{"id": "b", "prediction": null, "reference": "x"}', r"2: 'prediction' is null, no text"),
        ('{"id": "b", "prediction": true, "reference": "x"}', r"'prediction' is true or false"),
        ('{"id": "b", "prediction": 0.5, "reference": "x"}', r"'prediction' is a fraction"),
        ('{"id": "b", "prediction": ["y"], "reference": "x"}', r"'prediction' is a list, no text"),
        ('{"id": "b", "prediction": {}, "reference": "x"}', r"'prediction' is an object"),
        ('{"id": "b", "prediction": "y", "reference": []}', r"2: 'reference' is an empty list"),
        ('{"id": "b", "prediction": "y", "reference": ["x", null]}', r"'reference' is null"),
        ('{"id": "b", "prediction": "y", "reference": NaN}', r"2: 'reference' holds NaN"),
        ('{"id": "b", "prediction": "y", "reference": "x", "p": [-Infinity]}', r"'p' holds -Inf"),
        ('{"id": "b", "prediction": "y", "reference": "x", "p": 1e999}', r"2: 'p' holds inf"),
        ('{"id": " ", "prediction": "y", "reference": "x"}', r"2: 'id' is empty; give each case"),
        ('{"id": null, "prediction": "y", "reference": "x"}', r"2: 'id' is null, no text"),
        ('{"id": "a", "prediction": "y", "reference": "x"}', r"2: id 'a' is that of .*p.jsonl:1"),
        ('{"id": "b", "id": "c", "prediction": "y", "reference": "x"}', r"2 has 'id' twice in one"),
        ('{"id": "b", "prediction": "\\ud800", "reference": "x"}', r"'prediction' holds half of a"),
        ('{"id": "b", "prediction": "y", "reference": "x", "cut": 1}', r"2: 'cut' is a number"),
        ("[" * 100_000, r"p.jsonl:2 is nested too deep"),
    ],
)
def test_what_is_no_case(tmp_path, line, said):
    with pytest.raises(UserError, match=said) as caught:
        inputs.read(file(tmp_path, [CASE, line]))
    assert "\n" not in str(caught.value)


def test_a_number_and_a_text_are_one_id(tmp_path):
    rows = [{**CASE, "id": 7}, {**CASE, "id": "7"}]
    with pytest.raises(UserError, match=r":2: id '7' is that of .*:1; keep one of the two"):
        inputs.read(file(tmp_path, rows))


def test_files_that_are_none(tmp_path):
    file(tmp_path, [CASE], "predictions.jsonl")
    with pytest.raises(UserError, match=r"there is no file '.*prediction.jsonl'.*predictions.json"):
        inputs.read(tmp_path / "prediction.jsonl")
    with pytest.raises(UserError, match=r"is a folder; name the file in it"):
        inputs.read(tmp_path)
    with pytest.raises(UserError, match=r"p.jsonl holds no case"):
        inputs.read(file(tmp_path, b""))
    with pytest.raises(UserError, match=r"p.jsonl holds no case"):
        inputs.read(file(tmp_path, b"\n \n"))
    with pytest.raises(UserError, match=r"p.jsonl:1 is not UTF-8 \(byte 1\)"):
        inputs.read(file(tmp_path, b'"\xe9"'))
    with pytest.raises(UserError, match=r"x.json holds no case"):
        inputs.read(file(tmp_path, b"[]", "x.json"))
