"""launch/records.py from the outside: what it writes and says, and how it refuses."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from pefomed_jax.data.records.about import SMALL

ROOT = pathlib.Path(__file__).parents[2]
VQA = "--config=configs/vqa.py:tiny,data="


def records(*args):
    return subprocess.run(
        [sys.executable, "launch/records.py", *args], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture
def rad(tmp_path):
    """VQA-RAD's layout: two images, five questions to train and one to test."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for i in range(2):
        Image.new("L", (20, 30), 50 * i).save(folder / "images" / f"{i}.png")
    rows = [
        {"qid": i, "image_name": f"{i % 2}.png", "question": f"what {i}?", "answer": "A"}
        for i in range(6)
    ]
    (folder / "trainset.json").write_text(json.dumps(rows[:5]))
    (folder / "testset.json").write_text(json.dumps(rows[5:]))
    return folder


def test_writes_and_says_what(rad, tmp_path):
    out = tmp_path / "records"
    args = [f"{VQA}vqa_rad", f"--config.data.dir={rad}", f"--config.data.cache={tmp_path}/cache"]
    done = records(*args, f"--out={out}")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"vqa_rad: writing 5 train, 1 test cases to {out}" in done.stdout
    assert f"{out}: 5 train, 1 test cases, 2 images, 0." in done.stdout
    assert "licence of vqa_rad: CC0 1.0" in done.stdout
    (rad / "images" / "1.png").write_bytes(b"broken")
    done = records(*args, f"--out={tmp_path}/other")
    assert done.returncode == 1
    assert done.stderr.startswith("error: trainset.json, row 2, field 'image': images/1.png does")
    assert "max_bad_fraction=0.5 would skip them" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([f"{VQA}vqa_rad"], "--out is needed"),
        ([f"{VQA}slake", "--out=x", "--config.data.slake.language=de"], "'de' is not one of en"),
        (["--config=configs/mrg.py:tiny,data=mimic_cxr", "--out=x"], "is read in place"),
    ],
)
def test_one_line_of_what_is_wrong(args, words):
    done = records(*args)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (ROOT / "x").exists()


def test_help_names_the_sets():
    said = ast.get_docstring(ast.parse((ROOT / "launch" / "records.py").read_text()))
    assert all(name in said for name in SMALL)
