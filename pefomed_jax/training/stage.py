"""The stage before: what weights.checkpoint hands on to a run."""

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from pefomed_jax.errors import UserError
from pefomed_jax.training import folder as run_folder
from pefomed_jax.training.checkpoint import Checkpoints
from pefomed_jax.training.folder import CHECKPOINTS
from pefomed_jax.weights import trained

Tree = dict[str, Any]


@contextmanager
def opened(
    config: ConfigDict, trainable: Tree, base: str = ""
) -> Iterator[tuple[Checkpoints, int]]:
    """(checkpoints, step) that config.weights.checkpoint names: the best of a run, or its last.

    `trainable`: this run's, arrays or shapes. `base`: its fingerprint; empty: not compared.
    """
    path = pathlib.Path(config.weights.checkpoint).expanduser()
    folder = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    latest = run_folder.latest_step(folder)
    if latest is None:
        raise UserError(f"weights.checkpoint: no checkpoint in {path}; give a run's folder")
    checkpoints = Checkpoints(folder, trainable, base, read_only=True)
    try:
        best = checkpoints.best
        yield checkpoints, latest if best is None else best
    finally:
        checkpoints.close()


def handed_on(config: ConfigDict, first: Tree, abstract: Tree, base: str) -> tuple[Tree, list[str]]:
    """(trainable tree, paths that it has not): leaves the stage before has, else those of `first`.

    `abstract`: shapes with shardings of the tree. Raises UserError where the stages do not fit.
    """
    path = pathlib.Path(config.weights.checkpoint).expanduser()
    if trained.is_foreign(path):
        held = flatten_dict(trained.read(path, abstract, config.lora), sep="/")
    else:
        with opened(config, abstract, base) as (checkpoints, step):
            held = flatten_dict(checkpoints.restore_trainable(abstract, step), sep="/")
    mixed = flatten_dict(first, sep="/") | held
    return unflatten_dict(mixed, sep="/"), sorted(mixed.keys() - held.keys())
