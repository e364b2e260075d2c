"""Attention as one function of positions and branches, with the implementation chosen per platform.

Letters: B rows, T queries, S keys, N heads, K key/value heads, G = N/K, H head size.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Bool, Float, Int

from pefomed_jax.models.layers import wide

IMPLEMENTATIONS = ("plain", "xla", "cudnn")


def choose(platform: str, requested: str = "auto", dtype: str = "bfloat16") -> str:
    """The implementation for a platform ('cpu', 'gpu', 'tpu') and a compute dtype.

    'auto' is 'plain' on the CPU, 'xla' on the TPU, and on a GPU 'cudnn' where a small trial works.

    Raises:
      ValueError: `requested` is unknown, or 'cudnn' off the GPU.
    """
    if requested not in ("auto", *IMPLEMENTATIONS):
        raise ValueError(
            f"model.attention '{requested}' is not one of auto, {', '.join(IMPLEMENTATIONS)}"
        )
    if requested == "cudnn" and platform != "gpu":
        raise ValueError(f"model.attention 'cudnn' needs a GPU, this is {platform}: use auto")
    if requested != "auto":
        return requested
    if platform == "cpu":
        return "plain"
    if platform == "gpu" and (reason := _cudnn_fails(dtype)):
        logging.warning("attention: cuDNN is not usable (%s); using XLA", reason)
        return "xla"
    return "cudnn" if platform == "gpu" else "xla"


@functools.cache
def _cudnn_fails(dtype: str) -> str:
    """Why a masked cuDNN attention cannot run and differentiate here; empty when it can."""
    x = jnp.ones((1, 64, 2, 64), dtype)
    mask = jnp.ones((1, 1, 64, 64), bool)

    def total(x: Array) -> Array:
        return jax.nn.dot_product_attention(x, x, x, mask=mask, implementation="cudnn").sum()

    try:
        jax.block_until_ready(jax.jit(jax.grad(total))(x))
    except Exception as error:  # whatever a driver, a library or a compiler raises
        return (str(error).splitlines() or [type(error).__name__])[0]
    return ""


def visible(
    q_positions: Int[Array, "B T"],
    k_positions: Int[Array, "B S"],
    q_branch: Int[Array, "B T"],
    k_branch: Int[Array, "B S"],
) -> Bool[Array, "B T S"]:
    """Which key each query sees: not a later one, of its own branch or of the prefix (branch 0).

    Padding (branch -1) sees padding only, itself included, so no query is without a key.
    """
    q_branch, k_branch = q_branch[:, :, None], k_branch[:, None, :]
    own = k_branch == q_branch
    prefix = (k_branch == 0) & (q_branch >= 0)
    return (k_positions[:, None, :] <= q_positions[:, :, None]) & (own | prefix)


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    q_positions: Int[Array, "B T"],
    k_positions: Int[Array, "B S"],
    q_branch: Int[Array, "B T"],
    k_branch: Int[Array, "B S"],
    implementation: str = "plain",
    causal: bool = False,
) -> Float[Array, "B T N H"]:
    """Scaled dot-product attention under the rule of `visible`.

    `causal` promises rows of one branch in order, padded on the right, with T = S: no mask is built
    then, and what padding sees is without meaning.
    """
    if causal and implementation != "plain":
        return _library(q, k, v, None, True, implementation)
    mask = visible(q_positions, k_positions, q_branch, k_branch)
    if implementation == "plain":
        return _plain(q, k, v, mask)
    return _library(q, k, v, mask, False, implementation)


def attend_cached(
    q: Float[Array, "B T N H"],
    segments: Sequence[tuple[Float[Array, "_ K _ H"], Float[Array, "_ K H _"]]],
    places: Sequence[tuple[Int[Array, "_ _"], Int[Array, "_ _"]]],
    q_positions: Int[Array, "B T"],
    q_branch: Int[Array, "B T"],
) -> Float[Array, "B T N H"]:
    """`attend` over the segments of a cache, which are not joined: that would copy them.

    `places` are the positions and branches of their slots. A segment has B rows, or B·T: then each
    query sees a row of its own. For decoding; nothing differentiates it.
    """
    b, t, n, h = q.shape
    dtype = wide(q.dtype)
    q = (q * h**-0.5).reshape(b, t, segments[0][0].shape[1], -1, h)

    def score(k: Array, positions: Array, branch: Array) -> Array:
        rows = len(k)
        asked = q.reshape(rows, -1, *q.shape[2:])
        at, of = (x.reshape(rows, -1) for x in (q_positions, q_branch))
        mask = visible(at, positions, of, branch)[:, None, None]
        s = jnp.einsum("btkgh,bksh->bkgts", asked, k.astype(q.dtype), preferred_element_type=dtype)
        return jnp.where(mask, s, jnp.finfo(dtype).min)

    scores = [_joined(score(k, *place), b) for (k, _), place in zip(segments, places, strict=True)]
    edges = np.cumsum([k.shape[2] for k, _ in segments])[:-1]
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(q.dtype)
    parts = zip(jnp.split(weights, edges, axis=-1), segments, strict=True)
    out = sum(
        jnp.einsum(
            "bkgts,bkhs->btkgh", _apart(w, len(v)), v.astype(q.dtype), preferred_element_type=dtype
        ).reshape(q.shape)
        for w, (_, v) in parts
    )
    return out.astype(q.dtype).reshape(b, t, n, h)


def _joined(scores: Float[Array, "rows K G A S"], b: int) -> Float[Array, "B K G T S"]:
    """Scores of rows with one query each as those of B rows with T queries."""
    if len(scores) == b:
        return scores
    return jnp.moveaxis(
        scores[:, :, :, 0].reshape(b, -1, *scores.shape[1:3], scores.shape[4]), 1, 3
    )


def _apart(weights: Float[Array, "B K G T S"], rows: int) -> Float[Array, "rows K G A S"]:
    """The other way round."""
    if len(weights) == rows:
        return weights
    parts = jnp.moveaxis(weights, 3, 1)
    return parts.reshape(rows, *parts.shape[2:4], 1, parts.shape[4])


def attend_all(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T N H"],
    v: Float[Array, "B T N H"],
    implementation: str = "plain",
) -> Float[Array, "B T N H"]:
    """Attention in which every query sees every key (the vision tower)."""
    if implementation == "plain":
        return _plain(q, k, v, None)
    return _library(q, k, v, None, False, implementation)


@jax.custom_vjp
def _plain(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Bool[Array, "B T S"] | None,
) -> Float[Array, "B T N H"]:
    """Attention written out; its own backward pass saves a CPU half the passes over [T, S].

    The sum over keys of weight times its gradient is that of output times its gradient over H, and
    the rows' sums divide what has no S.
    """
    return _plain_forward(q, k, v, mask)[0]


def _plain_forward(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Bool[Array, "B T S"] | None,
) -> tuple[Float[Array, "B T N H"], tuple[Array, ...]]:
    b, t, n, h = q.shape
    dtype = wide(q.dtype)
    q = (q * h**-0.5).reshape(b, t, k.shape[2], -1, h)
    scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=dtype)
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(dtype).min)
    powers = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = jnp.einsum("bkgts->btkg", powers)[..., None]
    powers = powers.astype(v.dtype)
    out = jnp.einsum("bkgts,bskh->btkgh", powers, v, preferred_element_type=dtype) / total
    out = out.astype(v.dtype)
    return out.reshape(b, t, n, h), (q, k, v, powers, total, out)


def _plain_backward(kept: tuple[Array, ...], d_out: Float[Array, "B T N H"]) -> tuple[Any, ...]:
    q, k, v, powers, total, out = kept
    dtype = wide(q.dtype)
    d_out = (d_out.reshape(out.shape) / total).astype(v.dtype)
    # a product with ones: a plain sum XLA adds up one by one on a CPU
    own = jnp.einsum("btkgh,h->bkgt", d_out.astype(dtype) * out, jnp.ones(out.shape[-1], dtype))
    own = own[..., None]
    d_v = jnp.einsum("bkgts,btkgh->bskh", powers, d_out)
    d_scores = jnp.einsum("btkgh,bskh->bkgts", d_out, v, preferred_element_type=dtype)
    d_scores = (powers * (d_scores - own)).astype(v.dtype)
    d_q = jnp.einsum("bkgts,bskh->btkgh", d_scores, k) * q.shape[-1] ** -0.5
    d_k = jnp.einsum("bkgts,btkgh->bskh", d_scores, q)
    return d_q.reshape(*d_q.shape[:2], -1, d_q.shape[-1]), d_k, d_v, None


_plain.defvjp(_plain_forward, _plain_backward)


def _library(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Bool[Array, "B T S"] | None,
    causal: bool,
    implementation: str,
) -> Float[Array, "B T N H"]:
    # cuDNN wants even lengths beside a mask, and gains nothing on a single query
    odd = mask is not None and (q.shape[1] % 2 or k.shape[1] % 2)
    if odd or q.shape[1] == 1:
        implementation = "xla"
    if mask is not None:
        mask = mask[:, None]
    return jax.nn.dot_product_attention(
        q, k, v, mask=mask, is_causal=causal, implementation=implementation
    )
