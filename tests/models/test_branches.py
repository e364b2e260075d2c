"""n branches of one row are n rows; what a token may not see does not move it."""

import jax
import numpy as np
import pytest
import samples

from pefomed_jax.models import mllm
from pefomed_jax.peft.lora import LoRA

LENGTHS = [[(5, 3), (2, 1), (4, 6)], [(3, 2)]]
PREFIX = 1 + 4 + 1  # BOS, visual tokens, one token


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-5), ("float64", 1e-9)])
def test_branches_equal_rows(model_config, dtype, tolerance):
    model_config.update(dtype=dtype, base_dtype=dtype)
    rows = samples.rows(model_config, LENGTHS)
    parts = [part for row in rows for part in row.split()]
    together = samples.batch(model_config, rows, height=len(parts))
    columns = together.tokens.shape[1] - samples.batch(model_config, parts, pad=0).tokens.shape[1]
    alone = samples.batch(model_config, parts, pad=columns)
    assert together.weights.sum() == alone.weights.sum() == 12
    with jax.enable_x64(dtype == "float64"):
        model = mllm.build(model_config, LoRA(alpha=2.0))
        tree = samples.params(model, targets=r"_proj$")
        value, grads = samples.value_and_grad(model, tree, together)
        other, other_grads = samples.value_and_grad(model, tree, alone)
        assert value.dtype == dtype
        assert abs(value - other) < tolerance * other
        distance = samples.apart(grads, other_grads)
    assert len(distance) == 2 * 2 * 7 + 2
    assert max(distance.values()) < tolerance, distance


@pytest.fixture(scope="module", params=["plain", "xla"])
def moved(request):
    """(batch, function): where a changed token moves the logits [B, T, V] at all."""
    config = samples.small()
    model = mllm.build(config, LoRA(alpha=2.0), request.param)
    tree = samples.params(model, targets=r"_proj$")
    data = samples.batch(config, samples.rows(config, LENGTHS), pad=3)

    def everywhere(model, data):
        x = model.embed(data.tokens, data.image_slot, model.connect(model.encode(data.images)))
        return model.logits(model.hidden(x, data.positions, data.branch)[0])

    run = jax.jit(lambda data: model.apply({"params": tree}, data, method=everywhere))
    before = run(data)

    def differs(row, column):
        tokens = data.tokens.copy()
        tokens[row, column] = (tokens[row, column] + 11) % config.llm.vocab_size
        return np.abs(np.asarray(run(data.replace(tokens=tokens)) - before)).max(axis=-1) != 0

    return data, differs


def test_a_later_token_moves_only_itself_and_those_after_it(moved):
    data, differs = moved
    column = PREFIX + 4  # within the first branch of row 0, eight tokens long
    expected = np.zeros(data.tokens.shape, bool)
    expected[0, column : PREFIX + 8] = True
    assert np.array_equal(differs(0, column), expected)


def test_padding_moves_no_token(moved):
    data, differs = moved
    assert data.branch[1, -1] == -1
    assert not differs(1, -1)[data.branch >= 0].any()


def test_another_branch_moves_nothing(moved):
    data, differs = moved
    column = PREFIX + 8  # the first token of the second branch
    assert data.branch[0, column] == 2
    assert np.array_equal(differs(0, column), (data.branch == 2) & (np.arange(2) == 0)[:, None])


def test_a_prefix_token_moves_every_branch_of_its_row(moved):
    data, differs = moved
    expected = np.zeros(data.tokens.shape, bool)
    expected[0, PREFIX - 1 :] = data.branch[0, PREFIX - 1 :] >= 0
    assert np.array_equal(differs(0, PREFIX - 1), expected)


def test_the_id_under_an_image_slot_is_never_read(moved):
    data, differs = moved
    assert data.image_slot[0, 2] == 1
    assert not differs(0, 2).any()
