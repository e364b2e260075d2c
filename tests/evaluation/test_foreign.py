"""PeFoMed's own lists of answers and annotations."""

import json

import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import inputs

ANSWERS = [{"qid": 7, "answer": "left lung"}, {"qid": 8, "answer": 3}]
ANNOTATED = [
    {"qid": 7, "image_name": "a.jpg", "question": "Where?", "answer": "Left lung"},
    {"qid": "8", "image_name": "b.jpg", "question": "How many?", "answer": "two"},
]


def write(folder, name, value):
    path = folder / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_answers_and_annotations(tmp_path):
    found = inputs.read(
        write(tmp_path, "p.json", ANSWERS), write(tmp_path, "r.json", ANNOTATED)
    ).rows
    first = {"id": "7", "prediction": "left lung", "reference": "Left lung"}
    assert found[0].items() >= (first | {"prompt": "Where?", "image": "a.jpg"}).items()
    assert (found[1]["prediction"], found[1]["reference"]) == ("3", "two")


def test_a_list_by_any_name_is_one(tmp_path):
    annotations = write(tmp_path, "r.json", ANNOTATED)
    assert len(inputs.read(write(tmp_path, "p.txt", ANSWERS), annotations).rows) == 2


def test_answers_need_annotations(tmp_path):
    with pytest.raises(UserError, match=r"p.json\[0\] has no reference; add the annotations"):
        inputs.read(write(tmp_path, "p.json", ANSWERS))


def test_files_for_its_judge(tmp_path):
    judged = {
        "7": {
            "question": "Is it?",
            "ground_truth": "yes",
            "generated_answer": "no",
            "answer_type": "CLOSED",
            "question_type": "PRES",
        }
    }
    (row,) = inputs.read(write(tmp_path, "p.json", judged)).rows
    wanted = {"id": "7", "prediction": "no", "reference": "yes", "prompt": "Is it?"}
    assert row.items() >= (wanted | {"answer_type": "CLOSED", "question_type": "PRES"}).items()


def test_reports(tmp_path):
    reports = [{"image_path": "x/a.png", "ground_truth": "Clear.", "generated_report": "Clear"}]
    (row,) = inputs.read(write(tmp_path, "p.json", reports)).rows
    wanted = {"id": "x/a.png", "image": "x/a.png", "prediction": "Clear", "reference": "Clear."}
    assert row.items() >= wanted.items()


@pytest.mark.parametrize(
    "annotations",
    [
        {"a.jpg": ["Clear lungs."], "b.jpg": ["No effusion."]},
        [{"image_path": "a.jpg", "report": "Clear lungs."}, {"image": "b.jpg", "caption": "x"}],
    ],
)
def test_annotations_of_reports(tmp_path, annotations):
    answers = [{"image_id": "a.jpg", "caption": "clear"}, {"image_id": "b.jpg", "caption": "no"}]
    found = inputs.read(
        write(tmp_path, "p.json", answers), write(tmp_path, "r.json", annotations)
    ).rows
    assert [row["prediction"] for row in found] == ["clear", "no"]
    assert found[0]["reference"] == "Clear lungs."


def test_lines_with_annotations(tmp_path):
    lines = tmp_path / "p.jsonl"
    lines.write_text("".join(json.dumps({"id": i, "prediction": "x"}) + "\n" for i in (7, 8)))
    annotations = write(tmp_path, "r.json", ANNOTATED)
    assert [row["reference"] for row in inputs.read(lines, annotations).rows] == [
        "Left lung",
        "two",
    ]


def test_padding_of_the_last_batch_counts_once(tmp_path):
    found = inputs.read(
        write(tmp_path, "p.json", [*ANSWERS, ANSWERS[0]]), write(tmp_path, "r.json", ANNOTATED)
    )
    assert (len(found.rows), found.n_repeated) == (2, 1)
    other = [*ANSWERS, {"qid": 7, "answer": "right lung"}]
    with pytest.raises(UserError, match=r"id '7' is that of"):
        inputs.read(write(tmp_path, "p.json", other), tmp_path / "r.json")


@pytest.mark.parametrize(
    ("answers", "annotations", "said"),
    [
        (ANSWERS[:1], ANNOTATED, r"has no prediction for 1 of 2 annotated cases \(8\)"),
        ([*ANSWERS, {"qid": 9, "answer": "x"}], ANNOTATED, r"p.json\[2\]: id '9' is not among"),
        (ANSWERS, [{"qid": 7}], r"r.json\[0\] has no id \(qid\) or no reference"),
        (ANSWERS, [{"answer": "x"}], r"r.json\[0\] has no id \(qid\) or no reference"),
        (ANSWERS, [*ANNOTATED, {"qid": 7, "answer": "x"}], r"\[2\]: id '7' is there twice"),
        (ANSWERS, [], r"r.json holds no case"),
        (ANSWERS, 3, r"r.json is neither a list nor an object"),
        ("x", ANNOTATED, r"p.json is neither a list nor an object"),
        ([{"qid": 7}], ANNOTATED, r"p.json\[0\] has no 'prediction'"),
        ([3], ANNOTATED, r"p.json\[0\] is no JSON object but a number"),
    ],
)
def test_what_does_not_fit(tmp_path, answers, annotations, said):
    with pytest.raises(UserError, match=said):
        inputs.read(write(tmp_path, "p.json", answers), write(tmp_path, "r.json", annotations))
