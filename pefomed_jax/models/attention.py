"""Attention as one function of positions and branches, with the implementation chosen per platform.

Letters: B rows, T queries, S keys, N heads, K key/value heads, G = N/K, H head size.
"""

import functools

import jax
import jax.numpy as jnp
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


def _plain(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    mask: Bool[Array, "B T S"] | None,
) -> Float[Array, "B T N H"]:
    b, t, n, h = q.shape
    q = (q * h**-0.5).reshape(b, t, k.shape[2], -1, h)
    scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=wide(q.dtype))
    if mask is not None:
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskh->btkgh", weights, v).reshape(b, t, n, h)


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
