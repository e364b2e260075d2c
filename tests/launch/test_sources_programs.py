"""Data sets through the programs of `launch/`: real samples, a mixture, rows of several images."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import forked
import numpy as np
import pytest
import runs
from data import miniatures
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
WAIT = 300.0  # seconds
MAX = "--config.data.max_bad_fraction=0.5"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Where compiled programs are kept: all here are of few sizes."""
    return tmp_path_factory.mktemp("programs")


def launch(name, args, programs):
    """What a program says, started as a person does, on one device."""
    kept = {"JAX_COMPILATION_CACHE_DIR": str(programs)}
    kept["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | kept
    done = subprocess.run(
        [sys.executable, f"launch/{name}.py", *map(str, args)],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": WAIT},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def sample(shared, name):
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in the folder 'shared'")
    return folder


@pytest.mark.slow
def test_vqa_rad_from_the_embedded_base(shared, programs, tmp_path):
    """Three steps at the preset `tiny`: its own weights and tokenizer, real images."""
    folder = sample(shared, "vqa-rad")
    fields = {"data.dir": folder, "data.cache": tmp_path / "cache", "train.steps": 3}
    fields |= {"train.eval_every": 3, "eval.val_limit": 8, "eval.limit": 24}
    fields |= {"train.batch_size": 8, "eval.batch_size": 8, "eval.max_new_tokens": 8}
    fields |= {"data.branches": 1, "data.buckets": "(192,)"}  # one shape to compile
    args = [f"--config.{name}={value}" for name, value in fields.items()]
    config = "--config=configs/vqa.py:tiny,data=vqa_rad"
    said = launch("train", [config, *args, f"--workdir={tmp_path / 'run'}"], programs)
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
def test_a_mixture_of_three_sets(programs, tmp_path):
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
    said = launch("train", [config, *args, MAX, f"--workdir={run}"], programs)
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
def test_branches_over_several_images(programs, tmp_path):
    """Three questions a row of two images: the answers of one question a row, and a page."""
    write_pairs(tmp_path / "set")
    more = {"lora.rank": 8, "optimizer.lr": 0.3, "optimizer.clip": 0, "optimizer.warmup_steps": 0}
    fields = runs.SETTINGS | more | {"data.dir": tmp_path / "set", "train.eval_every": 6}
    fields |= {"data.cache": tmp_path / "cache", "data.branches": 3, "train.batch_size": 4}
    args = [f"--config.{name}={value}" for name, value in fields.items()]
    config = "--config=configs/vqa.py:tiny,data=folder"
    launch("train", [config, *args, f"--workdir={tmp_path / 'run'}"], programs)
    for lanes in (1, 3):
        out = tmp_path / f"p{lanes}.jsonl"
        more = [f"--branches={lanes}", f"--save_images={tmp_path / 'films'}", f"--out={out}"]
        launch("predict", [f"--weights={tmp_path / 'run'}", *more], programs)
    one, three = read(tmp_path / "p1.jsonl"), read(tmp_path / "p3.jsonl")
    assert len(three) == 12
    assert {tuple(row["images"]) for row in three} == {
        tuple(f"images/test{i}{view}.png" for view in "fl") for i in range(4)
    }
    close = [row.pop("log_prob") for row in one], [row.pop("log_prob") for row in three]
    np.testing.assert_allclose(*close, atol=1e-4)
    assert one == three
    flags = [f"--predictions={tmp_path / 'p3.jsonl'}", "--protocol=pefomed", "--resamples=0"]
    launch("evaluate", [*flags, f"--out={tmp_path / 'scores'}"], programs)
    results = json.loads((tmp_path / "scores" / "results.json").read_text())
    kinds = {k: g["n_cases"] for k, g in results["groups"]["answer_type"].items()}
    assert kinds == {"OPEN": 4, "CLOSED": 8}
    page = (tmp_path / "scores" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 8


def audit(tmp_path, config, folder, *fields):
    """audit.json of `launch/data.py` over a folder; its page and lists are there."""
    args = [f"--config=configs/{config}", f"--config.data.dir={folder}", *fields]
    args += [f"--config.data.cache={tmp_path / 'cache'}", f"--out={tmp_path / 'out'}"]
    process = forked.start("launch/data.py", args, tmp_path / "programs", tmp_path / "log")
    process.join(WAIT)
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"audit.html", "audit.json", "leakage.jsonl"} <= names
    return json.loads((tmp_path / "out" / "audit.json").read_text())


def total(found, what, *splits):
    """A count over these splits; all where none is named."""
    return sum(found["splits"][split][what] for split in splits or found["splits"])


def shared_files(found):
    """How many images two splits share, by the pair of them."""
    pairs = found["leakage"]["counts"].items()
    return {pair: kinds["same file"][0] for pair, kinds in pairs if "same file" in kinds}


@pytest.mark.slow
def test_audit_of_vqa_rad(shared, tmp_path):
    """Of the 223 images of the README one has no question; training and test share images."""
    folder = sample(shared, "vqa-rad")
    assert len(list((folder / "images").iterdir())) == 223
    found = audit(tmp_path, "vqa.py:tiny,data=vqa_rad", folder)
    assert found["pictures"]["opened"] == 222
    assert (total(found, "cases", "train", "val"), total(found, "cases", "test")) == (2155, 324)
    types = found["types"]["answer_type"]
    assert {kind: table["test"] for kind, table in types.items()} == {"CLOSED": 191, "OPEN": 133}
    assert (found["bad"]["rows"], found["bad"]["total"]) == (0, 2155 + 324)
    lists = [json.loads((folder / f"{name}set.json").read_text()) for name in ("train", "test")]
    train, test = ({row["image_name"] for row in rows} for rows in lists)
    leaks = shared_files(found)
    assert sum(leaks.values()) == len(train & test)
    assert "train/val" not in leaks  # set aside by image


@pytest.mark.slow
def test_audit_of_pathvqa(shared, tmp_path):
    found = audit(tmp_path, "vqa.py:tiny,data=pathvqa", sample(shared, "pathvqa-sample"))
    for what, train, test in (("images", 45, 20), ("cases", 393, 123)):
        assert total(found, what, "train", "val") == train
        assert total(found, what, "test") == test
    assert shared_files(found) == {}
    assert found["bad"]["rows"] == 0


@pytest.mark.slow
def test_audit_of_roco(shared, tmp_path):
    found = audit(tmp_path, "caption.py:tiny,data=roco", sample(shared, "rocov2-sample"))
    for what in ("images", "cases"):
        assert {split: row[what] for split, row in found["splits"].items()} == {
            **{"train": 90, "val": 20},
            "test": 20,
        }
    assert found["bad"]["rows"] == 0


@pytest.mark.slow
def test_audit_of_chest_notes(shared, tmp_path):
    notes = "--config.data.folder.answer=clinical_notes"
    folder = sample(shared, "chest-notes")
    found = audit(tmp_path, "mrg.py:tiny,data=folder", folder, notes)
    counted = [total(found, what) for what in ("cases", "images", "patients")]
    assert counted == [71, 68, 29]
    assert found["bad"]["rows"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "rows", "images"),
    [("en", (3413, 687, 803), None), ("all", (6855, 1411, 1523), [404, 116, 126])],
)
def test_audit_of_slake(shared, tmp_path, language, rows, images):
    """The real lists, an image of its own for each that they name; qid 1622 has no answer.

    No image has English questions in two splits; with the Chinese ones many have.
    """
    data = slake_with_images(sample(shared, "slake-text"), tmp_path / "set")
    options = f"--config.data.slake.language={language}"
    found = audit(tmp_path, "vqa.py:tiny,data=slake", data, options)
    assert tuple(found["splits"][s]["cases"] for s in found["splits"]) == (rows[0] - 1, *rows[1:])
    assert (found["bad"]["rows"], found["bad"]["total"]) == (1, sum(rows))
    assert read(tmp_path / "out" / "bad_rows.jsonl")[0]["field"] == "answer"
    if images:
        assert [found["splits"][s]["images"] for s in found["splits"]] == images
    assert bool(shared_files(found)) == (language == "all")
    assert found["pictures"]["opened"] == len(list((data / "imgs").iterdir()))


def slake_with_images(text, folder):
    """The lists of `text`; each image that they name is stood in for by one of its own."""
    for name in ("train", "validate", "test"):
        rows = json.loads((text / f"{name}.json").read_text(encoding="utf-8"))
        for image in {row["img_name"] for row in rows}:
            number = int(re.search(r"\d+", image)[0])
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
            (folder / "imgs" / image).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((32, 32)).save(folder / "imgs" / image)
        shutil.copy(text / f"{name}.json", folder)
    return folder
