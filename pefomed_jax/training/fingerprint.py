"""Which frozen base a checkpoint belongs to, as a number over all of its values."""

import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from pefomed_jax.parallel import paths


def fingerprint(frozen: Any) -> str:
    """64 hex digits over paths, shapes, dtypes and contents.

    Contents enter through position-weighted sums modulo 2³², computed where the shards are; integer
    sums do not depend on their order, so every mesh gives the same digits. Stacked layers count one
    by one, so both forms of a model give the same digits.
    """
    leaves = jax.tree_util.tree_leaves_with_path(frozen)
    named = [(paths.name(path), leaf) for path, leaf in leaves]
    # one at a time: many programs with sums over shards, started at once, can starve a small CPU
    sums = [jax.device_get(_digest(leaf, paths.is_stacked(name))) for name, leaf in named]
    lines = []
    for (name, leaf), digests in zip(named, sums, strict=True):
        shape = tuple(leaf.shape)[paths.is_stacked(name) :]
        for place, digest in zip(paths.canonical(name, leaf.shape), digests, strict=True):
            lines.append(f"{place} {leaf.dtype} {shape} {digest[0]} {digest[1]}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@functools.partial(jax.jit, static_argnums=1)
def _digest(leaf: Array, stacked: bool) -> UInt32[Array, "layers 2"]:
    return jax.vmap(_sums)(leaf) if stacked else _sums(leaf)[None]


def _sums(leaf: Array) -> UInt32[Array, "2"]:
    bits = _bits(leaf)
    index = jnp.zeros((), jnp.uint32)
    for axis in range(bits.ndim):
        # Built axis by axis: flattening a sharded leaf would gather it.
        here = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        index = index * jnp.uint32(bits.shape[axis]) + here
    return jnp.stack(
        [
            jnp.sum(bits * (_mix(index * jnp.uint32(2) + jnp.uint32(salt)) | 1), dtype=jnp.uint32)
            for salt in (0, 1)
        ]
    )


def _bits(leaf: Array) -> UInt32[Array, "..."]:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf.astype(jnp.uint32)
    if leaf.dtype.itemsize == 8:  # a last axis of two words
        return jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The finaliser of MurmurHash3: neighbouring positions get unrelated weights."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
