"""Scores of the next token, changed as the options ask, and the token chosen from them.

Letters: R answers at a time, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pefomed_jax.decoding.options import Options

Seen = Bool[Array, "R V"] | None  # tokens of the prompt and the answer; None: nobody asks
NEVER = -jnp.inf


def adjust(
    scores: Float[Array, "R V"], seen: Seen, count: Int[Array, ""], options: Options
) -> Float[Array, "R V"]:
    """Repetition penalty, and no end within the first `min_new_tokens`; `count` are chosen so far.

    The penalty divides a positive score and multiplies a negative one (Keskar et al., 2019).
    """
    if seen is not None:
        penalty = options.repetition_penalty
        scores = jnp.where(seen, jnp.where(scores < 0, scores * penalty, scores / penalty), scores)
    if options.min_new_tokens and options.eos:
        early = count < options.min_new_tokens
        ends = scores.at[:, jnp.array(options.eos)].set(NEVER)
        scores = jnp.where(early, ends, scores)
    return scores


def narrow(scores: Float[Array, "R V"], options: Options) -> Float[Array, "R V"]:
    """Temperature, then the `top_k` best, then the fewest that hold `top_p` of the probability.

    Equal scores at an edge of the k best are kept together.
    """
    scores = scores / options.temperature
    if 0 < options.top_k < scores.shape[1]:
        least = jax.lax.top_k(scores, options.top_k)[0][:, -1:]
        scores = jnp.where(scores < least, NEVER, scores)
    if options.top_p < 1:
        scores = jnp.where(_nucleus(scores, options.top_p), scores, NEVER)
    return scores


def _nucleus(scores: Float[Array, "R V"], top_p: float) -> Bool[Array, "R V"]:
    """The tokens that are not in the tail of 1 - top_p; always the best one (Holtzman, 2020)."""
    order = jnp.argsort(scores, axis=-1)
    tail = jnp.cumsum(jax.nn.softmax(jnp.take_along_axis(scores, order, axis=-1), axis=-1), axis=-1)
    kept = (tail > 1 - top_p).at[:, -1].set(True)
    return jnp.put_along_axis(jnp.zeros_like(kept), order, kept, axis=-1, inplace=False)


def choose(scores: Float[Array, "R V"], options: Options, key: Array | None) -> Int[Array, " R"]:
    """The best token of each row, or one drawn, with one key for all rows or one for each."""
    if not options.sample:
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)
    draw = jax.random.categorical
    draw = jax.vmap(draw) if key.ndim else draw
    return draw(key, narrow(scores, options)).astype(jnp.int32)


def keys_at(key: Array | None, count: Int[Array, ""]) -> Array | None:
    """The key, or the keys of the rows, for the token after `count` others."""
    if key is None:
        return None
    fold = jax.random.fold_in
    return jax.vmap(fold, (0, None))(key, count) if key.ndim else fold(key, count)


def log_prob(logits: Float[Array, "R V"], token: Int[Array, " R"]) -> Float[Array, " R"]:
    """The model's own log-probability of a token, whatever was changed to choose it."""
    picked = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0]
    return picked - jax.nn.logsumexp(logits, axis=-1)


def mark(seen: Seen, token: Int[Array, " R"]) -> Seen:
    """`seen` with one more token of each row."""
    return None if seen is None else seen.at[jnp.arange(len(token)), token].set(True)
