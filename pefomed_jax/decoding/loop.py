"""Greedy decoding and sampling: one token of every lane a step until all have ended.

Letters: B rows, n lanes, R = B·n answers at a time, M new tokens at most, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import io_callback
from jaxtyping import Array, Bool, Float, Int

from pefomed_jax.batch import Batch
from pefomed_jax.decoding import prompt as prompts
from pefomed_jax.decoding.choose import Seen, adjust, choose, keys_at, log_prob, mark
from pefomed_jax.decoding.options import Options
from pefomed_jax.models.cache import Cache

Stream = Callable[[Any, Any], None]  # (tokens int32 [R], ended bool [R]) of each step


class _State(NamedTuple):
    cache: Cache
    logits: Array  # [R, V], of the next token
    tokens: Array  # int32 [R, M], what was chosen so far
    log_probs: Array  # float32 [R], of all chosen
    seen: Seen
    done: Array  # bool [R]
    count: Array  # int32 scalar, tokens chosen so far


def run(
    model: Any,
    params: Any,
    batch: Batch,
    options: Options,
    lanes: int,
    key: Array | None,
    stream: Stream | None,
) -> tuple[Int[Array, "R M"], Float[Array, " R"]]:
    """The chosen tokens, `options.fill` after an end, and the sum of their log-probabilities."""
    apply = prompts.applier(model, params)
    prompt = prompts.prefill(model, params, batch, lanes)
    shape = prompt.branch.shape

    def pick(s: _State) -> _State:
        scores = adjust(s.logits, s.seen, s.count, options)
        token = choose(scores, options, keys_at(key, s.count))
        token = jnp.where(s.done, options.fill, token)
        log_probs = s.log_probs + jnp.where(s.done, 0.0, log_prob(s.logits, token))
        done = s.done | ends(token, options)
        if stream is not None:
            io_callback(stream, None, token, done, ordered=True)
        tokens = jax.lax.dynamic_update_slice(s.tokens, token[:, None], (0, s.count))
        seen = mark(s.seen, token)
        return s._replace(
            tokens=tokens, log_probs=log_probs, seen=seen, done=done, count=s.count + 1
        )

    def step(s: _State) -> _State:
        token = jax.lax.dynamic_index_in_dim(s.tokens, s.count - 1, 1, False)
        position = prompt.position + s.count - 1
        logits, cache = prompts.feed(apply, token.reshape(shape), position, prompt.branch, s.cache)
        return pick(s._replace(cache=cache, logits=logits.reshape(s.logits.shape)))

    going = lambda s: (s.count < options.max_new_tokens) & ~jnp.all(s.done)  # noqa: E731
    last = jax.lax.while_loop(going, step, pick(_start(model, params, batch, prompt, options)))
    return last.tokens, last.log_probs


def _start(
    model: Any, params: Any, batch: Batch, prompt: prompts.Prompt, options: Options
) -> _State:
    logits = prompt.logits.reshape(-1, prompt.logits.shape[-1])
    rows, penalised = len(logits), options.repetition_penalty != 1
    return _State(
        cache=prompts.follow(model, params, prompt, options.max_new_tokens),
        logits=logits,
        tokens=jnp.full((rows, options.max_new_tokens), options.fill, jnp.int32),
        log_probs=jnp.zeros(rows, jnp.float32),
        seen=prompts.seen(batch, prompt, logits.shape[1]) if penalised else None,
        done=prompt.branch.reshape(-1) < 0,
        count=jnp.zeros((), jnp.int32),
    )


def ends(token: Int[Array, "*any"], options: Options) -> Bool[Array, "*any"]:
    """Whether a token is one of those that end an answer."""
    return jnp.isin(token, jnp.array(options.eos, jnp.int32))
