"""Small random parameters and batches for tests of the models, built in plain NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.models import mllm
from pefomed_jax.peft import lora, masks


def small() -> ConfigDict:
    """Sizes that compile fast: 2 + 2 layers, grouped queries, 4 visual tokens."""
    return ConfigDict(
        {
            "vision": dict(image_size=16, patch_size=4, width=16, depth=2, heads=2, mlp_dim=32),
            "llm": dict(vocab_size=64, width=32, depth=2, heads=4, kv_heads=2, mlp_dim=48)
            | dict(norm_eps=1e-5, rope_theta=10000.0, tie_embeddings=False),
            "concat": 4,
            "dtype": "float32",
            "base_dtype": "float32",
            "scan": False,
            "remat": "none",
            "attention": "plain",
        }
    )


@dataclasses.dataclass(frozen=True)
class Row:
    """An image (index into a pool), and branches as (tokens, how many of them are the answer)."""

    image: int
    branches: tuple[tuple[tuple[int, ...], int], ...]

    def split(self) -> list["Row"]:
        """The same questions, one row each."""
        return [Row(self.image, (branch,)) for branch in self.branches]


def rows(config: ConfigDict, lengths: list[list[tuple[int, int]]], seed: int = 0) -> list[Row]:
    """One row per entry; a branch is given as (question tokens, answer tokens)."""
    rng = np.random.default_rng(seed)

    def draw(n: int) -> tuple[int, ...]:
        return tuple(int(x) for x in rng.integers(3, config.llm.vocab_size, n))

    return [
        Row(i, tuple((draw(q + a), a) for q, a in branches)) for i, branches in enumerate(lengths)
    ]


def batch(
    config: ConfigDict, rows: list[Row], images_a_row: int = 1, pad: int = 2, height: int = 0
) -> Batch:
    """Rows as a Batch: BOS, the image slots, token 5, then the branches.

    `pad` columns are to spare; empty rows, all padding, fill it up to `height` rows.
    """
    slots = images_a_row * mllm.visual_tokens(config)
    prefix = [1, *[0] * slots, 5]
    long = max(len(prefix) + sum(len(t) for t, _ in row.branches) for row in rows) + pad
    wide = max(sum(n for _, n in row.branches) for row in rows) + 1
    height = max(height, len(rows))
    ints = {k: np.zeros((height, long), np.int32) for k in ("tokens", "positions")}
    ints |= {k: np.full((height, long), -1, np.int32) for k in ("branch", "image_slot")}
    ints |= {k: np.zeros((height, wide), np.int32) for k in ("target_pos", "targets")}
    weights = np.zeros((height, wide), np.float32)
    for r, row in enumerate(rows):
        at, a = len(prefix), 0
        ints["tokens"][r, :at], ints["branch"][r, :at] = prefix, 0
        ints["positions"][r, :at] = np.arange(at)
        ints["image_slot"][r, 1 : 1 + slots] = np.arange(slots)
        for number, (tokens, n) in enumerate(row.branches, 1):
            end = at + len(tokens)
            ints["tokens"][r, at:end], ints["branch"][r, at:end] = tokens, number
            ints["positions"][r, at:end] = len(prefix) + np.arange(len(tokens))
            ints["target_pos"][r, a : a + n] = np.arange(end - n, end) - 1
            ints["targets"][r, a : a + n], weights[r, a : a + n] = tokens[-n:], 1.0
            at, a = end, a + n
    size = config.vision.image_size
    pool = np.random.default_rng(7).integers(0, 256, (8, images_a_row, size, size, 3), np.uint8)
    images = pool[[row.image for row in rows] + [0] * (height - len(rows))]
    return Batch(**ints, weights=weights, images=images).validate()


def params(model: mllm.MLLM, seed: int = 0, targets: str = "", rank: int = 3) -> dict:
    """A tree in which no leaf is at its neutral value: scales near 1, biases, LoRA's B too."""

    def shapes(key: jax.Array) -> dict:
        tree = mllm.init_params(model, key)
        return lora.add(tree, targets, rank, key) if targets else tree

    rng = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        spread = 0.1 if len(leaf.shape) < 2 else 0.7 * leaf.shape[-2] ** -0.5
        neutral = 1.0 if path[-1].key == "scale" else 0.0
        dtype = jnp.promote_types(leaf.dtype, model.compute.dtype)
        return jnp.asarray(rng.normal(neutral, spread, leaf.shape), dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(shapes, jax.random.key(0)))


def loss(model: mllm.MLLM, tree: dict, data: Batch, key: jax.Array | None = None) -> jax.Array:
    """Mean negative log-likelihood of the targets; with a key, dropout is on."""
    rngs = {} if key is None else {"dropout": key}
    return nll(model.apply({"params": tree}, data, deterministic=key is None, rngs=rngs), data)


def nll(logits: jax.Array, data: Batch) -> jax.Array:
    """The mean over the targets of -log p."""
    logp = jax.nn.log_softmax(logits)
    each = -jnp.take_along_axis(logp, data.targets[..., None], axis=-1)[..., 0]
    return (each * data.weights).sum() / data.weights.sum()


def value_and_grad(
    model: mllm.MLLM, tree: dict, data: Batch, key: jax.Array | None = None
) -> tuple[jax.Array, dict]:
    """Loss, and gradients of the connector and of what LoRA has added."""
    rules = (("lora_[ab]$", "lora"), ("^connector/", "connector"), (".*", "frozen"))
    trainable, frozen = masks.partition(tree, masks.resolve(tree, rules))
    return _value_and_grad(model, trainable, frozen, data, key)


@functools.partial(jax.jit, static_argnums=0)
def _value_and_grad(
    model: mllm.MLLM, trainable: dict, frozen: dict, data: Batch, key: jax.Array | None
) -> tuple[jax.Array, dict]:
    grad = jax.value_and_grad(lambda t: loss(model, masks.merge(t, frozen), data, key))
    return grad(trainable)


def apart(tree: dict, other: dict) -> dict[str, float]:
    """max|a - b| / max|b| of every leaf, by path; the trees must have the same paths."""
    a, b = (jax.tree_util.tree_flatten_with_path(t)[0] for t in (tree, other))
    assert [path for path, _ in a] == [path for path, _ in b]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(
            np.abs(np.asarray(x) - np.asarray(y)).max() / np.abs(np.asarray(y)).max()
        )
        for (path, x), (_, y) in zip(a, b, strict=True)
    }
