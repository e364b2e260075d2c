"""A small model with LoRA and a ragged batch, for the tests of peft, parallel and training."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pefomed_jax.batch import Batch
from pefomed_jax.models import mllm
from pefomed_jax.parallel import paths
from pefomed_jax.peft import lora, masks

RULES = (("lora_[ab]$", "lora"), ("^connector/", "connector"), (".*", "frozen"))
KEY = jax.random.key(0)
TARGETS = r"^llm/layers/.*attn/(q|v)_proj$"


@dataclasses.dataclass
class Engine:
    """A model with its parameters split; alpha differs from the rank."""

    model: mllm.MLLM
    labels: masks.Tree
    trainable: masks.Tree
    frozen: masks.Tree


def make(config: Any, rank: int = 4, dropout: float = 0.0, zero_b: bool = False) -> Engine:
    """Random weights everywhere; lora_b too, unless zero_b."""
    model = mllm.build(config, adapter=lora.LoRA(alpha=6.0, dropout=dropout))
    shapes = jax.eval_shape(lambda p, key: lora.add(p, TARGETS, rank, key), abstract(config), KEY)
    params = noisy(fill(shapes))
    if zero_b:
        params = jax.tree_util.tree_map_with_path(
            lambda path, x: jnp.zeros_like(x) if paths.name(path).endswith("lora_b") else x, params
        )
    labels = masks.resolve(params, RULES)
    return Engine(model, labels, *masks.partition(params, labels))


def abstract(config: Any) -> masks.Tree:
    """The base's shapes."""
    return jax.eval_shape(lambda key: mllm.init_params(mllm.build(config), key), KEY)


def fill(shapes: masks.Tree) -> masks.Tree:
    """Ones for norm scales, zeros for the rest."""

    def one(path, leaf):
        value = 1.0 if paths.name(path).endswith("scale") else 0.0
        return jnp.asarray(np.full(leaf.shape, value), leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, shapes)


def noisy(params: masks.Tree) -> masks.Tree:
    """Moves every leaf, so that zeros and ones hide nothing; NumPy, to compile nothing."""
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x) + 0.15 * rng.standard_normal(x.shape), x.dtype), params
    )


def batch(config: Any, rows: int = 8, length: int = 12, answers: int = 3, seed: int = 0) -> Batch:
    """Rows of different lengths: image slots, text, targets with uneven weights, padding."""
    rng = np.random.default_rng(seed)
    visual = mllm.visual_tokens(config)
    place = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    ends = rng.integers(visual + answers + 1, length + 1, size=(rows, 1))
    branch = np.where(place < ends, np.where(place < visual + 1, 0, 1), -1).astype(np.int32)
    slot = np.where((place >= 1) & (place <= visual), place - 1, -1).astype(np.int32)
    vocab = config.llm.vocab_size
    size = config.vision.image_size
    numpy_batch = Batch(
        tokens=rng.integers(0, vocab, (rows, length), dtype=np.int32),
        positions=place,
        branch=branch,
        image_slot=slot,
        target_pos=(ends - answers + np.arange(answers) - 1).astype(np.int32),
        targets=rng.integers(0, vocab, (rows, answers), dtype=np.int32),
        weights=(rng.random((rows, answers)) * (rng.random((rows, answers)) < 0.7)).astype("f4"),
        images=rng.integers(0, 256, (rows, 1, size, size, 3), dtype=np.uint8),
    )
    return jax.tree.map(jnp.asarray, numpy_batch.validate())


def worst(tree: Any, reference: Any) -> float:
    """The largest max|a - b| / max|b| over the leaves."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True)
    ratios = []
    for a, b in pairs:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        ratios.append(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
    return max(ratios)
