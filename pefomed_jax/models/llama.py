"""The decoder: LLaMA (Touvron et al., 2023) with grouped queries and an optional key/value cache.

Letters: B rows, T tokens, S slots, D width, N heads, K key/value heads, H head size, V vocabulary.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from pefomed_jax.models import cache as kv
from pefomed_jax.models.attention import attend, attend_cached
from pefomed_jax.models.layers import (
    Compute,
    Embedding,
    Linear,
    RMSNorm,
    shard_rows,
    split_heads,
    wide,
)
from pefomed_jax.models.rotary import rotary, rotate
from pefomed_jax.models.stack import Tree, apply_layers, init_layers, is_stacked


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes and constants of the decoder."""

    vocab_size: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    mlp_dim: int
    norm_eps: float
    rope_theta: float
    tie_embeddings: bool
    rope_scaling: tuple[Any, ...] = ()  # as `rotary.scaled` takes it

    @property
    def head_size(self) -> int:
        return self.width // self.heads


class Place(NamedTuple):
    """Where queries and keys stand; the same for all layers."""

    cos: Any  # [B, T, 1, H/2]
    sin: Any
    positions: Any  # int32 [B, T], of the queries
    branch: Any
    cache: Any  # of all layers; None without one

    def only(self, select: Int[Array, "B A"] | None) -> "Place":
        """Of these tokens alone; None: of all."""
        if select is None:
            return self
        return Place(*(pick(x, select) for x in self[:4]), self.cache)


def pick(x: Shaped[Array, "B T ..."], select: Int[Array, "B A"] | None) -> Shaped[Array, "B A ..."]:
    """x at these tokens of every row; None: as it is."""
    if select is None:
        return x
    return jnp.take_along_axis(x, select.reshape(*select.shape, *[1] * (x.ndim - 2)), axis=1)


class Attention(nn.Module):
    """Grouped-query attention; a fused `qkv_proj` is used where `fuse` has made one.

    Answers for the tokens `select` alone, where it is given; keys come from all.
    """

    config: LlamaConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        place: Place,
        segments: Any,
        deterministic: bool,
        select: Int[Array, "B A"] | None = None,
    ) -> tuple[Float[Array, "B A D"], Any]:
        c = self.config
        q, k, v = self._project(x, deterministic)
        asked = place.only(select)
        q, k = rotate(pick(q, select), asked.cos, asked.sin), rotate(k, place.cos, place.sin)
        if segments is None:
            written, causal = None, self.compute.causal and select is None
            y = self._attend(q, k, v, asked, place, causal)
        else:
            written = kv.write(segments[-1], k, v, place.cache.index)
            y = self._attend_cache(q, asked, (*segments[:-1], written))
        y = y.reshape(*y.shape[:2], c.heads * c.head_size)
        return self.compute.linear(c.width, "o_proj")(y, deterministic), written

    def _attend(self, q: Array, k: Array, v: Array, asked: Place, keys: Any, causal: bool) -> Array:
        where = (asked.positions, keys.positions, asked.branch, keys.branch)
        return attend(q, k, v, *where, self.compute.implementation, causal)

    def _attend_cache(self, q: Array, asked: Place, segments: Any) -> Array:
        caches = asked.cache.segments
        if len(caches) == 1:
            k, v = (slots.astype(q.dtype) for slots in kv.read(segments[0]))
            return self._attend(q, k, v, asked, caches[0], False)
        places = [(c.positions, c.branch) for c in caches]
        return attend_cached(q, segments, places, asked.positions, asked.branch)

    def _project(self, x: Array, deterministic: bool) -> tuple[Array, Array, Array]:
        c, linear = self.config, self.compute.linear
        n, k = c.heads * c.head_size, c.kv_heads * c.head_size
        if self.has_variable("params", "qkv_proj"):
            y = linear(n + 2 * k, "qkv_proj")(x, deterministic)
            parts = jnp.split(y, (n, n + k), axis=-1)
        else:
            sizes = {"q_proj": n, "k_proj": k, "v_proj": k}
            parts = [linear(size, name)(x, deterministic) for name, size in sizes.items()]
        heads = (c.heads, c.kv_heads, c.kv_heads)
        return tuple(split_heads(y, h) for y, h in zip(parts, heads, strict=True))


class MLP(nn.Module):
    """down(silu(gate x) · up x); a fused `gate_up_proj` is used where `fuse` has made one."""

    config: LlamaConfig
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], deterministic: bool) -> Float[Array, "B T D"]:
        c, linear = self.config, self.compute.linear
        if self.has_variable("params", "gate_up_proj"):
            y = linear(2 * c.mlp_dim, "gate_up_proj")(x, deterministic)
            gate, up = jnp.split(y, 2, axis=-1)
        else:
            gate = linear(c.mlp_dim, "gate_proj")(x, deterministic)
            up = linear(c.mlp_dim, "up_proj")(x, deterministic)
        return linear(c.width, "down_proj")(jax.nn.silu(gate) * up, deterministic)


class Block(nn.Module):
    """x + attn(norm(x)), then x + mlp(norm(x))."""

    config: LlamaConfig
    compute: Compute

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        place: Place,
        segments: Any = None,
        deterministic: bool = True,
        select: Int[Array, "B A"] | None = None,
    ) -> tuple[Float[Array, "B A D"], Any]:
        eps, dtype = self.config.norm_eps, self.compute.param_dtype
        y = RMSNorm(eps, dtype, name="attn_norm")(x)
        attn = Attention(self.config, self.compute, name="attn")
        y, written = attn(y, place, segments, deterministic, select)
        x = pick(x, select) + y
        y = RMSNorm(eps, dtype, name="mlp_norm")(x)
        return x + MLP(self.config, self.compute, name="mlp")(y, deterministic), written


class Llama(nn.Module):
    """Embeddings [B, T, D] → hidden states [B, T, D] after the final norm, and the cache."""

    config: LlamaConfig
    compute: Compute

    def setup(self) -> None:
        c, m = self.config, self.compute
        self.embed = Embedding(c.vocab_size, c.width, m.dtype, m.param_dtype)
        # get_variable: `param` would refuse layers that an adapter has given leaves of its own
        self.layers = (
            self.get_variable("params", "layers")
            if self.has_variable("params", "layers")
            else self.param("layers", self._init_layers)
        )
        self.norm = RMSNorm(c.norm_eps, m.param_dtype)
        if not c.tie_embeddings:
            self.head = Linear(
                c.vocab_size, False, m.dtype, m.param_dtype, m.adapter, out_dtype=wide(m.dtype)
            )

    def _init_layers(self, key: Array) -> dict:
        at = jnp.zeros((1, 2), jnp.int32)
        x = jnp.zeros((1, 2, self.config.width), self.compute.dtype)
        block = Block(self.config, self.compute, parent=None)
        place = self._place(at, at, None)
        return init_layers(
            lambda k: block.init(k, x, place)["params"], self.config.depth, key, self.compute.scan
        )

    def _place(self, positions: Array, branch: Array, cache: kv.Cache | None) -> Place:
        c = self.config
        cos, sin = rotary(positions, c.head_size, c.rope_theta, self.compute.dtype, c.rope_scaling)
        return Place(cos, sin, positions, branch, cache)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        branch: Int[Array, "B T"],
        cache: kv.Cache | None = None,
        deterministic: bool = True,
        select: Int[Array, "B A"] | None = None,
    ) -> tuple[Float[Array, "B A D"], kv.Cache | None]:
        """`select`: the tokens whose states are wanted; the last layer does no more for others
        than their keys and values, where it is an array of its own.
        """
        if cache is not None:
            cache = cache.place(positions, branch)
        place = self._place(positions, branch, cache)
        random = not deterministic and self.has_rng("dropout")
        key = self.make_rng("dropout") if random else None
        block = Block(self.config, self.compute, parent=None)

        stacked = is_stacked(self.layers)

        def layer(params: Tree, x: Array, state: Any, i: int | Array) -> tuple[Array, Any]:
            rngs = {} if key is None else {"dropout": jax.random.fold_in(key, i)}
            wanted = select if not stacked and i == self.config.depth - 1 else None
            args = (shard_rows(x), place, state, deterministic, wanted)
            return block.apply({"params": params}, *args, rngs=rngs)

        x = x.astype(self.compute.dtype)
        state = None if cache is None else cache.layers
        x, state = apply_layers(layer, self.layers, x, state, self.compute.remat)
        if cache is not None:
            cache = cache.advance(state, positions.size // len(cache.positions))
        return self.norm(pick(x, select) if stacked else x), cache

    def logits(
        self, hidden: Float[Array, "*rows D"], deterministic: bool = True
    ) -> Float[Array, "*rows V"]:
        """Hidden states against the vocabulary, in at least float32."""
        if self.config.tie_embeddings:
            return self.embed.logits(hidden)
        return self.head(hidden, deterministic)
