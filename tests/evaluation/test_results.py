"""Scores under their fixed names, the files, and the table with its control."""

import itertools
import json

import pytest
from ml_collections import ConfigDict

from pefomed_jax import validate
from pefomed_jax.evaluation import results

TEXT = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}


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
    assert set(results.score([plain, plain], "caption")) == TEXT
    both = results.score([report, plain], "mrg")
    assert set(both) == TEXT | {"finding_f1"}
    assert both["finding_f1"] == 1.0
    counts = results.count([report, plain], "mrg")
    assert counts == {"n_cases": 2, "n_empty": 1, "n_cut": 0, "n_unparsed": 0}
    rows = [row("Yes", "yes", answer_type="CLOSED", findings=[], cut=True)]
    assert results.score(rows, "vqa") == {"exact_match": 1.0, "exact_match_closed": 1.0}
    assert results.count(rows, "vqa") == {"n_cases": 1, "n_empty": 0, "n_cut": 1}


def test_scores_are_within_bounds():
    rows = [row("the heart is normal today", "the heart is normal today")] * 2
    rows += [row("a b c d e", "a b c d e")]
    ours = results.score(rows, "mrg")
    assert all(0 <= ours[name] <= 1 for name in TEXT - {"cider"})
    assert 1 < ours["cider"] <= 10


@pytest.mark.parametrize("task", ["vqa", "mrg", "caption"])
def test_no_cases_no_scores(task):
    assert results.score([], task) == {}
    assert results.count([], task) == {"n_cases": 0, "n_empty": 0, "n_cut": 0}


def test_what_selects_exists():
    rows = [row("a", "a", findings=["line"])]
    for task, source in itertools.product(("vqa", "mrg", "caption"), ("phantom", "x")):
        config = ConfigDict({"task": task, "data": {"source": source}, "train": {"select_by": ""}})
        fields = rows if source == "phantom" else [row("a", "a")]
        scored = results.score(fields, task)
        assert validate.select_by(config) in scored
        assert set(validate.scores(config)) == scored.keys() | {"val_loss"}


def test_table_shows_the_control_beside_every_score():
    counts = {"n_cases": 300, "n_unparsed": 0}
    test, shuffled = {"exact_match": 0.9, "cider": 1.25}, {"exact_match": 0.4126, "cider": 0.5}
    made = {"test": test, "test_shuffled": shuffled}
    text = results.table(made | {"counts": dict.fromkeys(made, counts)})
    lines = [line.split() for line in text.splitlines()[1:]]
    assert lines == [
        ["exact_match", "0.900", "0.413"],
        ["cider", "1.250", "0.500"],
        ["n_cases", "300", "300"],
        ["n_unparsed", "0", "0"],
    ]
    fitted = made | {"train": {"exact_match": 1.0}}
    fitted = results.table(fitted | {"counts": dict.fromkeys(fitted, counts)}).splitlines()
    assert fitted[0].split()[-1] == "train"
    assert [line.split()[-1] for line in fitted[1:]] == ["1.000", "-", "300", "0"]
    alone = {"test": {"cider": 1.0}, "test_shuffled": None}
    assert results.table(alone | {"counts": {"test": {}, "test_shuffled": None}}).split()[-1] == "-"


def test_files(tmp_path):
    rows = [row("naïve\nline", "b", answer_type="OPEN"), row("", "c")]
    results.write_predictions(tmp_path / "p.jsonl", rows)
    lines = (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    answered = {"test": rows, "test_shuffled": None}
    written = results.write_results(tmp_path / "r.json", answered, "vqa")
    assert json.loads((tmp_path / "r.json").read_text()) == written
    assert written == {
        "test": {"exact_match": 0.0, "exact_match_open": 0.0},
        "test_shuffled": None,
        "counts": {"test": {"n_cases": 2, "n_empty": 1, "n_cut": 0}, "test_shuffled": None},
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.jsonl", "r.json"]
