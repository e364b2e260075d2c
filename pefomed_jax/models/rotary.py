"""Rotary positions (Su et al., 2021). Letters: B rows, T tokens, H head size, half = H / 2."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pefomed_jax.models.layers import wide


def rotary(
    positions: Int[Array, "B T"], head_size: int, theta: float, dtype: Any
) -> tuple[Float[Array, "B T 1 half"], Float[Array, "B T 1 half"]]:
    """cos and sin of position · theta^(-2i/H), i < H/2, in at least float32."""
    dtype = wide(dtype)
    frequency = theta ** (-jnp.arange(0, head_size, 2, dtype=dtype) / head_size)
    angle = positions[:, :, None, None].astype(dtype) * frequency
    return jnp.cos(angle), jnp.sin(angle)


def rotate(
    x: Float[Array, "B T heads H"],
    cos: Float[Array, "B T 1 half"],
    sin: Float[Array, "B T 1 half"],
) -> Float[Array, "B T heads H"]:
    """Turns the pairs (i, i + H/2) of every head, as in the Hugging Face weights."""
    a, b = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
