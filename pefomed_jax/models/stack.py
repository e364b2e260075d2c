"""Layers in two forms: canonical (one subtree per layer) and stacked (a leading layer axis).

The canonical form is applied by a Python loop over separate arrays, the stacked one by `lax.scan`.
Both give a layer its number, from which it draws the same dropout masks in either form (where all
tokens go through it: the last of a loop may be asked for some only).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Tree = Mapping[str, Any]
# (parameters, x, state, layer number) -> (x, state); the number is a Python one in the loop
Layer = Callable[[Any, Array, Any, Any], tuple[Array, Any]]

GROUPS = (("vision", "blocks"), ("llm", "layers"))
REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def is_stacked(layers: Tree) -> bool:
    """Whether the subtree of one tower's layers is in stacked form."""
    return "0" not in layers


def apply_layers(
    layer: Layer, params: Tree, x: Float[Array, "B T D"], state: Any = None, remat: str = "none"
) -> tuple[Float[Array, "B _ D"], Any]:
    """Applies all layers in order; `state` (a tuple over layers, or stacked, or None) goes along.

    Where they are looped over, the last may return fewer tokens.

    Raises:
      ValueError: the name of the remat policy is unknown.
    """
    if not is_stacked(params):
        layer = _remat(layer, remat, prevent_cse=True, static_argnums=(3,))
        out = []
        for i in range(len(params)):
            x, new = layer(params[str(i)], x, None if state is None else state[i], i)
            out.append(new)
        return x, None if state is None else tuple(out)
    layer = _remat(layer, remat, prevent_cse=False)
    depth = jax.tree.leaves(params)[0].shape[0]
    return jax.lax.scan(
        lambda x, each: layer(each[0], x, each[1], each[2]), x, (params, state, jnp.arange(depth))
    )


def _remat(layer: Layer, name: str, **options: Any) -> Layer:
    if name == "none":
        return layer
    if name not in REMAT:
        raise ValueError(f"model.remat '{name}' is not one of none, {', '.join(REMAT)}")
    return jax.checkpoint(layer, policy=REMAT[name], **options)


def init_layers(init: Callable[[Array], Any], depth: int, key: Array, stacked: bool) -> Any:
    """Fresh parameters of `depth` layers, of the same values in either form."""
    # one draw for all layers even where they are taken apart: it compiles once, not for every layer
    layers = jax.vmap(lambda i: init(jax.random.fold_in(key, i)))(jnp.arange(depth))
    return layers if stacked else _unstack(layers)


def stack(params: Tree) -> dict[str, Any]:
    """Canonical → stacked, for whichever layer groups are there.

    Leaves may be NumPy arrays, jax arrays or ShapeDtypeStructs (whose sharding is dropped). A tree
    that is stacked already comes back unchanged.

    Raises:
      ValueError: the layers of a group do not hold the same leaves.
    """
    return _map_groups(params, lambda layers: layers if is_stacked(layers) else _stack(layers))


def unstack(params: Tree) -> dict[str, Any]:
    """Stacked → canonical; a tree that is canonical already comes back unchanged."""
    return _map_groups(params, lambda layers: _unstack(layers) if is_stacked(layers) else layers)


def _map_groups(params: Tree, change: Callable[[Tree], Tree]) -> dict[str, Any]:
    out = dict(params)
    for tower, group in GROUPS:
        if layers := out.get(tower, {}).get(group):
            try:
                out[tower] = {**out[tower], group: change(layers)}
            except ValueError as error:
                raise ValueError(f"{tower}/{group}: {error}") from error
    return out


def _stack(layers: Tree) -> Any:
    trees = [layers[str(i)] for i in range(len(layers))]
    first = jax.tree.structure(trees[0])
    for i, tree in enumerate(trees):
        if jax.tree.structure(tree) != first:
            raise ValueError(
                f"layer {i} has other parameters than layer 0, so they cannot be stacked; "
                "set model.scan=False"
            )
    return jax.tree.map(_join, *trees)


def _join(*leaves: Any) -> Any:
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(leaves), *leaves[0].shape), leaves[0].dtype)
    return np.stack(leaves) if isinstance(leaves[0], np.ndarray) else jnp.stack(leaves)


def _unstack(layers: Tree) -> dict[str, Any]:
    depth = jax.tree.leaves(layers)[0].shape[0]
    return {str(i): jax.tree.map(lambda leaf, i=i: _pick(leaf, i), layers) for i in range(depth)}


def _pick(leaf: Any, i: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return leaf[i]
