"""Teaches the vision tower what is drawn where: cross-entropy for each patch and each picture.

The two heads on top are dropped afterwards.
"""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.data.sources.phantom import draw, scene
from pefomed_jax.models import mllm
from pefomed_jax.peft.masks import Tree
from pefomed_jax.pretrain.drawings import LABELS, Drawings
from pefomed_jax.pretrain.fit import fit

BATCH = 32
HELD_OUT = 512  # the last drawings, for the scores
POSITIVE, PICTURE = 5.0, 8.0  # weights of a patch that shows a finding, and of a picture's label


class Probe(nn.Module):
    """The tower with a linear head on each patch and one on the mean patch: logits of no, yes."""

    mllm: mllm.MLLM

    @nn.compact
    def __call__(self, batch: Batch, deterministic: bool = True) -> Float[Array, "B A 2"]:
        features = self.mllm.encode(batch.images, deterministic)[:, 0]
        b = features.shape[0]
        patch = nn.Dense(2 * len(draw.MASKS), name="patch_head")(features)
        picture = nn.Dense(2 * len(LABELS), name="picture_head")(features.mean(axis=1))
        return jnp.concatenate([patch.reshape(b, -1, 2), picture.reshape(b, -1, 2)], axis=1)


def batch_of(drawings: Drawings, k: int, seed: int) -> Batch:
    """Global batch k: BATCH drawings of a seeded permutation for each epoch."""
    rows = len(drawings.images) // BATCH
    epoch, place = divmod(k, rows)
    order = np.random.default_rng((seed, epoch)).permutation(len(drawings.images))
    return make_batch(drawings, order[place * BATCH : (place + 1) * BATCH])


def make_batch(drawings: Drawings, index: np.ndarray) -> Batch:
    """The drawings of these numbers, with their targets and weights; the text arrays are empty."""
    patches = drawings.patches[index].reshape(len(index), -1)
    labels = drawings.labels[index]
    weights = [np.where(patches, POSITIVE, 1.0), np.full(labels.shape, PICTURE)]
    none = np.zeros((len(index), 1), np.int32)
    targets = np.concatenate([patches, labels], axis=1).astype(np.int32)
    return Batch(
        tokens=none,
        positions=none,
        branch=none,
        image_slot=none - 1,
        target_pos=np.zeros_like(targets),
        targets=targets,
        weights=np.concatenate(weights, axis=1).astype(np.float32),
        images=as_images(drawings.images[index]),
    ).validate()


def as_images(grey: np.ndarray) -> np.ndarray:
    """uint8 [B, S, S] -> [B, 1, S, S, 3]."""
    return np.repeat(grey[:, None, :, :, None], 3, axis=-1)


def train(
    model_config: ConfigDict, drawings: Drawings, steps: int, folder: pathlib.Path, seed: int
) -> tuple[Tree, dict[str, float]]:
    """({vision, ln_vision}, scores): the tower after `steps` steps, and F1 by finding."""
    model = Probe(mllm.build(model_config))
    cut = len(drawings.images) - min(HELD_OUT, len(drawings.images) // 4)
    train_part, held = drawings.part(0, cut), drawings.part(cut, len(drawings.images))
    first = batch_of(train_part, 0, seed)
    params = jax.jit(model.init)(jax.random.key(seed), first)["params"]
    apply = jax.jit(lambda p, batch: model.apply({"params": p}, batch))

    def scores(tree: Tree) -> dict[str, float]:
        blocks = np.array_split(np.arange(len(held.images)), max(1, len(held.images) // 128))
        logits = [np.asarray(apply(tree, make_batch(held, block))) for block in blocks]
        yes = np.concatenate(logits).argmax(-1)[:, -len(LABELS) :].astype(bool)
        return f1(yes, held.labels)

    tree = fit(
        model,
        params,
        ((".*", "base"),),
        lambda k: batch_of(train_part, k, seed),
        steps=steps,
        lr=1.5e-3,
        folder=folder,
        seed=seed,
        score=lambda p: " ".join(f"{k.replace(' ', '_')} {v:.3f}" for k, v in scores(p).items()),
    )
    return {name: tree["mllm"][name] for name in ("vision", "ln_vision")}, scores(tree)


def f1(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """F1 of each of scene.FINDINGS and their micro-F1 ('micro'); bool [N, 14] of LABELS."""
    n = len(scene.FINDINGS)
    hit, said, drawn = (x[:, :n].sum(0) for x in (predicted & true, predicted, true))
    each = 2 * hit / np.maximum(said + drawn, 1)
    micro = 2 * hit.sum() / max(1, said.sum() + drawn.sum())
    return {"micro": float(micro)} | dict(zip(scene.FINDINGS, map(float, each), strict=True))
