"""Small layers of both towers: linear, norms, embedding; how and in which precision they compute.

Letters: D width, V vocabulary, N heads, H head size.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Shaped

from pefomed_jax.models.lookup import ROW_AXES, look_up

# (module, x, y, deterministic) -> y; the module offers its parameters and random streams
Adapter = Callable[[nn.Module, Array, Array, bool], Array]

INIT = nn.initializers.normal(0.02)


def wide(dtype: Any) -> jnp.dtype:
    """float32, or float64 for float64: for norms, softmax, rotary angles and logits."""
    return jnp.promote_types(dtype, jnp.float32)


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a model computes, apart from its size.

    `adapter` meets every linear layer; `scan` is the form in which fresh parameters are made (what
    is applied follows the form of the parameters themselves).
    """

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    implementation: str = "plain"  # of attention
    causal: bool = False  # every row is one causal sequence with padding on the right
    remat: str = "none"
    scan: bool = False
    adapter: Adapter | None = None

    @property
    def small_dtype(self) -> jnp.dtype:
        """Of the tower's norms, query and value biases, class token and positions.

        They stay in float32 over a bf16 base, as in EVA-CLIP's half precision: a few MB.
        """
        return wide(self.param_dtype)

    def linear(self, features: int, name: str | None = None, use_bias: bool = False) -> "Linear":
        return Linear(features, use_bias, self.dtype, self.param_dtype, self.adapter, name=name)


class Linear(nn.Module):
    """y = x kernel (+ bias), then whatever the adapter makes of (x, y).

    Products accumulate and are returned in `out_dtype` (default: `dtype`).
    """

    features: int
    use_bias: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    adapter: Adapter | None = None
    out_dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "*rows inputs"], deterministic: bool = True
    ) -> Float[Array, "*rows {self.features}"]:
        kernel = self.param("kernel", INIT, (x.shape[-1], self.features), self.param_dtype)
        x = x.astype(self.dtype)
        y = jnp.dot(x, kernel.astype(self.dtype), preferred_element_type=self.out_dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + bias.astype(y.dtype)
        if self.adapter is not None:
            y = self.adapter(self, x, y, deterministic)
        return y


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · scale over the last axis, in at least float32, cast back."""

    eps: float
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), self.param_dtype)
        y = x.astype(wide(x.dtype))
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return (y * scale.astype(y.dtype)).astype(x.dtype)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) · scale + bias over the last axis; computed like RMSNorm."""

    eps: float
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), self.param_dtype)
        y = x.astype(wide(x.dtype))
        y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return (y * scale.astype(y.dtype) + bias.astype(y.dtype)).astype(x.dtype)


class Embedding(nn.Module):
    """A table of V token vectors; `logits` uses it again as a tied output head."""

    vocab_size: int
    width: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        shape = (self.vocab_size, self.width)
        self.embedding = self.param("embedding", INIT, shape, self.param_dtype)

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T {self.width}"]:
        return look_up(self.embedding, tokens).astype(self.dtype)

    def logits(
        self, hidden: Float[Array, "*rows {self.width}"]
    ) -> Float[Array, "*rows {self.vocab_size}"]:
        # split by width for the look-up, by vocabulary for the product
        table = shard(self.embedding.astype(self.dtype), "tensor")
        return jnp.einsum(
            "...d,vd->...v",
            hidden.astype(self.dtype),
            table,
            preferred_element_type=wide(self.dtype),
        )


def split_heads(x: Float[Array, "B T width"], heads: int) -> Float[Array, "B T {heads} H"]:
    """Cuts the last axis into heads."""
    return x.reshape(*x.shape[:-1], heads, -1)


def shard_rows(x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Spreads axis 0 over the axes `data`, `fsdp` of the mesh that is set; else x as it is."""
    return shard(x, ROW_AXES)


def shard(x: Shaped[Array, "B ..."], axes: str | tuple[str, ...]) -> Shaped[Array, "B ..."]:
    """Spreads axis 0 over these axes of the mesh that is set, the rest over none; else as it is."""
    names = {axes} if isinstance(axes, str) else set(axes)
    if not names <= set(jax.sharding.get_abstract_mesh().axis_names):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(axes))
