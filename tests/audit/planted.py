"""A small set of questions in which every defect is planted once or more, in PeFoMed's layout."""

import json

import numpy as np
from PIL import Image, ImageEnhance

from pefomed_jax import config as config_lib

HOSTILE = "</code><script>alert(1)</script>"


def picture(seed, size=96):
    """Blots and fine grain: no two alike."""
    rng = np.random.default_rng(seed)
    blots = Image.fromarray(rng.integers(30, 226, (8, 8), np.uint8)).resize((size, size), 3)
    grain = rng.normal(0, 6, (size, size))
    return Image.fromarray(np.clip(np.asarray(blots, float) + grain, 0, 255).astype(np.uint8))


def cropped(image, part):
    width, height = image.size
    x, y = int(width * part / 2), int(height * part / 2)
    return image.crop((x, y, width - x, height - y))


def config(root, cache, **settings):
    """Of a run on the set at the tiny preset."""
    made = config_lib.make("vqa", "tiny")
    made.data.update(source="pefomed", dir=str(root), cache=str(cache), branches=1)
    made.train.batch_size = 4
    for name, value in settings.items():
        part, field = name.split("__")
        made[part][field] = value
    return made


class Writer:
    """Rows and images of the lists."""

    def __init__(self, root):
        self.root, self.rows = root, {"train": [], "val": [], "test": []}
        (root / "images").mkdir(parents=True)

    def image(self, name, made, **options):
        made.save(self.root / "images" / name, **options)
        return name

    def row(self, split, image, question, answer, kind="OPEN", **changed):
        qid = sum(map(len, self.rows.values()))
        row = dict(qid=qid, image_name=image, question=question, answer=answer, answer_type=kind)
        self.rows[split].append(row | changed)
        return f"{split}-{row['qid']}"

    def close(self):
        for split, rows in self.rows.items():
            (self.root / f"{split}.json").write_text(json.dumps(rows))


def write(root):
    """Writes the set; returns the ids of the planted cases by the name of their defect."""
    w, ids = Writer(root), {}
    own = {split: range(start, start + n) for split, start, n in
           (("train", 0, 10), ("val", 20, 4), ("test", 30, 5))}  # fmt: skip
    for split, seeds in own.items():
        for seed in seeds:
            name = w.image(f"{split[0]}{seed}.png", picture(seed))
            w.row(split, name, f"what is {seed}?", f"it is {seed}")
            w.row(split, name, f"is {seed} there?", "yes" if seed % 3 else "no", "CLOSED")
    ids["same file"] = [w.row("test", "t0.png", "Anything new?", "nothing")]
    ids["question"] = [w.row("test", "t0.png", "  What is 0", "zero")]
    ids["exact copy"] = [w.row("test", w.image("copy.png", picture(1)), "copied?", "so it is")]
    near = {
        "small.jpg": picture(2).resize((70, 70)),
        "crop.png": cropped(picture(3), 0.03),
        "dark.png": ImageEnhance.Brightness(picture(4)).enhance(0.8),
    }
    ids["near"] = [w.row("test", w.image(k, v), f"near {k}?", "near") for k, v in near.items()]
    ids["twice"] = [w.row("train", "t5.png", "What is 5? ", "It is 5.")]
    ids["contradiction"] = [w.row("train", "t6.png", "what is 6?", "another thing")]
    for split, level in (("train", 10), ("test", 12)):
        w.row(split, w.image(f"flat{level}.png", Image.new("L", (96, 96), level)), "flat?", "flat")
    w.row("train", "t7.png", HOSTILE, HOSTILE)
    _break(w)
    w.close()
    return ids


BAD = {"image_name": 1, "image": 3, "answer": 1, "id": 1}  # rows by the field that is wrong


def _break(w):
    w.row("train", "nowhere.png", "lost?", "lost")
    (w.root / "images" / "no_image.png").write_text("no image")
    w.row("train", "no_image.png", "broken?", "broken")
    w.row("test", "no_image.png", "broken too?", "broken")
    path = w.root / "images" / w.image("half.jpg", picture(50, 300))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    w.row("val", "half.jpg", "half?", "half")
    w.row("train", "t8.png", "and the answer?", "  ")
    w.row("train", "t8.png", "which number?", "taken", qid=0)


# usable cases: own rows, planted ones
CASES = {"train": 20 + 2 + 1 + 1, "val": 8, "test": 10 + 2 + 1 + 3 + 1}
