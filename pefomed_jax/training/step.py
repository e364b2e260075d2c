"""One training step: loss over the trainable tree, token-weighted accumulation, update."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from pefomed_jax.peft import masks
from pefomed_jax.training.optimizer import Schedule
from pefomed_jax.training.state import TrainState

Metrics = dict[str, Array]
Step = Callable[[TrainState, Any, Any], tuple[TrainState, Metrics]]
GradFn = Callable[[Any, Any, Any, Array], tuple[Array, Any]]


def weighted_nll(
    logits: Float[Array, "B A V"], targets: Int[Array, "B A"], weights: Float[Array, "B A"]
) -> Float[Array, ""]:
    """sum(w · nll): the negative log-likelihood of the targets, in nats, not yet divided."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.sum(weights.astype(logits.dtype) * (log_z - chosen))


def make_loss_and_grad(model: nn.Module, accumulate: int = 1) -> GradFn:
    """(trainable, frozen, batch, dropout key) -> (loss, gradient of the trainable tree).

    loss = sum(w·nll) / sum(w) over the whole batch. With accumulate > 1 the batch is cut into so
    many micro-batches, each divided by the whole batch's sum(w), which gives the same loss and
    gradient as one batch (dropout masks differ: one key per micro-batch).
    """

    def part(trainable: Any, frozen: Any, batch: Any, key: Array, total: Array) -> Array:
        logits = model.apply(
            {"params": masks.merge(trainable, frozen)},
            batch,
            deterministic=False,
            rngs={"dropout": key},
        )
        nll = weighted_nll(logits, batch.targets, batch.weights)
        return nll / total.astype(nll.dtype)

    def loss_and_grad(trainable: Any, frozen: Any, batch: Any, key: Array) -> tuple[Array, Any]:
        total = jnp.sum(batch.weights)
        total = jnp.where(total > 0, total, 1.0)
        grad = jax.value_and_grad(part)
        if accumulate == 1:
            return grad(trainable, frozen, batch, key, total)

        def body(sums: Any, xs: tuple[Any, Array]) -> tuple[Any, None]:
            micro, index = xs
            new = grad(trainable, frozen, micro, jax.random.fold_in(key, index), total)
            return jax.tree.map(jnp.add, sums, new), None

        micros = _split(batch, accumulate)
        shapes = jax.eval_shape(
            grad, trainable, frozen, jax.tree.map(lambda x: x[0], micros), key, total
        )
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(body, zeros, (micros, jnp.arange(accumulate)))[0]

    return loss_and_grad


def _split(batch: Any, parts: int) -> Any:
    """[B, ...] -> [parts, B/parts, ...]; micro-batch i takes rows i, i + parts, ...

    Strided, because contiguous blocks would lie on few devices of a batch sharded by rows.
    """
    return jax.tree.map(
        lambda x: x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch
    )


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    accumulate: int = 1,
) -> Step:
    """(state, frozen, batch) -> (state, metrics); `model` maps a Batch to logits [B, A, V].

    Metrics: loss (nats a target), grad_norm (of the trainable gradient, before clipping),
    target_tokens, tokens (without padding), lr (before a group's scale), finite (loss, gradient
    and the updated trainable tree are: such a state may be saved).
    """
    loss_and_grad = make_loss_and_grad(model, accumulate)

    def step(state: TrainState, frozen: Any, batch: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        loss, grads = loss_and_grad(state.trainable, frozen, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "target_tokens": jnp.sum(batch.weights > 0),
            "tokens": jnp.sum(batch.branch >= 0),
            "lr": schedule(state.step),
        }
        trainable = optax.apply_updates(state.trainable, updates)
        metrics["finite"] = all_finite((loss, metrics["grad_norm"], trainable))
        new = state.replace(step=state.step + 1, trainable=trainable, opt_state=opt_state)
        return new, metrics

    return step


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether no leaf holds NaN or infinity."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def jit_step(
    step: Step, mesh: Mesh, state_shardings: Any, frozen_shardings: Any, batch_shardings: Any
) -> Any:
    """The step compiled with explicit shardings; the state is donated, metrics are replicated.

    Call it under `jax.set_mesh(mesh)`. Without out_shardings for the whole state, gradients and
    moments come out replicated. `batch_shardings` may be one sharding for all arrays.
    """
    return jax.jit(
        step,
        in_shardings=(state_shardings, frozen_shardings, batch_shardings),
        out_shardings=(state_shardings, NamedSharding(mesh, PartitionSpec())),
        donate_argnums=0,
    )
