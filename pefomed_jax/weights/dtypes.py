"""The dtypes of the files that weights come from, in which an export gives them back."""

import pathlib
from collections import Counter

import numpy as np
from ml_collections import ConfigDict

from pefomed_jax.weights import files, hub, names

Dtypes = dict[str, np.dtype]  # a tensor's foreign name without `names.TOWER` → its dtype


def of_files(weights: ConfigDict) -> Dtypes:
    """Of every tensor in the files of `weights.llm` and `weights.vision`; {} without such files."""
    tensors: files.Tensors = {}
    if weights.llm:
        tensors |= files.open_folder(hub.folder(weights.llm))
    if weights.vision:
        tensors |= files.open_file(pathlib.Path(weights.vision).expanduser())
    return {key.removeprefix(names.TOWER): np.dtype(t.dtype) for key, t in tensors.items()}


def of(own: Dtypes, foreign: str, other: np.dtype | None) -> np.dtype | None:
    """A tensor's dtype in its file, or `other`."""
    return own.get(foreign.removeprefix(names.TOWER), other)


def holding(own: Dtypes, other: str) -> str:
    """A `model.base_dtype` in which nothing of the files is lost; `other` without files."""
    kinds = {dtype.name for dtype in own.values() if dtype.kind not in "iu"}
    if not kinds:
        return other
    return kinds.pop() if len(kinds) == 1 else "float32"


def commonest(own: Dtypes, decoder: bool, other: str) -> str:
    """What most tensors of the decoder (or of the rest) are; `other` where there are none."""
    kinds = Counter(d.name for key, d in own.items() if key.startswith("model.") == decoder)
    return kinds.most_common(1)[0][0] if kinds else other
