"""Sampling: what may be drawn, how often, with which key; limits; streams; wrong settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import samples

from pefomed_jax.decoding.choose import adjust, choose, narrow
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options, make
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm

CONFIG = samples.small()
NARROWINGS = [
    {"temperature": 0.6},
    {"top_k": 5},
    {"top_p": 0.7},
    {"temperature": 1.7, "top_k": 20, "top_p": 0.9},
    {"top_k": 1000, "top_p": 0.001},
]


@pytest.fixture(scope="module")
def setup():
    model = mllm.build(CONFIG)
    batch = samples.batch(CONFIG, samples.rows(CONFIG, [[(5, 1)], [(2, 1)], [(7, 1)]], seed=1))
    return model, samples.params(model, seed=6), batch


def scores(rows=4, vocabulary=40):
    return np.random.default_rng(0).normal(0, 2, (rows, vocabulary)).astype(np.float32)


@pytest.mark.parametrize("settings", NARROWINGS, ids=str)
def test_narrowing_is_that_of_transformers(settings):
    torch = pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")
    from transformers.generation import logits_process as theirs

    expected = torch.tensor(scores())
    for name, kind in {
        "temperature": theirs.TemperatureLogitsWarper,
        "top_k": theirs.TopKLogitsWarper,
        "top_p": theirs.TopPLogitsWarper,
    }.items():
        if name in settings:
            expected = kind(settings[name])(None, expected)
    ours = narrow(jnp.asarray(scores()), Options(4, sample=True, **settings))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)
    assert np.isinf(ours).any() == (set(settings) != {"temperature"})


def test_tokens_are_drawn_as_often_as_they_are_likely():
    options = Options(4, sample=True, temperature=1.5, top_k=6)
    row = jnp.asarray(scores(1))
    keys = jax.random.split(jax.random.key(3), 4000)
    drawn = np.asarray(jax.vmap(lambda key: choose(row, options, key)[0])(keys))
    share = np.bincount(drawn, minlength=40) / len(keys)
    likely = np.asarray(jax.nn.softmax(narrow(row, options)))[0]
    assert (share[likely == 0] == 0).all()
    np.testing.assert_allclose(share, likely, atol=4 * np.sqrt(0.25 / len(keys)))


def test_a_penalty_and_a_ban():
    options = Options(9, (3, 4), min_new_tokens=2, repetition_penalty=2.0)
    row, seen = (
        jnp.array([[1.0, -1.0, 3.0, 5.0, 6.0]]),
        jnp.array([[True, True, False, False, True]]),
    )
    early = adjust(row, seen, jnp.int32(1), options)
    np.testing.assert_array_equal(early, [[0.5, -2.0, 3.0, -np.inf, -np.inf]])
    np.testing.assert_array_equal(
        adjust(row, seen, jnp.int32(2), options), [[0.5, -2.0, 3.0, 5.0, 3.0]]
    )


def test_a_key_gives_one_answer_and_another_key_another(setup):
    model, params, batch = setup
    generate = make_generate(model, Options(8, sample=True, temperature=1.3))
    first, again, other = (generate(params, batch, jax.random.key(k)).tokens for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any(axis=1).all()
    cold = make_generate(model, Options(8, sample=True, top_k=1))
    greedy = make_generate(model, Options(8))
    np.testing.assert_array_equal(
        cold(params, batch, jax.random.key(0)).tokens, greedy(params, batch).tokens
    )


def test_a_stream_is_the_answer(setup):
    model, params, batch = setup
    free = np.asarray(make_generate(model, Options(8))(params, batch).tokens)
    options, heard = Options(8, (int(free[1, 3]),)), []
    stream = lambda tokens, ended: heard.append((np.array(tokens), np.array(ended)))  # noqa: E731
    answers = make_generate(model, options, stream=stream)(params, batch)
    jax.block_until_ready(answers)
    jax.effects_barrier()
    tokens = np.stack([token for token, _ in heard], axis=1)
    np.testing.assert_array_equal(tokens, np.asarray(answers.tokens)[:, : tokens.shape[1]])
    ended = np.stack([end for _, end in heard], axis=1)
    for row, length in zip(ended, np.asarray(answers.lengths), strict=True):
        assert (~row).sum() == length


def test_sampling_needs_a_key(setup):
    model, params, batch = setup
    with pytest.raises(ValueError, match="sampling needs a key"):
        make_generate(model, Options(2, sample=True))(params, batch)
    with pytest.raises(UserError, match="no answer to stream"):
        make_generate(model, Options(2, beams=2), stream=print)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0 is too small: at least 1"),
        ({"beams": 0}, "beams=0 is too small"),
        ({"sample": True, "temperature": 0.0}, "temperature=0.0 must be a number above 0"),
        ({"sample": True, "top_p": 1.5}, "top_p=1.5 must be above 0 and at most 1"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty=nan"),
        ({"beams": 2, "length_penalty": float("inf")}, "length_penalty=inf"),
        ({"beams": 2, "early_stopping": "soon"}, "early_stopping='soon'"),
        ({"min_new_tokens": 9}, "min_new_tokens=9 is above max_new_tokens=8"),
        ({"beams": 2, "sample": True}, "not both"),
        ({"top_k": 3}, "need sample=True"),
        ({"length_penalty": 2.0}, "need beams above 1"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        Options(**({"max_new_tokens": 8} | settings))


def test_further_tokens_that_end_an_answer():
    assert make(8, (2, 7), {"eos": [9, 7]}).eos == (2, 7, 9)
    with pytest.raises(UserError, match="eos='2' is no list of token ids"):
        make(8, (2,), {"eos": "2"})
    with pytest.raises(UserError, match="is no list of token ids"):
        make(8, (2,), {"eos": [-1]})
