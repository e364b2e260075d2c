"""Sharding rules on the trees of the real models, canonical and stacked."""

import functools
import math

import engine
import jax
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec as P

from pefomed_jax import config as configs
from pefomed_jax.models import mllm
from pefomed_jax.parallel import mesh, rules
from pefomed_jax.peft import lora, masks
from pefomed_jax.training import optimizer, state


@functools.cache
def abstract(scan: bool):
    config = configs.make("mrg", "7b")
    config.model.scan = scan
    model = mllm.build(config.model)

    def init(key):
        return lora.add(mllm.init_params(model, key), config.lora.targets, 64, key)

    return config, jax.eval_shape(init, jax.random.key(0))


def specs(scan: bool, **sizes: int) -> dict[str, P]:
    placed = rules.shardings(abstract(scan)[1], mesh.make(sizes))
    return {path: s.spec for path, s in flatten_dict(placed, sep="/").items()}


def test_rules_in_both_forms():
    canonical = specs(False, data=2, fsdp=2, tensor=2)
    stacked = specs(True, data=2, fsdp=2, tensor=2)
    assert canonical["llm/layers/7/attn/q_proj/kernel"] == P("fsdp", "tensor")
    assert canonical["llm/layers/7/mlp/down_proj/kernel"] == P("tensor", "fsdp")
    assert canonical["llm/layers/7/attn/q_proj/lora_a"] == P("fsdp", None)
    assert canonical["llm/layers/7/attn/q_proj/lora_b"] == P(None, ("tensor", "fsdp"))
    assert canonical["llm/embed/embedding"] == P(None, ("tensor", "fsdp"))
    assert canonical["connector/proj/kernel"] == P("fsdp", "tensor")
    assert canonical["vision/blocks/3/attn/qkv/kernel"] == P(("fsdp", "tensor"), None)
    assert not any(canonical["vision/pos_embed"])
    for path, spec in stacked.items():
        first = canonical[path.replace("layers/", "layers/0/").replace("blocks/", "blocks/0/")]
        assert spec == (P(None, *first) if "layers/" in path or "blocks/" in path else first), path


def test_a_dimension_that_does_not_divide_is_replicated():
    placed = mesh.make(dict(data=1, fsdp=8, tensor=1))
    path = "llm/layers/0/attn/q_proj/kernel"
    assert rules.spec(path, (12, 16), 4, placed) == P(None, "tensor")
    tall = mesh.make(dict(data=1, fsdp=2, tensor=4))
    # 6 rows take fsdp, not fsdp and tensor
    assert rules.spec("vision/blocks/0/attn/qkv/kernel", (6, 9), 4, tall) == P("fsdp", None)


def test_a_leaf_without_a_rule_takes_its_largest_dimension():
    placed = mesh.make(dict(data=2, fsdp=4, tensor=1))
    assert rules.spec("new/weight", (512, 1024), 4, placed) == P(None, "fsdp")
    assert rules.spec("new/weight", (1023, 512), 4, placed) == P(None, "fsdp")
    assert not any(rules.spec("new/weight", (512, 16), 4, placed))


def test_nothing_large_stays_replicated():
    config, params = abstract(True)
    placed = rules.shardings(params, mesh.make(dict(data=1, fsdp=4, tensor=2)))
    assert rules.replicated_large(params, placed) == []
    per_device = sum(
        leaf.dtype.itemsize * math.prod(s.shard_shape(leaf.shape))
        for leaf, s in zip(jax.tree.leaves(params), jax.tree.leaves(placed), strict=True)
    )
    sizes = masks.counts(params, masks.resolve(params, config.trainable))
    whole_bytes = sum(size.bytes for size in sizes.values())
    # all but norms, biases and positions, and half of LoRA's A over the axis `tensor`
    assert per_device < 1.015 * whole_bytes / 8
    whole = rules.shardings(params, mesh.make(dict(data=8, fsdp=1, tensor=1)))
    large = rules.replicated_large(params, whole, min_bytes=2**30)
    assert ("llm/layers/mlp/up_proj/kernel", 32 * 4096 * 11008 * 2) in large


def test_moments_are_sharded_like_their_parameters():
    config, params = abstract(True)
    labels = masks.resolve(params, config.trainable)
    trainable, _ = masks.partition(params, labels)
    opt = optimizer.make(config.optimizer, 100, labels)
    made = state.abstract(
        trainable, opt, jax.random.key(0), mesh.make(dict(data=1, fsdp=4, tensor=2))
    )
    moments = made.opt_state[1].mu["llm"]["layers"]["attn"]["q_proj"]
    assert moments["lora_a"].sharding.spec == P(None, "fsdp", None)
    assert moments["lora_b"].sharding.spec == P(None, None, ("tensor", "fsdp"))
    assert made.key.sharding.is_fully_replicated
    assert made.step.sharding.is_fully_replicated


@pytest.mark.parametrize("rows", [8, 12])
def test_batches_are_split_by_rows(model_config, rows):
    placed = rules.rows(mesh.make(dict(data=2, fsdp=2, tensor=2)))
    batch = jax.device_put(engine.batch(model_config, rows=rows), placed)
    assert batch.images.addressable_shards[0].data.shape[0] == rows // 4
