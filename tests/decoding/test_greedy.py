"""Greedy decoding against recomputing every step without a cache; ends, padding, forms, meshes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import samples
from ml_collections import ConfigDict

from pefomed_jax.decoding import merge
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.decoding.prompt import prefill
from pefomed_jax.decoding.text import to_text
from pefomed_jax.models import mllm, stack
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import rules
from pefomed_jax.peft import lora
from pefomed_jax.peft.lora import LoRA

ALPHA, NEW = 5.0, 8
TARGETS = r"^llm/layers/.*attn/(q|v)_proj$"
LENGTHS = [[(9, 1)], [(2, 1)], [(5, 1)], [(12, 1)]]  # prompt tokens after the prefix, ragged


EOS = 60
CONFIG = ConfigDict(
    {
        "vision": dict(image_size=16, patch_size=4, width=16, depth=1, heads=2, mlp_dim=32),
        "llm": dict(vocab_size=64, width=32, depth=2, heads=4, kv_heads=2, mlp_dim=48)
        | dict(norm_eps=1e-5, rope_theta=10000.0, tie_embeddings=False),
        "concat": 4,
        "dtype": "float32",
        "base_dtype": "float32",
        "scan": False,
        "remat": "none",
    }
)


@pytest.fixture(scope="module")
def setup():
    model = mllm.build(CONFIG, LoRA(ALPHA))
    batch = samples.batch(CONFIG, samples.rows(CONFIG, LENGTHS))
    return model, samples.params(model, targets=TARGETS), batch


@pytest.fixture(scope="module")
def free(setup):
    """What is generated when nothing ends a row."""
    return run(*setup)[0]


@functools.cache
def program(model, eos, new):
    return make_generate(model, Options(new, () if eos < 0 else (eos,)))


def run(model, params, batch, eos=-1, new=NEW):
    return jax.tree.map(np.asarray, program(model, eos, new)(params, batch)[:2])


def recomputed(model, params, batch, new=NEW):
    """The same tokens by a full forward pass over each unpadded row for every new token."""
    apply = jax.jit(lambda b: model.apply({"params": params}, b))
    out = []
    for r in range(len(batch.tokens)):
        n = int((np.asarray(batch.branch[r]) >= 0).sum())
        one = jax.tree.map(lambda x, r=r: x[r : r + 1], batch)
        row = {k: np.zeros((1, n + new), np.int32) for k in ("tokens", "positions")}
        row |= {k: np.full((1, n + new), -1, np.int32) for k in ("branch", "image_slot")}
        for name, array in row.items():
            array[:, :n] = getattr(one, name)[:, :n]
        for t in range(n, n + new):
            where = np.full((1, 1), t - 1, np.int32)
            full = one.replace(**row, target_pos=where, targets=where, weights=np.ones((1, 1)))
            row["tokens"][0, t] = int(jnp.argmax(apply(full)[0, 0]))
            row["positions"][0, t] = row["positions"][0, t - 1] + 1
            row["branch"][0, t] = row["branch"][0, t - 1]
        out.append(row["tokens"][0, n:])
    return np.stack(out)


def test_equals_recomputing_without_a_cache(setup, free):
    np.testing.assert_array_equal(free, recomputed(*setup))
    assert len(np.unique(free)) > 4  # a model that says one word would prove nothing


def test_rows_end_at_their_own_step(setup, free):
    model, params, batch = setup
    eos = int(free[0, 3])
    tokens, lengths = run(model, params, batch, eos)
    for row, end, long in zip(free, lengths, tokens, strict=True):
        hits = np.flatnonzero(row == eos)
        assert end == (hits[0] if len(hits) else NEW)
        np.testing.assert_array_equal(long[:end], row[:end])
        assert (long[end:] == eos).all()
    assert len(set(lengths.tolist())) > 1
    branch = np.array(batch.branch)
    branch[1] = -1  # a row of padding
    tokens, short = run(model, params, batch.replace(branch=branch), eos)
    assert short.tolist() == [lengths[0], 0, *lengths[2:]]
    assert (tokens[1] == eos).all()


def test_neighbours_and_padding_do_not_matter(setup, free):
    model, params, batch = setup
    wider = {
        name: np.pad(getattr(batch, name), ((0, 0), (0, 7)), constant_values=fill)
        for name, fill in {"tokens": 3, "positions": 2, "branch": -1, "image_slot": -1}.items()
    }
    alone = jax.tree.map(lambda x: x[2:3], batch.replace(**wider))
    np.testing.assert_array_equal(run(model, params, alone)[0][0], free[2])


def test_features_in_place_of_images(setup, free):
    model, params, batch = setup
    features = model.apply({"params": params}, jnp.asarray(batch.images), method="encode")
    cached = batch.replace(images=None, features=features)
    np.testing.assert_array_equal(run(model, params, cached)[0], free)


def test_prepared_and_stacked_parameters_say_the_same(setup, free):
    model, params, batch = setup
    stacked = stack.stack(params)
    ready = merge.prepare(stacked, ALPHA, jnp.float32)
    assert set(ready["llm"]["layers"]["0"]["attn"]) == {"qkv_proj", "o_proj"}
    for given in (stacked, ready):
        np.testing.assert_array_equal(run(model, given, batch)[0], free)


@pytest.mark.parametrize("base_dtype", ["bfloat16", "float32"])
def test_bf16_decodes_from_the_training_tree(setup, base_dtype):
    """A trained LoRA is small beside its kernel; no copy of the base is made to answer with it."""
    config = CONFIG.copy_and_resolve_references()
    config.dtype, config.base_dtype, config.scan = "bfloat16", base_dtype, True
    model, batch = mllm.build(config, LoRA(ALPHA)), setup[2]
    params = samples.params(model, targets=TARGETS)
    for name in ("q_proj", "v_proj"):
        params["llm"]["layers"]["attn"][name]["lora_b"] *= 0.02
    ready = merge.prepare(params, ALPHA, model.compute.dtype)
    assert all(map(lambda a, b: a is b, *map(jax.tree.leaves, (ready, params))))
    last = (np.asarray(batch.branch) >= 0).sum(axis=1, keepdims=True) - 1
    apply, asked = jax.jit(model.apply), batch.replace(target_pos=last)
    trained = apply({"params": params}, asked)[:, 0]
    base = apply({"params": lora.merge(params, alpha=0.0)}, asked)[:, 0]
    assert (trained != base).any(axis=1).all()
    logits, cache, *_ = jax.jit(lambda p, b: prefill(model, p, b))(ready, batch)
    assert isinstance(cache.k, jax.Array)
    np.testing.assert_array_equal(logits[:, 0], trained)


def test_merging_into_bf16_would_lose_the_update():
    """Why it is not done: 1/1000 of a weight is gone, and what is left is mostly rounding."""
    kernel = jax.random.normal(jax.random.key(0), (64, 64)).astype(jnp.bfloat16)
    a = jax.random.normal(jax.random.key(1), (64, 4)) / 8
    b = jax.random.normal(jax.random.key(2), (4, 64)) * 2e-4
    tree = {"kernel": kernel, "lora_a": a, "lora_b": b}
    merged = lora.merge({"m": tree}, alpha=4.0)["m"]["kernel"]
    assert (merged == kernel).mean() > 0.9
    assert not merge.merges(tree, jnp.float32)
    assert not merge.merges({"kernel": kernel.astype(jnp.float32)}, jnp.bfloat16)
    assert merge.merges({"kernel": kernel.astype(jnp.float32)}, jnp.float32)


def test_bf16_keeps_a_bf16_cache(setup):
    model, params, batch = setup
    coarse = model.clone(compute=dataclasses.replace(model.compute, dtype=jnp.bfloat16))
    lowered = program(coarse, EOS, 3).lower(params, batch).as_text()
    for slots in ("21x8", "8x21", "2x8", "8x2"):  # B, K, then 21 slots of the prompt, or 2 after it
        assert f"tensor<4x2x{slots}xbf16>" in lowered
        assert f"tensor<4x2x{slots}xf32>" not in lowered


def test_a_mesh_changes_nothing(setup, free):
    model, params, batch = setup
    mesh = mesh_lib.make({"data": 2, "fsdp": 2, "tensor": 2})
    with jax.set_mesh(mesh):
        ready = merge.prepare(on(mesh, params), ALPHA, jnp.float32)
        assert "q_proj" in ready["llm"]["layers"]["0"]["attn"]
        placed = jax.tree.map(lambda x: jax.device_put(x, rules.rows(mesh)), batch)
        generate = make_generate(model, Options(NEW))
        tokens, lengths, _ = generate(ready, placed)
        stacked = generate(on(mesh, stack.stack(params)), placed)[0]
    assert tokens.is_fully_replicated
    assert lengths.is_fully_replicated
    np.testing.assert_array_equal(tokens, free)
    np.testing.assert_array_equal(stacked, free)


def on(mesh, params):
    return jax.device_put(params, rules.shardings(params, mesh))


class Letters:
    """Token i is the i-th word; 0 is special."""

    words = ("<unk>", "No", " effusion.", " [INST] why [/INST]", " </s> more", "<s>", "\n")

    def decode(self, tokens, skip_special_tokens):
        assert skip_special_tokens
        assert all(type(t) is int for t in tokens)
        return "".join(self.words[t] for t in tokens if t)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([], ""),
        ([0, 1, 2, 6], "No effusion."),
        ([1, 3, 1, 2], "No effusion."),
        ([5, 1, 2, 4, 1], "No effusion."),
    ],
)
def test_text_of_tokens(tokens, text):
    assert to_text(Letters(), np.asarray(tokens, np.int32)) == text
