"""Data sets through the programs of `launch/`: VQA-RAD, a mixture, rows of several images."""

import json
import re
import shutil

import forked
import numpy as np
import pytest
import runs
from data import miniatures
from PIL import Image

WAIT = 300.0  # seconds
MAX = "--config.data.max_bad_fraction=0.5"


def launch(name, args, folder):
    """What a program says, on one device, in a process of its own; the log is in `folder`."""
    log = folder / f"{name}.log"
    process = forked.start(f"launch/{name}.py", list(map(str, args)), log)
    process.join(WAIT)
    assert process.exitcode == 0, log.read_text()
    return log.read_text()


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_vqa_rad_from_the_embedded_base(shared, tmp_path):
    """Three steps at the preset `tiny`: its own weights and tokenizer, real images."""
    folder = shared / "data" / "vqa-rad"
    if not folder.is_dir():
        pytest.skip("no vqa-rad in the folder 'shared'")
    fields = {"data.dir": folder, "data.cache": tmp_path / "cache", "train.steps": 3}
    fields |= {"train.eval_every": 3, "eval.val_limit": 8, "eval.limit": 24}
    fields |= {"train.batch_size": 8, "eval.batch_size": 8, "eval.max_new_tokens": 8}
    fields |= {"data.branches": 1, "data.buckets": "(192,)"}  # one shape to compile
    args = [f"--config.{name}={value}" for name, value in fields.items()]
    config = "--config=configs/vqa.py:tiny,data=vqa_rad"
    said = launch("train", [config, *args, f"--workdir={tmp_path / 'run'}"], tmp_path)
    found = re.search(r"(\d+) training, (\d+) validation .*, (\d+) test cases", said)
    train, val, test = map(int, found.groups())
    assert (train + val, test) == (2155, 24)
    assert all(np.isfinite(row["loss"]) for row in runs.rows(tmp_path / "run"))
    rows = read(tmp_path / "run" / "predictions.jsonl")
    questions = json.loads((folder / "testset.json").read_text())[:24]
    assert [row["id"] for row in rows] == [f"test-{each['qid']}" for each in questions]
    assert [row["reference"] for row in rows] == [str(q["answer"]).strip() for q in questions]
    assert all(q["question"].strip() in r["prompt"] for r, q in zip(rows, questions, strict=True))
    assert [row["answer_type"] for row in rows] == [q["answer_type"].strip() for q in questions]
    types = [each["question_type"].strip() for each in questions]
    groups = json.loads((tmp_path / "run" / "results.json").read_text())["groups"]["question_type"]
    assert {kind: group["n_cases"] for kind, group in groups.items()} == {
        kind: types.count(kind) for kind in set(types)
    }
    assert not (tmp_path / "run" / "bad_rows.jsonl").exists()


@pytest.mark.slow
def test_a_mixture_of_three_sets(tmp_path):
    """A step is an epoch of 7 rows, which `data.ratios` deals out; cases are counted by set."""
    data, run = tmp_path / "data", tmp_path / "run"
    for name in ("roco_1", "clef_2024", "mimic_jpg"):
        getattr(miniatures, name)(data / name)
    shutil.move(data / "roco_1", data / "roco")
    shutil.move(data / "clef_2024", tmp_path / "year")
    shutil.move(data / "mimic_jpg", data / "mimic_cxr")
    fields = runs.SETTINGS | {"data.dir": data, "data.clef.dir": tmp_path / "year"}
    fields |= {"data.cache": tmp_path / "cache", "train.batch_size": 7, "eval.max_new_tokens": 2}
    fields |= {"train.steps": 3, "data.ratios": "(('roco',1),('clef',2),('mimic_cxr',4))"}
    args = [f"--config.{name}={value}" for name, value in fields.items()]
    config = "--config=configs/caption.py:tiny,data=roco+clef+mimic_cxr"
    said = launch("train", [config, *args, MAX, f"--workdir={run}"], tmp_path)
    for line in ("roco: 2 cases, 1 of the 7", "clef: 3 cases, 2 of", "mimic_cxr: 2 cases, 4 of"):
        assert line in said
    names = ("roco", "clef", "mimic_cxr")
    counts = [[row[f"cases/{name}"] for name in names] for row in runs.rows(run)]
    assert counts == [[1, 2, 4]] * 3
    bad = {(row["file"], row["row"]) for row in read(run / "bad_rows.jsonl")}
    assert bad == {
        ("roco/all_data/train/radiology/captions.txt", 3),
        ("clef/train_captions.csv", 4),
        ("mimic_cxr/mimic-cxr-2.0.0-split.csv.gz", 8),
    }
    rows = read(run / "predictions.jsonl")
    assert [row["id"].split("/")[0] for row in rows] == ["roco"] * 3 + ["mimic_cxr"]
    assert all(row["image"].startswith(row["id"].split("/")[0]) for row in rows)


def write_pairs(folder):
    """A table of questions, three about each pair of images."""
    rng = np.random.default_rng(0)
    table = ["id,image,question,answer,answer_type,split"]
    (folder / "images").mkdir(parents=True)
    for split, n in {"train": 6, "val": 2, "test": 4}.items():
        for i in range(n):
            names = [f"images/{split}{i}{view}.png" for view in "fl"]
            for name in names:
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / name)
            asked = {"Which side?": ("left", "OPEN"), "Is it left?": ("yes", "CLOSED")}
            asked["Is it larger than before?"] = ("no", "CLOSED")
            for j, (question, (answer, kind)) in enumerate(asked.items()):
                row = (f"{i}-{j}", "|".join(names), question, answer, kind, split)
                table.append(",".join(row))
    (folder / "table.csv").write_text("\n".join(table) + "\n")


@pytest.mark.slow
def test_branches_over_several_images(tmp_path):
    """Three questions a row of two images: the answers of one question a row, and a page."""
    write_pairs(tmp_path / "set")
    more = {"lora.rank": 8, "optimizer.lr": 0.3, "optimizer.clip": 0, "optimizer.warmup_steps": 0}
    fields = runs.SETTINGS | more | {"data.dir": tmp_path / "set", "train.eval_every": 6}
    fields |= {"data.cache": tmp_path / "cache", "data.branches": 3, "train.batch_size": 4}
    args = [f"--config.{name}={value}" for name, value in fields.items()]
    config = "--config=configs/vqa.py:tiny,data=folder"
    launch("train", [config, *args, f"--workdir={tmp_path / 'run'}"], tmp_path)
    for lanes in (1, 3):
        out = tmp_path / f"p{lanes}.jsonl"
        more = [f"--branches={lanes}", f"--save_images={tmp_path / 'films'}", f"--out={out}"]
        launch("predict", [f"--weights={tmp_path / 'run'}", *more], tmp_path)
    one, three = read(tmp_path / "p1.jsonl"), read(tmp_path / "p3.jsonl")
    assert len(three) == 12
    assert {tuple(row["images"]) for row in three} == {
        tuple(f"images/test{i}{view}.png" for view in "fl") for i in range(4)
    }
    close = [row.pop("log_prob") for row in one], [row.pop("log_prob") for row in three]
    np.testing.assert_allclose(*close, atol=1e-4)
    assert one == three
    flags = [f"--predictions={tmp_path / 'p3.jsonl'}", "--protocol=pefomed", "--resamples=0"]
    launch("evaluate", [*flags, f"--out={tmp_path / 'scores'}"], tmp_path)
    results = json.loads((tmp_path / "scores" / "results.json").read_text())
    kinds = {k: g["n_cases"] for k, g in results["groups"]["answer_type"].items()}
    assert kinds == {"OPEN": 4, "CLOSED": 8}
    page = (tmp_path / "scores" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 8
