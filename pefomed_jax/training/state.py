"""The state that a step changes, and how it comes into being already sharded."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from pefomed_jax.parallel import rules
from pefomed_jax.peft.masks import Tree


@flax.struct.dataclass
class TrainState:
    """Everything that a checkpoint holds besides its meta data."""

    step: Any  # int32 []: global batches consumed
    trainable: Any
    opt_state: Any
    key: Any  # typed random key []; constant, folded with the step for dropout


def build(trainable: Tree, optimizer: optax.GradientTransformation, key: Any) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        opt_state=optimizer.init(trainable),
        key=key,
    )


def abstract(
    trainable: Tree, optimizer: optax.GradientTransformation, key: Any, mesh: Mesh
) -> TrainState:
    """The state as ShapeDtypeStructs with shardings, for restoring and for the compiler.

    `trainable` holds arrays or shapes, as `key` is one; nothing is allocated.
    """
    shapes = jax.eval_shape(lambda tree, k: build(tree, optimizer, k), trainable, key)
    return placed(shapes, mesh)


def placed(shapes: Any, mesh: Mesh) -> Any:
    """The tree of shapes with the shardings of `parallel/rules.py` attached."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        rules.shardings(shapes, mesh),
    )


def create(
    init: Callable[..., Tree],
    optimizer: optax.GradientTransformation,
    key: Array,
    mesh: Mesh,
    inputs: tuple[Any, ...] = (),
) -> TrainState:
    """The first state, every leaf made in its shards: nothing exists unsharded before.

    `init(key, *inputs)` returns the trainable tree; it is traced, so a function that builds the
    whole tree and keeps the trainable part costs nothing for the rest.
    """

    def first(key: Array, inputs: tuple[Any, ...]) -> TrainState:
        init_key, state_key = jax.random.split(key)
        return build(init(init_key, *inputs), optimizer, state_key)

    shardings = rules.shardings(jax.eval_shape(first, key, inputs), mesh)
    return jax.jit(first, out_shardings=shardings)(key, inputs)
