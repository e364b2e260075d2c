"""Teaches the decoder plain words for pictures, and from text alone how reports say the same.

The vision tower stays as it is; the connector that is trained along is dropped afterwards.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.data.sources.phantom import scene
from pefomed_jax.models import mllm
from pefomed_jax.peft import masks
from pefomed_jax.peft.masks import Tree
from pefomed_jax.pretrain import texts
from pefomed_jax.pretrain.drawings import Drawings
from pefomed_jax.pretrain.fit import fit
from pefomed_jax.pretrain.vision import HELD_OUT, as_images

RULES = (("^(llm|connector)/", "base"), (".*", masks.FROZEN))


def features(
    model: mllm.MLLM, tower: Tree, drawings: Drawings, block: int = 128
) -> Float[np.ndarray, "N P E"]:
    """What the frozen tower makes of every drawing, in float16 to save memory."""
    encode = jax.jit(lambda p, images: model.apply({"params": p}, images, method="encode")[:, 0])
    parts = np.array_split(drawings.images, max(1, len(drawings.images) // block))
    return np.concatenate([np.asarray(encode(tower, as_images(p)), np.float16) for p in parts])


def train(
    model_config: ConfigDict,
    tower: Tree,
    drawings: Drawings,
    tokenizer: Any,
    steps: int,
    folder: pathlib.Path,
    seed: int,
) -> tuple[Tree, dict[str, float]]:
    """(the whole tree, scores): how many plain words are right for held-out pictures."""
    model = mllm.build(model_config)
    params = mllm.init_params(model, jax.random.key(seed)) | tower
    seen = features(model, tower, drawings).astype(np.float32)
    cut = len(seen) - min(HELD_OUT, len(seen) // 4)
    writer = texts.writer(tokenizer, seen[:cut], model_config.concat, seed)
    apply = jax.jit(lambda p, batch: model.apply({"params": p}, batch))
    index = np.arange(cut, len(seen))
    held = [
        _pictures(writer, seen, block) for block in np.array_split(index, max(1, len(index) // 64))
    ]

    def right(tree: Tree) -> float:
        hits = [_hits(np.asarray(apply(tree, batch)), batch) for batch in held]
        return float(np.concatenate(hits).mean())

    tree = fit(
        model,
        params,
        RULES,
        writer.batch,
        steps=steps,
        lr=2e-3,
        folder=folder,
        seed=seed,
        score=lambda p: f"plain words right {right(p):.3f}",
    )
    return tree, {"plain_words_right": right(tree)}


def _pictures(writer: texts.Writer, seen: np.ndarray, index: np.ndarray) -> Batch:
    contents = [scene.sample(scene.FIRST_SEED["base"] + int(i)) for i in index]
    batch = writer.collate([writer.picture_row(content) for content in contents], index * 0)
    return batch.replace(features=seen[index][:, None])


def _hits(logits: np.ndarray, batch: Batch) -> np.ndarray:
    """For every target, whether it has the highest score."""
    return (logits.argmax(-1) == batch.targets)[batch.weights > 0]
