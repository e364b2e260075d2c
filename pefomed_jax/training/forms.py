"""Leaves of one form, canonical or stacked, out of a checkpoint of the other."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from pefomed_jax.parallel import paths

Leaves = dict[str, Any]  # path → array or ShapeDtypeStruct


def saved_as(leaves: Leaves, saved: Collection[str]) -> Leaves:
    """What to read for `leaves` (shapes with shardings), under the paths that `saved` has.

    Of the other form it is read whole onto every device: what trains is small.
    """
    out: Leaves = {}
    depth: dict[str, int] = {}
    for path, leaf in leaves.items():
        stacked, layer = paths.stacked(path)
        if path in saved:
            out[path] = leaf
        elif paths.is_stacked(path):
            out |= {
                place: _whole(leaf, leaf.shape[1:]) for place in paths.canonical(path, leaf.shape)
            }
        else:
            depth[stacked] = max(depth.get(stacked, 0), layer + 1)
            out[stacked] = _whole(leaf, (depth[stacked], *leaf.shape))
    return out


def back(read: Leaves, leaves: Leaves) -> Leaves:
    """`leaves` with the values of what `saved_as` asked for."""
    out = {}
    for path, leaf in leaves.items():
        stacked, layer = paths.stacked(path)
        if path in read:
            out[path] = read[path]
        elif paths.is_stacked(path):
            layers = [read[place] for place in paths.canonical(path, leaf.shape)]
            out[path] = jax.device_put(jnp.stack(layers), leaf.sharding)
        else:
            out[path] = jax.device_put(read[stacked][layer], leaf.sharding)
    return out


def _whole(leaf: jax.ShapeDtypeStruct, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    sharding = leaf.sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)
