"""Evaluations for tests of the page."""

import html.parser
import json
import pathlib

import numpy as np
from PIL import Image

from pefomed_jax.evaluation import page, paired, protocols, results
from pefomed_jax.evaluation.results import Settings

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>"


VOID = {"meta", "link", "input", "br", "wbr", "img"}
SVG_VOID = {"line", "rect", "circle", "path"}


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, texts by element, and that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.texts = [], [], {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id", "")))

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG_VOID
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            tag, name = self.open[-1]
            self.texts.setdefault(name or tag, []).append(data)

    def data(self, name="data"):
        return json.loads("".join(self.texts[name]))


def case(i, prediction, reference="yes", **fields):
    made = {"id": f"c{i}", "image": f"{i % 3}.png", "prompt": f"<Img></Img> [vqa] question {i}?"}
    return made | {"reference": reference, "prediction": prediction, **fields}


def vqa_cases(n=120):
    """Of every five three are right; 1 is hostile, 2 half right, 3 empty; one organ is hostile."""
    kinds = ("CLOSED", "OPEN")
    rows = [
        case(i, "yes" if i % 5 < 3 else "no", answer_type=kinds[i % 2], organ=f"o{i % 4}")
        for i in range(n)
    ]
    for row, prediction in zip(rows[1:], (HOSTILE, "yes and no", ""), strict=False):
        row["prediction"] = prediction
    rows[-1]["organ"] = HOSTILE
    return rows


def evaluate(rows, shuffled=None, protocol="pefomed", split="test"):
    answered = {"test": rows, "test_shuffled": shuffled}
    settings = Settings(resamples=50, split=split, slow=False)
    return results.evaluate(answered, protocols.get(protocol), settings)


def compared(rows, others):
    """An evaluation of `rows` with a comparison."""
    made, chosen = evaluate(rows, others), protocols.get("pefomed")
    other = results.score_all(others, chosen, Settings(slow=False))
    found = paired.compare(made.test.measure, other.measure, 50, 0)
    made.results["comparison"] = {
        **{"file": HOSTILE, "n_cases": len(rows), "only_this": [], "only_other": [HOSTILE]},
        "scores": {name: row | results.plain({"this": row["this"]}) for name, row in found.items()},
    }
    return made


def names(made):
    held = {} if made.test.measure is None else made.test.measure.cases
    return [name for name in held if not name.startswith("exact_match_")]


def page_of(made, images=None, **budget):
    return page.page(made.results, made.cases, names(made), images, **budget)


def write_films(folder: pathlib.Path, count=3, side=400) -> pathlib.Path:
    """0.png, 1.png, ... of noise, which compresses badly."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).save(folder / f"{i}.png")
    return folder
