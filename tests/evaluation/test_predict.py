"""Rows of predictions: order, padding rows, prompts, fields, and placing a batch on a mesh."""

import jax
import numpy as np
import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.batch import Batch, Case
from pefomed_jax.data import prompts as prompts_lib
from pefomed_jax.evaluation import predict as lib
from pefomed_jax.parallel import mesh as mesh_lib

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
    return Case(f"c{i}", f"{i}.png", f"what {i}?", f"answer {i}", "test", fields)


@jax.jit
def generate(params, batch):
    """Row i says its own first token, then params; odd rows one token, even rows two; row 4 all."""
    first = batch.tokens[:, :1]
    tokens = jax.numpy.concatenate([first, first * 0 + params, first * 0 + 2], axis=1)
    return tokens, jax.numpy.where(first[:, 0] == 4, NEW, 2 - first[:, 0] % 2)


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
    assert rows[10] == {
        "id": "c10",
        "image": "10.png",
        "prompt": "[INST] <Img><ImageHere></Img> [vqa] Based on the image, respond to this "
        "question with a short answer: what 10? [/INST]",
        "reference": "answer 10",
        "prediction": "w10 w7",
        "answer_type": "OPEN",
        "findings": ["line"],
    }


def test_no_batches_no_rows(prompts):
    assert lib.predict(generate, 7, [], Words(), prompts) == []


def test_a_placed_batch_is_split_by_rows():
    mesh = mesh_lib.make({"data": 2, "fsdp": 2, "tensor": 2})
    placed = lib.place(batch(0), mesh)
    assert {s.data.shape for s in placed.tokens.addressable_shards} == {(ROWS // 4, 4)}
    assert placed.features is None
