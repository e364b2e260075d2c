"""The key/value cache of the decoder: written at one slot number for all rows of a batch.

Letters: L layers, B rows, S slots, K key/value heads, H head size.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# not jaxtyping: a pytree is rebuilt around specs, bools and shapes too
Leaf = Any


@flax.struct.dataclass
class Cache:
    """Keys and values so far, where they stand, and the next free slot.

    An empty slot has branch -1: by the mask rule no token of a prefix or of a branch sees it.
    """

    k: Leaf  # a tuple of L arrays [B, S, K, H], or one array [L, B, S, K, H] for scanned layers
    v: Leaf
    positions: Leaf  # int32 [B, S]
    branch: Leaf  # int32 [B, S]
    index: Leaf  # int32 scalar

    @classmethod
    def empty(
        cls,
        layers: int,
        rows: int,
        slots: int,
        kv_heads: int,
        head_size: int,
        dtype: Any,
        stacked: bool = False,
    ) -> "Cache":
        """A cache of empty slots; `stacked` when the parameters of the layers are."""
        shape = (rows, slots, kv_heads, head_size)

        def zeros() -> Any:
            if stacked:
                return jnp.zeros((layers, *shape), dtype)
            return tuple(jnp.zeros(shape, dtype) for _ in range(layers))

        return cls(
            k=zeros(),
            v=zeros(),
            positions=jnp.zeros((rows, slots), jnp.int32),
            branch=jnp.full((rows, slots), -1, jnp.int32),
            index=jnp.zeros((), jnp.int32),
        )

    @property
    def layers(self) -> Any:
        """(k, v) of each layer, in the form in which the layers are applied."""
        return (
            tuple(zip(self.k, self.v, strict=True))
            if isinstance(self.k, tuple)
            else (self.k, self.v)
        )

    def place(self, positions: Int[Array, "B T"], branch: Int[Array, "B T"]) -> "Cache":
        """Notes where the next T tokens stand; their keys follow from the layers."""
        return self.replace(
            positions=_write(self.positions, positions, self.index),
            branch=_write(self.branch, branch, self.index),
        )

    def advance(self, layers: Any, count: int) -> "Cache":
        """The cache with the layers' new (k, v), `count` slots further."""
        k, v = zip(*layers, strict=True) if isinstance(self.k, tuple) else layers
        return self.replace(k=k, v=v, index=self.index + count)


def write(
    layer: tuple[Float[Array, "B S K H"], Float[Array, "B S K H"]],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    index: Int[Array, ""],
) -> tuple[Float[Array, "B S K H"], Float[Array, "B S K H"]]:
    """One layer's (k, v) with T new tokens from slot `index` on."""
    return _write(layer[0], k, index), _write(layer[1], v, index)


def _write(slots: Array, new: Array, index: Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(slots, new.astype(slots.dtype), index, axis=1)
