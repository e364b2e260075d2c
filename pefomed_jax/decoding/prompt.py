"""The prompts of a batch: encoded, run once through the decoder, kept for the loop that follows.

A row holds one prompt, or one image and up to `lanes` questions about it: branches 1, 2, … after a
prefix that is computed once. Each question is answered in a lane of its own; a missing one stays
empty. Prompts may be padded on either side: padding has branch -1, which nothing sees.
Letters: B rows, n lanes, R = B·n answers at a time, T tokens, V vocabulary, D width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pefomed_jax.batch import Batch
from pefomed_jax.models import mllm, stack
from pefomed_jax.models.cache import Cache
from pefomed_jax.models.layers import shard_rows

Apply = Callable[..., Any]


class Prompt(NamedTuple):
    """What the loop starts from."""

    logits: Array  # [B, n, V], of each lane's first new token
    cache: Cache  # all prompts
    branch: Array  # int32 [B, n], -1: a missing lane
    position: Array  # int32 [B, n], where the first new token will stand


def applier(model: mllm.MLLM, params: Any) -> Apply:
    """apply(method, *args) of the model with these parameters."""

    def apply(method: str | Callable[..., Any], *args: Any) -> Any:
        return model.apply({"params": params}, *args, method=method)

    return apply


def prefill(model: mllm.MLLM, params: Any, batch: Batch, lanes: int = 1) -> Prompt:
    """Runs the prompts once."""
    apply = applier(model, params)
    cache = empty(model, *batch.tokens.shape, stack.is_stacked(params["llm"]["layers"]))
    x = apply("embed", batch.tokens, batch.image_slot, apply("see", batch))
    branch, last = lanes_of(batch.branch, lanes)
    x, cache = apply("hidden", x, batch.positions, batch.branch, cache, True, last)
    position = jnp.take_along_axis(batch.positions, last, axis=1) + 1
    return Prompt(apply("logits", x), cache, branch, position)


def lanes_of(branch: Int[Array, "B T"], lanes: int) -> tuple[Int[Array, "B n"], Int[Array, "B n"]]:
    """The branch of each lane, -1 where it is missing, and the slot of its last token.

    With one lane that is the branch of a row's last token.
    """
    slots = jnp.arange(branch.shape[1])
    if lanes == 1:
        last = jnp.max(jnp.where(branch >= 0, slots, 0), axis=1, keepdims=True)
        return jnp.take_along_axis(branch, last, axis=1), last
    asked = jnp.broadcast_to(jnp.arange(1, lanes + 1), (len(branch), lanes))
    # a row of a single question may be all prefix
    whole = (jnp.max(branch, axis=1, keepdims=True) == 0) & (asked == 1)
    asked = jnp.where(whole, 0, asked)
    own = branch[:, None, :] == asked[:, :, None]
    last = jnp.max(jnp.where(own, slots, 0), axis=2)
    return jnp.where(own.any(axis=2), asked, -1), last


def empty(model: mllm.MLLM, rows: int, slots: int, stacked: bool) -> Cache:
    """An empty cache whose rows lie where the mesh has those of a batch."""
    cache = mllm.empty_cache(model, rows, slots, stacked)
    shard = jax.vmap(shard_rows) if stacked else shard_rows
    return cache.replace(k=jax.tree.map(shard, cache.k), v=jax.tree.map(shard, cache.v))


def follow(
    model: mllm.MLLM, params: Any, prompt: Prompt, max_new_tokens: int, width: int = 1
) -> Cache:
    """A small cache for the new tokens of every lane (or of its `width` beams), after the prompts.

    It is the one that a loop writes and reorders; the prompts before it are only read.
    """
    rows = prompt.branch.size * width
    slots = max(1, max_new_tokens - 1)  # the last token is not fed
    stacked = stack.is_stacked(params["llm"]["layers"])
    return empty(model, rows, slots, stacked).replace(past=prompt.cache)


def feed(
    apply: Apply,
    tokens: Int[Array, "B n"],
    position: Int[Array, "B n"],
    branch: Int[Array, "B n"],
    cache: Cache,
) -> tuple[Float[Array, "B n V"], Cache]:
    """Scores after one more token of every lane, and the cache with it."""
    x, cache = apply("hidden", apply(_embed_text, tokens), position, branch, cache)
    return apply("logits", x), cache


def _embed_text(model: mllm.MLLM, tokens: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return shard_rows(model.llm.embed(tokens))


def seen(batch: Batch, prompt: Prompt, vocabulary: int) -> Bool[Array, "R V"]:
    """Which tokens stand in the text of each lane's prompt; images have none."""
    text = (batch.branch >= 0) & (batch.image_slot < 0)
    shared = text & (batch.branch == 0)
    own = text[:, None] & (batch.branch[:, None] == prompt.branch[:, :, None])
    marked = (own | shared[:, None]).reshape(-1, batch.tokens.shape[1])
    tokens = jnp.repeat(batch.tokens, prompt.branch.shape[1], axis=0)
    table = jnp.zeros((len(marked), vocabulary), bool)
    return table.at[jnp.arange(len(marked))[:, None], tokens].max(marked)
