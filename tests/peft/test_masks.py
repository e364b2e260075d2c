"""Masks: rules and their errors, partition and merge, the table and its exact numbers."""

import functools

import engine
import jax
import jax.numpy as jnp
import pytest

from pefomed_jax import config as configs
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm
from pefomed_jax.peft import lora, masks

PARAMS = {
    "vision": {"blocks": {"0": {"fc1": {"kernel": jnp.ones((4, 8)), "bias": jnp.ones(8)}}}},
    "connector": {"proj": {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}},
    "llm": {"layers": {str(i): {"q_proj": {"kernel": jnp.ones((4, 4))}} for i in range(3)}},
}


def test_first_match_wins():
    labels = masks.resolve(PARAMS, (("bias$", "a"), ("^connector", "b"), (".*", "frozen")))
    assert labels["connector"]["proj"] == {"kernel": "b", "bias": "a"}
    assert labels["vision"]["blocks"]["0"]["fc1"] == {"kernel": "frozen", "bias": "a"}
    assert labels["llm"]["layers"]["2"]["q_proj"]["kernel"] == "frozen"


def test_rule_without_match_names_the_nearest_path():
    with pytest.raises(UserError, match=r"'\^conector/' matches no .*'connector/proj/") as e:
        masks.resolve(PARAMS, (("^conector/", "connector"), (".*", "frozen")))
    assert "\n" not in str(e.value)
    with pytest.raises(UserError, match=r"nearest is 'llm/layers/\*/q_proj/kernel'"):
        masks.resolve(PARAMS, ((r"layers/\d+/q_prj/kernel$", "x"), (".*", "frozen")))


def test_only_the_catch_all_may_match_nothing():
    everything = masks.resolve({"a": PARAMS["connector"]}, (("^a", "all"), (".*", "frozen")))
    assert set(jax.tree.leaves(everything)) == {"all"}
    with pytest.raises(UserError, match="matches no parameter"):
        masks.resolve(PARAMS, ((".*", "all"), ("^head", "frozen")))


def test_uncovered_leaf_and_bad_regex():
    with pytest.raises(UserError, match="no rule covers 'connector/proj/kernel'"):
        masks.resolve(PARAMS, (("^vision", "frozen"), ("^llm", "llm")))
    with pytest.raises(UserError, match=r"'\(a' is not a regex"):
        masks.resolve(PARAMS, (("(a", "x"), (".*", "frozen")))


def test_partition_and_merge_are_inverse():
    labels = masks.resolve(PARAMS, (("^connector", "c"), (".*", "frozen")))
    trainable, frozen = masks.partition(PARAMS, labels)
    assert set(trainable) == {"connector"}
    assert set(frozen) == {"vision", "llm"}
    merged = masks.merge(trainable, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)
    same = zip(jax.tree.leaves(merged), jax.tree.leaves(PARAMS), strict=True)
    assert all(a is b for a, b in same)
    with pytest.raises(ValueError, match="both trainable and frozen"):
        masks.merge(trainable, PARAMS)


@functools.cache
def abstract_7b(scan: bool):
    config = configs.make("mrg", "7b")
    config.model.scan = scan
    model = mllm.build(config.model)

    def init(key):
        return lora.add(mllm.init_params(model, key), config.lora.targets, config.lora.rank, key)

    params = jax.eval_shape(init, jax.random.key(0))
    return params, masks.resolve(params, config.trainable)


@pytest.mark.parametrize("scan", [True, False])
def test_7b_counts_are_exact(scan):
    sizes = masks.counts(*abstract_7b(scan))
    assert sizes["lora"] == (33_554_432, 4 * 33_554_432)
    assert sizes["connector"] == (23_072_768, 4 * 23_072_768)
    fine = 39 * 6 * 1408 + (1 + 32**2 + 1) * 1408  # norms, q and v biases; class token, positions
    assert sizes["frozen/vision"] == (986_975_872, 2 * 986_975_872 + 2 * fine)
    assert sizes["frozen/ln_vision"].count == 2_816
    assert sizes["frozen/llm"].count == 6_738_415_616


def test_7b_table_is_printed_by_pattern():
    params, labels = abstract_7b(False)
    lines = masks.table(params, labels).splitlines()
    row = next(line for line in lines if "q_proj/lora_a" in line)
    assert row.split() == [
        *("llm/layers/*/attn/q_proj/lora_a", "float32[4096,64]"),
        *("32", "8,388,608", "32.00"),
    ]
    total = next(line for line in lines if line.startswith("total trainable"))
    assert total.split()[2] == "56,627,200"
    assert any(line.split()[:2] == ["vision", "986,975,872"] for line in lines)
    assert lines[-1] == "0.73 % of the parameters train"
    assert len(lines) < 20


def test_table_of_a_real_tree(model_config):
    e = engine.make(model_config)
    sizes = masks.counts(masks.merge(e.trainable, e.frozen), e.labels)
    held = sum(leaf.size for leaf in jax.tree.leaves(e.trainable))
    assert sizes["lora"].count + sizes["connector"].count == held
