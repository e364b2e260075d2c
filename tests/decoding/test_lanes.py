"""Several questions about one image in a row, against the same questions in rows of their own."""

import functools

import jax
import numpy as np
import pytest
import samples

from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.models import mllm, stack
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import rules

CONFIG = samples.small()
EOS, NEW = (7, 11), 6
# questions of different lengths; rows with fewer of them than others have missing lanes
LENGTHS = [[(5, 1), (2, 1), (9, 1)], [(4, 1)], [(3, 1), (6, 1)], [(8, 1), (1, 1), (2, 1)]]
SETTINGS = {
    "greedy": Options(NEW, EOS),
    "beams": Options(NEW, EOS, beams=3, length_penalty=0.7),
    "penalised": Options(NEW, EOS, repetition_penalty=1.4, min_new_tokens=2),
    "penalised beams": Options(NEW, EOS, beams=2, repetition_penalty=1.4),
}


@pytest.fixture(scope="module")
def setup():
    model = mllm.build(CONFIG)
    return model, samples.params(model, seed=5)


def rows():
    return samples.rows(CONFIG, LENGTHS, seed=2)


def answers(model, params, batch, options, lanes):
    return jax.tree.map(np.asarray, make_generate(model, options, lanes)(params, batch))


@pytest.fixture(scope="module")
def alone(setup):
    """alone(options): the answer to each question in a row of its own, in order."""
    single = samples.batch(CONFIG, [one for row in rows() for one in row.split()])
    return functools.cache(lambda options: answers(*setup, single, options, 1))


def present():
    """Which of the lanes hold a question."""
    return np.array([lane < len(row) for row in LENGTHS for lane in range(3)])


def assert_same(packed, expected):
    there = present()
    assert len(there) == len(packed.tokens)
    np.testing.assert_array_equal(packed.tokens[there], expected.tokens)
    np.testing.assert_array_equal(packed.lengths[there], expected.lengths)
    np.testing.assert_allclose(packed.log_probs[there], expected.log_probs, atol=1e-4)
    assert (packed.lengths[~there] == 0).all()
    assert (packed.log_probs[~there] == 0).all()


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_a_row_of_questions_is_as_rows_of_one(setup, alone, options):
    model, params = setup
    expected = alone(options)
    assert len(np.unique(expected.tokens)) > 5
    batch = samples.batch(CONFIG, rows())
    assert_same(answers(model, params, batch, options, 3), expected)


@pytest.mark.parametrize("name", ["greedy", "beams"])
def test_stacked_layers_on_a_mesh(setup, alone, name):
    model, params = setup
    expected = alone(SETTINGS[name])
    mesh = mesh_lib.make({"data": 2, "fsdp": 2, "tensor": 2})
    with jax.set_mesh(mesh):
        tree = stack.stack(params)
        tree = jax.device_put(tree, rules.shardings(tree, mesh))
        batch = samples.batch(CONFIG, rows())
        batch = jax.tree.map(lambda x: jax.device_put(x, rules.rows(mesh)), batch)
        assert_same(answers(model, tree, batch, SETTINGS[name], 3), expected)


def test_the_prompts_are_not_copied(setup):
    """A beam adds rows to the cache of new tokens only, never to that of the prompts."""
    model, params = setup
    batch = samples.batch(CONFIG, rows())
    slots = batch.tokens.shape[1]
    text = make_generate(model, SETTINGS["beams"], 3).lower(params, batch).as_text()
    assert f"tensor<4x2x{slots}x8xf32>" in text
    assert f"tensor<36x2x{slots}x8xf32>" not in text
    assert f"tensor<36x2x{NEW - 1}x8xf32>" in text
