"""Greedy decoding against `generate` of transformers: right-padded rows here, left-padded there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")
pytest.importorskip("peft", reason="the comparisons with PyTorch need peft")

import reference
import samples
import torch
from ml_collections import ConfigDict

from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.models import mllm

NEW = 10
CONFIG = ConfigDict(
    {
        "vision": dict(image_size=16, patch_size=4, width=16, depth=1, heads=2, mlp_dim=32),
        "llm": dict(vocab_size=97, width=32, depth=3, heads=4, kv_heads=2, mlp_dim=48)
        | dict(norm_eps=1e-5, rope_theta=10000.0, tie_embeddings=False),
        "concat": 4,
        "dtype": "float32",
        "base_dtype": "float32",
        "scan": False,
        "remat": "none",
    }
)


def theirs(model, embeddings, counts, eos):
    """Their new tokens [B, NEW] after left-padded prompts; 0 after the end symbol."""
    embeddings = torch.tensor(np.asarray(embeddings))
    left, mask = torch.zeros_like(embeddings), torch.zeros(embeddings.shape[:2], dtype=torch.long)
    for r, n in enumerate(counts):
        left[r, -n:], mask[r, -n:] = embeddings[r, :n], 1
    with torch.no_grad():
        out = model.generate(
            inputs_embeds=left,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=NEW,
            eos_token_id=eos,
            pad_token_id=0,
        )
    return np.pad(out.numpy(), ((0, 0), (0, NEW - out.shape[1])))


@pytest.fixture(scope="module")
def setup():
    model = mllm.build(CONFIG)
    rows = samples.rows(CONFIG, [[(9, 1)], [(1, 1)], [(16, 1)]], seed=3)
    batch = jax.tree.map(jnp.asarray, samples.batch(CONFIG, rows))
    params = samples.params(model, seed=4)
    bound = model.bind({"params": params})
    visual = bound.connect(bound.encode(batch.images))
    embeddings = bound.embed(batch.tokens, batch.image_slot, visual)
    counts = (np.asarray(batch.branch) >= 0).sum(1)
    return model, params, batch, reference.hugging_face(CONFIG, params), embeddings, counts


def test_token_by_token(setup):
    model, params, batch, torch_model, embeddings, counts = setup
    tokens, lengths, _ = make_generate(model, Options(NEW))(params, batch)
    expected = theirs(torch_model, embeddings, counts, None)
    np.testing.assert_array_equal(tokens, expected)
    assert lengths.tolist() == [NEW] * 3
    assert len(np.unique(expected)) > 6


def test_rows_end_where_theirs_do(setup):
    model, params, batch, torch_model, embeddings, counts = setup
    free = theirs(torch_model, embeddings, counts, None)
    eos = int(free[1, 4])
    expected = theirs(torch_model, embeddings, counts, eos)
    tokens, lengths, _ = make_generate(model, Options(NEW, (eos,)))(params, batch)
    for ours, end, other in zip(np.asarray(tokens), lengths.tolist(), expected, strict=True):
        np.testing.assert_array_equal(ours[:end], other[:end])
        assert end == NEW or other[end] == eos
    assert 0 < lengths[1] <= 4
    assert len(set(lengths.tolist())) > 1
