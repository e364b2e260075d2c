"""LoRA: initialisation, zero-B, merge, scale, dropout, both forms of the tree."""

import engine
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm, stack
from pefomed_jax.models.layers import Linear
from pefomed_jax.peft import lora, masks


def linear(dropout: float = 0.0):
    module = Linear(5, adapter=lora.LoRA(alpha=6.0, dropout=dropout))
    keys = jax.random.split(jax.random.key(0), 4)
    params = {
        "kernel": jax.random.normal(keys[0], (3, 5)),
        "lora_a": jax.random.normal(keys[1], (3, 2)),
        "lora_b": jax.random.normal(keys[2], (2, 5)),
    }
    return module, params, jax.random.normal(keys[3], (400, 3))


def test_formula_with_alpha_unlike_rank():
    module, p, x = linear()
    want = x @ p["kernel"] + 3.0 * ((x @ p["lora_a"]) @ p["lora_b"])
    np.testing.assert_allclose(module.apply({"params": p}, x), want, rtol=1e-5, atol=1e-5)


def test_dropout_is_on_the_lora_input_only():
    module, p, x = linear(dropout=0.25)
    x = jnp.abs(x) + 1.0
    identity = p | {"kernel": jnp.zeros((3, 5)), "lora_a": jnp.eye(3, 2), "lora_b": jnp.eye(2, 5)}
    rngs = {"dropout": jax.random.key(5)}
    y = module.apply({"params": identity}, x, deterministic=False, rngs=rngs)[:, :2] / 3.0
    kept = np.asarray(y != 0)
    np.testing.assert_allclose(y[kept], (x[:, :2] / 0.75)[kept], rtol=1e-5)
    assert abs(kept.mean() - 0.75) < 0.06
    base = p | {"lora_b": jnp.zeros((2, 5))}
    y = module.apply({"params": base}, x, deterministic=False, rngs=rngs)
    np.testing.assert_array_equal(y, x @ p["kernel"])
    again = module.apply({"params": p}, x, deterministic=True)
    np.testing.assert_array_equal(again, linear(0.0)[0].apply({"params": p}, x))


def test_init_is_kaiming_uniform_and_zero(model_config):
    model_config.llm.width = 256
    model_config.llm.heads = model_config.llm.kv_heads = 8
    params = engine.noisy(engine.fill(engine.abstract(model_config)))
    leaves = flatten_dict(lora.add(params, engine.TARGETS, 64, jax.random.key(1)), sep="/")
    a = leaves["llm/layers/0/attn/q_proj/lora_a"]
    assert a.shape == (256, 64)
    assert a.dtype == jnp.float32
    bound = 256**-0.5  # sqrt(6 / ((1 + 5) * fan_in)), with a = sqrt(5)
    assert 0.999 * bound < jnp.abs(a).max() <= bound
    assert abs(float(a.std()) - bound / 3**0.5) < 0.01 * bound
    assert not leaves["llm/layers/0/attn/v_proj/lora_b"].any()
    assert not np.array_equal(a, leaves["llm/layers/0/attn/v_proj/lora_a"])
    assert not np.array_equal(a, leaves["llm/layers/1/attn/q_proj/lora_a"])
    assert sum("lora_" in path for path in leaves) == 2 * 2 * 2


def test_stacked_form_holds_the_same_values(model_config):
    params = engine.noisy(engine.fill(engine.abstract(model_config)))
    key = jax.random.key(1)
    one = stack.stack(lora.add(params, engine.TARGETS, 4, key))
    other = lora.add(stack.stack(params), engine.TARGETS, 4, key)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    merged = lora.merge(engine.noisy(other), alpha=6.0)
    unstacked = lora.merge(stack.unstack(engine.noisy(other)), alpha=6.0)
    assert engine.worst(merged, stack.stack(unstacked)) < 1e-6


def test_add_errors(model_config):
    params = engine.noisy(engine.fill(engine.abstract(model_config)))
    key = jax.random.key(1)
    with pytest.raises(UserError, match=r"matches no linear layer; .*llm/layers/\*/attn/q_proj"):
        lora.add(params, "query_proj$", 4, key)
    with pytest.raises(UserError, match="'vision/patch_embed' has a kernel of shape"):
        lora.add(params, "patch_embed$", 4, key)
    with pytest.raises(UserError, match=r"config\.lora\.rank is 0"):
        lora.add(params, engine.TARGETS, 0, key)


def test_zero_b_is_the_base_and_merged_is_unmerged(model_config):
    batch = engine.batch(model_config, rows=2)
    e = engine.make(model_config, zero_b=True)
    params = masks.merge(e.trainable, e.frozen)
    base, adapted = jax.jit(mllm.build(model_config).apply), jax.jit(e.model.apply)
    plain = lora.merge(params, alpha=6.0)
    assert not any("lora" in path for path in flatten_dict(plain, sep="/"))
    want = base({"params": plain}, batch)
    np.testing.assert_array_equal(adapted({"params": params}, batch), want)

    params = engine.noisy(params)
    want = adapted({"params": params}, batch)
    merged = base({"params": lora.merge(params, alpha=6.0)}, batch)
    wrong = base({"params": lora.merge(params, alpha=4.0)}, batch)
    assert engine.worst(merged, want) < 2e-5
    assert engine.worst(wrong, want) > 1e-3


def test_merge_keeps_the_kernel_dtype():
    params = {"kernel": jnp.ones((4, 4), jnp.bfloat16)}
    params |= {"lora_a": jnp.full((4, 2), 0.01), "lora_b": jnp.full((2, 4), 1.0)}
    merged = lora.merge({"m": params}, alpha=50.0)["m"]
    assert set(merged) == {"kernel"}
    assert merged["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(merged["kernel"], jnp.full((4, 4), 1.5, jnp.bfloat16))
