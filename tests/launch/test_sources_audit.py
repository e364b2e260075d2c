"""`launch/data.py` over the real samples: it counts what their READMEs say."""

import json
import re
import shutil

import forked
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

WAIT = 300.0  # seconds


def sample(shared, name):
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in the folder 'shared'")
    return folder


def audit(tmp_path, config, folder, *fields):
    """audit.json of `launch/data.py` over a folder; its page and lists are there."""
    args = [f"--config=configs/{config}", f"--config.data.dir={folder}", *fields]
    args += [f"--config.data.cache={tmp_path / 'cache'}", f"--out={tmp_path / 'out'}"]
    process = forked.start("launch/data.py", args, tmp_path / "log")
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


def test_audit_of_pathvqa(shared, tmp_path):
    found = audit(tmp_path, "vqa.py:tiny,data=pathvqa", sample(shared, "pathvqa-sample"))
    for what, train, test in (("images", 45, 20), ("cases", 393, 123)):
        assert total(found, what, "train", "val") == train
        assert total(found, what, "test") == test
    assert shared_files(found) == {}
    assert found["bad"]["rows"] == 0


def test_audit_of_roco(shared, tmp_path):
    found = audit(tmp_path, "caption.py:tiny,data=roco", sample(shared, "rocov2-sample"))
    for what in ("images", "cases"):
        assert {split: row[what] for split, row in found["splits"].items()} == {
            **{"train": 90, "val": 20},
            "test": 20,
        }
    assert found["bad"]["rows"] == 0


def test_audit_of_chest_notes(shared, tmp_path):
    notes = "--config.data.folder.answer=clinical_notes"
    folder = sample(shared, "chest-notes")
    found = audit(tmp_path, "mrg.py:tiny,data=folder", folder, notes)
    counted = [total(found, what) for what in ("cases", "images", "patients")]
    assert counted == [71, 68, 29]
    assert found["bad"]["rows"] == 0


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
    assert json.loads((tmp_path / "out" / "bad_rows.jsonl").read_text())["field"] == "answer"
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
