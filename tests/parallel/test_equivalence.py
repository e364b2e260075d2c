"""Eight devices compute what one computes: loss and every trainable gradient, sharded."""

import engine
import jax
import numpy as np
import pytest

from pefomed_jax.parallel import mesh, rules
from pefomed_jax.training import step

MESHES = [
    dict(data=8, fsdp=1, tensor=1),
    dict(data=1, fsdp=4, tensor=2),
    dict(data=2, fsdp=2, tensor=2),
]


def on_mesh(e: engine.Engine, batch, sizes: dict[str, int], accumulate: int = 1):
    """(loss, gradients) of the loss function compiled for a mesh of eight devices."""
    made = mesh.make(sizes)
    placed = [rules.shardings(tree, made) for tree in (e.trainable, e.frozen)]
    fn = jax.jit(
        step.make_loss_and_grad(e.model, accumulate),
        out_shardings=(None, placed[0]),
        in_shardings=(*placed, rules.rows(made), None),
    )
    with jax.set_mesh(made):
        return fn(e.trainable, e.frozen, batch, jax.random.key(2))


def compare(config, tolerance: float, dropout: float, meshes=MESHES, accumulate: int = 1) -> None:
    e = engine.make(config, dropout=dropout)
    batch = engine.batch(config, rows=8 * accumulate)
    fn = jax.jit(step.make_loss_and_grad(e.model, accumulate))
    loss, grads = fn(e.trainable, e.frozen, batch, jax.random.key(2))
    assert min(float(abs(leaf).max()) for leaf in jax.tree.leaves(grads)) > 0
    for sizes in meshes:
        other, sharded = on_mesh(e, batch, sizes, accumulate)
        assert abs(float(other - loss)) <= tolerance * abs(float(loss)), sizes
        assert engine.worst(sharded, grads) < tolerance, sizes
    kernel = sharded["connector"]["proj"]["kernel"]
    assert kernel.addressable_shards[0].data.size < kernel.size


def test_float32_with_dropout(model_config):
    model_config.vision.depth = 1
    compare(model_config, 5e-5, dropout=0.2)


def test_stacked_form_with_accumulation(model_config):
    model_config.scan = True
    compare(model_config, 5e-5, dropout=0.0, meshes=MESHES[2:], accumulate=2)


def test_float64(model_config):
    model_config.update(dtype="float64", base_dtype="float64")
    model_config.vision.depth = model_config.llm.depth = 1
    with jax.enable_x64(True):
        compare(model_config, 1e-9, dropout=0.0)


@pytest.mark.parametrize("sizes", MESHES[1:])
def test_shards_hold_what_the_whole_holds(model_config, sizes):
    e = engine.make(model_config)
    placed = jax.device_put(e.frozen, rules.shardings(e.frozen, mesh.make(sizes)))
    jax.tree.map(np.testing.assert_array_equal, placed, e.frozen)
