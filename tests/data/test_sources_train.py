"""Every data set from its release's layout to scores: a run of two steps on its miniature."""

import collections
import json
import pathlib
import re

import pytest
import runs

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.data.sources import options
from pefomed_jax.evaluation.predict import IMAGE
from pefomed_jax.training import logging, loop

from . import trees

SHORT = {
    "train.steps": 2,
    "train.eval_every": 2,
    "train.checkpoint_every": 2,
    "eval.max_new_tokens": 2,
    "data.max_bad_fraction": 0.5,
    "data.branches": 1,
    "data.buckets": (64,),  # one shape for most of them: compiled once
}
LONG = {"medexpqa", "mediqa_m3g"}  # rows of more tokens
AGAIN = {  # sets that another run here has already, in another way
    *("slake in both languages", "clef, its validation images as test", "mimic_cxr"),
    *("medicat by subfigures", "iu_xray of R2Gen", "roco of version 2", "pathvqa"),
}


def config_of(tree, folder, cache):
    made = config_lib.make(tree.task, f"tiny,data={tree.source}")
    own = {f"data.{tree.source}.{name}": value for name, value in tree.options.items()}
    with made.unlocked():
        made.update_from_flattened_dict(runs.SETTINGS | SHORT | own)
    made.data.update(dir=str(folder), cache=str(cache))
    if tree.source in LONG:
        made.data.buckets = ()
    return made


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def slow_again():
    """The names of the miniatures; a second one of a set is slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name in AGAIN else ()) for name in trees.TREES
    ]


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """A third of the time of so short a run."""
    monkeypatch.setattr(logging.Log, "draw", lambda self: None)


@pytest.mark.parametrize("name", slow_again())
def test_a_run(name, tmp_path, capsys):
    tree, folder = trees.TREES[name], tmp_path / "run"
    tree.write(tmp_path / "set")
    config = config_of(tree, tmp_path / "set", tmp_path / "cache")
    assert loop.run(config, folder) == 0
    assert [row["step"] for row in runs.rows(folder)] == [1, 2]
    assert tree.train == trained(capsys.readouterr().out)
    check_bad_rows(tree, folder)
    check_answers(tree, folder, pathlib.Path(sources.load(config).root))
    check_scores(tree, json.loads((folder / "results.json").read_text()))


def trained(said):
    """How many cases there are to train on and to validate with if these were carved."""
    train = re.search(r": (\d+) training,", said)
    carved = re.search(r"\((\d+) cases\) set aside", said)
    return int(train[1]) + (int(carved[1]) if carved else 0)


def check_bad_rows(tree, folder):
    bad = read(folder / "bad_rows.jsonl")
    assert [(row["file"], row["row"]) for row in bad] == list(tree.bad)
    assert all(row["field"] and row["problem"] and row["remedy"] for row in bad)


def check_answers(tree, folder, root):
    """Every test case once, its images those of its prompt, each of them there."""
    rows = read(folder / "predictions.jsonl")
    assert [row["id"] for row in rows] == list(tree.test)
    for row in rows:
        n = tree.test[row["id"]]
        assert ("image" in row, "images" in row) == (n > 0, n > 1)
        images = row.get("images", [row["image"]] if n else [])
        assert len(images) == row["prompt"].count(IMAGE) == n
        assert all((root / image.partition("#")[0]).is_file() for image in images)
        assert row["reference"]
    types = collections.Counter(row.get("answer_type") for row in rows)
    assert types == (tree.types or {None: len(rows)})


def check_scores(tree, results):
    """One score of every case, one of every answer type that there are several of."""
    assert results["counts"]["test"]["n_cases"] == len(tree.test)
    assert 0 <= results["test"]["exact_match" if tree.task == "vqa" else "rouge_l"] <= 1
    groups = results.get("groups", {}).get("answer_type", {})
    found = {kind: group["n_cases"] for kind, group in groups.items()}
    assert found == (tree.types if len(tree.types) > 1 else {})


def test_there_is_a_miniature_of_every_set():
    """Phantoms and PeFoMed's lists are those of the other tests."""
    covered = {tree.source for tree in trees.TREES.values()}
    assert covered | {"phantom", "pefomed"} == set(options.TASKS)
