"""AdamW inside the trainable tree; schedules against closed formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from pefomed_jax.errors import UserError
from pefomed_jax.training import optimizer


def config(**changes) -> ConfigDict:
    base = dict(lr=1e-2, lr_scale={"lora": 1.0, "connector": 0.25}, min_lr=1e-3, warmup_lr=1e-4)
    base |= dict(warmup_steps=5, schedule="step", epoch_steps=10)
    base |= dict(b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip=0.0)
    return ConfigDict(base | changes)


TREE = {
    "connector": {"proj": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}},
    "llm": {
        "layers": {"attn": {"lora_a": jnp.ones((2, 4, 3))}, "norm": {"scale": jnp.ones((2, 4))}}
    },
}
LABELS = {
    "connector": {"proj": {"kernel": "connector", "bias": "connector"}},
    "llm": {"layers": {"attn": {"lora_a": "lora"}, "norm": {"scale": "lora"}}},
}


def update(grads, **changes):
    opt = optimizer.make(config(**changes), 100, LABELS)
    return opt.update(grads, opt.init(TREE), TREE)[0]


def test_learning_rate_by_group():
    grads = optax.tree.full_like(TREE, 0.5)
    updates = update(grads)  # Adam's first step is the sign of the gradient
    np.testing.assert_allclose(updates["llm"]["layers"]["attn"]["lora_a"], -1e-4, rtol=1e-5)
    np.testing.assert_allclose(updates["connector"]["proj"]["kernel"], -0.25e-4, rtol=1e-5)
    other = update(grads, lr_scale={"lora": 3.0})  # a group without an entry has scale 1
    np.testing.assert_allclose(other["llm"]["layers"]["attn"]["lora_a"], -3e-4, rtol=1e-5)
    np.testing.assert_allclose(other["connector"]["proj"]["kernel"], -1e-4, rtol=1e-5)


def test_only_matrices_decay():
    updates = update(optax.tree.zeros_like(TREE), weight_decay=0.1)
    np.testing.assert_allclose(updates["llm"]["layers"]["attn"]["lora_a"], -1e-5, rtol=1e-5)
    np.testing.assert_allclose(updates["connector"]["proj"]["kernel"], -0.25e-5, rtol=1e-5)
    assert not updates["connector"]["proj"]["bias"].any()
    # two axes, but the first one is the layer's
    assert not updates["llm"]["layers"]["norm"]["scale"].any()


def test_adamw_equals_optax():
    opt = optimizer.make(config(weight_decay=0.1, lr_scale={}), 100, LABELS)
    rate = optimizer.schedule(config(), 100)
    ours = theirs = TREE
    adamw = optax.adamw(rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1, mask=optimizer.decays)
    state, their_state = opt.init(TREE), adamw.init(TREE)
    for i in range(3):
        grads = optax.tree.scale(0.1 * (i + 1), optax.tree.ones_like(TREE))
        updates, state = opt.update(grads, state, ours)
        ours = optax.apply_updates(ours, updates)
        updates, their_state = adamw.update(grads, their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_clip_is_over_the_trainable_norm():
    grads = optax.tree.full_like(TREE, 2.0)
    norm = float(optax.tree.norm(grads))
    # an eps that dwarfs the gradient makes the first update proportional to it
    small = update(grads, clip=norm / 10, eps=1e3)["llm"]["layers"]["attn"]["lora_a"]
    full = update(grads, eps=1e3)["llm"]["layers"]["attn"]["lora_a"]
    np.testing.assert_allclose(small * 10, full, rtol=2e-2)
    under = update(grads, clip=norm * 2, eps=1e3)["llm"]["layers"]["attn"]["lora_a"]
    np.testing.assert_array_equal(under, full)


def test_schedule_per_step():
    c, steps = config(), 41
    lr = optimizer.schedule(c, steps)
    for t in range(5):
        assert float(lr(t)) == pytest.approx(1e-4 + (1e-2 - 1e-4) * t / 5, rel=1e-5)
    for t in range(5, steps):
        want = 1e-3 + 0.5 * (1e-2 - 1e-3) * (1 + math.cos(math.pi * (t - 5) / 35))
        assert float(lr(t)) == pytest.approx(want, rel=1e-5)
    assert float(lr(steps - 1)) == pytest.approx(1e-3, rel=1e-5)
    assert float(lr(steps + 7)) == pytest.approx(1e-3, rel=1e-5)
    assert float(optimizer.schedule(config(warmup_steps=0), 1)(0)) == pytest.approx(1e-2)


@pytest.mark.parametrize("warmup", [10, 4])
def test_schedule_per_epoch(warmup):
    lr = optimizer.schedule(config(schedule="epoch", warmup_steps=warmup), 50)
    for t in range(50):
        epoch, inner = divmod(t, 10)
        want = 1e-3 + 0.5 * (1e-2 - 1e-3) * (1 + math.cos(math.pi * epoch / 5))
        if epoch == 0:
            want = min(1e-2, 1e-4 + (1e-2 - 1e-4) * inner / warmup)
        assert float(lr(t)) == pytest.approx(want, rel=1e-5), t


def test_errors():
    with pytest.raises(UserError, match="use at most epoch_steps=10"):
        optimizer.schedule(config(schedule="epoch", warmup_steps=11), 50)
    with pytest.raises(UserError, match="schedule is 'cosine'; use 'step' or 'epoch'"):
        optimizer.schedule(config(schedule="cosine"), 50)
    with pytest.raises(UserError, match="every parameter is frozen"):
        optimizer.make(config(), 50, {"a": "frozen"})
