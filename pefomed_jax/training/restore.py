"""Weights in memory as a config names them: the base, and what was trained over it."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.errors import UserError
from pefomed_jax.peft import masks
from pefomed_jax.training import setup, stage
from pefomed_jax.training.fingerprint import fingerprint
from pefomed_jax.training.state import TrainState
from pefomed_jax.validate import missing, validate

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a config's weights are, on its mesh."""

    pieces: setup.Setup
    state: TrainState  # with a fresh optimizer
    frozen: Tree
    fresh: tuple[str, ...] = ()  # paths of trainable leaves that weights.checkpoint has not

    @property
    def params(self) -> Tree:
        """All leaves, adapters beside their kernels."""
        return masks.merge(self.state.trainable, self.frozen)


def restore(config: ConfigDict, mesh: Mesh | None = None) -> Restored:
    """Loads what config.weights names; neither data nor a tokenizer is needed.

    Errors: UserError where a file is absent or does not fit.
    """
    config = base_lib.adopt(config)
    validate(config)
    if need := [line for line in missing(config) if "--config.weights." in line]:
        raise UserError(f"still needed: {'; '.join(need)}")
    pieces = setup.assemble(config, mesh, trains=False)
    with jax.set_mesh(pieces.mesh):
        return begin(pieces, base_lib.load(config, pieces.model, pieces.base))


def begin(pieces: setup.Setup, base: Tree) -> Restored:
    """The state before the first step: fresh, or with what weights.checkpoint hands on."""
    config, frozen, state = pieces.config, pieces.frozen(base), pieces.first_state(base)
    if not config.weights.checkpoint:
        return Restored(pieces, state, frozen)
    abstract = pieces.abstract_state().trainable
    trained, fresh = stage.handed_on(config, state.trainable, abstract, fingerprint(frozen))
    print(f"begins with what {config.weights.checkpoint} trained{_say(fresh)}")
    return Restored(pieces, state.replace(trainable=trained), frozen, tuple(fresh))


def _say(absent: list[str]) -> str:
    """Where the leaves come from that the checkpoint has not."""
    adapters = [path for path in absent if path.endswith(("/lora_a", "/lora_b"))]
    others = [path for path in absent if path not in adapters]
    said = f"; it has not and starts fresh: {', '.join(adapters)}" if adapters else ""
    return said + (
        f"; as in the base, or drawn from the seed: {', '.join(others)}" if others else ""
    )
