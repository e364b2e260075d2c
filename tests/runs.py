"""A data set of a few pictures and a run of a few steps on it, for tests of whole runs."""

import contextlib
import json
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax import config as config_lib
from pefomed_jax.training import figure, logging

SETTINGS = {
    "weights.base": "random",
    "model.vision.image_size": 32,
    "model.vision.patch_size": 8,
    "model.vision.width": 16,
    "model.vision.depth": 1,
    "model.vision.heads": 2,
    "model.vision.mlp_dim": 32,
    "model.llm.width": 32,
    "model.llm.depth": 1,
    "model.llm.heads": 2,
    "model.llm.kv_heads": 2,
    "model.llm.mlp_dim": 48,
    "lora.rank": 2,
    "train.steps": 6,
    "train.batch_size": 8,
    "train.eval_every": 3,
    "train.checkpoint_every": 2,
    "train.log_every": 2,
    "eval.batch_size": 8,
    "eval.max_new_tokens": 4,
}

# over SETTINGS: few steps that move the answers, in layers that can be mixed up
LEARNS = {
    "model__llm__depth": 2,
    "model__vision__depth": 2,
    "model__llm__tie_embeddings": False,
    "lora__rank": 8,
    "optimizer__lr": 0.3,
    "optimizer__clip": 0.0,
    "optimizer__warmup_steps": 0,
    "train__steps": 12,
    "train__eval_every": 12,
    "train__checkpoint_every": 12,
}


def write_pictures(folder: pathlib.Path) -> pathlib.Path:
    """VQA lists in PeFoMed's layout: 24 training, 8 validation, 8 test questions, two a picture."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for split, n in {"train": 12, "val": 4, "test": 4}.items():
        rows = []
        for i in range(n):
            name = f"{split}{i}.png"
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name)
            side = "left" if i % 2 else "right"
            common = {"image_name": name, "question_type": "SIDE"}
            rows += [
                common
                | {"qid": f"{split}{i}a", "question": "Which side?", "answer": side}
                | {"answer_type": "OPEN"},
                common
                | {"qid": f"{split}{i}b", "question": "Is it left?", "answer_type": "CLOSED"}
                | {"answer": "yes" if i % 2 else "no"},
            ]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder


def config(data: pathlib.Path, **settings: object) -> ConfigDict:
    """The config of a run on `data`; settings are dotted paths with __ for the dot."""
    made = config_lib.make("vqa", "tiny,data=pefomed")
    named = {key.replace("__", "."): value for key, value in settings.items()}
    flat = SETTINGS | {"data.dir": str(data), "data.cache": str(data / "cache")} | named
    with made.unlocked():
        made.update_from_flattened_dict(flat)
    return made


def flags(data: pathlib.Path, **settings: object) -> list[str]:
    """The same run as arguments of launch/train.py."""
    named = {key.replace("__", "."): value for key, value in settings.items()}
    flat = SETTINGS | {"data.dir": data, "data.cache": data / "cache"} | named
    fields = [f"--config.{key}={value}" for key, value in flat.items()]
    return ["--config=configs/vqa.py:tiny,data=pefomed", *fields]


@contextlib.contextmanager
def drawn() -> Iterator[None]:
    """Inside, runs draw loss.png as they do for a person; in other tests they leave it out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "draw_loss", figure.draw_loss)
        yield


def questions(data: pathlib.Path, folder: pathlib.Path) -> list[dict[str, object]]:
    """The run's answers to its test cases: image (a path), question, reference, prediction."""
    asked = {row["qid"]: row["question"] for row in json.loads((data / "test.json").read_text())}
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return [
        row | {"image": data / row["image"], "question": asked[row["qid"]]}
        for row in map(json.loads, lines)
    ]


def rows(folder: pathlib.Path) -> list[dict[str, object]]:
    """metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
