"""Where each leaf lives on the mesh: (regex, axes) rules over tree paths.

`fsdp` splits for storage (gathered at use), `tensor` splits the computation: the first product of
a pair by columns, the second by rows, so that a pair costs one sum (Shoeybi et al.,
arXiv:1909.08053).
"""

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pefomed_jax.parallel import paths

ROWS = ("data", "fsdp")  # how rows of a batch are split

# Axes of one layer's leaf; in stacked form the layer axis comes first and is never split.
RULES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    (r"(q|k|v|qkv|gate|up|gate_up)_proj/kernel$", ("fsdp", "tensor")),
    (r"(o|down)_proj/kernel$", ("tensor", "fsdp")),
    (r"fc1/kernel$", ("fsdp", "tensor")),
    (r"fc1/bias$", ("tensor",)),
    (r"fc2/kernel$", ("tensor", "fsdp")),
    # Column shards of a fused qkv would cut across q, k and v: split by rows, for storage.
    (r"attn/qkv/kernel$", (("fsdp", "tensor"), None)),
    (r"attn/proj/kernel$", (None, ("fsdp", "tensor"))),
    (r"patch_embed/kernel$", (None, None, None, "fsdp")),
    # By width, as models/lookup.py wants it.
    (r"embed/embedding$", (None, ("tensor", "fsdp"))),
    (r"head/kernel$", ("fsdp", "tensor")),
    (r"(^|/)connector/.*kernel$", ("fsdp", "tensor")),
    (r"(norm\d?|ln_vision)/(scale|bias)$|(bias|cls_token|pos_embed)$", ()),
)
FALLBACK_BYTES = 2**20  # a leaf of no rule is split over fsdp from this size on


def spec(path: str, shape: tuple[int, ...], itemsize: int, mesh: Mesh) -> PartitionSpec:
    """The axes of the leaf at this path; a dimension that its axes do not divide is not split.

    Nor is another one instead: the partitioner would then compute where the weights are, for the
    rows of all devices. A LoRA leaf takes the kernel's axis on the side where it meets it, and
    `fsdp` after that; its rank is not split.
    """
    axes = _axes(path)
    if axes is None:
        axes = _fallback(shape, itemsize, mesh)
    elif paths.is_stacked(path):
        axes = (None, *axes)
    axes = (*axes, *[None] * (len(shape) - len(axes)))
    fitted = [_fit(axis, size, mesh) for axis, size in zip(axes, shape, strict=True)]
    return PartitionSpec(*fitted)


def _axes(path: str) -> tuple[Any, ...] | None:
    side = {"lora_a": 0, "lora_b": 1}.get(path.rsplit("/", 1)[-1])
    kernel = path if side is None else path.rsplit("/", 1)[0] + "/kernel"
    for pattern, axes in RULES:
        if re.search(pattern, kernel):
            if side is None:
                return axes
            own = _with_fsdp(axes[side])
            return (own, None) if side == 0 else (None, own)
    return None


def _with_fsdp(axis: str | tuple[str, ...] | None) -> tuple[str, ...]:
    names = (axis,) if isinstance(axis, str) else tuple(axis or ())
    return names if "fsdp" in names else (*names, "fsdp")


def _fallback(shape: tuple[int, ...], itemsize: int, mesh: Mesh) -> tuple[Any, ...]:
    fits = [i for i, size in enumerate(shape) if size % mesh.shape["fsdp"] == 0]
    if math.prod(shape) * itemsize < FALLBACK_BYTES or not fits:
        return ()
    largest = max(fits, key=lambda i: shape[i])
    return tuple("fsdp" if i == largest else None for i in range(len(shape)))


def _fit(axis: str | tuple[str, ...] | None, size: int, mesh: Mesh) -> Any:
    """The axis, or of several the leading ones, whose devices divide the dimension."""
    names = (axis,) if isinstance(axis, str) else tuple(axis or ())
    while names and size % math.prod(mesh.shape[name] for name in names):
        names = names[:-1]
    return names[0] if len(names) == 1 else names or None


def shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every leaf of a tree of arrays or shapes: parameters, state, moments."""

    def one(key_path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        if leaf.ndim == 0:  # a step counter or a random key
            return NamedSharding(mesh, PartitionSpec())
        path = paths.name(key_path)
        return NamedSharding(mesh, spec(path, leaf.shape, leaf.dtype.itemsize, mesh))

    return jax.tree_util.tree_map_with_path(one, tree)


def rows(mesh: Mesh) -> NamedSharding:
    """How every array of a batch is placed: rows over data × fsdp."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def replicated_large(
    tree: Any, placed: Any, min_bytes: int = 16 * FALLBACK_BYTES
) -> list[tuple[str, int]]:
    """(path, bytes) of leaves of at least min_bytes that every device holds in full."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sizes = [(paths.name(p), math.prod(leaf.shape) * leaf.dtype.itemsize) for p, leaf in leaves]
    return [
        (path, size)
        for (path, size), sharding in zip(sizes, jax.tree.leaves(placed), strict=True)
        if size >= min_bytes and sharding.is_fully_replicated
    ]
