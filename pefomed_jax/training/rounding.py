"""How far rounding leads AdamW's steps, which a comparison of stepped parameters must allow.

Adam divides a gradient by its own size, so where that is near 0 rounding decides the sign of a
whole step, and the steps after it go another way. How far that leads is measured, not assumed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pefomed_jax.batch import Batch
from pefomed_jax.training import restore
from pefomed_jax.training.step import make_loss_and_grad

Tree = dict[str, Any]
FACTOR = 2.0  # two other roundings may be twice as far from each other as this one from ours


def twin(whole: restore.Restored, batch: Batch, reference: Tree, count: int) -> Tree:
    """The trainable tree after `count` steps with gradients that are off as another program's are.

    `reference`: that program's gradients before the first step, in the form of the tree. In the
    first step they are taken as they are; later ones are off by as much, with signs drawn anew.
    """
    pieces, trainable, key = whole.pieces, whole.state.trainable, jax.random.key(0)
    state, off = pieces.optimizer.init(trainable), None
    gradient = jax.jit(make_loss_and_grad(pieces.model, 1))
    update = jax.jit(pieces.optimizer.update)
    for step in range(count):
        _, grads = gradient(trainable, whole.frozen, batch, key)
        if off is None:
            off = jax.tree.map(jnp.subtract, reference, grads)
        other = _signed(off, jax.random.fold_in(key, step)) if step else off
        updates, state = update(jax.tree.map(jnp.add, grads, other), state, trainable)
        trainable = jax.tree.map(jnp.add, trainable, updates)
    return trainable


def _signed(tree: Tree, key: jax.Array) -> Tree:
    leaves, kind = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    pairs = zip(leaves, keys, strict=True)
    return kind.unflatten([x * jax.random.rademacher(k, x.shape, x.dtype) for x, k in pairs])


def beyond(mine: np.ndarray, theirs: np.ndarray, other: np.ndarray) -> float:
    """How much further `theirs` lies from `mine` than FACTOR times as far as `other`, the twin.

    Distances of all values are sorted on both sides and compared rank by rank: which values
    rounding moves is chance, how many it moves how far is not. Infinite where a value is NaN.
    """
    apart, own = (np.sort(np.abs(mine.astype(np.float64) - x), axis=None) for x in (theirs, other))
    most = float((apart - FACTOR * own).max(initial=0.0))
    return most if np.isfinite(apart).all() and np.isfinite(own).all() else float("inf")
