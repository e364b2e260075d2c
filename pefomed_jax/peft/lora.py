"""LoRA: low-rank updates beside frozen kernels (Hu et al., arXiv:2106.09685).

A layer with `kernel [in, out]` gains `lora_a [in, r]` and `lora_b [r, out]`, float32, and computes
y + (alpha / r) · (dropout(x) @ lora_a) @ lora_b. Stacked trees have a leading layer axis.
"""

import dataclasses
import re
import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import paths

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class LoRA:
    """The adapter that `models/layers.py: Linear` calls; leaves without LoRA pass through."""

    alpha: float
    dropout: float = 0.0

    def __call__(
        self,
        module: nn.Module,
        x: Float[Array, "*B D_in"],
        y: Float[Array, "*B D_out"],
        deterministic: bool,
    ) -> Float[Array, "*B D_out"]:
        """y plus the low-rank update of x; both matmuls in the module's compute dtype."""
        if not module.has_variable("params", "lora_a"):
            return y
        x = x.astype(y.dtype)
        a = module.get_variable("params", "lora_a").astype(y.dtype)
        b = module.get_variable("params", "lora_b").astype(y.dtype)
        if self.dropout and not deterministic:
            keep = jax.random.bernoulli(module.make_rng("dropout"), 1 - self.dropout, x.shape)
            x = jnp.where(keep, x / (1 - self.dropout), 0)
        return y + (self.alpha / a.shape[-1]) * ((x @ a) @ b)


def add(params: Tree, targets: str, rank: int, key: Array) -> Tree:
    """Puts `lora_a`, `lora_b` beside the kernel of each module whose path matches `targets`.

    As in peft, lora_a is Kaiming-uniform with a = √5, that is U(-1/√in, 1/√in), and lora_b is zero.
    A leaf's values depend on the key and its path alone, and stacked form holds the same values as
    canonical form. Raises UserError when nothing matches or a matched kernel is no matrix.
    """
    if rank < 1:
        raise UserError(f"config.lora.rank is {rank}; it must be at least 1")
    leaves = flatten_dict(params, sep="/")
    modules = [path.removesuffix("/kernel") for path in leaves if path.endswith("/kernel")]
    matched = [module for module in modules if re.search(targets, module)]
    if not matched:
        linear = [m for m in modules if leaves[f"{m}/kernel"].ndim < 4]
        example = sorted({paths.collapse(module) for module in linear})
        raise UserError(
            f"config.lora.targets: '{targets}' matches no linear layer; "
            f"there are {', '.join(example)}"
        )
    for module in matched:
        leaves |= _pair(module, leaves[f"{module}/kernel"], rank, key)
    return unflatten_dict(leaves, sep="/")


def _pair(module: str, kernel: Any, rank: int, key: Array) -> Tree:
    stacked = paths.is_stacked(module + "/kernel")
    if kernel.ndim != 2 + stacked:
        raise UserError(
            f"config.lora.targets: '{module}' has a kernel of shape {kernel.shape}; "
            "LoRA is for linear layers: narrow the regex"
        )
    *layers, fan_in, fan_out = kernel.shape
    parts = module.split("/")
    name = "/".join(part for part in parts if not part.isdigit())
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    number = int(next((part for part in parts if part.isdigit()), 0))

    def draw(layer: int | Array) -> Array:
        bound = fan_in**-0.5
        own = jax.random.fold_in(key, layer)
        return jax.random.uniform(own, (fan_in, rank), jnp.float32, -bound, bound)

    a = jax.vmap(draw)(jnp.arange(layers[0])) if stacked else draw(number)
    return {
        f"{module}/lora_a": a,
        f"{module}/lora_b": jnp.zeros((*layers, rank, fan_out), jnp.float32),
    }


def merge(params: Tree, alpha: float) -> Tree:
    """The plain tree whose kernels are kernel + (alpha / r) · lora_a @ lora_b.

    Computed in at least float32 and cast back to the kernel's dtype; the LoRA leaves are gone. For
    kernels of float32 or wider: a bfloat16 kernel has 8 significant bits and swallows most of a
    small update.
    """
    leaves = flatten_dict(params, sep="/")
    for path in [path for path in leaves if path.endswith("/lora_a")]:
        module = path.removesuffix("/lora_a")
        a, b = leaves.pop(path), leaves.pop(f"{module}/lora_b")
        kernel = leaves[f"{module}/kernel"]
        wide = jnp.promote_types(kernel.dtype, jnp.float32)
        update = jnp.matmul(a.astype(wide), b.astype(wide), precision="highest")
        merged = kernel.astype(wide) + (alpha / a.shape[-1]) * update
        leaves[f"{module}/kernel"] = merged.astype(kernel.dtype)
    return unflatten_dict(leaves, sep="/")
