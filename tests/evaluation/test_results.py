"""Scores under their fixed names, the files, and the table with its control."""

import itertools
import json

import pytest
from ml_collections import ConfigDict

from pefomed_jax import validate
from pefomed_jax.evaluation import protocols, results, writing
from pefomed_jax.evaluation.results import Settings

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
    scores = {"exact_match": 1.0, "exact_match_closed": 1.0, "token_f1": 1.0}
    assert results.score(rows, "vqa") == scores
    assert results.score(rows, "vqa", "llava_med") == scores | {"closed_accuracy": 1.0}
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
    writing.write_predictions(tmp_path / "p.jsonl", rows)
    lines = (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    answered = {"test": rows, "test_shuffled": None}
    written = writing.write_results(tmp_path / "results.json", answered, "vqa")
    assert json.loads((tmp_path / "results.json").read_text()) == written
    assert written.keys() == KEYS
    zeros = dict.fromkeys(["exact_match", "exact_match_open", "token_f1", "open_recall"], 0.0)
    assert written["test"] == zeros
    assert written["test_shuffled"] is None
    assert written["counts"] == {
        "test": {"n_cases": 2, "n_empty": 1, "n_cut": 0},
        "test_shuffled": None,
    }
    assert {path.name for path in tmp_path.iterdir()} >= {"p.jsonl", "results.json", "cases.jsonl"}
    assert not list(tmp_path.glob("*.part"))


KEYS = {
    *("protocol", "task", "split", "test", "test_shuffled", "counts", "intervals", "skipped"),
    *("groups", "signature", "warnings", "comparison"),
}


def vqa_rows(answers, **fields):
    """Cases c0, c1, ... of the reference 'yes'."""
    made = [row(answer, "yes", **fields) for answer in answers]
    return [{**r, "id": f"c{i}"} for i, r in enumerate(made)]


def evaluate(rows, shuffled=None, protocol="pefomed", **settings):
    answered = {"test": rows, "test_shuffled": shuffled}
    return results.evaluate(answered, protocols.get(protocol), Settings(resamples=200, **settings))


def test_everything_is_in_the_results():
    rows = vqa_rows(["yes"] * 45 + ["no"] * 15, answer_type="CLOSED")
    made = evaluate(rows, vqa_rows(["no"] * 60, answer_type="CLOSED"), split="test").results
    assert made.keys() == KEYS
    assert (made["protocol"], made["task"], made["split"]) == ("pefomed", "vqa", "test")
    assert made["test"]["exact_match"] == 0.75
    low, high = made["intervals"]["test"]["exact_match"]
    # the normal approximation: 0.75 ± 1.96·sqrt(0.75·0.25/60) = 0.64 .. 0.86
    assert low == pytest.approx(0.640, abs=0.03)
    assert high == pytest.approx(0.860, abs=0.03)
    assert made["intervals"]["test_shuffled"]["exact_match"] == [0.0, 0.0]
    assert made["skipped"].keys() == {"open_recall"}
    assert made["groups"] == {}
    parts = dict(part.split(":", 1) for part in made["signature"].split("|"))
    assert parts.items() >= {
        ("protocol", "pefomed"),
        ("split", "test"),
        ("cases", "60"),
        ("empty", "0"),
        ("resamples", "200"),
        ("seed", "0"),
    }
    assert made["warnings"] == []
    json.dumps(made, allow_nan=False)


def test_a_control_that_is_as_good_is_said():
    rows = vqa_rows(["yes", "no"] * 30)
    (said,) = evaluate(rows, rows).results["warnings"]
    assert said.startswith("images shuffled: exact_match is 0.500, of the test 0.500")
    other = vqa_rows(["no"] * 60)
    assert evaluate(rows, other).results["warnings"] == []


def test_cases_are_flat_and_in_order():
    rows = vqa_rows(["yes", "no"], answer_type="CLOSED", match="mine", organ=None)
    made = evaluate(rows).cases
    assert [list(case)[:2] for case in made] == [["id", "match"]] * 2
    assert [(case["id"], case["match"], case["exact_match"]) for case in made] == [
        ("c0", True, 1.0),
        ("c1", False, 0.0),
    ]
    assert made[0]["organ"] is None
    assert not [name for name in made[0] if name.startswith("exact_match_")]
    text = [row("Clear lungs.", ["No.", "clear lungs"]), row("Clear lungs.", "no")]
    assert [case["match"] for case in evaluate(text, protocol="coco", slow=False).cases] == [
        True,
        False,
    ]


def test_what_takes_long_waits():
    rows = [row("a b", "a b")] * 2
    slow = protocols.get("coco").slow
    made = evaluate(rows, protocol="coco", slow=False).results
    assert made["skipped"] == dict.fromkeys(slow, results.LATER)


def test_no_cases():
    made = evaluate([], []).results
    assert made["test"] == {}
    assert made["warnings"] == []
    assert "cases:0" in made["signature"]
