"""What to change in a run that does not fit: flags tried in order, by compiling with them.

What costs least comes first: recomputing, smaller micro-batches, weights split over the devices;
then what changes the numbers or the data.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pefomed_jax.errors import UserError
from pefomed_jax.peft.masks import FROZEN
from pefomed_jax.training.setup import Setup

Changes = dict[str, Any]  # {'model.remat': 'full'}
ROOM = 0.98  # of the limit: what held alone must stay below for a compilation to be worth it


@dataclasses.dataclass(frozen=True)
class Advice:
    """Flags with which the run fits, and what it then takes; without flags: nothing helped."""

    flags: tuple[str, ...]
    bytes: float  # on one device, of the larger program; or the least that was reached

    def __str__(self) -> str:
        size = f"{self.bytes / 2**30:.2f} GiB"
        if not self.flags:
            return f"nothing of what was tried is enough ({size} at least): take more devices"
        return f"it fits with {' '.join(self.flags)} ({size})"


def moves(pieces: Setup) -> Iterator[Changes]:
    """What could be changed in this config, in the order in which it is tried."""
    config, mesh = pieces.config, pieces.mesh
    later = ("none", "dots", "full")
    for remat in later[later.index(config.model.remat) + 1 :]:
        yield {"model.remat": remat}
    shards, accumulate = _shards(mesh), config.train.accumulate
    rows = config.train.batch_size // (shards * accumulate)  # of a micro-batch, on one device
    if rows > 1 and rows % 2 == 0:
        yield {"train.accumulate": accumulate * 2}
    if rows > 2 or rows % 2:
        yield {"train.accumulate": accumulate * rows} if rows > 1 else {}
    if mesh.shape["data"] > 1:
        yield {"mesh.data": 1, "mesh.fsdp": -1}
    if mesh.size > 1 and not config.model.llm.heads % (2 * mesh.shape["tensor"]):
        yield {"mesh.data": 1, "mesh.fsdp": -1, "mesh.tensor": 2 * mesh.shape["tensor"]}
    if rows > 1:
        yield {"train.batch_size": shards * accumulate}
    if config.model.base_dtype == "float32":
        yield {"model.base_dtype": "bfloat16", "model.dtype": "bfloat16"}
    if not config.data.cache_features and tower_frozen(pieces):
        yield {"data.cache_features": True}
    if config.eval.batch_size > shards:
        yield {"eval.batch_size": shards}


def _shards(mesh: Mesh) -> int:
    return mesh.shape["data"] * mesh.shape["fsdp"]


def tower_frozen(pieces: Setup) -> bool:
    """Whether no gradient goes through the tower."""
    groups = flatten_dict(pieces.labels, sep="/").items()
    return all(group == FROZEN for path, group in groups if path.startswith(("vision", "ln_")))


def suggest(
    pieces: Setup,
    limit: float,
    held: Callable[[ConfigDict], float],
    needed: Callable[[ConfigDict], float],
    say: Callable[[str], None] = print,
) -> Advice:
    """The first change that is enough, else all changes up to the one that is.

    `held(config)`: bytes that one device holds whatever the program; `needed(config)`: what the
    larger program takes, by its compiler.
    """
    tried = [changes for changes in moves(pieces) if changes]
    together = [_joined(tried[: i + 1]) for i in range(1, len(tried))]
    least = float("inf")
    for changes in [*tried, *together]:
        config = changed(pieces.config, changes)
        try:
            size = held(config)
            if size < ROOM * limit:
                size = needed(config)
        except UserError:  # not with this mesh or batch
            continue
        say(f"  tried {' '.join(flags(changes))}: {size / 2**30:.2f} GiB")
        least = min(least, size)
        if size <= limit:
            return Advice(flags(changes), float(size))
    return Advice((), least)


def _joined(several: list[Changes]) -> Changes:
    out: Changes = {}
    for changes in several:
        if "train.batch_size" in changes:
            out.pop("train.accumulate", None)
            changes = {"train.batch_size": changes["train.batch_size"]}
        out |= changes
    return out


def changed(config: ConfigDict, changes: Changes) -> ConfigDict:
    """A copy with other values."""
    new = config.copy_and_resolve_references()
    with new.unlocked():
        new.update_from_flattened_dict(changes)
    return new


def flags(changes: Changes) -> tuple[str, ...]:
    """As on a command line."""
    return tuple(f"--config.{path}={value}" for path, value in changes.items())
