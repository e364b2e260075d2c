"""The rows of a batch over processes: which are made here, and how they are put together.

A mesh may lie over the devices in any order, and may split the computation of a row over several
processes; so the rows are asked of the sharding itself.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from pefomed_jax.parallel import rules


def mine(mesh: Mesh, size: int) -> tuple[int, ...]:
    """The rows, in order, of a global batch of `size` that this process's devices hold."""
    return tuple(sorted({i for part in _parts(mesh, size) for i in range(*part)}))


def cut(tree: Any, mesh: Mesh) -> Any:
    """Of a whole batch on the host, the rows that `place` wants of this process."""
    return jax.tree.map(lambda x: x[list(mine(mesh, len(x)))], tree)


def place(tree: Any, mesh: Mesh | None) -> Any:
    """A batch on the devices, each process bringing the rows that `mine` names, in that order."""
    if mesh is None:
        return tree
    sharding = rules.rows(mesh)
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    here = len(set(_parts(mesh, shards)))

    def one(own: Any) -> jax.Array:
        own = np.asarray(own)
        size = len(own) // here * shards
        at = {row: i for i, row in enumerate(mine(mesh, size))}

        def part(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[0].indices(size)
            return own[at[start] : at[start] + stop - start]

        return jax.make_array_from_callback((size, *own.shape[1:]), sharding, part)

    return jax.tree.map(one, tree)


def whole(tree: Any) -> Any:
    """The arrays of a tree in full, on the host of every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)


def here(tree: Any) -> Any:
    """The arrays of a tree in full, on one device of each process. All processes must ask."""
    everywhere = jax.sharding.PartitionSpec()

    def one(leaf: jax.Array) -> jax.Array:
        sharding = jax.sharding.NamedSharding(leaf.sharding.mesh, everywhere)
        return jax.device_put(leaf, sharding).addressable_data(0)

    return jax.tree.map(one, tree)


def _parts(mesh: Mesh, size: int) -> list[tuple[int, int]]:
    """(first row, row behind the last) on each of this process's devices."""
    indices = rules.rows(mesh).addressable_devices_indices_map((size,)).values()
    return [index[0].indices(size)[:2] for index in indices]
