"""Rows of predictions: order, padding rows, prompts, fields, and placing a batch on a mesh."""

import jax
import numpy as np
import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.batch import Batch, Case
from pefomed_jax.data import prompts as prompts_lib
from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import predict as lib
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import share

ROWS, NEW = 8, 3


class Words:
    def decode(self, tokens, skip_special_tokens):
        assert skip_special_tokens
        return " ".join(f"w{t}" for t in tokens)


def batch(first):
    ints = np.zeros((ROWS, 4), np.int32)
    targets = np.zeros((ROWS, 1), np.int32)
    tokens = ints + np.arange(first, first + ROWS, dtype=np.int32)[:, None]
    images = np.zeros((ROWS, 1, 2, 2, 3), np.uint8)
    weights = np.zeros((ROWS, 1), np.float32)
    return Batch(tokens, ints, ints, ints, targets, targets, weights, images).validate()


def case(i):
    fields = {"answer_type": "OPEN", "id": "not this", "findings": ["line"]}
    return Case(f"c{i}", (f"{i}.png",), f"what {i}?", f"answer {i}", "test", fields)


@jax.jit
def generate(params, batch):
    """Row i says its own first token, then params; odd rows one token, even rows two; row 4 all.

    The sum of log-probabilities is minus the first token.
    """
    first = batch.tokens[:, :1]
    tokens = jax.numpy.concatenate([first, first * 0 + params, first * 0 + 2], axis=1)
    lengths = jax.numpy.where(first[:, 0] == 4, NEW, 2 - first[:, 0] % 2)
    return tokens, lengths, -first[:, 0].astype(float)


@pytest.fixture
def prompts():
    return prompts_lib.make(config_lib.make("vqa"))


@pytest.mark.parametrize("on_mesh", [False, True])
def test_one_row_per_case_in_order(prompts, on_mesh):
    cases = [case(i) for i in range(ROWS + 3)]
    batches = [(batch(0), cases[:ROWS]), (batch(ROWS), cases[ROWS:])]
    done = []
    mesh = mesh_lib.make({"data": 4, "fsdp": 2, "tensor": 1}) if on_mesh else None
    rows = lib.predict(generate, 7, batches, Words(), prompts, mesh, done.append)
    assert done == [ROWS, ROWS + 3]
    assert [row["id"] for row in rows] == [c.id for c in cases]
    assert rows[9]["prediction"] == "w9"
    assert [row["id"] for row in rows if "cut" in row] == ["c4"]
    assert rows[4]["cut"] is True
    # with the end where there is one: row 4 has three tokens, row 9 one and an end
    assert [rows[i]["n_tokens"] for i in (4, 9, 10)] == [3, 1, 2]
    assert [rows[i]["log_prob"] for i in (4, 9, 10)] == [-1.333333, -4.5, -3.333333]
    assert rows[10] == {
        "id": "c10",
        "image": "10.png",
        "prompt": "[INST] <Img><ImageHere></Img> [vqa] Based on the image, respond to this "
        "question with a short answer: what 10? [/INST]",
        "reference": "answer 10",
        "prediction": "w10 w7",
        "n_tokens": 2,
        "log_prob": -3.333333,
        "split": "test",
        "answer_type": "OPEN",
        "findings": ["line"],
    }


def test_lanes_without_a_question_give_no_row(prompts):
    """Two lanes a row: the answers are the lanes of the first row, of the second, …"""

    def two(params, batch):
        many = jax.tree.map(lambda x: jax.numpy.repeat(x, 2, axis=0), batch)
        many = many.replace(tokens=many.tokens * 10 + jax.numpy.arange(2 * ROWS)[:, None] % 2)
        return generate(params, many)

    places = [case(0), case(1), case(2), None, case(3), case(4)]
    (rows,) = lib.answer(two, 7, [(batch(0), places)], Words(), prompts, lanes=2)
    assert [row["id"] for row in rows] == ["c0", "c1", "c2", "c3", "c4"]
    assert [row["prediction"].split()[0] for row in rows] == ["w0", "w1", "w10", "w20", "w21"]


def test_a_case_draws_with_a_key_of_its_own(prompts):
    def drawn(params, batch, keys):
        tokens = jax.vmap(lambda key: jax.random.randint(key, (NEW,), 3, 10**6))(keys)
        return tokens, jax.numpy.full(len(tokens), 2), jax.numpy.zeros(len(tokens))

    def said(places, seed):
        key = jax.random.key(seed)
        (rows,) = lib.answer(drawn, 7, [(batch(0), places)], Words(), prompts, None, key)
        return {row["id"]: row["prediction"] for row in rows}

    cases = [case(i) for i in range(ROWS)]
    first = said(cases, 0)
    assert len(set(first.values())) == ROWS
    assert said(cases[::-1][:3], 0) == {k: first[k] for k in ("c7", "c6", "c5")}
    assert not set(said(cases, 1).values()) & set(first.values())


def test_what_is_unknown_is_left_out(prompts):
    bare = Case("a", ("a.png",), "why?", "", "")
    row = lib.to_row(bare, prompts, Words(), np.array([5, 2, 2]), 1, -1.0)
    assert list(row) == ["id", "image", "prompt", "prediction", "n_tokens", "log_prob"]


def test_scores_that_are_no_numbers_are_no_answer(prompts):
    with pytest.raises(UserError, match="case c1: the model's scores are no numbers"):
        lib.to_row(case(1), prompts, Words(), np.array([5, 2, 2]), 1, np.nan)


def test_no_batches_no_rows(prompts):
    assert lib.predict(generate, 7, [], Words(), prompts) == []


def test_a_placed_batch_is_split_by_rows():
    mesh = mesh_lib.make({"data": 2, "fsdp": 2, "tensor": 2})
    placed = share.place(batch(0), mesh)
    assert {s.data.shape for s in placed.tokens.addressable_shards} == {(ROWS // 4, 4)}
    assert placed.features is None
