"""Scores under their fixed names, the files, and the table with its control."""

import json

import pytest

from pefomed_jax.evaluation import results

TEXT = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
COUNTS = {"n_cases", "n_empty"}


def row(prediction, reference, **fields):
    return {
        "id": "x",
        "image": "i",
        "prompt": "p",
        "reference": reference,
        "prediction": prediction,
        **fields,
    }


def test_names_by_task():
    report = row("A left effusion.", "There is a left effusion.", findings=["left effusion"])
    plain = row("", "clear lungs")
    assert set(results.score([plain, plain], "caption")) == TEXT | COUNTS
    both = results.score([report, plain], "mrg")
    assert set(both) == TEXT | COUNTS | {"finding_f1", "n_unparsed"}
    assert both["finding_f1"] == 1.0
    assert both["n_empty"] == 1
    assert both["n_cases"] == 2
    vqa = results.score([row("Yes", "yes", answer_type="CLOSED", findings=[])], "vqa")
    assert vqa == {"exact_match": 1.0, "exact_match_closed": 1.0, "n_cases": 1, "n_empty": 0}


def test_scores_are_within_bounds():
    rows = [row("the heart is normal today", "the heart is normal today")] * 2
    rows += [row("a b c d e", "a b c d e")]
    ours = results.score(rows, "mrg")
    assert all(0 <= ours[name] <= 1 for name in TEXT - {"cider"})
    assert 1 < ours["cider"] <= 10


@pytest.mark.parametrize("task", ["vqa", "mrg", "caption"])
def test_no_cases_no_scores(task):
    assert results.score([], task) == {"n_cases": 0, "n_empty": 0}


def test_what_selects_exists():
    rows = [row("a", "a", findings=["line"])]
    for task, source in [("vqa", "phantom"), ("mrg", "phantom"), ("mrg", "x"), ("caption", "x")]:
        assert results.select_by(task, source) in results.score(rows, task)


def test_table_shows_the_control_beside_every_score():
    text = results.table(
        {"exact_match": 0.9, "cider": 1.25, "n_cases": 300},
        {"exact_match": 0.4126, "cider": 0.5, "n_cases": 300},
    )
    lines = [line.split() for line in text.splitlines()[1:]]
    assert lines == [
        ["exact_match", "0.900", "0.413"],
        ["cider", "1.250", "0.500"],
        ["n_cases", "300", "300"],
    ]
    assert results.table({"cider": 1.0}, None).split()[-1] == "-"


def test_files(tmp_path):
    rows = [row("naïve\nline", "b", answer_type="OPEN"), row("", "c")]
    results.write_predictions(tmp_path / "p.jsonl", rows)
    lines = (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    written = results.write_results(tmp_path / "r.json", {"cider": 1.0}, None)
    assert json.loads((tmp_path / "r.json").read_text()) == written
    assert written == {"test": {"cider": 1.0}, "test_shuffled": None}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.jsonl", "r.json"]
