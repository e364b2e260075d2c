"""Answers to a batch of prompts as one compiled program: encode, prefill once, a cached loop.

The prompts stay in a cache of their own, which the loop only reads; what it writes is small.
Nothing is left to donate: the loop's state lives and is updated in place inside the program.
Letters: B rows, n lanes, R = B·n answers, M new tokens at most.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from pefomed_jax.batch import Batch
from pefomed_jax.decoding import beam, loop
from pefomed_jax.decoding.options import Options
from pefomed_jax.decoding.prompt import lanes_of
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm


class Answers(NamedTuple):
    """One row per question: the lanes of a batch's first row, of its second, …"""

    tokens: Any  # int32 [R, M]; after an end the rest of a row is `options.fill`
    lengths: Any  # int32 [R], tokens before the end
    log_probs: Any  # float32 [R], natural logarithm of what was chosen, its end included


Generate = Callable[..., Answers]


def make_generate(
    model: mllm.MLLM, options: Options, lanes: int = 1, stream: loop.Stream | None = None
) -> Generate:
    """A jitted (params, batch, key=None) -> Answers; sampling needs a key.

    `key` may be keys [R], one for each answer, which then depends on no other of its batch.
    `params` may be in any form and is applied as it is, without a copy; what `merge.prepare`
    returns suits best. With `lanes` above 1 a row holds up to so many questions about one image, as
    branches 1, 2, …, whose prefix is computed once; a missing question, like a row of padding, has
    length 0. Under a mesh the results are replicated.
    `stream` is called on the host with the tokens of every step and whether they ended an answer,
    in order; on one device, without beams.
    Errors: UserError, when streaming from beams; ValueError, when sampling without a key.
    """
    if stream is not None and options.beams > 1:
        raise UserError("beams have no answer to stream before the end: set beams=1")

    def generate(params: Any, batch: Batch, key: jax.Array | None = None) -> Answers:
        if options.sample and key is None:
            raise ValueError("sampling needs a key: generate(params, batch, key)")
        if options.beams > 1:
            tokens, log_probs = beam.run(model, params, batch, options, lanes)
        else:
            tokens, log_probs = loop.run(model, params, batch, options, lanes, key, stream)
        answers = Answers(tokens, _lengths(tokens, batch, options, lanes), log_probs)
        return jax.tree.map(_replicated, answers)

    return jax.jit(generate)


def _lengths(tokens: jax.Array, batch: Batch, options: Options, lanes: int) -> jax.Array:
    ended = loop.ends(tokens, options)
    lengths = jnp.where(ended.any(axis=1), jnp.argmax(ended, axis=1), tokens.shape[1])
    return jnp.where(lanes_of(batch.branch, lanes)[0].reshape(-1) < 0, 0, lengths)


def _replicated(x: jax.Array) -> jax.Array:
    # every process then holds every row
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec())
