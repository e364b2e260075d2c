"""Trains every parameter of a module with the project's own step; picks up after a kill."""

import pathlib
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.peft import masks
from pefomed_jax.training import optimizer as optimizer_lib
from pefomed_jax.training import state as state_lib
from pefomed_jax.training import step as step_lib
from pefomed_jax.training.checkpoint import Checkpoints
from pefomed_jax.training.fingerprint import fingerprint

EVERY = 100  # steps between a progress line with scores and a checkpoint


def optimizer_config(lr: float, warmup_steps: int) -> ConfigDict:
    """AdamW with warm-up and a cosine per step, clipped to 1, no decay."""
    fields = dict(lr=lr, min_lr=lr / 100, warmup_lr=lr / 20, warmup_steps=warmup_steps)
    fields |= dict(b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip=1.0, schedule="step")
    return ConfigDict(fields | {"epoch_steps": 1, "lr_scale": {}})


def fit(
    model: nn.Module,
    params: masks.Tree,
    rules: tuple[tuple[str, str], ...],
    batch_of: Callable[[int], Batch],
    *,
    steps: int,
    lr: float,
    folder: pathlib.Path,
    seed: int,
    score: Callable[[masks.Tree], str],
) -> masks.Tree:
    """The parameters after so many steps.

    `rules` as config.trainable; `batch_of(k)` is global batch k, a pure function; `score(params)`
    is a few words for the progress line. A checkpoint is kept in `folder` every EVERY steps.
    """
    mesh = mesh_lib.make({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    labels = masks.resolve(params, rules)
    trainable, frozen = masks.partition(params, labels)
    config = optimizer_config(lr, max(1, min(50, steps // 10)))
    optimizer = optimizer_lib.make(config, steps, labels)
    key = jax.random.key(seed)
    step = step_lib.make_step(model, optimizer, optimizer_lib.schedule(config, steps))
    run = jax.jit(step, donate_argnums=0)
    with jax.set_mesh(mesh):
        # a copy, because the state is donated
        state = jax.jit(lambda tree: state_lib.build(tree, optimizer, key))(trainable)
        checkpoints = Checkpoints(folder, trainable, fingerprint(frozen))
        if checkpoints.latest:
            state, _ = checkpoints.restore(state_lib.abstract(trainable, optimizer, key, mesh))
        start = time.monotonic()
        for k in range(int(state.step), steps):
            state, metrics = run(state, frozen, batch_of(k))
            if (k + 1) % EVERY == 0 or k + 1 == steps:
                checkpoints.save(k + 1, state)
                words = score(masks.merge(state.trainable, frozen))
                seconds = time.monotonic() - start
                loss = float(metrics["loss"])
                print(f"{folder.name} {k + 1}/{steps} loss {loss:.4f} {words} {seconds:.0f} s")
        checkpoints.close()
    return jax.device_get(masks.merge(state.trainable, frozen))


def numbers(tree: Any) -> int:
    """How many parameters a tree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
