import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import samples

from pefomed_jax.models import fuse, mllm, rotary, stack
from pefomed_jax.models.cache import Cache


@pytest.fixture
def decoder(model_config):
    """(model, parameters, embeddings [2, 9, D], positions, branch): two rows of 9 and 6 tokens."""
    model_config.llm.tie_embeddings = True
    model = mllm.build(model_config)
    tree = samples.params(model)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 32)), jnp.float32)
    positions = jnp.asarray([[*range(9)], [*range(6), 0, 0, 0]], jnp.int32)
    branch = jnp.asarray([[0] * 4 + [1] * 5, [0] * 4 + [1] * 2 + [-1] * 3], jnp.int32)
    return model, tree, x, positions, branch


def run(model, tree, *arguments):
    return jax.jit(lambda p, *a: model.apply({"params": p}, *a, method="hidden"))(tree, *arguments)


def test_rotary_by_hand():
    cos, sin = rotary.rotary(jnp.asarray([[0, 3]], jnp.int32), 4, 100.0, jnp.bfloat16)
    assert cos.dtype == jnp.float32
    assert np.allclose(cos[0, :, 0], np.cos([[0, 0], [3, 0.3]]), atol=1e-6)
    x = jnp.asarray([1.0, 0.0, 0.0, 2.0]).reshape(1, 1, 1, 4)
    turned = rotary.rotate(x, cos[:, 1:], sin[:, 1:])[0, 0, 0]
    expected = [np.cos(3), -2 * np.sin(0.3), np.sin(3), 2 * np.cos(0.3)]
    assert np.allclose(turned, expected, atol=1e-6)


def test_only_relative_positions_matter(decoder):
    model, tree, x, positions, branch = decoder
    here, _ = run(model, tree, x, positions, branch)
    there, _ = run(model, tree, x, positions + 50, branch)
    assert np.abs(np.asarray(here - there)).max() < 1e-4


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_cache_equals_recomputation(decoder, stacked, split):
    model, tree, x, positions, branch = decoder
    tree = stack.stack(tree) if stacked else tree
    whole, none = run(model, tree, x, positions, branch)
    assert none is None
    # rows of 4 and 3 tokens, padded to 4, then one token after the other behind them
    prompt = branch[:, :4].at[1, 3].set(-1)
    cache = mllm.empty_cache(model, 2, 4 if split else 10, stacked)
    first, cache = run(model, tree, x[:, :4], positions[:, :4], prompt, cache)
    read_only = jax.tree.leaves(cache)
    if split:
        cache = mllm.empty_cache(model, 2, 6, stacked).replace(past=cache)
    steps, at = [], jnp.asarray([4, 3])
    for t in range(3):
        token = jnp.take_along_axis(x, (at + t)[:, None, None], axis=1)
        where = jnp.take_along_axis(branch, (at + t)[:, None], axis=1)
        out, cache = run(model, tree, token, (at + t)[:, None], where, cache)
        steps.append(out)
    segments = cache.segments
    assert [int(c.index) for c in segments] == ([4, 3] if split else [7])
    places = np.concatenate([c.branch[1] for c in segments])
    assert np.array_equal(places, [0, 0, 0, -1, 0, 1, 1, -1, -1, -1])
    if split:
        for a, b in zip(jax.tree.leaves(cache.past), read_only, strict=True):
            assert np.array_equal(a, b)
    whole, steps = np.asarray(whole), np.asarray(jnp.concatenate(steps, axis=1))
    assert np.abs(first[0] - whole[0, :4]).max() < 1e-5
    assert np.abs(first[1, :3] - whole[1, :3]).max() < 1e-5
    assert np.abs(steps[0] - whole[0, 4:7]).max() < 1e-5
    assert np.abs(steps[1] - whole[1, 3:6]).max() < 1e-5


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("stacked", [False, True])
def test_selected_tokens_are_those_of_all(decoder, stacked, remat):
    model, tree, x, positions, branch = decoder
    model = model.clone(compute=dataclasses.replace(model.compute, remat=remat))
    tree = stack.stack(tree) if stacked else tree
    select = jnp.asarray([[8, 2, 4], [5, 0, 0]], jnp.int32)
    whole, _ = run(model, tree, x, positions, branch)
    cache = mllm.empty_cache(model, 2, 9, stacked)
    _, filled = run(model, tree, x, positions, branch, cache)
    for given in (None, cache):
        some, left = jax.jit(
            lambda p, given: model.apply(
                {"params": p}, x, positions, branch, given, True, select, method="hidden"
            )
        )(tree, given)
        wanted = np.take_along_axis(np.asarray(whole), np.asarray(select)[:, :, None], axis=1)
        assert np.abs(some - wanted).max() < 1e-5
        if given is not None:
            for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(filled), strict=True):
                assert np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).max() < 1e-5


def test_cache_is_a_pytree_of_its_dtype():
    cache = Cache.empty(3, 2, 5, 1, 4, jnp.bfloat16)
    assert len(cache.k) == 3
    assert cache.k[0].shape == (2, 1, 5, 4)
    assert cache.v[0].shape == (2, 1, 4, 5)
    assert cache.v[2].dtype == jnp.bfloat16
    assert (np.asarray(cache.branch) == -1).all()
    assert Cache.empty(3, 2, 5, 1, 4, jnp.bfloat16, stacked=True).k.shape == (3, 2, 1, 5, 4)
    assert len(jax.tree.leaves(cache)) == 3 * 2 + 3


@pytest.mark.parametrize("stacked", [False, True])
def test_fused_projections_change_nothing(decoder, stacked):
    model, tree, x, positions, branch = decoder
    tree = stack.stack(tree) if stacked else tree
    fused = fuse.fuse(tree)
    layer = fused["llm"]["layers"] if stacked else fused["llm"]["layers"]["1"]
    assert set(layer["attn"]) == {"qkv_proj", "o_proj"}
    assert layer["mlp"]["gate_up_proj"]["kernel"].shape[-1] == 96
    plain, _ = run(model, tree, x, positions, branch)
    joined, _ = run(model, fused, x, positions, branch)
    assert np.abs(np.asarray(plain - joined)).max() < 1e-5


def test_fusing_refuses_unmerged_adapters(model_config):
    tree = samples.params(mllm.build(model_config), targets="v_proj$")
    with pytest.raises(ValueError, match="v_proj has lora_a, lora_b: merge"):
        fuse.fuse(tree)


def test_tied_head_is_the_embedding(decoder):
    model, tree, *_ = decoder
    assert "head" not in tree["llm"]
    hidden = jnp.asarray(np.random.default_rng(1).normal(size=(2, 32)), jnp.float32)
    logits = model.apply({"params": tree}, hidden, method="logits")
    assert np.allclose(logits, hidden @ tree["llm"]["embed"]["embedding"].T, atol=1e-5)
