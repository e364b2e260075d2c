"""Rotary positions (Su et al., 2021). Letters: B rows, T tokens, H head size, half = H / 2."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pefomed_jax.models.layers import wide


def rotary(
    positions: Int[Array, "B T"],
    head_size: int,
    theta: float,
    dtype: Any,
    scaling: Sequence[Any] = (),
) -> tuple[Float[Array, "B T 1 half"], Float[Array, "B T 1 half"]]:
    """cos and sin of position · theta^(-2i/H), i < H/2, in at least float32; see `scaled`."""
    dtype = wide(dtype)
    frequency = theta ** (-jnp.arange(0, head_size, 2, dtype=dtype) / head_size)
    frequency = scaled(frequency, scaling)
    angle = positions[:, :, None, None].astype(dtype) * frequency
    return jnp.cos(angle), jnp.sin(angle)


def scaled(frequency: Float[Array, " half"], scaling: Sequence[Any]) -> Float[Array, " half"]:
    """Frequencies for longer contexts than were trained at first; () leaves them as they are.

    ('linear', factor) divides all. ('llama3', factor, low, high, context) divides waves longer than
    context / low, keeps those shorter than context / high, and goes smoothly between (LLaMA 3.1).

    Raises:
      ValueError: the kind is neither of them.
    """
    if not scaling:
        return frequency
    kind, factor, *rest = scaling
    if kind == "linear":
        return frequency / factor
    if kind != "llama3":
        raise ValueError(f"model.llm.rope_scaling '{kind}' is not linear or llama3")
    low, high, context = rest
    waves = context * frequency / (2 * math.pi)  # turns within the first context
    kept = jnp.clip((waves - low) / (high - low), 0, 1)
    return kept * frequency + (1 - kept) * frequency / factor


def rotate(
    x: Float[Array, "B T heads H"],
    cos: Float[Array, "B T 1 half"],
    sin: Float[Array, "B T 1 half"],
) -> Float[Array, "B T heads H"]:
    """Turns the pairs (i, i + H/2) of every head, as in the Hugging Face weights."""
    a, b = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
