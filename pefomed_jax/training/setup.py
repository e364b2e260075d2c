"""From a config to the pieces of a run, on abstract arrays: nothing is read or allocated here."""

import dataclasses
import functools
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pefomed_jax.errors import UserError
from pefomed_jax.models import attention, mllm
from pefomed_jax.models.layers import wide
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import rules
from pefomed_jax.peft import lora, masks
from pefomed_jax.training import optimizer as optimizer_lib
from pefomed_jax.training import state as state_lib
from pefomed_jax.training import step as step_lib
from pefomed_jax.training.state import TrainState

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a run is made of; `base` and `params` are ShapeDtypeStructs with shardings."""

    config: ConfigDict
    mesh: Mesh
    model: mllm.MLLM
    labels: Tree  # the group of every leaf
    base: Tree  # without adapters: what `base.load` fills
    params: Tree  # with adapters
    optimizer: Any
    schedule: optimizer_lib.Schedule

    @property
    def table(self) -> str:
        """What trains and what is frozen, with counts."""
        return masks.table(self.params, self.labels)

    @property
    def key(self) -> jax.Array:
        """The random key of the run."""
        return jax.random.key(self.config.seed)

    def abstract_state(self) -> TrainState:
        """The state as shapes with shardings."""
        trainable, _ = masks.partition(self.params, self.labels)
        # the key as a shape: devices that are only described hold no values
        key = jax.eval_shape(lambda: self.key)
        return state_lib.abstract(trainable, self.optimizer, key, self.mesh)

    def abstract_frozen(self) -> Tree:
        """The frozen tree as shapes with shardings."""
        return masks.partition(self.params, self.labels)[1]

    def first_state(self, base: Tree) -> TrainState:
        """The state before the first step: the base's trained leaves and fresh adapters."""

        def init(key: jax.Array, base: Tree) -> Tree:
            params = _like(lora_added(self.config, base, key), self.labels)
            return masks.partition(params, self.labels)[0]

        return state_lib.create(init, self.optimizer, self.key, self.mesh, (base,))

    def frozen(self, base: Tree) -> Tree:
        """The frozen part of a loaded base; adapters that do not train are not there at all."""
        return masks.partition(base, _like(self.labels, self.base))[1]

    def machine(self) -> str:
        """What the run computes on and in which precision, for the user."""
        config, devices = self.config, self.mesh.devices.flatten()
        return (
            f"{len(devices)} × {devices[0].device_kind}, mesh {dict(self.mesh.shape)}, attention "
            f"{self.model.compute.implementation}, {config.model.dtype} over "
            f"{config.model.base_dtype}"
        )

    def jit_step(self) -> Any:
        """The training step, the same one every time; call it under `jax.set_mesh(mesh)`."""
        return self._jit_step

    @functools.cached_property
    def _jit_step(self) -> Any:
        step = step_lib.make_step(
            self.model, self.optimizer, self.schedule, self.config.train.accumulate
        )
        state, frozen = shardings(self.abstract_state()), shardings(self.abstract_frozen())
        return step_lib.jit_step(step, self.mesh, state, frozen, rules.rows(self.mesh))


def assemble(config: ConfigDict, mesh: Mesh | None = None, trains: bool = True) -> Setup:
    """The pieces of the run that `config` describes, on its mesh over all devices (or on `mesh`).

    Without `trains` nothing is asked of its batch sizes.

    Raises UserError for a mesh, a batch size, a LoRA target or a trainable rule that does not fit.
    """
    mesh = mesh_lib.make(config.mesh) if mesh is None else mesh
    if trains:
        check_batches(config, mesh)
    model = mllm.build(
        config.model,
        adapter=lora.LoRA(config.lora.alpha, config.lora.dropout),
        implementation=attention.choose(
            mesh.devices.flat[0].platform, config.model.attention, config.model.dtype
        ),
        causal=config.data.branches == 1,
    )
    key = jax.random.key(config.seed)
    base = jax.eval_shape(functools.partial(mllm.init_params, model), key)
    params = jax.eval_shape(functools.partial(lora_added, config), base, key)
    labels = masks.resolve(params, config.trainable)
    labels = _like(labels, _trained_adapters(params, labels))
    base = _fine(base, _like(labels, base))
    params = _fine(_like(params, labels), labels)
    return Setup(
        config=config,
        mesh=mesh,
        model=model,
        labels=labels,
        base=state_lib.placed(base, mesh),
        params=state_lib.placed(params, mesh),
        optimizer=optimizer_lib.make(config.optimizer, config.train.steps, labels),
        schedule=optimizer_lib.schedule(config.optimizer, config.train.steps),
    )


def check_batches(config: ConfigDict, mesh: Mesh) -> None:
    """Raises UserError when devices would not get whole rows; names the nearest that fit."""
    mesh_lib.check_batch(config.train.batch_size, config.train.accumulate, mesh)
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if config.eval.batch_size % shards:
        fits = -(-config.eval.batch_size // shards) * shards
        raise UserError(
            f"eval.batch_size={config.eval.batch_size} is not divisible by data*fsdp = {shards}; "
            f"the next that is: {fits}"
        )


def lora_added(config: ConfigDict, base: Tree, key: jax.Array) -> Tree:
    """The base with the adapters that config.lora names."""
    return lora.add(base, config.lora.targets, config.lora.rank, key)


def shardings(abstract: Any) -> Any:
    """The shardings of a tree of ShapeDtypeStructs."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _trained_adapters(params: Tree, labels: Tree) -> Tree:
    """The tree without adapters that the mask freezes: at zero they would change nothing."""
    groups = flatten_dict(labels, sep="/")
    kept = {
        path: leaf
        for path, leaf in flatten_dict(params, sep="/").items()
        if groups[path] != masks.FROZEN or not path.endswith(("/lora_a", "/lora_b"))
    }
    return unflatten_dict(kept, sep="/")


def _fine(params: Tree, labels: Tree) -> Tree:
    """The shapes with all that trains in at least float32: bfloat16 loses most small updates."""

    def one(leaf: jax.ShapeDtypeStruct, group: str) -> jax.ShapeDtypeStruct:
        trained = group != masks.FROZEN
        return jax.ShapeDtypeStruct(leaf.shape, wide(leaf.dtype) if trained else leaf.dtype)

    return jax.tree.map(one, params, labels)


def _like(tree: Tree, other: Tree) -> Tree:
    """The leaves of `tree` whose paths `other` has too."""
    wanted = flatten_dict(other, sep="/").keys()
    leaves = flatten_dict(tree, sep="/").items()
    return unflatten_dict({path: leaf for path, leaf in leaves if path in wanted}, sep="/")
