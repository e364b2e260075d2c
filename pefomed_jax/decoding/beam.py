"""Beam search: the `beams` likeliest answers so far of every prompt, continued side by side.

The bookkeeping is that of transformers, so that both give the same tokens: of every prompt's
candidates the best few are kept, those that end move to a list of finished ones, and the search
stops when no open beam can beat the worst of those.
Letters: B rows, n lanes, R = B·n prompts, W beams, C candidates, M new tokens at most,
V vocabulary.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pefomed_jax.batch import Batch
from pefomed_jax.decoding import prompt as prompts
from pefomed_jax.decoding.choose import Seen, adjust, mark
from pefomed_jax.decoding.loop import ends
from pefomed_jax.decoding.options import Options
from pefomed_jax.models.cache import Cache

WORST = -1e9  # of what is not to be chosen; finite, as differences of it are taken


class _Beams(NamedTuple):
    """Answers of every prompt, the best first."""

    tokens: Array  # int32 [R, W, M]
    score: Array  # float32 [R, W]; of finished ones, divided by the length penalty
    log_probs: Array  # float32 [R, W], of the model alone
    finished: Array  # bool [R, W]


class _State(NamedTuple):
    cache: Cache  # rows R·W
    logits: Array  # [R·W, V], of the next token
    running: _Beams
    ended: _Beams
    seen: Seen  # [R·W, V]
    open: Array  # bool [R]: a running beam may still beat a finished one
    stuck: Array  # bool scalar: every candidate has ended
    count: Array  # int32 scalar, tokens chosen so far


def run(
    model: Any, params: Any, batch: Batch, options: Options, lanes: int
) -> tuple[Int[Array, "R M"], Float[Array, " R"]]:
    """The best finished answer of every prompt and the sum of its log-probabilities."""
    apply = prompts.applier(model, params)
    prompt = prompts.prefill(model, params, batch, lanes)
    rows, width = len(prompt.branch), options.beams
    beside = lambda x: jnp.repeat(x, width, axis=1)  # noqa: E731
    branch, first = beside(prompt.branch), beside(prompt.position)

    def step(s: _State) -> _State:
        tokens = jax.lax.dynamic_index_in_dim(s.running.tokens, s.count - 1, 2, False)
        logits, cache = prompts.feed(
            apply, tokens.reshape(rows, -1), first + s.count - 1, branch, s.cache
        )
        s = s._replace(cache=cache, logits=logits.reshape(s.logits.shape))
        return _advance(s, options)

    def going(s: _State) -> Bool[Array, ""]:
        full = (options.early_stopping is True) & jnp.all(s.ended.finished)
        return jnp.any(s.open) & ~full & ~s.stuck

    start = _start(model, params, batch, prompt, options)
    last = jax.lax.while_loop(going, step, _advance(start, options))
    return last.ended.tokens[:, 0], last.ended.log_probs[:, 0]


def _start(
    model: Any, params: Any, batch: Batch, prompt: prompts.Prompt, options: Options
) -> _State:
    rows, width = prompt.branch.size, options.beams
    vocabulary = prompt.logits.shape[-1]
    none = _Beams(
        tokens=jnp.full((rows, width, options.max_new_tokens), options.fill, jnp.int32),
        score=jnp.full((rows, width), WORST, jnp.float32),
        log_probs=jnp.zeros((rows, width), jnp.float32),
        finished=jnp.zeros((rows, width), bool),
    )
    penalised = options.repetition_penalty != 1
    seen = prompts.seen(batch, prompt, vocabulary) if penalised else None
    missing = prompt.branch.reshape(-1) < 0
    return _State(
        cache=prompts.follow(model, params, prompt, options.max_new_tokens, width),
        logits=jnp.repeat(prompt.logits.reshape(-1, vocabulary), width, axis=0),
        # all beams are the same at first: only one may be continued
        running=none._replace(score=none.score.at[:, 0].set(0.0)),
        ended=none._replace(finished=none.finished | missing[:, None]),
        seen=None if seen is None else jnp.repeat(seen, width, axis=0),
        open=~missing,
        stuck=jnp.zeros((), bool),
        count=jnp.zeros((), jnp.int32),
    )


def _advance(s: _State, options: Options) -> _State:
    """Chooses the next token of every beam, moves what has ended, and reorders what follows."""
    rows, width = s.running.score.shape
    found, parents = _candidates(s, options)
    hits = ends(found.tokens[:, :, s.count], options) | (s.count + 1 >= options.max_new_tokens)
    waiting = jnp.where(hits, WORST, 0.0) + found.score
    best = jax.lax.top_k(waiting, width)[1]
    running = _take(found._replace(score=waiting), best)
    ended = _finish(s, found, hits, options)
    chosen = jnp.take_along_axis(parents, best, axis=1)
    flat = (chosen + width * jnp.arange(rows)[:, None]).reshape(-1)
    seen = None if s.seen is None else s.seen[flat]
    count = s.count + 1
    token = jax.lax.dynamic_index_in_dim(running.tokens, s.count, 2, False).reshape(-1)
    return s._replace(
        cache=s.cache.reorder(flat),
        running=running,
        ended=ended,
        seen=mark(seen, token),
        open=s.open & _may_improve(running, ended, count, options),
        stuck=jnp.all(hits),
        count=count,
    )


def _candidates(s: _State, options: Options) -> tuple[_Beams, Int[Array, "R C"]]:
    """The best continuations of all beams of a prompt, and the beams they continue.

    So many that W remain open even if every token that ends an answer is among them.
    """
    rows, width = s.running.score.shape
    own = jax.nn.log_softmax(s.logits.astype(jnp.float32), axis=-1)
    scores = adjust(own, s.seen, s.count, options).reshape(rows, width, -1)
    total = (scores + s.running.score[:, :, None]).reshape(rows, -1)
    kept = min(max(2, 1 + len(options.eos)) * width, total.shape[1])
    score, index = jax.lax.top_k(total, kept)
    parents, token = index // scores.shape[2], (index % scores.shape[2]).astype(jnp.int32)
    before = _take(s.running, parents)
    log_probs = before.log_probs + jnp.take_along_axis(own.reshape(rows, -1), index, axis=1)
    tokens = jax.lax.dynamic_update_slice(before.tokens, token[:, :, None], (0, 0, s.count))
    return _Beams(tokens, score, log_probs, before.finished), parents


def _finish(s: _State, found: _Beams, hits: Bool[Array, "R C"], options: Options) -> _Beams:
    """The best W finished answers of those so far and the candidates that have just ended.

    Only the W best candidates may end, and none of a prompt whose search is over.
    """
    width = options.beams
    just = hits & (jnp.arange(hits.shape[1]) < width)
    score = found.score / (s.count + 1.0) ** options.length_penalty
    over = ~s.open
    if options.early_stopping is True:
        over |= jnp.all(s.ended.finished, axis=1)
    score = jnp.where(just & ~over[:, None], score, WORST + score)
    found = found._replace(score=score, finished=just)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), s.ended, found)
    return _take(both, jax.lax.top_k(both.score, width)[1])


def _may_improve(
    running: _Beams, ended: _Beams, count: Int[Array, ""], options: Options
) -> Bool[Array, " R"]:
    """Whether the best running beam could beat the worst finished answer.

    Its score is taken at its present length; with 'never' and a penalty that favours length, at the
    longest one there can be.
    """
    hopeful = options.early_stopping == "never" and options.length_penalty > 0
    length = options.max_new_tokens if hopeful else count
    best = running.score[:, 0] / (length * 1.0) ** options.length_penalty
    worst = jnp.where(ended.finished, ended.score.min(axis=1, keepdims=True), WORST)
    return jnp.any(best[:, None] > worst, axis=1)


def _take(beams: _Beams, index: Int[Array, "R X"]) -> _Beams:
    def pick(x: Array) -> Array:
        return jnp.take_along_axis(x, index.reshape(*index.shape, *[1] * (x.ndim - 2)), axis=1)

    return jax.tree.map(pick, beams)
