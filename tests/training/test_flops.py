"""Useful operations by hand, and the figures known for the paper's sizes."""

import functools

import jax
import numpy as np
import pytest
import samples

from pefomed_jax import config as config_lib
from pefomed_jax.models import mllm
from pefomed_jax.models.attention import visible
from pefomed_jax.peft import lora, masks
from pefomed_jax.training import flops

TARGETS = r"^llm/layers/.*attn/(q|v)_proj$"
LORA = (("lora_", "lora"), ("^connector/", "connector"), (".*", "frozen"))


def cost_of(config, rules, targets=TARGETS, rank=4):
    model = mllm.build(config)
    params = jax.eval_shape(functools.partial(mllm.init_params, model), jax.random.key(0))
    if targets:
        add = functools.partial(lora.add, targets=targets, rank=rank, key=jax.random.key(1))
        params = jax.eval_shape(add, params)
    return flops.cost(params, masks.resolve(params, rules), config)


def test_lora_run_by_hand(model_config):
    # D 32, depth 2, kv width 16, MLP 48, V 64; E 16, depth 2, MLP 32, 16 patches of 48 numbers
    ours = cost_of(model_config, LORA)
    layer = 32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 48
    adapters = 4 * (32 + 32) + 4 * (32 + 16)
    assert ours.token == 2 * (4 * layer + 6 * adapters)
    assert ours.target == 4 * 32 * 64
    assert ours.pair == 2 * 12 * 32
    assert ours.visual == 6 * (4 * 16) * 32
    block = 16 * 48 + 16 * 16 + 2 * 16 * 32
    assert ours.image == 17 * 2 * (2 * block + 48 * 16) + 2 * 4 * 17**2 * 16


def test_everything_trained_costs_three_times_the_forward(model_config):
    ours = cost_of(model_config, ((".*", "base"),), targets="")
    frozen = cost_of(model_config, ((".*", "frozen"),), targets="")
    for name in ("token", "target", "pair", "visual", "image"):
        assert getattr(ours, name) == 3 * getattr(frozen, name)


@pytest.mark.parametrize("scan", [True, False])
def test_sizes_of_the_paper(scan):
    config = config_lib.make("vqa", "7b").model
    config.scan = scan
    ours = cost_of(config, LORA, rank=64)
    assert ours.token == pytest.approx(4 * 6.476e9 + 6 * 33_554_432, rel=1e-3)
    assert ours.visual == 6 * 5632 * 4096
    assert ours.image == pytest.approx(2 * 0.985e9 * 1025 + 0.231e12, rel=2e-3)
    assert ours.target == 4 * 32000 * 4096


def test_a_step_counts_what_is_there(model_config):
    rows = samples.rows(model_config, [[(3, 2), (4, 1)], [(2, 1)]])
    batch = samples.batch(model_config, rows, pad=5)
    prefix = 1 + 4 + 1
    assert only("token").step(batch) == 2 * prefix + 5 + 5 + 3
    assert only("target").step(batch) == 2 + 1 + 1
    assert only("pair").step(batch) == visible_pairs(batch)
    assert only("visual").step(batch) == 2 * 4
    assert only("image").step(batch) == 2
    cached = batch.replace(images=None, features=np.zeros((2, 1, 16, 16), np.float32))
    assert only("image").step(cached) == 0


def only(name):
    names = ("token", "target", "pair", "visual", "image")
    return flops.Cost(**{n: float(n == name) for n in names}, slots=4)


def visible_pairs(batch):
    """Pairs that the mask of the model lets through, padding apart."""
    arrays = [jax.numpy.asarray(x) for x in (batch.positions, batch.branch)]
    seen = visible(arrays[0], arrays[0], arrays[1], arrays[1])
    return int((seen & (arrays[1] >= 0)[:, :, None]).sum())


@pytest.mark.parametrize(
    ("kind", "dtype", "peak"),
    [
        ("NVIDIA H200", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("TPU v5 lite", "bfloat16", 197e12),
        ("TPU v5p", "bfloat16", 459e12),
        ("NVIDIA H200", "float32", None),
        ("cpu", "bfloat16", None),
    ],
)
def test_peaks(kind, dtype, peak):
    assert flops.peak(kind, dtype) == peak
