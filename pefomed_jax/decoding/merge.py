"""The parameters as decoding takes them: adapters merged into the kernels, products fused."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pefomed_jax.models import fuse, stack
from pefomed_jax.peft import lora


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
