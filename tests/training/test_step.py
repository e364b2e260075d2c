"""The step: what moves and what does not, accumulation, metrics, what the compiler made of it."""

import functools

import engine
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from pefomed_jax import config as configs
from pefomed_jax.models import mllm
from pefomed_jax.parallel import mesh, rules
from pefomed_jax.peft import masks
from pefomed_jax.training import optimizer, state, step


def optimizer_config(**changes) -> ConfigDict:
    c = configs.make("vqa", "tiny").optimizer
    c.update(warmup_steps=2, **changes)
    return c


@functools.cache
def loss_and_grad(model: mllm.MLLM, accumulate: int = 1):
    """Compiled once for all tests with an equal model."""
    return jax.jit(step.make_loss_and_grad(model, accumulate))


@pytest.fixture(autouse=True)
def _shallow(model_config):
    model_config.vision.depth = 1


def run_setup(e: engine.Engine, accumulate: int = 1, **changes):
    """(compiled step, state, shardings) on one device."""
    c = optimizer_config(**changes)
    opt = optimizer.make(c, 20, e.labels)
    made = mesh.make(dict(data=1, fsdp=1, tensor=1), devices=jax.devices()[:1])
    first = state.create(lambda key: e.trainable, opt, jax.random.key(7), made)
    placed = rules.shardings(first, made)
    one_step = step.make_step(e.model, opt, optimizer.schedule(c, 20), accumulate)
    jitted = step.jit_step(
        one_step, made, placed, rules.shardings(e.frozen, made), rules.rows(made)
    )
    return jitted, first, made


def test_ten_steps_move_every_trainable_leaf_and_no_frozen_one(model_config):
    e = engine.make(model_config, dropout=0.1, zero_b=True)
    before = jax.tree.map(np.array, (e.trainable, e.frozen))
    jitted, current, made = run_setup(e, weight_decay=0.05, clip=1.0)
    batch = engine.batch(model_config)
    losses = []
    with jax.set_mesh(made):
        for _ in range(10):
            current, metrics = jitted(current, e.frozen, batch)
            losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert int(current.step) == 10
    jax.tree.map(np.testing.assert_array_equal, e.frozen, before[1])
    moved = jax.tree.map(
        lambda a, b: bool((np.asarray(a) != b).all()), current.trainable, before[0]
    )
    assert all(jax.tree.leaves(moved)), moved
    assert jitted._cache_size() == 1


def test_metrics_are_what_they_say(model_config):
    e = engine.make(model_config)
    batch = engine.batch(model_config)
    jitted, current, made = run_setup(e)
    logits = jax.jit(e.model.apply)({"params": masks.merge(e.trainable, e.frozen)}, batch)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
    want = (np.float64(batch.weights) * np.float64(nll)).sum() / np.float64(batch.weights).sum()
    with jax.set_mesh(made):
        _, metrics = jitted(current, e.frozen, batch)
    assert float(metrics["loss"]) == pytest.approx(want, rel=1e-6)
    assert int(metrics["target_tokens"]) == int((batch.weights > 0).sum())
    assert int(metrics["tokens"]) == int((batch.branch >= 0).sum())
    assert float(metrics["lr"]) == pytest.approx(1e-4)
    _, grads = loss_and_grad(e.model)(e.trainable, e.frozen, batch, jax.random.key(0))
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-5)


def test_dropout_follows_the_step_and_the_key(model_config):
    e = engine.make(model_config, dropout=0.5)
    batch = engine.batch(model_config, rows=2)
    c = optimizer_config()
    opt = optimizer.make(c, 20, e.labels)
    one_step = jax.jit(step.make_step(e.model, opt, optimizer.schedule(c, 20)))

    def loss(at: int, seed: int) -> float:
        first = state.build(e.trainable, opt, jax.random.key(seed))
        return float(one_step(first.replace(step=jnp.int32(at)), e.frozen, batch)[1]["loss"])

    assert loss(3, 0) == loss(3, 0)
    assert len({loss(3, 0), loss(4, 0), loss(3, 1)}) == 3


def test_four_micro_batches_are_one_batch(model_config):
    e = engine.make(model_config)
    batch = engine.batch(model_config)
    sums = np.asarray(batch.weights).reshape(2, 4, -1).sum((0, 2))
    assert len(set(sums)) == 4  # ragged: a mean of means would differ
    key = jax.random.key(0)

    one, four = (
        loss_and_grad(e.model, parts)(e.trainable, e.frozen, batch, key) for parts in (1, 4)
    )
    assert float(four[0]) == pytest.approx(float(one[0]), rel=1e-6)
    assert engine.worst(four[1], one[1]) < 1e-5


def test_rows_without_targets_give_zero_and_no_nan(model_config):
    e = engine.make(model_config)
    batch = engine.batch(model_config)
    batch = batch.replace(weights=jnp.zeros_like(batch.weights))
    loss, grads = loss_and_grad(e.model)(e.trainable, e.frozen, batch, jax.random.key(0))
    assert float(loss) == 0
    assert float(optax.tree.norm(grads)) == 0


def wide_config(model_config: ConfigDict) -> ConfigDict:
    """Wide enough that products, not norms, decide about the figures."""
    model_config.vision.update(image_size=32, width=64, mlp_dim=256, depth=1)
    model_config.llm.update(width=128, kv_heads=4, mlp_dim=344, vocab_size=256)
    return model_config


def compiled_step(e: engine.Engine, config: ConfigDict):
    c = optimizer_config(clip=1.0)
    opt = optimizer.make(c, 20, e.labels)
    fn = step.make_step(e.model, opt, optimizer.schedule(c, 20))
    first = state.build(e.trainable, opt, jax.random.key(0))
    batch = engine.batch(config, rows=4, length=64, answers=8)
    return jax.jit(fn, donate_argnums=0).lower(first, e.frozen, batch).compile()


def test_compiled_step_does_nothing_for_frozen_leaves(model_config):
    config = wide_config(model_config)
    e = engine.make(config)
    everything = masks.resolve(masks.merge(e.trainable, e.frozen), ((".*", "all"),))
    full = engine.Engine(e.model, everything, masks.merge(e.trainable, e.frozen), {})
    ours, theirs = compiled_step(e, config), compiled_step(full, config)

    tokens, patches, answers = 4 * 64, 4 * 65, 4 * 8
    layers = sum(leaf.size for leaf in jax.tree.leaves(e.frozen["llm"]["layers"]))
    tower = sum(leaf.size for leaf in jax.tree.leaves(e.frozen["vision"]["blocks"]))
    connector = e.trainable["connector"]["proj"]["kernel"].size
    adapters = sum(leaf.size for leaf in jax.tree.leaves(e.trainable["llm"]))
    head = 4 * e.frozen["llm"]["head"]["kernel"].size * answers
    last = e.frozen["llm"]["layers"][str(config.llm.depth - 1)]
    late = sum(leaf.size for leaf in jax.tree.leaves((last["mlp"], last["attn"]["o_proj"])))
    # forward and input gradients of the decoder, forward only of the tower, no frozen dW anywhere;
    # the last layer answers for targets alone
    products = 4 * layers * tokens - 4 * late * (tokens - answers)
    products += 2 * tower * patches + 6 * adapters * tokens + head
    products += 4 * connector * patches // 4
    flops = ours.cost_analysis()["flops"]
    assert products < flops < 1.25 * products
    assert flops < 0.72 * theirs.cost_analysis()["flops"]

    temporary = ours.memory_analysis().temp_size_in_bytes
    print(f"{flops / products:.3f} of the products, {temporary} bytes of temporaries")
    assert temporary < 0.75 * theirs.memory_analysis().temp_size_in_bytes
    assert temporary < 8_000_000
