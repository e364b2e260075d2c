import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from pefomed_jax.models import layers


def test_linear_hands_input_and_output_to_the_adapter():
    seen = []

    def adapter(module, x, y, deterministic):
        seen.append((module.has_variable("params", "lora_a"), x.shape, deterministic))
        return y + 1

    layer = layers.Linear(3, use_bias=True, adapter=adapter)
    params = {
        "kernel": jnp.ones((2, 3)),
        "bias": jnp.arange(3.0),
        "lora_a": jnp.zeros((2, 1)),  # a leaf from outside is no error
    }
    y = layer.apply({"params": params}, jnp.ones((4, 2)), False)
    assert np.array_equal(y, np.broadcast_to([3.0, 4.0, 5.0], (4, 3)))
    assert seen == [(True, (4, 2), False)]


def test_linear_dtypes():
    layer = layers.Linear(3, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, out_dtype=jnp.float32)
    x = jnp.ones((4, 2))
    params = layer.init(jax.random.key(0), x)["params"]
    assert params["kernel"].dtype == jnp.bfloat16
    assert layer.apply({"params": params}, x).dtype == jnp.float32


def test_rms_norm_is_computed_in_float32():
    x = jnp.asarray(np.random.default_rng(0).normal(200, 1, (3, 64)), jnp.bfloat16)
    scale = np.linspace(0.5, 2, 64)
    y = layers.RMSNorm(1e-5).apply({"params": {"scale": jnp.asarray(scale, jnp.float32)}}, x)
    wide = np.asarray(x, np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * scale
    assert y.dtype == jnp.bfloat16
    assert np.abs(np.asarray(y, np.float64) / expected - 1).max() < 2**-8


def test_layer_norm_keeps_its_digits_far_from_zero():
    x = np.random.default_rng(0).normal(300, 1, (3, 64)).astype(np.float32)
    params = {"scale": jnp.full(64, 2.0), "bias": jnp.full(64, 0.5)}
    y = layers.LayerNorm(1e-6).apply({"params": params}, jnp.asarray(x))
    wide = x.astype(np.float64)
    expected = 2 * (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1)[:, None] + 1e-6)
    assert np.abs(np.asarray(y) - expected - 0.5).max() < 1e-4


def test_shard_rows_spreads_rows_and_only_under_a_mesh_with_the_axes():
    x = jnp.zeros((8, 6))
    assert layers.shard_rows(x) is x
    auto = (AxisType.Auto,)
    with jax.set_mesh(jax.make_mesh((8,), ("other",), axis_types=auto)):
        assert layers.shard_rows(x) is x
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=auto * 3)
    with jax.set_mesh(mesh):
        y = jax.jit(layers.shard_rows)(x)
    expected = jax.sharding.NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    assert y.sharding.is_equivalent_to(expected, y.ndim)
