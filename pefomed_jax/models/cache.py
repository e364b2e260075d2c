"""The key/value cache of the decoder: written at one slot number for all rows of a batch.

What is complete (a prompt) can become the `past` of a new, small cache: it is then read only, and
a loop that writes token by token never copies it. The new one may have more rows: one for each of
the T lanes (questions, beams) that continue a row of the past; they write one token a step.
Letters: L layers, B rows, T new tokens, S slots, K key/value heads, H head size.
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
    """Keys and values so far, where they stand, the next free slot, and what came before.

    An empty slot has branch -1: by the mask rule no token of a prefix or of a branch sees it.
    Contracted axes lie last, as the product with a single query reads them best.
    """

    k: Leaf  # a tuple of L arrays [B, K, S, H], or one array [L, B, K, S, H] for scanned layers
    v: Leaf  # the same, [B, K, H, S]
    positions: Leaf  # int32 [B, S]
    branch: Leaf  # int32 [B, S]
    index: Leaf  # int32 scalar
    past: "Cache | None" = None

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

        def zeros(*shape: int) -> Any:
            if stacked:
                return jnp.zeros((layers, *shape), dtype)
            return tuple(jnp.zeros(shape, dtype) for _ in range(layers))

        return cls(
            k=zeros(rows, kv_heads, slots, head_size),
            v=zeros(rows, kv_heads, head_size, slots),
            positions=jnp.zeros((rows, slots), jnp.int32),
            branch=jnp.full((rows, slots), -1, jnp.int32),
            index=jnp.zeros((), jnp.int32),
        )

    @property
    def segments(self) -> tuple["Cache", ...]:
        """This cache and all before it, the oldest first."""
        return (*(self.past.segments if self.past else ()), self)

    @property
    def layers(self) -> Any:
        """The (k, v) of all segments, of each layer, in the form in which layers are applied."""
        segments = self.segments
        if not isinstance(self.k, tuple):
            return tuple((s.k, s.v) for s in segments)
        return tuple(tuple((s.k[i], s.v[i]) for s in segments) for i in range(len(self.k)))

    def place(self, positions: Int[Array, "B T"], branch: Int[Array, "B T"]) -> "Cache":
        """Notes where the next T tokens stand; their keys follow from the layers."""
        rows = len(self.positions)
        return self.replace(
            positions=_write(self.positions, positions.reshape(rows, -1), self.index, 1),
            branch=_write(self.branch, branch.reshape(rows, -1), self.index, 1),
        )

    def advance(self, layers: Any, count: int) -> "Cache":
        """The cache with the layers' new (k, v), `count` slots further."""
        k, v = zip(*layers, strict=True) if isinstance(self.k, tuple) else layers
        return self.replace(k=k, v=v, index=self.index + count)

    def reorder(self, rows: Int[Array, " R"]) -> "Cache":
        """Row i becomes what row rows[i] was; what came before stays."""
        axis = 0 if isinstance(self.k, tuple) else 1
        take = lambda x: jnp.take(x, rows, axis=axis)  # noqa: E731
        return self.replace(
            k=jax.tree.map(take, self.k),
            v=jax.tree.map(take, self.v),
            positions=self.positions[rows],
            branch=self.branch[rows],
        )


Segment = tuple[Float[Array, "rows K S H"], Float[Array, "rows K H S"]]


def write(
    segment: Segment, k: Float[Array, "B T K H"], v: Float[Array, "B T K H"], index: Int[Array, ""]
) -> Segment:
    """One layer's (k, v) with T new tokens from slot `index` on; or one in each of B·T rows."""
    keys, values = segment
    k, v = (x.reshape(len(keys), -1, *x.shape[2:]) for x in (k, v))
    return (
        _write(keys, k.transpose(0, 2, 1, 3), index, 2),
        _write(values, v.transpose(0, 2, 3, 1), index, 3),
    )


def read(segment: Segment) -> tuple[Float[Array, "B S K H"], Float[Array, "B S K H"]]:
    """(k, v) of one layer with the tokens in front."""
    keys, values = segment
    return keys.transpose(0, 2, 1, 3), values.transpose(0, 3, 1, 2)


def _write(slots: Array, new: Array, index: Array, axis: int) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(slots, new.astype(slots.dtype), index, axis)
