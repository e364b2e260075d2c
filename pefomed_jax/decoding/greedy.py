"""Greedy decoding as one compiled program: encode, prefill once, then a cached loop.

Prompts are padded on the right and stay in a cache of their own; slot t of a second one holds the
t-th new token of every row, so one slot number serves all rows. Rotary positions go on from each
row's own length, and the branch -1 of padding keeps it out of sight.
Letters: B rows, T prompt tokens, M new tokens at most, D width, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from pefomed_jax.batch import Batch
from pefomed_jax.models import fuse, mllm, stack
from pefomed_jax.models.cache import Cache
from pefomed_jax.models.layers import shard_rows
from pefomed_jax.peft import lora

Generate = Callable[[Any, Batch], tuple[Array, Array]]


class _Loop(NamedTuple):
    cache: Cache
    tokens: Array  # int32 [B, M], what was chosen so far
    last: Array  # int32 [B], the token chosen last
    position: Array  # int32 [B], where it stands
    done: Array  # bool [B]
    count: Array  # int32 scalar, tokens chosen so far


def make_generate(model: mllm.MLLM, max_new_tokens: int, eos_id: int) -> Generate:
    """A jitted (params, batch) -> (tokens int32 [B, M], lengths int32 [B]), M = max_new_tokens.

    `lengths` counts the tokens before the end symbol, the rest of a row is `eos_id`. A row that is
    padding only has length 0. An `eos_id` below 0 never ends a row. `params` may be in any form
    and is applied as it is, without a copy; what `prepare` returns suits best. Under a mesh both
    results are replicated.
    """

    def generate(params: Any, batch: Batch) -> tuple[Array, Array]:
        apply = _apply(model, params)
        branch, start = _ends(batch.branch, batch.positions)
        logits, prompt = prefill(model, params, batch)
        stacked = stack.is_stacked(params["llm"]["layers"])
        slots = max(1, max_new_tokens - 1)  # the last token is not fed
        cache = _empty(model, len(start), slots, stacked).replace(past=prompt)
        first = jnp.where(branch < 0, eos_id, _choose(logits))
        tokens = jnp.full((len(first), max_new_tokens), eos_id, jnp.int32).at[:, 0].set(first)
        done = (first == eos_id) | (branch < 0)
        state = _Loop(cache, tokens, first, start, done, jnp.ones((), jnp.int32))

        def body(s: _Loop) -> _Loop:
            chosen, cache = _one(apply, s, branch)
            chosen = jnp.where(s.done, eos_id, chosen)
            tokens = jax.lax.dynamic_update_slice(s.tokens, chosen[:, None], (0, s.count))
            done = s.done | (chosen == eos_id)
            return _Loop(cache, tokens, chosen, s.position + 1, done, s.count + 1)

        going = lambda s: (s.count < max_new_tokens) & ~jnp.all(s.done)  # noqa: E731
        tokens = jax.lax.while_loop(going, body, state).tokens
        lengths = jnp.where(branch < 0, 0, _lengths(tokens, eos_id))
        return _replicated(tokens), _replicated(lengths)

    return jax.jit(generate)


def prepare(params: Any, alpha: float, dtype: Any) -> Any:
    """The training tree as decoding takes it, for a model that computes in `dtype`.

    Where `merges` says so, a second copy of the base: see `merged`; call it once per evaluation.
    Else the tree itself, the same buffers, stacked or not, with its adapters beside the kernels.
    """
    return merged(params, alpha, fused=fuses()) if merges(params, dtype) else params


def merges(params: Any, dtype: Any) -> bool:
    """Whether all is float32 or wider.

    A merged kernel is rounded to its own dtype and to that of the product. In bfloat16 either loses
    every update below 1/512 of its weight, which is most of a trained LoRA.
    """
    dtypes = {jnp.dtype(dtype), *(leaf.dtype for leaf in jax.tree.leaves(params))}
    return all(jnp.finfo(each).bits >= 32 for each in dtypes)


def fuses() -> bool:
    """Not under a mesh with a tensor axis, whose cuts would go across q, k and v once fused."""
    return jax.sharding.get_abstract_mesh().shape.get("tensor", 1) == 1


@functools.partial(jax.jit, static_argnames=("alpha", "fused"))
def merged(params: Any, alpha: float, fused: bool) -> dict[str, Any]:
    """A copy with LoRA merged, layers as separate arrays and, if `fused`, products fused."""
    params = stack.unstack(lora.merge(params, alpha))
    return fuse.fuse(params) if fused else params


def _apply(model: mllm.MLLM, params: Any) -> Callable[..., Any]:
    def apply(method: str | Callable[..., Any], *args: Any) -> Any:
        return model.apply({"params": params}, *args, method=method)

    return apply


def _embed_text(model: mllm.MLLM, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return shard_rows(model.llm.embed(tokens))


def prefill(model: mllm.MLLM, params: Any, batch: Batch) -> tuple[Float[Array, "B V"], Cache]:
    """Logits of the first new token of every row, and the cache with all prompts in it."""
    apply = _apply(model, params)
    cache = _empty(model, *batch.tokens.shape, stack.is_stacked(params["llm"]["layers"]))
    features = apply("encode", batch.images) if batch.features is None else batch.features
    x = apply("embed", batch.tokens, batch.image_slot, apply("connect", features))
    last = jnp.maximum(_count(batch.branch) - 1, 0)[:, None]
    x, cache = apply("hidden", x, batch.positions, batch.branch, cache, True, last)
    return apply("logits", x[:, 0]), cache


def _empty(model: mllm.MLLM, rows: int, slots: int, stacked: bool) -> Cache:
    """An empty cache whose rows lie where the mesh has those of a batch."""
    cache = mllm.empty_cache(model, rows, slots, stacked)
    shard = jax.vmap(shard_rows) if stacked else shard_rows
    return cache.replace(k=jax.tree.map(shard, cache.k), v=jax.tree.map(shard, cache.v))


def _one(
    apply: Callable[..., Any], s: _Loop, branch: Int[Array, " B"]
) -> tuple[Int[Array, " B"], Cache]:
    """Feeds the token chosen last: the next one, and the cache."""
    x = apply(_embed_text, s.last[:, None])
    x, cache = apply("hidden", x, s.position[:, None], branch[:, None], s.cache)
    return _choose(apply("logits", x[:, 0])), cache


def _choose(logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def _count(branch: Int[Array, "B T"]) -> Int[Array, " B"]:
    return jnp.sum(branch >= 0, axis=1)


def _ends(
    branch: Int[Array, "B T"], positions: Int[Array, "B T"]
) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
    """The branch of each row's last token (-1: all padding), and the position after it."""
    last = jnp.maximum(_count(branch) - 1, 0)[:, None]
    branch = jnp.take_along_axis(branch, last, axis=1)[:, 0]
    return branch, jnp.take_along_axis(positions, last, axis=1)[:, 0] + 1


def _lengths(tokens: Int[Array, "B M"], eos_id: int) -> Int[Array, " B"]:
    ended = tokens == eos_id
    return jnp.where(ended.any(axis=1), jnp.argmax(ended, axis=1), tokens.shape[1])


def _replicated(x: Array) -> Array:
    # every process then holds every row
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec())
