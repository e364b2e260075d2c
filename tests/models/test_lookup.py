"""Looking up tokens in a table split by width: the same rows and gradients as without a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pefomed_jax.models.lookup import look_up
from pefomed_jax.parallel import mesh

RNG = np.random.default_rng(0)
TABLE = jnp.asarray(RNG.standard_normal((11, 16)), jnp.float32)
WEIGHT = jnp.asarray(RNG.standard_normal((8, 5, 16)), jnp.float32)
TOKENS = jnp.asarray(RNG.integers(0, 11, (8, 5)), jnp.int32)


def both(table, tokens, weight):
    def loss(table):
        return jnp.sum(look_up(table, tokens) * weight)

    return look_up(table, tokens), jax.grad(loss)(table)


@pytest.mark.parametrize(
    "sizes",
    [
        dict(data=8, fsdp=1, tensor=1),
        dict(data=1, fsdp=8, tensor=1),
        dict(data=2, fsdp=2, tensor=2),
        dict(data=1, fsdp=2, tensor=4),
    ],
)
@pytest.mark.parametrize("rows", [8, 6])
def test_same_rows_and_gradients(sizes, rows):
    """With rows that the mesh does not divide as well."""
    tokens, weight = TOKENS[:rows], WEIGHT[:rows]
    found, gradient = both(TABLE, tokens, weight)
    np.testing.assert_array_equal(found, TABLE[tokens])
    with jax.set_mesh(mesh.make(sizes)):
        split, other = jax.jit(both)(TABLE, tokens, weight)
    np.testing.assert_array_equal(split, found)
    np.testing.assert_allclose(other, gradient, rtol=1e-6, atol=1e-6)
