"""Names of leaves: 'a/b/c' paths, and which of them carry a leading layer axis."""

import re
from collections.abc import Sequence
from typing import Any

import jax

# Containers whose children are layers; in stacked form no layer number follows (models/stack.py).
_LAYER = re.compile(r"(^|/)(layers|blocks)/(\d+)/")
_STACKED = re.compile(r"(^|/)(layers|blocks)/(?!\d+(/|$))")


def name(key_path: tuple[Any, ...]) -> str:
    """'trainable/llm/head/kernel' for a key path of `jax.tree_util.tree_map_with_path`."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def is_stacked(path: str) -> bool:
    """Whether the leaf at this path has a leading layer axis."""
    return _STACKED.search(path) is not None


def at_layer(path: str, layer: int) -> str:
    """The canonical path of one layer of a stacked leaf."""
    return _STACKED.sub(rf"\g<1>\g<2>/{layer}/", path, count=1)


def canonical(path: str, shape: Sequence[int]) -> list[str]:
    """The paths of a leaf's layers; of a leaf that is not stacked, its own."""
    return [at_layer(path, i) for i in range(shape[0])] if is_stacked(path) else [path]


def stacked(path: str) -> tuple[str, int]:
    """(path in stacked form, layer) of a leaf in canonical form; (path, 0) of any other."""
    if found := _LAYER.search(path):
        return _LAYER.sub(r"\g<1>\g<2>/", path, count=1), int(found[3])
    return path, 0


def collapse(path: str) -> str:
    """The path with layer numbers replaced by '*': one name for the same leaf of every layer."""
    return "/".join("*" if part.isdigit() else part for part in path.split("/"))
