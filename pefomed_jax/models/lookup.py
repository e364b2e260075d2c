"""Rows of a table that is split by width over a mesh: the tokens travel, never the table.

Left to itself, the partitioner gathers the whole table, or sums the rows of all devices on every
device, which grows with their number.
Letters: B rows, T tokens, V vocabulary, D width.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

ROW_AXES = ("data", "fsdp")  # mesh axes that share the rows of a batch


def look_up(table: Float[Array, "V D"], tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """table[tokens]; under a mesh that splits B and D evenly, rows stay where their tokens are.

    Every device looks up its part of the width for the rows of all devices along `fsdp`, then each
    hands the others their rows: as many bytes as the result has.
    """
    mesh = jax.sharding.get_abstract_mesh()
    sizes = dict(mesh.shape)
    if not set(sizes) >= {*ROW_AXES, "tensor"} or sizes["fsdp"] * sizes["tensor"] == 1:
        return jnp.take(table, tokens, axis=0)
    even = table.shape[1] % (sizes["fsdp"] * sizes["tensor"]) == 0
    if not even or len(tokens) % (sizes["data"] * sizes["fsdp"]):
        return jnp.take(table, tokens, axis=0)
    return jax.shard_map(
        _part,
        in_specs=(PartitionSpec(None, ("tensor", "fsdp")), PartitionSpec(ROW_AXES)),
        out_specs=PartitionSpec(ROW_AXES, None, "tensor"),
    )(table, tokens)


def _part(table: Float[Array, "V d"], tokens: Int[Array, "b T"]) -> Float[Array, "b T e"]:
    everyone = jax.lax.all_gather(tokens, "fsdp", axis=0, tiled=True)
    found = jnp.take(table, everyone, axis=0)
    return jax.lax.all_to_all(found, "fsdp", split_axis=0, concat_axis=2, tiled=True)
