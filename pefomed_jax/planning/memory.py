"""Bytes on one device by what they are: exact for what is held, the compiler's for the rest."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from pefomed_jax.parallel import paths
from pefomed_jax.training.setup import Setup

LARGE = 2**20  # bytes of a leaf from which on it is told that every device has all of it


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    frozen: int
    trainable: int
    optimizer: int
    batch: int
    cache: int = 0  # keys and values of prompts and answers
    temporaries: int = 0  # activations, gradients, gathered layers
    copy: int = 0  # the merged base that decoding makes where all is float32 or wider

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))


def held(pieces: Setup) -> Memory:
    """What is there before and after every step; known without a compiler."""
    state = pieces.abstract_state()
    rest = state.replace(trainable=None)
    return Memory(
        frozen=a_device(pieces.abstract_frozen()),
        trainable=a_device(state.trainable),
        optimizer=a_device(rest),
        batch=0,
    )


def a_device(tree: Any) -> int:
    """Bytes of the shards that one device holds of a tree of arrays or shapes."""
    return sum(_bytes(leaf, split=True) for leaf in jax.tree.leaves(tree))


def replicated(tree: Any, least: int = LARGE) -> list[tuple[str, int]]:
    """(path, bytes) of leaves of at least so many bytes that every device of several has whole."""
    found = [
        (paths.name(path), _bytes(leaf, split=False))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if leaf.sharding.is_fully_replicated and leaf.sharding.num_devices > 1
    ]
    return sorted((each for each in found if each[1] >= least), key=lambda each: -each[1])


def _bytes(leaf: Any, split: bool) -> int:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    sharding = getattr(leaf, "sharding", None)
    shape = sharding.shard_shape(leaf.shape) if split and sharding else leaf.shape
    return math.prod(shape) * leaf.dtype.itemsize
