"""A run on cases of one and of two images, from its data to its page and to saved images."""

import json
import re

import numpy as np
import runs
from PIL import Image
from predicting import predict

from pefomed_jax import config as config_lib
from pefomed_jax.evaluation import command
from pefomed_jax.training import loop


def write_views(folder):
    """Tables of questions, every other one about two views; images named alike in two folders."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 8, "val": 2, "test": 4}.items():
        rows = []
        for i in range(count):
            names = [
                f"images/{split}{i}/{view}.png" for view in ("frontal", "lateral")[: 1 + i % 2]
            ]
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / name)
            row = {"id": f"{split}{i}", "image": names, "question": "Which side?"}
            rows.append(row | {"answer": ("left", "right")[i // 2 % 2]})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text)
    return folder


def config(data):
    made = config_lib.make("vqa", "tiny,data=folder")
    fields = {"data.dir": str(data), "data.cache": str(data / "cache"), "data.branches": 1}
    with made.unlocked():
        made.update_from_flattened_dict(runs.SETTINGS | fields | {"train.steps": 2})
    return made


def thumbnails(page):
    """[name, URI, why] of each image of a page."""
    text = re.search(r'id="images">(.*?)</script>', page.read_text(), re.DOTALL)[1]
    return json.loads(text)


def test_all_images_reach_the_page_and_the_folder(tmp_path):
    data, run = write_views(tmp_path / "data"), tmp_path / "run"
    assert loop.run(config(data), run) == 0
    names = {path.relative_to(data).as_posix() for path in (data / "images").glob("test*/*.png")}
    assert len(names) == 6
    found = thumbnails(run / "report.html")
    assert {name for name, uri, _ in found if uri} == names
    rows = [json.loads(line) for line in (run / "cases.jsonl").read_text().splitlines()]
    assert [len(row.get("images", [0])) for row in rows] == [1, 2, 1, 2]

    out = tmp_path / "p.jsonl"
    predict(run, out, save_images=tmp_path / "films", shuffled=True)
    saved = {
        path.relative_to(tmp_path / "films").as_posix() for path in tmp_path.glob("films/**/*.png")
    }
    assert saved == names
    assert all((tmp_path / "films" / n).read_bytes() == (data / n).read_bytes() for n in names)
    command.evaluate(command.Request(out, tmp_path / "scores", "pefomed", resamples=0))
    found = thumbnails(tmp_path / "scores" / "report.html")
    assert {name for name, uri, _ in found if uri} == names
