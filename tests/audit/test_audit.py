"""Every planted defect is found, once, and nothing else is."""

import json

import planted
import pytest

from pefomed_jax import base
from pefomed_jax.audit import command
from pefomed_jax.data import prepare, sources


def records(made, kind, *splits):
    every = [*made.shared, *made.within]
    return [it for it in every if it["kind"] == kind and list(it["splits"]) == list(splits)]


def test_cases_are_those_of_the_run(made, planted_set):
    counts = {split: row["cases"] for split, row in made.audit["splits"].items()}
    assert counts == planted.CASES
    config = made.found.config
    splits = prepare.prepare(sources.load(config), base.tokenizer(config), config)
    for name in counts:
        assert getattr(splits, name) == made.found.parts[name]
    assert made.audit["types"]["answer_type"]["CLOSED"] == {"train": 10, "val": 4, "test": 5}
    assert made.audit["splits"]["train"]["questions"] == 20 + 2  # 'flat?' and the hostile one


def test_every_bad_row_is_listed(made):
    found = {}
    for row in made.found.bad:
        found[row.field] = found.get(row.field, 0) + 1
    assert found == planted.BAD
    bad = made.audit["bad"]
    assert bad["rows"] == sum(planted.BAD.values()) == sum(bad["problems"].values())
    assert bad["total"] == sum(planted.CASES.values()) + bad["rows"]
    assert made.audit["pictures"]["images"] - made.audit["pictures"]["opened"] == 2


def test_shared_between_splits(made, planted_set):
    ids = planted_set[2]
    (same,) = records(made, "same file", "train", "test")
    assert same["images"] == [["images/t0.png"]] * 2
    (copy,) = records(made, "exact copy", "train", "test")
    assert copy["images"] == [["images/t1.png"], ["images/copy.png"]]
    near = records(made, "near-duplicate", "train", "test")
    assert {(*it["images"][0], *it["images"][1]) for it in near} == {
        ("images/t2.png", "images/small.jpg"),
        ("images/t3.png", "images/crop.png"),
        ("images/t4.png", "images/dark.png"),
    }
    (question,) = records(made, "question", "train", "test")
    assert question["cases"] == [["train-0"], ids["question"]]
    assert len(made.shared) == 6
    leak = made.audit["leakage"]
    assert leak["images"] == {"train/val": (0, 0), "train/test": (10, 6), "val/test": (0, 0)}
    assert leak["counts"]["train/test"]["question"] == (1, (1, 1))
    assert leak["questions"] == pytest.approx(2 / planted.CASES["test"])  # 'what is 0', 'flat?'


def test_twice_within_a_split(made, planted_set):
    ids = planted_set[2]
    (twice,) = records(made, "duplicate row", "train")
    assert twice["cases"] == [["train-10", *ids["twice"]]]
    (apart,) = records(made, "contradiction", "train")
    assert apart["cases"] == [["train-12"], ids["contradiction"]]
    assert len(made.within) == 2
    assert made.audit["within"]["val"] == {}
    assert made.audit["twins"] == {"near": 3, "plain": 2, "left": 0}


def test_answers_and_what_the_most_frequent_scores(made):
    train = made.found.parts["train"]
    closed = [case.answer for case in train if case.fields["answer_type"] == "CLOSED"]
    assert made.audit["top"][0] == {
        "answer": "yes",
        "cases": closed.count("yes"),
        "train": closed.count("yes") / len(train),
        "val": 3 / 8,
        "test": 3 / planted.CASES["test"],
    }
    closed = made.audit["majority"]["types"]["CLOSED"]
    assert (closed["answer"], closed["n"], closed["val"]) == ("yes", 5, 3 / 4)
    assert closed["test"] == 3 / 5
    assert made.audit["majority"]["by_type"]["val"] == 3 / 8  # no open answer comes again


def test_lengths_are_those_of_the_run(made):
    found, config = made.audit["lengths"], made.found.config
    n = planted.CASES["train"]
    assert (found["rows_per_epoch"], found["steps_per_epoch"]) == (n, n / 4)
    assert sum(found["histogram"]["counts"]) == n
    assert sum(bucket["rows"] for bucket in found["buckets"]) == n
    encoding = made.found.encoding
    train = made.found.parts["train"]
    lengths = encoding.measure(train).lengths + encoding.prefixes(train)
    assert found["rows"]["most"] == lengths.max()
    used = sum(bucket["rows"] * bucket["tokens"] for bucket in found["buckets"])
    assert found["padding"] == pytest.approx(1 - lengths.sum() / used)
    assert found["epochs"] == pytest.approx(config.train.steps / (n / 4))


@pytest.mark.parametrize("allowed", [0.0, 0.5])
def test_bad_rows_do_not_stop_it(planted_set, tmp_path, capsys, allowed):
    root, cache, _ = planted_set
    config = planted.config(root, cache, data__max_bad_fraction=allowed)
    assert command.run(config, tmp_path / "out", page=False) == 0
    said = capsys.readouterr().out
    assert ("the run would stop" in said) == (allowed == 0)
    assert ("the run would skip them" in said) == (allowed > 0)
    lines = (tmp_path / "out" / "bad_rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == sum(planted.BAD.values())
    assert {row["row"] for row in rows if row["field"] == "id"} == {28}  # the last of train.json
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["bad"]["run_stops"] == (allowed == 0)
    shared = (tmp_path / "out" / "leakage.jsonl").read_text().splitlines()
    assert len(shared) == 6 + 2
    assert not (tmp_path / "out" / "audit.html").exists()


def test_limits_are_those_of_the_run(planted_set):
    root, cache, _ = planted_set
    limits = {"data__limit": 5, "eval__limit": 3, "data__max_bad_fraction": 1.0}
    made = command.make(planted.config(root, cache, **limits))
    assert [row["cases"] for row in made.audit["splits"].values()] == [5, 8, 3]
    assert made.audit["splits"]["train"]["unused"] == planted.CASES["train"] - 5 + 1  # one is bad


def test_without_a_tokenizer_all_but_lengths(planted_set):
    root, cache, _ = planted_set
    config = planted.config(root, cache)
    config.tokenizer = ""
    audit = command.make(config).audit
    assert "config.tokenizer" in audit["lengths"]["problem"]
    assert audit["lengths"]["steps_per_epoch"] == planted.CASES["train"] / 4
    assert audit["lengths"]["problem"] in audit["warnings"]
    assert len(audit["leakage"]["counts"]["train/test"]) == 4


def test_nothing_usable(tmp_path, capsys):
    w = planted.Writer(tmp_path / "set")
    w.row("train", "lost.png", "a?", "b")
    w.close()
    assert command.run(planted.config(w.root, tmp_path / "cache"), tmp_path / "out") == 1
    assert "no training case is left" in capsys.readouterr().out
    assert (tmp_path / "out" / "audit.html").exists()


def test_vqa_rad(shared, tmp_path):
    """Its README: 2155 and 324 questions, 223 images of which one is not asked about."""
    config = planted.config(shared / "data" / "vqa-rad", tmp_path, data__source="vqa_rad")
    audit = command.make(config).audit
    counts = {split: row["cases"] for split, row in audit["splits"].items()}
    assert counts["train"] + counts["val"] == 2155
    assert counts["test"] == 324
    assert audit["pictures"]["opened"] == audit["pictures"]["images"] == 222
    assert audit["types"]["answer_type"]["CLOSED"]["test"] == 191
    _, touched = audit["leakage"]["images"]["train/test"]
    source = sources.load(config)
    trained = {case.image for case in source.cases("train")}
    both = sum(case.image in trained for case in source.cases("test"))
    _, of_val = audit["leakage"]["images"]["val/test"]
    assert touched + of_val == both > 300
    assert "the official split does this" in audit["warnings"][0]
    assert audit["twins"]["near"] == 0
