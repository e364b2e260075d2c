"""Fewer and wider products for decoding: q, k, v as one, gate and up as one."""

from typing import Any

import jax.numpy as jnp

from pefomed_jax.models.stack import Tree


def fuse(params: Tree) -> dict[str, Any]:
    """Joins q, k, v and gate, up of every decoder layer, for decoding: fewer and wider products.

    Takes the whole tree of an MLLM, in either form, with adapters merged.

    Raises:
      ValueError: a projection still has adapter leaves.
    """
    layers = params["llm"]["layers"]
    fused = (
        _fuse_layer(layers) if "attn" in layers else {i: _fuse_layer(p) for i, p in layers.items()}
    )
    return {**params, "llm": {**params["llm"], "layers": fused}}


def _fuse_layer(layer: Tree) -> dict[str, Any]:
    attn = _join(layer["attn"], ("q_proj", "k_proj", "v_proj"), "qkv_proj")
    mlp = _join(layer["mlp"], ("gate_proj", "up_proj"), "gate_up_proj")
    return {**layer, "attn": attn, "mlp": mlp}


def _join(tree: Tree, names: tuple[str, ...], new: str) -> dict[str, Any]:
    for name in names:
        if extra := set(tree[name]) - {"kernel"}:
            raise ValueError(
                f"{name} has {', '.join(sorted(extra))}: merge the adapters before fusing"
            )
    kernel = jnp.concatenate([tree[name]["kernel"] for name in names], axis=-1)
    rest = {name: leaf for name, leaf in tree.items() if name not in names}
    return {**rest, new: {"kernel": kernel}}
