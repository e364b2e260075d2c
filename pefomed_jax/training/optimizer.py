"""AdamW inside the trainable tree: learning rates by group, schedules, clipping."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import paths
from pefomed_jax.peft import masks

Schedule = Callable[[Int[Array, ""] | int], Float[Array, ""]]


def make(config: Any, steps: int, labels: masks.Tree) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101) over the trainable leaves of `labels`.

    `config` is `config.optimizer`; a group's learning rate is schedule · lr_scale[group] (1 where
    the group has no entry). Matrices decay, vectors do not. Gradients are clipped to a global norm
    of `config.clip` over the trainable tree (0: not at all).
    """
    groups, _ = masks.partition(labels, labels)
    scales = {
        group: optax.scale(float(config.lr_scale.get(group, 1.0)))
        for group in set(flatten_dict(groups, sep="/").values())
    }
    if not scales:
        raise UserError("config.trainable: every parameter is frozen; give a rule for what trains")
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip > 0 else optax.identity(),
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.partition(scales, groups),
        optax.scale_by_learning_rate(schedule(config, steps)),
    )


def decays(trainable: Any) -> Any:
    """True for leaves with two or more axes; the layer axis of stacked form does not count."""

    def one(key_path: tuple[Any, ...], leaf: Any) -> bool:
        return leaf.ndim - paths.is_stacked(paths.name(key_path)) >= 2

    return jax.tree_util.tree_map_with_path(one, trainable)


def schedule(config: Any, steps: int) -> Schedule:
    """The learning rate at step 0, 1, .. of a run of so many steps; `config` is `config.optimizer`.

    'step': warmup_lr → lr over warmup_steps, then half a cosine to min_lr at the last step.
    'epoch': the form of LAVIS's linear_warmup_cosine_lr: per-step warm-up inside the first epoch,
    and from then on the cosine at epoch / epochs, constant within an epoch. An epoch is
    config.epoch_steps steps.
    """
    if config.schedule == "step":
        return _per_step(config, steps)
    if config.schedule == "epoch":
        return _per_epoch(config, steps)
    raise UserError(f"config.optimizer.schedule is '{config.schedule}'; use 'step' or 'epoch'")


def _warmup(config: Any, step: Array | int) -> Array:
    part = jnp.minimum(step / max(1, config.warmup_steps), 1.0)
    return config.warmup_lr + (config.lr - config.warmup_lr) * part


def _cosine(config: Any, part: Array) -> Array:
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + jnp.cos(jnp.pi * part))


def _per_step(config: Any, steps: int) -> Schedule:
    length = max(1, steps - 1 - config.warmup_steps)

    def lr(step: Int[Array, ""] | int) -> Float[Array, ""]:
        part = jnp.clip((step - config.warmup_steps) / length, 0.0, 1.0)
        return jnp.where(step < config.warmup_steps, _warmup(config, step), _cosine(config, part))

    return lr


def _per_epoch(config: Any, steps: int) -> Schedule:
    if config.warmup_steps > config.epoch_steps:
        raise UserError(
            f"config.optimizer.warmup_steps={config.warmup_steps} is longer than the first epoch; "
            f"use at most epoch_steps={config.epoch_steps}, or schedule='step'"
        )
    epochs = -(-steps // config.epoch_steps)

    def lr(step: Int[Array, ""] | int) -> Float[Array, ""]:
        epoch = step // config.epoch_steps
        warm = (epoch == 0) & (step < config.warmup_steps)
        return jnp.where(warm, _warmup(config, step), _cosine(config, epoch / jnp.asarray(epochs)))

    return lr
